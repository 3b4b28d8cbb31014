"""The sandbox: right verdicts for honest programs, none for hostile ones, and nothing left
behind."""

import collections
import ctypes
import datetime
import decimal
import fractions
import math
import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from hostile import ATTEMPTS, ENDING, FORGED_TESTS, FORGERS, HOSTILE, ITERATING, SWALLOWED
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.sandbox import (
    LEVELS,
    Limits,
    Program,
    best_level,
    children,
    gaps,
    run_programs,
)
from dllm_rl_lite.sandbox import runner as sandbox
from dllm_rl_lite.sandbox.inside import walls, wire
from dllm_rl_lite.sandbox.inside.judge import BETWEEN
from dllm_rl_lite.sandbox.runner import imports

PATIENT = Limits(seconds=20, wall=60)  # for honest programs on a busy machine
SHORT = Limits(seconds=1, wall=2)
HONEST = (
    "assert f(3) == 10",
    "assert f([1, 2]) == [2, 1, 'end']",
    "assert f('ab') == {'a': 1}",
    "assert abs(f(1.5) - 3.25) < 1e-9",
    "assert sorted(f((3, 1))) == [0, 1, 3]",
    "assert 5 in f({}) and 6 not in f({})",
    "assert f(b'') is not f(b'') and f(b'') == {1, 2} and len(f(b'')) == 2",
)
RIGHT = """
def f(x):
    if isinstance(x, list): return x[::-1] + ['end']
    if isinstance(x, dict): return range(6)
    return {int: 10, str: {'a': 1}, float: 3.25, tuple: iter((3, 0, 1)), bytes: {2, 1}}[type(x)]
"""


def works(level):
    try:
        return bool(sandbox.walls(level))
    except RuntimeError:
        return False


levels = pytest.mark.parametrize(
    "level",
    [
        pytest.param(
            level,
            marks=[] if works(level) else pytest.mark.skip(reason=f"{level} does not work here"),
        )
        for level in LEVELS
    ],
)


def only_where_contained(level):
    """Without its filter of system calls the level "limits" leaves gaps (`gaps` names them): no
    test may step into one."""
    if level == "limits" and not sandbox.walls(level)["filtered"]:
        pytest.skip(
            "system calls are not filtered here, so hostile programs could harm this machine"
        )


def run(code, *tests, names=("f",), level="limits", **more):
    return run_programs([Program(code, tests, names, **more)], level, PATIENT)[0]


@pytest.fixture
def orphans():
    """Children of this process, adopted ones too: while the test runs, a process whose parent ends
    becomes ours (Linux)."""
    if sys.platform != "linux":
        pytest.skip("needs Linux")

    def children():
        found = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it ended while we looked
                continue
            if fields[1] == str(os.getpid()):
                found.add(stat.parent.name)
        return found

    before = children()
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    yield lambda: children() - before
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


# ------------------------------------------------ messages

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text()
    | st.complex_numbers(allow_nan=False)
    | st.binary()
    | st.binary().map(bytearray)
    | st.fractions()
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.times()
    | st.builds(range, st.integers(), st.integers(), st.just(3))
    | st.decimals(allow_nan=False)
)
keys = (
    st.integers()
    | st.text()
    | st.tuples(st.integers(), st.text())
    | st.frozensets(st.integers())
    | st.booleans()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner)
        | st.sets(keys)
        | st.frozensets(keys)
        | st.lists(inner).map(collections.deque)
        | st.dictionaries(keys, inner).map(collections.OrderedDict)
        | st.dictionaries(keys, inner).map(lambda d: collections.defaultdict(None, d))
        | st.dictionaries(keys, st.integers()).map(collections.Counter)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(values)
def test_values_travel_by_value_and_type(value):
    """decode(encode(v)) == v, of the same type, through real JSON."""
    there, back = os.pipe()
    try:
        text = wire.encode(value, lambda v: pytest.fail(f"{v!r} was kept"))
        wire.send(back, ["value", text])
        again = wire.decode(wire.receive(there)[1], lambda v: pytest.fail(f"{v!r} was looked up"))
    finally:
        os.close(there)
        os.close(back)
    assert type(again) is type(value) and again == value


