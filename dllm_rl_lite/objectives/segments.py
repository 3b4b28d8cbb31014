"""Ratios and surrogates that look at the tokens of one denoising step, or of one item, together.

Tokens that were revealed in one step saw the same canvas, so a step is what a sentence is to a
model that writes from left to right. An item is a piece of the canvas.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..sampler import Rollout
from .surrogates import clipped_ratio


def segment_mean(values: Tensor, segment: Tensor, counted: Tensor) -> Tensor:
    """The mean of each segment, at all of its tokens.

    Args:
        values: (N, L) float.
        segment: (N, L) int64 >= 0, the segment of each token; equal numbers belong together, in
            different rows too.
        counted: (N, L) bool, the tokens that the mean is taken over.
    Returns:
        (N, L) like `values`; 0 in segments without a counted token.
    """
    size = int(segment.max()) + 1
    total = values.new_zeros(size).index_add(0, segment[counted], values[counted])
    count = segment[counted].bincount(minlength=size).clamp(min=1)
    return (total / count)[segment]


def own_segments(segment: Tensor, group: int = 1) -> Tensor:
    """(N, L) int64: numbers of segments (N, L) that rows of other groups do not share, in groups of
    `group` rows; an anchored token's -1 counts as 0."""
    n = len(segment)
    if group < 1 or n % group:
        raise ValueError(f"group {group} must divide the number of rows, {n}")
    segment = segment.clamp(min=0)
    groups = torch.arange(n, device=segment.device)[:, None] // group
    return groups * (segment.max() + 1) + segment


def item_of_position(length: int, size: int, first: int) -> Tensor:
    """(L,) int64: the item of each position: 0 for the `first` >= 0 ones, then `size` >= 1 tokens
    each."""
    if size < 1 or first < 0:
        raise ValueError(f"need size of at least 1 and first of at least 0, got {size}, {first}")
    position = torch.arange(length)
    item = (position - first).div(size, rounding_mode="floor") + 1
    return item.clamp(min=0)


def item_log_ratio(
    logp: Tensor, old: Tensor, scored: Tensor, size: int = 4, first: int = 1
) -> Tensor:
    """Log-ratios of whole items: a token's is the mean over the tokens of its item in its text.

    Args:
        logp: (N, L) log-probabilities under the new policy, in nats.
        old: (N, L), under the old policy.
        scored: (N, L) bool, the tokens that count.
        size: >= 1, tokens of an item.
        first: >= 0, tokens before the first item; they are an item of their own.
    Returns:
        (N, L) in nats; with items of one token it is `token_log_ratio`.
    Source: Rank-GRPO's release, whose items are recommendations.
    """
    item = item_of_position(logp.shape[1], size, first).to(logp.device)
    return segment_mean(logp - old, own_segments(item.expand(logp.shape)), scored)


def step_log_ratio(logp: Tensor, old: Tensor, scored: Tensor, rollout: Rollout) -> Tensor:
    """Log-ratios of whole denoising steps: a token's is the mean over the tokens that its step
    revealed in its text.

    Args:
        logp, old, scored: as in `item_log_ratio`.
        rollout: N rows; its `unmask_step` is used.
    Returns:
        (N, L) in nats.
    Source: SSPO (arXiv 2511.04256), with denoising steps for sentences. A text of one step has
    GSPO's ratio, `mean_log_ratio`; with one token a step it is `token_log_ratio`.
    """
    return segment_mean(logp - old, own_segments(rollout.unmask_step), scored)


def step_uncertainty(rollout: Rollout) -> Tensor:
    """(N, L): the mean entropy of the tokens that a token's step wrote over that of its text, both
    up to the text's end."""
    step = own_segments(rollout.unmask_step)
    text = own_segments(torch.zeros_like(step))
    written = rollout.sampled & rollout.until_eos
    of_step = segment_mean(rollout.entropy, step, written)
    of_text = segment_mean(rollout.entropy, text, written)
    return of_step / of_text.clamp(min=1e-8)


