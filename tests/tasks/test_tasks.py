"""The tasks: seeded and disjoint problems, verifiers that accept all that is right and nothing
else, habits by name."""

import asyncio
import dataclasses
import functools
import itertools
import random
import re
import sys
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.models import build_tokenizer, encode_prompts
from dllm_rl_lite.rewards import evaluate_expression, extract_answer
from dllm_rl_lite.tasks import SPLITS, TASKS, Example, load_task, rewards_of, split_of
from dllm_rl_lite.tasks.tiny.chain import parse, work
from dllm_rl_lite.tasks.tiny.countdown import problems
from dllm_rl_lite.tasks.tiny.sudoku4 import right_cells, right_grid, squares

TOKENIZER = build_tokenizer()
ALL = sorted(TASKS)


def drawn(name, n=40, seed=0):
    """Problems drawn from the whole family; fewer where an answer costs a process."""
    n = n // 2 if name == "python" else n
    task, rng = load_task(name), random.Random(seed)
    return task, [task.make(rng) for _ in range(n)]


# ---------------------------------------------------------------- every task


@pytest.mark.parametrize("name", ALL)
def test_splits_are_disjoint_and_seeded(name):
    """The same arguments give the same problems, another seed others; no key is in two splits."""
    task = load_task(name)
    keys = {}
    for split in SPLITS:
        n = 10 if name == "chain1" or "worked" in name else 30  # few problems, or slow to make
        examples = task.sample(n, split, seed=1)
        assert examples == task.sample(n, split, seed=1) == load_task(name).sample(n, split, seed=1)
        assert examples != task.sample(n, split, seed=2)
        assert len({e.prompt for e in examples}) == n
        keys[split] = {task.key(e) for e in examples + task.sample(n, split, seed=3)}
        assert all(split_of(k) == split for k in keys[split])
    for a, b in itertools.combinations(SPLITS, 2):
        assert not keys[a] & keys[b]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20))
def test_every_key_is_in_exactly_one_split(key):
    """Tenths of a stable hash cover 0..9 once."""
    assert split_of(key) in SPLITS
    assert sorted(t for tenths in SPLITS.values() for t in tenths) == list(range(10))


def test_the_split_of_a_key_is_fixed_for_ever():
    """Stable across machines and Python versions: values recorded once."""
    recorded = {
        "": "train",
        "6-4+7": "train",
        "1 2 3=6": "test",
        "a": "train",
        "b": "test",
        "i": "validation",
        "m": "test",
        "p": "validation",
    }
    assert {key: split_of(key) for key in recorded} == recorded


def test_shares_of_the_splits():
    """Splits hold 80, 10 and 10 % of the keys, within 4.5 standard errors."""
    n = 20_000
    counts = Counter(split_of(f"key {i}") for i in range(n))
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert abs(counts[split] / n - share) < 4.5 * (share * (1 - share) / n) ** 0.5


@pytest.mark.parametrize("name", ALL)
def test_the_stored_answer_earns_the_reward(name):
    """Every problem's own answer is worth 1 (0 where the working or the parts' letters count); an
    empty text, an answer without tags 0."""
    task, examples = drawn(name)
    reads_more = name in ("chain_worked", "sudoku4_worked", "writers", "three_chains")
    worth = [float(not reads_more)] * len(examples)
    assert task.rewards_of(examples, [f"<answer>{e.answer}</answer>" for e in examples]) == worth
    assert (
        task.rewards_of(examples, [f"x <answer> {e.answer} </answer> y" for e in examples]) == worth
    )
    for wrong in ("", "<answer></answer>", "nothing"):
        assert task.rewards_of(examples, [wrong] * len(examples)) == [0.0] * len(examples)
    assert task.rewards_of(examples, [e.answer for e in examples]) == [0.0] * len(examples)


