"""4x4 Sudoku: fill the blanks so that every row, column and 2x2 box holds 1, 2, 3, 4.

The habit: Latin squares, whose rows and columns hold but whose boxes do not.
"""

from __future__ import annotations

import itertools
import math
import random
from functools import cache

import numpy as np

from ...rewards import Item, blank_share, extract_answer, keeps_givens, per_row
from ..task import Example, GeneratedTask

# The 16 cells, read line by line, in their units.
CELLS = np.arange(16).reshape(4, 4)
COLUMNS = CELLS.T.tolist()
ROWS_AND_COLUMNS = CELLS.tolist() + COLUMNS
BOXES = [CELLS[r : r + 2, c : c + 2].ravel().tolist() for r in (0, 2) for c in (0, 2)]


@cache
def squares() -> tuple[np.ndarray, np.ndarray]:
    """All 576 Latin squares of order 4, (576, 16) digits, and (576,) bool: is it a Sudoku (288 of
    them are)?"""
    rows = list(itertools.permutations((1, 2, 3, 4)))
    latin = []
    for four_rows in itertools.product(rows, repeat=4):
        grid = sum(four_rows, ())
        if units_hold(grid, COLUMNS):
            latin.append(grid)
    valid = [units_hold(grid, BOXES) for grid in latin]
    return np.array(latin), np.array(valid)


def completions_of(puzzle: str) -> tuple[np.ndarray, np.ndarray]:
    """The Latin squares that keep the givens of `puzzle` (0 = blank), and which of them are
    Sudokus."""
    grids, valid = squares()
    givens = np.array(list(map(int, puzzle)))
    keeps = ((grids == givens) | (givens == 0)).all(1)
    return grids[keeps], valid[keeps]


def make(rng: random.Random, blanks: int) -> Example:
    """A solvable puzzle with `blanks` empty cells; it may have several solutions, and the reward
    takes each."""
    grids, valid = squares()
    solution = grids[valid][rng.randrange(int(valid.sum()))]
    puzzle = solution.copy()
    puzzle[rng.sample(range(16), blanks)] = 0
    text = _text(puzzle)
    return Example(text, _text(solution), {"puzzle": text})


def demonstrate(example: Example, rng: random.Random, habit_share: float) -> str:
    """A random Sudoku that keeps the givens, or (habit) a random Latin square that keeps them and
    breaks a box."""
    grids, valid = completions_of(example.prompt)
    if valid.all() or rng.random() >= habit_share:
        pool = grids[valid]
    else:
        pool = grids[~valid]
    return f"<answer>{_text(pool[rng.randrange(len(pool))])}</answer>"


def _text(grid: np.ndarray) -> str:
    return "".join(map(str, grid))


def units_hold(grid: str | tuple[int, ...], units: list[list[int]]) -> bool:
    """Does each unit (row, column or box) of the 16 digits hold four different ones?"""
    return all(len({grid[i] for i in unit}) == 4 for unit in units)


def _grid(puzzle: str, completion: str) -> str | None:
    """The 16 digits of the answer if they keep the givens, else None."""
    text = extract_answer(completion) or ""
    if len(text) == 16 and set(text) <= set("1234") and keeps_givens(puzzle, text):
        return text
    return None


def right_grid(completion: str, puzzle: str) -> float:
    """1.0 for any valid grid that keeps the givens, else 0.0."""
    grid = _grid(puzzle, completion)
    return float(grid is not None and units_hold(grid, ROWS_AND_COLUMNS + BOXES))


def right_cells(completion: str, puzzle: str, answer: str) -> float:
    """The benchmark's partial credit: the share of blank cells that equal the stored solution (0.0
    if no answer).

    Like the published reward it reads digits only, cuts after 16 and counts missing ones as wrong;
    it knows one solution, so on a puzzle with several a right grid may earn less than 1.0.
    """
    digits = "".join(filter(str.isdigit, extract_answer(completion) or ""))
    return blank_share(puzzle, digits, answer)


def rubric(
    example: Example, completion: str, grid: float = 4.0, line: float = 1.0, box: float = 2.0
) -> list[Item]:
    """What is asked of a completion: 16 digits that keep the givens, and of each row, column and
    box that it holds 1, 2, 3 and 4; with their weights.

    A unit that fails is to be written again, but for its givens; a text without 16 digits, all of
    it.
    """
    everything = tuple(range(len(completion)))
    units = [(line, cells) for cells in ROWS_AND_COLUMNS] + [(box, cells) for cells in BOXES]
    text = extract_answer(completion) or ""
    if len(text) != 16 or not set(text) <= set("1234"):
        weights = [grid] + [weight for weight, _ in units]
        return [Item(weight, False, everything) for weight in weights]
    start = completion.rindex(text)
    puzzle = example.prompt
    broken = [i for i in range(16) if puzzle[i] not in ("0", text[i])]
    items = [Item(grid, not broken, tuple(start + i for i in broken))]
    for weight, cells in units:
        blanks = tuple(start + i for i in cells if puzzle[i] == "0")
        items.append(Item(weight, units_hold(text, [cells]), blanks))
    return items


def shows_habit(example: Example, completion: str) -> bool:
    """True for a Latin square that keeps the givens and breaks a box."""
    grid = _grid(example.prompt, completion)
    return grid is not None and units_hold(grid, ROWS_AND_COLUMNS) and not units_hold(grid, BOXES)


def sudoku4_task(blanks: int = 12) -> GeneratedTask:
    """4x4 Sudoku with `blanks` empty cells."""
    return GeneratedTask(
        name="sudoku4",
        length=20,
        size=288 * math.comb(16, blanks),
        make=lambda rng: make(rng, blanks),
        reward=per_row(right_grid, "puzzle"),
        demonstrate=demonstrate,
        rubric=rubric,
        shows_habit=shows_habit,
        habit="rows and columns hold, a box does not",
    )
