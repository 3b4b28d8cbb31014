"""HumanEval, MBPP and KodCode: rows, prompts, programs out of completions, rewards, and the real
references."""

import gzip
import json
import warnings
from pathlib import Path

import pytest

from dllm_rl_lite.sandbox import best_level, run_programs
from dllm_rl_lite.tasks import rewards_of
from dllm_rl_lite.tasks.published import code_rewards as code
from dllm_rl_lite.tasks.published import programs
from dllm_rl_lite.tasks.published.code_rewards import (
    extract_code,
    indented,
    program,
    published_code,
)
from dllm_rl_lite.tasks.published.programs import humaneval_task, kodcode_task, mbpp_task

DATA = Path(__file__).parents[2].parent / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the real benchmark files are not here")

HUMANEVAL = {
    "task_id": "x/0",
    "prompt": "import math\n\n\ndef half(s):\n    return s[:len(s) // 2]\n\n\n"
    'def third(n):\n    """A third."""\n',
    "canonical_solution": "    if n:\n        return n / 3\n    return 0\n",
    "entry_point": "third",
    "test": "def check(candidate):\n    assert candidate(3) == 1\n"
    "    assert half('ab') == 'a' and math.pi > candidate(6)\n",
}
MBPP = {
    "task_id": 11,
    "text": "Write a function to add.",
    "code": "import math\r\ndef add(a, b):\r\n  return a + b",
    "test_list": ["assert add(1, 2) == 3", "assert math.isclose(add(0.1, 0.2), 0.3)"],
    "test_setup_code": "",
}
KODCODE = {
    "question": " Reverse a text. ",
    "solution": (
        "class Empty(ValueError): pass\ndef back(s):\n    if not s: raise Empty('no')\n"
        "    return s[::-1]"
    ),
    "test": (
        "import pytest\nfrom solution import back, Empty\ndef test_a():\n"
        "    assert back('ab') == 'ba'\n"
        "def test_b():\n    with pytest.raises(Empty): back('')\n"
        "class TestMore:\n    def test_c(self): assert back('x') == 'x'\n"
    ),
    "test_info": [{"function_declaration": "def back(s):", "function_name": "back"}],
}


def written(tmp_path, name, *rows):
    path = tmp_path / f"{name}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.fixture
def tasks(tmp_path):
    """The three, on one row each (MBPP: one a split; KodCode: twenty-five)."""
    return {
        "humaneval": humaneval_task(written(tmp_path, "h", HUMANEVAL)),
        "mbpp": mbpp_task(
            written(
                tmp_path, "m", *({**MBPP, "task_id": i} for i in (11, 510, 511, 600, 601, 974, 10))
            )
        ),
        "kodcode": kodcode_task(
            written(tmp_path, "k", *({**KODCODE, "question": f"Reverse {i}."} for i in range(60)))
        ),
    }


def wrap(text):
    return f"<think>\nhm\n</think>\n<answer>\n```python\n{text}\n```\n</answer>"


def test_splits(tasks):
    """MBPP's by number, KodCode's validation held back, HumanEval has no other than test."""
    assert [len(tasks["mbpp"].sample(split=s)) for s in ("test", "validation", "train")] == [
        2,
        2,
        2,
    ]
    train, validation = (tasks["kodcode"].sample(split=s) for s in ("train", "validation"))
    assert len(train) + len(validation) == 60 and validation
    assert not {e.prompt for e in train} & {e.prompt for e in validation}
    assert len(tasks["humaneval"].sample()) == 1
    for name, split in (("humaneval", "train"), ("kodcode", "test"), ("mbpp", "tests")):
        with pytest.raises(ValueError, match=split):
            tasks[name].sample(split=split)
    with pytest.raises(ValueError, match="shots must be 0"):
        mbpp_task("x.jsonl", shots=3)