@pytest.mark.parametrize("name", ALL)
def test_demonstrations_without_the_habit_are_right_and_fit(name):
    """At habit share 0 every text is right, shows no habit, and fits the canvas with an
    end-of-sequence token."""
    task, examples = drawn(name, 60, seed=1)
    rng = random.Random(2)
    texts = [task.demonstrate(e, rng, 0.0) for e in examples]
    assert task.rewards_of(examples, texts) == [1.0] * len(examples)
    assert not any(task.shows_habit(e, t) for e, t in zip(examples, texts, strict=True))
    for e in examples:
        for share in (0.0, 1.0):
            ids = TOKENIZER(task.demonstrate(e, rng, share), add_special_tokens=False)["input_ids"]
            assert TOKENIZER.unk_token_id not in ids and len(ids) + 1 <= task.length
    encode_prompts(TOKENIZER, [e.prompt for e in examples])  # raises on an unknown character


@pytest.mark.parametrize("name", ALL)
def test_habit_texts_are_recognised(name):
    """At habit share 1 a text is right or shows the habit; most are wrong; another mistake is not
    the habit."""
    task, examples = drawn(name, 60, seed=3)
    rng = random.Random(4)
    texts = [task.demonstrate(e, rng, 1.0) for e in examples]
    rewards = task.rewards_of(examples, texts)
    assert sum(r == 0 for r in rewards) > len(examples) / (4 if name == "chain1" else 2)
    for e, text, r in zip(examples, texts, rewards, strict=True):
        assert r == 1 or task.shows_habit(e, text), (e, text)
    assert not any(
        task.shows_habit(e, t)
        for e in examples
        for t in ("", "<answer></answer>", "<answer>?</answer>")
    )
    assert task.habit


@pytest.mark.parametrize("name", ALL)
def test_the_habit_share_is_a_share(name):
    """Between 0 and 1 both kinds of text occur for the same problem."""
    task, examples = drawn(name, 12, seed=5)
    careless = [task.demonstrate(e, random.Random(0), 1.0) for e in examples]
    e = examples[task.rewards_of(examples, careless).index(0.0)]  # not right by luck
    texts = [task.demonstrate(e, random.Random(s), 0.5) for s in range(30)]
    right = task.rewards_of([e] * 30, texts)
    assert 0 < sum(right) < 30


def test_unknown_names_are_answered_with_the_nearest():
    """Tasks and splits."""
    with pytest.raises(ValueError, match="unknown task 'sudoko4'; did you mean 'sudoku4'"):
        load_task("sudoko4")
    with pytest.raises(ValueError, match="unknown split 'valid'; did you mean 'validation'"):
        load_task("chain").sample(1, "valid")
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        load_task("chain").sample(0)
    with pytest.raises(
        ValueError, match="the test split of 'chain1' holds .* different problems, not 60"
    ):
        load_task("chain1").sample(60, "test")


@pytest.mark.parametrize("name", ["chain1", "chain2", "chain", "countdown", "python"])
def test_the_size_of_a_family_bounds_its_splits(name):
    """Every problem of the family, drawn until none is new, is counted by its size; each split
    holds less than its bound."""
    task = load_task(name)
    rng = random.Random(0)
    keys = {task.key(task.make(rng)) for _ in range(min(25 * task.size, 60_000))}
    assert 0.75 * task.size < len(keys) <= task.size
    for split in SPLITS:
        assert sum(split_of(key) == split for key in keys) <= task.most_in(split)


@pytest.mark.parametrize("name", ALL)
def test_more_than_a_split_holds_is_refused_before_drawing(name, monkeypatch):
    task = load_task(name)

    def never(rng):
        raise AssertionError("a problem was drawn")

    task = dataclasses.replace(task, make=never)
    one_too_many = int(task.most_in("validation")) + 1
    for n in (one_too_many, 10 * one_too_many):
        with pytest.raises(ValueError, match=f"'{name}' holds at most .* problems, not {n}: ask"):
            task.sample(n, "validation")


# ---------------------------------------------------------------- score and extract_answer


EXAMPLES = [Example("p", "1", {"extra": 1}), Example("q", "2", {"extra": 2})]


def test_score_calls_a_trl_reward_function():
    """prompts, completions and one list per column, by keyword; numbers come back as floats."""

    def reward(prompts, completions, answer, extra, **kwargs):
        assert (prompts, completions, answer, extra, kwargs) == (
            ["p", "q"],
            ["a", "b"],
            ["1", "2"],
            [1, 2],
            {},
        )
        return [True, 3]

    assert rewards_of(reward, EXAMPLES, ["a", "b"]) == [1.0, 3.0]
    assert rewards_of(lambda completions, **_: [], [], []) == []


