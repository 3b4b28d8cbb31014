"""Texts that d1 saved, in the form of our own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ..names import lookup
from ..tasks import Example
from ..tasks.published.puzzles import solve
from ..tasks.published.rows import Row, column, read_rows


def read_generations(path: str | os.PathLike, task: str) -> list[dict]:
    """The texts of a file of d1's, row by row, as `read_run` gives our own.

    The prompt is the bare question, because the file does not say what stood around it. The
    completions stand as they were saved: d1 keeps special tokens as text and leaves out the
    prefill. d1 saves no gold answer if it is negative (GSM8K); it is "" here, and no completion is
    right by it.

    Args:
        path: rows (question, generations, ground_truth) as jsonl, or as d1's evaluator's json with
            a list "generations".
        task: a key of D1.
    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for a malformed row, with file and line, or a task whose rows of d1 are not
            known.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no saved generations at {path}")
    read = lookup("task of d1's generations", task, D1)
    texts = []
    for item, row in enumerate(read_rows(str(path), "test")):
        text = {"task": task, "item": item, "completion": column(row, "generations", str)}
        texts.append(text | asdict(read(row)))
    return texts


def _gsm8k(row: Row) -> Example:
    answer = ""
    if row.values.get("ground_truth") is not None:
        gold = column(row, "ground_truth", float)
        answer = str(int(gold) if gold.is_integer() else gold)
    return Example(column(row, "question", str), answer)


def _math500(row: Row) -> Example:
    return Example(column(row, "question", str), column(row, "ground_truth", str))


def _countdown(row: Row) -> Example:
    truth = column(row, "ground_truth", list)
    match truth:
        case [[*numbers], int(target)] if all(type(n) is int for n in numbers):
            return Example(
                column(row, "question", str),
                solve(numbers, target),
                {"numbers": numbers, "target": target},
            )
    raise ValueError(f"{row.where}: ground_truth should be [[numbers], target], found {truth}")


def _sudoku4(row: Row) -> Example:
    question = column(row, "question", str)
    solution = column(row, "ground_truth", str)
    puzzle = re.search(r"(?<!\d)[0-4]{16}(?!\d)", question)
    if not puzzle or not re.fullmatch("[1-4]{16}", solution):
        raise ValueError(
            f"{row.where}: the question should hold a puzzle and ground_truth its solution, "
            f"16 digits each; found {question!r} and {solution!r}"
        )
    return Example(question, solution, {"puzzle": puzzle[0]})


D1: dict[str, Callable[[Row], Example]] = {
    "gsm8k": _gsm8k,
    "math500": _math500,
    "countdown": _countdown,
    "sudoku4": _sudoku4,
}
