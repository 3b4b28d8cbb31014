"""Answer-guided rollouts (AG-GRPO): reasoning is denoised under the true answer; the answer is then
cut off and predicted again from that reasoning alone.

Of a group's rows some are answer-free (AF), the others answer-guided (AG). An AG row learns, like
any other, by its likelihood under the plain prompt.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..models import MaskedDiffusionLM
from .blank import encoded
from .denoiser import denoise
from .rollout import FREE, GUIDED, Rollout, interleaved
from .rules import Rule


def answer_anchor(
    tokenizer, answers: list[str | None], length: int, margin: int | list[int]
) -> Tensor:
    """The canvas that a guided row starts from: `<answer>`, the true answer, `</answer>` and end
    tokens, at its very end.

    Args:
        tokenizer: the model's.
        answers: N texts, None for an answer-free row.
        length: L, tokens of the canvas.
        margin: m >= 0, end-of-sequence tokens after the answer, one number or one per row. The
            answer that is predicted again may be that much longer; and m decides where the answer
            stands, which the model takes as a hint (notebook on AG-GRPO).
    Returns:
        (N, L) int64, the mask token wherever the row is free.
    Raises:
        ValueError: if margin < 0, or an answer leaves no token to reason with or has an unknown
            character.
    Source: AG-GRPO's release: no separator, no other tags; margins 2 (GSM8K), 4 (MATH, Sudoku), 10
    (KodCode).
    """
    margins = margin if isinstance(margin, list) else [margin] * len(answers)
    if min(margins) < 0:
        raise ValueError(f"margin must be 0 or more end tokens, got {min(margins)}")
    canvas = torch.full((len(answers), length), tokenizer.mask_token_id)
    for row, answer, m in zip(canvas, answers, margins, strict=True):
        if answer is None:
            continue
        ids = tokenizer(f"<answer>{answer}</answer>", add_special_tokens=False)["input_ids"]
        ids += [tokenizer.eos_token_id] * m
        if len(ids) >= length:
            raise ValueError(
                f"the anchor of answer {answer!r} takes {len(ids)} of the {length} tokens and "
                "leaves none to reason with: guide only where working comes before the answer, "
                "or lower margin"
            )
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
            raise ValueError(f"answer {answer!r} has a character the tokenizer does not know")
        row[length - len(ids) :] = torch.tensor(ids)
    return canvas


def guided_denoise(
    lm: MaskedDiffusionLM,
    prompts: list[str] | tuple[Tensor, Tensor],
    anchor: Tensor,
    rule: Rule,
    answer_rule: Rule,
    block_length: int | None = None,
    guided_block: int | None = None,
    repredict: bool = True,
    guided_rule: Rule | None = None,
    **sampling,
) -> Rollout:
    """Denoise answer-free and answer-guided rows together, then predict the answers of the guided
    ones again.

    Stage 1 fills every canvas around its anchor, all rows in one batch. Stage 2 cuts each anchor
    off and fills its place, as one block, from the prompt and the reasoning alone: nothing of the
    anchor but its length is left.

    Args:
        prompts: as `denoise` takes them.
        anchor: (N, L) int64, as `answer_anchor` returns it.
        rule: of stage 1.
        answer_rule: of stage 2.
        block_length: tokens per block of the answer-free rows; None: one block.
        guided_block: tokens per block of the guided rows in stage 1; None: one block.
        repredict: False keeps the anchor as the answer, as if the next step had written it: the
            reward then reads what it was told (an ablation).
        guided_rule: of the guided rows in stage 1; None: `rule`, and all rows in one batch.
        sampling: what else `denoise` takes (temperature, filters, confidence, eos, generator).
    Returns:
        a `Rollout` with `anchor`. Steps of stage 2 follow those of stage 1, so `canvas_at` shows
        the reasoning's steps with the answer still masked: the plain prompt's context. `logprob`
        and `entropy` are of the distribution that a token was drawn from: of a guided row's
        reasoning, the guided one.
    Raises:
        ValueError: as `denoise`, if a rule re-masks, and unless `repredict` is a bool.
    Source: AG-GRPO (ACL 2026) and its release.
    Error: guided reasoning is not a draw from the policy; its gradient is that of
    advantage-weighted imitation, biased for the expected reward: `tests/sampler/test_guided.py`.
    """
    if any(r.remasks for r in (rule, answer_rule, guided_rule or rule)):
        raise ValueError(
            "a rule that re-masks cannot be guided: "
            "it may withdraw tokens in stage 2 that stage 1 wrote"
        )
    if not isinstance(repredict, bool):
        raise ValueError(f"repredict must be True or False, got {repredict!r}")
    prompts = encoded(lm, prompts)
    anchor = anchor.to(lm.device)
    length = anchor.shape[1]
    told = anchor != lm.mask_id
    rows = told.any(1)
    blocks = torch.where(rows, guided_block or length, block_length or length)
    if guided_rule is None or rows.all() or not rows.any():
        only = guided_rule if guided_rule and rows.all() else rule
        first = denoise(lm, prompts, length, only, blocks, anchor=anchor, **sampling)
    else:
        parts = []
        for some, own_rule in ((~rows, rule), (rows, guided_rule)):
            own = (prompts[0][some], prompts[1][some])
            part = denoise(lm, own, length, own_rule, blocks[some], anchor=anchor[some], **sampling)
            parts.append(part)
        first = interleaved(*parts, rows)
    first = replace(first, anchor=anchor, kind=torch.where(rows, GUIDED, FREE))
    if not rows.any():
        return first
    if not repredict:
        answered = torch.where(told, first.n_forwards[:, None], first.unmask_step)
        return replace(first, unmask_step=answered)
    start = torch.where(told, lm.mask_id, first.tokens)[rows]
    own = (first.prompt[rows], first.prompt_mask[rows])
    return with_answers(first, denoise(lm, own, length, answer_rule, anchor=start, **sampling))


def with_answers(first: Rollout, second: Rollout) -> Rollout:
    """Stage 1 with the answers of its guided rows, which stage 2 predicted again."""
    told = first.anchor != first.mask_id
    rows = told.any(1)
    answers = told[rows]
    steps = second.unmask_step + first.n_forwards[rows, None]
    n_forwards = first.n_forwards[rows] + second.n_forwards
    return replace(
        first,
        tokens=first.tokens.masked_scatter(told, second.tokens[answers]),
        unmask_step=first.unmask_step.masked_scatter(told, steps[answers]),
        logprob=first.logprob.masked_scatter(told, second.logprob[answers]),
        entropy=first.entropy.masked_scatter(told, second.entropy[answers]),
        n_forwards=first.n_forwards.masked_scatter(rows, n_forwards),
    )
