"""Advantages by unmasking time (TA-GRPO-d): who was right early, and which tokens were written
early?"""

from __future__ import annotations

import torch
from torch import Tensor

from ..sampler import Rollout
from .group import check_rewards, siblings

FORMS = ("factor", "sum")


def area_under_rewards(rewards: Tensor, n_forwards: Tensor, floor: int = 0) -> Tensor:
    """Sum of the rewards of the partial text over the steps, up to the last step of the slowest
    sibling.

    AUC_i = sum over k = 1..K* of r_i at step min(k, K_i), K* the largest K_i of the group: a
    finished row holds its last reward. High for a text that is right, and higher if it was so
    early.

    Args:
        rewards: (B, G, T) float32, after every step; entries from K_i on must hold the last reward
            (`verify` does).
        n_forwards: (B, G) int64, K_i, in 1..T.
        floor: >= 0, the first so many steps do not count: nothing is gained by being faster.
    Returns:
        (B, G) float64, in units of reward times steps.
    Source: TA-GRPO-d's release.
    """
    if rewards.ndim != 3 or n_forwards.shape != rewards.shape[:2]:
        raise ValueError(
            "need rewards (B, G, T) and n_forwards (B, G), got "
            f"{tuple(rewards.shape)} and {tuple(n_forwards.shape)}"
        )
    if int(n_forwards.min()) < 1 or int(n_forwards.max()) > rewards.shape[2]:
        raise ValueError(
            f"n_forwards must lie in 1..{rewards.shape[2]}, the steps that were rewarded"
        )
    longest = n_forwards.max(1, keepdim=True).values
    steps = torch.arange(rewards.shape[2], device=rewards.device)
    counted = (steps >= floor) & (steps < longest[..., None])
    return (rewards.double() * counted).sum(-1)


def speed_score(rewards: Tensor, n_forwards: Tensor, eps: float = 1e-8, floor: int = 0) -> Tensor:
    """z: a sibling's area under its rewards, minus the group's mean, over its standard deviation
    (with ddof=1).

    Args:
        rewards, n_forwards, floor: as in `area_under_rewards`.
        eps: > 0, added to the deviation.
    Returns:
        (B, G) float32, exactly zero where all are equal; |z| is at most (G - 1) / sqrt(G).
    """
    area = area_under_rewards(rewards, n_forwards, floor)
    siblings(area)
    z = area - area.mean(1, keepdim=True)
    # A mean of equal numbers may miss them by round-off.
    tied = (area == area[:, :1]).all(1, keepdim=True)
    return torch.where(tied, 0.0, z / (z.std(1, keepdim=True) + eps)).float()


def unmasking_weight(rollout: Rollout) -> Tensor:
    """m: the share of the canvas that was still masked right after a token's step: (N, L) float32
    in [0, 1).

    Early tokens are near 1, those of the last step 0; anchored ones count as unmasked before the
    first.
    """
    step = rollout.unmask_step
    later = torch.stack(
        [(step > t).sum(1) for t in range(-1, int(step.max()) + 1)], 1
    )  # (N, T + 1), from step -1
    return later.gather(1, step + 1) / step.shape[1]


def timed_credit(
    advantage: Tensor,
    rewards: Tensor,
    rollout: Rollout,
    delta: float = 1.0,
    form: str = "factor",
    clamp: bool = False,
    right_only: bool = False,
    balanced: bool = False,
    floor: int = 0,
) -> Tensor:
    """TA-GRPO-d's advantage of each token: A (1 + delta z m).

    Args:
        advantage: (B, G) float32, of the final rewards.
        rewards: (B, G, T) float32, after every step.
        rollout: N = B G rows.
        delta: >= 0, weight of the timing.
        form: "factor", or "sum": A + delta z m, which has a signal where all final rewards are
            equal. Our choice, off by default.
        clamp: with "factor" and without `balanced`, keep the factor at 0 or more: otherwise, at
            delta = 1, the early tokens of a lone failure that is much slower than its siblings are
            rewarded. Our choice, off by default.
        right_only: time only the completions whose final reward is the highest of their group. Our
            choice, off by default.
        balanced: take from the timing term its mean over all tokens of the group, so that timing
            makes no token likelier by itself. Our choice, off by default.
        floor: >= 0, the first so many steps earn nothing. Our choice, 0 by default.
    Returns:
        (N, L) float32.
    Source: TA-GRPO-d (ACL 2026) and its release, delta 1 (Countdown, Sudoku) or 0.5 (MATH, code).
    Error: biased for the expected reward: a sibling's z depends on its own tokens. No term credits
    the choice of positions: what is learned is a distribution of tokens whose confidence drives the
    gate.
    """
    clamp_fits = form == "factor" and not balanced
    if delta < 0 or floor < 0 or form not in FORMS or (clamp and not clamp_fits):
        raise ValueError(
            f"need delta >= 0, floor >= 0, form one of {FORMS}, clamp only with 'factor' and "
            f"without balanced; got {delta}, {floor}, {form!r}, {clamp}"
        )
    check_rewards(advantage)
    n_forwards = rollout.n_forwards.view(advantage.shape).to(rewards.device)
    z = speed_score(rewards, n_forwards, floor=floor)
    if right_only:
        final = rewards[..., -1]
        z = torch.where(final == final.amax(1, keepdim=True), z, 0.0)
    a = advantage.flatten()[:, None]
    timing = delta * z.flatten()[:, None] * unmasking_weight(rollout).to(z.device)
    if balanced:
        term = timing if form == "sum" else a * timing
        by_group = term.view(*advantage.shape, -1)
        return a + (by_group - by_group.mean((1, 2), keepdim=True)).flatten(0, 1)
    if form == "sum":
        return a + timing
    factor = 1 + timing
    if clamp:
        factor = factor.clamp(min=0)
    return a * factor
