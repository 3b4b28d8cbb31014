"""Log-ratios of the new to the old policy: of a token, of a text, of a text per token."""

from __future__ import annotations

from torch import Tensor


def token_log_ratio(logp: Tensor, old: Tensor, scored: Tensor) -> Tensor:
    """(K,) log-ratios of the K scored tokens: what a token-level clip sees."""
    return (logp - old)[scored]


def text_log_ratio(logp: Tensor, old: Tensor, scored: Tensor) -> Tensor:
    """(N,) log-ratios of whole texts: the difference of the two estimates, in nats."""
    return ((logp - old) * scored).sum(1)


def mean_log_ratio(logp: Tensor, old: Tensor, scored: Tensor) -> Tensor:
    """(N,) log-ratios of whole texts divided by their numbers of scored tokens (GSPO, arXiv
    2507.18071), in nats."""
    return text_log_ratio(logp, old, scored) / scored.sum(1).clamp(min=1)
