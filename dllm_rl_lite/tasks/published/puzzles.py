"""The published Countdown and 4x4 Sudoku of d1; `tiny/countdown.py` and `tiny/sudoku4.py` generate
tiny ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import numpy as np

from ... import rewards
from ...names import unknown
from ...rewards import published
from ..benchmark import Benchmark
from ..task import SPLITS, Example
from ..tiny.sudoku4 import BOXES, ROWS_AND_COLUMNS, cell_fraction, units_hold
from .rows import Row, column, read_rows
from .word_problems import FORMAT, IN_WORDS, PREFILL

# d1's prompts, to the letter (dllm-reasoning/d1, diffu-grpo/data_utils.py, eval/countdown.py,
# eval/sudoku.py). TA-GRPO-d's release evaluates Countdown with another text, which asks for answer
# tags without a box.
COUNTDOWN_TRAINING = (
    "Using only the numbers {}, create an arithmetic expression that evaluates to exactly {}. You must use all numbers from "
    "the list, and each number must be used exactly once. You may use the operations +, -, *, and / as needed. After "
    "reasoning, provide only your final expression inside <answer></answer> tags without including an equals sign or the "
    "target number. For example, if the numbers are [2, 3, 4] and the target is 5, a valid answer is: "
    "<answer>\n2*4-3\n</answer>"
)
COUNTDOWN_EVALUATION = (
    "Using only the provided numbers, create an arithmetic expression that evaluates to exactly the provided target number. "
    "You may use the operations +, -, *, and / as needed, but each number must be used exactly once. Think step-by-step. "
    "After reasoning, provide only your final expression inside \\boxed{} tags without including an equals sign or the "
    "target number. For example: \\boxed{a + b * c}Respond in the following format:\n<reasoning>\nYour reasoning here\n"
    "</reasoning>\n<answer>\n\\boxed{...}\n</answer>\n\n"
)
SUDOKU = (
    "\nPlease solve the following 4x4 Sudoku puzzle. The puzzle is provided as a 16-character string reading left-to-right, "
    "top-to-bottom, where '0' represents empty cells.\n\nRules:\n- Fill empty cells with digits 1-4\n"
    "- Each row must contain digits 1-4 exactly once\n- Each column must contain digits 1-4 exactly once\n"
    "- Each 2x2 box must contain digits 1-4 exactly once\n\nImportant: Your solution must be a COMPLETE 16-character string "
    "with only the digits 1-4, representing your final solved grid.\n\nRespond in this exact format:\n<reasoning>\n"
    "Your step-by-step solving process\n</reasoning>\n<answer>\n"
    "[16-character solution string with no spaces or separators]\n</answer>\n\n\n"
)
SUDOKU_SHOTS = (
    "0320020430402010",
    "2003432010320000",
    "0400034140203004",
)  # three puzzles, each with one solution
SHOTS_IN_WORDS = "; {} worked puzzles of our own, every cell with its reason (SPG's 3-shot numbers are of three others)"


def countdown_benchmark(source: str, shots: int = 0, published_quirks: bool = False) -> Benchmark:
    """Countdown with three numbers: an expression with all of them that has the target's value.

    Args:
        source: d1's test file (columns input "30,100,93" and output), or the columns nums and
            target, as in the hub's Jiayi-Pan/Countdown-Tasks-3to4, of which rows with other than
            three numbers are left out, as in d1.
        shots: 0; no published working exists to show.
        published_quirks: score as d1's release does.
    The answer is one right expression, the first found, or "" where there is none. Train and
    validation: see `leave_out`.
    """
    if shots:
        raise ValueError(
            f"Countdown is a zero-shot benchmark (d1 sets shots to 0 as well), got {shots}"
        )

    def parse(row: Row, split: str) -> Example | None:
        numbers, target = _countdown_row(row)
        if len(numbers) != 3:
            return None
        prompt = COUNTDOWN_EVALUATION + f"Numbers: {numbers}\nTarget: {target}"
        if split == "train":
            prompt = FORMAT.rstrip("\n") + "\n\n" + COUNTDOWN_TRAINING.format(numbers, target)
        return Example(prompt, solve(numbers, target), {"numbers": numbers, "target": target})

    own = [rewards.countdown_reward, rewards.countdown_correct]
    if published_quirks:
        own = [published.countdown_reward, published.countdown]
    reward, correct = (rewards.per_row(rule, "numbers", "target") for rule in own)
    return Benchmark(
        "countdown",
        256,
        source,
        _reader(source, parse),
        reward,
        correct,
        IN_WORDS,
        PREFILL,
        published_quirks=published_quirks,
    )


def sudoku_benchmark(source: str, shots: int = 0, published_quirks: bool = False) -> Benchmark:
    """4x4 Sudoku with eight blanks and one solution; scored by cell, so that the weighted mean is
    d1's share of blank cells.

    Args:
        source: csv with the columns Puzzle and Solution, 16 digits each, 0 = blank.
        shots: 0 to 3 worked puzzles before each one, a fixed choice.
        published_quirks: count as d1's release does. The training reward is the same either way.
    d1 evaluates 256 of its 500 test puzzles, drawn by numpy's old generator seeded with 42;
    `sample` draws by its own seed.
    """
    if not 0 <= shots <= len(SUDOKU_SHOTS):
        raise ValueError(
            f"shots must be 0 to {len(SUDOKU_SHOTS)}, the worked puzzles there are; got {shots}"
        )

    def parse(row: Row, split: str) -> Example:
        puzzle, solution = column(row, "Puzzle", str), column(row, "Solution", str)
        fits = (
            re.fullmatch("[0-4]{16}", puzzle)
            and re.fullmatch("[1-4]{16}", solution)
            and all(given in ("0", cell) for given, cell in zip(puzzle, solution, strict=True))
        )
        if not fits or not units_hold(solution, ROWS_AND_COLUMNS + BOXES):
            raise ValueError(
                f"{row.where}: Puzzle {puzzle!r} and Solution {solution!r} are no 4x4 Sudoku of 16 digits each"
            )
        question = f"Solve the following Sudoku puzzle: {puzzle}\n"
        if shots:
            worked = [_worked(shot) for shot in SUDOKU_SHOTS[:shots]]
            question = "\n\n".join([*worked, f"Question: {question}\nAnswer:\n"])
        return Example(SUDOKU + question, solution, {"puzzle": puzzle})

    correct = rewards.per_row(
        published.sudoku if published_quirks else rewards.sudoku_correct, "puzzle", "answer"
    )
    in_words = "d1's, the same on every split; with the prefill on validation and test"
    in_words += SHOTS_IN_WORDS.format(shots) if shots else ""
    return Benchmark(
        "sudoku4",
        256,
        source,
        _reader(source, parse),
        cell_fraction,
        correct,
        in_words,
        PREFILL,
        shots,
        published_quirks,
        weigh=lambda example: float(example.columns["puzzle"].count("0")),
    )


def _reader(
    source: str, parse: Callable[[Row, str], Example | None]
) -> Callable[[str], list[Example]]:
    @cache
    def read(split: str) -> list[Example]:
        if split not in SPLITS:
            raise ValueError(unknown("split", split, SPLITS))
        rows = read_rows(source, "test" if split == "test" else "train")
        examples = [e for row in rows if (e := parse(row, split)) is not None]
        return examples if split == "test" else leave_out(examples, split)

    return read


def leave_out(examples: list[Example], split: str) -> list[Example]:
    """d1's split: shuffled with seed 42, the last 500 are kept from training; here they are the
    validation split.

    Fewer than 10 000 examples: the last twentieth. Both splits come in file order.
    """
    last = min(500, len(examples) // 20)
    order = np.random.default_rng(42).permutation(
        len(examples)
    )  # what Dataset.shuffle(seed=42) does
    kept_out = set(order[len(order) - last :].tolist())
    return [e for i, e in enumerate(examples) if (i in kept_out) == (split == "validation")]


def _countdown_row(row: Row) -> tuple[list[int], int]:
    """Numbers and target, from either set of columns."""
    if "nums" in row.values:
        numbers, target = column(row, "nums", list), column(row, "target", int)
    else:
        numbers, target = column(row, "input", str).split(","), column(row, "output", int)
    if not all(str(n).strip().isascii() and str(n).strip().isdigit() for n in numbers):
        raise ValueError(
            f"{row.where}: the numbers should be whole and not negative, found {numbers}"
        )
    return [int(n) for n in numbers], target


def _worked(puzzle: str) -> str:
    """A puzzle solved cell by cell, in the format that the prompt asks for."""
    solution, reasons = deduce(puzzle)
    return (
        f"Question:\nSolve the following Sudoku puzzle: {puzzle}\nAnswer:\n<reasoning>\n"
        + "\n".join(reasons)
        + f"\n</reasoning>\n<answer>\n{solution}\n</answer>"
    )


def deduce(puzzle: str) -> tuple[str, list[str]]:
    """(solution, reasons) of a puzzle by its blanks with one digit left, the first of them first.

    Raises ValueError where no blank has only one digit left.
    """
    cells, reasons = list(puzzle), []
    while "0" in cells:
        for i in (i for i, cell in enumerate(cells) if cell == "0"):
            seen = {cells[j] for unit in ROWS_AND_COLUMNS + BOXES if i in unit for j in unit}
            if len(left := set("1234") - seen) == 1:
                cells[i] = left.pop()
                reasons.append(
                    f"Row {i // 4 + 1}, column {i % 4 + 1}: its row, column and box leave only {cells[i]}."
                )
                break
        else:
            raise ValueError(
                f"the puzzle {puzzle!r} has no blank with only one digit left: {''.join(cells)}"
            )
    return "".join(cells), reasons


def solve(numbers: list[int], target: int) -> str:
    """An expression that reaches the target with each number once, or ""; every way to combine them
    is tried."""
    return _combine([(n, str(n), 3) for n in numbers], target) or ""


def _combine(parts: list[tuple], target: int) -> str | None:
    """parts: (value, text, how tightly the text binds: 1 sum, 2 product, 3 number)."""
    if len(parts) == 1:
        return parts[0][1] if parts[0][0] == target else None
    for i in range(len(parts)):
        for j in range(len(parts)):
            if i != j:
                others = [p for k, p in enumerate(parts) if k not in (i, j)]
                for joined in _joined(parts[i], parts[j], i < j):
                    if found := _combine([joined, *others], target):
                        return found
    return None


def _joined(a: tuple, b: tuple, first: bool) -> list[tuple]:
    """a + b and a * b once for a pair, a - b and a / b for each order."""

    def text(part: tuple, least: int) -> str:
        return part[1] if part[2] >= least else f"({part[1]})"

    results = [(a[0] - b[0], f"{text(a, 1)} - {text(b, 2)}", 1)]
    if first:
        results += [
            (a[0] + b[0], f"{text(a, 1)} + {text(b, 1)}", 1),
            (a[0] * b[0], f"{text(a, 2)} * {text(b, 2)}", 2),
        ]
    if b[0] != 0:
        results.append((Fraction(a[0]) / b[0], f"{text(a, 2)} / {text(b, 3)}", 2))
    return results
