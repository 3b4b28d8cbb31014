"""The record of a loss: ratio, surrogate, penalty and average."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..names import unknown
from .averages import AVERAGES

LEVELS = ("view", "token", "text")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How advantages become a loss: surrogate(ratio) plus kl times penalty, averaged.

    The functions of level "text" also take `scored`, (N, L) bool, the tokens that count.
    """

    # What one value of the loss belongs to. "view": a token in one view; "token": a token, its
    # log-probabilities summed over the views; "text": a text, summed over views and tokens.
    level: str
    # (logp, old) -> the log-ratios that the surrogate and its clip see, (N, L), or (N, 1) of texts.
    # None: no ratio; the surrogate sees logp, and the old policy is not scored.
    ratio: Callable[..., Tensor] | None
    # (log-ratio, advantage, clip, **numbers.loss) -> a loss of that shape
    surrogate: Callable[..., Tensor]
    penalty: Callable[..., Tensor]  # (logp, ref) -> a divergence from the reference of that shape
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
        if self.ratio is None and (self.weighted_penalty or self.level != "view"):
            raise ValueError("without a ratio the level must be 'view', the penalty not weighted")

    @property
    def uses_old(self) -> bool:
        """Does the loss look at the old policy?"""
        return self.ratio is not None

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
        **numbers,
    ) -> Tensor:
        """The losses before they are averaged.

        Args:
            logp: (N, L) log-probabilities under the new policy, in nats: of one view, or each
                token's part of the text's estimate. Gradient flows through them only.
            old: (N, L), under the old policy.
            ref: (N, L), under the reference; may be None if kl is 0.
            advantage: (N, 1), or (N, L) unless the level is "text".
            scored: (N, L) bool, the tokens that count.
            clip: epsilon of the surrogate.
            kl: weight of the penalty.
            numbers: further numbers of the surrogate.
        Returns:
            (N, L), zero on the tokens that are not scored; (N, 1) for level "text".
        """
        texts = self._texts(scored)
        log_ratio = logp
        if self.ratio is not None:
            log_ratio = self.ratio(logp, old, **texts)
        values = self.surrogate(log_ratio, advantage, clip, **texts, **numbers)
        if kl > 0:
            penalty = kl * self.penalty(logp, ref, **texts)
            if self.weighted_penalty:
                penalty = penalty * log_ratio.exp()
            values = values + penalty
        if self.level == "text":
            return values
        return values * scored

    def log_ratios(self, logp: Tensor, old: Tensor, scored: Tensor) -> Tensor:
        """What the clip sees, for the log: (K,) nats, one per scored token or one per text; zeros
        without a ratio. Arguments as in `losses`."""
        if self.ratio is None:
            return torch.zeros_like(logp)[scored]
        values = self.ratio(logp, old, **self._texts(scored))
        if self.level == "text":
            return values.flatten()
        return values[scored]

    def _texts(self, scored: Tensor) -> dict[str, Tensor]:
        """What the functions of level "text" take beyond those of tokens."""
        return {"scored": scored} if self.level == "text" else {}
