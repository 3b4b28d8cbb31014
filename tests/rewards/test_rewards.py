"""Rewards: tables worked by hand, the quirks of the releases exactly where they are said to be, and
laws for any text."""

import json
import math
import re
import time
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite import rewards
from dllm_rl_lite.rewards import answers, published
from dllm_rl_lite.rewards import latex as equivalence
from dllm_rl_lite.rewards.expressions import read_expression

# two lines of reasoning, no line break at the end
GOOD = "<reasoning>\n9 * 2\n= 18\n</reasoning>\n<answer>\n18\n</answer>"


# ---------------------------------------------------------------- reading an answer


@pytest.mark.parametrize(
    "text, boxed, tagged, final",
    [
        (GOOD, None, "18", "18"),
        ("prose 18", None, None, None),
        ("", None, None, None),
        (r"\boxed{18}", "18", None, "18"),
        (r"so \boxed{17}, no: \boxed{18}", "18", None, "18"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", None, r"\frac{1}{2}"),
        (r"\boxed{18}<answer>17</answer>", "18", "17", "18"),
        (r"<answer>\boxed{18} eggs</answer>", "18", r"\boxed{18} eggs", "18"),
        (r"\boxed{18} and \boxed{19", "18", None, "18"),  # the second never closes
        (r"\boxed{1\boxed{2}}", "2", None, "2"),
        (r"\boxed {18}", "18", None, "18"),
        (r"<answer>\boxed{}101</answer>", "", r"\boxed{}101", r"\boxed{}101"),
        ("<answer>1</answer> then <answer>2</answer>", None, "2", "2"),
        ("<answer>1</answer><answer>2", None, "1", "1"),
        ("<answer>\n<answer>\n3\n</answer>", None, "3", "3"),
        ("I write <answer> and then <answer>4</answer>", None, "4", "4"),
        ("<answer></answer>", None, "", ""),
        (r"\boxed{ 18 }} }", "18", None, "18"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", None, r"\{1, 2\}"),
        ("\\boxed{1\n8}", "1\n8", None, "1\n8"),
        ("<answer>\nboxed{4}\n</answer>", "4", "boxed{4}", "4"),
        (r"boxed{4}, or \boxed{5}", "5", None, "5"),
        ("unboxed{4}", None, None, None),
    ],
)
def test_where_the_answer_is(text, boxed, tagged, final):
    """The last box that closes, else the last complete answer tags, else nothing."""
    assert (rewards.last_boxed(text), rewards.extract_answer(text), rewards.final_answer(text)) == (
        boxed,
        tagged,
        final,
    )


@pytest.mark.parametrize(
    "text, value",
    [
        ("55 - 53 + 49", 51),
        (r"55 \times 2", 110),
        (r"55 \cdot 2", 110),
        (r"6 \div 4", "3/2"),
        ("6 ÷ 4 × 2", 3),
        ("3 − 1", 2),
        ("55 - 53 + 49 = 51", 51),
        ("55 - 53 + 49 = 52", None),
        ("1 + 2 = 3 = 3", None),
        ("1 + 2 =", None),
        ("1 + 2 = x", None),
        ("3 = 1 + 2", None),
        (r"\frac{6}{4}", "3/2"),
        (r"\frac{1+2}{4} * 4", 3),
        (r"\left(1+2\right)*3", 9),
        ("[1+2]*3", 9),
        ("{1+2}*3", 9),
        ("$1+2$", 3),
        ("1\n+ 2", 3),
        ("-1 + 2", 1),
        ("–1 + 2", 1),
        ("+1 + 2", 3),
        ("3 - -2", 5),
        (r"\frac12 + \cfrac{1}{2}", 1),
        (r"2\frac{1}{2}", None),
        ("2**3", None),
        ("1+", None),
        ("one", None),
        ("", None),
        (r"1 + 2 \text{ done}", None),
        ("2(3)", None),
        ("1/0", None),
        ("1/3+2/3 = 1.0", 1),
    ],
)
def test_read_expression_by_hand(text, value):
    """LaTeX signs, brackets of all kinds and a true tail are read; nothing else is."""
    got = read_expression(text)
    assert (got if got is None else got[0]) == (None if value is None else Fraction(value))


def test_read_expression_counts_the_numbers():
    """A sign belongs to no number."""
    assert read_expression(r"\frac{6 \times 2}{4} = 3")[1] == Counter([6, 2, 4])
    assert read_expression("-3 + 5") == (2, Counter([3, 5]))
    assert rewards.countdown_reward("<answer>-3+5</answer>", [3, 5], 2) == 1.0
    assert rewards.countdown_correct(r"\boxed{-(3-5)}", [3, 5], 2) == 1.0


# ---------------------------------------------------------------- right or wrong


@pytest.mark.parametrize(
    "completion, gold, right",
    [
        (GOOD, "18", 1),
        (GOOD, "17", 0),
        (r"\boxed{18}", "18", 1),
        (r"\boxed{\$1,800.00}", "1800", 1),
        ("it is 18", "18", 0),
        (r"\boxed{20\%}", "20", 1),
        (r"\boxed{18 \text{ or } 19}", "18", 0),
        (r"\boxed{18}...\boxed{19}", "18", 0),
        (r"\boxed{-10}", "-10", 1),
        ("<answer>10</answer>", "-10", 0),
        ("<answer>0.5</answer>", "1/2", 1),
        ("", "18", 0),
        ("<answer>1,234</answer>", "1,234", 1),
    ],
)
def test_gsm8k_correct(completion, gold, right):
    assert rewards.gsm8k_correct(completion, gold) == right


MATHEMATICS = [  # gold, answer, does math-verify find them equal, does d1's string rule
    ("18", "18", 1, 1),
    ("18", "19", 0, 0),
    (r"\frac{1}{2}", "0.5", 1, 1),
    (r"\frac{1}{4}", "0.25", 1, 0),
    (r"\frac{3}{4}", "3/4", 1, 1),
    (r"\frac{1}{8}", r"\frac{3}{24}", 1, 0),
    (r"\dfrac{1}{2}", r"\frac12", 1, 1),
    ("58,500", "58500", 1, 0),
    (r"\$36", "36.00", 1, 0),
    (r"\$36", "36", 1, 1),
    (r"10\%", "10", 1, 1),
    ("5", r"5\text{ cm}", 1, 1),
    (r"90^\circ", "90", 1, 1),
    (r"\text{(C)}", "C", 1, 0),
    (r"\text{Evelyn}", "Evelyn", 1, 0),
    (r"\text{Evelyn}", "Navin", 0, 0),
    (r"x \in [-2,7]", "[-2, 7]", 1, 0),
    ("[0,1)", "[0,1]", 0, 0),
    ("[0,1)", "[0, 1)", 1, 1),
    ("(1,2)", "(2,1)", 0, 0),
    ("(1,2)", r"\left(1, 2\right)", 1, 1),
    ("1,2", "2,1", 1, 0),
    ("5", "x=5", 1, 1),
    ("2\\sqrt{3}", "2\\sqrt3", 1, 1),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", 1, 1),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}", 0, 0),
    ("p - q", "-q + p", 1, 0),
    ("2", "1+1", 1, 0),
    (r"3\pi", "9.42", 0, 0),
    ("5", "", 0, 0),
    ("5", "}{", 0, 0),
    ("5", "\\frac", 0, 0),
    # rationals are compared exactly
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}", 0, 0),
    (r"\frac{3^{100}-1}{2\cdot3^{100}}", r"\frac{1}{2\cdot3^{100}}", 0, 0),
    (r"\frac{3^{100}-1}{2\cdot3^{100}}", r"\frac12-\frac{1}{2\cdot3^{100}}", 1, 0),
    ("0.0000002", "0.0000003", 0, 0),
    ("0.1234567", "0.1234568", 0, 0),
    (r"\frac14", "0.2500001", 0, 0),
    ("100000001", "100000002.0", 0, 0),
    ("0", "0.0000001", 0, 0),
    (r"1+\frac{1}{3^{60}}", "1", 0, 0),
    ("2^{99}", "2^{99}+1", 0, 0),
    ("1024", "2^{10}", 1, 0),
    ("120", "5!", 1, 0),
    ("5e3", "5000", 1, 0),
    (r"5 \times 10^{-3}", "0.005", 1, 0),
    ("1 234", "1234", 1, 1),
    ("-5", "–5", 1, 0),
    (r"1\frac{4}{5}", "1 4/5", 1, 0),
    (r"1\frac{4}{5}", r"\frac{9}{5}", 1, 0),
    ("1 1/2", "11/2", 0, 1),
    (r"1\frac{1}{2}", r"\frac{1}{2}", 0, 0),
    (r"\frac13", r"0.\overline{3}", 1, 0),
    (r"\frac{4x}{3}", r"1.\overline{3}x", 1, 0),
    # a decimal may stand for what no decimal states, to a millionth of it
    (r"\frac13", "0.333333", 1, 0),
    ("0.333333", r"\frac13", 1, 0),
    (r"\frac13", "0.33333", 0, 0),
    (r"\frac{1}{3000000}", "0.0000003", 0, 0),
    (r"\frac{1}{3000000}", "0.000000333333", 1, 0),
    (r"\pi", "3.141593", 1, 0),
    (r"\pi", "3.1416", 0, 0),
    # irrational numbers are compared to 100 digits
    (r"\sqrt{8}", r"2\sqrt{2}", 1, 0),
    ("10^{20}", r"\sqrt{10^{40}+1}", 0, 0),
    # the same within lists, intervals and matrices
    (r"\{0.0000002, 1\}", r"\{0.0000003, 1\}", 0, 0),
    ("(0.0000002,1)", "(0.0000003,1)", 0, 0),
    (
        r"\begin{pmatrix}0.0000002\\1\end{pmatrix}",
        r"\begin{pmatrix}0.0000003\\1\end{pmatrix}",
        0,
        0,
    ),
    (r"\begin{pmatrix}1/5\\2\end{pmatrix}", r"\begin{pmatrix}0.2\\2\end{pmatrix}", 1, 0),
    ("0.0000002x", "0.0000003x", 0, 0),
    # the base belongs to a numeral
    ("204_5", "204", 0, 0),
    ("204_5", "204_6", 0, 0),
    ("204", "204_5", 0, 0),
    ("204_5", "204_{5}", 1, 0),
    ("204_5", r"204_{\text{5}}", 1, 0),
    # an inequality and its interval, on either side
    (r"(5,\infty)", "x>5", 1, 0),
    ("x>5", r"(5,\infty)", 1, 0),
    ("5<x<6", "(5,6)", 1, 0),
    ("(5,6)", "5<x<6", 1, 0),
    (r"\infty", r"\infty", 1, 1),
    (r"\infty", "5", 0, 0),
]


