"""The exercises of *Other bodies*: where a text ends, what stands after it, and the gaps of an
order."""

from __future__ import annotations

import itertools

from .verdict import attempt, differs, judge, raised, result_of


def exercise_1(answer) -> None:
    """(P(end) at positions 1, 2 and 3 of the blank canvas, letters that greedy decoding writes)."""

    def is_(place: int, value: float) -> bool:
        return not differs(answer[place], value, 1e-3)

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 4,
                "give four numbers: (P(end) at 1, at 2, at 3, letters written)",
            ),
            (
                lambda: any(not 0 <= float(value) <= 1 for value in answer[:3]),
                "probabilities lie between 0 and 1: write 0.25, not 25",
            ),
            (
                lambda: is_(1, 0.3),
                "0.3 is the share of texts of two letters; shorter texts have an end there too",
            ),
            (lambda: not is_(0, 0.2), "position 1: which texts have ended by then?"),
            (lambda: not is_(1, 0.5), "position 2: all texts of one or two letters have ended"),
            (lambda: not is_(2, 1), "position 3: no text has more than three letters"),
            (
                lambda: is_(3, 3),
                "3 is the likeliest length; follow the surest blank, pass after pass",
            ),
            (
                lambda: is_(3, 2),
                "one pass more: with an end at 2, P(end at 1) is 0.2 / 0.5, a letter 0.6 * 0.6",
            ),
            (
                lambda: not is_(3, 1),
                "a whole number: letters before the first end token, at the end of decoding",
            ),
        ],
    )


def _filled(text: list, length: int, end, cycle: list) -> list:
    """The right answer of exercise 2."""
    tail = [end, *itertools.islice(itertools.cycle(cycle or [end]), length)]
    return [*text, *tail][:length]


def exercise_2(fill_up) -> None:
    """fill_up(text, length, end, cycle) -> the canvas, a list of `length` tokens."""
    cases = []
    for text in ([7], [7, 8, 9], [7, 8, 9, 7, 8, 9]):
        for cycle in ([], [1], [1, 2, 3]):
            cases.append((text, 9, 0, cycle))
    cases.append(([7, 8], 2, 0, [1, 2]))
    outcomes = [
        attempt(fill_up, list(text), length, end, list(cycle)) for text, length, end, cycle in cases
    ]

    def is_(wanted_of) -> bool:
        for got, case in zip(outcomes, cases, strict=True):
            if raised(got) or list(got) != wanted_of(*case):
                return False
        return True

    def by_place(text, length, end, cycle):
        """The cycle counted from the first position of the canvas."""
        canvas = [*text, end][:length]
        for place in range(len(canvas), length):
            canvas.append(cycle[place % len(cycle)] if cycle else end)
        return canvas

    def without_end(text, length, end, cycle):
        tail = list(itertools.islice(itertools.cycle(cycle or [end]), length))
        return [*text, *tail][:length]

    judge(
        "exercise 2",
        result_of(fill_up, [7], 9, 0, [1, 2, 3]),
        [
            (lambda: not callable(fill_up), "pass the function itself, not what it returns"),
            (
                lambda: isinstance(outcomes[0], (ZeroDivisionError, IndexError)),
                "an empty cycle means end tokens to the last position",
            ),
            (lambda: is_(by_place), "the cycle begins anew after each text, not with the canvas"),
            (lambda: is_(without_end), "the first token after the text is the end token"),
            (
                lambda: len(outcomes[-1]) != 2,
                "a text that fills the canvas has no room for an end token: cut at `length`",
            ),
            (
                lambda: not is_(_filled),
                "text, end, then the cycle over and over, `length` tokens in all",
            ),
        ],
    )


def exercise_3(gaps) -> None:
    """gaps(order) -> for each insertion the number of the gap; order: the places of the tokens in
    the finished text, first inserted first."""
    orders = [list(order) for order in itertools.permutations(range(4))]
    orders += [[2], [0, 1], [1, 0]]
    outcomes = [attempt(gaps, list(order)) for order in orders]

    def smaller(order: list[int]) -> list[int]:
        return [sum(other < place for other in order[:i]) for i, place in enumerate(order)]

    def is_(wanted_of) -> bool:
        for got, order in zip(outcomes, orders, strict=True):
            if raised(got) or list(got) != wanted_of(order):
                return False
        return True

    judge(
        "exercise 3",
        result_of(gaps, [2, 0, 1]),
        [
            (lambda: not callable(gaps), "pass the function itself, not what it returns"),
            (
                lambda: is_(lambda order: order),
                "that is the place in the finished text; many tokens are not there yet",
            ),
            (
                lambda: is_(
                    lambda order: [
                        sum(other > place for other in order[:i]) for i, place in enumerate(order)
                    ]
                ),
                "count the tokens on the left, not those on the right",
            ),
            (
                lambda: not is_(smaller),
                "how many of the tokens inserted before it have a smaller place?",
            ),
        ],
    )
