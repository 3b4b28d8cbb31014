"""Which problems come next, which of their groups and rows are learnt from, and what is remembered
of them. All of it is up to the method; one that says nothing draws fresh problems, learns from all
of them and remembers nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..models import decode
from ..tasks import Example
from .calls import RolloutCall, Source, final_rewards


@dataclass(frozen=True)
class Progress:
    """Where a run stands before a batch: what a method may ask for beside the batch itself."""

    step: int = 0
    seed: int = 0  # of the step's problems
    # What is remembered of earlier batches, as plain json: problem -> what is known of it.
    memory: dict[str, Any] = field(default_factory=dict)


def next_problems(source: Source, progress: Progress) -> list[Example]:
    """`numbers.prompts` problems to roll out."""
    numbers = source.numbers
    if source.method.problems is None:
        return source.task.sample(numbers.prompts, "train", progress.seed)
    known = {"task": source.task, "prompts": numbers.prompts, **vars(progress)}
    return source.method.problems(**known, **numbers.problems)


def choose_groups(source: Source, drawn: RolloutCall, progress: Progress) -> Tensor:
    """Which of the groups that were drawn are learnt from, at most `numbers.prompts` of them: their
    indices in the order in which they were drawn, int64; all of them without a filter."""
    numbers = source.numbers
    rewards = final_rewards(drawn.by_group(numbers.group))
    if source.method.groups is None:
        return torch.arange(len(rewards))
    known = {"rewards": rewards, "examples": drawn.examples, "prompts": numbers.prompts}
    kept = source.method.groups(**known, **vars(progress), **numbers.groups)
    return kept.nonzero().flatten()[: numbers.prompts]


def choose_rows(
    source: Source, advantage: Tensor, learnt: RolloutCall, progress: Progress
) -> Tensor:
    """Which rows of whole groups are learnt from: their indices, int64; all of them without a
    filter. advantage: of these rows, (N,), (N, T) by step or (N, L) by token."""
    if source.method.rows is None:
        return torch.arange(len(advantage))
    rewards = final_rewards(learnt.by_group(source.numbers.group))
    known = {"advantage": advantage, "rewards": rewards, "rollout": learnt.rollout}
    kept = source.method.rows(**known, **vars(progress), **source.numbers.rows)
    return kept.nonzero().flatten()


def remembered(source: Source, drawn: RolloutCall, progress: Progress) -> dict[str, Any]:
    """The memory after a batch, as a checkpoint will give it back. drawn: all that was drawn for
    the batch. Raises TypeError if the memory holds something that json cannot write."""
    if source.method.remember is None:
        return progress.memory
    known = {
        "rewards": final_rewards(drawn.by_group(source.numbers.group)),
        "rollout": drawn.rollout,
        "completions": decode(source.lm.tokenizer, drawn.rollout.tokens),
        "examples": drawn.examples,
    }
    memory = source.method.remember(**known, **vars(progress), **source.numbers.remember)
    return json.loads(json.dumps(memory))
