"""Tiny Python functions: three examples of f, and an expression in x is asked for. Mirrors
HumanEval and MBPP.

The answer is a program: it is run, in the sandbox, on the three examples and on two more that the
prompt does not show. The habit: an expression that explains the first example only (`x+3` for
f(2)=5).
"""

from __future__ import annotations

import ast
import math
import random

from ...rewards import extract_answer
from ...sandbox import Limits, Program, run_programs
from ..task import Example, GeneratedTask

SLOPES = (2, 3, 4, 5)
OFFSETS = range(-4, 10)
INPUTS = range(0, 7)
# All that an expression may call.
FUNCTIONS = ("abs", "min", "max", "range", "sum", "len", "int", "str", "sorted", "bool")
LIMITS = Limits(seconds=2, wall=4.0, memory=256 * 2**20)


def make(rng: random.Random) -> Example:
    """A problem such as f(1)=5 f(3)=9 f(4)=11: three examples in order, two more as tests."""
    slope = rng.choice((*SLOPES, "x"))
    offset = rng.choice(OFFSETS)
    tests = []
    for x in rng.sample(INPUTS, 5):
        y = x * x if slope == "x" else slope * x
        tests.append([x, y + offset])
    tests[:3] = sorted(tests[:3])
    prompt = " ".join(f"f({x})={y}" for x, y in tests[:3])
    answer = f"{slope}*x"
    if offset:
        answer += f"{offset:+d}"
    return Example(prompt, answer, {"tests": tests})


def demonstrate(example: Example, rng: random.Random, habit_share: float) -> str:
    """The function, or (habit) the shift that explains the first example."""
    answer = example.answer
    if rng.random() < habit_share:
        x, y = example.columns["tests"][0]
        answer = "x" if y == x else f"x{y - x:+d}"
    return f"<answer>{answer}</answer>"


def is_expression(text: str) -> bool:
    """True for a Python expression of at most 200 characters without attributes: nothing else is
    run."""
    if not 0 < len(text) <= 200:
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return not any(isinstance(node, ast.Attribute) for node in ast.walk(tree))


def run_expressions(
    expressions: list[str], checks: list[tuple[str, ...]]
) -> list[tuple[bool, ...]]:
    """Which checks each expression passes; they see it as the function f of x. What is no
    expression passes none.

    Without attributes an expression reaches no module, so the level of walls that starts fastest is
    enough.
    """
    allowed = "{" + ", ".join(f"'{name}': {name}" for name in FUNCTIONS) + "}"
    programs = {}
    for i, text in enumerate(expressions):
        if is_expression(text):
            source = f"lambda x: ({text})"
            code = f"f = eval({source!r}, {{'__builtins__': {allowed}}})"
            programs[i] = Program(code, checks[i], ("f",))
    passed = [(False,) * len(tests) for tests in checks]
    outcomes = run_programs(list(programs.values()), "limits", LIMITS)
    for i, outcome in zip(programs, outcomes, strict=True):
        passed[i] = outcome.passed
    return passed


def reward(
    prompts: list[str], completions: list[str], tests: list[list[list[int]]], **_
) -> list[float]:
    """1.0 if the expression gives the wanted value on every test, run in the sandbox, else 0.0."""
    expressions = [extract_answer(completion) or "" for completion in completions]
    checks = [(f"assert [f(x) for x, _ in {rows}] == [y for _, y in {rows}]",) for rows in tests]
    return [float(all(passed)) for passed in run_expressions(expressions, checks)]


def shows_habit(example: Example, completion: str) -> bool:
    """True if the answer explains the first example and fails another."""
    tests = example.columns["tests"]
    checks = (
        f"got = [f(x) for x, _ in {tests}]",
        f"assert got[0] == {tests[0][1]}",
        f"assert got != [y for _, y in {tests}]",
    )
    return all(run_expressions([extract_answer(completion) or ""], [checks])[0])


def python_task() -> GeneratedTask:
    """Functions a*x+b and x*x+b."""
    return GeneratedTask(
        name="python",
        length=12,
        size=(len(SLOPES) + 1) * len(OFFSETS) * math.comb(len(INPUTS), 3),
        make=make,
        reward=reward,
        demonstrate=demonstrate,
        shows_habit=shows_habit,
        habit="only the first example is explained",
    )
