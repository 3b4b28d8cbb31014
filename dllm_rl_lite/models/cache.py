"""An approximate key-value cache for rollouts, block by block, after Fast-dLLM (arXiv 2505.22618).
Off by default.

The first pass of a block is an ordinary one that also keeps the keys and values of every token.
Until the block is full, a pass computes only some of the tokens and reads the others from there:

* "prefix": computes from the block's start to the end of the canvas,
* "dual": computes the block alone.

With one block for the whole canvas, both keep the prompt. Attention is bidirectional, so what is
kept was computed while later tokens were still masked: a pass that reads it follows another
distribution than the model's. It is the model's if nothing is stale: in the first pass of a block,
and always with one layer, whose keys and values see their own token only.

Measured on the shipped model (benchmarks/cache.py; three tasks, blocks from 4 tokens to the whole
canvas, two tokens per pass, temperature 1): 41 to 75 % of the tokens are computed. KL(exact ||
cached) of a revealed token is 0.0001 to 0.03 nats on average, 0.03 to 11 for the worst. The 95 %
intervals of what greedy accuracy gains or loses all hold zero. But the ratio of the two
distributions, which training takes to start at 1, is outside 0.8 to 1.2 for 0.05 to 5 % of the
tokens, and up to e^27 for a whole text. So a cache is for evaluations. Learning from its rollouts
is off-policy from the first update.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache

CACHES = ("", "prefix", "dual")


class BlockCache(Cache):
    """Keys and values of every layer, (n, heads, S, head size), for the rows still being denoised.

    Memory: 2 * layers * key-value heads * head size numbers per token of prompt and canvas: half a
        megabyte in LLaDA-8B (bfloat16), 0.27 GB for a text of 512 tokens.
    Source: Fast-dLLM and its release, where the rows of a batch share one block. Here each has its
        own, and no text depends on its batch. A pass that keeps also reveals tokens, as there:
        caching adds no pass.
    """

    def __init__(self, kind: str):
        # Only the name of the stock class is used: the modules call `update`.
        super().__init__(layers=[])
        if kind not in CACHES[1:]:
            raise ValueError(f"unknown cache {kind!r}: one of {CACHES[1:]}")
        self.kind = kind
        self.keys: dict[int, Tensor] = {}  # by layer
        self.values: dict[int, Tensor] = {}
        self.row: Tensor | None = None  # (n,) row ids
        # (n,) columns from the start of the block that is kept to the end of the text.
        self.begun: Tensor | None = None
        self.width = 0  # S
        # Of the current pass:
        self.rows: Tensor | None = None  # (m,) which of the n rows
        self.at: Tensor | None = None  # (m, Q) columns to compute; None: all of them
        # (m, Q) bool, False if a shorter row names its last column again.
        self.once: Tensor | None = None

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
            lm: a `MaskedDiffusionLM`.
            ids: (n, S) int64, as for its `forward`.
            attention_mask: (n, S) bool.
            where: (n, S) bool, all positions within the block.
            row: (n,) int64 row ids, always in one order. Rows may be missing next time, and columns
                on the left that were padding to all the others.
            start: (n,) int64 first column of the row's block. A row with a new start is computed
                whole.
            end: (n,) int64 column after the row's block.
        Returns:
            (K, V) float32 in row-major order of `where`.
        Raises:
            RuntimeError: if the model keeps no keys, as it does with gradient checkpointing in
                training mode.
        """
        self._follow(row, ids.shape[1])
        begun = ids.shape[1] - start
        fresh = self.begun != begun
        self.begun = begun
        if bool(fresh.all()):
            return self._pass(lm, ids, attention_mask, where, fresh)
        at, once = self._columns(
            start - 1 if lm.shifted else start,
            end if self.kind == "dual" else torch.full_like(end, self.width),
        )
        if not bool(fresh.any()):
            return self._pass(lm, ids, attention_mask, where, ~fresh, at, once)
        new = self._pass(lm, ids, attention_mask, where, fresh)
        old = self._pass(lm, ids, attention_mask, where, ~fresh, at, once)
        owner = where.nonzero()[:, 0]  # (K,) the row that each asked position belongs to
        merged = new.new_empty(len(owner), new.shape[1])
        merged[fresh[owner]] = new
        merged[~fresh[owner]] = old
        return merged

    def _pass(
        self,
        lm,
        ids: Tensor,
        attention_mask: Tensor,
        where: Tensor,
        chosen: Tensor,
        at: Tensor | None = None,
        once: Tensor | None = None,
    ) -> Tensor:
        """The logits of the chosen rows, (n,) bool, from a pass over all columns or those of
        `at`."""
        self.rows = chosen.nonzero()[:, 0]
        self.at = None if at is None else at[chosen]
        self.once = None if once is None else once[chosen]
        logits = lm(ids[chosen], attention_mask[chosen], where[chosen], self)
        if not self.keys:
            raise RuntimeError(
                "the model kept no keys: gradient checkpointing drops them in training mode, "
                "so call lm.eval() for rollouts, or switch the cache off"
            )
        return logits

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """Called by a layer's attention: keep what this pass computed, give the keys and values of
        all S columns."""
        keys = self._keep(self.keys, layer_idx, key_states)
        values = self._keep(self.values, layer_idx, value_states)
        return keys, values

    def _keep(self, kept: dict[int, Tensor], layer: int, new: Tensor) -> Tensor:
        """Write what a pass computed for its rows into what is kept; returns all S columns of these
        rows."""
        everyone = len(self.rows) == len(self.row)
        if self.at is not None:
            kept[layer][self.rows[:, None], :, self.at] = new.transpose(1, 2)
            return kept[layer] if everyone else kept[layer][self.rows]
        if everyone:
            kept[layer] = new
        else:
            kept[layer][self.rows] = new
        return new

    def _follow(self, row: Tensor, width: int) -> None:
        """Let go of the rows that have left and of the columns that were cut off on the left."""
        if self.row is None:
            self.begun = torch.full_like(row, -1)
        elif len(row) < len(self.row) or width < self.width:
            stays = torch.isin(self.row, row)
            cut = self.width - width
            self.begun = self.begun[stays]
            for kept in (self.keys, self.values):
                for layer, old in kept.items():  # one by one: never a second copy of all layers
                    kept[layer] = old[stays][:, :, cut:]
        self.row = row
        self.width = width

    def _columns(self, first: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """(n, Q) columns from each row's first up to its end, and (n, Q) bool; a shorter row
        repeats its last column."""
        at = first[:, None] + torch.arange(int((end - first).max()), device=first.device)
        return at.minimum(end[:, None] - 1), at < end[:, None]
