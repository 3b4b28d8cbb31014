"""The record of a loss: ratio, surrogate, penalty and average."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..estimators import View
from ..names import unknown
from ..objectives import AVERAGES
from ..sampler import Rollout
from .parts import Part, fill_slots

LEVELS = ("view", "token", "text", "group", "pair")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How advantages become a loss: surrogate(ratio) plus kl times penalty, averaged.

    Ratio, surrogate and penalty are functions or `Part`s; what they may ask for is in `SLOTS`.
    """

    # What one value of the loss belongs to. "view": a token in one view; "token": a token, its
    # log-probabilities summed over the views; "text": a completion, summed over views and tokens;
    # "group": a completion that is compared with its siblings, so groups are never cut; "pair": a
    # completion that is compared with one sibling, the next row that has any advantage.
    level: str
    # -> the log-ratios that the surrogate and its clip see, (N, L), or (N, 1) of completions.
    # None: no ratio; the surrogate sees logp, and the old policy is not scored.
    ratio: Part | Callable[..., Tensor] | None
    # Is it the ratio to the reference, the model that the run starts from, not to the old policy?
    to_reference: bool = False
    surrogate: Part | Callable[..., Tensor]  # -> a loss of the same shape
    # -> a divergence from the reference of that shape; None: kl is 0
    penalty: Part | Callable[..., Tensor] | None = None
    # Multiply the penalty by the ratio, gradient included (AGRPO, after DeepSeek-V3.2)? For tokens
    # of the old policy the mean gradient of k3 is then that of KL(policy || reference), at any
    # distance from the old policy.
    weighted_penalty: bool = False
    average: str  # one of `AVERAGES`

    def __post_init__(self):
        if self.level not in LEVELS:
            raise ValueError(unknown("level", self.level, LEVELS))
        if self.average not in AVERAGES:
            raise ValueError(unknown("average", self.average, AVERAGES))
        if self.ratio is None and (
            self.to_reference or self.weighted_penalty or self.level != "view"
        ):
            raise ValueError(
                "without a ratio the level must be 'view', the penalty not weighted, and nothing "
                "is compared with the reference"
            )
        fill_slots(self)

    @property
    def uses_old(self) -> bool:
        """Does the loss look at the old policy?"""
        return self.ratio is not None and not self.to_reference

    def uses_reference(self, kl: float) -> bool:
        """Does the loss look at the reference? kl: weight of the penalty."""
        return self.to_reference or kl > 0

    @property
    def of_texts(self) -> bool:
        """Has a whole completion one loss?"""
        return self.level in ("text", "group", "pair")

    def rows_together(self, group: int) -> int:
        """How many rows of a group of `group` are never cut apart."""
        return {"group": group, "pair": 2}.get(self.level, 1)

    def losses(
        self,
        logp: Tensor,
        old: Tensor,
        ref: Tensor | None,
        advantage: Tensor,
        scored: Tensor,
        *,
        clip: float,
        kl: float,
        rollout: Rollout | None = None,
        view: View | None = None,
        group: int = 1,
        **numbers,
    ) -> Tensor:
        """The losses before they are averaged.

        Args:
            logp: (N, L) log-probabilities under the new policy, in nats: of one view, or each
                token's part of the completion's estimate. Gradient flows through them only.
            old: (N, L), under the old policy.
            ref: (N, L), under the reference; may be None where it is not used.
            advantage: (N, 1), or (N, L) unless the loss is one of completions.
            scored: (N, L) bool, the tokens that count.
            clip: epsilon of the surrogate.
            kl: weight of the penalty.
            rollout, view: of these rows; only some functions ask for them.
            group: siblings of a group, rows prompt by prompt.
            numbers: of the surrogate, in place of its own.
        Returns:
            (N, L), zero on the tokens that are not scored; (N, 1) for losses of completions.
        """
        log_ratio = logp
        if self.ratio is not None:
            base = ref if self.to_reference else old
            log_ratio = self.ratio(logp=logp, old=base, scored=scored, rollout=rollout)
        known = {
            "log_ratio": log_ratio,
            "logp": logp,
            "old": old,
            "ref": ref,
            "advantage": advantage,
            "scored": scored,
            "clip": clip,
            "rollout": rollout,
            "view": view,
            "group": group,
        }
        values = self.surrogate(**known, **numbers)
        if kl > 0:
            penalty = kl * self.penalty(**known)
            if self.weighted_penalty:
                penalty = penalty * log_ratio.exp()
            values = values + penalty
        if self.of_texts:
            return values
        return values * scored

    def log_ratios(
        self, logp: Tensor, old: Tensor, scored: Tensor, rollout: Rollout | None = None
    ) -> Tensor:
        """What the clip sees, for the log: (K,) nats, one per scored token or per
        completion; zeros without a ratio. Arguments as in `losses`."""
        if self.ratio is None:
            return torch.zeros_like(logp)[scored]
        values = self.ratio(logp=logp, old=old, scored=scored, rollout=rollout)
        if values.shape == scored.shape:
            return values[scored]
        return values.flatten()