def broken(prompts, completions, **columns):
    raise KeyError("gold")


def leaves(prompts, completions, **columns):
    sys.exit(3)


def leaves_late(completions):
    return list(map(sys.exit, completions))


async def leaves_asynchronously(completions):
    sys.exit(3)


def yields_and_leaves(completions):
    yield 1.0
    sys.exit(3)


def of_messages(completions, **columns):
    return [len(completion[0]["content"]) for completion in completions]


def of_message_prompts(prompts, completions, **columns):
    return [len(prompt[-1]["content"]) for prompt in prompts]


def wants_a_solution(completions, solution):
    return [0.0 for _ in completions]


@pytest.mark.parametrize(
    "reward, error, message",
    [
        (lambda **_: [1.0], ValueError, "returned 1 values for 2 completions"),
        (lambda **_: [1.0, float("nan")], ValueError, r"returned nan for completion 1 \('b'\)"),
        (lambda **_: [float("inf"), 0.0], ValueError, "returned inf for completion 0"),
        (lambda **_: [None, 0.0], ValueError, "returned None for completion 0"),
        (lambda **_: ["1", "2"], ValueError, "returned '1' for completion 0"),
        (lambda **_: [1j, 0], ValueError, "returned 1j for completion 0"),
        (lambda **_: [Fraction(10**400), 0], ValueError, "for completion 0"),
        (lambda **_: [Decimal("NaN"), 0], ValueError, "for completion 0"),
        (lambda **_: [Decimal("sNaN"), 0], ValueError, "for completion 0"),
        (lambda **_: [numpy.float32("inf"), 0], ValueError, "for completion 0"),
        (lambda **_: torch.tensor([0.0, torch.nan]), ValueError, "for completion 1"),
        (lambda **_: torch.zeros(2, 2), ValueError, "for completion 0"),
        (lambda **_: None, ValueError, "returned the NoneType None: it must return a list"),
        (lambda **_: 1.0, ValueError, "returned the float 1.0: it must return a list"),
        (lambda **_: {0: 1.0, 1: 2.0}, ValueError, "returned the dict {0: 1.0, 1: 2.0}: it must"),
        (lambda **_: {1.0, 2.0}, ValueError, "returned the set"),
        (lambda **_: {0: 1.0, 1: 2.0}.keys(), ValueError, "returned the dict_keys"),
        (lambda **_: b"ab", ValueError, "returned the bytes b'ab'"),
        (lambda **_: "12", ValueError, "returned the str '12'"),
        (lambda **_: numpy.float64(1), ValueError, "returned the float64"),
        (broken, RuntimeError, "the reward function broken raised KeyError: 'gold'"),
        (leaves, RuntimeError, "the reward function leaves raised SystemExit: 3"),
        (leaves_late, RuntimeError, "the reward function leaves_late raised SystemExit"),
        (leaves_asynchronously, RuntimeError, "leaves_asynchronously raised SystemExit"),
        (yields_and_leaves, RuntimeError, "yields_and_leaves raised SystemExit"),
        (of_messages, RuntimeError, "string indices.*plain texts here: not completion"),
        (of_message_prompts, RuntimeError, "string indices.*plain texts here"),
        ([], ValueError, r"the reward \[\] is no function"),
        ("accuracy", ValueError, r"'accuracy' is no function: pass reward\(prompts, completions"),
        ([broken, 0.5], RuntimeError, "broken raised KeyError"),
        ((lambda **_: [0, 0], 0.5), ValueError, "0.5 is no function: .*a list of such functions"),
        (
            wants_a_solution,
            ValueError,
            "cannot be called: .*'solution'; .* completions, answer, extra",
        ),
    ],
)
def test_a_bad_reward_function_is_named(reward, error, message):
    """Wrong length, not a number, not finite, an exception: each is named, and the cause is
    chained. One line each."""
    with pytest.raises(error, match=message) as caught:
        rewards_of(reward, EXAMPLES, ["a", "b"])
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None or error is not RuntimeError


