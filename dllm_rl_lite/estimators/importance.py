"""How much likelier is a text under one context than under the context that it was written in?"""

from __future__ import annotations

import torch
from torch import Tensor

from ..models import MaskedDiffusionLM
from ..sampler import Rollout
from .views import View, token_logprobs


@torch.no_grad()
def importance_weights(lm: MaskedDiffusionLM, rollout: Rollout, cap: float) -> Tensor:
    """How much likelier guided reasoning is without the answer than with it, whole texts.

    w = min(cap, p(reasoning | prompt) / p(reasoning | prompt, anchor)), both from left to right,
    each token given those before it. Reasoning that was bent to fit the answer is cheap with the
    anchor in view and next to impossible without.

    Args:
        rollout: N rows, as `guided_denoise` returns it.
        cap: > 0; no weight is larger.
    Returns:
        (N,) float32, 1 for answer-free rows. It takes two forward passes for each token of guided
        reasoning.
    Source: our choice of ablation.
    Error: for texts that were drawn from left to right, and without a cap, a guided row so weighted
    is worth a draw of the policy: unbiased, and useless, since the mean waits for the rarest texts.
    The cap, and any other order of drawing, is a bias. `tests/sampler/test_guided.py`, the
    chapter on AG-GRPO.
    """
    if not cap > 0:
        raise ValueError(f"cap must be above 0, got {cap}")
    weights = torch.ones(len(rollout.tokens), device=rollout.tokens.device)
    if not rollout.guided.any():
        return weights
    r = rollout.select(rollout.guided)
    reasoning = r.anchor == r.mask_id
    position = torch.arange(reasoning.shape[1], device=weights.device)
    log_ratio = torch.zeros(len(reasoning), device=weights.device)
    for j in range(int(reasoning.sum(1).max())):
        scored = reasoning & (position == j)
        live = scored.any(1)
        plain = torch.where(reasoning & (position < j), r.tokens, r.mask_id)
        told = torch.where(reasoning, plain, r.anchor)
        for canvas, sign in ((plain, 1), (told, -1)):
            view = View(torch.cat([r.prompt, canvas], 1), scored, scored.float()).select(live)
            log_ratio[live] += sign * token_logprobs(lm, r.select(live), view).sum(1)
    weights[rollout.guided] = log_ratio.exp().clamp(max=cap)
    return weights
