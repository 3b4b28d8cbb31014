"""Several chains in one completion, each with a letter, its working and its answer:
`a6-4=2,2+7=9<answer>9</answer>b...`.

The reward is the share of right answers. A text that is still being written earns it part by part,
so a reward that looks at every pass (TA-GRPO-d) has something to see. Habit as in `chain`.
"""

from __future__ import annotations

import random
import re

from ...rewards import per_row
from ..task import Example, GeneratedTask
from . import chain

LETTERS = "abc"


def make(rng: random.Random, steps: int) -> Example:
    """One chain for each letter; the answers stand side by side, one digit each."""
    problems = [chain.make_chain(rng, steps, fewest_minus=1) for _ in LETTERS]
    prompt = ";".join(problem.prompt for problem in problems)
    return Example(prompt, "".join(problem.answer for problem in problems))


def demonstrate_all(example: Example, rng: random.Random, habit_share: float) -> str:
    """Each chain as `chain.demonstrate` writes it, behind its letter."""
    text = ""
    for letter, prompt in zip(LETTERS, example.prompt.split(";"), strict=True):
        text += letter + chain.demonstrate(Example(prompt, ""), rng, habit_share)
    return text


def right_share(completion: str, answer: str) -> float:
    """Share of the letters whose answer is right; the working is not looked at."""
    right = 0
    for letter, digit in zip(LETTERS, answer, strict=True):
        found = re.search(f"{letter}[^{LETTERS}<]*<answer>([^<]*)</answer>", completion)
        right += found is not None and found[1] == digit
    return right / len(LETTERS)


def shows_habit(example: Example, completion: str) -> bool:
    """True if every part is right or shows the habit of `chain`, and one does."""
    parts = re.split(f"[{LETTERS}](?=[0-9])", completion)[1:]
    prompts = example.prompt.split(";")
    if len(parts) != len(prompts):
        return False
    slips = 0
    for part, prompt in zip(parts, prompts, strict=True):
        slipped = chain.shows_habit(Example(prompt, ""), part)
        if not slipped and chain.worked_reward([prompt], [part]) == [0.0]:
            return False
        slips += slipped
    return slips > 0


def several_chains_task(name: str, steps: int, length: int) -> GeneratedTask:
    """Three chains of `steps` operations in one completion."""
    return GeneratedTask(
        name=name,
        length=length,
        size=chain.count_chains(steps, fewest_minus=1) ** len(LETTERS),
        make=lambda rng: make(rng, steps),
        reward=per_row(right_share, "answer"),
        demonstrate=demonstrate_all,
        shows_habit=shows_habit,
        habit="a minus is worked as a plus",
    )