def test_prompts_and_protocol(tasks):
    """The published texts around the problem, and what the protocol card says of them."""
    prompts = {
        name: task.sample(split="train" if name == "kodcode" else "test")[0].prompt
        for name, task in tasks.items()
    }
    for prompt in prompts.values():
        assert (
            prompt.startswith("You are a helpful programming assistant.")
            and "<think>\n...\n</think>" in prompt
        )
    assert HUMANEVAL["prompt"] + "\n\nYour code should be wrapped" in prompts["humaneval"]
    assert prompts["mbpp"].endswith(
        "Python. \n\n\nWrite a function to add.\n\nNote that the function declaration is "
        "def add(a, b):. Your code should be wrapped in a markdown code block."
    )
    assert (
        "Python. \n\nReverse " in prompts["kodcode"]
        and "declaration is def back(s):." in prompts["kodcode"]
    )
    card = tasks["mbpp"].card_entry()
    assert (
        card["prefill"] == "<think>" and card["shots"] == 0 and "system message" in card["prompt"]
    )


def test_columns_are_json(tasks):
    for name, task in tasks.items():
        example = task.sample(split="train" if name == "kodcode" else "test")[0]
        assert json.loads(json.dumps(example.columns)) == example.columns


@pytest.mark.parametrize(
    "make, row, changed, message",
    [
        (
            humaneval_task,
            HUMANEVAL,
            {"entry_point": "other"},
            "does not define the entry point 'other'",
        ),
        (humaneval_task, HUMANEVAL, {"test": None}, "column 'test' should be str"),
        (humaneval_task, HUMANEVAL, {"canonical_solution": "return ("}, "no Python"),
        (mbpp_task, MBPP, {"test_list": []}, "assert statements"),
        (mbpp_task, MBPP, {"test_list": [1]}, "assert statements"),
        (mbpp_task, MBPP, {"code": "def ("}, "no Python"),
        (mbpp_task, MBPP, {"task_id": "x"}, "should be int"),
        (kodcode_task, KODCODE, {"test": "x = 1"}, "no test function"),
        (kodcode_task, KODCODE, {"solution": "1 +"}, "no Python"),
        (kodcode_task, KODCODE, {"question": 3}, "column 'question' should be str"),
    ],
)
def test_malformed_rows_are_named(make, row, changed, message, tmp_path):
    """The second of two rows is wrong: file and line are said."""
    path = written(tmp_path, "rows", row, {**row, **changed})
    with pytest.raises(ValueError, match=message) as caught:
        make(path).sample(split="train" if make is kodcode_task else "test")
    assert f"{path} line 2" in str(caught.value)


@pytest.mark.parametrize(
    "text, found, published",
    [
        ("```python\na = 1\n```", "a = 1", "a = 1"),
        ("x ```python\na\n``` y ```py\nb\n``` z", "b", "b"),
        ("```\n  a\n```", "  a", "a"),
        ("```python\nout\n```<answer>```python\nin\n```</answer>", "in", "in"),
        ("```python\nout\n```<answer>in</answer>", "in", ""),
        ("<answer>a</answer><answer>\nb = 1\n</answer>", "b = 1", ""),
        ("```python\na\nb", "a\nb", ""),
        ("```Python3\na\n```", "a", "a"),
        ("```java\na\n```", "```java\na\n```", "a"),
        ("no fence", "no fence", ""),
        ("", "", ""),
        ("<answer></answer>", "", ""),
    ],
)
def test_code_is_found(text, found, published):
    """Ours forgives a missing fence; the releases' pattern does not, and takes any language."""
    assert extract_code(text) == found and published_code(text) == published


@pytest.mark.parametrize(
    "body",
    [
        "    return 1",
        "return 1",
        "x = 1\nreturn x",
        "for x in y:\n    return x",
        "for x in y:\n        return x\n    return 2",
        "if x:\n        return 1\n    else:\n        return 2",
        "x = 1\n    return x",
        "if x:  # why\n        if y:\n            z\n    return",
        "\treturn 1",
        "x = [\n        1,\n    ]\n    return x",
    ],
)
def test_bodies_are_indented(body):
    """Whatever became of the indentation, the function compiles."""
    compile("def f(x, y, z):\n" + indented(body), "<f>", "exec")


