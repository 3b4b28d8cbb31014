"""SPG's views: block-wise masks, weighed by a lower or an upper bound of the log-likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..sampler import Rollout
from .masks import random_subset
from .views import View, masked_prompt


def block_masks(
    rollout: Rollout,
    generator: torch.Generator,
    n: int = 2,
    block: int = 0,
    p_mask_prompt: float = 0.15,
) -> list[View]:
    """SPG's masks: a random part of one block, from one token to all, and every later block.

    Args:
        rollout: N rows.
        generator: draws the masks.
        n: >= 1, views; as many different blocks are drawn as there are.
        block: tokens of a block, which must divide the canvas; 0: the canvas is one block.
        p_mask_prompt: chance in [0, 1] that a prompt token, or a token before the block, is masked.
    Returns:
        n views; of the m tokens up to the first end-of-sequence all that are masked are scored, x
        of them with weight m / (n x). Later tokens are masked and not scored.
    Raises:
        ValueError: for a number outside its range.
    Source: SPG (arXiv 2510.09541) and its release.
    Error: with one block and no prompt masks unbiased for the ELBO. With several blocks the masks
    are those of a decoder that goes block by block, the weights are not:
    `tests/estimators/test_segments_and_bounds.py`.
    """
    length = rollout.tokens.shape[1]
    size = block or length
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if block < 0 or length % size:
        raise ValueError(f"block must divide the canvas of {length} tokens, got {block}")

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device).to(position.device)

    position = torch.arange(length, device=rollout.tokens.device)
    text = rollout.until_eos & rollout.sampled
    after = rollout.sampled & ~rollout.until_eos
    m = text.sum(1)
    last = rollout.until_eos.sum(1) - 1
    blocks = last.div(size, rounding_mode="floor") + 1  # that the text has begun
    order = uniform(len(m), length // size).argsort(1)
    views = []
    for j in range(n):
        begin = (order[:, j % order.shape[1]] % blocks * size)[:, None]
        inside = text & (position >= begin) & (position < begin + size)
        count = (uniform(len(m)) * inside.sum(1)).long() + 1
        hidden = random_subset(inside, count, generator)
        hidden |= text & (position >= begin + size)
        hidden |= text & (position < begin) & (uniform(*text.shape) < p_mask_prompt)
        prompt = masked_prompt(rollout, generator, p_mask_prompt)
        canvas = torch.where(hidden | after, rollout.mask_id, rollout.tokens)
        weight = m / (n * hidden.sum(1).clamp(min=1))
        views.append(View(torch.cat([prompt, canvas], 1), hidden, hidden * weight[:, None]))
    return views


def sandwiched(
    rollout: Rollout,
    generator: torch.Generator,
    credit: Tensor,
    score: Callable[[Rollout, list[View]], list[Tensor]],
    n: int = 2,
    beta: float = 1.5,
    omega: float = 0.5,
    block: int = 0,
    p_mask_prompt: float = 0.15,
) -> list[View]:
    """SPG's likelihood: the evidence lower bound (ELBO) of texts with positive credit, and a
    mixture of it with an evidence upper bound (EUBO) of the others.

    The EUBO of a text is the sum over its tokens of 1 / beta log of the mean of p^beta / t, over
    masks that hide a share t of the text; a mask that leaves the token counts 0. Its slope in a
    token's log-probability in one view is that view's share of the mean: this is the weight.

    Args:
        rollout, generator, n, block, p_mask_prompt: as `block_masks` takes them.
        credit: (N,) float32; only its sign is used.
        score: the rows and views -> the log-probabilities (N, L) of each view under the current
            policy, without gradient; asked of the rows with negative credit if omega > 0.
        beta: > 0, the power; 1 or more in the paper. Towards 0 the EUBO becomes the ELBO.
        omega: 0..1, the weight of the EUBO in the mixture.
    Returns:
        the views of `block_masks`; rows with negative credit have other weights.
    Raises:
        ValueError: as `block_masks`, or for credit of another shape.
    Source: SPG (arXiv 2510.09541) and its release: t is the share really masked, and where only M
    of m tokens are masked in any view the EUBO is multiplied by m / M.
    Error: that of the masks. The mean has n masks, so the EUBO is biased; with n = 1 its gradient
    is that of the plain sum of the masked tokens, whatever beta. The shares are those of the policy
    that draws the views, so they are old in the second update of a batch:
    `tests/estimators/test_segments_and_bounds.py`.
    """
    if beta <= 0 or not 0 <= omega <= 1:
        raise ValueError(f"need beta > 0 and omega in [0, 1], got {beta} and {omega}")
    if credit.shape != rollout.n_forwards.shape:
        raise ValueError(f"credit must be one number a text, got {tuple(credit.shape)}")
    views = block_masks(rollout, generator, n, block, p_mask_prompt)
    wrong = credit < 0
    if omega == 0 or not wrong.any():
        return views
    seen = [view.select(wrong) for view in views]
    scored = torch.stack([view.scored for view in seen])  # (n, rows, L)
    lower = torch.stack([view.weight for view in seen])
    logp = torch.stack(score(rollout.select(wrong), seen))
    terms = (beta * logp + lower.log()).masked_fill(~scored, float("-inf"))
    share = terms.softmax(0).where(scored, 0.0)  # of each view in the mean of p^beta / t
    m = (rollout.until_eos & rollout.sampled)[wrong].sum(1)
    masked = scored.any(0).sum(1).clamp(min=1)
    upper = share * (m / masked)[:, None]
    weights = torch.stack([view.weight for view in views])
    weights[:, wrong] = omega * upper + (1 - omega) * lower
    return [replace(view, weight=w) for view, w in zip(views, weights, strict=True)]
