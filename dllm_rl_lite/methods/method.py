"""The record of a method: its answers and their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..estimators import View
from ..names import lookup, unknown
from ..sampler import ORDERS, Dice
from ..tasks import Example
from ..values import check_values
from .numbers import REMASKING, Numbers
from .objective import Objective
from .parts import Part, fill_slots

REWARDED = ("final", "every step", "partial")


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method: what fills the blanks and what the rollout sees are in the numbers, the other
    answers are functions."""

    name: str
    parent: str  # the method that it differs from by little; "" for the first
    source: str
    # Functions or `Part`s; what they may ask for is in `SLOTS`.
    problems: Part | Callable[..., list[Example]] | None = None  # None: fresh ones, `task.sample`
    # (2 B, G/2) rewards of the first half of the siblings of twice as many problems -> (2 B,) bool,
    # the B groups that get the other half; None: whole groups of B problems
    allocate: Part | Callable[..., Tensor] | None = None
    # (B, G) rewards of what was drawn -> the new memory, as plain json; None: nothing is remembered
    remember: Part | Callable[..., dict[str, Any]] | None = None
    # B problems -> (B, L) canvases, the same for all siblings; None: blank ones
    start: Part | Callable[..., Tensor] | None = None
    # B problems -> texts for the last rows of each group, which are not rolled out, group by group;
    # None: all rows are rollouts
    given: Part | Callable[..., list[str]] | None = None
    dice: Part | Callable[..., Dice] | None = None  # siblings' noise; None: everybody's own
    # -> the rows (R,) that are written again, at most one of a group, and the (R, L) canvases that
    # they start from; None: no rows
    refine: Part | Callable[..., tuple[Tensor, Tensor]] | None = None
    views: Part | Callable[..., list[View]]  # masked copies that score a completion
    # (B, G) or (B, G, T) rewards -> those that become credit; None: as they are
    shape: Part | Callable[..., Tensor] | None = None
    # rewards -> credit of that shape, or of (B, G) rewards by token, (B, G, L)
    advantage: Part | Callable[..., Tensor]
    # advantage of the final rewards -> (N, L); None: credit by completion or step
    token_credit: Part | Callable[..., Tensor] | None = None
    # (B, G) rewards -> (B,) bool, the groups to learn from; None: all
    groups: Part | Callable[..., Tensor] | None = None
    # advantage -> (N,) bool, the rows to learn from; None: all
    rows: Part | Callable[..., Tensor] | None = None
    objective: Objective  # credit to loss
    tempered: bool  # score under the rollouts' temperature (True) or at temperature 1 (False)
    # Score equal actions on equal canvases once, with their summed advantages? For losses that are
    # linear in the log-probabilities: without a ratio, and where there is no penalty.
    merged: bool = False
    # What the verifier sees: one of `REWARDED`.
    rewarded: str = "final"
    # Micro-batches that the release cuts a group into; with `published_quirks` a token mean is
    # taken over each of them.
    pieces_of_a_group: int = 1
    paper: Numbers  # what the paper's main experiment ran
    # What the tiny world runs. Each learning rate is the best of 1e-4, 2e-4, 4e-4 by greedy
    # validation accuracy on chain2 at equal forward passes, one seed: `python
    # benchmarks/compare.py` tunes and records it.
    tiny: Numbers

    def __post_init__(self):
        if self.rewarded not in REWARDED:
            raise ValueError(f"{self.name}: {unknown('rewarded', self.rewarded, REWARDED)}")
        if self.merged and self.objective.uses_old:
            raise ValueError(f"{self.name}: a ratio is not linear, so its actions cannot be merged")
        guided = self.paper.guide or self.tiny.guide
        if self.dice and guided:
            raise ValueError(f"{self.name}: guided rows cannot use a table of dice")
        apart = self.allocate or guided
        if apart and (self.start or self.refine):
            raise ValueError(
                f"{self.name}: start and refine are for whole groups whose siblings are alike: "
                "leave out allocate and the guide"
            )
        if self.refine and (self.dice or self.rewarded != "final"):
            raise ValueError(
                f"{self.name}: rows that are written again have dice of their own, and no rewards "
                "of their steps: leave out dice, and reward 'final' texts"
            )
        if self.allocate and (self.dice or guided or self.given):
            raise ValueError(
                f"{self.name}: half a group has no guided rows, no given texts and no table of dice"
            )
        if self.given and (self.dice or guided or self.rewarded != "final"):
            raise ValueError(
                f"{self.name}: given texts have no dice, no guide and no steps to reward: leave "
                "them out"
            )
        if self.given and (self.start or self.refine):
            raise ValueError(
                f"{self.name}: given texts are no rollouts that could start from a canvas or be "
                "written again: leave out start and refine"
            )
        if self.given and self.objective.uses_old:
            raise ValueError(
                f"{self.name}: given texts have no ratio, for the old policy did not write them: "
                "set the objective's ratio to None"
            )
        if self.rows and {"group", "pair"} & {self.objective.level, self.objective.average}:
            raise ValueError(
                f"{self.name}: the loss compares whole groups, or pairs, so no row can be left"
            )
        fill_slots(self)

    def parts(self) -> dict[str, Part | None]:
        """Whose numbers a dictionary of `Numbers` holds."""
        return {
            "problems": self.problems,
            "remember": self.remember,
            "start": self.start,
            "given": self.given,
            "dice": self.dice,
            "refine": self.refine,
            "views": self.views,
            "shape": self.shape,
            "credit": self.advantage,
            "tokens": self.token_credit,
            "groups": self.groups,
            "rows": self.rows,
            "loss": self.objective.surrogate,
            "gate": None,
            "guide": None,
            "verify": None,
        }

    def numbers(self, preset: str, **overrides) -> Numbers:
        """The "tiny" or the "paper" numbers, those of the parts included, some of them overridden;
        unknown names (with the nearest match) and values of another type are errors."""
        base = lookup("preset", preset, {"tiny": self.tiny, "paper": self.paper})
        check_values(Numbers, overrides, kind="number")
        for key, answer in self.parts().items():
            own = dict(answer.numbers) if answer else {}
            own |= getattr(base, key)
            changed = overrides.get(key, {})
            for name in changed:
                if name not in own:
                    raise ValueError(
                        unknown(f"{key.replace('views', 'view')} number of {self.name}", name, own)
                    )
            overrides = {**overrides, key: {**own, **changed}}
            if answer:
                answer.check(overrides[key], key)
        numbers = replace(base, **overrides)
        self.check_numbers(numbers)
        return numbers

    def check_numbers(self, numbers: Numbers) -> None:
        """Raises ValueError for numbers that the method has no use for."""
        if numbers.kl > 0 and self.objective.penalty is None:
            raise ValueError(f"kl must be 0, for {self.name} has no penalty, got {numbers.kl}")
        if self.given and numbers.order in REMASKING:
            raise ValueError(
                f"order {numbers.order!r} re-masks, and {self.name}'s given texts have no such "
                f"steps: choose one of {ORDERS}"
            )
        if numbers.counted == "text" and not self.objective.of_texts:
            raise ValueError(
                f"counted 'text' is for losses of whole texts, and {self.name}'s is one of tokens: "
                "leave it at 'scored'"
            )
        if numbers.rounds > 1 and self.groups is None:
            raise ValueError(
                f"rounds must be 1, for {self.name} keeps every group, got {numbers.rounds}"
            )
        if self.allocate and numbers.group % 2:
            raise ValueError(
                f"group must be even, for {self.name} draws its halves, got {numbers.group}"
            )
        if numbers.published_quirks and numbers.group % self.pieces_of_a_group:
            raise ValueError(
                f"group must be a multiple of {self.pieces_of_a_group} with published_quirks, as "
                f"{self.name}'s release cuts a group into so many micro-batches, "
                f"got {numbers.group}"
            )
