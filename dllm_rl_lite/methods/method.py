"""The record of a method: five answers and their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from torch import Tensor

from .. import objectives
from ..estimators import View
from ..names import lookup, unknown
from .numbers import Numbers

REWARDED = ("final", "every step", "partial")
REDUCTIONS = ("token_mean", "row_mean", "group_sum")


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method: what fills the blanks and what the rollout sees are in the numbers, the other
    answers are functions."""

    name: str
    parent: str  # the method that it differs from by little; "" for the first
    source: str
    views: Callable[
        ..., list[View]
    ]  # (rollout, generator, **numbers.views): the masked copies that score a text
    # (rewards, **numbers.credit): (B, G) or (B, G, T) rewards -> credit of that shape; with guided
    # rows also guided=.
    advantage: Callable[..., Tensor]
    # (advantage of the final rewards, (B, G, T) rewards, rollout, **numbers.tokens) -> (N, L);
    # None: credit by text or step
    token_credit: Callable[..., Tensor] | None = None
    # Exactly one of the two. A token loss sees one view at a time: (logp, old, ref, advantage,
    # clip, kl, **numbers.loss) -> (N, L). A text loss sees the estimate summed over the views, and
    # what is scored: (logp, old, ref, advantage, scored, clip, kl, **numbers.loss) -> (N, L) or (N,
    # 1).
    token_loss: Callable[..., Tensor] | None = None
    text_loss: Callable[..., Tensor] | None = None
    # does the loss look at the old policy? If not, its scores are not made, and the log shows ratio
    # 1
    uses_old: bool = True
    log_ratio: Callable[..., Tensor] = (
        objectives.token_log_ratio
    )  # (logp, old, scored) -> what the clip sees, for the log
    # What the summed loss is divided by. "token_mean": the scored tokens; "row_mean": the rows;
    # "group_sum": the groups.
    reduction: str
    tempered: bool  # score under the rollouts' temperature (True) or at temperature 1 (False)
    rewarded: str = (
        "final"  # what the verifier sees: one of `REWARDED`; credit by step goes to the views too
    )
    paper: Numbers  # what the paper's main experiment ran
    # What the tiny world runs. Each learning rate is the best of 1e-4, 2e-4, 4e-4 by greedy
    # validation accuracy on chain2 at equal forward passes, one seed: `python -m
    # dllm_rl_lite.compare` tunes and records it.
    tiny: Numbers

    def __post_init__(self):
        if (self.token_loss is None) == (self.text_loss is None):
            raise ValueError(f"{self.name}: give exactly one of token_loss and text_loss")
        if self.reduction not in REDUCTIONS or self.rewarded not in REWARDED:
            raise ValueError(
                f"{self.name}: reduction must be one of {REDUCTIONS}, rewarded one of {REWARDED}"
            )

    def numbers(self, preset: str, **overrides) -> Numbers:
        """The "tiny" or the "paper" numbers, some of them overridden; unknown names are errors with
        the nearest match."""
        base = lookup("preset", preset, {"tiny": self.tiny, "paper": self.paper})
        known = [f.name for f in fields(Numbers)]
        for name in overrides:
            if name not in known:
                raise ValueError(unknown("number", name, known))
        for part in ("views", "credit", "loss", "tokens", "verify", "gate", "guide"):
            own, changed = getattr(base, part), overrides.get(part, {})
            for name in changed:
                if name not in own:
                    raise ValueError(
                        unknown(f"{part.replace('views', 'view')} number of {self.name}", name, own)
                    )
            overrides = {**overrides, part: {**own, **changed}}
        return replace(base, **overrides)
