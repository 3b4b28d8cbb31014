"""Losses: how does credit become a number per scored token whose gradient improves the policy?

Every function takes log-probabilities in nats and returns one loss per token, to be minimised; weighting by the views
and averaging happen in `update.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_ratio(logp: Tensor, old: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO's pessimistic clipped ratio, one value per token.

    Args:
        logp, old: (N, L) log-probabilities under the new and the old policy; gradient flows through `logp` only.
        advantage: (N, L) or (N, 1). clip: epsilon >= 0; the ratio counts only within [1 - clip, 1 + clip].
    Returns:
        (N, L): -min(ratio * A, clipped ratio * A).
    """
    ratio = (logp - old).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def k3(logp: Tensor, ref: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(policy || reference), one value >= 0 per token: e^d - d - 1 with d = ref - logp."""
    d = ref - logp
    return d.exp() - d - 1


def clipped_k3(logp: Tensor, old: Tensor, ref: Tensor | None, advantage: Tensor, clip: float, kl: float) -> Tensor:
    """diffu-GRPO's token loss: clipped ratio plus kl times k3. `ref` may be None where kl is 0. Source: d1."""
    loss = clipped_ratio(logp, old, advantage, clip)
    return loss + kl * k3(logp, ref) if kl > 0 else loss


def clipped_weighted_k3(logp: Tensor, old: Tensor, ref: Tensor | None, advantage: Tensor, clip: float,
                        kl: float) -> Tensor:
    """AGRPO's token loss: as `clipped_k3`, with k3 multiplied by the ratio (the off-policy correction of DeepSeek-V3.2)."""
    loss = clipped_ratio(logp, old, advantage, clip)
    return loss + kl * k3(logp, ref) * (logp - old).exp() if kl > 0 else loss
