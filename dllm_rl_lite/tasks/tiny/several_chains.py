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
from .chain import count_chains, demonstrate, make_chain

LETTERS = "abc"


def make(rng: random.Random, steps: int) -> Example:
    """One chain for each letter; the answers stand side by side, one digit each."""
    chains = [make_chain(rng, steps, fewest_minus=1) for _ in LETTERS]
    prompt = ";".join(chain.prompt for chain in chains)
    return Example(prompt, "".join(chain.answer for chain in chains))


def demonstrate_all(example: Example, rng: random.Random, habit_share: float) -> str:
    """Each chain as `chain.demonstrate` writes it, behind its letter."""
    text = ""
    for letter, prompt in zip(LETTERS, example.prompt.split(";"), strict=True):
        text += letter + demonstrate(Example(prompt, ""), rng, habit_share)
    return text


def right_share(completion: str, answer: str) -> float:
    """Share of the letters whose answer is right; the working is not looked at."""
    right = 0
    for letter, digit in zip(LETTERS, answer, strict=True):
        found = re.search(f"{letter}[^{LETTERS}<]*<answer>([^<]*)</answer>", completion)
        right += found is not None and found[1] == digit
    return right / len(LETTERS)


def several_chains_task(name: str, steps: int, length: int) -> GeneratedTask:
    """Three chains in one completion.

    Args:
        name: of the task.
        steps: operations per chain.
        length: completion canvas, tokens.
    """
    return GeneratedTask(
        name=name,
        length=length,
        size=count_chains(steps, fewest_minus=1) ** len(LETTERS),
        make=lambda rng: make(rng, steps),
        key=lambda example: example.prompt,
        reward=per_row(right_share, "answer"),
        demonstrate=demonstrate_all,
        habit="a minus is worked as a plus",
    )
