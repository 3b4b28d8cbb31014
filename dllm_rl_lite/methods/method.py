"""The record of a method: five answers and their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from ..estimators import View
from ..names import lookup, unknown
from ..objectives import Objective
from ..values import check_value, check_values, types_of
from .numbers import GateNumbers, Guide, Numbers, Verify

REWARDED = ("final", "every step", "partial")


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method: what fills the blanks and what the rollout sees are in the numbers, the other
    answers are functions."""

    name: str
    parent: str  # the method that it differs from by little; "" for the first
    source: str
    # (rollout, generator, **numbers.views) -> the masked copies that score a text; with credit by
    # step also credit=
    views: Callable[..., list[View]]
    # (rewards, **numbers.credit): (B, G) or (B, G, T) rewards -> credit of that shape; with guided
    # rows also guided=
    advantage: Callable[..., Tensor]
    # (advantage of the final rewards, (B, G, T) rewards, rollout, **numbers.tokens) -> (N, L);
    # None: credit by text or step
    token_credit: Callable[..., Tensor] | None = None
    objective: Objective  # credit to loss; its surrogate also takes **numbers.loss
    tempered: bool  # score under the rollouts' temperature (True) or at temperature 1 (False)
    # Score equal actions on equal canvases once, with their summed advantages? For losses that are
    # linear in the log-probabilities: without a ratio, and where there is no penalty.
    merged: bool = False
    # What the verifier sees: one of `REWARDED`; credit by step goes to the views too.
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

    def numbers(self, preset: str, **overrides) -> Numbers:
        """The "tiny" or the "paper" numbers, some of them overridden; unknown names
        (with the nearest match) and values of another type are errors."""
        base = lookup("preset", preset, {"tiny": self.tiny, "paper": self.paper})
        check_values(Numbers, overrides, kind="number")
        for part, taker in self.takers().items():
            own = getattr(base, part)
            changed = overrides.get(part, {})
            for name, value in changed.items():
                if name not in own:
                    raise ValueError(
                        unknown(f"{part.replace('views', 'view')} number of {self.name}", name, own)
                    )
                # A recipe that hands its numbers on does not say what they may be.
                wanted = types_of(taker).get(name, type(own[name]))
                check_value(f"{part}.{name}", value, wanted)
            overrides = {**overrides, part: {**own, **changed}}
        numbers = replace(base, **overrides)
        if numbers.counted == "text" and self.objective.level != "text":
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

    def takers(self) -> dict[str, Callable | None]:
        """Who takes which dictionary of the numbers, and so says what its values may be."""
        return {
            "views": self.views,
            "credit": self.advantage,
            "tokens": self.token_credit,
            "loss": self.objective.surrogate,
            "gate": GateNumbers,
            "guide": Guide,
            "verify": Verify,
        }