def test_math_correct_by_hand():
    """Fractions, percent, degrees, units, currency, text, intervals, tuples, lists, matrices: not
    by string."""
    boxed = [f"\\boxed{{{answer}}}" for _, answer, _, _ in MATHEMATICS]
    assert rewards.math_correct(boxed, [m[0] for m in MATHEMATICS]) == [m[2] for m in MATHEMATICS]


@pytest.mark.parametrize("gold, answer, _, right", MATHEMATICS)
def test_the_published_string_rule_by_hand(gold, answer, _, right):
    """What Hendrycks's normalisation makes equal; it is blind to mathematics in both directions."""
    assert (
        published.equivalent(answer, gold)
        == right
        == published.math_correct(f"\\boxed{{{answer}}} words", gold)
    )


@pytest.mark.parametrize(
    "text, normal",
    [
        ("\\tfrac12", "\\frac{1}{2}"),
        ("\\frac1{72}", "\\frac{1}{72}"),
        (".5", "\\frac{1}{2}"),
        ("{.5}", "{0.5}"),
        ("k = 3", "3"),
        ("area = 3", "area=3"),
        ("3 \\text{ cm}", "3"),
        ("3/4", "\\frac{3}{4}"),
        ("03/4", "03/4"),
        ("5\\!0 \\%", "50"),
        ("\\sqrt 3", "\\sqrt{ }3".replace(" ", "")),
        ("\\frac3", "\\frac3"),
        ("", ""),
        ("\\left(1\n\\right)", "(1)"),
    ],
)
def test_normalise_by_hand(text, normal):
    assert published.normalise(text) == normal


