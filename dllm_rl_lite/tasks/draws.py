"""Which problems of a task's train split come next: from a fixed pool, evenly or by what is
remembered of them, or each in several orders of its numbers."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

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


def in_other_orders(task: Task, prompts: int, seed: int, orders: int = 4) -> list[Example]:
    """Countdown problems, each several times in a row with its numbers in another order.

    Args:
        task: Countdown; its train split is drawn from.
        prompts: how many in all, a multiple of `orders`.
        seed: of the draw.
        orders: >= 2, of each problem; at most as many as its numbers have.
    Raises:
        ValueError: for another task, or numbers that do not fit.
    """
    if orders < 2 or prompts % orders:
        raise ValueError(
            f"problems.orders must be at least 2 and divide {prompts} (prompts), got {orders}"
        )
    rng = random.Random(seed)
    found = []
    for problem in task.sample(prompts // orders, "train", seed):
        if "numbers" not in problem.columns:
            raise ValueError(f"{task.name} has no numbers to put in another order: use countdown")
        every = list(itertools.permutations(problem.columns["numbers"]))
        if orders > len(every):
            raise ValueError(f"problems.orders must be at most {len(every)}, got {orders}")
        for numbers in rng.sample(every, orders):
            shown = f"{' '.join(map(str, numbers))}={problem.columns['target']}"
            columns = problem.columns | {"numbers": list(numbers)}
            found.append(replace(problem, prompt=shown, columns=columns))
    return found