def test_values_that_equality_does_not_show():
    for value in (
        math.nan,
        -0.0,
        math.inf,
        -math.inf,
        "\ud800",
        "\0",
        10**5000,
        -(2**53),
        2**53 - 1,
        True,
        1,
    ):
        again = wire.decode(wire.encode(value, None), None)
        assert (
            repr(again) == repr(value)
            if not isinstance(value, int)
            else again == value and type(again) is type(value)
        )


def test_what_is_no_standard_value_is_kept():
    """Instances of own classes, subclasses of containers, functions, aware times: never by
    value."""

    class Mine(list):
        pass

    aware = datetime.datetime.now(datetime.UTC)
    for value in (
        object(),
        Mine([1]),
        len,
        Mine,
        iter([]),
        aware,
        collections.UserDict(),
        type,
        fractions,
        Ellipsis,
    ):
        kept = []
        assert wire.encode([value], lambda v, kept=kept: kept.append(v) or ["mine", 0]) == [
            "list",
            [["mine", 0]],
        ]
        assert kept[0] is value


def test_immutable_subclasses_count_as_what_they_hold():
    """A number or text with == of its own is sent as the plain value."""

    class Number(int):
        def __eq__(self, other):
            return True

        __hash__ = None

    class Text(str):
        def __str__(self):
            return "other"

    class Pair(tuple):
        def __eq__(self, other):
            return True

        __hash__ = None

    got = wire.decode(wire.encode([Number(7), Text("x"), Pair([1, 2])], None), None)
    assert got == [7, "x", (1, 2)] and [type(v) for v in got] == [int, str, tuple]


def test_named_tuples_are_made_again():
    """With their fields, not with their class's methods."""

    class Pair(collections.namedtuple("Pair", "a b")):
        def __eq__(self, other):
            return True

        __hash__ = None

    got = wire.decode(wire.encode(Pair(1, [2]), None), None)
    assert got == (1, [2]) and got != 3 and got.b == [2] and type(got).__eq__ is tuple.__eq__


@pytest.mark.parametrize(
    "text",
    [
        {},
        [],
        [1],
        ["list"],
        ["list", 1],
        ["list", [{}]],
        ["dict", [[1]]],
        ["int", ["x"]],
        ["int", [1]],
        ["range", []],
        ["set", [["list", []]]],
        ["bytes", ["\u1234"]],
        ["date", [1]],
        ["Decimal", ["x"]],
        ["complex", ["a", "b"]],
        ["dict", 3],
    ],
)
def test_malformed_values_raise(text):
    """Whatever the candidate may write, decoding ends with a value or an ordinary exception."""
    with pytest.raises((ValueError, TypeError, decimal.InvalidOperation)):
        wire.decode(text, lambda t: pytest.fail("looked up"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1",
        b"\xff\xff\xff\xffxxxx",
        b"\2\0\0\0{}",
        b"\2\0\0\0[]",
        b"\3\0\0\0[1]",
        b"\1\0\0\0x",
    ],
)
def test_malformed_messages_raise(data):
    there, back = os.pipe()
    os.write(back, data)
    os.close(back)
    with pytest.raises((ValueError, ConnectionError)):
        wire.receive(there)
    os.close(there)


def test_values_nested_too_deeply_or_too_large_raise():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        wire.encode(deep, None)
    with pytest.raises(ValueError, match="larger than"):
        wire.send(1, ["x" * wire.LARGEST])


@settings(deadline=None)
@given(st.lists(st.integers()), st.lists(st.integers()))
def test_replace_changes_in_place(old, new):
    for kind in (
        list,
        set,
        collections.deque,
        collections.Counter,
        lambda v: dict.fromkeys(v, 1),
        lambda v: bytearray(len(v)),
    ):
        value, wanted = kind(old), kind(new)
        alias = value
        wire.replace(value, wanted)
        assert alias == wanted


# ------------------------------------------------ what honest programs may do

