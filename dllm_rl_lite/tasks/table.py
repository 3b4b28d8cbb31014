"""TASKS and BENCHMARKS: tiny generated families and published benchmarks by name; `load_task(name)`
is the way in."""

from __future__ import annotations

from collections.abc import Callable

from ..names import lookup
from ..rewards import published
from .benchmark import Benchmark
from .mixture import mixture_task
from .published.programs import humaneval_task, kodcode_task, mbpp_task
from .published.puzzles import countdown_benchmark, sudoku_benchmark
from .published.word_problems import gsm8k_task, math500_task
from .task import GeneratedTask, Task
from .tiny.chain import chain_task, writers_task
from .tiny.countdown import countdown_task
from .tiny.python_function import python_task
from .tiny.several_chains import several_chains_task
from .tiny.sudoku4 import sudoku4_task
from .tiny.sudoku4_worked import sudoku4_worked_task

TASKS: dict[str, Callable[[], GeneratedTask]] = {
    "chain": lambda: chain_task("chain", steps=3, fewest_minus=1, length=24),
    "chain1": lambda: chain_task("chain1", steps=1, fewest_minus=0, length=10),
    "chain2": lambda: chain_task("chain2", steps=2, fewest_minus=1, length=16),
    "chain4": lambda: chain_task("chain4", steps=4, fewest_minus=3, length=32),
    "chain_worked": lambda: chain_task(
        "chain_worked", steps=3, fewest_minus=1, length=24, worked=True
    ),
    "writers": lambda: writers_task("writers", worked=True),
    "writers_answer": lambda: writers_task("writers_answer", worked=False),
    "three_chains": lambda: several_chains_task("three_chains", steps=2, length=46),
    "sudoku4": sudoku4_task,
    "sudoku4_worked": lambda: sudoku4_worked_task("sudoku4_worked", worked=True),
    "sudoku4_worked_answer": lambda: sudoku4_worked_task("sudoku4_worked_answer", worked=False),
    "countdown": countdown_task,
    "python": python_task,
}

BENCHMARKS: dict[str, Callable[..., Benchmark]] = {
    "gsm8k": gsm8k_task,
    "math500": math500_task,
    "countdown": countdown_benchmark,
    "sudoku4": sudoku_benchmark,
    "humaneval": humaneval_task,
    "mbpp": mbpp_task,
    "kodcode": kodcode_task,
}


def load_task(
    name: str, data: str | None = None, shots: int = 0, published_quirks: bool | str = False
) -> Task:
    """The task of that name.

    Args:
        name: a key of TASKS (generated) or of BENCHMARKS. "sudoku4" and "countdown" are both:
            generated without `data`, the published benchmark with it. Several keys of TASKS joined
            by "+" are a mixture.
        data: a benchmark's file, folder or hub id; None: its own hub id.
        shots: worked examples before each question, for benchmarks only.
        published_quirks: score as the releases do, for benchmarks only; "ta-grpo-d": as that
            release does where it differs from d1's (math500's reward, countdown's evaluation).
    Raises:
        ValueError: for an unknown name, with the nearest match, or an argument that a generated
            task has no use for.
    """
    if "+" in name:
        parts = name.split("+")
        for part in parts:
            lookup("task of a mixture", part, TASKS)
        if data is not None or shots or published_quirks or len(set(parts)) < len(parts):
            raise ValueError(f"{name!r} mixes different tasks, and takes no data or other settings")
        return mixture_task(name, {part: TASKS[part]() for part in parts})
    lookup("task", name, TASKS | BENCHMARKS)
    if published_quirks not in (False, True, published.TIMED):
        raise ValueError(
            f"published_quirks must be false, true or {published.TIMED!r}, got {published_quirks!r}"
        )
    if name not in TASKS or (name in BENCHMARKS and data is not None):
        return BENCHMARKS[name](data, shots, published_quirks)
    if data is not None or shots or published_quirks:
        raise ValueError(
            f"{name!r} is generated and reads no data, and it has neither shots nor "
            f"published_quirks: those are for {', '.join(BENCHMARKS)} (countdown, sudoku4: pass "
            "data= for the published benchmark)"
        )
    return TASKS[name]()