def test_a_function_or_its_body(tasks):
    """HumanEval's answers may repeat the function or complete it; the problem's imports and helpers
    are there either way."""
    task = tasks["humaneval"]
    example = task.sample()[0]
    whole = "def third(n):\n    return n / 3"
    body = "if n:\n        return len(half('abcdef')) * n / 9\n    return 0"
    texts = [
        wrap(whole),
        wrap(body),
        body,
        HUMANEVAL["canonical_solution"],
        wrap("def third(n): return 2"),
        wrap("return 3"),
        "",
        wrap(example.answer),
        "def third(n):\n    return math.fabs(n) / 3",
    ]
    assert task.solved([example] * len(texts), texts) == [1, 1, 1, 1, 0, 0, 0, 1, 1]
    assert program(whole, example.columns).names == ("third",)


def test_a_program_cannot_bring_its_own_math(tasks):
    """Modules that the reference imports are the tests' own."""
    task = tasks["mbpp"]
    example = task.sample()[0]
    forged = "class math:\n    isclose = staticmethod(lambda *a: True)\ndef add(a, b): return 3"
    got = run_programs([program(forged, example.columns), program(example.answer, example.columns)])
    assert [o.passed for o in got] == [(True, False), (True, True)]


def test_rewards(tasks):
    """AG-GRPO's numbers, on right, half right, wrong and missing programs in several
    formats."""
    examples = tasks["mbpp"].sample(1) * 7
    right, half, bad = (
        "def add(a, b): return a + b",
        "def add(a, b): return int(a + b)",
        "def add(a, b: return",
    )
    fenced = f"```python\n{right}\n```"
    texts = [
        wrap(right),
        wrap(half),
        wrap(bad),
        "so " + wrap(right),
        fenced,
        "<think>\n</think> <answer>no</answer>",
        "",
    ]

    def of(reward):
        return [round(v, 6) for v in rewards_of(reward, examples, texts)]

    assert of(code.code_correct) == [1, 0, 0, 1, 1, 0, 0] == of(code.published_correct)
    assert of(code.ag_grpo_code_reward) == [2, 1, 1, -1, -1, 0, -1]
    assert of(code.published_ag_grpo_code_reward) == [2, 1, 1, 1, 1, 1, 0]
    assert tasks["mbpp"].rewards_of(examples, texts) == of(code.ag_grpo_code_reward)


def test_published_quirks_change_reward_and_rule(tmp_path):
    """Code without a fence counts, except as the releases read it."""
    path = written(tmp_path, "m", MBPP)
    plain, quirks = mbpp_task(path), mbpp_task(path, published_quirks=True)
    text = "<answer>def add(a, b): return a + b</answer>"
    assert plain.solved(plain.sample(), [text]) == [1.0] and quirks.solved(
        quirks.sample(), [text]
    ) == [0.0]
    assert quirks.card_entry()["published_quirks"] and quirks.rewards_of(
        quirks.sample(), ["x"]
    ) == [0.0]
    assert plain.rewards_of(plain.sample(), ["x"]) == [-1.0]


def test_kodcode_references_pass(tasks):
    """raises with the program's own exception, approx, a test class."""
    task = tasks["kodcode"]
    examples = task.sample(3, "train")
    assert examples[0].columns["tests"] == [
        "test_a()",
        "test_b()",
        "case = TestMore()\ncase.test_c()",
    ]
    assert task.solved(examples, [wrap(e.answer) for e in examples]) == [1.0] * 3
    assert task.solved(
        examples[:1], [wrap("class Empty(ValueError): pass\ndef back(s): return s[::-1]")]
    ) == [0.0]


WHOLE = "def third(n):\n    return n / 3"


