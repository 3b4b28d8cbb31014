"""Advantages along the path: which step of the denoising earned the reward?

The rollouts of a group are a tree. A node is a canvas after t steps; its value is the mean reward
of the siblings that stood on it, and what a step is worth is the difference it made. Siblings part
by chance, or where a table of dice lets them (`sampler/dice.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..sampler import Rollout
from .group import group_mean, siblings

WEIGHTS = ("size", "plain")


def same_canvas(rollout: Rollout, group: int) -> Tensor:
    """Which siblings share a node.

    Args:
        rollout: N = B G rows.
        group: G.
    Returns:
        (T + 1, B, G, G) bool on the CPU: are the canvases of two siblings equal after t steps?
    """
    found = []
    for step in range(int(rollout.n_forwards.max()) + 1):
        canvas = rollout.canvas_at(step).unflatten(0, (-1, group))
        found.append((canvas[:, :, None] == canvas[:, None]).all(-1))
    return torch.stack(found).cpu()


def same_dice(rollout: Rollout, group: int) -> Tensor:
    """(T, B, G, G) bool on the CPU: do two siblings use the same noise, or both none, at step t?
    Arguments as in `same_canvas`."""
    steps = int(rollout.n_forwards.max())
    if rollout.dice is None:
        only_itself = torch.eye(group, dtype=torch.bool)
        return only_itself.expand(steps, len(rollout.tokens) // group, group, group)
    line = torch.arange(steps).clamp(max=len(rollout.dice) - 1)
    whose = rollout.dice.cpu()[line].unflatten(1, (-1, group))
    return whose[..., :, None] == whose[..., None, :]


def mean_of(rewards: Tensor, chosen: Tensor) -> Tensor:
    """(..., B, G) float64: the mean of the rewards (B, G) over the siblings chosen (..., B, G, G),
    such as those on a node; 0 where none is. The mean of equal float32 numbers is exact."""
    total = (chosen * rewards.double()[:, None]).sum(-1)
    return total / chosen.sum(-1).clamp(min=1)


def credit_of_tokens(credit: Tensor, rollout: Rollout) -> Tensor:
    """(B, G, L): to each token the credit (T, B, G) of the step that wrote it."""
    steps, groups, group = credit.shape
    step = rollout.unmask_step.cpu().clamp(0, steps - 1)
    by_row = credit.reshape(steps, -1).T
    return by_row.gather(1, step).view(groups, group, -1)


def temporal_difference(
    rewards: Tensor, rollout: Rollout, eps: float = 1e-6, scaled: bool = True
) -> Tensor:
    """TEMPO's advantages: (r - mean + V after the step - V before it) / standard deviation.

    Args:
        rewards: (B, G) float32.
        rollout: N = B G rows.
        eps: > 0, in units of reward, beside the standard deviation (with ddof=1).
        scaled: False leaves out the division.
    Returns:
        (B, G, L) float32; where no sibling shares the node before the step, it is the z-score. The
        differences of a row sum to r - mean.
    Source: TEMPO (arXiv 2509.18314) and its release, whose nodes are common prefixes.
    Error: biased. Of independent siblings and without the division, the expected gradient of a step
    is (G - 1) / G + E[(n - 1) / n] times the true one, n the siblings on the node; it depends on
    the policy: `tests/advantages/test_paths.py`.
    """
    group = siblings(rewards, len(rollout.tokens))
    if not eps > 0:
        raise ValueError(f"eps must be above 0, or a dead group divides zero by zero, got {eps}")
    value = mean_of(rewards, same_canvas(rollout, group))
    credit = group_mean(rewards) + value.diff(dim=0)
    if scaled:
        credit = credit / (rewards.double().std(1, keepdim=True) + eps)
    return credit_of_tokens(credit, rollout).to(rewards.dtype)


def segment_difference(rewards: Tensor, rollout: Rollout, most: float = 0.9) -> Tensor:
    """SPO-segment's advantages: the value at the end of a segment minus that at its start.

    A segment begins where a sibling on the same node has other dice, and ends where the next one
    begins; the last one ends at the text's own reward.

    Args:
        rewards: (B, G) float32.
        rollout: N = B G rows.
        most: 0..1; a token that was likelier than that when it was written has no credit.
    Returns:
        (B, G, L) float32; with `most` 1 the segments of a row sum to r - mean.
    Source: SPO (arXiv 2505.23564) and its release, whose checkpoints are at unlikely tokens. Its
    chain learns from the path alone; here the continuations learn too.
    Error: biased; siblings are part of the value that they are compared with. On a 2 x 2 tree the
    expected gradient is half the true one at the root: `tests/advantages/test_paths.py`.
    """
    group = siblings(rewards, len(rollout.tokens))
    if not 0 <= most <= 1:
        raise ValueError(f"most must be in 0..1, got {most}")
    same = same_canvas(rollout, group)
    value = mean_of(rewards, same)
    steps = len(same) - 1
    begins = (same[:-1] & ~same_dice(rollout, group)).any(-1)
    begins[0] = True
    step = torch.arange(steps)[:, None, None]
    start = torch.where(begins, step, 0).cummax(0).values
    # The first beginning after each step, or the end.
    later = torch.where(begins, step, steps)[1:]
    later = torch.cat([later, torch.full_like(later[:1], steps)])
    end = later.flip(0).cummin(0).values.flip(0)
    credit = credit_of_tokens(value.gather(0, end) - value.gather(0, start), rollout)
    sure = (rollout.logprob.exp() > most).cpu()
    return credit.masked_fill(sure.view_as(credit), 0.0).to(rewards.dtype)


def subgroup_mean(
    rewards: Tensor,
    rollout: Rollout,
    weight: str = "size",
    whiten: bool = True,
    eps: float = 1e-8,
) -> Tensor:
    """TreePO's advantages: the reward minus the mean of a subgroup, averaged over all the subgroups
    of two or more that a sibling belonged to on its path.

    Args:
        rewards: (B, G) float32.
        rollout: N = B G rows.
        weight: of a subgroup in the average: "size", its siblings, or "plain", 1.
        whiten: subtract the mean of the whole batch, and divide by its standard deviation.
        eps: > 0, in units of reward, beside the standard deviation.
    Returns:
        (B, G) float32.
    Source: TreePO (arXiv 2508.17445) and its release, where a tree's branches are subgroups; here
    branches that write the same stay one.
    Error: biased. On a 2 x 2 tree the expected gradient at the root is a quarter of the true one
    with "plain" and a third with "size", before whitening: `tests/advantages/test_paths.py`.
    """
    group = siblings(rewards, len(rollout.tokens))
    if weight not in WEIGHTS or not eps > 0:
        raise ValueError(f"need weight one of {WEIGHTS} and eps > 0, got {weight!r} and {eps}")
    same = same_canvas(rollout, group)[:-1]
    value = mean_of(rewards, same)
    size = same.sum(-1)
    is_new = torch.ones_like(size, dtype=torch.bool)
    is_new[1:] = (same[1:] != same[:-1]).any(-1)
    counted = (is_new & (size > 1)).double()
    if weight == "size":
        counted = counted * size
    advantage = (counted * (rewards.double() - value)).sum(0) / counted.sum(0)
    if whiten:
        advantage = (advantage - advantage.mean()) / (advantage.std() + eps)
    return advantage.to(rewards.dtype)


def depth_score(
    rewards: Tensor, rollout: Rollout, eps: float = 1e-6, scaled: bool = True
) -> Tensor:
    """BranchGRPO's advantages: the value of a step's node, z-scored over the nodes of its depth.

    Args:
        rewards: (B, G) float32.
        rollout: N = B G rows.
        eps: > 0, in units of reward, beside the standard deviation of the nodes (with ddof=1).
        scaled: False leaves out the division.
    Returns:
        (B, G, L) float32; zero where a group has one node of that depth, or nodes of equal value.
    Source: BranchGRPO (arXiv 2509.06040) and its release, without its pruning.
    Error: biased; without the division the expected gradient on a 2 x 2 tree is half the true one
    at the root: `tests/advantages/test_paths.py`.
    """
    group = siblings(rewards, len(rollout.tokens))
    if not eps > 0:
        raise ValueError(f"eps must be above 0, got {eps}")
    same = same_canvas(rollout, group)[1:]
    value = mean_of(rewards, same)
    share = 1 / same.sum(-1).double()  # so that a node counts once, however many stand on it
    nodes = share.sum(-1, keepdim=True)
    centred = value - (share * value).sum(-1, keepdim=True) / nodes
    credit = centred
    if scaled:
        squares = (share * centred.square()).sum(-1, keepdim=True)
        credit = centred / ((squares / (nodes - 1).clamp(min=1)).sqrt() + eps)
    # A mean of equal numbers may miss them by round-off.
    tied = (value == value[..., :1]).all(-1, keepdim=True)
    return credit_of_tokens(credit.masked_fill(tied, 0.0), rollout).to(rewards.dtype)


def path_leave_one_out(rewards: Tensor, rollout: Rollout) -> Tensor:
    """The value after a step, minus the mean of the siblings that could have gone another way.

    Those are the siblings on the node before the step that do not share its dice; if there are
    none, on the last node before it that had such siblings.

    Args:
        rewards: (B, G) float32.
        rollout: N = B G rows.
    Returns:
        (B, G, L) float32; zero where all siblings share the dice of a step. Where siblings share
        only the empty canvas and one another's actions nowhere, it is `leave_one_out`.
    Source: ours. As far as we know it is not published.
    Error: none, of independent siblings or on a tree of dice: given the path up to a step, the
    baseline does not depend on what the step did. The variance is below that of `leave_one_out`
    where early steps earn most of the reward, and above it where they earn little:
    `tests/advantages/test_paths.py`.
    """
    group = siblings(rewards, len(rollout.tokens))
    same = same_canvas(rollout, group)
    value = mean_of(rewards, same)
    together = same[:-1] & same_dice(rollout, group)
    credit = []
    for step in range(len(together)):
        others = same[: step + 1] & ~together[step]
        has_others = others.any(-1)
        depth = torch.arange(step + 1)[:, None, None]
        deepest = torch.where(has_others, depth, 0).max(0, keepdim=True).values
        baseline = mean_of(rewards, others).gather(0, deepest)[0]
        gained = value[step + 1] - baseline
        credit.append(gained.masked_fill(~has_others.any(0), 0.0))
    return credit_of_tokens(torch.stack(credit), rollout).to(rewards.dtype)


def serial_decay(rewards: Tensor, rollout: Rollout, factor: float = 0.5) -> Tensor:
    """S-GRPO's rewards: that of a right text is multiplied by the factor once for each right
    sibling that took fewer steps.

    Args:
        rewards: (B, G) float32; above 0 is right.
        rollout: N = B G rows, of which `n_forwards` is used.
        factor: 0..1.
    Returns:
        (B, G) float32, to be turned into advantages; with factor 1 the rewards. Exits of rewards 0,
        1, 1, 0, 1 in order earn 0, 1, 1/2, 0, 1/4.
    Source: S-GRPO (arXiv 2505.07686), from summaries and an independent implementation.
    Error: biased on purpose, towards early exits. With advantages that sum to zero over the group,
    those of the path's first segment do too, which all exits share: how to begin is not learnt.
    """
    siblings(rewards, len(rollout.tokens))
    if not 0 <= factor <= 1:
        raise ValueError(f"factor must be in 0..1, got {factor}")
    taken = rollout.n_forwards.view(rewards.shape).to(rewards.device)
    earlier = taken[:, None, :] < taken[:, :, None]
    before = (earlier & (rewards > 0)[:, None, :]).sum(-1)
    return rewards * factor**before
