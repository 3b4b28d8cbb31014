"""Advantages among siblings: how do the rewards of a group become one number per text?"""

from __future__ import annotations

import torch
from torch import Tensor


def group_mean(rewards: Tensor) -> Tensor:
    """Reward minus the mean of its group, without division by the spread.

    Args:
        rewards: (B, G) float32.
    Returns:
        (B, G) float32; each row sums to zero.
    Raises:
        ValueError: for a group of less than two, or a reward that is not finite.
    Source: d1, AGRPO, AG-GRPO (all without std).
    Error: a sibling is part of its own baseline, so the expected gradient is (G - 1) / G times the
    true one, whatever the prompt: `tests/objectives/test_objectives.py`.
    """
    siblings(rewards)
    # The mean of equal float32 rewards is exact in float64: a dead group gets exactly zero.
    exact = rewards.double()
    return (exact - exact.mean(1, keepdim=True)).to(rewards.dtype)


def leave_one_out(rewards: Tensor) -> Tensor:
    """Reward minus the mean of the other siblings: G / (G - 1) times `group_mean`.

    Args:
        rewards: (B, G) float32.
    Returns:
        (B, G) float32.
    Raises:
        ValueError: as `group_mean` does.
    Source: RLOO (arXiv 2402.14740); DiffuCoder, GDSD.
    Error: none; the baseline does not depend on the sibling it is subtracted from, so the expected
    gradient is the true one: `tests/objectives/test_objectives.py`.
    """
    g = siblings(rewards)
    return group_mean(rewards) * (g / (g - 1))


def z_score(rewards: Tensor, eps: float = 1e-4) -> Tensor:
    """`group_mean` divided by the group's standard deviation (with ddof=1, as in TRL) plus eps.

    Args:
        rewards: (B, G) float32.
        eps: > 0, in units of reward; keeps a dead group at 0 / eps.
    Returns:
        (B, G) float32; zero where all rewards of a group are equal.
    Source: GRPO (arXiv 2402.03300).
    Error: biased. The gradient of a prompt is weighted by the inverse of its siblings' spread, so
    prompts that are nearly always or hardly ever solved count more than their share of the expected
    reward: `tests/objectives/test_objectives.py`.
    """
    siblings(rewards)
    if not eps > 0:
        raise ValueError(f"eps must be above 0, or a dead group divides zero by zero, got {eps}")
    centred = group_mean(rewards)
    return centred / (centred.std(1, keepdim=True) + eps)


def siblings(rewards: Tensor, texts: int | None = None) -> int:
    """G of (B, G) rewards; ValueError if there is no other sibling to compare with, or if there is
    another number of texts."""
    check_rewards(rewards)
    if rewards.shape[1] < 2:
        raise ValueError(
            "a group of 1 has no siblings to compare with: sample at least 2 texts per prompt"
        )
    if texts is not None and texts != rewards.numel():
        raise ValueError(f"{rewards.numel()} rewards need as many texts, got {texts}")
    return rewards.shape[1]


def check_rewards(rewards: Tensor) -> None:
    """Raise ValueError unless rewards are a non-empty, finite (B, G) tensor."""
    if rewards.ndim != 2 or 0 in rewards.shape:
        raise ValueError(
            f"rewards must be (groups, siblings) and not empty, got shape {tuple(rewards.shape)}"
        )
    if not torch.isfinite(rewards).all():
        b, g = (~torch.isfinite(rewards)).nonzero()[0].tolist()
        raise ValueError(f"reward {rewards[b, g].item()} of sibling {g} in group {b} is not finite")


def exponential_weights(
    rewards: Tensor, psi: float = 1.0, over: str = "group", negative: bool = True
) -> Tensor:
    """wd1's advantages, the difference of two softmaxes: softmax(psi A) - softmax(-psi A), or w+ -
    w-, where A is `group_mean`.

    Args:
        rewards: (B, G) float32.
        psi: > 0, inverse temperature, in 1 / units of reward.
        over: "group": each group's weights sum to 1; "batch": the softmax runs over all rows, as in
            the release, where that is right only because a device holds one group. It is multiplied
            by B, so that both have the same scale.
        negative: False drops w- (the paper's ablation): every text is then made likelier, the
            better ones more.
    Returns:
        (B, G) float32; with `negative` it sums to zero over each group (or the batch) and is zero
        where all rewards are equal.
    Source: wd1 (arXiv 2507.08838).
    Error: biased; the gradient is that of neither the reward nor its logarithm, but both terms
    raise better texts over worse ones: `tests/advantages/test_advantages.py`.
    """
    siblings(rewards)
    if not psi > 0 or over not in ("group", "batch"):
        raise ValueError(f"need psi > 0 and over 'group' or 'batch', got {psi} and {over!r}")
    x = psi * group_mean(rewards)
    scale = 1
    if over == "batch":
        x = x.flatten()
        scale = len(rewards)
    weights = x.softmax(-1)
    if negative:
        weights = weights - (-x).softmax(-1)
    return (weights * scale).view_as(rewards)


BASELINES = ("shared", "free apart", "guided apart", "apart")


def guided_mean(rewards: Tensor, guided: int = 0, baseline: str = "shared") -> Tensor:
    """AG-GRPO's advantages: reward minus a mean, the last `guided` siblings of each group having
    seen the answer.

    Args:
        rewards: (B, G) float32, answer-free siblings first.
        guided: 0..G.
        baseline: "shared": everybody against the mean of all (the paper's); "free apart":
            answer-free rows against their own mean, guided ones against that of all; "guided
            apart": the other way round; "apart": each kind against its own.
    Returns:
        (B, G) float32; zero in sum over each group with "shared" and over each kind with "apart".
    Source: AG-GRPO's release (default, front_seperate, back_seperate, seperate).
    Error: with "shared" the mean advantage of the answer-free rows is (their mean - the guided
    mean) * share guided: negative while guided rows are better, however good the answer-free ones
    are: `tests/sampler/test_guided.py`.
    """
    if baseline not in BASELINES or not 0 <= guided <= rewards.shape[-1]:
        raise ValueError(
            f"need baseline one of {BASELINES}, guided in 0..{rewards.shape[-1]}; "
            f"got {baseline!r}, {guided}"
        )
    advantage = group_mean(rewards)
    free = rewards.shape[1] - guided  # answer-free siblings
    if free and baseline in ("free apart", "apart"):
        advantage[:, :free] = group_mean(rewards[:, :free]) if free > 1 else 0
    if guided and baseline in ("guided apart", "apart"):
        advantage[:, free:] = group_mean(rewards[:, free:]) if guided > 1 else 0
    return advantage
