"""4x4 Sudoku: fill the blanks so that every row, column and 2x2 box holds 1, 2, 3, 4.

The habit: Latin squares, whose rows and columns hold but whose boxes do not.
"""

from __future__ import annotations

import itertools
import random
from functools import cache

import numpy as np

from ...rewards import extract_answer
from ..task import Example, Task

BOX = [
    (r // 2) * 2 + c // 2 for r in range(4) for c in range(4)
]  # box number of each of the 16 cells


@cache
def squares() -> tuple[np.ndarray, np.ndarray]:
    """All 576 Latin squares of order 4, (576, 16) digits, and (576,) bool: is it a Sudoku (288 of
    them are)?"""
    rows = list(itertools.permutations((1, 2, 3, 4)))
    latin = [
        a + b + c + d
        for a, b, c, d in itertools.product(rows, repeat=4)
        if all(len({a[i], b[i], c[i], d[i]}) == 4 for i in range(4))
    ]
    grids = np.array(latin)
    valid = np.array(
        [all(len({g[i] for i in range(16) if BOX[i] == b}) == 4 for b in range(4)) for g in latin]
    )
    return grids, valid


def completions_of(puzzle: str) -> tuple[np.ndarray, np.ndarray]:
    """The Latin squares that keep the givens of `puzzle` (0 = blank), and which of them are
    Sudokus."""
    grids, valid = squares()
    givens = np.array([int(c) for c in puzzle])
    keeps = ((grids == givens) | (givens == 0)).all(1)
    return grids[keeps], valid[keeps]


def make(rng: random.Random, blanks: int) -> Example:
    """A solvable puzzle with `blanks` empty cells; it may have several solutions, and the reward
    takes each."""
    grids, valid = squares()
    solution = grids[valid][rng.randrange(int(valid.sum()))]
    hidden = set(rng.sample(range(16), blanks))
    puzzle = "".join("0" if i in hidden else str(d) for i, d in enumerate(solution))
    return Example(puzzle, "".join(map(str, solution)), {"puzzle": puzzle})


def demonstrate(example: Example, rng: random.Random, habit_share: float) -> str:
    """A random Sudoku that keeps the givens, or (habit) a random Latin square that keeps them and
    breaks a box."""
    grids, valid = completions_of(example.prompt)
    pool = grids[valid] if valid.all() or rng.random() >= habit_share else grids[~valid]
    return f"<answer>{''.join(map(str, pool[rng.randrange(len(pool))]))}</answer>"


def _grid(puzzle: str, completion: str) -> str | None:
    """The 16 digits of the answer if they keep the givens, else None."""
    text = extract_answer(completion)
    if text is None or len(text) != 16 or any(c not in "1234" for c in text):
        return None
    return text if all(g in ("0", c) for g, c in zip(puzzle, text, strict=True)) else None


def units_hold(text: str, units: list[list[int]]) -> bool:
    """Does each unit (row, column or box) of the 16 digits hold four different ones?"""
    return all(len({text[i] for i in unit}) == 4 for unit in units)


ROWS_AND_COLUMNS = [[4 * r + c for c in range(4)] for r in range(4)] + [
    [4 * r + c for r in range(4)] for c in range(4)
]
BOXES = [[i for i in range(16) if BOX[i] == b] for b in range(4)]


def reward(prompts: list[str], completions: list[str], puzzle: list[str], **_) -> list[float]:
    """1.0 for any valid grid that keeps the givens, else 0.0."""
    grids = [_grid(p, c) for p, c in zip(puzzle, completions, strict=True)]
    return [float(g is not None and units_hold(g, ROWS_AND_COLUMNS + BOXES)) for g in grids]


def cell_fraction(
    prompts: list[str], completions: list[str], puzzle: list[str], answer: list[str], **_
) -> list[float]:
    """The benchmark's partial credit: the share of blank cells that equal the stored solution (0.0
    if no answer).

    Like the published reward it reads digits only, cuts after 16 and counts missing ones as wrong;
    it knows one solution, so on a puzzle with several a right grid may earn less than 1.0.
    """
    values = []
    for p, c, a in zip(puzzle, completions, answer, strict=True):
        digits = [ch for ch in extract_answer(c) or "" if ch.isdigit()][:16]
        blank = [i for i in range(16) if p[i] == "0"]
        values.append(
            sum(i < len(digits) and digits[i] == a[i] for i in blank) / max(len(blank), 1)
        )
    return values


def shows_habit(example: Example, completion: str) -> bool:
    """True for a Latin square that keeps the givens and breaks a box."""
    grid = _grid(example.prompt, completion)
    return grid is not None and units_hold(grid, ROWS_AND_COLUMNS) and not units_hold(grid, BOXES)


def sudoku4_task(name: str = "sudoku4", blanks: int = 12) -> Task:
    return Task(
        name=name,
        length=20,
        make=lambda rng: make(rng, blanks),
        key=lambda e: e.prompt,
        reward=reward,
        demonstrate=demonstrate,
        shows_habit=shows_habit,
        habit="rows and columns hold, a box does not",
    )
