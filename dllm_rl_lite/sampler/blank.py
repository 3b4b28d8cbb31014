"""Before the first step: prompts and canvas are checked, and the record is begun."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models import MaskedDiffusionLM, encode_prompts
from .decoding import Decoding
from .rollout import Rollout


def encoded(
    lm: MaskedDiffusionLM, prompts: list[str] | tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """(ids, mask) of shape (N, P) of prompts in either form; ValueError if they are neither."""
    if isinstance(prompts, list):
        prompts = encode_prompts(lm.tokenizer, prompts)
    if not isinstance(prompts, tuple) or len(prompts) != 2:
        raise ValueError(
            f"prompts must be a list of texts, or (ids, mask), got {type(prompts).__name__}"
        )
    ids, mask = prompts
    if ids.ndim != 2 or 0 in ids.shape or ids.dtype != torch.long or mask.shape != ids.shape:
        raise ValueError(
            "prompts must be int64 ids and a mask of one shape (N, P), neither N nor P zero, got "
            f"{ids.dtype} {tuple(ids.shape)} and {tuple(mask.shape)}"
        )
    return ids, mask


def check_canvas(
    lm: MaskedDiffusionLM, ids: Tensor, decoding: Decoding, blocks: Tensor, start: Tensor
) -> None:
    """Raise ValueError unless model, prompts, canvas and blocks fit together."""
    rule = decoding.rule
    length = decoding.length
    if ids.shape[1] + length > lm.max_length:
        raise ValueError(
            f"prompt of {ids.shape[1]} tokens + completion of {length} must fit in "
            f"1..{lm.max_length}: shorten the prompt or the length"
        )
    if blocks.dtype != torch.long:
        raise ValueError(f"block_length must be whole numbers, got {blocks.dtype}")
    for size in blocks.unique().tolist():
        if size < 1 or length % size:
            raise ValueError(f"block_length {size} must divide length {length}")
        rule.check(length // size)
    if blocks.shape not in ((), (len(ids),)):
        raise ValueError(
            f"block_length must be one number or one per row ({len(ids)}), "
            f"got {tuple(blocks.shape)}"
        )
    if start.shape != (len(ids), length) or start.dtype != torch.long:
        raise ValueError(
            f"anchor must be int64 of shape {(len(ids), length)}, "
            f"got {start.dtype} {tuple(start.shape)}"
        )


def blank_rollout(
    lm: MaskedDiffusionLM,
    prompts: list[str] | tuple[Tensor, Tensor],
    decoding: Decoding,
    blocks: Tensor,
    anchor: Tensor | None,
    generator: torch.Generator | None,
) -> Rollout:
    """The record before the first step, on the model's device; arguments as for `fill_canvas`,
    which are checked."""
    ids, prompt_mask = encoded(lm, prompts)
    if anchor is None:
        start = torch.full((len(ids), decoding.length), lm.mask_id)
    else:
        start = anchor
    check_canvas(lm, ids, decoding, blocks, start)
    if generator is None and decoding.random:
        raise ValueError("this needs chance: pass generator=torch.Generator(...).manual_seed(...)")
    start = start.to(lm.device)
    return Rollout(
        prompt=ids.to(lm.device),
        prompt_mask=prompt_mask.to(lm.device).bool(),
        tokens=start.clone(),
        unmask_step=torch.where(start != lm.mask_id, -1, 0),
        logprob=torch.zeros(start.shape, device=start.device),
        entropy=torch.zeros(start.shape, device=start.device),
        n_forwards=torch.zeros(len(start), dtype=torch.long, device=start.device),
        mask_id=lm.mask_id,
        eos_id=lm.eos_id,
    )