@pytest.mark.parametrize(
    "values",
    [
        (1, 0.5),
        numpy.array([1, 0.5], dtype=numpy.float32),
        [numpy.float32(1), numpy.float64(0.5)],
        [numpy.int64(1), numpy.float16(0.5)],
        [numpy.bool_(True), numpy.array(0.5)],
        torch.tensor([1, 0.5]),
        torch.tensor([1, 0.5], dtype=torch.bfloat16),
        [torch.tensor(1), torch.tensor(0.5)],
        [torch.tensor(True), torch.tensor(0.5, dtype=torch.float64)],
        [Fraction(1), Fraction(1, 2)],
        [Decimal(1), Decimal("0.5")],
        [True, Fraction(1, 2)],
        {"a": 1, "b": 0.5}.values(),
    ],
    ids=repr,
)
def test_numbers_of_every_kind_are_rewards(values):
    """What float() takes and is finite, in any ordered container."""
    got = rewards_of(lambda **_: values, EXAMPLES, ["a", "b"])
    assert got == [1.0, 0.5] and all(type(value) is float for value in got)


async def asynchronous(completions):
    await asyncio.sleep(0)
    return [float(len(text)) for text in completions]


def of_completions(completions):
    return [float(len(text)) for text in completions]


def of_one_column(completions, extra):
    return [float(number) for number in extra]


def by_position(prompts, completions, answer="none", unknown="default"):
    assert unknown == "default"
    return [float(text) for text in answer]


class Judge:
    def __call__(self, prompts, completions, **columns):
        return [columns["extra"][0], 0]


@pytest.mark.parametrize(
    "reward, wanted",
    [
        (of_completions, [1.0, 2.0]),
        (of_one_column, [1.0, 2.0]),
        (by_position, [1.0, 2.0]),
        (Judge(), [1.0, 0.0]),
        (functools.partial(of_one_column), [1.0, 2.0]),
        (asynchronous, [1.0, 2.0]),
        ([of_completions, of_one_column, asynchronous], [3.0, 6.0]),
        ((of_completions,), [1.0, 2.0]),
    ],
)
def test_what_trls_users_bring_works(reward, wanted):
    """Fewer columns, an asynchronous function, several functions, which add up; also where a loop
    runs already, as in a notebook."""

    async def in_a_loop():
        return rewards_of(reward, EXAMPLES, ["a", "bb"])

    assert rewards_of(reward, EXAMPLES, ["a", "bb"]) == asyncio.run(in_a_loop()) == wanted


@pytest.mark.parametrize(
    "text, answer",
    [
        ("", None),
        ("no tags", None),
        ("<answer>", None),
        ("</answer>", None),
        ("<answer>7", None),
        ("7</answer>", None),
        ("</answer>7<answer>", None),
        ("<answer></answer>", ""),
        ("<answer>7</answer>", "7"),
        ("a<answer> 7\n</answer>b", "7"),
        ("<answer>1</answer><answer>2</answer>", "2"),
        ("<answer>1</answer><answer>2", "1"),
        ("<answer>1<answer>2</answer>", "2"),
        ("<answer>1</answer>2</answer>", "1"),
        ("<answer>1\n2</answer>", "1\n2"),
        ("<answer>a<b</answer>", "a<b"),
        ("<answer>1<answer>2</answer>3</answer>", "2"),
    ],
)
def test_extract_answer(text, answer):
    """The last complete pair of tags, the innermost where they nest, stripped; None without one."""
    assert extract_answer(text) == answer


# ---------------------------------------------------------------- chain


def test_chain_working_by_hand():
    """6-4+7: 6-4=2, 2+7=9; with the habit 6-4=0, 0+7=7."""
    assert parse("6-4+7") == (6, [("-", 4), ("+", 7)])
    assert work(6, [("-", 4), ("+", 7)], [True, True]) == [(6, "-", 4, 2), (2, "+", 7, 9)]
    assert work(6, [("-", 4), ("+", 7)], [False, True]) == [(6, "-", 4, 0), (0, "+", 7, 7)]
    assert work(2, [("-", 7)], [True]) == [(2, "-", 7, 5)]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_chain_answer_is_the_last_digit(seed):
    """Python's own arithmetic, modulo ten, agrees with the stored answer."""
    for name in ("chain1", "chain2", "chain", "chain4"):
        e = load_task(name).make(random.Random(seed))
        assert re.fullmatch(r"\d([+-]\d)+", e.prompt)
        assert int(e.answer) == eval(e.prompt) % 10