SHOWCASE = """
import collections, typing
class Node:
    count = 0
    def __init__(self, value, next=None): self.value, self.next = value, next; Node.count += 1
    def __len__(self): return 1 + (len(self.next) if self.next else 0)
    def __add__(self, other): return Node(self.value + other.value)
    def __getitem__(self, i): return self.value if i == 0 else self.next[i - 1]
    def __setitem__(self, i, v): self.value = v
    def __enter__(self): self.open = True; return self
    def __exit__(self, *_): self.open = False
    def __eq__(self, other): return True
    def __str__(self): return f'<{self.value}>'
    def __int__(self): return self.value
class Mine(ValueError): pass
def total(node): return node.value + (total(node.next) if node.next else 0)
def squares(n):
    for i in range(n): yield i * i
def sort(l): l.sort()
def fill(d, s): d['x'] = [1]; s.add(2)
def apply(g, *xs, **named): return [g(x, **named) for x in xs]
def adder(n): return lambda x: x + n
def late(kind):
    if kind == 'unicode': return 'é'.encode('ascii')
    raise {'value': ValueError('bad value 3'), 'key': KeyError('k'), 'mine': Mine('own')}[kind]
words = {'b', 'a'}
def counted(x):
    count = collections.Counter(x).most_common(1)
    return count, collections.OrderedDict(a=1), collections.deque(x)
def kind_of(x, *kinds): return isinstance(x, kinds)
Point = collections.namedtuple('Point', 'x y')
def views(d): return d.keys(), d.values(), d.items()
class Down:
    def __init__(self, n): self.n = n
    def __iter__(self): return self
    def __next__(self):
        if not self.n: raise StopIteration
        self.n -= 1
        return self.n
class Short(Mine):
    def __init__(self, need): super().__init__(f'need {need}'); self.need = need
def pay(n): raise Short(n)
def naturals():
    n = 0
    while True: yield n; n += 1
def first(n, items): return [next(items) for _ in range(n)]
"""
MEMBERS = tuple(
    (
        "count value next open __len__ __add__ __getitem__ __setitem__ __enter__ __exit__ __str__ "
        "__int__ __iter__ __next__"
    ).split()
)
SHOWN = [
    "a = Node(1, Node(2)); assert total(a) == 3 and a.next.value == 2 and len(a) == 2",
    "a = Node(1); a.value = 5; a.next = Node(7); assert total(a) == 12 and a[1] == 7",
    "a = Node(1); a[0] = 9; assert a.value == 9 and (a + a).value == 18 and str(a) == '<9>' and "
    "int(a) == 9",
    "a, b = Node(1), Node(1); assert a == a and a != b and a.next is None and not (a == 1)",
    "a = Node(1); b = Node(2, a); assert b.next is a and b.next == a and {a: 1}[b.next] == 1",
    "with Node(1) as a:\n    assert a.open\nassert not a.open",
    "n = Node.count; Node(1); assert Node.count == n + 1 and isinstance(Node(1), Node) and not "
    "isinstance(3, Node)",
    "assert list(squares(4)) == [0, 1, 4, 9] and set(squares(3)) == {0, 1, 4} and sum(squares(3)) "
    "== 5 and 4 in squares(3)",
    "l = [3, 1, 2]; m = l; assert sort(l) is None and l == [1, 2, 3] and m is l",
    "d, s = {}, {1}; fill(d, s); assert d == {'x': [1]} and s == {1, 2}",
    "assert apply(lambda x: x + 1, 1, 2) == [2, 3] and apply(str, 1) == ['1']",
    "assert apply(sorted, [1, 2], reverse=True) == [[2, 1]]",
    "assert apply(lambda n: n.value, Node(3)) == [3] and adder(2)(3) == 5 and apply(adder(1), 1) "
    "== [2]",
    "try: apply(lambda x: 1 // x, 0)\nexcept ZeroDivisionError: pass\nelse: assert False",
    "try: late('value')\nexcept ValueError as e: assert str(e) == 'bad value 3'\n"
    "else: assert False",
    "try: late('key')\nexcept KeyError as e: assert e.args == ('k',)\nelse: assert False",
    "try: late('mine')\nexcept ValueError as e: assert str(e) == 'own'\nelse: assert False",
    "try: late('unicode')\nexcept ValueError: pass\nelse: assert False",
    "assert words == {'a', 'b'} and counted('aab') == ([('a', 2)], {'a': 1}, "
    "__import__('collections').deque('aab'))",
    "assert kind_of(1, int, str) and not kind_of([], int)",
    "import math; assert math.isclose(adder(0.1)(0.2), 0.3)",
    "assert hasattr(Node(1), 'value') and not hasattr(Node(1), 'other')",
    "from solution import Node as N, total as t; assert t(N(4)) == 4",
    "p = Point(1, y=2); assert p == (1, 2) and p.y == 2 and p._replace(x=3) == (3, 2)",
    "k, v, i = views({'a': 1}); assert k == {'a'} and list(v) == [1] and i == {('a', 1)}",
    "assert list(Down(3)) == [2, 1, 0] and next(Down(2)) == 1 and sum(n for n in Down(4)) == 6",
    "d = Down(1); next(d)\ntry: next(d)\nexcept StopIteration: pass\nelse: assert False",
    "try: pay(5)\nexcept Mine as e: assert e.need == 5 and str(e) == 'need 5'\nelse: assert False",
    "assert issubclass(Short, ValueError) and not issubclass(Mine, Short)",
    "n = naturals(); assert next(n) == 0 and first(2, n) == [1, 2] and next(n) == 3",
    "assert total.__name__ == 'total' and callable(adder(1))",
]


