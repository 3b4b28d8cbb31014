"""Dice: whose random numbers a sibling uses at each denoising step.

Siblings that use the same noise from the first step on are equal until they part, so a table turns
a group into a tree. That costs nothing more: equal canvases are computed once
(`models/sharing.py`). Where it has dice, each sibling alone is distributed as a plain rollout. A
sibling without dice takes the likeliest tokens; such tokens have no likelihood ratio, so views of
denoising steps do not score them.

A table is a function (steps, group[, generator], numbers) -> `Dice` of one group; a new one is that
function, and the `dice` of a record in methods/.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..models import distinct_rows

NO_DICE = -1


@dataclass(frozen=True)
class Dice:
    """Whose noise is used: T steps, N siblings or rows. The last step's line holds for all later
    ones."""

    whose: Tensor  # (T, N) int64: equal numbers share their noise; -1: no noise
    finish: Tensor | None = None  # (T, N) bool: fill all blanks at this step; None: nobody does

    def check(self, rows: int, remasks: bool, cache: str) -> None:
        """Raise ValueError unless the table is one of so many rows that can be denoised like
        that."""
        if self.whose.ndim != 2 or self.whose.shape[1] != rows or not len(self.whose):
            raise ValueError(
                f"dice must be a table of (steps, {rows} rows), got shape {tuple(self.whose.shape)}"
            )
        if self.finish is not None and (remasks or cache):
            raise ValueError(
                "a row cannot fill all its blanks at once where the order re-masks or a cache "
                f"holds one block: choose another order, and cache '', got {cache!r}"
            )

    def to(self, device: torch.device) -> Dice:
        """The table on a device."""
        finish = None if self.finish is None else self.finish.to(device)
        return Dice(self.whose.to(device), finish)

    def at(self, step: int, rows: Tensor, canvas: Tensor) -> PassDice:
        """The dice of a pass: its step, the rows (n,) that are still denoised, their canvases."""
        line = min(step, len(self.whose) - 1)
        whose = self.whose[line, rows]
        finish = torch.zeros_like(whose, dtype=torch.bool)
        if self.finish is not None:
            finish = self.finish[line, rows]
        # Only equal canvases have the same blanks to draw for.
        first, kind = distinct_rows(whose[:, None], finish[:, None], canvas)
        return PassDice(source=first[kind], rolled=whose != NO_DICE, finish=finish)


@dataclass(frozen=True)
class PassDice:
    """The dice of n rows, or of K positions, in one pass."""

    source: Tensor  # (n,) int64: the row of this pass whose noise a row uses
    rolled: Tensor  # (n,) bool: False where no noise is used
    finish: Tensor  # (n,) bool: fill all blanks

    def of_positions(self, asked: Tensor) -> PassDice:
        """The dice of the K positions of (n, L) bool, row by row."""
        number = asked.flatten().cumsum(0).view(asked.shape) - 1
        return PassDice(
            source=number[self.source][asked],
            rolled=self.rolled[:, None].expand_as(asked)[asked],
            finish=self.finish[:, None].expand_as(asked)[asked],
        )

    def share(self, noise: Tensor, neutral: float) -> Tensor:
        """(n, M) noise, each row's its source's; `neutral` where none is used."""
        return noise[self.source].masked_fill(~self.rolled[:, None], neutral)


def dice_of_groups(tables: list[Dice]) -> Dice:
    """One table of all rows, group by group."""
    whose = []
    start = 0
    for table in tables:
        whose.append(torch.where(table.whose == NO_DICE, NO_DICE, table.whose + start))
        start += table.whose.shape[1]
    finish = None
    if tables[0].finish is not None:
        finish = torch.cat([table.finish for table in tables], 1)
    return Dice(torch.cat(whose, 1), finish)


def own_dice(steps: int, group: int) -> Dice:
    """Everybody's own dice: plain rollouts."""
    return Dice(torch.arange(group).expand(steps, group))