@pytest.mark.parametrize("text", ["\\sqrt", "\\frac", "a/b", "1 \\text{ cm} \\text{ wide}"])
def test_texts_that_cannot_be_normalised_are_compared_bare(text):
    """As in the release, where the exception is caught: equal to themselves and to nothing else."""
    with pytest.raises((IndexError, ValueError)):
        published.normalise(text)
    assert published.equivalent(text, text) and not published.equivalent(text, text + " ")


def test_hostile_mathematics_is_wrong_and_costs_no_neighbour(monkeypatch):
    """Towers of powers, deep nesting, no text at all: 0, in order, and the pairs between them are
    judged."""
    monkeypatch.setattr(equivalence, "SECONDS", 1.5)
    hostile = [
        "9^{9^{9^{9}}}",
        "(" * 100 + "1" + ")" * 100,
        "\x00",
        "\ud800",
        "\\frac{1}{0}",
        "{" * 9999 + "}" * 9999,
    ]
    texts = [t for i, h in enumerate(hostile) for t in (f"\\boxed{{{h}}}", f"\\boxed{{{i}+1/2}}")]
    golds = [f"{i}.5" for i in range(len(hostile)) for _ in range(2)]
    assert rewards.math_correct(texts, golds) == [0.0, 1.0] * len(hostile)


