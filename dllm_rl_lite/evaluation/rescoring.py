"""Saved texts, read and scored again offline: this project's files and those of d1, by the rule of
their task."""

from __future__ import annotations

import json
import os
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..tasks import Example, Task, load_task, rewards_of
from .generations import read_generations
from .intervals import wilson

COLUMNS = ("task", "prompt", "completion", "answer", "columns")  # of every saved text


def rewards_by_problem(rows: list[dict]) -> dict[str, float]:
    """problem -> mean "reward" of its rows; a problem is its prompt and its answer."""
    rewards = defaultdict(list)
    for row in rows:
        rewards[f"{row['prompt']}\0{row['answer']}"].append(row["reward"])
    return {problem: statistics.fmean(values) for problem, values in rewards.items()}


def mean_reward(task: Task, examples: list[Example], rewards: list[float]) -> float:
    """Mean of the texts' rewards, each weighed as the task weighs its problem."""
    weights = [task.weigh(example) for example in examples]
    total = sum(weight * reward for weight, reward in zip(weights, rewards, strict=True))
    return total / (sum(weights) or 1.0)


def read_run(path: str | os.PathLike, cut_off: bool = False) -> tuple[dict, list[dict]]:
    """(protocol card, rows) of a file written by `evaluate(save=)` or `Report.save`.

    Args:
        path: the file.
        cut_off: drop a last line that is not whole (the run was killed) instead of refusing it.
    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for anything that is not a saved text, naming the line.
    """
    path = _existing(path)
    card = {}
    rows = []
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if "protocol" in row:
                card = row["protocol"]
                continue
            for name in COLUMNS:
                if name not in row:
                    raise KeyError(name)
            rows.append(row)
        except (ValueError, KeyError, TypeError) as error:
            if cut_off and number == len(lines):
                break
            raise ValueError(
                f"{path} line {number} is not a saved generation ({type(error).__name__}: {error})"
            ) from error
    tasks = sorted({row["task"] for row in rows})
    if len(tasks) > 1:
        raise ValueError(f"{path} must hold one task, found {tasks}")
    return card, rows


def _existing(path: str | os.PathLike) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no saved generations at {path}: write them with evaluate(save=) or Report.save"
        )
    return Path(path)


def is_own(path: str | os.PathLike) -> bool:
    """Is it a file of this project's (a card or a completion in its first line)? Raises
    FileNotFoundError if missing."""
    with open(_existing(path), encoding="utf-8") as file:
        first = file.readline()
    return '"protocol"' in first or '"completion"' in first


@dataclass(frozen=True)
class Rescored:
    """Saved texts and what a rule says of them now."""

    task: Task
    examples: list[Example]
    completions: list[str]
    values: list[float]  # in 0..1, 1 is right
    card: dict  # the file's card; empty if it has none

    def __str__(self) -> str:
        n = len(self.values)
        right = self.values.count(1)
        low, high = wilson(right, n)
        mean = mean_reward(self.task, self.examples, self.values)
        return (
            f"{self.task.name}: {right} of {n} texts right, {100 * right / n:.2f} % "
            f"[{100 * low:.2f}, {100 * high:.2f}]; mean score {100 * mean:.2f} %"
        )

    def rewards_by_problem(self) -> dict[str, float]:
        """As `Report.rewards_by_problem`."""
        rows = [
            {"prompt": example.prompt, "answer": example.answer, "reward": value}
            for example, value in zip(self.examples, self.values, strict=True)
        ]
        return rewards_by_problem(rows)


def rescored(
    path: str | os.PathLike, task: str = "", published_quirks: bool | None = None
) -> Rescored:
    """Score saved generations again, offline, by the task's rule.

    Args:
        path: a file of `evaluate(save=)` or `Report.save`, or d1's generations (see
            `generations.py`).
        task: its name, for files that do not say it.
        published_quirks: count as the releases do; None: as the file's protocol card says.
    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for a malformed row, naming the line, or if no task is named.
    """
    if is_own(path):
        card, rows = read_run(path)
        if not rows:
            raise ValueError(f"{path} holds no saved generation")
        name = rows[0]["task"]
        source = card.get("source", "generated")
        examples, texts = _examples_and_texts(rows)
        if task and task != name:
            raise ValueError(f"{path} is of the task {name!r}, not {task!r}")
    elif task:
        card = {}
        name = task
        source = str(path)
        examples, texts = read_generations(path, name)
    else:
        raise ValueError(
            f"{path} does not say which task it is of: pass task= (also on the command line)"
        )
    if published_quirks is None:
        published_quirks = card.get("published_quirks", False)
    generated = source == "generated"
    data = {} if generated else {"data": source, "published_quirks": published_quirks}
    loaded = load_task(name, **data)
    return Rescored(loaded, examples, texts, values=loaded.solved(examples, texts), card=card)


def _examples_and_texts(rows: list[dict]) -> tuple[list[Example], list[str]]:
    examples = [Example(row["prompt"], row["answer"], row["columns"]) for row in rows]
    return examples, [row["completion"] for row in rows]


def rescore(
    path: str | os.PathLike, reward: Callable[..., list[float]] | None = None
) -> list[float]:
    """The rewards of saved generations, by the task's rule or by another function of TRL's
    signature."""
    if reward is None:
        return rescored(path).values
    _, rows = read_run(path)
    return rewards_of(reward, *_examples_and_texts(rows))
