"""The masked diffusion training loss."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models import MaskedDiffusionLM


def masked_loss(
    lm: MaskedDiffusionLM,
    prompt: Tensor,
    prompt_mask: Tensor,
    completion: Tensor,
    t: Tensor,
    masked: Tensor,
) -> Tensor:
    """Cross-entropy of the masked completion tokens, each divided by its row's time t, in nats per
    token of the text.

    Args:
        prompt: (N, P) int64.
        prompt_mask: (N, P) bool.
        completion: (N, L) int64.
        t: (N, 1) float32 in (0, 1].
        masked: (N, L) bool, the tokens to hide and to pay for.
    Returns:
        scalar float32: the sum over masked tokens, divided by all N * L tokens (not by the masked
        ones).
    """
    canvas = torch.where(masked, lm.mask_id, completion)  # (N, L)
    where = torch.cat([torch.zeros_like(prompt_mask), masked], 1)
    attention_mask = torch.cat([prompt_mask, torch.ones_like(masked)], 1)
    logits = lm(torch.cat([prompt, canvas], 1), attention_mask, where)  # (K, V)
    nll = torch.nn.functional.cross_entropy(logits, completion[masked], reduction="none")  # (K,)
    return (nll / t.expand_as(masked)[masked]).sum() / masked.numel()


def diffusion_loss(
    lm: MaskedDiffusionLM,
    prompt: Tensor,
    prompt_mask: Tensor,
    completion: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """The masked diffusion training loss: an upper bound on -log p(completion | prompt), in nats
    per token.

    Each row draws a time t in (0, 1], masks every completion token with probability t, and pays the
    cross-entropy of the masked tokens divided by t. Times are stratified over the batch (one draw
    in each of N equal slices), which leaves the mean unchanged and lowers the variance.

    Args:
        prompt, prompt_mask, completion: as in `masked_loss`.
        generator: the only source of chance.
    Returns:
        scalar float32.
    Source: LLaDA (arXiv 2502.09992), equation 3 (5 with a prompt).
    """
    n, length = completion.shape
    t = (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n
    t = t.clamp(min=1e-3)[:, None]  # (N, 1)
    masked = torch.rand(n, length, generator=generator) < t  # (N, L)
    return masked_loss(lm, prompt, prompt_mask, completion, t, masked)
