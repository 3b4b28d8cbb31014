"""Credit: how do the rewards of a group of siblings become one number per text?"""

from __future__ import annotations

import torch
from torch import Tensor


def group_mean(rewards: Tensor) -> Tensor:
    """Reward minus the mean of its group: (B, G) float32 -> (B, G), each row sums to zero. No division by the spread.

    Raises ValueError for an empty group or a reward that is not finite. Source: d1, AGRPO, AG-GRPO (all without std).
    Error: a sibling is part of its own baseline, so the expected gradient is (G - 1) / G times the true one, whatever
    the prompt: `tests/test_objectives.py`.
    """
    check_rewards(rewards)
    exact = rewards.double()  # the mean of equal float32 rewards is exact in float64: a dead group gets exactly zero
    return (exact - exact.mean(1, keepdim=True)).to(rewards.dtype)


def leave_one_out(rewards: Tensor) -> Tensor:
    """Reward minus the mean of the other siblings: (B, G) float32 -> (B, G); G / (G - 1) times `group_mean`.

    Raises ValueError as `group_mean` does, and for groups of one. Source: RLOO (arXiv 2402.14740); DiffuCoder, GDSD.
    Error: none; the baseline does not depend on the sibling it is subtracted from, so the expected gradient is the true
    one: `tests/test_objectives.py`.
    """
    g = siblings(rewards)
    return group_mean(rewards) * (g / (g - 1))


def z_score(rewards: Tensor, eps: float = 1e-4) -> Tensor:
    """`group_mean` divided by the group's standard deviation plus eps: (B, G) float32 -> (B, G); equal rewards give 0.

    The standard deviation has G - 1 below the line, as in TRL. eps > 0, in units of reward, keeps a dead group at 0 / eps.
    Raises ValueError as `leave_one_out` does, and for eps <= 0. Source: GRPO (arXiv 2402.03300).
    Error: biased. The gradient of a prompt is weighted by the inverse of its siblings' spread, so prompts that are nearly
    always or hardly ever solved count more than their share of the expected reward: `tests/test_objectives.py`.
    """
    siblings(rewards)
    if not eps > 0:
        raise ValueError(f"eps must be above 0, or a dead group divides zero by zero, got {eps}")
    centred = group_mean(rewards)
    return centred / (centred.std(1, keepdim=True) + eps)


def siblings(rewards: Tensor) -> int:
    """G of (B, G) rewards; ValueError where there is no other sibling to compare with."""
    check_rewards(rewards)
    if rewards.shape[1] < 2:
        raise ValueError("a group of 1 has no siblings to compare with: sample at least 2 texts a prompt")
    return rewards.shape[1]


def check_rewards(rewards: Tensor) -> None:
    """Raise ValueError unless rewards are a non-empty, finite (B, G) tensor."""
    if rewards.ndim != 2 or 0 in rewards.shape:
        raise ValueError(f"rewards must be (groups, siblings) and not empty, got shape {tuple(rewards.shape)}")
    if not torch.isfinite(rewards).all():
        b, g = (~torch.isfinite(rewards)).nonzero()[0].tolist()
        raise ValueError(f"reward {rewards[b, g].item()} of sibling {g} in group {b} is not finite")
