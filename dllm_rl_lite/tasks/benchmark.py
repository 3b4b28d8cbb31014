"""A benchmark: rows of a file or of the hub, the published prompt, a reward to train on and a rule
to count by.

It answers to the same names as a generated `Task`, so rollouts, training and evaluation do not know
which they hold.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

from .task import Example, rewards_of


@dataclass(frozen=True)
class Benchmark:
    """A family of problems that somebody else wrote down."""

    name: str
    length: int  # completion canvas, tokens, unless an evaluation says otherwise
    source: str  # a file, a folder or a hub id
    read: Callable[[str], list[Example]]  # the examples of a split, in file order
    reward: Callable[
        ..., list[float]
    ]  # to train on: reward(prompts, completions, **columns), graded, format included
    correct: Callable[
        ..., list[float]
    ]  # to count by: same signature, in 0..1; 1 is a solved problem
    prompt: str  # what the user message looks like, in words, for the protocol card
    prefill: str = ""  # what the assistant's turn begins with, before the canvas
    shots: int = 0  # worked examples in the prompt
    published_quirks: bool = False  # reward and rule as the releases have them, mistakes included
    weigh: Callable[[Example], float] = lambda example: (
        1.0
    )  # of a problem in the mean score (Sudoku: its blank cells)
    habit: str = ""
    place: Callable[[], dict] = (
        dict  # what of this machine decides a number, for the card: the level of the sandbox
    )

    def sample(self, n: int = 0, split: str = "test", seed: int = 0) -> list[Example]:
        """n problems of a split, drawn without replacement from `seed`; 0: all of them, in file
        order.

        Raises ValueError for a split that the source does not have, or that holds fewer than n
        problems.
        """
        rows = self.read(split)
        if n < 0:
            raise ValueError(f"n must be 0 (all) or more, got {n}")
        if n > len(rows):
            raise ValueError(
                f"the {split} split of {self.name!r} ({self.source}) holds {len(rows)} problems, not {n}: "
                "ask for fewer, or 0 for all"
            )
        return random.Random(f"{self.name}/{split}/{seed}").sample(rows, n) if n else list(rows)

    def rewards_of(self, examples: list[Example], completions: list[str]) -> list[float]:
        """The training reward of one completion per example."""
        return rewards_of(self.reward, examples, completions)

    def solved(self, examples: list[Example], completions: list[str]) -> list[float]:
        """What an evaluation counts, per example, in 0..1."""
        return rewards_of(self.correct, examples, completions)

    def shows_habit(self, example: Example, completion: str) -> bool:
        """Benchmarks name no habit."""
        return False

    def card_entry(self) -> dict:
        """What has to be known to make a number of this benchmark again."""
        return {
            "task": self.name,
            "source": self.source,
            "prompt": self.prompt,
            "prefill": self.prefill,
            "shots": self.shots,
            "published_quirks": self.published_quirks,
            **self.place(),
        }


def held_back(rows: list[Example], split: str) -> list[Example]:
    """A validation split for a source that has none: one row in twenty of "train", chosen by the
    hash of its prompt.

    "train" gives the others. So a checkpoint can be chosen without looking at the test split.
    """
    chosen = [hashlib.blake2b(r.prompt.encode(), digest_size=4).digest()[0] % 20 == 0 for r in rows]
    return [
        r for r, is_held in zip(rows, chosen, strict=True) if is_held == (split == "validation")
    ]
