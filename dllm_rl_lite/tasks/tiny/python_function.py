"""Tiny Python functions: three examples of f, and an expression in x is asked for. Mirrors
HumanEval and MBPP.

The answer is a program: it is run, in the sandbox, on the three examples and on two more that the
prompt does not show. The habit: an expression that explains the first example only (`x+3` for
f(2)=5).
"""

from __future__ import annotations

import ast
import random

from ...rewards import extract_answer
from ...sandbox import Limits, Program, run_programs
from ..task import Example, Task

SLOPES, OFFSETS, INPUTS = (2, 3, 4, 5), range(-4, 10), range(0, 7)
FUNCTIONS = (
    "abs",
    "min",
    "max",
    "range",
    "sum",
    "len",
    "int",
    "str",
    "sorted",
    "bool",
)  # all that an expression may call
LIMITS = Limits(seconds=2, wall=4.0, memory=256 * 2**20)


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


def is_expression(text: str) -> bool:
    """True for a Python expression of at most 200 characters without attributes: nothing else is
    run."""
    try:
        tree = ast.parse(text, mode="eval") if 0 < len(text) <= 200 else None
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return tree is not None and not any(isinstance(node, ast.Attribute) for node in ast.walk(tree))


def run_expressions(
    expressions: list[str], checks: list[tuple[str, ...]]
) -> list[tuple[bool, ...]]:
    """Which checks each expression passes; they see it as the function f of x. What is no
    expression passes none.

    Without attributes an expression reaches no module, so the level of walls that starts fastest is
    enough.
    """
    allowed = "{" + ", ".join(f"'{name}': {name}" for name in FUNCTIONS) + "}"
    programs = {
        i: Program(
            f"f = eval({f'lambda x: ({text})'!r}, {{'__builtins__': {allowed}}})", checks[i], ("f",)
        )
        for i, text in enumerate(expressions)
        if is_expression(text)
    }
    outcomes = dict(
        zip(programs, run_programs(list(programs.values()), "limits", LIMITS), strict=True)
    )
    return [
        outcomes[i].passed if i in outcomes else (False,) * len(checks[i])
        for i in range(len(expressions))
    ]


def reward(
    prompts: list[str], completions: list[str], tests: list[list[list[int]]], **_
) -> list[float]:
    """1.0 where the expression gives the wanted value on every test, run in the sandbox, else
    0.0."""
    checks = [(f"assert [f(x) for x, _ in {rows}] == [y for _, y in {rows}]",) for rows in tests]
    return [
        float(all(passed))
        for passed in run_expressions([extract_answer(c) or "" for c in completions], checks)
    ]


def shows_habit(example: Example, completion: str) -> bool:
    """True where the answer explains the first example and fails another."""
    tests = example.columns["tests"]
    checks = (
        f"got = [f(x) for x, _ in {tests}]",
        f"assert got[0] == {tests[0][1]}",
        f"assert got != [y for _, y in {tests}]",
    )
    return all(run_expressions([extract_answer(completion) or ""], [checks])[0])


def python_task(name: str = "python") -> Task:
    return Task(
        name=name,
        length=12,
        make=make,
        key=lambda e: e.prompt,
        reward=reward,
        demonstrate=demonstrate,
        shows_habit=shows_habit,
        habit="only the first example is explained",
    )
