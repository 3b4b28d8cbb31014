"""A masked diffusion LM on a stock Hugging Face causal LM whose attention is made bidirectional.

The same wrapper carries the tiny model and an 8B one: what differs is the configuration, not the
code.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from .adapters import adapted_layers, load_adapters
from .cache import BlockCache
from .checkpoints import load_backbone, locate
from .tokenizer import build_tokenizer

TINY = Path(__file__).parent / "tiny"


class MaskedDiffusionLM(nn.Module):
    """A mask predictor p(token | prompt, partly masked text), with logits aligned to the positions
    they score.

    Args:
        backbone: `LlamaForCausalLM`, `Qwen2ForCausalLM` or a sibling; its attention is switched to
            bidirectional.
        tokenizer: must name a mask, an end-of-sequence and a padding token.
        shifted: True where the checkpoint predicts token i from the hidden state i - 1 (the Dream
            family).
        name: what it is called on the protocol card of an evaluation.
    Raises:
        ValueError: if the tokenizer lacks one of the three tokens.
    """

    def __init__(
        self, backbone: nn.Module, tokenizer, shifted: bool = False, name: str = "unnamed"
    ):
        super().__init__()
        self.name = name
        self.backbone, self.tokenizer, self.shifted = backbone, tokenizer, shifted
        for name in ("mask_token_id", "eos_token_id", "pad_token_id"):
            if getattr(tokenizer, name, None) is None:
                raise ValueError(f"the tokenizer has no {name}: set it before wrapping the model")
        self.mask_id, self.eos_id = tokenizer.mask_token_id, tokenizer.eos_token_id
        self.pad_id = tokenizer.pad_token_id
        for (
            layer
        ) in backbone.model.layers:  # stock Llama is causal when it gets no mask: switch that off
            layer.self_attn.is_causal = False

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    @property
    def family(self) -> str:
        """The `model_type` of the checkpoint it came from, a key of
        `models.checkpoints.FAMILIES`."""
        return getattr(self.backbone.config, "family", self.backbone.config.model_type)

    @property
    def max_length(self) -> int:
        """Prompt plus completion, in tokens."""
        return self.backbone.config.max_position_embeddings

    def precision(self) -> contextlib.AbstractContextManager:
        """What a pass of the backbone runs in: bfloat16 products where the weights are bfloat16,
        adapters included.

        Adapters are kept in float32 for the optimiser; float32 products would make them as dear as
        the weights.
        """
        lower = self.backbone.dtype == torch.bfloat16 and adapted_layers(self)
        return (
            torch.autocast(self.device.type, torch.bfloat16) if lower else contextlib.nullcontext()
        )

    def forward(
        self, ids: Tensor, attention_mask: Tensor, where: Tensor, cache: BlockCache | None = None
    ) -> Tensor:
        """Aligned logits at the asked positions only; the (rows, positions, vocabulary) tensor is
        never built.

        Args:
            ids: (N, S) int64, masked positions hold `mask_id`.
            attention_mask: (N, S) bool, False on padding (left padding; padding is never attended
                to).
            where: (N, S) bool, the K positions to score.
            cache: writes keys and values down, or knows them and says which positions to compute
                (`cache.py`).
        Returns:
            (K, V) float32 in row-major order of `where`; the mask token's logit is -inf: it is
            never an output.
        Raises:
            ValueError: if S exceeds `max_length`, shapes differ, or `where` asks what a shifted
                model cannot score.
        """
        if ids.shape[1] > self.max_length:
            raise ValueError(
                f"prompt + completion is {ids.shape[1]} tokens, the model holds {self.max_length}: shorten"
            )
        if not (ids.shape == attention_mask.shape == where.shape):
            raise ValueError(
                f"ids {tuple(ids.shape)}, attention_mask {tuple(attention_mask.shape)} and where "
                f"{tuple(where.shape)} must have one shape"
            )
        if self.shifted:
            if bool(where[:, 0].any()):
                raise ValueError(
                    "a shifted model predicts token i from position i - 1: position 0 has no logits"
                )
            where = torch.cat([where[:, 1:], torch.zeros_like(where[:, :1])], 1)
        arguments = self._attention(attention_mask.bool(), cache)
        if cache is not None and cache.at is not None:
            ids, where = ids.gather(1, cache.at), where.gather(1, cache.at) & cache.once
        with self.precision():
            hidden = self.backbone.model(
                ids, use_cache=False, **arguments
            ).last_hidden_state  # (N, S or Q, D)
        logits = self.backbone.lm_head(hidden[where])  # (K, V)
        with (
            torch.no_grad()
        ):  # in place, so no copy; no gradient is lost: a token of probability 0 has none
            logits[:, self.mask_id] = float("-inf")
        return logits.float()

    logits = forward

    def _attention(self, keys: Tensor, cache: BlockCache | None) -> dict:
        """What the backbone has to be told of the (N, S) real tokens: nothing where every token
        sees every other."""
        eager = self.backbone.config._attn_implementation == "eager"  # which ignores is_causal
        if cache is None and not eager and bool(keys.all()):
            return {}
        # An explicit (N, 1, Q, S) mask: each computed position (all S, or those of a cache) may see
        # every real token. Padding queries see themselves too, so that no softmax is empty.
        # Positions count real tokens, so a row does not depend on its padding.
        column, dtype = torch.arange(keys.shape[1], device=keys.device), self.backbone.dtype
        at = column[None] if cache is None or cache.at is None else cache.at
        allowed = keys[:, None, None, :] | (at[..., None] == column)[:, None]
        mask = torch.zeros(allowed.shape, dtype=dtype, device=keys.device).masked_fill(
            ~allowed, torch.finfo(dtype).min
        )
        position = (keys.long().cumsum(1) - 1).clamp(min=0).gather(1, at.expand(len(keys), -1))
        return {"attention_mask": mask, "position_ids": position, "past_key_values": cache}

    def save_pretrained(
        self, folder: str | os.PathLike, weights: dict[str, Tensor] | None = None
    ) -> None:
        """Write config, safetensors weights and tokenizer to `folder`; `load_lm(folder)` reads them
        back.

        weights: the backbone's, where the model itself does not hold them whole.
        A published checkpoint is written in the stock layout. Raises ValueError for a model with
        adapters or in 4 bits.
        """
        if adapted_layers(self) or getattr(self.backbone, "is_loaded_in_4bit", False):
            raise ValueError(
                "only plain weights are written here: save_adapters(lm, folder), or merge_adapters(lm) first"
            )
        self.backbone.config.shifted = self.shifted
        with _no_progress_bars():
            self.backbone.save_pretrained(folder, state_dict=weights)
        self.tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _no_progress_bars():
    """transformers draws a bar for every file, which floods logs and notebooks."""
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
    # 0.06 is near 1/sqrt(128): with the stock 0.02, digit tables take thousands of steps to learn,
    # not hundreds
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_length,
        initializer_range=0.06,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(
        devices=[]
    ):  # initialisation reads the global generator: leave it as it was
        torch.manual_seed(seed)
        return MaskedDiffusionLM(LlamaForCausalLM(config), tokenizer)


def load_lm(
    name: str | os.PathLike = "tiny",
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    adapters: str | os.PathLike | None = None,
    quantize: str | None = None,
    revision: str | None = None,
) -> MaskedDiffusionLM:
    """Load a masked diffusion LM: ours or a published checkpoint, from safetensors alone, without
    remote code.

    Weights are streamed, so the host holds one tensor besides the model (and none of it, where
    `device` is a GPU).

    Args:
        name: "tiny" (shipped in the package), a folder, or a hub id such as
            "GSAI-ML/LLaDA-8B-Instruct" (`models.checkpoints.HUB` lists those that are known):
            LLaDA-8B, Dream-7B, DiffuCoder-7B, dllm's Qwen3-0.6B mdlm, or what `save_pretrained`
            wrote. The tokenizer and its chat template come from the same folder; a base model
            without a template gets prompts as they stand.
        device: where the weights go.
        dtype: of the weights; logits are float32 whatever it is.
        adapters: a folder of LoRA adapters to put on (`adapters.load_adapters`).
        quantize: "4bit": nf4 with double quantisation, the head left as it is (needs the
            `quantized` extra).
        revision: of a hub id.
    Returns:
        the model in evaluation mode (no dropout).
    Raises:
        ValueError: for an unknown name (with the nearest match), a checkpoint that the stock
            modules do not compute, or weights that are truncated, missing, unexpected or of another
            shape.
    """
    if quantize not in (None, "4bit"):
        raise ValueError(f"quantize must be None or '4bit', got {quantize!r}")
    folder = TINY if str(name) == "tiny" else locate(str(name), revision)
    called = " ".join(
        map(str, filter(None, (name, revision, quantize, adapters and f"with adapters {adapters}")))
    )
    lm = MaskedDiffusionLM(*load_backbone(folder, device, dtype, quantize), called).eval()
    return lm if adapters is None else load_adapters(lm, adapters)
