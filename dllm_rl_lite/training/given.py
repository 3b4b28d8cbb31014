"""Rows of a group whose completion is given: they stand beside its rollouts and are not rolled
out."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..methods import Method, Numbers
from ..models import MaskedDiffusionLM, encode_prompts
from ..sampler import FREE, GIVEN, Rollout, fill_canvas, given_rollout, interleaved
from ..seeds import python_random
from ..tasks import Example, Task
from .base_model import encode_completions


def roll_out_and_give(
    lm: MaskedDiffusionLM,
    task: Task,
    method: Method,
    numbers: Numbers,
    examples: list[Example],
    generator: torch.Generator,
    cache: str = "",
) -> Rollout:
    """One row per example; the last of each group are the method's given completions, the others
    are rolled out.

    Args:
        lm: the policy.
        task: of the examples.
        method: its `given` writes the completions.
        numbers: of the method.
        examples: N, group by group.
        generator: of all chance.
        cache: of the rollouts.
    Raises:
        ValueError: if the completions cannot be dealt out evenly, or do not fit the canvas.
    """
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
    free = fill_canvas(
        lm, (ids[~given], mask[~given]), numbers.decoding(task.length, cache), generator=generator
    )
    return replace(interleaved(free, told, given), kind=torch.where(given, GIVEN, FREE))
