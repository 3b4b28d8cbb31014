"""A benchmark: rows of a file or of the hub, the published prompt, a reward to train on and a rule
to count by."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .task import Example, Task, rewards_of


@dataclass(frozen=True, kw_only=True)
class Benchmark(Task):
    """A family of problems that somebody else wrote down; its reward is graded, format included."""

    length: int = 256  # completion canvas, tokens, unless an evaluation says otherwise
    read: Callable[[str], list[Example]]  # the examples of a split, in file order
    correct: Callable[..., list[float]]  # to count by: signature of `reward`, 0..1, 1 is solved

    def sample(self, n: int = 0, split: str = "test", seed: int = 0) -> list[Example]:
        """n problems of a split, drawn without replacement; 0: all of them, in file order.

        Raises:
            ValueError: for a split that the source does not have, or that holds fewer than n
                problems.
        """
        rows = self.read(split)
        if n < 0:
            raise ValueError(f"n must be 0 (all) or more, got {n}")
        if n > len(rows):
            raise ValueError(
                f"the {split} split of {self.name!r} ({self.source}) holds {len(rows)} problems, "
                f"not {n}: ask for fewer, or 0 for all"
            )
        if n == 0:
            return list(rows)
        return random.Random(f"{self.name}/{split}/{seed}").sample(rows, n)

    def solved(self, examples: list[Example], completions: list[str]) -> list[float]:
        """What an evaluation counts, per example, in 0..1."""
        return rewards_of(self.correct, examples, completions)
