"""4x4 Sudoku with working before the grid: each blank cell by name, in an order in which the row,
the column and the box force its digit, then all 16 digits: `c3,f1,k2<answer>...</answer>`.

Cells are called a to p, read line by line. The habit of `sudoku4`: boxes are not looked at.
"""

from __future__ import annotations

import math
import random
import re

from ...rewards import extract_answer, per_row
from ..task import Example, GeneratedTask
from .sudoku4 import BOXES, ROWS_AND_COLUMNS, completions_of
from .sudoku4 import make as make_puzzle

CELL_NAMES = "abcdefghijklmnop"
BLANKS = 6  # of a puzzle


def candidates(grid: str, cell: int) -> set[str]:
    """The digits that the row, column and box of a blank cell (0) lack."""
    taken = set()
    for unit in ROWS_AND_COLUMNS + BOXES:
        if cell in unit:
            taken |= {grid[other] for other in unit}
    return set("1234") - taken


def fill_cell(grid: str, cell: int, digit: str) -> str:
    """The grid with one more digit."""
    return grid[:cell] + digit + grid[cell + 1 :]


def forced_cells(puzzle: str) -> dict[int, str]:
    """The blank cells in the order in which they are forced, the first by name among several, and
    the digit of each; it ends where none is."""
    forced = {}
    grid = puzzle
    while "0" in grid:
        for cell in range(16):
            possible = candidates(grid, cell)
            if grid[cell] == "0" and len(possible) == 1:
                forced[cell] = possible.pop()
                grid = fill_cell(grid, cell, forced[cell])
                break
        else:
            return forced
    return forced


def make(rng: random.Random) -> Example:
    """A puzzle whose blanks are all forced in turn, and which the habit can get wrong."""
    while True:
        example = make_puzzle(rng, BLANKS)
        _, valid = completions_of(example.prompt)
        if not valid.all() and len(forced_cells(example.prompt)) == BLANKS:
            return example


def demonstrate(example: Example, rng: random.Random, habit_share: float) -> str:
    """Forced digits and the grid, or (habit) as if a Latin square that breaks a box were the
    solution, in the same order of cells."""
    worked = example.answer
    if rng.random() < habit_share:
        grids, valid = completions_of(example.prompt)
        worked = "".join(map(str, rng.choice(grids[~valid].tolist())))
    return written(example.prompt, worked)


def written(puzzle: str, grid: str) -> str:
    """The text of a working and its answer, as if the grid were the solution."""
    working = ",".join(CELL_NAMES[cell] + grid[cell] for cell in forced_cells(puzzle))
    return f"{working}<answer>{grid}</answer>"


def right_working(completion: str, puzzle: str) -> float:
    """1.0 if every blank cell is named when it is forced, with the digit that is forced, and the
    answer is the grid that results, else 0.0."""
    named = re.fullmatch(r"([a-p][1-4](?:,[a-p][1-4])*)<answer>\d*</answer>", completion)
    if named is None:
        return 0.0
    grid = puzzle
    for name, digit in named[1].split(","):
        cell = CELL_NAMES.index(name)
        if grid[cell] != "0" or candidates(grid, cell) != {digit}:
            return 0.0
        grid = fill_cell(grid, cell, digit)
    return float(extract_answer(completion) == grid)


def right_answer(completion: str, answer: str) -> float:
    """1.0 for the grid between the answer tags, which is the only one; the working is not looked
    at."""
    return float(extract_answer(completion) == answer)


def shows_habit(example: Example, completion: str) -> bool:
    """True for a Latin square that keeps the givens and breaks a box, with its own working."""
    grids, valid = completions_of(example.prompt)
    answer = extract_answer(completion) or ""
    if answer not in {"".join(map(str, grid)) for grid in grids[~valid].tolist()}:
        return False
    return completion == written(example.prompt, answer)


def sudoku4_worked_task(name: str, worked: bool) -> GeneratedTask:
    """4x4 Sudoku with working. worked: the verifier reads it too."""
    return GeneratedTask(
        name=name,
        length=36,
        size=288 * math.comb(16, BLANKS),
        make=make,
        reward=per_row(right_working, "puzzle") if worked else per_row(right_answer, "answer"),
        demonstrate=demonstrate,
        shows_habit=shows_habit,
        habit="rows and columns hold, a box does not",
    )