def test_equivalence_in_a_thread():
    """math-verify's own time limits are alarms and work in the main thread only; a reward is often
    called from another."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(equivalence.equivalent, [("2x", "x+x"), ("2x", "x")]).result() == [
            True,
            False,
        ]


def test_equivalence_needs_no_process_for_equal_or_empty_texts_or_rationals(monkeypatch):
    monkeypatch.setattr(equivalence, "_child", None)
    assert equivalence.equivalent([("1/2", "0.5"), ("1/2", "1/3")]) == [True, False]
    assert equivalence.equivalent([("1 , 2", "1,2"), ("5", " "), ("", "5")]) == [True, False, False]
    assert equivalence.equivalent([]) == []


def test_a_child_that_cannot_start_is_an_error_not_a_zero(monkeypatch):
    """Without math-verify every answer would count as wrong; that must not pass for a result."""
    monkeypatch.setattr(equivalence.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="math-verify did not start"):
        equivalence.equivalent([("x", "y")])


NUMBERS, TARGET = [49, 55, 53], 51


@pytest.mark.parametrize(
    "answer, right, graded",
    [
        ("55 - 53 + 49", 1, 1.0),
        ("49 + (55 - 53)", 1, 1.0),
        (r"\boxed{55 - 53 + 49}", 1, 1.0),
        ("55 - 53 + 49 = 51", 1, 1.0),
        ("55 + 53 - 49", 0, 0.1),
        ("55 - 53", 0, 0.0),
        ("55 - 53 + 49 + 0", 0, 0.0),
        ("55 - 53 + 49 = 50", 0, 0.0),
        ("51", 0, 0.0),
        ("", 0, 0.0),
        ("no idea", 0, 0.0),
        ("55 - 53 + 49 - 49", 0, 0.0),
    ],
)
def test_countdown_by_hand(answer, right, graded):
    """1 / 0.1 / 0: the last for wrong numbers, whatever the value; the release pays 0.1 for any
    answer tag."""
    text = f"<reasoning>55-53+49</reasoning>\n<answer>\n{answer}\n</answer>"
    assert rewards.countdown_correct(text, NUMBERS, TARGET) == right
    assert rewards.countdown_reward(text, NUMBERS, TARGET) == graded
    assert published.countdown_reward(text, NUMBERS, TARGET) == (
        1.0 if answer in ("55 - 53 + 49", "49 + (55 - 53)") else 0.1
    )  # the release pays 0.1 for any tag and reads neither box nor tail


def test_countdown_without_tags():
    """Right in a bare box counts and does not train; right in prose counts by the published rule
    alone."""
    for text, right, published_right in [
        (r"\boxed{55 - 53 + 49}", 1, 1),
        ("so 55 - 53 + 49 = 51", 0, 1),
        ("", 0, 0),
    ]:
        assert rewards.countdown_correct(text, NUMBERS, TARGET) == right
        assert published.countdown_correct(text, NUMBERS, TARGET) == published_right
        assert (
            rewards.countdown_reward(text, NUMBERS, TARGET)
            == published.countdown_reward(text, NUMBERS, TARGET)
            == 0.0
        )


@pytest.mark.parametrize(
    "text, right",
    [
        (r"\boxed{55 - 53 + 49 = 7}", 1),
        (r"\boxed{-53 + 55 + 49}", 1),
        (r"\boxed{55 - 53 \cdot 49}", 0),
        (r"\boxed{51}", 0),
        (r"\boxed{55 - 53 + 49", 1),
        (r"\boxed{55 - 53 + 49 <answer>49+55-53</answer>", 1),
        (r"\boxed{55 ** 53 ** 49}", 0),
    ],
)
def test_published_countdown_by_hand(text, right):
    """Whatever follows "=", a sign in front, a box that never closes with the rest of the text as
    the expression's place."""
    if text == r"\boxed{55 - 53 + 49":
        right = 0  # the whole text is the expression then, the word "boxed" included
    assert published.countdown_correct(text, NUMBERS, TARGET) == right


PUZZLE, SOLUTION = "4320004330100004", "4321124334122134"


