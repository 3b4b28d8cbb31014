"""Denoising: start from a masked canvas, fill it in a few forward passes, and remember when each
token appeared."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..models import MaskedDiffusionLM
from ..models.cache import BlockCache
from .blank import blank_rollout
from .candidates import Candidates, candidates_of
from .decoding import Decoding
from .dice import Dice, PassDice
from .ranges import check_whole
from .rollout import Rollout
from .rules import Rule, RuleInput

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
        if len(kept["row"]):  # columns that are padding in every row go
            width = int(kept["prompt_mask"].any(0).long().argmax())
            kept["prompt"] = kept["prompt"][:, width:]
            kept["prompt_mask"] = kept["prompt_mask"][:, width:]
        return _State(**kept)


def denoise(
    lm: MaskedDiffusionLM,
    prompts: list[str] | tuple[Tensor, Tensor],
    length: int,
    rule: Rule,
    block_length: int | Tensor | None = None,
    temperature: float = 0.0,
    *,
    anchor: Tensor | None = None,
    generator: torch.Generator | None = None,
    record: bool | str = False,
    **settings,
) -> Rollout:
    """Fill a canvas of `length` masked tokens after each prompt.

    Rows are independent: each has its own block and step counters, leaves the batch when it is
    finished, and never attends to padding. Only the masked positions of a row's block are scored.

    Args:
        prompts: N user messages, or (ids, mask) of shape (N, P) as `encode_prompts` returns them.
        length: L >= 1, tokens of the completion canvas; it is never shortened.
        rule: which of the masked positions to reveal at each forward pass, at least one.
        block_length: tokens of a semi-autoregressive block, or one number per row (N,); must divide
            `length`. None: one block.
        temperature: of the candidates; 0 takes the likeliest token.
        anchor: (N, L) int64, `mask_id` where free; the other tokens are given.
        generator: all chance comes from it; noise is float32 (in bfloat16 the tail could never be
            drawn).
        record: keep every step's prediction of the whole canvas (`predicted`), for rewards and
            advantages by step: True fills in the candidates, "likeliest" the likeliest tokens.
        settings: the other fields of `Decoding`. eos "free" treats end-of-sequence like any token
            (LLaDA); "stop" ends a row when everything before an end-of-sequence token is written,
            "block" when everything up to a block of nothing but that token is (AGRPO), and both
            fill the rest with it without a forward pass (those positions have log-probability 0
            and the unmask step after the last); "forbid" never writes it, and records
            log-probabilities of the distribution without it. With a cache, texts are drawn from a
            slightly different distribution, which is what `logprob` and `entropy` then are of
            (`models/cache.py`).
    Returns:
        a `Rollout` on the model's device.
    Raises:
        ValueError: for a canvas that does not fit the model, a missing generator, any argument that
            cannot be, or a rule that reveals nothing at a pass or never ends.
    """
    check_whole("length", length, 1)
    blocks = torch.as_tensor(length if block_length is None else block_length)
    decoding = Decoding(rule=rule, length=length, temperature=temperature, **settings)
    return fill_canvas(
        lm, prompts, decoding, anchor=anchor, generator=generator, record=record, blocks=blocks
    )


@torch.no_grad()
def fill_canvas(
    lm: MaskedDiffusionLM,
    prompts: list[str] | tuple[Tensor, Tensor],
    decoding: Decoding,
    *,
    anchor: Tensor | None = None,
    generator: torch.Generator | None = None,
    record: bool | str = False,
    blocks: Tensor | None = None,
    dice: Dice | None = None,
) -> Rollout:
    """`denoise` by a record of how texts are written.

    Args:
        prompts, anchor, generator, record: as for `denoise`.
        decoding: with a rule and a length.
        blocks: (N,) int64, block lengths of the rows; None: the record's for all of them.
        dice: whose noise each of the N rows uses at each step; None: its own.
    """
    length = decoding.length
    rule = decoding.rule
    if blocks is None:
        blocks = torch.tensor(decoding.block_length or length)
    out = blank_rollout(lm, prompts, decoding, blocks, anchor, generator)
    if record not in RECORDS:
        raise ValueError(f"unknown record {record!r}: one of {RECORDS}")
    if record and decoding.cache == "dual" and (blocks < length).any():
        raise ValueError(
            "cache 'dual' computes one block, and a record predicts the whole canvas: "
            "set block_length to None, or cache to 'prefix' or ''"
        )
    if dice is not None:
        dice.check(len(out.tokens), rule.remasks, decoding.cache)
        dice = dice.to(lm.device)
    state = _begin(out, blocks.to(lm.device))
    cache = BlockCache(decoding.cache) if decoding.cache else None
    history = []
    predicted = []
    confidence = []
    for _ in range(length):  # each pass fills at least one blank of every row
        state = _advance(state, lm.mask_id)
        if not len(state.row):
            break
        if rule.remasks:
            history.append(out.tokens.clone())
        before = out.tokens.clone() if record else None
        now = None
        if dice is not None:
            now = dice.at(int(out.n_forwards[state.row[0]]), state.row, state.canvas)
        asked, candidates = _step(lm, state, out, decoding, generator, cache, bool(record), now)
        if record:
            canvas, logprob = _prediction(before, state.row, asked, candidates, record)
            predicted.append(canvas)
            confidence.append(logprob)
    if (out.tokens == lm.mask_id).any():
        raise ValueError(
            f"{rule} left blanks after {length} passes, one for each token of the canvas: "
            "it withdraws as much as it reveals"
        )
    return replace(
        out,
        history=_stacked(history),
        predicted=_stacked(predicted),
        predicted_logprob=_stacked(confidence),
        dice=None if dice is None else dice.whose,
    )


def _prediction(
    before: Tensor, row: Tensor, asked: Tensor, found: Candidates, record: bool | str
) -> tuple[Tensor, Tensor]:
    """What a record keeps of a pass, (N, L) each: the canvases `before` it, filled in where the
    rows (n,) were `asked`, and the log-probabilities of those tokens, elsewhere 0."""
    token, logprob = found.token, found.logprob
    if record == "likeliest":
        token, logprob = found.likeliest, found.highest
    before[row] = torch.where(asked, token, before[row])
    everywhere = logprob.new_zeros(before.shape)
    everywhere[row] = logprob
    return before, everywhere


def _stacked(steps: list[Tensor]) -> Tensor | None:
    """(T, N, L) of T records of a step; None if there are none."""
    return torch.stack(steps) if steps else None


def _begin(out: Rollout, blocks: Tensor) -> _State:
    """The state before the first step."""
    start = out.tokens.clone()
    row = torch.arange(len(start), device=start.device)
    none = torch.zeros_like(row)
    return _State(
        row=row,
        prompt=out.prompt,
        prompt_mask=out.prompt_mask,
        canvas=start,
        running=torch.full(start.shape, float("inf"), device=start.device),
        block_length=none + blocks,
        block=none - 1,
        step_in_block=none,
        masked_at_start=none,
    )


def _advance(state: _State, mask_id: int) -> _State:
    """Drop finished rows; move rows whose blocks so far are full to the next block with a mask."""
    masked = state.canvas == mask_id
    state = state.keep(masked.any(1))
    masked = state.canvas == mask_id
    block = torch.maximum(state.block, masked.long().argmax(1) // state.block_length)
    new = block > state.block
    position = torch.arange(masked.shape[1], device=masked.device)
    in_block = position // state.block_length[:, None] == block[:, None]
    state.block = block
    state.step_in_block = torch.where(new, 0, state.step_in_block)
    state.masked_at_start = torch.where(new, (masked & in_block).sum(1), state.masked_at_start)
    return state


def _step(
    lm: MaskedDiffusionLM,
    state: _State,
    out: Rollout,
    decoding: Decoding,
    generator: torch.Generator | None,
    cache: BlockCache | None,
    everywhere: bool,
    dice: PassDice | None,
) -> tuple[Tensor, Candidates]:
    """One forward pass of the rows in `state`, written back into `state` and `out`.

    Args: of `fill_canvas`; everywhere: ask also beyond the row's block; dice: of this pass.
    Returns:
        (n, L) bool, where the model was asked; the candidates there, (n, L) each.
    """
    canvas = state.canvas
    row = state.row
    rule = decoding.rule
    active = _active(state, lm.mask_id)
    if dice is not None:
        active = active | (dice.finish[:, None] & (canvas == lm.mask_id))
    asked = canvas == lm.mask_id if everywhere else active
    logits = _ask(lm, state, asked, cache)
    if decoding.eos == "forbid":
        logits[:, lm.eos_id] = float("-inf")
    drawn = None if dice is None else dice.of_positions(asked)
    found = candidates_of(logits, decoding, generator, drawn).spread(asked)
    seen = RuleInput(
        active=active,
        logprob=found.logprob,
        entropy=found.entropy,
        margin=found.margin,
        step_in_block=state.step_in_block,
        masked_at_start=state.masked_at_start,
        n_blocks=canvas.shape[1] // state.block_length,
        generator=generator,
        dice=dice,
    )
    reveal = rule.reveal(seen)
    if dice is not None:
        reveal = reveal | (dice.finish[:, None] & active)
    _check_reveal(rule, reveal, active)
    step = out.n_forwards[row]
    canvas[reveal] = found.token[reveal]
    out.logprob[row] = torch.where(reveal, found.logprob, out.logprob[row])
    out.entropy[row] = torch.where(reveal, found.entropy, out.entropy[row])
    out.unmask_step[row] = torch.where(reveal, step[:, None], out.unmask_step[row])
    if rule.remasks:
        state.running = rule.update(state.running, found.logprob, reveal)
        canvas[rule.remask(state.running, seen)] = lm.mask_id
    state.step_in_block += 1
    out.n_forwards[row] += 1
    if decoding.eos in ("stop", "block"):
        ended = _after_the_end(state, lm, decoding.eos)
        canvas[ended] = lm.eos_id
        out.unmask_step[row] = torch.where(ended, step[:, None] + 1, out.unmask_step[row])
    out.tokens[row] = canvas
    return asked, found


def _check_reveal(rule: Rule, reveal: Tensor, active: Tensor) -> None:
    """Raise ValueError unless the rule reveals active positions, at least one of each row."""
    if reveal.shape != active.shape or reveal.dtype != torch.bool:
        raise ValueError(
            f"{rule} must reveal by bool of shape {tuple(active.shape)}, "
            f"got {reveal.dtype} {tuple(reveal.shape)}"
        )
    if (reveal & ~active).any():
        raise ValueError(f"{rule} reveals a position that is not active: keep to seen.active")
    if not reveal.any(1).all():
        raise ValueError(
            f"{rule} reveals no token at a pass, so it would never end: "
            "it must choose at least one active position of every row"
        )


def _active(state: _State, mask_id: int) -> Tensor:
    """(n, L) bool: masked, and in the row's block or before it."""
    position = torch.arange(state.canvas.shape[1], device=state.canvas.device)
    end = (state.block + 1) * state.block_length
    return (state.canvas == mask_id) & (position < end[:, None])