@levels
def test_honest_programs_pass(level):
    """Objects, iterators, callbacks, arguments changed in place, exceptions: as if the tests ran
    beside the code."""
    names = tuple(
        (
            "Node total squares sort fill apply adder late words counted kind_of missing Point "
            "views Down Mine Short pay naturals first"
        ).split()
    )
    got = run(SHOWCASE, *SHOWN, names=names, level=level, members=MEMBERS)
    assert [test for test, passed in zip(SHOWN, got.passed, strict=True) if not passed] == [], (
        got.error
    )
    assert got.correct and got.error == "" and got.level == level and got.seconds > 0
    assert run(RIGHT, *HONEST, level=level).passed == (True,) * len(HONEST)


PYTEST = """
import pytest
from solution import late, Mine
def test_raises():
    with pytest.raises(ValueError, match='value [0-9]') as caught: late('value')
    assert '3' in str(caught.value)
def test_own():
    with pytest.raises(Mine): late('mine')
def test_wrong_kind():
    with pytest.raises(Mine): late('value')
def test_none():
    with pytest.raises(ValueError): late
def test_match():
    with pytest.raises(ValueError, match='other'): late('value')
def test_approx():
    assert [0.1 + 0.2, 1] == pytest.approx([0.3, 1])
    assert 1.001 != pytest.approx(1) and 1.001 == pytest.approx(1, abs=0.01)
    assert {'a': 1 / 3} == pytest.approx({'a': 0.33333333}) and 100.0 == pytest.approx(101, rel=0.1)
@pytest.mark.slow
@pytest.mark.parametrize('a, b', [(1, 2), (2, 3)])
@pytest.mark.parametrize('c', [1])
def test_cases(a, b, c): assert a + c == b
@pytest.mark.parametrize('a', [1, 2])
def test_failing_case(a): assert a == 1
"""


def test_a_little_pytest():
    calls = [f"{name}()" for name in re.findall(r"def (test_\w+)", PYTEST)]
    got = run(SHOWCASE, *calls, names=("late", "Mine"), setup=PYTEST)
    assert dict(zip(calls, got.passed, strict=True)) == {
        call: not any(w in call for w in ("wrong", "none", "match", "failing")) for call in calls
    }, got.error


def test_wrong_programs_fail_and_say_why():
    got = run(
        "def f(x): return x", "assert f(1) == 1", "assert f(1) == 2", "assert f(2) == 2, 'never'"
    )
    assert got.passed == (True, False, True) and not got.correct and got.error == "AssertionError"
    assert run("def f(x): return x", "g(1)").error == "NameError: name 'g' is not defined"
    assert run("def f(:", "f(1)").error.startswith("SyntaxError")
    assert run("def f(x): return 1 / 0", "f(1)").error == "ZeroDivisionError: division by zero"
    assert "cannot pass" in run("def f(x): return x", "class A: pass\nf(A())").error


def test_setup_sees_the_program_and_before_does_not():
    got = run(
        "def f(x): return x + 1\ndef g(x): return 0",
        "assert root == 2 and g(1) == 1",
        setup="root = f(1)",
        before="def f(x): return x\ndef g(x): return x",
    )
    assert got.correct, got.error


def test_only_agreed_names_are_taken_from_the_program():
    """A program cannot put its own isinstance, all or math in the place of the tests'."""
    code = (
        "def all(x): return True\nclass math: isclose = staticmethod(lambda *a: True)\n"
        "def f(x): return x"
    )
    assert not any(
        run(code, "assert all([f(0)])", "assert math.isclose(f(1), 2)", before="import math").passed
    )