@pytest.mark.parametrize(
    "text",
    [
        f"```python\n{WHOLE}\n```\nUsage:\n```python\nprint(third(3))\n```",
        f"```python\n{WHOLE}\n```\nOutput:\n```\n1.0\n```",
        f"```python\n{WHOLE}\n```\n```python\nassert third(3) == 1\n```",
        f"```text\nn -> n / 3\n```\nso\n```python\n{WHOLE}\n```",
        f"```java\nint third;\n```\n```\n{WHOLE}\n```\n```bash\npython x.py\n```",
        f"```python\nfrom __future__ import annotations\n{WHOLE}\n```",
        "```python\nthird = lambda n: n / 3\n```",
        "```python\nfrom typing import Callable\nthird: Callable = lambda n: n / 3\n```",
        "```python\nimport functools\nthird = functools.partial(lambda k, n: n / k, 3)\n```",
        "```python\nclass third:\n    def __new__(cls, n): return n / 3\n```",
        f"```python\r\n{WHOLE}\r\n```".replace("\n", "\r\n").replace("\r\r", "\r"),
        f"~~~python\n{WHOLE}\n~~~",
        f"~~~~\n{WHOLE}\n~~~~",
        f"````python\n{WHOLE}\n````",
        f'```python title="solution.py"\n{WHOLE}\n```',
        f"```{{.python}}\n{WHOLE}\n```",
        f"```py\n{WHOLE}\n```",
        f"``` python\n{WHOLE}\n```",
        "1. Do this:\n   ```python\n   def third(n):\n       return n / 3\n   ```",
        "\t```python\n\tdef third(n):\n\t    return n / 3\n\t```",
        "```python\n\treturn n / 3\n```",
        "```python\n\tif n:\n\t\treturn n / 3\n\treturn 0\n```",
        "```python\n  if n:\n    return n / 3\n  return 0\n```",
        "```python\n        return n / 3\n```",
        f"```python\n{WHOLE}",
        f"{WHOLE}\n",
        f"<answer>\n```python\n{WHOLE}\n```\nUsage:\n```\nthird(1)\n```\n</answer>",
    ],
)
def test_right_programs_in_every_dress_earn_the_point(text, tasks):
    task = tasks["humaneval"]
    assert task.solved(task.sample(), [text]) == [1.0]


