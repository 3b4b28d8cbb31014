"""The checks of *Evaluate*: right answers, each named mistake, nothing yet."""

import itertools
import math

import pytest
from dllm_rl_course.evaluate import RUNS, VALUES, _over_choices, exercise_1, exercise_2, exercise_3
from exercise import said

from dllm_rl_lite.evaluation import pass_at_k


@pytest.mark.parametrize(
    "answer, word",
    [
        (pass_at_k(2, 4, 2), "right"),
        (0.83, "right"),
        (0.75, "plug-in"),
        (1 / 6, "take it from 1"),
        (0.5, "pass@1"),
        (2 / 3, "exactly one"),
        (83.3, "between 0 and 1"),
        (1.0, "six pairs"),
        (None, "todo"),
    ],
)
def test_ex_21_1(capsys, answer, word):
    """Unbiased pass@2."""
    assert word in said(capsys, exercise_1, answer)


def best_of(values, k):
    n = len(values)
    return sum(v * math.comb(i, k - 1) for i, v in enumerate(sorted(values))) / math.comb(n, k)


def replaced(values, k):
    n = len(values)
    return sum(v * (((i + 1) / n) ** k - (i / n) ** k) for i, v in enumerate(sorted(values)))


def test_the_best_of_k_is_pass_at_k_on_zeros_and_ones():
    for right in range(9):
        for k in range(1, 9):
            assert (
                abs(best_of([1.0] * right + [0.0] * (8 - right), k) - pass_at_k(right, 8, k))
                < 1e-12
            )
            assert abs(best_of(VALUES, min(k, 5)) - _over_choices(VALUES, min(k, 5))) < 1e-12


@pytest.mark.parametrize(
    "function, word",
    [
        (best_of, "right"),
        (0.4, "the function itself"),
        (None, "todo"),
        (lambda v, k: None, "todo"),
        (lambda v, k: max(v), "best of all N"),
        (lambda v, k: sum(v) / len(v), "that is the mean"),
        (lambda v, k: max(v[:k]), "first K"),
        (replaced, "with replacement"),
        (lambda v, k: 0.8 - best_of([0.8 - x for x in v], k), "worst of K"),
        (lambda v, k: best_of(sorted(set(v)), min(k, len(set(v)))), "still two"),
        (lambda v, k: best_of(v, k) + 0.01, "C(i - 1, K - 1)"),
        (lambda v, k: best_of(v, k) if k < 5 else None, "None"),
        (lambda v, k: best_of(v, k) if len(v) < 9 else 0.5, "pass@k"),
        (lambda v: v, "TypeError"),
    ],
)
def test_ex_21_2(capsys, function, word):
    """The best of K evaluations."""
    assert word in said(capsys, exercise_2, function)


def runs(text, m):
    words = text.lower().split()
    return {tuple(words[i : i + m]) for i in range(len(words) - m + 1)}


def contaminated(train, test, n, runs=runs):
    sizes = [min(n, len(t.split())) for t in test]
    return [
        m > 0 and any(runs(t, m) & runs(o, m) for o in train)
        for t, m in zip(test, sizes, strict=True)
    ]


def cased(text, m):
    return runs("".join(f"^{c}" if c.isupper() else c for c in text), m)


def as_sets(text, m):
    return {frozenset(r) for r in runs(text, m)}


def scattered(text, m):
    return set(itertools.combinations(text.lower().split(), m))


def letters(train, test, n):
    return [
        bool(t)
        and any(
            " ".join(r) in " ".join(o.lower().split())
            for o in train
            for r in runs(t, min(n, len(t.split())))
        )
        for t in test
    ]


def of_spaces(text, m):
    words = text.lower().split(" ")
    return {tuple(words[i : i + m]) for i in range(len(words) - m + 1)}


@pytest.mark.parametrize(
    "function, word",
    [
        (contaminated, "right"),
        (3, "the function itself"),
        (None, "todo"),
        (lambda *a: None, "todo"),
        (lambda train, test, n: [t in train for t in test], "copies are not all"),
        (
            lambda train, test, n: [i for i, c in enumerate(contaminated(train, test, n)) if c],
            "one True or False",
        ),
        (lambda train, test, n: [True for _ in test], "the first and the last"),
        (lambda train, test, n: contaminated(train, test, max(n, 4)), "copies are not all"),
        (lambda train, test, n: contaminated(train, test, n if n == 2 else n + 1), "n is 3"),
        (lambda train, test, n: contaminated(train, test, 2), "n is 4"),
        (
            lambda train, test, n: [
                c or not t for c, t in zip(contaminated(train, test, n), test, strict=True)
            ],
            "empty text",
        ),
        (lambda *a: contaminated(*a, runs=cased), "lower case"),
        (lambda *a: contaminated(*a, runs=as_sets), "same order"),
        (lambda *a: contaminated(*a, runs=scattered), "consecutive"),
        (lambda train, test, n: contaminated([" ".join(train)], test, n), "never crosses"),
        (letters, "not letters"),
        (
            lambda train, test, n: [
                bool(runs(t, n)) and c
                for t, c in zip(test, contaminated(train, test, n), strict=True)
            ],
            "fewer than n words",
        ),
        (lambda *a: contaminated(*a, runs=of_spaces), "white space"),
        (lambda t: t, "TypeError"),
    ],
)
def test_ex_21_3(capsys, function, word):
    """Runs of words shared with training."""
    assert word in said(capsys, exercise_3, function)


def test_every_case_of_the_check_is_what_it_says():
    for train, text, n, wanted, _ in RUNS:
        assert contaminated(train, [text], n) == [wanted]
