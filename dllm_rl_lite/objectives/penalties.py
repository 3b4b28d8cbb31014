"""Estimates of the KL divergence from the reference policy.

k1, k2 and k3 estimate KL(policy || reference) from a token that the policy drew. Two questions must
be kept apart: is the mean of the *value* the divergence, and of which divergence is the mean
*gradient*, when the estimate is used as a loss on tokens that are already drawn? Both are answered
by enumeration of the vocabulary in `tests/objectives/test_objectives.py`.
"""

from __future__ import annotations

from torch import Tensor

from .ratios import text_log_ratio


def k1(logp: Tensor, ref: Tensor) -> Tensor:
    """Schulman's k1 estimate of KL(policy || reference), one value of either sign per token: logp -
    ref.

    Error: value unbiased, noisiest of the three. As a loss its mean gradient is zero: it only adds
    noise; its place is in the reward, where it has the gradient of KL(policy || reference).
    """
    return logp - ref


def k2(logp: Tensor, ref: Tensor) -> Tensor:
    """Schulman's k2 estimate of KL(policy || reference), one value >= 0 per token: (logp - ref)^2 /
    2.

    Error: value biased, in either direction, by third order in logp - ref. As a loss its mean
    gradient is exactly that of KL(policy || reference). Source of its use as a loss: MDPO, GDSD.
    """
    return (logp - ref) ** 2 / 2


def k3(logp: Tensor, ref: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(policy || reference), one value >= 0 per token: e^d - d - 1 with
    d = ref - logp.

    Error: value unbiased. As a loss its mean gradient is that of the other divergence, KL(reference
    || policy).
    """
    d = ref - logp
    return d.exp() - d - 1


def mean_k3(logp: Tensor, ref: Tensor, scored: Tensor) -> Tensor:
    """(N, 1): the mean of `k3` over the scored tokens of each text, GDPO's penalty (published
    weight: 0)."""
    m = scored.sum(1, keepdim=True).clamp(min=1)
    return (k3(logp, ref) * scored).sum(1, keepdim=True) / m


def text_k2(logp: Tensor, ref: Tensor, scored: Tensor) -> Tensor:
    """(N, 1): `k2` of whole texts divided by the canvas length L, (l - l_ref)^2 / (2 L), GDSD's
    penalty."""
    length = scored.shape[1]
    return text_log_ratio(logp, ref, scored) ** 2 / (2 * length)


def mixed_divergence(
    logp: Tensor,
    ref: Tensor,
    scored: Tensor,
    forward: float = 1.0,
    reverse: float = 1.0,
    chi2: float = 0.0,
    most: float = 10.0,
) -> Tensor:
    """RSPO's penalty: forward * reference / policy + reverse * (l - l_ref)^2 + chi2 * policy /
    reference, of whole texts.

    Args:
        logp: (N, L) log-probabilities under the new policy, in nats.
        ref: (N, L), under the reference.
        scored: (N, L) bool, the tokens that count.
        forward: >= 0.
        reverse: >= 0.
        chi2: >= 0.
        most: > 0; a quotient of more than this many nats has no gradient.
    Returns:
        (N, 1).
    Source: RSPO (arXiv 2503.00030) and its release, most 10.
    Error: over texts of the policy the mean gradients of the three are those of KL(reference ||
    policy), twice KL(policy || reference) and half of chi2(policy || reference), but for what
    `most` cuts off.
    """
    if min(forward, reverse, chi2) < 0 or not most > 0:
        raise ValueError(
            "need forward, reverse and chi2 of at least 0, and most above 0, got "
            f"{forward}, {reverse}, {chi2} and {most}"
        )
    d = text_log_ratio(logp, ref, scored)
    return forward * (-d).clamp(max=most).exp() + reverse * d**2 + chi2 * d.clamp(max=most).exp()
