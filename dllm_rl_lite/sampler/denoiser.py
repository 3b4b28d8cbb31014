"""Denoising: start from a masked canvas, fill it in a few forward passes, remember when each token
appeared."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..models import encode_prompts
from ..models.cache import CACHES, BlockCache
from .rollout import Rollout
from .rules import Rule, RuleInput

EOS_POLICIES = ("free", "stop", "forbid")
RECORDS = (False, True, "likeliest")


@dataclass
class _State:
    """The rows still being denoised: `row` says where each belongs in the result."""

    row: Tensor  # (n,)
    prompt: Tensor  # (n, P)
    prompt_mask: Tensor  # (n, P)
    canvas: Tensor  # (n, L)
    # (n, L) running confidence of the tokens written so far; inf where anchored or not yet written
    running: Tensor
    block_length: Tensor  # (n,) tokens of a block
    block: Tensor  # (n,) block being filled
    step_in_block: Tensor  # (n,)
    masked_at_start: Tensor  # (n,) masked positions when the block began

    def keep(self, rows: Tensor) -> _State:
        kept = {name: value[rows] for name, value in vars(self).items()}
        width = (
            int(kept["prompt_mask"].any(0).long().argmax()) if len(kept["row"]) else 0
        )  # all-padding columns go
        kept["prompt"], kept["prompt_mask"] = (
            kept["prompt"][:, width:],
            kept["prompt_mask"][:, width:],
        )
        return _State(**kept)


@torch.no_grad()
def denoise(
    lm,
    prompts: list[str] | tuple[Tensor, Tensor],
    length: int,
    rule: Rule,
    block_length: int | Tensor | None = None,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    eos: str = "free",
    anchor: Tensor | None = None,
    generator: torch.Generator | None = None,
    record: bool | str = False,
    cache: str = "",
) -> Rollout:
    """Fill a canvas of `length` masked tokens after each prompt.

    Rows are independent: each has its own block and step counters, leaves the batch when it is
    finished, and never attends to padding. Only the masked positions of a row's block are scored.
    Confidence is the candidate's probability at temperature 1 before any filter, whatever
    temperature it was drawn at.

    Args:
        lm: a `MaskedDiffusionLM`.
        prompts: N user messages, or (ids, mask) of shape (N, P) as `encode_prompts` returns them.
        length: L, tokens of the completion canvas; it is never shortened.
        rule: which of the masked positions to reveal at each forward pass.
        block_length: tokens of a semi-autoregressive block, or one a row (N,); must divide
            `length`. None: one block.
        temperature: of the candidates; 0 takes the likeliest token. top_k (0: off) and top_p (1:
            off) filter them.
        eos: "free" treats end-of-sequence like any token (LLaDA); "stop" ends a row when everything
            before an end-of-sequence token is written, and fills the rest with it without a forward
            pass (those positions have log-probability 0 and the unmask step after the last);
            "forbid" never writes it, and records log-probabilities of the law without it.
        anchor: (N, L) int64, `mask_id` where free; the other tokens are given.
        generator: all chance comes from it; noise is float32 (in bfloat16 the tail could never be
            drawn).
        record: keep every step's complete prediction (`predicted`), for rewards and credit by step:
            True fills in the candidates, "likeliest" the likeliest tokens.
        cache: "prefix" or "dual" keys and values, for speed: texts are drawn from a slightly
            different law, which is what `logprob` and `entropy` then are of (`models/cache.py`).
    Returns:
        a `Rollout` on the model's device.
    Raises:
        ValueError: for a canvas that does not fit the model, a missing generator, or any argument
            that cannot be.
    """
    ids, prompt_mask = (
        encode_prompts(lm.tokenizer, prompts) if isinstance(prompts, list) else prompts
    )
    device, block_length = (
        lm.device,
        torch.as_tensor(length if block_length is None else block_length),
    )
    _check(
        lm,
        ids,
        length,
        rule,
        block_length,
        temperature,
        top_k,
        top_p,
        eos,
        anchor,
        generator,
        record,
        cache,
    )
    start = torch.full((len(ids), length), lm.mask_id) if anchor is None else anchor
    out, state = _begin(
        lm, ids.to(device), prompt_mask.to(device).bool(), start.to(device), block_length.to(device)
    )
    kept = BlockCache(cache) if cache else None
    history, predicted, confidence = [], [], []
    while True:
        state = _advance(state, lm.mask_id)
        if not len(state.row):
            break
        if rule.remasks:
            history.append(out.tokens.clone())
        if record:
            predicted.append(out.tokens.clone())
            confidence.append(torch.zeros_like(out.logprob))
        row, active, token, logprob = _step(
            lm,
            state,
            out,
            rule,
            temperature,
            top_k,
            top_p,
            eos,
            generator,
            record == "likeliest",
            kept,
        )
        if record:
            predicted[-1][row] = torch.where(active, token, predicted[-1][row])
            confidence[-1][row] = logprob
    return replace(
        out,
        **{
            name: torch.stack(kept) if kept else None
            for name, kept in (
                ("history", history),
                ("predicted", predicted),
                ("predicted_logprob", confidence),
            )
        },
    )


def _check(
    lm,
    ids,
    length,
    rule,
    block_length,
    temperature,
    top_k,
    top_p,
    eos,
    anchor,
    generator,
    record,
    cache,
) -> None:
    if length < 1 or ids.shape[1] + length > lm.max_length:
        raise ValueError(
            f"prompt of {ids.shape[1]} tokens + completion of {length} must fit in 1..{lm.max_length}: "
            "shorten the prompt or the length"
        )
    for size in block_length.unique().tolist():
        if size < 1 or length % size:
            raise ValueError(f"block_length {size} must divide length {length}")
        rule.check(length // size)
    if block_length.shape not in ((), (ids.shape[0],)):
        raise ValueError(
            f"block_length must be one number or one a row ({ids.shape[0]}), got {tuple(block_length.shape)}"
        )
    if record not in RECORDS:
        raise ValueError(f"unknown record {record!r}: one of {RECORDS}")
    if temperature < 0:
        raise ValueError(f"temperature must be 0 or more, got {temperature}")
    if top_k < 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"need top_k >= 0 (0: off) and 0 < top_p <= 1 (1: off), got {top_k} and {top_p}"
        )
    if eos not in EOS_POLICIES:
        raise ValueError(f"unknown eos policy {eos!r}: one of {EOS_POLICIES}")
    if anchor is not None and (
        anchor.shape != (ids.shape[0], length) or anchor.dtype != torch.long
    ):
        raise ValueError(
            f"anchor must be int64 of shape {(ids.shape[0], length)}, got {anchor.dtype} "
            f"{tuple(anchor.shape)}"
        )
    if cache not in CACHES:
        raise ValueError(f"unknown cache {cache!r}: one of {CACHES}")
    if cache and rule.remasks and (block_length < length).any():
        raise ValueError(
            f"cache {cache!r} does not compute blocks before the current one, whose tokens {rule} withdraws: "
            "set block_length to None, or cache to ''"
        )
    if generator is None and (temperature > 0 or rule.random):
        raise ValueError("this needs chance: pass generator=torch.Generator(...).manual_seed(...)")


def _begin(
    lm, ids: Tensor, prompt_mask: Tensor, start: Tensor, block_length: Tensor
) -> tuple[Rollout, _State]:
    """The record and the state before the first step."""
    zeros, row = (
        torch.zeros(start.shape, device=start.device),
        torch.arange(len(start), device=start.device),
    )
    none = torch.zeros_like(row)
    out = Rollout(
        ids,
        prompt_mask,
        start.clone(),
        torch.where(start != lm.mask_id, -1, 0),
        zeros.clone(),
        zeros.clone(),
        none.clone(),
        lm.mask_id,
        lm.eos_id,
    )
    return out, _State(
        row,
        ids,
        prompt_mask,
        start,
        zeros + float("inf"),
        none + block_length,
        none - 1,
        none,
        none,
    )


def _advance(state: _State, mask_id: int) -> _State:
    """Drop finished rows; move rows whose blocks so far are full on to the next block with a masked
    position."""
    masked = state.canvas == mask_id
    state = state.keep(masked.any(1))
    masked = state.canvas == mask_id
    block = torch.maximum(state.block, masked.long().argmax(1) // state.block_length)
    new = block > state.block
    in_block = (
        torch.arange(masked.shape[1], device=masked.device) // state.block_length[:, None]
        == block[:, None]
    )
    state.block = block
    state.step_in_block = torch.where(new, 0, state.step_in_block)
    state.masked_at_start = torch.where(new, (masked & in_block).sum(1), state.masked_at_start)
    return state


def _step(
    lm,
    state: _State,
    out: Rollout,
    rule: Rule,
    temperature: float,
    top_k: int,
    top_p: float,
    eos: str,
    generator,
    likeliest: bool,
    cache: BlockCache | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One forward pass of the rows in `state`: candidates, choice, write-back into `state` and
    `out`.

    Returns the rows, where they were asked, the candidates (or likeliest tokens) there and their
    log-probabilities.
    """
    canvas, row = state.canvas, state.row
    position = torch.arange(canvas.shape[1], device=canvas.device)
    active = (canvas == lm.mask_id) & (position < ((state.block + 1) * state.block_length)[:, None])
    where = torch.cat([torch.zeros_like(state.prompt_mask), active], 1)
    seen_keys = torch.cat([state.prompt_mask, torch.ones_like(active)], 1)
    text = torch.cat([state.prompt, canvas], 1)
    if cache is None:
        logits = lm(text, seen_keys, where)  # (K, V)
    else:
        start = state.prompt.shape[1] + state.block * state.block_length
        logits = cache.logits(lm, text, seen_keys, where, row, start, start + state.block_length)
    if eos == "forbid":
        logits[:, lm.eos_id] = float("-inf")
    dense = [
        torch.zeros(canvas.shape, dtype=v.dtype, device=v.device).masked_scatter(active, v)
        for v in _candidates(logits, temperature, top_k, top_p, generator)
    ]
    n_blocks = canvas.shape[1] // state.block_length
    seen = RuleInput(
        active, *dense[1:4], state.step_in_block, state.masked_at_start, n_blocks, generator
    )
    reveal = rule.reveal(seen)
    step = out.n_forwards[row]
    canvas[reveal] = dense[0][reveal]
    for target, value in (
        (out.logprob, dense[1]),
        (out.entropy, dense[2]),
        (out.unmask_step, step[:, None]),
    ):
        target[row] = torch.where(reveal, value, target[row])
    if rule.remasks:
        state.running = rule.update(state.running, dense[1], reveal)
        canvas[rule.remask(state.running, seen)] = lm.mask_id
    state.step_in_block += 1
    out.n_forwards[row] += 1
    if eos == "stop":
        masked, ends = canvas == lm.mask_id, canvas == lm.eos_id
        first_masked = torch.where(masked.any(1), masked.long().argmax(1), canvas.shape[1])
        first_end = torch.where(ends.any(1), ends.long().argmax(1), canvas.shape[1])
        fill = masked & (first_end < first_masked)[:, None]
        canvas[fill] = lm.eos_id
        out.unmask_step[row] = torch.where(fill, step[:, None] + 1, out.unmask_step[row])
    out.tokens[row] = canvas
    return row, active, *(dense[4:] if likeliest else dense[:2])


