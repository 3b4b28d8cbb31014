"""Each different row once: the rows of a group see the same canvas for much of a rollout.

A row of a pass is a text and its padding mask. Equal rows have equal logits, so the model computes
each different one once, and the result is the same: tokens, log-probabilities, and gradients to
rounding, for autograd adds up what equal rows hand back. Random numbers are not shared: they are
drawn after the logits, for each row.

How much it saves depends on the model. The tiny one is sure of most tokens: of 1 024 rows of
rollouts on `chain2` at temperature 1 (groups of 8, two tokens a pass) 155 are different. A large
model at temperature 1 writes another completion for each sibling, so only the first pass of a
rollout is shared, and views that mask the whole completion.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def distinct_rows(*columns: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows are different.

    Args:
        columns: (N, S_i) tensors of whole numbers or bools; two rows are equal if they are in all.
    Returns:
        first (U,) int64, the first of each kind of row, in order; and kind (N,) int64 in 0..U - 1,
        so that `x[first][kind]` is `x` for each of the columns.
    """
    rows = torch.cat([column.long() for column in columns], 1)
    different, kind = rows.unique(dim=0, return_inverse=True)
    number = torch.arange(len(rows), device=rows.device)
    first = number.new_full((len(different),), len(rows))
    first = first.scatter_reduce(0, kind, number, "amin")
    first, order = first.sort()  # `unique` sorts by content: back to the order of the rows
    return first, order.argsort()[kind]


def asked_of_any(where: Tensor, kind: Tensor, kinds: int) -> tuple[Tensor, Tensor]:
    """The positions at which the different rows are asked, and where each row finds its own.

    Args:
        where: (N, S) bool, the K positions at which the rows are asked.
        kind: (N,) int64 in 0..U - 1, as `distinct_rows` gives it.
        kinds: U.
    Returns:
        union (U, S) bool, the J positions at which a row of that kind is asked; and pick (K,) int64
        in 0..J - 1, in row-major order of `where`.
    """
    union = torch.zeros(kinds, where.shape[1], dtype=torch.long, device=where.device)
    union = union.index_add(0, kind, where.long()) > 0
    number = union.flatten().cumsum(0).view(union.shape) - 1
    return union, number[kind][where]


@dataclass
class Passes:
    """Forward passes of one row, as `count_passes` counts them."""

    asked: int = 0  # rows handed to the model
    computed: int = 0  # rows that its network computed: each different one once
    tokens: int = 0  # of the computed rows; with a key-value cache those not read from it


def add_passes(parts: list[Passes]) -> Passes:
    """The sum of several counts."""
    return Passes(
        asked=sum(part.asked for part in parts),
        computed=sum(part.computed for part in parts),
        tokens=sum(part.tokens for part in parts),
    )


@contextmanager
def count_passes(*models: object) -> Iterator[Passes]:
    """Count the forward passes of models while the block runs.

    Args:
        models: `MaskedDiffusionLM`s; anything else is left out, such as None, or a reference policy
            that is the policy itself.
    """
    spent = Passes()

    def ask(module: nn.Module, arguments: tuple) -> None:
        spent.asked += len(arguments[0])

    def compute(module: nn.Module, arguments: tuple) -> None:
        spent.computed += len(arguments[0])
        spent.tokens += arguments[0].numel()

    hooks = []
    for model in models:
        if isinstance(model, nn.Module):
            hooks.append(model.register_forward_pre_hook(ask))
            hooks.append(model.backbone.model.register_forward_pre_hook(compute))
    try:
        yield spent
    finally:
        for hook in hooks:
            hook.remove()
