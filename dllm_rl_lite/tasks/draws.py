"""Which problems of a task's train split come next: from a fixed pool, evenly or by what is
remembered of them."""

from __future__ import annotations

import math
import random

from .task import Example, Task


def pooled(task: Task, prompts: int, seed: int, pool: int = 64) -> list[Example]:
    """Problems of a fixed pool, so that each comes back soon.

    Args:
        task: its train split is drawn from.
        prompts: how many, at most `pool`; no two are the same.
        seed: of the draw; the pool is always the same.
        pool: problems of it.
    Raises:
        ValueError: for a pool that is too small, or larger than the split.
    """
    if pool < prompts:
        raise ValueError(f"problems.pool must be at least {prompts} (prompts), got {pool}")
    return random.Random(seed).sample(task.sample(pool, "train", 0), prompts)


def uncertain(
    task: Task, prompts: int, seed: int, memory: dict, pool: int = 64, floor: float = 0.05
) -> list[Example]:
    """Problems of a fixed pool, with replacement: more often those that are solved now and then.

    With v the chance of success that is remembered of a problem (see `track`), its weight is
    sqrt(v (1 - v)) + floor.

    Args:
        task, seed, pool: as in `pooled`.
        prompts: how many; a problem may come several times.
        memory: of `track`; an unknown problem has v = 1/2.
        floor: > 0, the weight of problems that are always, or never, solved.
    Raises:
        ValueError: for floor <= 0, or a pool larger than the split.
    Source: SPO (arXiv 2509.13232).
    """
    if not floor > 0:
        raise ValueError(f"problems.floor must be above 0, got {floor}")
    problems = task.sample(pool, "train", 0)
    weights = []
    for problem in problems:
        v = chance_remembered(memory, problem)
        weights.append(math.sqrt(v * (1 - v)) + floor)
    return random.Random(seed).choices(problems, weights, k=prompts)


def chance_remembered(memory: dict, problem: Example) -> float:
    """The chance of success that `track` remembers of a problem; 1/2 if it never came."""
    known = memory.get(problem.prompt)
    if known is None:
        return 0.5
    return known["right"] / (known["right"] + known["wrong"])