def test_a_late_test_does_not_undo_an_early_one():
    """Verdicts that were reached before the time was up stand."""
    code = "import time\ndef f(x): time.sleep(x)"
    got = run_programs(
        [Program(code, ("f(0)", "f(600)", "f(0)"), ("f",))], "limits", Limits(seconds=20, wall=5)
    )[0]
    assert got.passed == (True, False, False) and "not finished within 5 s" in got.error


def test_verdicts_do_not_depend_on_chance():
    """Sets of words have one order, and random numbers are the same, in every run."""
    code = (
        "import random\ndef f(x): return [list({'a', 'b', 'c', 'd', 'e', 'f'}), random.random(), "
        "hash('x')]"
    )
    texts = {run(code + f"\n# {i}", "assert False, f(1)").error for i in range(3)}
    assert len(texts) == 1


# ------------------------------------------------ what hostile programs may not


def harmless(tmp_path):
    """A file, a folder and a listing to compare before and after."""
    target = tmp_path / "precious"
    target.write_text("precious")
    os.chmod(tmp_path, 0o777)
    os.chmod(target, 0o666)
    return target


def listing():
    return {
        str(p)
        for d in ("/", "/tmp", "/var/tmp", "/dev/shm", Path.home())
        if Path(d).is_dir()
        for p in Path(d).iterdir()
        if "hostile" in p.name or p.name.startswith(("fill", "d1"))
    }


@levels
def test_hostile_programs_score_nothing_and_leave_nothing(level, orphans, tmp_path):
    """All of the list: no test passed, no signal, no file, no process, at each level."""
    assert len(HOSTILE) >= 30
    arrived, previous, before = [], {}, listing()
    for number in (signal.SIGUSR1, signal.SIGTERM):
        previous[number] = signal.signal(number, lambda n, _: arrived.append(n))
    target = harmless(tmp_path)
    only_where_contained(level)
    try:
        programs = [
            Program(code.replace("{canary}", str(tmp_path)), HONEST, ("f",))
            for code in HOSTILE.values()
        ]
        outcomes = run_programs(programs, level, SHORT)
        time.sleep(0.1)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    assert [name for name, o in zip(HOSTILE, outcomes, strict=True) if any(o.passed)] == []
    assert (
        not arrived and not orphans() and listing() == before and target.read_text() == "precious"
    )
    for name, o in zip(HOSTILE, outcomes, strict=True):
        assert o.seconds < 30, name  # a bound on hanging, no claim about speed


@levels
def test_operators_are_answered_by_data(level):
    """Whatever a program returns, it does not compute with what the test wants to see."""
    only_where_contained(level)
    for name, code in FORGERS.items():
        got = run(code, *FORGED_TESTS, level=level)
        passed = [test for test, p in zip(FORGED_TESTS, got.passed, strict=True) if p]
        assert passed == [], (name, got.error)


@levels
def test_no_program_ends_the_iteration_of_a_test(level):
    """Exceptions that a protocol swallows reach the test as others."""
    for error in ENDING:
        got = run(f"def f(x): raise {error}", *ITERATING, level=level)
        assert not any(got.passed), (error, got.passed)


@levels
def test_operators_of_a_class_see_no_expected_value(level):
    """Where the tests may use every operator of the program's objects, both operands are its
    own."""
    operators = [f"__{name}__" for name in BETWEEN]
    code = FORGERS["object"]
    got = run(code, *FORGED_TESTS, names=("f", "Forger"), members=tuple(operators), level=level)
    passed = [test for test, p in zip(FORGED_TESTS, got.passed, strict=True) if p]
    assert passed == [] and run(code, "assert f(1) == f(2)", members=("__eq__",)).correct


@levels
def test_no_program_silences_a_test(level):
    """A program that ends where an exception is expected, exception classes that catch the test's
    own, objects in places that are rarely looked at."""
    only_where_contained(level)
    programs = [Program(code, (test,), ("f", "Mine")) for code, test in SWALLOWED.values()]
    outcomes = run_programs(programs, level, PATIENT)
    assert [name for name, o in zip(SWALLOWED, outcomes, strict=True) if o.correct] == []


