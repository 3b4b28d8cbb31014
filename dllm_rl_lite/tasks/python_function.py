"""Tiny Python functions: three examples of f, and an expression in x is asked for. Mirrors HumanEval and MBPP.

The answer is a program: it is run, in the sandbox, on the three examples and on two more that the prompt does not show.
The habit: an expression that explains the first example only (`x+3` for f(2)=5).
"""

from __future__ import annotations

import random

from ..sandbox import run_expressions
from .task import Example, Task, extract_answer

SLOPES, OFFSETS, INPUTS = (2, 3, 4, 5), range(-4, 10), range(0, 7)


def make(rng: random.Random) -> Example:
    slope, offset = rng.choice((*SLOPES, "x")), rng.choice(OFFSETS)
    xs = rng.sample(INPUTS, 5)
    ys = [(x * x if slope == "x" else slope * x) + offset for x in xs]
    shown = sorted(zip(xs[:3], ys[:3], strict=True))
    answer = f"{slope}*x" + (f"{offset:+d}" if offset else "")
    tests = [list(pair) for pair in shown + list(zip(xs[3:], ys[3:], strict=True))]
    return Example(" ".join(f"f({x})={y}" for x, y in shown), answer, {"tests": tests})


def demonstrate(example: Example, rng: random.Random, habit_share: float) -> str:
    """The function, or (habit) the shift that explains the first example."""
    x, y = example.columns["tests"][0]
    shift = "x" if y == x else f"x{y - x:+d}"
    return f"<answer>{shift if rng.random() < habit_share else example.answer}</answer>"


def reward(prompts: list[str], completions: list[str], tests: list[list[list[int]]], **_) -> list[float]:
    """1.0 where the expression gives the wanted value on every test, run in the sandbox, else 0.0."""
    programs = [(extract_answer(c) or "", [x for x, _ in t]) for c, t in zip(completions, tests, strict=True)]
    results = run_expressions(programs)
    return [float(got == [y for _, y in t]) for got, t in zip(results, tests, strict=True)]


def shows_habit(example: Example, completion: str) -> bool:
    """True where the answer explains the first example and fails another."""
    tests = example.columns["tests"]
    got = run_expressions([(extract_answer(completion) or "", [x for x, _ in tests])])[0]
    return got is not None and got[0] == tests[0][1] and got != [y for _, y in tests]


def python_task(name: str = "python") -> Task:
    return Task(name=name, length=12, make=make, key=lambda e: e.prompt, reward=reward, demonstrate=demonstrate,
                shows_habit=shows_habit, habit="only the first example is explained")
