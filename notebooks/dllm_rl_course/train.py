"""The exercises of *Train*: credit, dead groups, controls."""

from __future__ import annotations

import torch

from .verdict import differs, judge, result_of


def exercise_1(answer) -> None:
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


def exercise_2(dead_share) -> None:
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


def exercise_3(shuffled) -> None:
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