@levels
def test_attempts_are_refused(level, tmp_path):
    """Each wall, asked for by a program that then answers whether it stands."""
    target = harmless(tmp_path)
    only_where_contained(level)
    known = {"{home}": str(Path.home()), "{file}": str(target)}
    programs = {}
    for name, expression in ATTEMPTS.items():
        for key, value in known.items():
            expression = expression.replace(key, value)
        code = (
            f"import os, _thread, socket, resource\ndef f():\n"
            f"    try: return 'done: ' + str({expression})[:99]\n"
            "    except BaseException as error: return 'refused: ' + repr(error)"
        )
        programs[name] = Program(
            code, ("got = f(); assert got.startswith('refused'), got",), ("f",)
        )
    outcomes = dict(
        zip(programs, run_programs(list(programs.values()), level, PATIENT), strict=True)
    )
    assert {name: o.error for name, o in outcomes.items() if not o.correct} == {}
    assert os.listdir(tmp_path) == ["precious"] and target.read_text() == "precious"


LATE_IMPORTS = (
    "a = 1; import bisect\n    return bisect.bisect([1], 2)",
    "import bisect; return bisect.bisect([1], 2)",
    "return __import__('bisect').bisect([1], 2)",
    "import importlib; return importlib.import_module('bisect').bisect([1], 2)",
    "from xml.dom import minidom as m; return m.parseString('<a/>').toxml()",
    "größe = 1; return größe",
    "return '\\N{DEGREE SIGN}'",
    "return 'é'.encode('cp1252'), 'é'.encode('idna')",
    "import codecs; return codecs.encode('abc', 'rot13')",
    "import datetime; return datetime.datetime.strptime('2020', '%Y').year",
    "import statistics; return statistics.mode([1, 1, 2])",
    "from collections import Counter; return Counter('aab').most_common(1)",
    "import uuid; return len(str(uuid.uuid5(uuid.NAMESPACE_DNS, 'a')))",
)


@levels
def test_what_a_program_imports_is_there_at_each_level(level):
    """Wherever the import stands, and what the standard library imports only when it is called."""
    code = "".join(f"def f{i}():\n    {text}\n" for i, text in enumerate(LATE_IMPORTS))
    calls = [f"f{i}()" for i in range(len(LATE_IMPORTS))]
    got = run(code, *calls, names=tuple(call[:-2] for call in calls), level=level)
    missed = [text for text, p in zip(LATE_IMPORTS, got.passed, strict=True) if not p]
    assert missed == [], got.error


@levels
def test_attempts_can_fail(level):
    """The same question with what is allowed: so that a broken question does not count as a
    wall."""
    code = "import os\ndef f(): return str(os.getpid()) + str([i * i for i in range(3)])"
    assert run(code, "assert f().endswith('[0, 1, 4]')", level=level).correct


@levels
def test_the_tests_never_reach_the_program(level):
    """Expected values are nowhere in the candidate's process."""
    code = (
        "import gc, os, sys\nseen = repr([sys.argv, sys.orig_argv, dict(os.environ), [o for o in "
        "gc.get_objects()"
        " if isinstance(o, (dict, list, tuple, str))]])\ndef f(x): return ''.join(['98', '7123']) "
        "in seen"
    )
    assert run(
        code, "assert f(1) is False", "secret = 987123", level=level, setup="x = 987123"
    ).correct