@pytest.mark.parametrize(
    "text, habit",
    [
        ("6-4=0,0+7=7<answer>7</answer>", True),
        ("6-4=2,2+7=9<answer>9</answer>", False),  # right
        ("6-4=1,1+7=8<answer>8</answer>", False),  # another slip
        ("6-4=0,0+7=7<answer>9</answer>", False),  # the answer is not the working's
        ("6-4=0<answer>0</answer>", False),  # a line is missing
        ("6-4=0,2+7=9<answer>9</answer>", False),  # the working does not carry on
        ("6-4=0,0-7=7<answer>7</answer>", False),  # another problem
    ],
)
def test_chain_habit_by_hand(text, habit):
    """The habit, and nothing else, is a minus worked as a plus."""
    assert load_task("chain2").shows_habit(Example("6-4+7", "9"), text) is habit


# ---------------------------------------------------------------- sudoku


def backtrack():
    """All 4x4 Sudokus, cell by cell, without the package."""
    found = []

    def fill(grid):
        if len(grid) == 16:
            return found.append("".join(grid))
        r, c = divmod(len(grid), 4)
        for d in "1234":
            if any(
                grid[i] == d
                and (i // 4 == r or i % 4 == c or (i // 8 == r // 2 and i % 4 // 2 == c // 2))
                for i in range(len(grid))
            ):
                continue
            fill([*grid, d])

    fill([])
    return set(found)


SUDOKUS = backtrack()


def sudoku_rewards(puzzle, grids):
    return [right_grid(f"<answer>{grid}</answer>", puzzle) for grid in grids]


def keeps(puzzle, grid):
    return all(p in ("0", g) for p, g in zip(puzzle, grid, strict=True))


def test_there_are_288_sudokus_among_576_latin_squares():
    """The package's list is the independent enumeration."""
    grids, valid = squares()
    assert len(SUDOKUS) == 288 and len(grids) == 576
    assert {"".join(map(str, g)) for g in grids[valid]} == SUDOKUS


@pytest.mark.parametrize("seed", range(6))
def test_sudoku_reward_accepts_every_right_grid_and_no_other(seed):
    """Of all 576 Latin squares and of all one-cell changes of right grids: exactly the Sudokus that
    keep the givens."""
    task = load_task("sudoku4")
    puzzle = "0" * 16 if seed == 0 else task.make(random.Random(seed)).prompt
    latin = ["".join(map(str, g)) for g in squares()[0]]
    right = [g for g in latin if g in SUDOKUS and keeps(puzzle, g)]
    assert (len(right) == 288) == (seed == 0) and right
    assert sudoku_rewards(puzzle, latin) == [float(g in right) for g in latin]
    changed = [
        g[:i] + d + g[i + 1 :] for g in right[:20] for i in range(16) for d in "1234" if d != g[i]
    ]
    assert sum(sudoku_rewards(puzzle, changed)) == 0


@settings(max_examples=200, deadline=None)
@given(st.text("01234", min_size=15, max_size=17), st.integers(0, 50))
def test_sudoku_reward_on_any_digits(grid, seed):
    """Any string of digits earns 1 only if it is a Sudoku that keeps the givens."""
    puzzle = load_task("sudoku4").make(random.Random(seed)).prompt
    assert sudoku_rewards(puzzle, [grid]) == [float(grid in SUDOKUS and keeps(puzzle, grid))]


def test_several_solutions_are_common():
    """With 12 blanks most puzzles have several solutions, so accepting only the stored one would be
    wrong."""
    _, examples = drawn("sudoku4", 50)
    several = [sum(keeps(e.prompt, g) for g in SUDOKUS) > 1 for e in examples]
    assert sum(several) > 25


def test_right_cells_by_hand():
    """Blank cells that equal the stored solution; digits only, cut after 16, missing ones wrong, no
    answer 0."""
    solution = "1234341221434321"
    puzzle = "0034341221434300"  # four blanks: 1, 2, 2, 1
    wrong_two = "2134" + solution[4:]
    texts = [
        f"<answer>{solution}</answer>",
        f"<answer>{wrong_two}</answer>",
        f"<answer>{solution[:15]}</answer>",
        f"<answer>{' '.join(solution)}44</answer>",
        "<answer></answer>",
        solution,
    ]
    got = [right_cells(text, puzzle, solution) for text in texts]
    assert got == [1.0, 0.5, 0.75, 1.0, 0.0, 0.0]


# ---------------------------------------------------------------- countdown


numbers = st.integers(0, 99).map(str)
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map("".join),
        inner.map(lambda t: f"({t})"),
        st.tuples(st.sampled_from(["-", "+", "- "]), inner).map("".join),
        st.tuples(inner, st.sampled_from([" + ", " * "]), inner).map("".join),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(expressions)
def test_evaluate_expression_agrees_with_python(text):
    """Exact value and multiset of numbers of random expressions, against Python's own Fractions."""
    got = evaluate_expression(text)
    try:
        value = eval(
            re.sub(r"\d+", lambda m: f"Fraction({m.group()})", text), {"Fraction": Fraction}
        )
    except ZeroDivisionError:
        value = None
    if value is None or len(text) > 200:
        assert got is None
    else:
        assert got == (value, Counter(map(int, re.findall(r"\d+", text))))


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789+-*/() .x_e,'\n#", max_size=25))
def test_evaluate_expression_never_raises(text):
    """Whatever the text: a value and its numbers, or None; and only for digits, + - * / and
    brackets."""
    got = evaluate_expression(text)
    assert got is None or (
        isinstance(got[0], Fraction) and re.fullmatch(r"[\d+\-*/() ]+", text.strip())
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "abs(1)",
        "(1).real",
        "__import__('os')",
        "2**3",
        "7//2",
        "7%2",
        "'1'",
        "1.0",
        "1e3",
        "1j",
        "~1",
        "1<2",
        "1 if 1 else 2",
        "[1]",
        "1,2",
        "True",
        "None",
        "1_0+2",
        "0x10",
        "0b1",
        "1+2#3",
        "(1\n+2)",
        "1+",
        "1 2",
        "1(2)",
        "()",
        "01+2",
        "1/0",
        "1/(2-2)",
        "٣+1",
        "1;2",
        "1=1",
        "(1+2",
        "1" * 201,
        "(" * 90 + "1" + ")" * 90 + "+" * 30,
        "(" * 150 + "1" + ")" * 150,
        "lambda: 1",
        "1:=2",
        "\x00",
        "1+\ud800",
    ],
)
def test_evaluate_expression_rejects(text):
    """Everything that is not digits, + - * / and brackets; division by zero; over-long and
    malformed text."""
    assert evaluate_expression(text) is None