def _candidates(logits: Tensor, temperature: float, top_k: int, top_p: float, generator):
    """Of each of K positions: a candidate token, its log-probability, entropy and top-two margin at
    temperature 1; the likeliest token and its log-probability."""
    logp = logits.log_softmax(-1)
    best = logits.max(-1).indices
    token = best if temperature == 0 else draw(logits / temperature, top_k, top_p, generator)
    logprob, highest = (logp.gather(-1, t[:, None])[:, 0] for t in (token, best))
    p = logp.exp()
    # Where V is large every pass over (K, V) counts, so the rest is in place. 0 * -inf is no
    # number, 0 * the least one is 0.
    entropy = -logp.clamp_(min=torch.finfo(logp.dtype).min).mul_(p).sum(-1)
    first = p.gather(-1, best[:, None])
    margin = first[:, 0] - p.scatter_(-1, best[:, None], 0.0).amax(-1)
    return token, logprob, entropy, margin, best, highest


def draw(logits: Tensor, top_k: int, top_p: float, generator: torch.Generator) -> Tensor:
    """One token per row of (K, V) float32 logits, exactly from their softmax (after the filters):
    Gumbel-max.

    The noise is -log E with E exponential, float32, drawn on the generator's own device.
    """
    if top_k > 0:
        logits = logits.masked_fill(
            logits < logits.topk(min(top_k, logits.shape[-1]), -1).values[:, -1:], float("-inf")
        )
    if top_p < 1:
        ordered, index = logits.sort(-1, descending=True)
        p = ordered.softmax(-1)
        ordered = ordered.masked_fill(p.cumsum(-1) - p >= top_p, float("-inf"))
        logits = torch.empty_like(logits).scatter(-1, index, ordered)
    noise = torch.empty(logits.shape, dtype=torch.float32, device=generator.device).exponential_(
        generator=generator
    )
    return (
        torch.sub(
            logits, noise.clamp_(min=torch.finfo(torch.float32).tiny).log_().to(logits.device)
        )
        .max(-1)
        .indices
    )
