"""Estimates of the KL divergence from the reference policy.

k1, k2 and k3 estimate KL(policy || reference) from a token that the policy drew. Two questions must
be kept apart: is the mean of the *value* the divergence, and of which divergence is the mean
*gradient*, when the estimate is used as a loss on tokens that are already drawn? Both are answered
by enumeration of the vocabulary in `tests/objectives/test_objectives.py`.
"""

from __future__ import annotations

from torch import Tensor


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
