"""The exercises of *Start here*: intervals, and the answer of a habit."""

from __future__ import annotations

from .verdict import differs, judge, result_of


def exercise_1(answer) -> None:
    """The upper end of the Wilson interval of 0 of 10."""
    judge(
        "exercise 1",
        answer,
        [
            (lambda: isinstance(answer, tuple), "that is the whole interval: give its upper end"),
            (lambda: not differs(answer, 0.0, 1e-3), "zero of ten tries is no proof of zero"),
            (lambda: not differs(answer, 27.75, 0.1), "give a share between 0 and 1, not per cent"),
            (lambda: differs(answer, 0.2775, 1e-3), "evaluate wilson(0, 10)"),
        ],
    )


def exercise_2(answer) -> None:
    """The smallest even n whose interval at one half is at most 0.04 wide."""
    judge(
        "exercise 2",
        answer,
        [
            (
                lambda: 590 <= float(answer) <= 610,
                "the interval must be 0.04 wide in all, not 0.04 on each side",
            ),
            (
                lambda: float(answer) == 9604 or float(answer) > 9000,
                "that is for a width of 0.02: it asks for 0.04 in all",
            ),
            (
                lambda: float(answer) == 2401,
                "close: that is the textbook formula; Wilson's interval needs slightly fewer",
            ),
            (
                lambda: differs(answer, 2398),
                "find the smallest even n with high - low <= 0.04 by a loop",
            ),
        ],
    )


def exercise_3(by_habit) -> None:
    """The last digit of the sum of all digits of a chain."""
    judge(
        "exercise 3",
        result_of(by_habit, "8-3+4-6"),
        [
            (
                lambda: by_habit("8-3+4-6") == 3,
                "that is the right answer: the habit works each minus as a plus",
            ),
            (lambda: by_habit("8-3+4-6") == 21, "keep the last digit only: a clock has ten hours"),
            (lambda: int(by_habit("8-3+4-6")) != 1, "8+3+4+6 = 21, so 1"),
            (
                lambda: any(
                    int(by_habit(p)) != w for p, w in (("9-9-9", 7), ("1+2-3", 6), ("5-5", 0))
                ),
                "try 9-9-9, which gives 7",
            ),
        ],
    )
