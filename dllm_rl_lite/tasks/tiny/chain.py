"""Chain arithmetic on a ten-hour clock: a few additions and subtractions, worked step by step, then
the answer.

Mirrors GSM8K and MATH: the answer is only as good as the working before it. All results keep their
last digit only. The habit: a subtraction is worked as an addition (`6-4=0`).
"""

from __future__ import annotations

import random
import re

from ...rewards import extract_answer
from ..task import Example, Task

SUBTRAHENDS = [1, 2, 3, 4, 6, 7, 8, 9]  # 5 is left out: plus and minus 5 agree on a ten-hour clock


def make_chain(rng: random.Random, steps: int, fewest_minus: int) -> Example:
    """A chain such as 6-4+7-1 with `steps` operations, at least `fewest_minus` of them
    subtractions."""
    while True:
        signs = [rng.choice("+-") for _ in range(steps)]
        if signs.count("-") >= fewest_minus:
            break
    start = rng.randint(1, 9)
    terms = [(s, rng.choice(SUBTRAHENDS) if s == "-" else rng.randint(1, 9)) for s in signs]
    prompt = str(start) + "".join(f"{s}{d}" for s, d in terms)
    return Example(prompt, str(work(start, terms, [True] * steps)[-1][3]))


def work(
    start: int, terms: list[tuple[str, int]], right: list[bool]
) -> list[tuple[int, str, int, int]]:
    """The lines of working (a, sign, b, result); where `right` is False a minus is worked as a
    plus."""
    lines, value = [], start
    for (sign, digit), is_right in zip(terms, right, strict=True):
        result = (value - digit if sign == "-" and is_right else value + digit) % 10
        lines.append((value, sign, digit, result))
        value = result
    return lines


def parse(prompt: str) -> tuple[int, list[tuple[str, int]]]:
    """6-4+7 -> (6, [("-", 4), ("+", 7)])."""
    return int(prompt[0]), [(s, int(d)) for s, d in re.findall(r"([+-])(\d)", prompt)]


def demonstrate(example: Example, rng: random.Random, habit_share: float) -> str:
    """The written working and the answer; each minus is worked as a plus with probability
    `habit_share`."""
    start, terms = parse(example.prompt)
    flags = [rng.random() >= habit_share for _ in terms]
    lines = work(start, terms, flags)
    return ",".join(f"{a}{s}{b}={r}" for a, s, b, r in lines) + f"<answer>{lines[-1][3]}</answer>"


def shows_habit(example: Example, completion: str) -> bool:
    """True where the working is the chain's own, every wrong line is a minus worked as a plus, and
    there is one."""
    start, terms = parse(example.prompt)
    lines = re.findall(r"(\d)([+-])(\d)=(\d)", completion)
    if len(lines) != len(terms) or extract_answer(completion) != lines[-1][3]:
        return False
    value, slips = start, 0
    for (a, s, b, r), (sign, digit) in zip(lines, terms, strict=True):
        if (int(a), s, int(b)) != (value, sign, digit):
            return False
        as_plus, as_written = (value + digit) % 10, (value + (digit if s == "+" else -digit)) % 10
        if int(r) not in (as_plus, as_written):
            return False
        slips += int(r) != as_written
        value = int(r)
    return slips > 0


def reward(prompts: list[str], completions: list[str], answer: list[str], **_) -> list[float]:
    """1.0 where the text between the answer tags is the right digit, else 0.0; the working is not
    looked at."""
    return [float(extract_answer(c) == a) for c, a in zip(completions, answer, strict=True)]


def worked_reward(
    prompts: list[str], completions: list[str], answer: list[str], **_
) -> list[float]:
    """1.0 where every line of the working is the chain's own and right, and the answer its last
    result, else 0.0."""
    values = []
    for prompt, completion in zip(prompts, completions, strict=True):
        start, terms = parse(prompt)
        lines = [f"{a}{s}{b}={r}" for a, s, b, r in work(start, terms, [True] * len(terms))]
        values.append(float(completion == f"{','.join(lines)}<answer>{lines[-1][-1]}</answer>"))
    return values


def chain_task(name: str, steps: int, fewest_minus: int, length: int, worked: bool = False) -> Task:
    """worked: the verifier reads the working too."""
    return Task(
        name=name,
        length=length,
        make=lambda rng: make_chain(rng, steps, fewest_minus),
        key=lambda e: e.prompt,
        reward=worked_reward if worked else reward,
        demonstrate=demonstrate,
        shows_habit=shows_habit,
        habit="a minus is worked as a plus",
    )