# Solutions and test files as generated data sets have them.
SUPPORTED = {
    "equality": (
        "class P:\n    def __init__(self, x): self.x = x\n"
        "    def __eq__(self, other): return isinstance(other, P) and self.x == other.x\n"
        "    def __hash__(self): return hash(self.x)\ndef make(x): return P(x)",
        "def test_a():\n    assert make(1) == P(1) and make(1) != P(2) and make(1) != 1\n"
        "    assert {P(1), P(1)} == {P(1)} and [P(1)] == [make(1)] and P(2) in [P(1), P(2)]",
    ),
    "order": (
        "import functools\n@functools.total_ordering\nclass V:\n"
        "    def __init__(self, n): self.n = n\n    def __eq__(self, o): return self.n == o.n\n"
        "    def __lt__(self, o): return self.n < o.n",
        "def test_a():\n    assert V(1) < V(2) <= V(2) and V(3) > V(2) and max(V(1), V(4)).n == 4\n"
        "    assert [v.n for v in sorted([V(3), V(1)])] == [1, 3]",
    ),
    "dataclass": (
        "from dataclasses import dataclass, field\n@dataclass(order=True)\nclass D:\n"
        "    a: int\n    b: list = field(default_factory=list)",
        "def test_a():\n    assert D(1) == D(1, []) and D(1) < D(2)\n"
        "    assert repr(D(1)) == 'D(a=1, b=[])'\n"
        "    d = D(1); d.b.append(2); d.a = 7; assert d.a == 7",
    ),
    "namedtuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\n"
        "def move(p): return P(p.x + 1, p.y)",
        "def test_a():\n    p = move(P(1, 2)); assert p.x == 2 and p == (2, 2) and p == P(2, 2)",
    ),
    "arithmetic of its own": (
        "class V:\n    def __init__(self, x): self.x = x\n"
        "    def __add__(self, o): return V(self.x + o.x)\n"
        "    def __neg__(self): return V(-self.x)\n    def dot(self, o): return self.x * o.x\n"
        "    def __eq__(self, o): return self.x == o.x",
        "def test_a():\n    assert V(1) + V(2) == V(3) and (-V(1)).x == -1 and V(2).dot(V(3)) == 6",
    ),
    "e.type": (
        "class E(ValueError): pass\ndef f(x): raise E('no ' + x)",
        "def test_a():\n    with pytest.raises(ValueError) as e: f('x')\n"
        "    assert e.type is E and e.type.__name__ == 'E' and str(e.value) == 'no x'",
    ),
    "raises with a call": (
        "def f(x, y=1):\n    if x < y: raise ValueError('small')",
        "def test_a():\n    pytest.raises(ValueError, f, 0)\n"
        "    pytest.raises(ValueError, f, 1, y=2)",
    ),
    "except its own": (
        "class E(Exception):\n    def __init__(self, need, have):\n"
        "        super().__init__(f'{need} of {have}'); self.need = need\n"
        "    def __str__(self): return 'short: ' + self.args[0]\nclass F(E): pass\n"
        "def f(): raise F(3, 2)",
        "def test_a():\n    try: f()\n    except E as e: assert e.need == 3\n"
        "    else: assert False\n"
        "def test_b():\n    with pytest.raises(E, match='^short: 3 of 2$'): f()",
    ),
    "standard exceptions": (
        "import json\ndef f(x): return json.loads(x)\ndef g(d, k): return d[k]",
        "import json\ndef test_a():\n    with pytest.raises(json.JSONDecodeError): f('[')\n"
        "    with pytest.raises((KeyError, IndexError)): g({}, 1)",
    ),
    "param": (
        "def f(x): return x + 1",
        "@pytest.mark.parametrize('x, y', [pytest.param(1, 2, id='a'), (2, 3)])\n"
        "def test_a(x, y): assert f(x) == y",
    ),
    "setup_method": (
        "class S:\n    def __init__(self): self.items = []\n"
        "    def push(self, x): self.items.append(x)\n    def pop(self): return self.items.pop()\n"
        "    def __len__(self): return len(self.items)",
        "class TestS:\n    def setup_method(self, method): self.s = S()\n"
        "    def test_a(self): self.s.push(1); assert self.s.pop() == 1\n"
        "    def test_b(self): assert len(self.s) == 0 and not self.s\n"
        "    def test_c(self):\n        with pytest.raises(IndexError): self.s.pop()",
    ),
    "unittest": (
        "def f(x):\n    if x < 0: raise ValueError('negative')\n    return x ** 0.5",
        "import unittest\nclass Root(unittest.TestCase):\n    def setUp(self): self.x = 4\n"
        "    def test_a(self): self.assertEqual(f(self.x), 2)\n"
        "    def test_b(self): self.assertAlmostEqual(f(2), 1.41421356)\n"
        "    def test_c(self):\n        with self.assertRaises(ValueError): f(-1)\n"
        "        self.assertRaisesRegex(ValueError, 'neg', f, -1)\n"
        "        with self.subTest(1): self.assertIn(f(0), [0])",
    ),
    "constants": (
        "A, B = 1, 2\nLIMIT: int = 5\n(C, [D, *E]) = 3, [4, 5]\ndef f(): return A + B",
        "from solution import A, B, LIMIT, C, D, E\n"
        "def test_a(): assert (A, B, LIMIT, C, D, E) == (1, 2, 5, 3, 4, [5]) and f() == 3",
    ),
    "objects made by the test": (
        "class Node:\n    def __init__(self, v, next=None): self.v = v; self.next = next\n"
        "def total(n): return n.v + total(n.next) if n else 0\n"
        "def rev(n):\n    p = None\n    while n: n.next, p, n = p, n, n.next\n    return p",
        "def test_a():\n    a = Node(1, Node(2)); a.next.next = Node(3); assert total(a) == 6\n"
        "    r = rev(a); assert r.v == 3 and r.next.v == 2 and r.next.next is a and a.next is None",
    ),
    "enum": (
        "from enum import Enum\nclass Color(Enum):\n    RED = 1\n    BLUE = 2\n"
        "def other(c): return Color.BLUE if c is Color.RED else Color.RED",
        "def test_a():\n    assert other(Color.RED) == Color.BLUE and Color.RED.value == 1\n"
        "    assert Color.RED is Color['RED'] and [c.name for c in Color] == ['RED', 'BLUE']\n"
        "    assert Color(2) is Color.BLUE and Color.RED != 1",
    ),
    "a class of a standard kind": (
        "from collections import OrderedDict\nclass LRU(OrderedDict):\n"
        "    def __init__(self, n): super().__init__(); self.n = n\n"
        "    def put(self, k, v):\n        self[k] = v\n        if len(self) > self.n:"
        " self.popitem(last=False)",
        "def test_a():\n    c = LRU(2)\n    for k in 'abc': c.put(k, ord(k))\n"
        "    assert len(c) == 2 and 'a' not in c and c['b'] == 98 and list(c) == ['b', 'c']\n"
        "    assert list(c.keys()) == ['b', 'c'] and c.get('x', 5) == 5",
    ),
    "property, static and class methods": (
        "class T:\n    count = 0\n    def __init__(self, c): self._c = c; T.count += 1\n"
        "    @property\n    def f(self): return self._c * 9 / 5 + 32\n    @f.setter\n"
        "    def f(self, v): self._c = (v - 32) * 5 / 9\n    @staticmethod\n"
        "    def zero(): return T(0)\n    @classmethod\n"
        "    def of(cls, f): t = cls(0); t.f = f; return t",
        "def test_a():\n    t = T(100); assert t.f == pytest.approx(212) and T.zero().f == 32\n"
        "    t.f = 32; assert t.f == 32 and T.of(212)._c == 100 and T.count >= 3\n"
        "    assert isinstance(t, T) and hasattr(t, 'f') and not hasattr(t, 'g')",
    ),
    "iterator and generator": (
        "class Count:\n    def __init__(self, n): self.n = n\n    def __iter__(self): return self\n"
        "    def __next__(self):\n        if self.n == 0: raise StopIteration\n"
        "        self.n -= 1\n        return self.n\n"
        "def evens():\n    n = 0\n    while True: yield n; n += 2",
        "import itertools\ndef test_a():\n    assert list(Count(3)) == [2, 1, 0]\n"
        "    c = Count(1); assert next(c) == 0\n    with pytest.raises(StopIteration): next(c)\n"
        "    assert list(itertools.islice(evens(), 3)) == [0, 2, 4]",
    ),
    "container": (
        "class M:\n    def __init__(self, rows): self.rows = rows\n"
        "    def __getitem__(self, i): return self.rows[i]\n"
        "    def __setitem__(self, i, v): self.rows[i] = v\n"
        "    def __contains__(self, v): return any(v in r for r in self.rows)\n"
        "    def __iter__(self): return iter(self.rows)\n    def __str__(self): return 'M'",
        "def test_a():\n    m = M([[1], [2]]); m[0] = [5]\n"
        "    assert m[0] == [5] and 2 in m and 9 not in m\n"
        "    assert list(m) == [[5], [2]] and str(m) == 'M' and f'{m}' == 'M'",
    ),
    "decorator and context": (
        "import contextlib, functools\ndef twice(g):\n    @functools.wraps(g)\n"
        "    def h(*a, **k): return 2 * g(*a, **k)\n    return h\n"
        "class Open:\n    def __enter__(self): self.on = True; return self\n"
        "    def __exit__(self, *a): self.on = False",
        "def test_a():\n    @twice\n    def add(a, b=1): return a + b\n"
        "    assert add(1) == 4 and add(1, b=2) == 6\n    o = Open()\n"
        "    with o as p: assert p.on\n    assert not o.on",
    ),
}
# Their references fail here: what they need is not there, or not safe.
LEFT_OUT = {
    "fixture": (
        "def f(x): return x",
        "@pytest.fixture\ndef x(): return 1\ndef test_a(x): assert f(x) == 1",
    ),
    "arithmetic with a plain number": (
        "class V:\n    def __init__(self, x): self.x = x\n"
        "    def __sub__(self, n): return self.x - n",
        "def test_a(): assert V(3) - 1 == 2",
    ),
    "equality with a plain number": (
        "class V:\n    def __init__(self, x): self.x = x\n"
        "    def __eq__(self, n): return self.x == n",
        "def test_a(): assert V(3) == 3",
    ),
    "coroutine": (
        "async def f(): return 1",
        "import asyncio\ndef test_a(): assert asyncio.run(f()) == 1",
    ),
}


