"""Rollouts that begin with given tokens: what a method puts on the canvas before the first step, and
rows that are written again from a part of their best sibling.

Given tokens have the unmask step -1: no view scores them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..methods import Method, Numbers
from ..models import MaskedDiffusionLM
from ..sampler import Rollout, fill_canvas
from ..tasks import Example, Task
from .problems import Progress
from .verifier import verify


def start_canvas(
    lm: MaskedDiffusionLM,
    task: Task,
    method: Method,
    numbers: Numbers,
    examples: Sequence[Example],
    generator: torch.Generator,
    progress: Progress,
) -> Tensor | None:
    """(N, L) int64, the canvases that rows start from, the same for all siblings; None: blank ones.
    examples: one per row."""
    if method.start is None:
        return None
    known = {
        "problems": examples[:: numbers.group],
        "task": task,
        "tokenizer": lm.tokenizer,
        "generator": generator,
        **vars(progress),
    }
    return method.start(**known, **numbers.start).repeat_interleave(numbers.group, 0)


def refinements(
    lm: MaskedDiffusionLM,
    task: Task,
    reward: Callable[..., list[float]],
    method: Method,
    numbers: Numbers,
    examples: Sequence[Example],
    rollout: Rollout,
    rewards: Tensor,
    generator: torch.Generator,
    cache: str,
) -> tuple[Tensor, Rollout, Tensor] | None:
    """The rows (R,) that a method replaces, what is written in their place, and its rewards (R,);
    None where nothing is to be replaced.

    Args:
        lm, task, reward, method, numbers, cache: as in `collect`.
        examples: one per row.
        rollout: N rows.
        rewards: (N,), of the finished texts.
        generator: of the noise.
    """
    known = {
        "task": task,
        "tokenizer": lm.tokenizer,
        "examples": examples,
        "rollout": rollout,
        "rewards": rewards.view(-1, numbers.group),
    }
    places, canvas = method.refine(**known, **numbers.refine)
    if not len(places):
        return None
    some = [examples[i] for i in places]
    prompts = [example.prompt for example in some]
    decoding = numbers.decoding(task.length, cache)
    again = fill_canvas(lm, prompts, decoding, anchor=canvas, generator=generator)
    return places, again, verify(reward, some, again, lm.tokenizer)
