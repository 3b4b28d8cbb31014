"""Which groups and which rows are learnt from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from ..tasks import Example, task_counts


def mixed(rewards: Tensor) -> Tensor:
    """DAPO's dynamic sampling: the groups whose rewards are not all equal.

    Args:
        rewards: (B, G).
    Returns:
        (B,) bool. Of 0/1 rewards that are right with p, a group is kept with chance
        1 - p^G - (1 - p)^G, so as many are drawn for one kept as the inverse says.
    Source: DAPO (arXiv 2503.14476).
    Error: prompts count by their chance to be kept; those of middling difficulty count more.
    """
    return rewards.max(1).values > rewards.min(1).values


def mixed_by_task(
    rewards: Tensor, examples: Sequence[Example], prompts: int, seed: int, memory: dict
) -> Tensor:
    """MT-GRPO's groups: mixed ones, and of each task no more than its share.

    Args:
        rewards: (B, G).
        examples: B * G of a mixture of tasks, group by group.
        prompts: how many groups all tasks share: `task_counts` says who gets how many.
        seed: of the step's problems.
        memory: of `weigh_tasks`.
    Returns:
        (B,) bool; with groups enough exactly the count of each task.
    Source: MT-GRPO (arXiv 2602.05547), whose refills draw more of the tasks that lack groups.
    Error: inside a task as `mixed`.
    """
    names = examples[0].columns["mixture"].split("+")
    left = Counter(task_counts(memory, names, prompts, seed))
    kept = mixed(rewards)
    for b, example in enumerate(examples[:: rewards.shape[1]]):
        task = example.columns["task"]
        if kept[b]:
            kept[b] = left[task] > 0
            left[task] -= 1
    return kept


def spread_out(rewards: Tensor, least: float = 0.05) -> Tensor:
    """ReST-GRPO's groups: those whose rewards have a standard deviation (ddof=0) of at least so
    much.

    Args:
        rewards: (B, G).
        least: above 0, in units of reward.
    Returns:
        (B,) bool; of 0/1 rewards the same as `mixed`, unless the group is very large.
    Source: ReST-GRPO (arXiv 2508.19576) and its release.
    Error: as of `mixed`.
    """
    if not least > 0:
        raise ValueError(f"groups.least must be above 0, got {least}")
    return rewards.double().std(1, unbiased=False) >= least


def widest_rows(
    advantage: Tensor, rewards: Tensor, step: int, share: float = 0.25, over: int = 20
) -> Tensor:
    """D3S's rows: those of the largest spread, first of each group's rewards, then of the batch's
    advantages.

    Args:
        advantage: (N,), one of each row, which keeps it as it is.
        rewards: (B, G), N = B G.
        step: of training, from 1.
        share: above 0, at most 1: of the rows that are kept at the first step. It rises by equal
            amounts to 1. A group keeps the root of the share of its rows; so both selections leave
            out as much.
        over: >= 1, steps until all rows are kept.
    Returns:
        (N,) bool.
    Source: D3S (arXiv 2509.22115), from a summary: the shares at the start and how they are divided
    between the two selections are ours, and its selection of tokens is left out.
    Error: biased; rows in the middle of their group are left out, though not their effect on the
    baseline.
    """
    if not 0 < share <= 1 or over < 1:
        raise ValueError(f"need rows.share above 0, at most 1, rows.over >= 1: {share}, {over}")
    if advantage.ndim > 1:
        raise ValueError("rows are chosen by one advantage each, and here it differs inside a row")
    past = min(max(step - 1, 0) / over, 1.0)
    share = share + past * (1 - share)
    in_group = math.ceil(math.sqrt(share) * rewards.shape[1])
    kept = widest(rewards, in_group).flatten().nonzero().flatten()
    in_batch = min(math.ceil(share * len(advantage)), len(kept))
    chosen = widest(advantage.cpu()[kept][None], in_batch)[0]
    rows = torch.zeros(len(advantage), dtype=torch.bool)
    rows[kept[chosen]] = True
    return rows


def widest_groups(rewards: Tensor, prompts: int) -> Tensor:
    """XRPO's allocation: the groups of which more siblings would say most, those of the widest
    rewards.

    A mean of n rewards is known to t s / sqrt(n); all groups have the same n, so one sibling more
    narrows that most where the standard deviation s is largest, and a bonus for prompts that were
    seldom tried is the same for all.

    Args:
        rewards: (B, G).
        prompts: how many groups; of equal spreads the first ones.
    Returns:
        (B,) bool.
    Source: XRPO (arXiv 2510.06672), from summaries; its groups are of different sizes.
    Error: biased; the siblings of a group were chosen by their own spread.
    """
    order = rewards.double().var(1, unbiased=False).argsort(descending=True, stable=True)
    chosen = torch.zeros(len(rewards), dtype=torch.bool)
    chosen[order[:prompts]] = True
    return chosen


def widest(values: Tensor, n: int) -> Tensor:
    """Of each row of (R, M) values the n, 1 to M, of the largest variance: (R, M) bool.

    Such a subset consists of the lowest and the highest values; only how many of each it holds has
    to be tried.
    """
    order = values.argsort(dim=1, stable=True)
    ranked = values.double().gather(1, order)
    splits = []
    for high in range(n + 1):
        taken = torch.cat([ranked[:, : n - high], ranked[:, ranked.shape[1] - high :]], 1)
        splits.append(taken.var(1, unbiased=False))
    high = torch.stack(splits).argmax(0)[:, None]
    rank = torch.arange(values.shape[1])
    chosen = (rank < n - high) | (rank >= values.shape[1] - high)
    return torch.zeros_like(chosen).scatter(1, order.cpu(), chosen)