@pytest.mark.parametrize(
    "answer, strict, release",
    [
        (SOLUTION, 1.0, 1.0),
        (" ".join(SOLUTION), 1.0, 1.0),
        ("|".join(SOLUTION), 1.0, 1 / 8),
        (PUZZLE, 0.0, 0.0),
        ("4321" + PUZZLE[4:], 1 / 8, 1 / 8),
        ("1" + SOLUTION[1:], 0.0, 1.0),
        (SOLUTION[:10], 0.0, 4 / 8),
        (SOLUTION + "1", 0.0, 1.0),
        ("", 0.0, 0.0),
    ],
)
def test_sudoku_by_hand(answer, strict, release):
    """Eight blanks: by cell for a grid that keeps the givens; the release also reads ten or
    seventeen digits, and bars."""
    text = f"<answer>\n{answer}\n</answer>"
    assert rewards.sudoku_correct(text, PUZZLE, SOLUTION) == strict
    assert published.sudoku_correct(text, PUZZLE, SOLUTION) == release


@pytest.mark.parametrize(
    "text, share",
    [
        (f"<answer>```\n{SOLUTION}```", 1.0),
        (f"<answer>{SOLUTION}<|eot_id|>", 1.0),
        (f"</answer> {SOLUTION}", 1.0),
        (f"it is {SOLUTION} I think", 1.0),
        (f"{SOLUTION}</answer>", 1.0),
        ("nothing", 0.0),
        ("<answer> </answer>", 0.0),
    ],
)
def test_the_five_places_where_the_release_looks(text, share):
    assert published.sudoku_correct(text, PUZZLE, SOLUTION) == share


RELEASE_PLACES = (
    r"<answer>.*?```\s*([\d\s]+)```",
    r"<answer>(.*?)(?:<\|eot_id\|>|<\|endoftext\|>|</answer>)",
    r"</answer>\s*(.*?)(?:<\|eot_id\|>|<\|endoftext\|>|$)",
    r".*?(\d{16})\s*</answer>",
    r"\b(\d{16})\b",
)
SUDOKU_PIECES = ["<answer>", "</answer>", "<|eot_id|>", "```", " ", "\n", "1", "43", SOLUTION, "x"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(SUDOKU_PIECES), max_size=9).map("".join))
def test_the_places_are_the_releases_own(text):
    """Ours are matched once from the left; the release's patterns, searched for, find the same."""
    wanted = 0.0
    for pattern in RELEASE_PLACES:
        found = re.search(pattern, text, re.DOTALL)
        if found and found[1].strip():
            wanted = rewards.blank_share(PUZZLE, re.sub(r"\s", "", found[1]), SOLUTION)
            break
    assert published.sudoku_correct(text, PUZZLE, SOLUTION) == wanted


@pytest.mark.parametrize(
    "text, share",
    [
        (f"<answer>{SOLUTION}</answer>", 1.0),
        (f"<answer>{'|'.join(SOLUTION)}</answer>", 1.0),
        (f"<answer>I write <answer>{SOLUTION}</answer>", 1.0),
        # the digit before the inner tag counts as the first cell: of the blanks 5 and 13 are right
        (f"<answer>1 <answer>{SOLUTION}</answer>", 1 / 4),
        (f"<answer>{SOLUTION}</answer><answer>", 1.0),
        (SOLUTION, 0.0),
        ("<answer></answer>", 0.0),
    ],
)
def test_published_sudoku_reward_by_hand(text, share):
    """Nested tags end nothing in the release: its last pair begins at the outer one."""
    assert published.sudoku_reward(text, PUZZLE, SOLUTION) == share


@pytest.mark.parametrize(
    "text, gold, right",
    [
        (r"\boxed{18}", "18", 1),
        (r"\boxed{1,800}", "1800", 0),
        (r"\boxed{1,800}", "1,800", 0),
        (r"\boxed{1,800}", "1", 1),
        (r"\boxed{18} then \boxed{19}", "18", 1),
        (r"\boxed{...} \boxed{18}", "18", 1),
        ("\\boxed{18\n}", "18", 0),
        (r"\boxed{\$18 \text{ of } 20}", "18", 1),
        ("<answer>9 * 2 = 18</answer>", "18", 1),
        ("<answer>18", "18", 0),
        (r"\boxed{\frac{1}{2}}", "1", 1),
        (r"\boxed{-10}", "-10", 0),
        (r"\boxed{18.0}", "18", 1),
        ("18", "18", 0),
    ],
)
def test_published_gsm8k_by_hand(text, gold, right):
    """First box, first number, up to the first brace; a thousands separator ends a number; no gold
    below zero."""
    assert published.gsm8k_correct(text, gold) == right


