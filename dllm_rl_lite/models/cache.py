"""An approximate key-value cache for rollouts, block by block, after Fast-dLLM (arXiv 2505.22618).
Off by default.

The first pass of a block is an ordinary one that also writes down the keys and values of every
token. Until the block is full, a pass computes only some of the tokens and reads the others from
there:

* "prefix": from the block's start to the end of the canvas,
* "dual": the block alone.

With one block for the whole canvas, both keep the prompt. Attention is bidirectional, so what is
kept was computed while later tokens were still masked: a pass that reads it follows another law
than the model's. It is the model's where nothing is stale: in the first pass of a block, and always
with one layer, whose keys and values see their own token only.

Measured on the shipped model (benchmarks/cache.py; three tasks, blocks from 4 tokens to the whole
canvas, two tokens a pass, temperature 1): 41 to 75 % of the tokens are computed. KL(exact ||
cached) of a revealed token is 0.0001 to 0.03 nats on average, 0.03 to 11 for the worst. The 95 %
intervals of what greedy accuracy gains or loses all hold zero. But the ratio of the two laws, which
training takes to start at 1, is outside 0.8 to 1.2 for 0.05 to 5 % of the tokens, and up to e^27
for a whole text. So a cache is for evaluations. Learning from its rollouts is off-policy from the
first update.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache

CACHES = ("", "prefix", "dual")


class BlockCache(Cache):
    """Keys and values of every layer, (n, heads, S, head size), for the rows still being denoised.

    Args:
        kind: "prefix" or "dual".
    Memory: 2 * layers * key-value heads * head size numbers a token of prompt and canvas: half a
        megabyte in LLaDA-8B (bfloat16), 0.27 GB for a text of 512 tokens.
    Source: Fast-dLLM and its release, where the rows of a batch share one block. Here each has its
        own, and no text depends on its batch. A pass that writes also reveals tokens, as there:
        caching adds no pass.
    """

    def __init__(self, kind: str):
        super().__init__(
            layers=[]
        )  # of the stock class only the name is used: the modules call `update`
        if kind not in CACHES[1:]:
            raise ValueError(f"unknown cache {kind!r}: one of {CACHES[1:]}")
        self.kind = kind
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.row: Tensor | None = None  # (n,) what each row is called
        self.begun: Tensor | None = (
            None  # (n,) columns from the start of the block that was written to the end of the text
        )
        self.width = 0  # S
        self.rows: Tensor | None = None  # of the current pass: (m,) which of the n
        self.at: Tensor | None = (
            None  # of the current pass: (m, Q) columns to compute; None: all of them
        )
        self.once: Tensor | None = (
            None  # (m, Q) bool: False where a shorter row names its last column again
        )

    @torch.no_grad()
    def logits(
        self,
        lm,
        ids: Tensor,
        attention_mask: Tensor,
        where: Tensor,
        row: Tensor,
        start: Tensor,
        end: Tensor,
    ) -> Tensor:
        """What `lm(ids, attention_mask, where)` gives, without gradient, from what is kept where a
        row's block is known.

        Args:
            lm, ids, attention_mask, where: as for `MaskedDiffusionLM.forward`, all positions asked
                within the block.
            row: (n,) int64 names of the rows, always in one order. Rows may be missing next time,
                and columns on the left that were padding to all the others.
            start, end: (n,) int64 columns between which the row's block lies. A row with a new
                start is written anew.
        Returns:
            (K, V) float32 in row-major order of `where`.
        Raises:
            RuntimeError: if the model keeps no keys, as it does with gradient checkpointing in
                training mode.
        """
        self._follow(row, ids.shape[1])
        begun = ids.shape[1] - start
        fresh = self.begun != begun
        at, once = self._columns(
            start - 1 if lm.shifted else start, end if self.kind == "dual" else None
        )
        parts = []
        for rows, new in ((fresh, True), (~fresh, False)):
            if not bool(rows.any()):
                continue
            self.rows = rows.nonzero()[:, 0]
            self.at, self.once = (None, None) if new else (at[rows], once[rows])
            parts.append((rows, lm(ids[rows], attention_mask[rows], where[rows], self)))
            if not self.keys:
                raise RuntimeError(
                    "the model kept no keys: gradient checkpointing drops them in training mode, so call "
                    "lm.eval() for rollouts, or switch the cache off"
                )
        self.begun = begun
        if len(parts) == 1:
            return parts[0][1]
        owner = where.nonzero()[:, 0]  # (K,) the row that each asked position belongs to
        merged = parts[0][1].new_empty(len(owner), parts[0][1].shape[1])
        for rows, logits in parts:
            merged[rows[owner]] = logits
        return merged

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """Called by a layer's attention: keep what this pass computed, give the keys and values of
        all S columns."""
        everyone = len(self.rows) == len(self.row)
        if self.at is None and everyone:
            self.keys[layer_idx : layer_idx + 1], self.values[layer_idx : layer_idx + 1] = (
                [key_states],
                [value_states],
            )
            return key_states, value_states
        found = []
        for kept, new in (
            (self.keys[layer_idx], key_states),
            (self.values[layer_idx], value_states),
        ):
            if self.at is None:
                kept[self.rows] = new
                found.append(new)
            else:
                kept[self.rows[:, None], :, self.at] = new.transpose(1, 2)
                found.append(kept if everyone else kept[self.rows])
        return found[0], found[1]

    def _follow(self, row: Tensor, width: int) -> None:
        """Let go of the rows that have left and of the columns that were cut off on the left."""
        if self.row is None:
            self.row, self.width, self.begun = row, width, torch.full_like(row, -1)
        if len(row) == len(self.row) and width == self.width:
            return
        kept, cut = torch.isin(self.row, row), self.width - width
        for tensors in (self.keys, self.values):
            for i, old in enumerate(tensors):  # one by one: never a second copy of all layers
                tensors[i] = old[kept][:, :, cut:]
        self.row, self.width, self.begun = row, width, self.begun[kept]

    def _columns(self, first: Tensor, end: Tensor | None) -> tuple[Tensor, Tensor]:
        """(n, Q) columns from each row's first up to its end, and (n, Q) bool; a shorter row
        repeats its last column."""
        end = torch.full_like(first, self.width) if end is None else end
        at = first[:, None] + torch.arange(int((end - first).max()), device=first.device)
        return at.minimum(end[:, None] - 1), at < end[:, None]
