"""Saved texts, read and scored again offline: this project's files and those of d1, by the rule of
their task."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..tasks import Example, Task, load_task, rewards_of
from .generations import read_generations
from .intervals import wilson


def mean_scores(rows: list[dict]) -> dict[str, float]:
    """problem -> mean "reward" of its rows."""
    by: dict[str, list[float]] = {}
    for row in rows:
        by.setdefault(f"{row['prompt']}\0{row['answer']}", []).append(row["reward"])
    return {k: statistics.fmean(v) for k, v in by.items()}


def read_run(path: str | os.PathLike, cut_off: bool = False) -> tuple[dict, list[dict]]:
    """(protocol card, rows) of a file written by `evaluate(save=)` or `Report.save`.

    cut_off: a last line that is not whole is dropped (the run was killed) instead of being an
    error.
    Raises FileNotFoundError for a missing file, ValueError naming the line for anything that is not
    a saved text.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no saved generations at {path}: write them with evaluate(save=) or Report.save"
        )
    made, rows = {}, []
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if "protocol" in row:
                made = row["protocol"]
                continue
            missing = [
                k for k in ("task", "prompt", "completion", "answer", "columns") if k not in row
            ]
            if missing:
                raise KeyError(missing[0])
            rows.append(row)
        except (ValueError, KeyError, TypeError) as error:
            if cut_off and number == len(lines):
                break
            raise ValueError(
                f"{path} line {number} is not a saved generation ({type(error).__name__}: {error})"
            ) from error
    if len({r["task"] for r in rows}) > 1:
        raise ValueError(f"{path} must hold one task, found {sorted({r['task'] for r in rows})}")
    return made, rows


def is_own(path: str | os.PathLike) -> bool:
    """Is it a file of this project's (a card or a completion in its first line)? Raises
    FileNotFoundError if missing."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no saved generations at {path}: write them with evaluate(save=) or Report.save"
        )
    with open(path, encoding="utf-8") as file:
        first = file.readline()
    return '"protocol"' in first or '"completion"' in first


@dataclass(frozen=True)
class Rescored:
    """Saved texts and what a rule says of them now."""

    task: Task
    examples: list[Example]
    completions: list[str]
    values: list[float]  # in 0..1, 1 is right
    protocol: dict  # the file's card; empty where it has none

    def __str__(self) -> str:
        right, n = sum(v == 1 for v in self.values), len(self.values)
        low, high = wilson(right, n)
        weights = [self.task.weigh(e) for e in self.examples]
        mean = sum(w * v for w, v in zip(weights, self.values, strict=True)) / (sum(weights) or 1.0)
        return (
            f"{self.task.name}: {right} of {n} texts right, {100 * right / n:.2f} % "
            f"[{100 * low:.2f}, {100 * high:.2f}]; mean score {100 * mean:.2f} %"
        )

    def scores(self) -> dict[str, float]:
        """As `Report.scores`."""
        return mean_scores(
            [
                {"prompt": e.prompt, "answer": e.answer, "reward": v}
                for e, v in zip(self.examples, self.values, strict=True)
            ]
        )


def rescored(
    path: str | os.PathLike, task: str = "", published_quirks: bool | None = None
) -> Rescored:
    """Score saved generations again, offline, by the task's rule.

    Args:
        path: a file of `evaluate(save=)` or `Report.save`, or d1's generations (see
            `generations.py`).
        task: its name, for files that do not say it. published_quirks: None: as the file's protocol
            card says.
    Raises:
        FileNotFoundError for a missing file, ValueError naming the line for a malformed row, or
        where no task is named.
    """
    if is_own(path):
        made, rows = read_run(path)
        if not rows:
            raise ValueError(f"{path} holds no saved generation")
        name, source = rows[0]["task"], made.get("source", "generated")
        examples = [Example(r["prompt"], r["answer"], r["columns"]) for r in rows]
        texts = [r["completion"] for r in rows]
        if task and task != name:
            raise ValueError(f"{path} is of the task {name!r}, not {task!r}")
    elif task:
        made, name, source = {}, task, str(path)
        examples, texts = read_generations(path, name)
    else:
        raise ValueError(
            f"{path} does not say which task it is of: pass task= (on the command line --task)"
        )
    quirks = made.get("published_quirks", False) if published_quirks is None else published_quirks
    how = {} if source == "generated" else {"data": source, "published_quirks": quirks}
    found = load_task(name, **how)
    return Rescored(found, examples, texts, found.solved(examples, texts), made)


def rescore(
    path: str | os.PathLike, reward: Callable[..., list[float]] | None = None
) -> list[float]:
    """The scores of saved generations, by the task's rule or by another function of TRL's
    signature."""
    if reward is None:
        return rescored(path).values
    _, rows = read_run(path)
    return rewards_of(
        reward,
        [Example(r["prompt"], r["answer"], r["columns"]) for r in rows],
        [r["completion"] for r in rows],
    )