def test_published_math_reads_the_whole_text_where_there_is_no_box():
    """So an answer in bare tags is wrong, unless the last box never closed."""
    assert (
        published.math_correct("<answer>18</answer>", "18") == 0.0
        and published.math_correct("18", "18") == 1.0
    )
    assert published.math_correct(r"\boxed{17 <answer>18</answer>", "18") == 1.0
    assert (
        published.math_correct(r"\boxed 18$ dollars", "18") == 1.0
        and published.math_correct(r"\fbox{18}", r"\fbox{18}") == 1.0
    )


# ---------------------------------------------------------------- training rewards


@pytest.mark.parametrize(
    "text, number, integer, strict, soft, tags",
    [
        (GOOD, 2.0, 0.5, 0.5, 0.5, 0.5),
        (f"\n {GOOD}\n\n", 2.0, 0.5, 0.5, 0.5, 0.5),
        (GOOD.replace("\n18\n", "\n$18\n"), 2.0, 0.0, 0.5, 0.5, 0.5),
        (GOOD.replace("\n18\n", "\n19\n"), 0.0, 0.5, 0.5, 0.5, 0.5),
        (GOOD.replace("\n18\n", "\neighteen\n"), 0.0, 0.0, 0.5, 0.5, 0.5),
        ("<reasoning>x</reasoning> <answer>18</answer>", 2.0, 0.5, 0.0, 0.5, 0.0),
        ("<reasoning>x</reasoning> so <answer>18</answer>", 2.0, 0.5, 0.0, 0.0, 0.0),
        ("x\n" + GOOD, 2.0, 0.5, 0.0, 0.0, 0.5),
        (GOOD + "\nBye", 2.0, 0.5, 0.0, 0.5, 0.497),
        (GOOD + "\n<answer>\n18\n</answer>", 2.0, 0.5, 0.5, 0.5, 0.25),
        (GOOD.removeprefix("<reasoning>"), 2.0, 0.5, 0.0, 0.0, 0.375),
        ("18", 0.0, 0.0, 0.0, 0.0, 0.0),
        ("", 0.0, 0.0, 0.0, 0.0, 0.0),
        ("<answer>\n18\n</answer>" + "x" * 900, 2.0, 0.5, 0.0, 0.0, 0.0),
    ],
)
def test_gsm8k_ingredients_by_hand(text, number, integer, strict, soft, tags):
    """Each ingredient alone, and their sum."""
    got = (
        answers.number_reward(text, "18"),
        answers.integer_reward(text),
        answers.strict_format(text),
        answers.soft_format(text),
        answers.tag_count(text),
    )
    assert got == pytest.approx((number, integer, strict, soft, tags))
    assert rewards.gsm8k_reward(text, "18") == pytest.approx(
        number + integer + strict + soft + tags
    )


ONE_LINE = "<reasoning>\nx\n</reasoning>\n<answer>\n18\n</answer>\n"


@pytest.mark.parametrize(
    "text, default, quirks",
    [
        (ONE_LINE, 4.0, 3.5),  # "." stops at a line break, so the soft format never sees both tags
        (
            ONE_LINE.replace("x", "x\ny"),
            4.0,
            3.0,
        ),  # nor does the strict format see two lines of reasoning
        (
            ONE_LINE[:-1],
            4.0,
            3.0 - 0.001 * (len(ONE_LINE) - 1) + 0.001,
        ),  # no line break at the end: the text is charged whole
        ("<reasoning>x</reasoning><answer>18</answer>", 3.0, 3.0),
        ("18", 0.0, 2.5),  # a text without tags is its own answer
        ("<answer>18.0</answer>", 2.0, 0.0),  # exact string
        ("<answer>-18</answer>", 0.5, 0.0),  # not str.isdigit
    ],
)
def test_gsm8k_quirks_are_where_they_are_said_to_be(text, default, quirks):
    assert rewards.gsm8k_reward(text, "18") == pytest.approx(default)
    assert published.gsm8k_reward(text, "18") == pytest.approx(quirks)


@pytest.mark.parametrize(
    "text, correct, quirk",
    [
        (r"<answer>\boxed{18}</answer>", 1.0, 0.75),
        ("<answer>18</answer>", 0.75, 0.75),
        (r"\boxed{18}", 0.5, 0.25),
        ("18", 0.25, 0.25),
        (r"\boxed{18}<answer>18</answer>", 0.75, 0.75),
        ("<answer>18", 0.25, 0.75),
        ("\boxed", 0.25, 0.25),
        ("<answer>boxed{18}</answer>", 0.75, 0.75),  # read, but not the format that is asked for
    ],
)
def test_math_format_by_hand(text, correct, quirk):
    """1.0 / 0.75 / 0.5 / 0.25 as the papers have it; the release looks for a backspace and pays
    0.75 or 0.25."""
    assert answers.boxed_format(text) == correct
    assert published.math_reward(text, "19") == quirk


