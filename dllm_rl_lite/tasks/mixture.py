"""Several generated tasks as one, such as "chain2+sudoku4": how many problems of each come next?

The canvas is that of the longest; each example keeps its own task's reward, and its place in the
splits.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .task import Example, GeneratedTask, Task, rewards_of


@dataclass(frozen=True, kw_only=True)
class Mixture(GeneratedTask):
    """A generated task whose problems are those of its parts, each part as often as another.

    An example's columns are "task", the name of its part, "mixture", that of the whole, and "own",
    what the part's own columns are.
    """

    parts: dict[str, GeneratedTask]

    def of_part(self, name: str, example: Example) -> Example:
        """A part's example as one of the mixture."""
        columns = {"task": name, "mixture": self.name, "own": example.columns}
        return replace(example, columns=columns)

    def sample_each(self, counts: dict[str, int], seed: int) -> list[Example]:
        """So many training problems of each part, one part after another."""
        found = []
        for name, part in self.parts.items():
            if counts.get(name):
                problems = part.sample(counts[name], "train", seed)
                found += [self.of_part(name, problem) for problem in problems]
        return found


def mixture_task(name: str, parts: dict[str, GeneratedTask]) -> Mixture:
    """The mixture of several tasks by their names; `name` joins them with "+"."""

    def unmixed(example: Example) -> Example:
        return replace(example, columns=example.columns["own"])

    def part_of(example: Example) -> GeneratedTask:
        return parts[example.columns["task"]]

    def make(rng: random.Random) -> Example:
        chosen = rng.choice(list(parts))
        return mixture.of_part(chosen, parts[chosen].make(rng))

    def reward(prompts, completions, answer, task, own) -> list[float]:
        values = [0.0] * len(prompts)
        for part in parts:
            rows = [i for i in range(len(prompts)) if task[i] == part]
            if not rows:  # a reward cannot read the columns of no example
                continue
            examples = [Example(prompts[i], answer[i], own[i]) for i in rows]
            texts = [completions[i] for i in rows]
            found = rewards_of(parts[part].reward, examples, texts)
            for i, value in zip(rows, found, strict=True):
                values[i] = value
        return values

    mixture = Mixture(
        name=name,
        length=max(part.length for part in parts.values()),
        reward=reward,
        habit="; ".join(part.habit for part in parts.values()),
        shows_habit=lambda example, text: part_of(example).shows_habit(unmixed(example), text),
        make=make,
        key=lambda example: part_of(example).key(unmixed(example)),
        demonstrate=lambda example, *rest: part_of(example).demonstrate(unmixed(example), *rest),
        size=sum(part.size for part in parts.values()),
        parts=parts,
    )
    return mixture


def task_shares(memory: dict, names: Iterable[str]) -> dict[str, float]:
    """Each task's share of the problems: the softmax of the logits that are remembered, 0 of a task
    that is not."""
    logits = {name: memory.get(name, {"logit": 0.0})["logit"] for name in names}
    largest = max(logits.values())
    odds = {name: math.exp(logit - largest) for name, logit in logits.items()}
    total = sum(odds.values())
    return {name: value / total for name, value in odds.items()}


def task_counts(memory: dict, names: Iterable[str], prompts: int, seed: int) -> Counter:
    """How many problems of each task come next: `prompts` draws by `task_shares`."""
    shares = task_shares(memory, names)
    return Counter(random.Random(seed).choices(list(shares), list(shares.values()), k=prompts))


def by_task(task: Task, prompts: int, seed: int, memory: dict) -> list[Example]:
    """MT-GRPO's problems: as many of each task of a mixture as `task_counts` says.

    Args:
        task: a mixture.
        prompts: how many.
        seed: of the numbers and the problems.
        memory: of `advantages.weigh_tasks`.
    Raises:
        ValueError: for a task that is no mixture.
    Source: MT-GRPO (arXiv 2602.05547).
    """
    if not isinstance(task, Mixture):
        raise ValueError(
            f"problems by task need a mixture of tasks, such as task=chain2+sudoku4: got "
            f"{task.name!r}"
        )
    return task.sample_each(task_counts(memory, task.parts, prompts, seed), seed)
