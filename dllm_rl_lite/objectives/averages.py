"""What the losses of a batch are divided by: the published ways of averaging."""

from __future__ import annotations

import torch
from torch import Tensor

from ..names import unknown

AVERAGES = ("token", "sequence", "group", "canvas", "text_sum", "group_sum")


def divisors(scored: Tensor, average: str, group: int = 1) -> tuple[Tensor, float]:
    """An average as two divisions: each row's losses by the row's size, their sum by a count.

    Both belong to the whole batch, so micro-batches that use them add up to the batch's average.

    Args:
        scored: (N, L) bool, the tokens that carry loss; or int64, how many losses each carries.
        average: "token": mean over all tokens of the batch, one gradient however it is cut (DAPO);
            "sequence": mean over texts of each text's mean (GRPO; d1's paper); "group": mean over
            groups of each group's token mean (what the code of d1 and its descendants comes to:
            it averages micro-batches of one group each); "canvas": sum over N * L, a constant
            (Dr.GRPO); "text_sum" and "group_sum": mean over texts, or groups, of the sum of their
            losses (AGRPO; wd1). A loss of whole texts has one value per text, so its "text_sum" is
            the mean over texts.
        group: siblings in a group, rows prompt by prompt; only the averages over groups need it.
    Returns:
        sizes (N, 1) float32, at least 1; and the count.
    Source: GRPO (arXiv 2402.03300), DAPO (arXiv 2503.14476), Dr.GRPO (arXiv 2503.20783).
    """
    n, length = scored.shape
    if average not in AVERAGES:
        raise ValueError(unknown("average", average, AVERAGES))
    tokens = scored.sum(1, keepdim=True)
    sizes = torch.ones_like(tokens)
    if average == "sequence":
        sizes = tokens
    if average == "group":
        if group < 1 or n % group:
            raise ValueError(f"group {group} must divide the number of rows, {n}")
        sizes = tokens.view(-1, group).sum(1).repeat_interleave(group)[:, None]
    counts = {
        "token": float(tokens.sum()),
        "sequence": float(n),
        "group": n / group,
        "canvas": float(n * length),
        "text_sum": float(n),
        "group_sum": n / group,
    }
    return sizes.clamp(min=1).float(), counts[average]


def token_weights(scored: Tensor, per: str, group: int = 1) -> Tensor:
    """What each token's loss is multiplied by before all are summed.

    Args:
        scored: (N, L) bool, the tokens that carry loss; a row without any has weight 0.
        per: the average, as in `divisors`.
        group: siblings in a group, as in `divisors`.
    Returns:
        (N, L) float32. Over the scored tokens they sum to 1 with "token", "sequence" and "group"
        where nothing is empty, and with "canvas" to the filled share of the canvas.
    """
    sizes, count = divisors(scored, per, group)
    return scored / sizes / max(count, 1.0)
