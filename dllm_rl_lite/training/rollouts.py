"""One rollout call: a row for each example as the method wants it (free, guided, given, from a
canvas that is begun), importance weights and rewards."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import torch
from torch import Tensor

from ..estimators import importance_weights
from ..methods import Method, Numbers
from ..models import MaskedDiffusionLM, count_passes, encode_prompts
from ..sampler import (
    FREE,
    GIVEN,
    Rollout,
    answer_anchor,
    dice_of_groups,
    fill_canvas,
    given_rollout,
    guided_denoise,
    interleaved,
)
from ..seeds import python_random
from ..tasks import Example, Task
from .base_model import encode_completions
from .calls import RolloutCall, Source
from .verifier import verify


def call_rollout(
    source: Source, examples: list[Example], generator: torch.Generator, canvas: Tensor | None
) -> RolloutCall:
    """Rollouts of one row per example, their importance weights and rewards. canvas: (N, L) int64,
    what the rows start from; None: blank ones."""
    lm, numbers = source.lm, source.numbers
    start = time.perf_counter()
    with count_passes(lm) as passes:
        rollout = roll_out(source, examples, generator, canvas)
        weight = importance(lm, numbers, rollout)
    middle = time.perf_counter()
    reward = source.task.rubric_reward if numbers.verify.get("rubric") else source.reward
    fill = numbers.verify.get("fill", False)
    rewards = verify(reward, examples, rollout, lm.tokenizer, source.method.rewarded, fill)
    end = time.perf_counter()
    return RolloutCall(
        examples=examples,
        rollout=rollout,
        rewards=rewards,
        weight=weight,
        passes=passes,
        seconds_rollout=middle - start,
        seconds_reward=end - middle,
    )


def repeated(problems: list[Example], numbers: Numbers) -> list[Example]:
    """One example per row: each problem as often as its group has siblings."""
    return [example for example in problems for _ in range(numbers.group)]


def roll_out(
    source: Source,
    examples: list[Example],
    generator: torch.Generator,
    canvas: Tensor | None = None,
) -> Rollout:
    """One row per example, group by group; the last of each group are answer-guided, or hold a
    given text, where the method says so.

    canvas: (N, L) int64, given tokens, the mask token elsewhere; neither with guided nor with given
    rows.

    The assistant's turn is not prefilled (`task.prefill` is for evaluation): d1's family trains
    without, and the format rewards look for the tag in the completion.
    """
    method, numbers = source.method, source.numbers
    if method.given:
        return roll_out_beside_given(source, examples, generator)
    record = predictions_to_record(method, numbers)
    if numbers.guide:
        if record:
            raise ValueError(
                f"{method.name}: guided rollouts keep no predictions of every step (rewarded "
                f"{method.rewarded!r}, fill {numbers.verify.get('fill', False)}): "
                "their first stage holds the answer"
            )
        return roll_out_guided(source, examples, generator)
    decoding = source.decoding
    dice = None
    if method.dice:
        steps = getattr(decoding.rule, "steps", decoding.length)
        known = {"steps": steps, "group": numbers.group, "generator": generator}
        groups = range(len(examples) // numbers.group)
        dice = dice_of_groups([method.dice(**known, **numbers.dice) for _ in groups])
    prompts = [example.prompt for example in examples]
    return fill_canvas(
        source.lm,
        prompts,
        decoding,
        anchor=canvas,
        generator=generator,
        record=record,
        dice=dice,
    )


def predictions_to_record(method: Method, numbers: Numbers) -> bool | str:
    """What a rollout has to keep for the verifier: the `record` of `denoise`."""
    if method.rewarded == "every step":
        return True
    if method.rewarded == "partial" and numbers.verify.get("fill"):
        return "likeliest"
    return False


def roll_out_beside_given(
    source: Source, examples: list[Example], generator: torch.Generator
) -> Rollout:
    """As `roll_out`: the last rows of each group are the method's given completions, which are not
    rolled out.

    Raises:
        ValueError: if the completions cannot be dealt out evenly, or do not fit the canvas.
    """
    lm, task, method, numbers = source.lm, source.task, source.method, source.numbers
    problems = examples[:: numbers.group]
    rng = python_random(generator)
    texts = method.given(problems=problems, task=task, rng=rng, **numbers.given)
    rows, rest = divmod(len(texts), len(problems))
    if rest or not 1 <= rows <= numbers.group:
        raise ValueError(
            f"{method.name} gives {len(texts)} texts for {len(problems)} groups of "
            f"{numbers.group}: each group needs as many, at least 1 and at most all of its rows"
        )
    place = torch.arange(len(examples), device=lm.device) % numbers.group
    given = place >= numbers.group - rows
    ids, mask = encode_prompts(lm.tokenizer, [example.prompt for example in examples])
    ids, mask = ids.to(lm.device), mask.to(lm.device)
    told = given_rollout(
        ids[given],
        mask[given],
        encode_completions(lm.tokenizer, texts, task.length).to(lm.device),
        generator,
        mask_id=lm.mask_id,
        eos_id=lm.eos_id,
        tokens_per_step=numbers.tokens_per_step,
    )
    if given.all():
        return told
    free = fill_canvas(lm, (ids[~given], mask[~given]), source.decoding, generator=generator)
    return replace(interleaved(free, told, given), kind=torch.where(given, GIVEN, FREE))


def roll_out_guided(source: Source, examples: list[Example], generator: torch.Generator) -> Rollout:
    """As `roll_out`, with answer-guided rows: of several drafts the one is kept whose answer is
    surest."""
    lm, task, numbers = source.lm, source.task, source.numbers
    guide = numbers.guide
    decoding = source.decoding
    drafted = [i for i in range(len(examples)) for _ in range(drafts_of(i, numbers))]
    rollout = guided_denoise(
        lm,
        [examples[i].prompt for i in drafted],
        anchors(lm.tokenizer, task, numbers, examples)[drafted],
        decoding.rule,
        numbers.answer_rule(),
        decoding.block_length or None,
        guide["block_length"] or None,
        guide["repredict"],
        numbers.guided_rule(task.length),
        temperature=decoding.temperature,
        top_k=decoding.top_k,
        top_p=decoding.top_p,
        top_p_crossing=decoding.top_p_crossing,
        confidence=decoding.confidence,
        eos=decoding.eos,
        cache=decoding.cache,
        generator=generator,
    )
    return rollout if guide["drafts"] == 1 else surest_drafts(rollout, drafted)


def drafts_of(row: int, numbers: Numbers) -> int:
    """How many completions are drafted for a row: several only if it is guided."""
    guided = row % numbers.group >= numbers.group - numbers.guide["rows"]
    return numbers.guide["drafts"] if guided else 1


def surest_drafts(rollout: Rollout, drafted: list[int]) -> Rollout:
    """Of the drafts of each row, the one whose answer was predicted again with the highest
    probability. drafted: of each row of the rollout, the row that it is a draft of."""
    told = rollout.anchor != rollout.mask_id
    sureness = (rollout.logprob * told).sum(1).tolist()
    best = {}
    for draft, row in enumerate(drafted):
        if row not in best or sureness[draft] > sureness[best[row]]:
            best[row] = draft
    return rollout.select(torch.tensor(list(best.values()), device=rollout.tokens.device))


def anchors(tokenizer, task: Task, numbers: Numbers, examples: list[Example]) -> Tensor:
    """(N, L) int64, the canvases that a batch of groups starts from.

    Raises:
        ValueError: for a column that the examples lack.
    """
    guide = numbers.guide
    column = guide["column"]
    answers = []
    margins = []
    for i, example in enumerate(examples):
        if column and column not in example.columns:
            raise ValueError(
                f"{task.name} has no column {column!r} to anchor: one of "
                f"{sorted(example.columns)}, or '' for the answer"
            )
        answer = example.columns[column] if column else example.answer
        is_guided = i % numbers.group >= numbers.group - guide["rows"]
        answers.append(str(answer) if is_guided else None)
        margin = guide["margin"]
        if margin == "fitted":
            margin = fitting_margin(tokenizer, task, example)
        margins.append(margin)
    return answer_anchor(tokenizer, answers, task.length, margins)


def fitting_margin(tokenizer, task: Task, example: Example) -> int:
    """The margin that puts the anchored answer where it stands in a right demonstration.

    Raises:
        ValueError: for a benchmark: where its answers will stand is unknown.
    """
    if not hasattr(task, "demonstrate"):
        raise ValueError(
            f"{task.name} has no demonstrations to fit the margin to: give guide['margin'] a "
            "number of end tokens (AG-GRPO: 2 for GSM8K, 4 for MATH and Sudoku, 10 for KodCode)"
        )
    text = task.demonstrate(example, random.Random(0), 0.0)
    return task.length - len(tokenizer(text, add_special_tokens=False)["input_ids"])


def importance(lm: MaskedDiffusionLM, numbers: Numbers, rollout: Rollout) -> Tensor:
    """(N,) weights of the rows; ones if they are off."""
    cap = numbers.guide.get("importance", 0)
    if cap:
        return importance_weights(lm, rollout, cap)
    return torch.ones_like(rollout.logprob[:, 0])
