"""A masked diffusion LM on a stock Hugging Face causal LM whose attention is made bidirectional.

The same wrapper carries the tiny model and an 8B one: what differs is the configuration, not the
code.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from .cache import BlockCache
from .sharing import asked_of_any, distinct_rows
from .tokenizer import build_tokenizer


class MaskedDiffusionLM(nn.Module):
    """A mask predictor p(token | prompt, partly masked text), with logits aligned to the positions
    they score.

    Args:
        backbone: `LlamaForCausalLM`, `Qwen2ForCausalLM` or a sibling; its attention is switched to
            bidirectional.
        tokenizer: must name a mask, an end-of-sequence and a padding token.
        shifted: True if the checkpoint predicts token i from the hidden state i - 1 (the Dream
            family).
        name: what it is called on the protocol card of an evaluation.
    Raises:
        ValueError: if the tokenizer lacks one of the three tokens, or the model does.
    """

    shares_rows = True  # compute equal rows of a pass once (`sharing.py`)?

    def __init__(
        self,
        backbone: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        shifted: bool = False,
        name: str = "unnamed",
    ):
        super().__init__()
        for role in ("mask_token_id", "eos_token_id", "pad_token_id"):
            number = getattr(tokenizer, role, None)
            if number is None:
                raise ValueError(f"the tokenizer has no {role}: set it before wrapping the model")
            if number >= backbone.config.vocab_size:
                raise ValueError(
                    f"{role} {number} of the tokenizer is outside the model's vocabulary of "
                    f"{backbone.config.vocab_size} tokens"
                )
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.shifted = shifted
        self.name = name
        self.mask_id = tokenizer.mask_token_id
        self.eos_id = tokenizer.eos_token_id
        self.pad_id = tokenizer.pad_token_id
        # A stock layer is causal when it gets no mask: switch that off.
        for layer in backbone.model.layers:
            layer.self_attn.is_causal = False

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    @property
    def family(self) -> str:
        """The `model_type` of the checkpoint it came from, a key of
        `models.families.FAMILIES`."""
        return getattr(self.backbone.config, "family", self.backbone.config.model_type)

    @property
    def max_length(self) -> int:
        """Prompt plus completion, in tokens."""
        return self.backbone.config.max_position_embeddings

    @property
    def has_adapters(self) -> bool:
        return hasattr(self.backbone, "peft_config")

    @property
    def is_quantized(self) -> bool:
        """Are the weights packed into 4 bits?"""
        return getattr(self.backbone, "is_loaded_in_4bit", False)

    def precision(self) -> contextlib.AbstractContextManager:
        """The context of a pass of the backbone: bfloat16 products if the weights are bfloat16,
        adapters included.

        Adapters are kept in float32 for the optimiser; float32 products would make them as
        expensive as the weights.
        """
        if self.has_adapters and self.backbone.dtype == torch.bfloat16:
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def forward(
        self,
        ids: Tensor,
        attention_mask: Tensor,
        where: Tensor,
        cache: BlockCache | None = None,
        states: bool = False,
    ) -> Tensor:
        """Aligned logits at the asked positions only; the (rows, positions, vocabulary) tensor is
        never built, and equal rows are computed once (`sharing.py`).

        Args:
            ids: (N, S) int64, masked positions hold `mask_id`.
            attention_mask: (N, S) bool, False on padding (left padding; padding is never attended
                to).
            where: (N, S) bool, the K positions to score.
            cache: keeps the keys and values of this pass, or has them and says which positions to
                compute (`cache.py`).
            states: give what the head reads, from which `head` makes the logits; without a cache.
        Returns:
            (K, V) float32 in row-major order of `where`; the mask token's logit is -inf: it is
            never an output. With `states` (K, H) in the backbone's precision.
        Raises:
            ValueError: if S exceeds `max_length`, shapes differ, or `where` asks what a shifted
                model cannot score.
        """
        if ids.shape[1] > self.max_length:
            raise ValueError(
                f"prompt + completion is {ids.shape[1]} tokens, the model holds "
                f"{self.max_length}: shorten"
            )
        if not (ids.shape == attention_mask.shape == where.shape):
            raise ValueError(
                f"ids {tuple(ids.shape)}, attention_mask {tuple(attention_mask.shape)} and where "
                f"{tuple(where.shape)} must have one shape"
            )
        if self.shifted and bool(where[:, 0].any()):
            raise ValueError(
                "a shifted model predicts token i from position i - 1: position 0 has no logits"
            )
        attention_mask = attention_mask.bool()
        if cache is not None:
            return self.head(self._states(ids, attention_mask, where, cache))
        finish = nn.Identity() if states else self.head
        if not self.shares_rows or self.draws_dropout:
            return finish(self._states(ids, attention_mask, where))
        first, kind = distinct_rows(ids, attention_mask)
        if len(first) == len(ids):
            return finish(self._states(ids, attention_mask, where))
        union, pick = asked_of_any(where, kind, len(first))
        found = self._states(ids[first], attention_mask[first], union)
        return finish(found).index_select(0, pick)

    def head(self, states: Tensor) -> Tensor:
        """(K, V) float32 logits of (K, H) states, -inf for the mask token."""
        logits = self.backbone.lm_head(states).float()
        logits[:, self.mask_id] = float("-inf")
        return logits

    def _states(
        self, ids: Tensor, attention_mask: Tensor, where: Tensor, cache: BlockCache | None = None
    ) -> Tensor:
        """(K, H) what the head reads, each row computed, equal or not; `where` is not yet
        shifted."""
        if self.shifted:
            where = torch.cat([where[:, 1:], torch.zeros_like(where[:, :1])], 1)
        arguments = self._attention(attention_mask, cache)
        if cache is not None and cache.at is not None:
            ids = ids.gather(1, cache.at)
            where = where.gather(1, cache.at) & cache.once
        with self.precision():
            hidden = self.backbone.model(ids, use_cache=False, **arguments).last_hidden_state
        return hidden[where]

    @property
    def draws_dropout(self) -> bool:
        """Is it in training mode with dropout? Then equal rows are to be computed apart, each with
        units of its own."""
        if not self.training:
            return False
        return any(isinstance(module, nn.Dropout) and module.p > 0 for module in self.modules())

    def _attention(self, keys: Tensor, cache: BlockCache | None) -> dict:
        """What the backbone has to be told of the (N, S) real tokens: nothing if every token sees
        every other."""
        # Eager attention ignores is_causal, so it always needs a mask.
        eager = self.backbone.config._attn_implementation == "eager"
        if cache is None and not eager and bool(keys.all()):
            return {}
        # An explicit (N, 1, Q, S) mask: each computed position (all S, or those of a cache) may see
        # every real token. Padding queries see themselves too, so that no softmax is empty.
        column = torch.arange(keys.shape[1], device=keys.device)
        at = column[None] if cache is None or cache.at is None else cache.at
        allowed = keys[:, None, None, :] | (at[..., None] == column)[:, None]
        dtype = self.backbone.dtype
        mask = torch.zeros(allowed.shape, dtype=dtype, device=keys.device)
        mask = mask.masked_fill(~allowed, torch.finfo(dtype).min)
        # Positions count real tokens, so a row does not depend on its padding.
        position = (keys.long().cumsum(1) - 1).clamp(min=0)
        position = position.gather(1, at.expand(len(keys), -1))
        return {"attention_mask": mask, "position_ids": position, "past_key_values": cache}

    def save_pretrained(
        self, folder: str | os.PathLike, weights: dict[str, Tensor] | None = None
    ) -> None:
        """Write config, safetensors weights and tokenizer to `folder`, a published checkpoint in
        the stock layout; `load_lm(folder)` reads them back.

        Args:
            folder: where to write.
            weights: the backbone's, if the model itself does not hold them whole.
        Raises:
            ValueError: for a model with adapters or in 4 bits.
        """
        if self.has_adapters or self.is_quantized:
            raise ValueError(
                "only plain weights are written here: save_adapters(lm, folder), or "
                "merge_adapters(lm) first"
            )
        self.backbone.config.shifted = self.shifted
        with no_progress_bars():
            self.backbone.save_pretrained(folder, state_dict=weights)
        self.tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing a bar per file, which floods logs and notebooks."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def new_tiny_lm(
    hidden: int = 128,
    layers: int = 5,
    heads: int = 4,
    feed_forward: int = 384,
    max_length: int = 256,
    seed: int = 0,
) -> MaskedDiffusionLM:
    """An untrained tiny model (1.1 M parameters at the defaults) with the tiny tokenizer; weights
    drawn from `seed`."""
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_length,
        # Near 1/sqrt(128): with the stock 0.02, digit tables take thousands of steps to learn, not
        # hundreds.
        initializer_range=0.06,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    # Initialisation reads the global generator: leave it as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MaskedDiffusionLM(LlamaForCausalLM(config), tokenizer)


def fingerprint(lm: MaskedDiffusionLM) -> str:
    """Eight hex digits that tell two states of the weights apart, adapters included: a hash of the
    names, the shapes and the first 256 values of every tensor."""
    digest = hashlib.blake2b(digest_size=4)
    for name, weight in sorted(lm.named_parameters(remove_duplicate=False)):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        # A copy, because numpy pins the memory that it is given.
        values = weight.flatten()[:256].detach().clone().float().cpu()
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