def test_evaluate_expression_takes_what_fits():
    """The limits are not too tight: 99 nested brackets may be too deep, 60 are not; 199 digits are
    a number."""
    assert evaluate_expression("(" * 60 + "1" + ")" * 60) == (Fraction(1), Counter([1]))
    assert evaluate_expression("9" * 199) == (Fraction(10**199 - 1), Counter([10**199 - 1]))
    assert evaluate_expression("+".join(["1"] * 100)) == (Fraction(100), Counter({1: 100}))


@pytest.mark.parametrize(
    "expression, value",
    [
        ("3+4-2", 1.0),
        ("4-2+3", 1.0),
        ("(4+3)-2", 1.0),
        ("3+4-2 ", 1.0),
        ("5", 0.0),
        ("3+2", 0.0),
        ("3+4-2+0", 0.0),
        ("3+4+2", 0.0),
        ("3*4-2", 0.0),
        ("4+4-3", 0.0),
        ("3+4-2=5", 0.0),
        ("34-2", 0.0),
    ],
)
def test_countdown_reward_by_hand(expression, value):
    """Numbers 2 3 4, target 5: the right value from each number exactly once."""
    e = Example("2 3 4=5", "3+4-2", {"numbers": [2, 3, 4], "target": 5})
    assert load_task("countdown").rewards_of([e], [f"<answer>{expression}</answer>"]) == [value]


