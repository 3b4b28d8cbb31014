"""Advantages by token: which of a text's tokens deserve them? Those that right and wrong siblings
do not share, those that siblings would write differently, those of an item, those of the step at
which siblings branch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models import MaskedDiffusionLM
from ..objectives import item_of_position, step_uncertainty
from ..sampler import Rollout
from .group import check_rewards, siblings, z_score
from .paths import mean_of, same_dice

FLOOR = -30.0  # nats; what is less likely counts as that likely


def conflict_weighted(
    advantage: Tensor,
    rollout: Rollout,
    right: float = 2.0,
    wrong: float = 0.0,
    entropy: float = 0.1,
    most: float = 0.7,
) -> Tensor:
    """GTPO's advantages: tokens that a right and a wrong sibling share at the same position are
    protected, and uncertain texts are worth less.

    Args:
        advantage: (B, G) float32; above 0 is right, below 0 wrong.
        rollout: N = B G rows.
        right: >= 0, factor of the shared tokens of right texts.
        wrong: >= 0, factor of the shared tokens of wrong texts.
        entropy: >= 0, in units of advantage per nat: a text's advantage falls by so much times the
            mean entropy of its tokens, when they were written.
        most: nats; texts whose mean entropy is above have no advantage.
    Returns:
        (N, L) float32; with right = wrong = 1, entropy 0 and a large `most` the advantage.
    Source: GTPO (arXiv 2508.03772) and its release, which looks for shared tokens only in the
    unbroken runs from the first and from the last token, as positions are not aligned there, and
    divides a text's loss by their number. On a canvas they are aligned.
    Error: biased; a wrong text is not punished for what a right one wrote at the same place.
    """
    if min(right, wrong, entropy) < 0:
        raise ValueError(
            f"right, wrong and entropy must be at least 0, got {right}, {wrong}, {entropy}"
        )
    check_rewards(advantage)
    advantage = advantage.to(rollout.tokens.device)
    tokens = rollout.tokens.view(*advantage.shape, -1)
    equal = tokens[:, :, None] == tokens[:, None]  # (B, G, G, L)
    is_right = advantage > 0
    is_wrong = advantage < 0
    in_right = (equal & is_right[:, None, :, None]).any(2)
    in_wrong = (equal & is_wrong[:, None, :, None]).any(2)
    factor = torch.ones_like(tokens, dtype=advantage.dtype)
    factor = factor.masked_fill(is_right[..., None] & in_wrong, right)
    factor = factor.masked_fill(is_wrong[..., None] & in_right, wrong)
    written = rollout.sampled & rollout.until_eos
    uncertain = (rollout.entropy * written).sum(1) / written.sum(1).clamp(min=1)
    credit = (advantage.flatten() - entropy * uncertain)[:, None] * factor.flatten(0, 1)
    return credit.masked_fill((uncertain > most)[:, None], 0.0)


@torch.no_grad()
def spread_weighted(
    advantage: Tensor, rollout: Rollout, lm: MaskedDiffusionLM, alpha: float = 1.7
) -> Tensor:
    """TW-GRPO's advantages: more for the positions at which the siblings' predictions differ.

    Each sibling's canvas after half of its steps is shown to the model. With d the mean of the
    siblings' log-probabilities of a token minus one's own, kept within [-11, 11], the spread of a
    position is the sum of exp(d) - d - 1 over the vocabulary, averaged over the siblings that have
    a blank there. Scaled to 0..1 over the positions of the group it is x, and the factor of a token
    is 1 + (alpha - 1) x.

    Args:
        advantage: (B, G) float32.
        rollout: N = B G rows.
        lm: the model; it takes one pass a row, equal canvases once.
        alpha: >= 1, the largest factor.
    Returns:
        (N, L) float32; the advantage where all canvases are equal, as after no step.
    Source: TW-GRPO (arXiv 2505.24718) and its release, which compare the siblings' predictions
    behind their own prefixes. Which canvas to look at is our choice.
    Error: biased; the factors depend on the siblings' own tokens.
    """
    if alpha < 1:
        raise ValueError(f"alpha must be at least 1, got {alpha}")
    check_rewards(advantage)
    canvas = rollout.canvas_at(rollout.n_forwards // 2)
    rows = torch.arange(len(canvas), device=canvas.device).view(advantage.shape)
    factors = []
    for own in rows:
        part = rollout.select(own)
        spread = prediction_spread(lm, part, canvas[own])
        width = spread.max() - spread.min()
        x = (spread - spread.min()) / width.clamp(min=1e-12)
        factors.append((1 + (alpha - 1) * x).expand(len(own), -1))
    return advantage.flatten().to(canvas.device)[:, None] * torch.cat(factors)


def prediction_spread(lm: MaskedDiffusionLM, rollout: Rollout, canvas: Tensor) -> Tensor:
    """(L,) float32: how far apart the predictions are that the canvases (n, L) of one group give
    for each position, as `spread_weighted` says; 0 where no more than one has a blank."""
    blank = canvas == rollout.mask_id
    length = canvas.shape[1]
    spread = torch.zeros(length, device=canvas.device)
    if not blank.any():
        return spread
    ids = torch.cat([rollout.prompt, canvas], 1)
    attention_mask = torch.cat([rollout.prompt_mask, torch.ones_like(blank)], 1)
    where = torch.cat([torch.zeros_like(rollout.prompt_mask), blank], 1)
    logp = lm(ids, attention_mask, where).log_softmax(-1).clamp(min=FLOOR)
    position = blank.nonzero()[:, 1]
    count = position.bincount(minlength=length).clamp(min=1)
    mean = torch.zeros(length, logp.shape[1], device=logp.device)
    mean = mean.index_add(0, position, logp) / count[:, None]
    d = (mean[position] - logp).clamp(-11, 11)
    spread = spread.index_add(0, position, (d.expm1() - d).sum(-1)) / count
    return torch.where(spread > 1e-6, spread, 0.0)  # less is round-off


def item_score(
    rewards: Tensor, rollout: Rollout, size: int = 4, first: int = 1, eps: float = 1e-4
) -> Tensor:
    """Rank-GRPO-style advantages: each item of the canvas has a reward, z-scored over the siblings.

    The reward of an item is the mean reward of the siblings that wrote the same tokens there.

    Args:
        rewards: (B, G) float32.
        rollout: N = B G rows.
        size: >= 1, tokens of an item, such as the 4 cells of a row of `sudoku4`.
        first: >= 0, tokens before the first item; they are an item of their own.
        eps: > 0, in units of reward, beside the standard deviation.
    Returns:
        (B, G, L) float32; with one item for the whole canvas `z_score`, if no two texts are equal.
    Source: reconstructed. That an item has a reward and an advantage of its own is Rank-GRPO's,
    whose items are recommendations that can be judged one by one; this reward of an item is ours.
    Error: biased; an item is praised for what else stands in the texts that share it.
    """
    group = siblings(rewards, len(rollout.tokens))
    tokens = rollout.tokens.cpu()
    item = item_of_position(tokens.shape[1], size, first)
    tokens = tokens.view(-1, group, len(item))
    credit = torch.zeros(tokens.shape)
    for number in range(int(item.max()) + 1):
        own = tokens[..., item == number]
        same = (own[:, :, None] == own[:, None]).all(-1)
        credit[..., item == number] = z_score(mean_of(rewards, same).float(), eps)[..., None]
    return credit


def branch_credit(advantage: Tensor, rollout: Rollout) -> Tensor:
    """TempFlow-style advantages: all of it at the steps at which siblings have dice of their own,
    in proportion to the step's entropy.

    Args:
        advantage: (B, G) float32.
        rollout: N = B G rows.
    Returns:
        (N, L) float32: the advantage times the `step_uncertainty`; zero at steps at which the whole
        group uses the same noise.
    Source: reconstructed from the abstract of TempFlow-GRPO (arXiv 2508.04324), which is about
    images: the noise level that its weights follow is an entropy here.
    Error: none in direction at the branching step if the advantage is unbiased; other steps do not
    learn.
    """
    check_rewards(advantage)
    group = advantage.shape[1]
    device = rollout.tokens.device
    branches = ~same_dice(rollout, group).all(-1).flatten(1)  # (T, N)
    step = rollout.unmask_step.clamp(0, len(branches) - 1)
    here = branches.to(device).T.gather(1, step)
    weight = here * step_uncertainty(rollout)
    return advantage.flatten().to(device)[:, None] * weight