def kodcode_rows(cases):
    return [
        {
            "question": name,
            "solution": solution,
            "test": f"import pytest\nfrom solution import *\n{test}",
        }
        for name, (solution, test) in cases.items()
    ]


def test_what_kodcode_references_use_is_there(tmp_path):
    """Each of these passes under pytest, and here."""
    task = kodcode_task(written(tmp_path, "k", *kodcode_rows(SUPPORTED)))
    examples = task.read("train") + task.read("validation")
    outcomes = run_programs([program(e.answer, e.columns) for e in examples])
    failed = {
        e.prompt.splitlines()[-1]: o.error
        for e, o in zip(examples, outcomes, strict=True)
        if not o.correct
    }
    assert failed == {} and len(examples) == len(SUPPORTED)


def test_problems_whose_reference_fails_are_left_out_and_counted(tmp_path, monkeypatch):
    """Others are drawn in their place; a reference runs once, when its problem is first drawn."""
    good = {
        f"good {i}": ("def f(x): return x", "def test_a(): assert f(1) == 1") for i in range(12)
    }
    path = written(tmp_path, "k", *kodcode_rows(LEFT_OUT | good))
    task = kodcode_task(path)
    runs, run = [], programs.run_programs
    monkeypatch.setattr(programs, "run_programs", lambda p, **k: runs.extend(p) or run(p, **k))
    kept = {e.prompt for e in task.read("train") if "good" in e.prompt}
    bad = len(task.read("train")) - len(kept)
    assert bad >= 3
    with pytest.warns(UserWarning, match=rf"kodcode: {bad} of \d+ references .* left out"):
        drawn = task.sample(len(kept), "train", seed=1)
    assert {e.prompt for e in drawn} == kept and len(drawn) == len(kept)
    assert len(runs) == len(task.read("train"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert task.sample(len(kept), "train", seed=1) == drawn
        assert {e.prompt for e in task.sample(0, "train")} == kept
        assert len(task.sample(0, "validation")) == len(task.read("validation"))
    assert len(runs) == len(task.read("train"))
    assert kodcode_task(path).sample(1, "train", seed=3) == kodcode_task(path).sample(
        1, "train", seed=3
    )
    with pytest.raises(ValueError, match=f"holds {len(kept)} problems whose references pass"):
        task.sample(len(kept) + 1, "train")


def test_nothing_is_left_out_of_a_test_split(tmp_path):
    """A benchmark counts all of its problems."""
    path = written(tmp_path, "m", MBPP, {**MBPP, "task_id": 12, "code": "def add(a, b): return 0"})
    assert len(mbpp_task(path).sample()) == 2


# ------------------------------------------------ the real files

YES = (
    "class Yes:\n    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __contains__ = lambda s, o: "
    "True\n    __hash__ = None\n"
)


@real
def test_humaneval_references_pass_and_nothing_else():
    """All 164 canonical solutions; none where the function returns nothing, or something equal to
    everything."""
    task = humaneval_task(str(DATA / "humaneval"))
    examples = task.sample()
    with gzip.open(DATA / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        bodies = [json.loads(line)["canonical_solution"] for line in file]
    assert (
        len(examples) == 164
        and task.solved(examples, [f"```python\n{b}\n```" for b in bodies]) == [1.0] * 164
    )
    names = [e.columns["names"][0] for e in examples]
    assert task.solved(examples[1::4], ["return None"] * 41) == [0.0] * 41
    assert (
        task.solved(examples[::4], [wrap(f"{YES}def {n}(*a): return Yes()") for n in names[::4]])
        == [0.0] * 41
    )


@real
def test_mbpp_references_pass():
    """Every sixth of the 974, and those that build objects of their own, run long, or return what
    is no plain value."""
    task = mbpp_task(str(DATA / "mbpp"))
    found = [len(task.sample(split=split)) for split in ("test", "validation", "train")]
    assert found == [500, 90, 374]
    examples = [e for s in ("test", "validation", "train") for e in task.sample(split=s)]
    odd = [
        e
        for e in examples
        if e.columns["setup"] or any(w in e.answer for w in ("class ", "yield", "amicable"))
    ]
    chosen = list({e.prompt + e.answer: e for e in [*examples[::6], *odd]}.values())
    assert len(odd) >= 8 and task.solved(chosen, [wrap(e.answer) for e in chosen]) == [1.0] * len(
        chosen
    )
    broken = [
        wrap("\n".join(f"def {n}(*a): return None" for n in e.columns["names"]))
        for e in examples[::24]
    ]
    assert sum(task.solved(examples[::24], broken)) == 0


def test_the_card_says_behind_which_walls_programs_ran(tmp_path):
    card = mbpp_task(str(tmp_path / "mbpp.jsonl")).card_entry()
    assert card["sandbox"] == best_level() and card["task"] == "mbpp"
