"""Credit: how do the rewards of a group of siblings become one number per text?"""

from __future__ import annotations

import torch
from torch import Tensor


def group_mean(rewards: Tensor) -> Tensor:
    """Reward minus the mean of its group: (B, G) float32 -> (B, G), each row sums to zero. No division by the spread.

    Raises ValueError for an empty group or a reward that is not finite. Source: d1, AGRPO, AG-GRPO (all without std).
    """
    check_rewards(rewards)
    exact = rewards.double()  # the mean of equal float32 rewards is exact in float64: a dead group gets exactly zero
    return (exact - exact.mean(1, keepdim=True)).to(rewards.dtype)


def check_rewards(rewards: Tensor) -> None:
    """Raise ValueError unless rewards are a non-empty, finite (B, G) tensor."""
    if rewards.ndim != 2 or 0 in rewards.shape:
        raise ValueError(f"rewards must be (groups, siblings) and not empty, got shape {tuple(rewards.shape)}")
    if not torch.isfinite(rewards).all():
        b, g = (~torch.isfinite(rewards)).nonzero()[0].tolist()
        raise ValueError(f"reward {rewards[b, g].item()} of sibling {g} in group {b} is not finite")
