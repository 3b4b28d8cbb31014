"""One rollout call: a row for each example as the method wants it (free, guided, given, from a
canvas that is begun), importance weights and rewards."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..estimators import importance_weights
from ..methods import Method, Numbers
from ..models import MaskedDiffusionLM, count_passes
from ..sampler import (
    Dice,
    Rollout,
    answer_anchor,
    dice_of_groups,
    fill_canvas,
    guided_denoise,
)
from ..tasks import Example, Task
from .calls import RolloutCall
from .given import roll_out_and_give
from .verifier import verify


@dataclass(frozen=True)
class Source:
    """What a run's rollouts come from, whatever the problems are."""

    lm: MaskedDiffusionLM
    task: Task
    reward: Callable[..., list[float]]
    method: Method
    numbers: Numbers
    cache: str = ""


def call_rollout(
    source: Source, examples: list[Example], generator: torch.Generator, canvas: Tensor | None
) -> RolloutCall:
    """Rollouts of one row per example, their importance weights and rewards. canvas: (N, L) int64,
    what the rows start from; None: blank ones."""
    lm, task, method, numbers = source.lm, source.task, source.method, source.numbers
    start = time.perf_counter()
    with count_passes(lm) as passes:
        rollout = roll_out(lm, task, method, numbers, examples, generator, source.cache, canvas)
        weight = importance(lm, numbers, rollout)
    middle = time.perf_counter()
    reward = task.rubric_reward if numbers.verify.get("rubric") else source.reward
    fill = numbers.verify.get("fill", False)
    rewards = verify(reward, examples, rollout, lm.tokenizer, method.rewarded, fill)
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
    lm: MaskedDiffusionLM,
    task: Task,
    method: Method,
    numbers: Numbers,
    examples: list[Example],
    generator: torch.Generator,
    cache: str = "",
    canvas: Tensor | None = None,
) -> Rollout:
    """One row per example; the last of each group are answer-guided, or hold a given text, where
    the method says so.

    canvas: (N, L) int64, given tokens, the mask token elsewhere; not with guided rows.

    The assistant's turn is not prefilled (`task.prefill` is for evaluation): d1's family trains
    without, and the format rewards look for the tag in the completion.
    """
    if method.given:
        return roll_out_and_give(lm, task, method, numbers, examples, generator, cache)
    prompts = [example.prompt for example in examples]
    decoding = numbers.decoding(task.length, cache)
    record = predictions_to_record(method, numbers)
    guide = numbers.guide
    if not guide:
        dice = None
        if method.dice:
            steps = getattr(decoding.rule, "steps", task.length)
            dice = dice_of(method, numbers, steps, len(examples) // numbers.group, generator)
        return fill_canvas(
            lm,
            prompts,
            decoding,
            anchor=canvas,
            generator=generator,
            record=record,
            dice=dice,
        )
    if record:
        raise ValueError(
            f"{method.name}: guided rollouts keep no predictions of every step (rewarded "
            f"{method.rewarded!r}, fill {numbers.verify.get('fill', False)}): "
            "their first stage holds the answer"
        )
    drafted = [i for i in range(len(examples)) for _ in range(drafts_of(i, numbers))]
    rollout = guided_denoise(
        lm,
        [prompts[i] for i in drafted],
        anchors(lm.tokenizer, task, numbers, examples)[drafted],
        decoding.rule,
        numbers.answer_rule(),
        numbers.block_length or None,
        guide["block_length"] or None,
        guide["repredict"],
        numbers.guided_rule(task.length),
        temperature=decoding.temperature,
        top_k=decoding.top_k,
        top_p=decoding.top_p,
        top_p_crossing=decoding.top_p_crossing,
        confidence=decoding.confidence,
        eos=decoding.eos,
        cache=cache,
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


def dice_of(
    method: Method, numbers: Numbers, steps: int, groups: int, generator: torch.Generator
) -> Dice:
    """The method's table for each of the groups, as one of all their rows."""
    known = {"steps": steps, "group": numbers.group, "generator": generator}
    return dice_of_groups([method.dice(**known, **numbers.dice) for _ in range(groups)])


def predictions_to_record(method: Method, numbers: Numbers) -> bool | str:
    """What a rollout has to keep for the verifier: the `record` of `denoise`."""
    if method.rewarded == "every step":
        return True
    if method.rewarded == "partial" and numbers.verify.get("fill"):
        return "likeliest"
    return False


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
