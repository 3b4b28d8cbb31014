"""Surrogates: how does an advantage become a number whose gradient improves the policy?

A surrogate takes a log-ratio (or the log-probability itself), the advantage and the clip, and
returns one value per token; one of whole texts also takes which tokens count, and returns one value
per text. All are to be minimised.
"""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_ratio(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO's pessimistic clipped ratio: -min(ratio * A, clipped ratio * A).

    Args:
        log_ratio: (N, L) of tokens or (N, 1) of texts, new minus old log-probability in nats.
        advantage: (N, L) or (N, 1).
        clip: epsilon >= 0; the ratio counts only within [1 - clip, 1 + clip].
    Returns:
        the shape of `log_ratio`.
    """
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def weighted_likelihood(logp: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """wd1's surrogate: minus advantage times log-probability, without ratio or clip.

    Args:
        logp: (N, L) log-probabilities under the new policy, in nats.
        advantage: (N, L) or (N, 1).
        clip: not used.
    Returns:
        (N, L).
    Source: wd1 (arXiv 2507.08838).
    Error: with more than one update on a batch nothing corrects for the texts being those of an
    older policy.
    """
    return -advantage * logp


def clipped_text_ratio(
    log_ratio: Tensor, advantage: Tensor, clip: float, scored: Tensor, per_token: str = "inside"
) -> Tensor:
    """GDPO's surrogate: the clipped ratio of whole texts.

    Args:
        log_ratio: (N, 1) change d of a text's estimate divided by its m tokens, in nats:
            `mean_log_ratio`.
        advantage: (N, 1).
        clip: epsilon >= 0.
        scored: (N, L) bool, the m tokens that count.
        per_token: where the division by m stands. "inside": r = exp(d / m), as the released code
            has it; "outside": r = exp(d), and the loss is divided by m, as the paper writes it.
    Returns:
        (N, 1).
    Source: GDPO (arXiv 2510.08554). At the first update both have the same gradient; later
    "outside" leaves the clip range after a change of epsilon nats in the whole text, "inside" after
    epsilon nats in the average token.
    """
    if per_token not in ("inside", "outside"):
        raise ValueError(f"per_token must be 'inside' or 'outside', got {per_token!r}")
    if per_token == "inside":
        return clipped_ratio(log_ratio, advantage, clip)
    m = scored.sum(1, keepdim=True).clamp(min=1)
    return clipped_ratio(log_ratio * m, advantage, clip) / m


def self_distillation(
    log_ratio: Tensor, advantage: Tensor, clip: float, scored: Tensor, psi: float = 1.0
) -> Tensor:
    """GDSD's surrogate: move each text's estimate towards a teacher that is psi A L nats above the
    old policy.

    (d / L - psi A)^2 with d the log-ratio clamped to [ln(1 - clip), ln(1 + clip)] and L the canvas
    length.

    Args:
        log_ratio: (N, 1) of whole texts, in nats: `text_log_ratio`.
        advantage: (N, 1).
        clip: epsilon in (0, 1), published 4e-4.
        scored: (N, L) bool; only the canvas length counts, not what is scored.
        psi: > 0, strength of the guidance.
    Returns:
        (N, 1).
    Source: GDSD (arXiv 2605.29398) and its release. The gradient is -2 (psi A - d / L) / L times
    that of the text's estimate inside the clamp and zero outside, in both directions. As |d| <=
    clip is far below psi A L, it is the policy gradient times 2 psi / L until the text has moved by
    clip nats, and then nothing.
    """
    if not 0 < clip < 1:
        raise ValueError(
            "self-distillation clamps to [ln(1 - clip), ln(1 + clip)], "
            f"so clip must be in (0, 1), got {clip}"
        )
    length = scored.shape[1]
    low, high = torch.tensor([1 - clip, 1 + clip], dtype=torch.float64).log().tolist()
    change = log_ratio.clamp(low, high)
    return (change / length - psi * advantage) ** 2
