"""What a task is: seeded problems in disjoint splits, a reward, and the habit that the base model
has to unlearn."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

SPLITS = {
    "train": range(0, 8),
    "validation": range(8, 9),
    "test": range(9, 10),
}  # tenths of the key space


@dataclass(frozen=True)
class Example:
    """One problem."""

    prompt: str  # what the user says; the chat template is applied when it is encoded
    answer: str  # a right answer, as it stands between <answer> and </answer>
    columns: dict[str, Any] = field(default_factory=dict)  # extra data that the reward needs


@dataclass(frozen=True)
class Task:
    """A family of problems with a verifier."""

    name: str
    length: int  # completion canvas, tokens
    make: Callable[[random.Random], Example]  # one problem, drawn from the whole family
    key: Callable[[Example], str]  # what makes two problems the same; its hash decides the split
    reward: Callable[
        ..., list[float]
    ]  # reward(prompts, completions, **columns): 1.0 right, 0.0 wrong
    demonstrate: Callable[
        [Example, random.Random, float], str
    ]  # a text to learn from, with a share of the habit
    shows_habit: Callable[
        [Example, str], bool
    ]  # does this completion show the habit and no other mistake?
    habit: str = ""  # the systematic mistake of the base model, in words
    prefill: str = ""  # what the assistant's turn begins with, before the canvas

    def sample(self, n: int, split: str = "train", seed: int = 0) -> list[Example]:
        """n problems of a split, no two with the same key; equal (n, split, seed) give the same
        problems on every machine.

        Splits are disjoint by construction: a problem belongs to the split that the hash of its key
        names.
        Raises ValueError for an unknown split, n < 1, or a split that does not hold n different
        problems.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: one of {sorted(SPLITS)}")
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        rng = random.Random(f"{self.name}/{split}/{seed}")
        found: dict[str, Example] = {}
        for _ in range(200 * n + 10_000):
            example = self.make(rng)
            key = self.key(example)
            if split_of(key) == split:
                found.setdefault(key, example)
            if len(found) == n:
                return list(found.values())
        raise ValueError(
            f"the {split} split of {self.name!r} holds {len(found)} different problems, not {n}: ask for fewer"
        )

    def rewards_of(self, examples: list[Example], completions: list[str]) -> list[float]:
        """The task's own reward of one completion per example."""
        return rewards_of(self.reward, examples, completions)

    def solved(self, examples: list[Example], completions: list[str]) -> list[float]:
        """What an evaluation counts: here the reward itself, 1 where right and 0 where wrong."""
        return self.rewards_of(examples, completions)

    def weigh(self, example: Example) -> float:
        """Of a problem in the mean score."""
        return 1.0

    def card_entry(self) -> dict:
        """What has to be known to make a number of this task again."""
        return {
            "task": self.name,
            "source": "generated",
            "prompt": "the bare problem",
            "prefill": self.prefill,
            "shots": 0,
            "published_quirks": False,
        }


def split_of(key: str) -> str:
    """The split a problem key belongs to: a stable hash, so no list of problems is ever stored."""
    tenth = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") % 10
    return next(name for name, tenths in SPLITS.items() if tenth in tenths)


def rewards_of(
    reward: Callable[..., list[float]], examples: list[Example], completions: list[str]
) -> list[float]:
    """Call a reward function with TRL's signature, `reward(prompts, completions, **columns)`, and
    check its answer.

    Raises ValueError where the function returns the wrong number of values or one that is not a
    finite number, and RuntimeError (the cause chained) where it raises.
    """
    columns: dict[str, list] = {"answer": [e.answer for e in examples]}
    for name in examples[0].columns if examples else ():
        columns[name] = [e.columns[name] for e in examples]
    label = getattr(reward, "__name__", repr(reward))
    try:
        values = list(
            reward(prompts=[e.prompt for e in examples], completions=list(completions), **columns)
        )
    except Exception as error:
        raise RuntimeError(
            f"the reward function {label} raised {type(error).__name__}: {error}"
        ) from error
    if len(values) != len(completions):
        raise ValueError(
            f"the reward function {label} returned {len(values)} values for {len(completions)} completions"
        )
    for i, value in enumerate(values):
        if not isinstance(value, (int, float)) or value != value or abs(value) == float("inf"):
            raise ValueError(
                f"the reward function {label} returned {value!r} for completion {i} "
                f"({completions[i]!r}): it must return finite numbers"
            )
    return [float(v) for v in values]
