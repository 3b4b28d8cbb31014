"""Rewards that look at what a completion cost, or at how common its form is: what counts changes as
training goes on, or with how well a group does already."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from ..sampler import Rollout
from .group import siblings


def is_worked(completion: str) -> bool:
    """Does anything but tags and white space stand before the answer?"""
    before = completion.partition("<answer>")[0]
    return re.sub(r"</?reasoning>", "", before).strip() != ""


def rare_format(
    rewards: Tensor, completions: list[str], step: int, over: int = 20, strength: float = 0.5
) -> Tensor:
    """Ada-GRPO's rewards: a completion whose format is rare among its siblings earns more, less so
    from step to step.

    r (1 + strength (G / F - 1) (1 + cos(pi t / over))), F the siblings of the completion's own
    format. A format is worked or bare (`is_worked`).

    Args:
        rewards: (B, G) float32.
        completions: the B * G completions, group by group.
        step: t >= 0, of the run.
        over: >= 1, the step from which on rewards are as they are.
        strength: >= 0.
    Returns:
        (B, G) float32, to be turned into advantages; `rewards` from step `over` on, and in a group
        of one format.
    Source: Ada-GRPO (ARM, arXiv 2505.20258) and its release; its formats are four lengths of
    reasoning.
    Error: biased until step `over`: of two completions that are equally right, the one of the rarer
    format counts more.
    """
    group = siblings(rewards, len(completions))
    if over < 1 or strength < 0:
        raise ValueError(
            f"need shape.over of at least 1 and shape.strength of at least 0, got {over} and "
            f"{strength}"
        )
    if step >= over:
        return rewards
    worked = torch.tensor([is_worked(text) for text in completions], device=rewards.device)
    worked = worked.view(rewards.shape)
    same = (worked[:, :, None] == worked[:, None, :]).sum(2)
    fading = 1 + math.cos(math.pi * step / over)
    return rewards * (1 + strength * (group / same - 1) * fading)


def cheaper_right(
    rewards: Tensor,
    rollout: Rollout,
    share: float = 0.2,
    weight: float = 0.6,
    best: float = 1.0,
) -> Tensor:
    """GRPO-lambda's rewards: in the groups that are right most often, a right completion earns less
    the more forward passes it took; all other rewards are as they are.

    A right completion earns r (1 - weight sigmoid((n - m) / s)), n its passes, m and s their mean
    and standard deviation (ddof=0) over the right completions of its group.

    Args:
        rewards: (B, G) float32, of the whole batch; meant for right or wrong, 1 or 0.
        rollout: N = B G rows.
        share: in [0, 1], of the groups; at least one, unless it is 0. At 1 passes always cost.
        weight: in [0, 1], the largest share of its reward that a right completion can lose.
        best: the reward from which on a completion is right.
    Returns:
        (B, G) float32, to be turned into advantages; `rewards` with share 0 or weight 0.
    Source: GRPO-lambda (arXiv 2505.18086), from a summary; the weight is that of a port, which also
    pays wrong completions of the best groups: not so here.
    Error: biased for the expected reward, in the groups that it changes.
    """
    siblings(rewards)
    if not 0 <= share <= 1 or not 0 <= weight <= 1:
        raise ValueError(
            f"shape.share and shape.weight must be in [0, 1], got {share} and {weight}"
        )
    right = rewards >= best
    changed = int(share * len(rewards))
    if share > 0:
        changed = max(changed, 1)
    order = right.sum(1).argsort(descending=True, stable=True)
    is_changed = torch.zeros(len(rewards), 1, dtype=torch.bool, device=rewards.device)
    is_changed[order[:changed]] = True

    passes = rollout.n_forwards.view(rewards.shape).to(rewards.device).double()
    count = right.sum(1, keepdim=True).clamp(min=1)
    mean = (passes * right).sum(1, keepdim=True) / count
    square = ((passes - mean) ** 2 * right).sum(1, keepdim=True) / count
    slower = (passes - mean) / square.sqrt().clamp(min=1e-6)
    factor = 1 - weight * slower.sigmoid()
    return torch.where(right & is_changed, rewards * factor.to(rewards), rewards)


def budget_of(step: int, first: float, decay: float, every: int) -> float:
    """The passes that a completion may take at a step: max(1, first decay^(step // every))."""
    return max(1.0, first * decay ** (step // every))


def within_budget(
    rewards: Tensor,
    rollout: Rollout,
    step: int,
    first: int = 0,
    decay: float = 0.8,
    every: int = 5,
    right: float = 1.0,
    cheap: float = 0.3,
) -> Tensor:
    """Train Long, Think Short, in our style: a completion earns more while it keeps to a budget of
    forward passes, which shrinks from step to step.

    right * r + cheap * score; the score is 1 up to the budget, and falls to 0 at twice the budget.

    Args:
        rewards: (B, G) float32.
        rollout: N = B G rows.
        step: of the run.
        first: the budget at step 0, in passes; 0: one for each token of the canvas.
        decay: in (0, 1], of the budget, `every` so many steps; 1: a fixed budget.
        every: >= 1, steps.
        right: >= 0, weight of the reward.
        cheap: >= 0, weight of the score, for right and wrong completions alike.
    Returns:
        (B, G) float32, to be turned into advantages; `rewards` with right 1 and cheap 0.
    Source: reconstructed after Train Long, Think Short (arXiv 2508.08940): the budget is the
    paper's, in tokens; its score peaks at the budget, and its exact shape was not found. Here fewer
    passes are never worse.
    Error: biased for the expected reward.
    """
    siblings(rewards)
    if first < 0 or not 0 < decay <= 1 or every < 1 or right < 0 or cheap < 0:
        raise ValueError(
            "need shape.first, right and cheap of at least 0, decay in (0, 1] and every of at "
            f"least 1, got {first}, {right}, {cheap}, {decay} and {every}"
        )
    budget = budget_of(step, first or rollout.tokens.shape[1], decay, every)
    passes = rollout.n_forwards.view(rewards.shape).to(rewards)
    score = (2 - passes / budget).clamp(0, 1)
    return right * rewards + cheap * score