@pytest.mark.parametrize(
    "text, form, d1",
    [
        (r"<answer>\boxed{18}</answer>", 1.0, 0.75),
        (r"<answer>\boxed{18}", 1.0, 0.75),
        ("<answer>18</answer>", 0.75, 0.75),
        (r"\boxed{18}<answer>18</answer>", 0.75, 0.75),
        (r"\boxed{18}", 0.5, 0.25),
        (r"\boxed{18", 0.25, 0.25),
        ("18", 0.25, 0.25),
    ],
)
def test_ta_grpo_ds_math_reward_by_hand(text, form, d1):
    """Its release repaired the box literal: a box in tags earns 1.0, a bare box 0.5."""
    assert published.timed_math_reward(text, "19") == form
    assert published.math_reward(text, "19") == d1
    right = 0.0 if text == r"\boxed{18" or text == "<answer>18</answer>" else 2.0
    assert published.timed_math_reward(text, "18") == form + right


@pytest.mark.parametrize(
    "text, timed, d1",
    [
        ("<answer>30+20+1</answer>", 1, 0),
        (r"\boxed{30+20+1}", 0, 1),
        (r"<answer>\boxed{30+20+1}</answer>", 0, 1),
        (r"<answer>30+20+1</answer>\boxed{30-20+1}", 1, 0),
        ("<answer>30+20+1 = 51</answer>", 1, 1),
        ("<answer>30-20+1</answer><answer>30+20+1</answer>", 0, 0),
        ("so 30+20+1 = 51", 1, 1),
        (r"<answer>30 + 20 \times 1</answer>", 0, 0),
    ],
)
def test_ta_grpo_ds_countdown_evaluator_by_hand(text, timed, d1):
    """It reads the first answer tags, else the whole text, and never a box; d1 a box, else the
    whole text."""
    assert published.timed_countdown_correct(text, [30, 20, 1], 51) == timed
    assert published.countdown_correct(text, [30, 20, 1], 51) == d1


@pytest.mark.parametrize("filler", [" " * 9000, "\n" * 9000, ""])
def test_published_countdown_reward_reads_any_length(filler):
    text = f"<answer>(55 - 53{filler if filler[:1] == ' ' else ''}) + 49{filler}</answer>"
    assert published.countdown_reward(text, NUMBERS, TARGET) == 1.0


HOSTILE = [
    "1",
    "1 ",
    "<answer>",
    "</answer>",
    "```",
    "<answer>``` ",
    "\\boxed{",
    "(",
    "-",
    "{",
    "\n",
]


def test_no_rule_runs_away_on_long_texts():
    """10 000 characters of any repeated piece, each rule: d1's five Sudoku patterns alone took ten
    seconds on 10 000 digits."""
    for name, (rule, *_) in [*ONE_TEXT.items(), *PUBLISHED.items()]:
        start = time.process_time()
        for piece in HOSTILE:
            rule((piece * 10_000)[:10_000])
        assert time.process_time() - start < 4, name


def test_math_reward_adds_the_answer_and_its_format():
    texts = [r"<answer>\boxed{0.5}</answer>", "<answer>0.5</answer>", r"\boxed{0.6}", "0.5"]
    assert rewards.math_reward(texts, ["1/2"] * 4) == [3.0, 2.75, 0.5, 0.25]
    assert [published.math_reward(t, "1/2") for t in texts] == [
        2.75,
        0.75,
        0.25,
        2.25,
    ]  # the bare text is its own answer


def test_per_row_reads_the_columns_it_names():
    reward = rewards.per_row(rewards.countdown_reward, "numbers", "target")
    texts = ["<answer>1+2</answer>", "<answer>2</answer>"]
    got = reward(["p", "p"], texts, numbers=[[1, 2], [1]], target=[3, 2], answer=["", ""])
    assert got == [1.0, 0.0] and reward.__name__ == "countdown_reward"


# ---------------------------------------------------------------- laws for any text