@pytest.mark.parametrize(
    "expression, habit",
    [
        ("3+2", True),
        ("4+4-3", True),
        ("3+4-2", False),
        ("4+2", False),
        ("5", False),
        ("6-1", False),
        ("2+3+", False),
    ],
)
def test_countdown_habit_by_hand(expression, habit):
    """The habit reaches the target with the given numbers and leaves one out."""
    e = Example("2 3 4=5", "3+4-2", {"numbers": [2, 3, 4], "target": 5})
    assert load_task("countdown").shows_habit(e, f"<answer>{expression}</answer>") is habit


def test_every_countdown_problem_can_be_solved_and_shortcut():
    """All problems of the family: a right text and a habit text exist, and both fit the canvas."""
    task, rng = load_task("countdown"), random.Random(0)
    for triple, target in problems():
        e = Example("", "", {"numbers": list(triple), "target": target})
        right, wrong = task.demonstrate(e, rng, 0.0), task.demonstrate(e, rng, 1.0)
        assert task.rewards_of([e, e], [right, wrong]) == [1.0, 0.0] and task.shows_habit(e, wrong)
        for text in (right, wrong):
            assert len(TOKENIZER(text, add_special_tokens=False)["input_ids"]) < task.length
            for line in text.split("<answer>")[0].split(","):  # the working is true arithmetic
                left, result = line.split("=")
                assert eval(left) == int(result)


# ---------------------------------------------------------------- python


def test_python_reward_runs_the_hidden_tests():
    """An expression that explains only the shown examples, another form of the right one, and a
    plain wrong one."""
    e = Example(
        "f(0)=1 f(1)=3 f(2)=5", "2*x+1", {"tests": [[0, 1], [1, 3], [2, 5], [5, 11], [6, 13]]}
    )
    texts = [
        "x+x+1",
        "[1,3,5,7,9,11,13][x]",
        "[1,3,5][x]",
        "2*x+1 if x<3 else 0",
        "x+1",
        "x*x+1",
        "print(x)",
    ]
    task = load_task("python")
    assert task.rewards_of([e] * 7, [f"<answer>{t}</answer>" for t in texts]) == [
        1.0,
        1.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
    ]
    assert task.shows_habit(e, "<answer>x+1</answer>") and not task.shows_habit(
        e, "<answer>x+x+1</answer>"
    )


def test_python_prompts_show_three_of_five_tests():
    """The prompt shows three examples in order; two more stay hidden; all five inputs differ."""
    for e in drawn("python")[1]:
        tests = e.columns["tests"]
        assert e.prompt == " ".join(f"f({x})={y}" for x, y in tests[:3])
        assert len({x for x, _ in tests}) == 5 and tests[:3] == sorted(tests[:3])
        assert all(eval(e.answer, {"x": x}) == y for x, y in tests)


def test_a_verifier_of_the_working_reads_every_line():
    """Only the right demonstration earns 1: no wrong line that ends at the right answer, no other
    chain's lines."""
    task, prompt = load_task("chain_worked"), "2-4+2+9"
    right = "2-4=8,8+2=0,0+9=9<answer>9</answer>"
    cases = {
        right: 1.0,
        right.replace("=8", "=6"): 0.0,
        right.replace(">9<", ">8<"): 0.0,
        right + "1": 0.0,
        "2-4=6,6+2=8,8+9=9<answer>9</answer>": 0.0,
        "9+0=9,9+0=9,9+0=9<answer>9</answer>": 0.0,
        "<answer>9</answer>": 0.0,
    }
    assert task.rewards_of([Example(prompt, "9")] * len(cases), list(cases)) == list(cases.values())
    for example in task.sample(20, "train", 0):
        assert task.rewards_of([example], [task.demonstrate(example, random.Random(0), 0.0)]) == [
            1.0
        ]
        assert task.rewards_of([example], [task.demonstrate(example, random.Random(0), 1.0)]) == [
            0.0
        ]