def tree_dice(steps: int, group: int, sizes: str = "") -> Dice:
    """Siblings share their dice in ever smaller parts of the group (TreePO, BranchGRPO, SPO-tree).

    Args:
        steps: T, denoising steps.
        group: G, siblings.
        sizes: how many neighbours share at each step, such as "8 8 4 4 2 1"; the last one holds for
            all later steps. Empty: the group is halved at evenly spaced steps until all are alone.
    Raises:
        ValueError: unless the sizes are whole numbers, each of which divides the one before it (the
            first, the group).
    """
    if sizes:
        shared = size_list(sizes, group)
    else:
        halves = [group]
        while halves[-1] > 1:
            halves.append(halves[-1] // 2 if halves[-1] % 2 == 0 else 1)
        shared = [halves[step * len(halves) // steps] for step in range(steps)]
    sibling = torch.arange(group)
    return Dice(torch.stack([sibling - sibling % size for size in shared]))


def size_list(sizes: str, group: int) -> list[int]:
    """The numbers of a text like "8 4 2 1"; ValueError unless each divides the one before it."""
    numbers = [int(word) if word.isdecimal() else 0 for word in sizes.split()]
    divides = [size > 0 and last % size == 0 for last, size in pairwise([group, *numbers])]
    if not numbers or not all(divides):
        raise ValueError(
            "dice.sizes must be empty, or whole numbers, each of which divides the one before it "
            f"(the first one the group, {group}), got {sizes!r}"
        )
    return numbers


def chain_dice(steps: int, group: int, checkpoints: int = 3) -> Dice:
    """Sibling 0 walks a path, the others leave it at evenly spaced checkpoints (SPO-chain).

    Args:
        steps: T, denoising steps.
        group: G, siblings; those after the first are shared out evenly among the checkpoints, the
            earliest first.
        checkpoints: K >= 1, at the steps 0, T / K, 2 T / K, ...
    """
    if not 1 <= checkpoints <= steps:
        raise ValueError(f"dice.checkpoints must be 1..{steps} (steps), got {checkpoints}")
    sibling = torch.arange(group)
    checkpoint = (sibling - 1).clamp(min=0) * checkpoints // max(group - 1, 1)
    leaves = checkpoint * steps // checkpoints
    step = torch.arange(steps)[:, None]
    return Dice(torch.where(step < leaves, 0, sibling))


def window_dice(
    steps: int, group: int, generator: torch.Generator, first: int = -1, width: int = 4
) -> Dice:
    """Own dice within a window of the steps, none outside (MixGRPO).

    Args:
        steps: T, denoising steps.
        group: G, siblings.
        generator: draws where the window begins, if `first` is -1.
        first: 0..T - 1, the first step of the window; -1: drawn for each group, so that it fits.
        width: >= 1, its steps.
    """
    if width < 1 or not -1 <= first < steps:
        raise ValueError(
            f"need dice.width of at least 1 and dice.first in -1..{steps - 1}, "
            f"got width {width}, first {first}"
        )
    if first < 0:
        first = drawn(max(steps - width, 0) + 1, generator)
    step = torch.arange(steps)[:, None]
    within = (step >= first) & (step < first + width)
    return Dice(torch.where(within, torch.arange(group), NO_DICE))


def branch_dice(steps: int, group: int, generator: torch.Generator, step: int = -1) -> Dice:
    """One path, a branch for each sibling at one step, and the likeliest tokens after it
    (TempFlow-GRPO).

    Args:
        steps: T, denoising steps.
        group: G, siblings.
        generator: draws the step, if `step` is -1.
        step: 0..T - 1; -1: drawn for each group.
    """
    if not -1 <= step < steps:
        raise ValueError(f"dice.step must be in -1..{steps - 1}, got {step}")
    if step < 0:
        step = drawn(steps, generator)
    now = torch.arange(steps)[:, None]
    before = torch.where(now < step, 0, NO_DICE).expand(steps, group)
    return Dice(torch.where(now == step, torch.arange(group), before))


def exit_dice(steps: int, group: int, generator: torch.Generator) -> Dice:
    """One path, which the last sibling walks to its end; each of the others leaves it at a step
    drawn for it, and fills all its blanks there (S-GRPO).

    The exits are different steps while there are enough of them, earliest first. An exit needs no
    pass of its own: the path makes one on the same canvas.
    """
    early = max(steps - 1, 1)
    device = generator.device
    if group - 1 <= early:
        at = torch.randperm(early, generator=generator, device=device)[: group - 1]
    else:
        at = torch.randint(early, (group - 1,), generator=generator, device=device)
    leaves = torch.cat([at.cpu().sort().values, torch.tensor([steps])])
    step = torch.arange(steps)[:, None]
    whose = torch.where(step < leaves, group - 1, torch.arange(group))
    return Dice(whose, step == leaves)


def drawn(n: int, generator: torch.Generator) -> int:
    """One of 0..n - 1, each as likely."""
    return int(torch.randint(n, (), generator=generator, device=generator.device))
