"""The exercises of *Evaluate*: pass@k, the best of several evaluations, contaminated texts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from .verdict import attempt, differs, judge, raised, result_of


def exercise_1(answer) -> None:
    """Unbiased pass@2 of 4 texts of which 2 are right."""
    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not differs(answer, 0.75),
                "that is the plug-in 1 - (1 - 1/2)^2: draw without replacement",
            ),
            (
                lambda: not differs(answer, 1 / 6),
                "that is the chance that both of them are wrong: take it from 1",
            ),
            (
                lambda: not differs(answer, 0.5),
                "that is pass@1: with two texts either may be the right one",
            ),
            (
                lambda: not differs(answer, 2 / 3),
                "that is the chance of exactly one right text: two are welcome too",
            ),
            (lambda: 1 < float(answer) <= 100, "give a share between 0 and 1"),
            (
                lambda: differs(answer, 5 / 6, 5e-3),
                "of the six pairs count those that hold a right text",
            ),
        ],
    )


VALUES = [0.4, 0.1, 0.3, 0.1, 0.7]


def _over_choices(values: list[float], k: int, of: Callable = max) -> float:
    choices = list(itertools.combinations(values, k))
    return sum(map(of, choices)) / len(choices)


def _with_replacement(values: list[float], k: int) -> float:
    n = len(values)
    return sum(v * ((i / n) ** k - ((i - 1) / n) ** k) for i, v in enumerate(sorted(values), 1))


def exercise_2(best_of) -> None:
    """best_of(values, K): mean over all choices of K values of the largest, without enumerating
    them."""
    ks = range(1, len(VALUES) + 1)
    outcome = attempt(lambda: [best_of(list(VALUES), k) for k in ks]) if callable(best_of) else None
    binary = attempt(best_of, [1.0] * 3 + [0.0] * 37, 10) if callable(best_of) else None

    def gives(rule: Callable) -> bool:
        return all(
            not differs(got, rule(VALUES, k), 1e-9) for got, k in zip(outcome, ks, strict=True)
        )

    judge(
        "exercise 2",
        result_of(best_of, list(VALUES), 2),
        [
            (lambda: not callable(best_of), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(v is None for v in outcome), "for some K it returns None"),
            (lambda: gives(lambda v, k: max(v)), "that is the best of all N, whatever K"),
            (
                lambda: gives(lambda v, k: sum(v) / len(v)),
                "that is the mean: one evaluation, not the best of K",
            ),
            (
                lambda: gives(lambda v, k: max(v[:k])),
                "that is the best of the first K: average over all choices",
            ),
            (
                lambda: gives(_with_replacement),
                "that draws with replacement: an evaluation is in the choice once",
            ),
            (
                lambda: gives(lambda v, k: _over_choices(v, k, min)),
                "that is the worst of K: mind which way you sorted",
            ),
            (
                lambda: gives(lambda v, k: _over_choices(sorted(set(v)), min(k, len(set(v))))),
                "two evaluations may have the same value and are still two",
            ),
            (
                lambda: not gives(_over_choices),
                "the i-th smallest (i from 1) is the best of K in C(i - 1, K - 1) of the C(N, K) "
                "choices",
            ),
            (lambda: raised(binary), ""),
            (
                lambda: differs(binary, 1 - math.comb(37, 10) / math.comb(40, 10), 1e-9),
                "on zeros and ones it must be pass@k, also for 40 values and K = 10",
            ),
        ],
    )


RUNS = (  # train, a text, n, is it contaminated?, what to say otherwise
    (
        ["Ann has three red apples"],
        "Dora has three red pears",
        3,
        True,
        "'has three red' stands in both, and n is 3",
    ),
    (
        ["Ann has three red apples"],
        "Dora has three red pears",
        4,
        False,
        "only three words in a row are shared, and n is 4",
    ),
    (["Ann has three red apples"], "", 2, False, "an empty text shares nothing"),
    (
        ["Ann has three red apples"],
        "THREE RED pears",
        2,
        True,
        "'THREE RED' is 'three red': compare in lower case",
    ),
    (
        ["Ann has three red apples"],
        "apples red three",
        2,
        False,
        "the words must stand in the same order",
    ),
    (
        ["Ann has three red apples"],
        "Ann has two red apples or three",
        4,
        False,
        "the n words must be consecutive",
    ),
    (
        ["Bob starts two", "games with Carl"],
        "starts two games",
        3,
        False,
        "a run never crosses from one training text into the next",
    ),
    (
        ["Bob starts two"],
        "arts two",
        2,
        False,
        "'arts two' is in no training text: compare words, not letters",
    ),
    (
        ["Bob starts two"],
        "starts two",
        3,
        True,
        "a text of fewer than n words is searched as a whole",
    ),
    (
        ["how  many\nare left"],
        "many are left",
        3,
        True,
        "white space of any kind and length separates words",
    ),
)


def exercise_3(contaminated) -> None:
    """contaminated(train, test, n): which texts share a run of n words with a training text."""
    train, test = (
        ["Ann has three red apples", "Bob starts two"],
        ["two red apples", "no", "Bob starts two"],
    )
    outcome = (
        attempt(lambda: [contaminated(list(train), [text], n)[0] for train, text, n, _, _ in RUNS])
        if callable(contaminated)
        else None
    )
    whole = (
        attempt(lambda: list(contaminated(list(train), list(test), 2)))
        if callable(contaminated)
        else None
    )
    judge(
        "exercise 3",
        result_of(contaminated, list(train), list(test), 2),
        [
            (lambda: not callable(contaminated), "pass the function itself, not what it returns"),
            (lambda: raised(whole), ""),
            (
                lambda: (
                    len(whole) != 3
                    or any(v not in (True, False) for v in whole)
                    or whole in ([0, 1, 1], [0, 0, 1])
                ),
                "one True or False for each text of test, and copies are not all: 'red apples' is "
                "a run of two",
            ),
            (
                lambda: whole != [True, False, True],
                "of 'two red apples', 'no' and 'Bob starts two' the first and the last share two "
                "words with a training text",
            ),
            (lambda: raised(outcome), ""),
            *(
                (lambda got=i, right=wanted: outcome[got] != right, message)
                for i, (_, _, _, wanted, message) in enumerate(RUNS)
            ),
        ],
    )
