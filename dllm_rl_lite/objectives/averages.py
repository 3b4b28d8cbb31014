"""The published ways of averaging the losses of tokens."""

from __future__ import annotations

import torch
from torch import Tensor

AVERAGES = ("token", "sequence", "group", "canvas")


def token_weights(scored: Tensor, per: str, group: int = 1) -> Tensor:
    """What each token's loss is multiplied by before all are summed: the published ways of
    averaging.

    Args:
        scored: (N, L) bool, the tokens that carry loss; a row without any has weight 0.
        per: "token": mean over all tokens of the batch (DAPO; d1's code); "sequence": mean over
            texts of each text's mean (GRPO; d1's paper); "group": mean over groups of each group's
            token mean; "canvas": sum over N * L, a constant (Dr.GRPO).
        group: siblings in a group, rows prompt by prompt; only "group" needs it.
    Returns:
        (N, L) float32. Over the scored tokens they sum to 1, with "canvas" to the filled share of
        the canvas.
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
    total = {
        "token": per_row.sum().expand(n),
        "sequence": n * per_row,
        "group": n / group * per_group,
        "canvas": torch.full_like(per_row, n * length),
    }[per]
    return scored / total.clamp(min=1)[:, None]
