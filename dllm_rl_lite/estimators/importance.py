"""How much likelier is a text under one context than under the context that it was written in?"""

from __future__ import annotations

import torch
from torch import Tensor

from ..sampler import Rollout
from .views import View, token_logprobs


@torch.no_grad()
def importance_weights(lm, rollout: Rollout, cap: float) -> tuple[Tensor, int]:
    """How much likelier guided reasoning is without the answer than with it, whole texts, and the
    forward passes it took.

    w = min(cap, p(reasoning | prompt) / p(reasoning | prompt, anchor)), both from left to right,
    each token given those before it. Reasoning that was bent to fit the answer is cheap with the
    anchor in view and next to impossible without.

    Args:
        rollout: as `guided_denoise` returns it. cap: > 0; no weight is larger.
    Returns:
        (N,) float32, 1 for answer-free rows; forward passes of one row, two for each token of
        guided reasoning.
    Raises:
        ValueError: for cap <= 0.
    Source: our choice of ablation. Error: for texts that were drawn from left to right, and without
    a cap, a guided row so weighted is worth a draw of the policy: unbiased, and useless, since the
    mean waits for the rarest texts. The cap, and any other order of drawing, is a bias.
    `tests/sampler/test_guided.py`, chapter 12.
    """
    if not cap > 0:
        raise ValueError(f"cap must be above 0, got {cap}")
    weights, rows, passes = (
        torch.ones(len(rollout.tokens), device=rollout.tokens.device),
        rollout.guided,
        0,
    )
    if rows.any():
        r = rollout.select(rows)
        reasoning = r.anchor == r.mask_id
        position, ratio = (
            torch.arange(reasoning.shape[1], device=weights.device),
            torch.zeros_like(weights[rows]),
        )
        for j in range(int(reasoning.sum(1).max())):
            scored = reasoning & (position == j)
            live = scored.any(1)
            written = torch.where(reasoning & (position < j), r.tokens, r.mask_id)
            for canvas, sign in ((written, 1), (torch.where(reasoning, written, r.anchor), -1)):
                view = View(torch.cat([r.prompt, canvas], 1), scored, scored.float()).select(live)
                ratio[live] += sign * token_logprobs(lm, r.select(live), view).sum(1)
                passes += int(live.sum())
        weights[rows] = ratio.exp().clamp(max=cap)
    return weights, passes
