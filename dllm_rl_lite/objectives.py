"""Losses: how does credit become a number per scored token whose gradient improves the policy?

The losses take log-probabilities in nats and return one loss per token, to be minimised; weighting by the views and
averaging happen in `update.py`. `token_weights` gives the published averages side by side.

k1, k2 and k3 estimate KL(policy || reference) from a token that the policy drew. Two questions must be kept apart: is the
mean of the *value* the divergence, and of which divergence is the mean *gradient*, when the estimate is used as a loss on
tokens that are already drawn? Both are answered by enumeration of the vocabulary in `tests/test_objectives.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

AVERAGES = ("token", "sequence", "group", "canvas")


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


def k1(logp: Tensor, ref: Tensor) -> Tensor:
    """Schulman's k1 estimate of KL(policy || reference), one value of either sign per token: logp - ref.

    Error: value unbiased, noisiest of the three. As a loss its mean gradient is zero: it only adds noise; its place is in
    the reward, where it has the gradient of KL(policy || reference).
    """
    return logp - ref


def k2(logp: Tensor, ref: Tensor) -> Tensor:
    """Schulman's k2 estimate of KL(policy || reference), one value >= 0 per token: (logp - ref)^2 / 2.

    Error: value biased, in either direction, by third order in logp - ref. As a loss its mean gradient is exactly that of
    KL(policy || reference). Source of its use as a loss: MDPO, GDSD.
    """
    return (logp - ref) ** 2 / 2


def k3(logp: Tensor, ref: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(policy || reference), one value >= 0 per token: e^d - d - 1 with d = ref - logp.

    Error: value unbiased. As a loss its mean gradient is that of the other divergence, KL(reference || policy).
    """
    d = ref - logp
    return d.exp() - d - 1


def clipped_k3(logp: Tensor, old: Tensor, ref: Tensor | None, advantage: Tensor, clip: float, kl: float) -> Tensor:
    """diffu-GRPO's token loss: clipped ratio plus kl times k3. `ref` may be None where kl is 0. Source: d1."""
    loss = clipped_ratio(logp, old, advantage, clip)
    return loss + kl * k3(logp, ref) if kl > 0 else loss


def clipped_weighted_k3(logp: Tensor, old: Tensor, ref: Tensor | None, advantage: Tensor, clip: float,
                        kl: float) -> Tensor:
    """AGRPO's token loss: as `clipped_k3`, with k3 multiplied by the ratio (the off-policy correction of DeepSeek-V3.2).

    Error: the ratio carries gradient too, so for tokens drawn from the old policy the penalty's mean gradient is that of
    KL(policy || reference), at any distance from the old policy.
    """
    loss = clipped_ratio(logp, old, advantage, clip)
    return loss + kl * k3(logp, ref) * (logp - old).exp() if kl > 0 else loss


def token_weights(scored: Tensor, per: str, group: int = 1) -> Tensor:
    """What each token's loss is multiplied by before all are summed: the published ways of averaging.

    Args:
        scored: (N, L) bool, the tokens that carry loss; a row without any has weight 0.
        per: "token": mean over all tokens of the batch (DAPO; d1's code); "sequence": mean over texts of each text's mean
            (GRPO; d1's paper); "group": mean over groups of each group's token mean; "canvas": sum over N * L, a constant
            (Dr.GRPO).
        group: siblings in a group, rows prompt by prompt; only "group" needs it.
    Returns:
        (N, L) float32. Over the scored tokens they sum to 1, with "canvas" to the filled share of the canvas.
    Raises:
        ValueError: for an unknown `per`, or a group size that does not divide N.
    Source: GRPO (arXiv 2402.03300), DAPO (arXiv 2503.14476), Dr.GRPO (arXiv 2503.20783).
    """
    n, length = scored.shape
    if per not in AVERAGES:
        raise ValueError(f"unknown average {per!r}: one of {AVERAGES}")
    if group < 1 or n % group:
        raise ValueError(f"group {group} must divide the number of rows, {n}")
    per_row = scored.sum(1).float()
    per_group = per_row.view(-1, group).sum(1).repeat_interleave(group)
    total = {"token": per_row.sum().expand(n), "sequence": n * per_row, "group": n / group * per_group,
             "canvas": torch.full_like(per_row, n * length)}[per]
    return scored / total.clamp(min=1)[:, None]