@levels
def test_hundreds_of_programs_leave_no_process(level, orphans):
    """Right ones, wrong ones, crashing and hanging ones, several at a time."""
    kinds = [
        "def f(x): return x + 1",
        "def f(x): return x",
        "import os\nos._exit(0)",
        "def f(x): raise ValueError",
        "1 +",
    ]
    programs = [
        Program(f"{kinds[i % 5]}\n# {i}", ("assert f(1) == 2",), ("f",)) for i in range(120)
    ]
    programs += [
        Program(f"while True: pass\n# {i}", ("assert f(1) == 2",), ("f",)) for i in range(4)
    ]
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    outcomes = run_programs(programs, level, Limits(seconds=1, wall=20))
    assert [o.correct for o in outcomes] == [i % 5 == 0 for i in range(120)] + [False] * 4
    assert not orphans() and (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


# ------------------------------------------------ levels and limits


def test_levels_that_do_not_work_are_named(monkeypatch):
    with pytest.raises(ValueError, match="did you mean 'limits'"):
        run_programs([Program("", ("f()",), ("f",))], "limit")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for cached in (sandbox.walls, best_level):
        cached.cache_clear()
    try:
        with pytest.raises(RuntimeError, match="not installed"):
            gaps("bubblewrap")
        assert best_level() == "limits"
        assert (
            run_programs([Program("def f(): return 1", ("assert f() == 1",), ("f",))])[0].level
            == "limits"
        )
        monkeypatch.undo()
        monkeypatch.setattr(children, "_bubblewrap", lambda tell: ["false"])
        if shutil.which("bwrap"):
            with pytest.raises(RuntimeError, match="does not work on this machine"):
                gaps("bubblewrap")
    finally:
        for cached in (sandbox.walls, best_level):
            cached.cache_clear()


def test_bubblewrap_shows_python_and_its_libraries_only():
    """Not all of /usr, not the environment that the caller runs in, no home."""
    seen = children.python_files()
    assert not {"/", "/usr", "/usr/bin", "/etc", "/home", sys.prefix, str(Path.home())} & {*seen}
    for path in seen:
        assert ".so" in path or "lib" in path or path == os.path.realpath(sys.executable), path


@levels
def test_gaps_say_what_stands(level):
    """The level's own words follow what the children found."""
    state = sandbox.walls(level)
    text = " ".join(gaps(level))
    assert "kernel" in text and ("not filtered" in text) == (not state["filtered"])
    assert "Program.members" in text and "weak tests" in text
    assert ("are there, read-only" in text) == (level == "bubblewrap")
    if sys.platform == "linux" and os.uname().machine in walls.AUDIT_ARCH:
        assert state["filtered"]
    assert state["dropped"] == (os.geteuid() == 0 and level == "limits")


def test_limits_and_programs_are_checked():
    for bad in ({"seconds": 0}, {"wall": 0.0}, {"memory": 1}):
        with pytest.raises(ValueError, match="must be at least 1"):
            Limits(**bad)
    with pytest.raises(ValueError, match="without tests"):
        Program("", (), ())
    assert run_programs([]) == []


@levels
def test_memory_and_time_are_limited(level):
    """A program has the memory it was given and no more, and is stopped by its processor time, not
    by the wall clock."""
    code = "def f(n): return len(bytearray(n))"
    assert run(code, f"assert f({2**28}) == {2**28}", level=level).correct
    tight = Limits(seconds=20, wall=60, memory=2**27)
    assert not run_programs(
        [Program(code, (f"assert f({2**28}) == {2**28}",), ("f",))], level, tight
    )[0].correct
    got = run_programs(
        [Program("def f():\n    while True: pass", ("f()",), ("f",))],
        level,
        Limits(seconds=1, wall=120),
    )[0]
    assert "has ended" in got.error and got.seconds < 100


def test_equal_programs_run_once(monkeypatch):
    """Within a call and across calls; one that was not finished in time is run again."""
    started, run_one = [], sandbox._run
    monkeypatch.setattr(sandbox, "_run", lambda *a: started.append(a) or run_one(*a))
    program = Program("def f(x): return x + 41", ("assert f(1) == 42",), ("f",))
    other = Program("def f(x): return x", ("assert f(1) == 42",), ("f",))
    assert [o.correct for o in run_programs([program, other, program], "limits", PATIENT)] == [
        True,
        False,
        True,
    ]
    assert run_programs([program], "limits", PATIENT)[0].correct and len(started) == 2
    late = Program("import time\ntime.sleep(600)", ("assert f(1) == 42",), ("f",))
    for count in (3, 4):
        assert (
            not run_programs([late], "limits", Limits(seconds=1, wall=0.5))[0].correct
            and len(started) == count
        )


def test_imports_are_found_in_the_text():
    program = Program(
        "import os.path as p, re\nfrom collections import (\n deque)\n"
        "from xml.etree import ElementTree as E\n"
        "  import heapq\nimport numpy, this\nimport time",
        ("import json",),
        ("f",),
        setup="from math import pi",
    )
    found = set(imports(program))
    assert found >= set(
        "os.path re collections xml.etree.ElementTree heapq json math _strptime".split()
    )
    assert not {"numpy", "this"} & found


@pytest.mark.parametrize(
    "header, column",
    [
        ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0),
        ("/usr/include/asm-generic/unistd.h", 1),
    ],
)
def test_numbers_of_system_calls_are_the_kernels(header, column):
    if not Path(header).exists():
        pytest.skip("no kernel headers here")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    for name, numbers in walls.COMPUTE.items():
        assert str(numbers[column]) == defined.get(name, "None"), name