PIECES = [
    "<reasoning>",
    "</reasoning>",
    "<answer>",
    "</answer>",
    "\\boxed{",
    "}",
    "{",
    "\n",
    " ",
    "18",
    "-",
    "+",
    "*",
    "/",
    "**",
    "=",
    "(",
    ")",
    ".",
    ",",
    "\\frac",
    "\\text{ ",
    "\\sqrt",
    "$",
    "%",
    "49",
    "55",
    "53",
    "x",
    SOLUTION,
    "<|eot_id|>",
    "```",
]
texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
ONE_TEXT = {
    "gsm8k reward": (lambda t: rewards.gsm8k_reward(t, "18"), 0, 4),
    "number": (lambda t: answers.number_reward(t, "18"), 0, 2),
    "gsm8k": (lambda t: rewards.gsm8k_correct(t, "18"), 0, 1),
    "tags": (answers.tag_count, 0, 0.5),
    "box": (answers.boxed_format, 0.25, 1),
    "countdown": (lambda t: rewards.countdown_correct(t, NUMBERS, TARGET), 0, 1),
    "countdown reward": (lambda t: rewards.countdown_reward(t, NUMBERS, TARGET), 0, 1),
    "sudoku": (lambda t: rewards.sudoku_correct(t, PUZZLE, SOLUTION), 0, 1),
}
PUBLISHED = {
    "gsm8k": (lambda t: published.gsm8k_correct(t, "18"), 0, 1),
    "math": (lambda t: published.math_correct(t, "18"), 0, 1),
    "countdown": (lambda t: published.countdown_correct(t, NUMBERS, TARGET), 0, 1),
    "sudoku": (lambda t: published.sudoku_correct(t, PUZZLE, SOLUTION), 0, 1),
    "gsm8k reward": (lambda t: published.gsm8k_reward(t, "18"), -5, 4.001),
    "math reward": (lambda t: published.math_reward(t, "18"), 0.25, 2.75),
    "countdown reward": (lambda t: published.countdown_reward(t, NUMBERS, TARGET), 0, 1),
    "sudoku reward": (lambda t: published.sudoku_reward(t, PUZZLE, SOLUTION), 0, 1),
    "timed math": (lambda t: published.timed_math_reward(t, "18"), 0.25, 3),
    "timed countdown": (lambda t: published.timed_countdown_correct(t, NUMBERS, TARGET), 0, 1),
}


@settings(max_examples=400, deadline=None)
@given(texts, st.sampled_from([" ", "\n", "\n\n ", "\t"]), st.sampled_from([" ", "\n", " \n"]))
def test_rewards_are_bounded_and_blind_to_space_around(text, before, after):
    """Finite, within the stated bounds, never an exception, and white space before or after changes
    nothing."""
    for name, (rule, low, high) in ONE_TEXT.items():
        value = rule(text)
        assert math.isfinite(value) and low <= value <= high, name
        assert rule(before + text + after) == pytest.approx(value), name


@settings(max_examples=400, deadline=None)
@given(texts)
def test_published_rules_never_raise(text):
    """The release swallows its exceptions; ours may raise none on any text."""
    for name, (rule, low, high) in PUBLISHED.items():
        assert low <= rule(text) <= high, name


@settings(max_examples=300, deadline=None)
@given(texts)
def test_one_pass_over_the_braces_finds_the_last_box(text):
    """Against the plain definition: of the boxes that close, the one that begins last."""

    def closed(start):
        depth = 1
        for end in range(start, len(text)):
            depth += (text[end] == "{") - (text[end] == "}")
            if depth == 0:
                return text[start:end].strip()

    starts = [i + 7 for i in range(len(text)) if text.startswith("\\boxed{", i)]
    starts += [found.end() for found in re.finditer(r"\bboxed\{", text)]
    starts = sorted(set(starts))
    wanted = [closed(s) for s in starts if closed(s) is not None]
    assert rewards.last_boxed(text) == (wanted[-1] if wanted else None)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from("0123456789+-*/() ."), max_size=16).map("".join))
def test_published_arithmetic_is_pythons(text):
    """`_reaches` says what eval would, wherever eval is safe to ask."""
    if "**" in text:
        return
    try:
        value = eval(text.strip(), {"__builtins__": None}, {})  # noqa: S307  digits and signs only
        wanted = abs(value - 7) < 1e-5
    except (SyntaxError, TypeError, ArithmeticError):
        wanted = False
    assert published._reaches(text, 7) == wanted


def test_everything_is_json(tmp_path):
    """Scores go into saved generations: plain floats."""
    for rule, *_ in [*ONE_TEXT.values(), *PUBLISHED.values()]:
        assert type(json.loads(json.dumps(rule(GOOD)))) in (float, int)