def _ask(lm: MaskedDiffusionLM, state: _State, active: Tensor, cache: BlockCache | None) -> Tensor:
    """(K, V) logits of the K active positions."""
    text = torch.cat([state.prompt, state.canvas], 1)
    attention_mask = torch.cat([state.prompt_mask, torch.ones_like(active)], 1)
    where = torch.cat([torch.zeros_like(state.prompt_mask), active], 1)
    if cache is None:
        return lm(text, attention_mask, where)
    start = state.prompt.shape[1] + state.block * state.block_length
    end = start + state.block_length
    return cache.logits(lm, text, attention_mask, where, state.row, start, end)


def _after_the_end(state: _State, lm: MaskedDiffusionLM, eos: str) -> Tensor:
    """(n, L) bool: masked positions of rows that are complete up to an end-of-sequence token, or
    with `eos` "block" up to a block of them."""
    length = state.canvas.shape[1]
    masked = state.canvas == lm.mask_id
    ends = state.canvas == lm.eos_id
    first_masked = torch.where(masked.any(1), masked.long().argmax(1), length)
    if eos == "block":
        block = torch.arange(length, device=ends.device) // state.block_length[:, None]
        block_of_ends = (ends | (block != state.block[:, None])).all(1)
        over = block_of_ends & (first_masked >= (state.block + 1) * state.block_length)
    else:
        over = torch.where(ends.any(1), ends.long().argmax(1), length) < first_masked
    return masked & over[:, None]
