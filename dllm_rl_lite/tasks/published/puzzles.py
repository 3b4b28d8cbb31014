"""The published Countdown and 4x4 Sudoku of d1; `tiny/countdown.py` and `tiny/sudoku4.py` generate
tiny ones. Both cut train and validation as `leave_out` says."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction
from typing import NamedTuple

from ... import rewards
from ...rewards import published
from ..benchmark import Benchmark
from ..task import Example
from ..tiny.sudoku4 import BOXES, ROWS_AND_COLUMNS, right_cells, units_hold
from ..tiny.sudoku4_worked import fill_cell, forced_cells
from .rows import Row, column
from .splits import leave_out, split_reader, train_and_test
from .word_problems import FORMAT, IN_WORDS, PREFILL

# d1's prompts, to the letter (dllm-reasoning/d1, diffu-grpo/data_utils.py, eval/countdown.py,
# eval/sudoku.py).
COUNTDOWN_TRAINING = (
    "Using only the numbers {}, create an arithmetic expression that evaluates to exactly {}. "
    "You must use all numbers from the list, and each number must be used exactly once. "
    "You may use the operations +, -, *, and / as needed. After reasoning, provide only your final "
    "expression inside <answer></answer> tags without including an equals sign or the target "
    "number. For example, if the numbers are [2, 3, 4] and the target is 5, a valid answer is: "
    "<answer>\n2*4-3\n</answer>"
)
COUNTDOWN_EVALUATION = (
    "Using only the provided numbers, create an arithmetic expression that evaluates to exactly "
    "the provided target number. You may use the operations +, -, *, and / as needed, but each "
    "number must be used exactly once. Think step-by-step. After reasoning, provide only your "
    "final expression inside \\boxed{} tags without including an equals sign or the target number. "
    "For example: \\boxed{a + b * c}Respond in the following format:\n<reasoning>\n"
    "Your reasoning here\n</reasoning>\n<answer>\n\\boxed{...}\n</answer>\n\n"
)
# TA-GRPO-d evaluates with tags in the place of the box, and a stray pair of braces.
TIMED_COUNTDOWN_EVALUATION = (
    COUNTDOWN_EVALUATION.replace("\\boxed{} tags", "<answer>...</answer>{} tags")
    .replace("\\boxed{a + b * c}", "<answer>a + b * c</answer>")
    .replace("\\boxed{...}", "Only your final answer")
)
SUDOKU = (
    "\nPlease solve the following 4x4 Sudoku puzzle. The puzzle is provided as a 16-character "
    "string reading left-to-right, top-to-bottom, where '0' represents empty cells.\n\n"
    "Rules:\n- Fill empty cells with digits 1-4\n- Each row must contain digits 1-4 exactly once\n"
    "- Each column must contain digits 1-4 exactly once\n"
    "- Each 2x2 box must contain digits 1-4 exactly once\n\n"
    "Important: Your solution must be a COMPLETE 16-character string with only the digits 1-4, "
    "representing your final solved grid.\n\nRespond in this exact format:\n<reasoning>\n"
    "Your step-by-step solving process\n</reasoning>\n<answer>\n"
    "[16-character solution string with no spaces or separators]\n</answer>\n\n\n"
)
# Three puzzles, each with one solution.
SUDOKU_SHOTS = (
    "0320020430402010",
    "2003432010320000",
    "0400034140203004",
)
SUDOKU_IN_WORDS = "d1's, the same on every split; with the prefill on validation and test"
SHOTS_IN_WORDS = (
    "; {} worked puzzles of our own, every cell with its reason "
    "(SPG's 3-shot numbers are of three others)"
)


def countdown_benchmark(
    source: str, shots: int = 0, published_quirks: bool | str = False
) -> Benchmark:
    """Countdown with three numbers: an expression with all of them that has the target's value.

    The answer is one right expression, the first found, or "" if there is none.

    Args:
        source: d1's test file (columns input "30,100,93" and output), or the columns nums and
            target, as in the hub's Jiayi-Pan/Countdown-Tasks-3to4, of which rows with other than
            three numbers are left out, as in d1.
        shots: 0; no published working exists to show.
        published_quirks: "ta-grpo-d": evaluate as that release does, with its prompt.
    """
    if shots:
        raise ValueError(
            f"Countdown is a zero-shot benchmark (d1 sets shots to 0 as well), got {shots}"
        )
    rules = published if published_quirks else rewards
    correct = rules.countdown_correct
    evaluation = COUNTDOWN_EVALUATION
    in_words = IN_WORDS
    if published_quirks == published.TIMED:
        in_words = "d1's training prompt on train; TA-GRPO-d's evaluation prompt, with the prefill"
        correct = published.timed_countdown_correct
        evaluation = TIMED_COUNTDOWN_EVALUATION

    def parse(row: Row, split: str) -> Example | None:
        numbers, target = _countdown_row(row)
        if len(numbers) != 3:
            return None
        if split == "train":
            prompt = FORMAT.rstrip("\n") + "\n\n" + COUNTDOWN_TRAINING.format(numbers, target)
        else:
            prompt = evaluation + f"Numbers: {numbers}\nTarget: {target}"
        return Example(prompt, solve(numbers, target), {"numbers": numbers, "target": target})

    places = train_and_test(source, source)
    return Benchmark(
        name="countdown",
        source=source,
        read=split_reader("countdown", places, parse, leave_out),
        reward=rewards.per_row(rules.countdown_reward, "numbers", "target"),
        correct=rewards.per_row(correct, "numbers", "target"),
        prompt=in_words,
        prefill=PREFILL,
        published_quirks=published_quirks,
    )


def sudoku_benchmark(
    source: str, shots: int = 0, published_quirks: bool | str = False
) -> Benchmark:
    """4x4 Sudoku with eight blanks and one solution; scored by cell, so that the weighted mean is
    d1's share of blank cells.

    d1 evaluates 256 of its 500 test puzzles, drawn by numpy's old generator seeded with 42;
    `sample` draws by its own seed.

    Args:
        source: csv with the columns Puzzle and Solution, 16 digits each, 0 = blank.
        shots: 0 to 3 worked puzzles before each one, a fixed choice.
    """
    if not 0 <= shots <= len(SUDOKU_SHOTS):
        raise ValueError(
            f"shots must be 0 to {len(SUDOKU_SHOTS)}, the worked puzzles there are; got {shots}"
        )
    reward = right_cells
    correct = rewards.sudoku_correct
    if published_quirks:
        reward = published.sudoku_reward
        correct = published.sudoku_correct
    worked = [_worked(puzzle) for puzzle in SUDOKU_SHOTS[:shots]]

    def parse(row: Row, split: str) -> Example:
        puzzle, solution = _sudoku_row(row)
        question = f"Solve the following Sudoku puzzle: {puzzle}\n"
        if worked:
            question = "\n\n".join([*worked, f"Question: {question}\nAnswer:\n"])
        return Example(SUDOKU + question, solution, {"puzzle": puzzle})

    return Benchmark(
        name="sudoku4",
        source=source,
        read=split_reader("sudoku4", train_and_test(source, source), parse, leave_out),
        reward=rewards.per_row(reward, "puzzle", "answer"),
        correct=rewards.per_row(correct, "puzzle", "answer"),
        prompt=SUDOKU_IN_WORDS + SHOTS_IN_WORDS.format(shots) if shots else SUDOKU_IN_WORDS,
        prefill=PREFILL,
        shots=shots,
        published_quirks=published_quirks,
        weigh=lambda example: float(example.columns["puzzle"].count("0")),
    )


def _countdown_row(row: Row) -> tuple[list[int], int]:
    """Numbers and target, from either set of columns."""
    if "nums" in row.values:
        numbers = column(row, "nums", list)
        target = column(row, "target", int)
    else:
        numbers = column(row, "input", str).split(",")
        target = column(row, "output", int)
    if not all(str(n).strip().isascii() and str(n).strip().isdigit() for n in numbers):
        raise ValueError(
            f"{row.where}: the numbers should be whole and not negative, found {numbers}"
        )
    return [int(n) for n in numbers], target


def _sudoku_row(row: Row) -> tuple[str, str]:
    """Puzzle and solution, checked."""
    puzzle = column(row, "Puzzle", str)
    solution = column(row, "Solution", str)
    fits = (
        re.fullmatch("[0-4]{16}", puzzle)
        and re.fullmatch("[1-4]{16}", solution)
        and rewards.keeps_givens(puzzle, solution)
        and units_hold(solution, ROWS_AND_COLUMNS + BOXES)
    )
    if not fits:
        raise ValueError(
            f"{row.where}: Puzzle {puzzle!r} and Solution {solution!r} are no 4x4 Sudoku "
            "of 16 digits each"
        )
    return puzzle, solution


def _worked(puzzle: str) -> str:
    """A puzzle solved cell by cell, each forced, in the format that the prompt asks for."""
    solution = puzzle
    reasons = []
    for cell, digit in forced_cells(puzzle).items():
        solution = fill_cell(solution, cell, digit)
        place = f"Row {cell // 4 + 1}, column {cell % 4 + 1}"
        reasons.append(f"{place}: its row, column and box leave only {digit}.")
    return (
        f"Question:\nSolve the following Sudoku puzzle: {puzzle}\nAnswer:\n<reasoning>\n"
        + "\n".join(reasons)
        + f"\n</reasoning>\n<answer>\n{solution}\n</answer>"
    )


class Term(NamedTuple):
    """A part of a Countdown expression."""

    value: int | Fraction
    text: str
    binding: int  # how tightly the text binds: 1 sum, 2 product, 3 number

    def bound(self, least: int) -> str:
        """The text, in brackets if it binds less tightly than `least`."""
        return self.text if self.binding >= least else f"({self.text})"


def solve(numbers: list[int], target: int) -> str:
    """An expression that reaches the target with each number once, or ""; every way to combine them
    is tried."""
    return _combine([Term(n, str(n), 3) for n in numbers], target) or ""


def _combine(terms: list[Term], target: int) -> str | None:
    if len(terms) == 1:
        return terms[0].text if terms[0].value == target else None
    for i, j in itertools.permutations(range(len(terms)), 2):
        others = [term for k, term in enumerate(terms) if k not in (i, j)]
        for joined in _joined(terms[i], terms[j], first=i < j):
            found = _combine([joined, *others], target)
            if found:
                return found
    return None


def _joined(a: Term, b: Term, first: bool) -> list[Term]:
    """a - b and a / b; a + b and a * b only if `first`, once per pair."""
    results = [Term(a.value - b.value, f"{a.bound(1)} - {b.bound(2)}", 1)]
    if first:
        results.append(Term(a.value + b.value, f"{a.bound(1)} + {b.bound(1)}", 1))
        results.append(Term(a.value * b.value, f"{a.bound(2)} * {b.bound(2)}", 2))
    if b.value != 0:
        results.append(Term(Fraction(a.value) / b.value, f"{a.bound(2)} / {b.bound(3)}", 2))
    return results
