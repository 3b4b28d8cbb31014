"""The exercises of chapters 00 and 20: intervals, credit, controls."""

from __future__ import annotations

import torch

from .verdict import differs, judge, result_of


def ex_20_1(answer) -> None:
    """The advantage of the lone failure among five successes."""
    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not differs(answer, 5 / 6),
                "the sign: a failure earns less than the mean of its group",
            ),
            (lambda: not differs(answer, -1), "subtract the mean of all six, the failure included"),
            (lambda: differs(answer, -5 / 6, 1e-2), "reward minus the mean reward of the group"),
        ],
    )


def ex_20_2(dead_share) -> None:
    """The chance that all siblings are right or all are wrong."""
    judge(
        "exercise 2",
        result_of(dead_share, 0.5, 2),
        [
            (lambda: not differs(dead_share(0.3, 4), 0.3**4), "all wrong is dead too"),
            (lambda: not differs(dead_share(0.3, 4), 0.7**4), "all right is dead too"),
            (
                lambda: not differs(dead_share(0.3, 4), 1 - 0.3**4 - 0.7**4),
                "that is the chance of a mixed group",
            ),
            (
                lambda: differs(dead_share(0.3, 4), 0.3**4 + 0.7**4),
                "add the chance of all right and that of all wrong",
            ),
            (
                lambda: differs(dead_share(0.0, 8), 1.0),
                "a prompt that is never solved is always dead",
            ),
        ],
    )


def ex_20_3(shuffled) -> None:
    """Rewards permuted within each group, by the caller's generator."""
    rewards = torch.arange(400.0).view(50, 8)  # all different, so that a permutation shows

    def call(seed: int) -> torch.Tensor:
        return shuffled(rewards.clone(), torch.Generator().manual_seed(seed))

    judge(
        "exercise 3",
        result_of(shuffled, rewards.clone(), torch.Generator()),
        [
            (lambda: call(0).shape != rewards.shape, "the shape must stay (B, G)"),
            (
                lambda: not torch.equal(call(0).flatten().sort().values, rewards.flatten()),
                "no reward may be lost or repeated",
            ),
            (
                lambda: not torch.equal(call(0).sort(1).values, rewards),
                "permute within each group, not across groups",
            ),
            (lambda: not torch.equal(call(0), call(0)), "take all chance from the generator"),
            (lambda: torch.equal(call(0), rewards), "the order did not change"),
            (
                lambda: len({tuple((row - row.min()).tolist()) for row in call(0)}) == 1,
                "each group needs a permutation of its own",
            ),
        ],
    )


def ex_00_1(answer) -> None:
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


def ex_00_2(answer) -> None:
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


def ex_00_3(by_habit) -> None:
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
