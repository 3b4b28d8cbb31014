"""Chain arithmetic on a ten-hour clock: a few additions and subtractions, worked step by step, then
the answer.

Mirrors GSM8K and MATH: the answer is only as good as the working before it. All results keep their
last digit only. The habit: a subtraction is worked as an addition (`6-4=0`).
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace

from ...rewards import extract_answer, per_row
from ..task import Example, GeneratedTask

SUBTRAHENDS = [1, 2, 3, 4, 6, 7, 8, 9]  # 5 is left out: plus and minus 5 agree on a ten-hour clock


def make_chain(rng: random.Random, steps: int, fewest_minus: int) -> Example:
    """A chain such as 6-4+7-1 with `steps` operations, at least `fewest_minus` of them
    subtractions."""
    signs: list[str] = []
    while len(signs) < steps or signs.count("-") < fewest_minus:
        signs = [rng.choice("+-") for _ in range(steps)]
    prompt = str(rng.randint(1, 9))
    for sign in signs:
        digit = rng.choice(SUBTRAHENDS) if sign == "-" else rng.randint(1, 9)
        prompt += f"{sign}{digit}"
    start, terms = parse(prompt)
    return Example(prompt, str(work(start, terms, [True] * steps)[-1][3]))


def work(
    start: int, terms: list[tuple[str, int]], right: list[bool]
) -> list[tuple[int, str, int, int]]:
    """The lines of working (a, sign, b, result); a minus whose `right` is False is worked as a
    plus."""
    lines = []
    value = start
    for (sign, digit), is_right in zip(terms, right, strict=True):
        worked_sign = sign if is_right else "+"
        result = _result(value, worked_sign, digit)
        lines.append((value, sign, digit, result))
        value = result
    return lines


def _result(value: int, sign: str, digit: int) -> int:
    """One operation on the ten-hour clock."""
    return (value + digit if sign == "+" else value - digit) % 10


def written(lines: list[tuple[int, str, int, int]]) -> str:
    """The text of a working and its answer: 6-4=2,2+7=9<answer>9</answer>."""
    working = ",".join(f"{a}{sign}{b}={result}" for a, sign, b, result in lines)
    return f"{working}<answer>{lines[-1][3]}</answer>"


def parse(prompt: str) -> tuple[int, list[tuple[str, int]]]:
    """6-4+7 -> (6, [("-", 4), ("+", 7)])."""
    terms = [(sign, int(digit)) for sign, digit in re.findall(r"([+-])(\d)", prompt)]
    return int(prompt[0]), terms


def demonstrate(example: Example, rng: random.Random, habit_share: float) -> str:
    """The written working and the answer; each minus is worked as a plus with probability
    `habit_share`."""
    start, terms = parse(example.prompt)
    right = [rng.random() >= habit_share for _ in terms]
    return written(work(start, terms, right))


def demonstrate_as_writer(example: Example, rng: random.Random, habit_share: float) -> str:
    """A completion by one of two writers, who keep to their way for the whole of it: the careless
    one (`habit_share` of the time) works each minus as a plus, the careful one works all of it
    right."""
    start, terms = parse(example.prompt)
    is_careful = rng.random() >= habit_share
    return written(work(start, terms, [is_careful] * len(terms)))


def shows_habit(example: Example, completion: str) -> bool:
    """True if the working is the chain's own, every wrong line is a minus worked as a plus, and
    there is one."""
    start, terms = parse(example.prompt)
    lines = re.findall(r"(\d)([+-])(\d)=(\d)", completion)
    if len(lines) != len(terms) or extract_answer(completion) != lines[-1][3]:
        return False
    value = start
    slips = 0
    for (a, s, b, result), (sign, digit) in zip(lines, terms, strict=True):
        if (int(a), s, int(b)) != (value, sign, digit):
            return False
        if int(result) != _result(value, sign, digit):
            if int(result) != _result(value, "+", digit):
                return False
            slips += 1
        value = int(result)
    return slips > 0


def right_digit(completion: str, answer: str) -> float:
    """1.0 if the text between the answer tags is the right digit, else 0.0; the working is not
    looked at."""
    return float(extract_answer(completion) == answer)


def worked_reward(prompts: list[str], completions: list[str], **_) -> list[float]:
    """1.0 if every line of the working is the chain's own and right, and the answer its last
    result, else 0.0."""
    values = []
    for prompt, completion in zip(prompts, completions, strict=True):
        start, terms = parse(prompt)
        right = written(work(start, terms, [True] * len(terms)))
        values.append(float(completion == right))
    return values


def count_chains(steps: int, fewest_minus: int) -> int:
    """How many different chains `make_chain` draws from."""
    size = 0  # the first digit, and per step nine addends or the subtrahends
    for minus in range(fewest_minus, steps + 1):
        size += 9 * math.comb(steps, minus) * len(SUBTRAHENDS) ** minus * 9 ** (steps - minus)
    return size


def chain_task(
    name: str,
    steps: int,
    fewest_minus: int,
    length: int,
    worked: bool = False,
) -> GeneratedTask:
    """Chains as `make_chain` draws them. worked: the verifier reads the working too."""
    return GeneratedTask(
        name=name,
        length=length,
        size=count_chains(steps, fewest_minus),
        make=lambda rng: make_chain(rng, steps, fewest_minus),
        reward=worked_reward if worked else per_row(right_digit, "answer"),
        demonstrate=demonstrate,
        shows_habit=shows_habit,
        habit="a minus is worked as a plus",
    )


def make_minus_first(rng: random.Random) -> Example:
    """A chain of two whose first operation is a subtraction: so a careless first line is wrong."""
    while True:
        example = make_chain(rng, steps=2, fewest_minus=1)
        if example.prompt[1] == "-":
            return example


def writers_task(name: str, worked: bool) -> GeneratedTask:
    """Chains of two whose demonstrations are careless or careful as a whole. worked: the verifier
    reads the working too."""
    return replace(
        chain_task(name, steps=2, fewest_minus=1, length=16, worked=worked),
        make=make_minus_first,
        size=9 * len(SUBTRAHENDS) * (9 + len(SUBTRAHENDS)),
        demonstrate=demonstrate_as_writer,
    )
