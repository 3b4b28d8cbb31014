"""The record of a method: its answers and their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from ..estimators import View
from ..names import lookup, unknown
from ..sampler import Dice
from ..values import check_values
from .numbers import Numbers
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
    dice: Part | Callable[..., Dice] | None = None  # siblings' noise; None: everybody's own
    views: Part | Callable[..., list[View]]  # masked copies that score a completion
    # (B, G) or (B, G, T) rewards -> those that become credit; None: as they are
    shape: Part | Callable[..., Tensor] | None = None
    # rewards -> credit of that shape, or of (B, G) rewards by token, (B, G, L)
    advantage: Part | Callable[..., Tensor]
    # advantage of the final rewards -> (N, L); None: credit by completion or step
    token_credit: Part | Callable[..., Tensor] | None = None
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
        if self.dice and (self.paper.guide or self.tiny.guide):
            raise ValueError(f"{self.name}: guided rows cannot use a table of dice")
        fill_slots(self, ("dice", "views", "shape", "advantage", "token_credit"))

    def parts(self) -> dict[str, Part | None]:
        """Whose numbers a dictionary of `Numbers` holds."""
        return {
            "dice": self.dice,
            "views": self.views,
            "shape": self.shape,
            "credit": self.advantage,
            "tokens": self.token_credit,
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
        if numbers.kl > 0 and self.objective.penalty is None:
            raise ValueError(f"kl must be 0, for {self.name} has no penalty, got {numbers.kl}")
        if numbers.counted == "text" and not self.objective.of_texts:
            raise ValueError(
                f"counted 'text' is for losses of whole texts, and {self.name}'s is one of tokens: "
                "leave it at 'scored'"
            )
        if numbers.published_quirks and numbers.group % self.pieces_of_a_group:
            raise ValueError(
                f"group must be a multiple of {self.pieces_of_a_group} with published_quirks, as "
                f"{self.name}'s release cuts a group into so many micro-batches, "
                f"got {numbers.group}"
            )
        return numbers