def entropy_clip(
    log_ratio: Tensor,
    advantage: Tensor,
    clip: float,
    rollout: Rollout,
    least: float = 0.5,
    most: float = 2.0,
) -> Tensor:
    """SSPO-style surrogate: the clipped ratio, with more room for denoising steps that were
    uncertain.

    The epsilon of a token is clip times its `step_uncertainty`, kept within [least, most].

    Args:
        log_ratio: (N, L), new minus old log-probability in nats: `step_log_ratio`.
        advantage: (N, 1).
        clip: epsilon >= 0.
        rollout: N rows.
        least: 0..1, smallest factor of epsilon.
        most: >= 1, largest factor; with least = most = 1 it is `clipped_ratio`.
    Returns:
        (N, L).
    Source: reconstructed. That uncertain segments have more room is SSPO's (arXiv 2511.04256); the
    form of the factor is ours, as the paper's was not found.
    """
    if not 0 <= least <= 1 <= most:
        raise ValueError(f"need 0 <= least <= 1 <= most, got least {least} and most {most}")
    factor = step_uncertainty(rollout).clamp(least, most)
    ratio = log_ratio.exp()
    within = ratio.clamp(1 - clip * factor, 1 + clip * factor)
    return -torch.minimum(ratio * advantage, within * advantage)


def standardised_steps(
    log_ratio: Tensor, scored: Tensor, rollout: Rollout, group: int, eps: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """Log-ratios with mean 0 at every denoising step of a group, and with equal spread.

    Args:
        log_ratio: (N, L) of tokens, new minus old log-probability in nats.
        scored: (N, L) bool, the tokens that count.
        rollout: N rows; its `unmask_step` is used.
        group: siblings in a group, rows prompt by prompt.
        eps: > 0, in nats, beside each standard deviation: where nothing has moved, nothing is
            stretched.
    Returns:
        (N, L) log-ratios, differentiable with means and deviations held constant; and (N, L), what
        each was multiplied by: the group's mean deviation over that of the step.
    """
    step = own_segments(rollout.unmask_step, group)
    constant = log_ratio.detach()
    centre = segment_mean(constant, step, scored)
    spread = segment_mean((constant - centre) ** 2, step, scored).sqrt()
    of_group = segment_mean(spread, own_segments(torch.zeros_like(step), group), scored)
    stretch = (of_group + eps) / (spread + eps)
    return (log_ratio - centre) * stretch, stretch


def guarded_ratio(
    log_ratio: Tensor,
    advantage: Tensor,
    clip: float,
    scored: Tensor,
    rollout: Rollout,
    group: int,
    eps: float = 1e-6,
) -> Tensor:
    """GRPO-Guard-style surrogate: the clipped ratio of standardised log-ratios, each denoising step
    with the same weight in the gradient.

    Without it the log-ratios of some steps lie below zero on average or spread more than others,
    and one clip silences them unequally.

    Args:
        log_ratio, scored, rollout, group, eps: as in `standardised_steps`.
        advantage: (N, 1).
        clip: epsilon >= 0.
    Returns:
        (N, L), zero where not scored; the slope of a token is minus A times a weight whose mean
        over the tokens of each step of a group is 1, or 0 where all of them are clipped.
    Source: reconstructed from the abstract of GRPO-Guard (arXiv 2510.22319), which is about images:
    that the moments are those of a group, and the form of the weights, is ours.
    """
    standardised, stretch = standardised_steps(log_ratio, scored, rollout, group, eps)
    ratio = standardised.detach().exp()
    clipped_high = (advantage > 0) & (ratio > 1 + clip)
    clipped_low = (advantage < 0) & (ratio < 1 - clip)
    weight = stretch * ratio * ~(clipped_high | clipped_low)
    step = own_segments(rollout.unmask_step, group)
    of_step = segment_mean(weight, step, scored)
    losses = clipped_ratio(standardised, advantage, clip)
    return scored * losses / torch.where(of_step > 0, of_step, 1.0)
