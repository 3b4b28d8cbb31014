"""Scoring of text: what a completion's answer is, whether it is right, and the training rewards
built of both.

Rewards follow diffu-GRPO (d1), AG-GRPO and TA-GRPO-d and mean what those papers say; the releases'
own behaviour, where it differs, is in `published.py`. White space around a completion never
matters. Each ingredient takes one completion and gives one number; `gsm8k_reward` and `math_reward`
add them up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from .expressions import read_expression
from .latex import equivalent
from .numerals import number

NO_BOX = -1

# ---------------------------------------------------------------- reading an answer


def extract_answer(completion: str) -> str | None:
    """What stands in the last complete <answer>...</answer>, stripped, or None."""
    found = re.findall(r"<answer>((?:(?!<answer>)[\s\S])*?)</answer>", completion)
    return found[-1].strip() if found else None


def last_boxed(text: str) -> str | None:
    """What the last \\boxed{...} that closes holds, nested braces and all, stripped, or None.

    Models also write it without the backslash.
    """
    open_braces: list[int] = []  # of each: where its box begins, NO_BOX if it is no box's
    last = NO_BOX
    held = None
    for brace in re.finditer(r"(?:\\|\b)boxed\s*\{|\{|\}", text):
        if brace[0] == "{":
            open_braces.append(NO_BOX)
        elif brace[0] != "}":
            open_braces.append(brace.end())
        elif open_braces:
            start = open_braces.pop()
            if start > last:
                last = start
                held = text[start : brace.start()].strip()
    return held


def final_answer(completion: str) -> str | None:
    """The last box if it holds anything, else the text between the last answer tags, else None:
    prose is no answer."""
    return last_boxed(completion) or extract_answer(completion)


# ---------------------------------------------------------------- right or wrong


def gsm8k_correct(completion: str, answer: str) -> float:
    """1.0 if the final answer states one number and it equals the gold one, else 0.0."""
    found = number(final_answer(completion) or "")
    return float(found is not None and found == number(answer))


def math_correct(completions: list[str], answers: list[str]) -> list[float]:
    """1.0 if math-verify finds the final answer equal to the gold one; a batch, for they share a
    process."""
    found = [final_answer(c) or "" for c in completions]
    return [float(same) for same in equivalent(list(zip(answers, found, strict=True)))]


def countdown_correct(completion: str, numbers: list[int], target: int) -> float:
    """1.0 if the final answer has the target's value and uses each number exactly once, else
    0.0."""
    return float(countdown_reward(completion, numbers, target, final_answer) == 1)


def sudoku_correct(completion: str, puzzle: str, answer: str) -> float:
    """Share of the blank cells that hold the stored solution's digit; 1.0 is a solved puzzle.

    The final answer has to be a grid of sixteen cells (spaces, line breaks, | and commas aside)
    that keeps the givens; a text with fifteen or seventeen digits has no cells to compare, and
    scores 0.0.
    """
    cells = re.sub(r"[\s|,]", "", final_answer(completion) or "")
    if len(cells) != 16 or not keeps_givens(puzzle, cells):
        return 0.0
    return blank_share(puzzle, cells, answer)


def keeps_givens(puzzle: str, cells: str) -> bool:
    """Does a grid of as many cells hold the puzzle's digits (0 = blank)?"""
    return all(given in ("0", cell) for given, cell in zip(puzzle, cells, strict=True))


def blank_share(puzzle: str, cells: str, solution: str) -> float:
    """Share of the puzzle's blanks (0) whose cell holds the solution's digit; a missing cell does
    not. 0.0 without blanks."""
    blanks = [i for i, given in enumerate(puzzle) if given == "0"]
    right = sum(cells[i : i + 1] == solution[i] for i in blanks)
    return right / max(len(blanks), 1)


# ---------------------------------------------------------------- what training rewards are made of


def number_reward(completion: str, answer: str) -> float:
    """2.0 for the gold number between the answer tags."""
    found = number(extract_answer(completion) or "")
    return 2.0 * (found is not None and found == number(answer))


def integer_reward(completion: str) -> float:
    """0.5 for a bare whole number between the answer tags."""
    return 0.5 * bool(re.fullmatch(r"-?[0-9]+", extract_answer(completion) or ""))


def strict_format(completion: str) -> float:
    """0.5 for reasoning and answer in their tags, each tag on a line of its own, and nothing
    else."""
    shape = r"<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>"
    return 0.5 * bool(re.fullmatch(shape, completion.strip(), re.DOTALL))


def soft_format(completion: str) -> float:
    """0.5 for a text that begins with reasoning in its tags, followed by an answer in its tags."""
    shape = r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>"
    return 0.5 * bool(re.match(shape, completion.strip(), re.DOTALL))


def tag_count(completion: str) -> float:
    """0.125 for each of the four tags that stands exactly once, on its own line; less 0.001 per
    character after the last.

    The charge is taken once and never beyond what the tags earned: 0.0 to 0.5.
    """
    text = "\n" + completion.strip() + "\n"
    earned = 0.0
    for tag in ("<reasoning>", "</reasoning>", "<answer>", "</answer>"):
        if text.count(f"\n{tag}\n") == 1:
            earned += 0.125
    _, closing_tag, tail = text.rpartition("\n</answer>")
    if closing_tag:
        earned -= 0.001 * len(tail.strip())
    return max(earned, 0.0)


def boxed_format(completion: str) -> float:
    """1.0 for a box between answer tags, 0.75 for tags without a box, 0.5 for a box without tags,
    0.25 for neither; a box is written with its backslash."""
    tagged = extract_answer(completion)
    text = completion if tagged is None else tagged
    has_box = "\\boxed" in text and last_boxed(text) is not None
    return 0.25 + 0.25 * has_box + 0.5 * (tagged is not None)


# ---------------------------------------------------------------- training rewards


def per_row(rule: Callable[..., float], *names: str) -> Callable[..., list[float]]:
    """rule(completion, *columns) of one row, as a function of TRL's signature that reads the
    columns `names`."""

    def reward(prompts: list[str], completions: list[str], **columns) -> list[float]:
        rows = zip(completions, *(columns[name] for name in names), strict=True)
        return [float(rule(*row)) for row in rows]

    reward.__name__ = rule.__name__  # what an error message calls it
    return reward


def gsm8k_reward(completion: str, answer: str) -> float:
    """The gold number 2.0, a whole number 0.5, strict format 0.5, soft format 0.5, tags up to 0.5:
    0.0 to 4.0."""
    return (
        number_reward(completion, answer)
        + integer_reward(completion)
        + strict_format(completion)
        + soft_format(completion)
        + tag_count(completion)
    )


def math_reward(completions: list[str], answers: list[str]) -> list[float]:
    """2.0 for the right final answer and up to 1.0 for its format: 0.25 to 3.0."""
    right = math_correct(completions, answers)
    return [2.0 * r + boxed_format(c) for r, c in zip(right, completions, strict=True)]


def countdown_reward(
    completion: str,
    numbers: list[int],
    target: int,
    read: Callable[[str], str | None] = extract_answer,
) -> float:
    """1.0 for the target from each number once, 0.1 for another value from the right numbers, else
    0.0.

    read: finds the answer in the completion; the training prompts ask for answer tags.
    """
    text = read(completion) or ""
    boxed = last_boxed(text)
    if boxed is not None:
        text = boxed
    found = read_expression(text)
    if found is None or found[1] != Counter(numbers):
        return 0.0
    return 1.0 if found[0] == target else 0.1
