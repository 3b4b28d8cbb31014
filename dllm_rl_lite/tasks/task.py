"""What a task is: problems in disjoint splits, and a verifier; `GeneratedTask` makes its problems
from a seed."""

from __future__ import annotations

import hashlib
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..names import lookup
from ..rewards import Item, Reward, call_reward, met_share

# Tenths of the key space.
SPLITS = {
    "train": range(0, 8),
    "validation": range(8, 9),
    "test": range(9, 10),
}


@dataclass(frozen=True)
class Example:
    """One problem."""

    prompt: str  # what the user says; the chat template is applied when it is encoded
    answer: str  # a right answer, as it stands between <answer> and </answer>
    columns: dict[str, Any] = field(default_factory=dict)  # extra data that the reward needs


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Problems with a verifier: a `GeneratedTask`, or a `Benchmark` that somebody else wrote.

    Rollouts, training and evaluation ask for no more than this class has.
    """

    name: str
    length: int  # completion canvas, tokens
    reward: Callable[..., list[float]]  # to train on: reward(prompts, completions, **columns)
    prefill: str = ""  # what the assistant's turn begins with, before the canvas
    habit: str = ""  # the systematic mistake of the base model, in words
    # Does this completion show the habit and no other mistake?
    shows_habit: Callable[[Example, str], bool] = lambda example, completion: False
    # What is asked of a completion, item by item; None: nothing but the reward.
    rubric: Callable[[Example, str], list[Item]] | None = None
    # A problem's weight in the mean score.
    weigh: Callable[[Example], float] = lambda example: 1.0
    source: str = "generated"  # else a file, a folder or a hub id
    prompt: str = "the bare problem"  # what the user message looks like, in words
    shots: int = 0  # worked examples in the prompt
    # Reward and rule as the releases have them, mistakes included (a name: see `load_task`).
    published_quirks: bool | str = False

    @abstractmethod
    def sample(self, n: int, split: str, seed: int = 0) -> list[Example]:
        """n problems of a split, the same for equal (n, split, seed) on every machine."""

    def card_entry(self) -> dict:
        """What has to be known to make a number of this task again."""
        names = ("source", "prompt", "prefill", "shots", "published_quirks")
        return {"task": self.name} | {name: getattr(self, name) for name in names}

    def rewards_of(self, examples: list[Example], completions: list[str]) -> list[float]:
        """The training reward of one completion per example."""
        return rewards_of(self.reward, examples, completions)

    def rubric_reward(
        self, prompts: list[str], completions: list[str], answer: list[str], **columns: list
    ) -> list[float]:
        """The weight of the rubric's items that are met, of all weight: a reward function.

        Raises:
            ValueError: for a task without a rubric.
        """
        if self.rubric is None:
            raise ValueError(f"{self.name} has no rubric: choose a task that has one, like sudoku4")
        values = []
        for i, completion in enumerate(completions):
            own = {name: column[i] for name, column in columns.items()}
            example = Example(prompts[i], answer[i], own)
            values.append(met_share(self.rubric(example, completion)))
        return values

    def solved(self, examples: list[Example], completions: list[str]) -> list[float]:
        """What an evaluation counts, per example, in 0..1: here the reward itself."""
        return self.rewards_of(examples, completions)


@dataclass(frozen=True, kw_only=True)
class GeneratedTask(Task):
    """A family of problems that a seed generates; its reward is 1.0 if right, else 0.0."""

    make: Callable[[random.Random], Example]  # one problem, drawn from the whole family
    # What makes two problems the same; its hash decides the split.
    key: Callable[[Example], str] = lambda example: example.prompt
    # A text to learn from: demonstrate(example, rng, share of the habit).
    demonstrate: Callable[[Example, random.Random, float], str]
    size: float = math.inf  # the family has no more different problems than this

    def sample(self, n: int, split: str = "train", seed: int = 0) -> list[Example]:
        """n problems of a split, no two with the same key. Splits are disjoint by construction: the
        hash of a problem's key names its split.

        Raises:
            ValueError: for an unknown split, n < 1, or a split that does not hold n different
                problems; before any is drawn if the whole family is too small.
        """
        lookup("split", split, SPLITS)
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        most = self.most_in(split)
        if n > most:
            raise ValueError(
                f"the {split} split of {self.name!r} holds at most {most:.0f} different problems, "
                f"not {n}: ask for fewer"
            )
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
            f"the {split} split of {self.name!r} holds {len(found)} different problems, "
            f"not {n}: ask for fewer"
        )

    def most_in(self, split: str) -> float:
        """More problems than a split can hold: its share of the family by the hash, and six
        standard deviations."""
        share = len(SPLITS[split]) / 10
        return share * self.size + 6 * math.sqrt(share * (1 - share) * self.size)


def demonstration(
    problems: Sequence[Example],
    task: Task,
    rng: random.Random,
    rows: int = 1,
    habit: float = 0.0,
    drop: float = 0.0,
) -> list[str]:
    """Texts to learn from: demonstrations of the task.

    Args:
        problems: B of them.
        task: of the problems; a generated one.
        rng: draws the texts, and which of them lose their working.
        rows: >= 1, texts per problem.
        habit: share of the habit, 0..1: at 1 every text makes the base model's mistake where it
            can.
        drop: chance, 0..1, that a text's working is emptied: only its answer is left.
    Returns:
        B * rows texts, problem by problem.
    Raises:
        ValueError: for a number out of range, or a benchmark, which has no demonstrations.
    Source of `drop`: TON's thought dropout (arXiv 2505.16854), which empties half of the thoughts.
    """
    if rows < 1 or not 0 <= habit <= 1 or not 0 <= drop <= 1:
        raise ValueError(
            f"need rows >= 1, habit in 0..1 and drop in 0..1, got {rows}, {habit}, {drop}"
        )
    if not isinstance(task, GeneratedTask):
        raise ValueError(f"{task.name} has no demonstrations to give: train on a generated task")
    texts = []
    for problem in problems:
        for _ in range(rows):
            text = task.demonstrate(problem, rng, habit)
            if drop and rng.random() < drop:
                text = text[max(text.find("<answer>"), 0) :]
            texts.append(text)
    return texts


def split_of(key: str) -> str:
    """The split a problem key belongs to: a stable hash, so no list of problems is ever stored."""
    tenth = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") % 10
    return next(name for name, tenths in SPLITS.items() if tenth in tenths)


def rewards_of(
    reward: Reward | Sequence[Reward], examples: list[Example], completions: list[str]
) -> list[float]:
    """The rewards of one completion per example, checked; the arguments are the examples' prompts,
    answers and columns, which all of them share. See `call_reward`."""
    arguments = {
        "prompts": [example.prompt for example in examples],
        "completions": list(completions),
        "answer": [example.answer for example in examples],
    }
    if examples:
        for name in examples[0].columns:
            arguments[name] = [example.columns[name] for example in examples]
    return call_reward(reward, arguments)
