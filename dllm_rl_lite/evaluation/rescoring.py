"""Saved texts scored again offline, this project's and those of d1, by the rule of their task."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from ..tasks import Example, Task, load_task, rewards_of
from .generations import read_generations
from .intervals import accuracy_interval
from .saved import numbered_lines, read_run


def rewards_by_problem(rows: list[dict]) -> dict[str, float]:
    """problem -> mean "reward" of its rows; a problem is its prompt and its answer."""
    rewards = defaultdict(list)
    for row in rows:
        rewards[_problem(row)].append(row["reward"])
    return {problem: statistics.fmean(values) for problem, values in rewards.items()}


def _problem(row: dict) -> str:
    return f"{row['prompt']}\0{row['answer']}"


def left_out(card: dict) -> str:
    """What to say of the problems that an evaluation left out; nothing if there are none."""
    number = card.get("left_out", 0)
    return f" ({number} left out, their prompts are too long)" if number else ""


def mean_reward(task: Task, rows: list[dict]) -> float:
    """Mean "reward" of the rows, each weighed as the task weighs its problem."""
    examples, _ = _examples_and_texts(rows)
    weights = [task.weigh(example) for example in examples]
    total = sum(weight * row["reward"] for weight, row in zip(weights, rows, strict=True))
    return total / (sum(weights) or 1.0)


def _examples_and_texts(rows: list[dict]) -> tuple[list[Example], list[str]]:
    examples = [Example(row["prompt"], row["answer"], row["columns"]) for row in rows]
    return examples, [row["completion"] for row in rows]


@dataclass(frozen=True)
class Rescored:
    """Saved texts and what a rule says of them now."""

    task: Task
    rows: list[dict]  # as saved, "reward" as the rule says now
    card: dict  # the file's card; empty if it has none

    @property
    def values(self) -> list[float]:
        """The rewards, in 0..1; 1 is right."""
        return [row["reward"] for row in self.rows]

    def __str__(self) -> str:
        n = len(self.rows)
        right = defaultdict(list)  # by problem, an item of its evaluation
        for row in self.rows:
            right[row.get("item", _problem(row))].append(row["reward"] == 1)
        shares = [statistics.fmean(values) for values in right.values()]
        percent = [100 * value for value in accuracy_interval(shares)]
        problems = f" over {len(shares)} problems" if len(shares) < n else ""
        return (
            f"{self.task.name}: {self.values.count(1)} of {n} texts right, "
            f"{percent[0]:.2f} % [{percent[1]:.2f}, {percent[2]:.2f}]{problems}"
            f"{left_out(self.card)}; "
            f"mean score {100 * mean_reward(self.task, self.rows):.2f} %"
        )

    def rewards_by_problem(self) -> dict[str, float]:
        """As `Report.rewards_by_problem`."""
        return rewards_by_problem(self.rows)


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
    first = b"".join(line for _, line in numbered_lines(path)[:1])
    own = b'"protocol"' in first or b'"completion"' in first  # else a file of d1's
    if not own and not task:
        raise ValueError(
            f"{path} does not say which task it is of: pass task= (also on the command line)"
        )
    card, rows = read_run(path) if own else ({}, read_generations(path, task))
    if not rows:
        raise ValueError(f"{path} holds no saved generation")
    name = rows[0]["task"]
    if task and task != name:
        raise ValueError(f"{path} is of the task {name!r}, not {task!r}")
    if published_quirks is None:
        published_quirks = card.get("published_quirks", False)
    source = card.get("source", "generated") if own else str(path)
    generated = source == "generated"
    data = {} if generated else {"data": source, "published_quirks": published_quirks}
    loaded = load_task(name, **data)
    values = loaded.solved(*_examples_and_texts(rows))
    scored = [row | {"reward": value} for row, value in zip(rows, values, strict=True)]
    return Rescored(loaded, scored, card)


def rescore(
    path: str | os.PathLike, reward: Callable[..., list[float]] | None = None
) -> list[float]:
    """The rewards of saved generations, by the task's rule or by another function of TRL's
    signature."""
    if reward is None:
        return rescored(path).values
    _, rows = read_run(path)
    return rewards_of(reward, *_examples_and_texts(rows))
