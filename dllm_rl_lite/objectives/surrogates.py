"""Losses: how does credit become a number per scored token whose gradient improves the policy?

Token losses take the log-probabilities of one view, in nats, and return one value per token; losses
of texts take each text's estimate, summed over its views, and return one value per token or per
row. All are to be minimised; weighting by the views and averaging happen in `training/update.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .penalties import k2, k3
from .ratios import text_log_ratio


def clipped_ratio(logp: Tensor, old: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO's pessimistic clipped ratio, one value per token.

    Args:
        logp, old: (N, L) log-probabilities under the new and the old policy; gradient flows through
            `logp` only.
        advantage: (N, L) or (N, 1). clip: epsilon >= 0; the ratio counts only within [1 - clip, 1 +
            clip].
    Returns:
        (N, L): -min(ratio * A, clipped ratio * A).
    """
    ratio = (logp - old).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def clipped_k3(
    logp: Tensor, old: Tensor, ref: Tensor | None, advantage: Tensor, clip: float, kl: float
) -> Tensor:
    """diffu-GRPO's token loss: clipped ratio plus kl times k3. `ref` may be None where kl is 0.
    Source: d1."""
    loss = clipped_ratio(logp, old, advantage, clip)
    return loss + kl * k3(logp, ref) if kl > 0 else loss


def clipped_weighted_k3(
    logp: Tensor, old: Tensor, ref: Tensor | None, advantage: Tensor, clip: float, kl: float
) -> Tensor:
    """AGRPO's token loss: as `clipped_k3`, with k3 multiplied by the ratio (the off-policy
    correction of DeepSeek-V3.2).

    Error: the ratio carries gradient too, so for tokens drawn from the old policy the penalty's
    mean gradient is that of KL(policy || reference), at any distance from the old policy.
    """
    loss = clipped_ratio(logp, old, advantage, clip)
    return loss + kl * k3(logp, ref) * (logp - old).exp() if kl > 0 else loss


def clipped_k2(
    logp: Tensor, old: Tensor, ref: Tensor | None, advantage: Tensor, clip: float, kl: float
) -> Tensor:
    """MDPO's token loss: as `clipped_k3`, with k2 for the penalty."""
    loss = clipped_ratio(logp, old, advantage, clip)
    return loss + kl * k2(logp, ref) if kl > 0 else loss


def weighted_likelihood(
    logp: Tensor, old: Tensor, ref: Tensor | None, advantage: Tensor, clip: float, kl: float
) -> Tensor:
    """wd1's token loss: minus credit times log-probability, without ratio or clip; plus kl times k3
    where asked for.

    Args as `clipped_k3`; `old` and `clip` are not used. Source: wd1 (arXiv 2507.08838), which has
    no penalty.
    Error: with more than one update on a batch nothing corrects for the texts being those of an
    older policy.
    """
    loss = -advantage * logp
    return loss + kl * k3(logp, ref) if kl > 0 else loss


def clipped_k3_of_texts(
    logp: Tensor,
    old: Tensor,
    ref: Tensor | None,
    advantage: Tensor,
    scored: Tensor,
    clip: float,
    kl: float,
) -> Tensor:
    """coupled-GRPO's loss: `clipped_k3` of each token's estimate, the weighted sum over its views:
    (N, L)."""
    return clipped_k3(logp, old, ref, advantage, clip, kl) * scored


def clipped_text_ratio(
    logp: Tensor,
    old: Tensor,
    ref: Tensor | None,
    advantage: Tensor,
    scored: Tensor,
    clip: float,
    kl: float,
    per_token: str = "inside",
) -> Tensor:
    """GDPO's loss: the clipped ratio of whole texts, one value a row: (N, 1).

    Args:
        logp, old, ref: (N, L) each token's part of the text's estimate. advantage: (N, 1). scored:
            (N, L) bool, the m tokens that count. clip: epsilon. kl: weight of the mean k3 over the
            tokens (published: 0).
        per_token: where the division by m stands. "inside": r = exp((l - l_old) / m), as the
            released code has it; "outside": r = exp(l - l_old), and the loss is divided by m, as
            the paper writes it.
    Raises:
        ValueError: for an unknown `per_token`.
    Source: GDPO (arXiv 2510.08554). At the first update both have the same gradient; later
    "outside" leaves the clip range after a change of epsilon nats in the whole text, "inside" after
    epsilon nats in the average token.
    """
    if per_token not in ("inside", "outside"):
        raise ValueError(f"per_token must be 'inside' or 'outside', got {per_token!r}")
    m = scored.sum(1, keepdim=True).clamp(min=1)
    change = text_log_ratio(logp, old, scored)[:, None]
    loss = (
        clipped_ratio(change / m, torch.zeros_like(change), advantage, clip)
        if per_token == "inside"
        else clipped_ratio(change, torch.zeros_like(change), advantage, clip) / m
    )
    return loss + kl * (k3(logp, ref) * scored).sum(1, keepdim=True) / m if kl > 0 else loss


def self_distillation(
    logp: Tensor,
    old: Tensor,
    ref: Tensor | None,
    advantage: Tensor,
    scored: Tensor,
    clip: float,
    kl: float,
    psi: float = 1.0,
) -> Tensor:
    """GDSD's loss: move each text's estimate towards a teacher that is psi A L nats above the old
    policy: (N, 1).

    (d / L - psi A)^2 + kl k2 / L with d = l - l_old clamped to [ln(1 - clip), ln(1 + clip)], L the
    canvas length, and k2 = (l - l_ref)^2 / 2 of whole texts.

    Args:
        logp, old, ref: (N, L) each token's part of the text's estimate. advantage: (N, 1). scored:
            (N, L) bool.
        clip: epsilon in (0, 1), published 4e-4. psi: > 0, strength of the guidance.
    Raises:
        ValueError: for clip outside (0, 1).
    Source: GDSD (arXiv 2605.29398) and its release. The gradient is -2 (psi A - d / L) / L times
    that of the text's estimate inside the clamp and zero outside, in both directions. As |d| <=
    clip is far below psi A L, it is the policy gradient times 2 psi / L until the text has moved by
    clip nats, and then nothing.
    """
    if not 0 < clip < 1:
        raise ValueError(
            f"self-distillation clamps to [ln(1 - clip), ln(1 + clip)], so clip must be in (0, 1), got {clip}"
        )
    length = logp.shape[1]
    bounds = torch.tensor([1 - clip, 1 + clip], dtype=torch.float64).log().tolist()
    change = text_log_ratio(logp, old, scored)[:, None].clamp(*bounds)
    loss = (change / length - psi * advantage) ** 2
    return (
        loss + kl * text_log_ratio(logp, ref, scored)[:, None] ** 2 / (2 * length)
        if kl > 0
        else loss
    )
