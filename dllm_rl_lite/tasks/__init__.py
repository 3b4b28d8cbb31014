"""Tasks: tiny seeded families behind one record. `load_task(name)` is the way in."""

from __future__ import annotations

from collections.abc import Callable

from ..names import lookup
from .chain import chain_task
from .countdown import countdown_task
from .python_function import python_task
from .sudoku4 import sudoku4_task
from .task import SPLITS, Example, Task, extract_answer, score, split_of

__all__ = ["SPLITS", "TASKS", "Example", "Task", "extract_answer", "load_task", "score", "split_of"]

TASKS: dict[str, Callable[[], Task]] = {
    "chain": lambda: chain_task("chain", steps=3, fewest_minus=1, length=24),
    "chain1": lambda: chain_task("chain1", steps=1, fewest_minus=0, length=10),
    "chain2": lambda: chain_task("chain2", steps=2, fewest_minus=1, length=16),
    "chain4": lambda: chain_task("chain4", steps=4, fewest_minus=3, length=32),
    "chain_worked": lambda: chain_task("chain_worked", steps=3, fewest_minus=1, length=24, worked=True),
    "sudoku4": sudoku4_task,
    "countdown": countdown_task,
    "python": python_task,
}


def load_task(name: str) -> Task:
    """The task of that name; ValueError with the nearest match for an unknown one."""
    return lookup("task", name, TASKS)()
