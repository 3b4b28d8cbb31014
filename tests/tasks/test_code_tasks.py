"""HumanEval, MBPP and KodCode: rows, prompts, programs out of completions, rewards, and the real
references."""

import gzip
import json
from pathlib import Path

import pytest

from dllm_rl_lite.sandbox import best_level, run_programs
from dllm_rl_lite.tasks import rewards_of
from dllm_rl_lite.tasks.published import code_rewards as code
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
    assert examples[0].columns["tests"] == ["test_a()", "test_b()", "TestMore().test_c()"]
    assert task.solved(examples, [wrap(e.answer) for e in examples]) == [1.0] * 3
    assert task.solved(
        examples[:1], [wrap("class Empty(ValueError): pass\ndef back(s): return s[::-1]")]
    ) == [0.0]


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
