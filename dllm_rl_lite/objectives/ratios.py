"""Log-ratios of the new to the old policy, in nats: of a token, of a text, of a text per token."""

from __future__ import annotations

from torch import Tensor


def token_log_ratio(logp: Tensor, old: Tensor) -> Tensor:
    """(N, L) log-ratios of single tokens."""
    return logp - old


def text_log_ratio(logp: Tensor, old: Tensor, scored: Tensor) -> Tensor:
    """(N, 1) log-ratios of whole texts: the difference of the two estimates."""
    return ((logp - old) * scored).sum(1, keepdim=True)


def mean_log_ratio(logp: Tensor, old: Tensor, scored: Tensor) -> Tensor:
    """(N, 1) log-ratios of whole texts divided by their numbers of scored tokens (GSPO, arXiv
    2507.18071)."""
    m = scored.sum(1, keepdim=True).clamp(min=1)
    return text_log_ratio(logp, old, scored) / m
