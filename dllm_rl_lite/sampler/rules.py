"""Unmasking rules: which of the masked positions are revealed after a forward pass?

A rule is a frozen record with one question to answer, `reveal(seen) -> (n, L) bool`. Ties go to the
leftmost position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RuleInput:
    """What a rule may look at: n rows, L canvas positions. Values count only where `active`."""

    active: Tensor  # (n, L) bool: masked, and in the row's current block or before it
    # (n, L) float32: log-probability of the candidate token at temperature 1; its confidence
    logprob: Tensor
    entropy: Tensor  # (n, L) float32 nats
    margin: Tensor  # (n, L) float32: probability of the likeliest token minus that of the second
    step_in_block: Tensor  # (n,) int64: forward passes spent on this block so far
    masked_at_start: Tensor  # (n,) int64: masked positions when the block began
    n_blocks: int | torch.Tensor  # (n,) int64 where rows have blocks of different lengths
    generator: torch.Generator | None


class Rule:
    """What the sampler asks of every rule."""

    remasks = False  # may it withdraw a token that was written?
    random = False  # does it need a generator?

    def check(self, n_blocks: int) -> None:
        """Raise ValueError if the rule cannot work with this number of blocks."""

    def reveal(self, seen: RuleInput) -> Tensor:
        raise NotImplementedError


def top(score: Tensor, allowed: Tensor, n: Tensor) -> Tensor:
    """(n, L) bool: the n[i] highest scores of row i among the allowed positions; ties go to the
    leftmost."""
    order = score.masked_fill(~allowed, float("-inf")).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    return (rank < n[:, None]) & allowed


ORDERS = ("confidence", "random", "entropy", "margin", "left_to_right")


@dataclass(frozen=True)
class Schedule(Rule):
    """A fixed number of steps; the masked positions of a block are spread evenly over its steps,
    remainder first.

    Orders: confidence (LLaDA's low-confidence remasking: the surest candidates first), random,
    entropy (lowest first), margin (largest gap between the two likeliest tokens first),
    left_to_right. A block with fewer masked positions than steps ends early. Source: LLaDA (arXiv
    2502.09992) and its `generate`; Dream for entropy and margin.
    """

    steps: int  # forward passes for the whole canvas; must be a multiple of the number of blocks
    order: str = "confidence"

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.order not in ORDERS:
            raise ValueError(f"unknown order {self.order!r}: one of {ORDERS}")

    @property
    def random(self) -> bool:
        return self.order == "random"

    def check(self, n_blocks: int) -> None:
        if self.steps % n_blocks:
            raise ValueError(
                f"steps {self.steps} must be a multiple of the number of blocks, {n_blocks}"
            )

    def quota(self, step_in_block, masked_at_start, n_blocks: int):
        """How many positions this step of the block reveals; ints or (n,) int64 tensors."""
        steps = self.steps // n_blocks
        return masked_at_start // steps + (step_in_block < masked_at_start % steps)

    def reveal(self, seen: RuleInput) -> Tensor:
        return top(
            self._score(seen),
            seen.active,
            self.quota(seen.step_in_block, seen.masked_at_start, seen.n_blocks),
        )

    def _score(self, seen: RuleInput) -> Tensor:
        if self.order == "random":
            g = seen.generator
            return torch.rand(seen.active.shape, generator=g, device=g.device).to(
                seen.active.device
            )
        if self.order == "left_to_right":
            return (
                -torch.arange(seen.active.shape[1], device=seen.active.device)
                .expand(seen.active.shape)
                .float()
            )
        return {"confidence": seen.logprob, "entropy": -seen.entropy, "margin": seen.margin}[
            self.order
        ]


@dataclass(frozen=True)
class Threshold(Rule):
    """Reveal every candidate with confidence >= tau, and always the surest one. Source: Fast-dLLM
    (arXiv 2505.22618)."""

    tau: float = 0.9  # probability
    n_min = 1

    def chance(self, logprob: Tensor) -> Tensor:
        """Probability, 0 or 1, that a candidate of this log-confidence is revealed on its own
        account; any shape."""
        return (logprob.exp() >= self.tau).to(logprob.dtype)

    def reveal(self, seen: RuleInput) -> Tensor:
        return (seen.active & (self.chance(seen.logprob) == 1)) | _surest(seen)


@dataclass(frozen=True)
class Factor(Rule):
    """Reveal the n surest candidates for the largest n with (n + 1)(1 - c_n) <= f, at least one.
    Source: Fast-dLLM.

    c_n is the n-th highest confidence. Unlike the released code, a last candidate that fails the
    test is not taken.
    """

    f: float = 1.0

    def reveal(self, seen: RuleInput) -> Tensor:
        c = seen.logprob.exp().masked_fill(~seen.active, -1.0).sort(1, descending=True).values
        n = torch.arange(1, c.shape[1] + 1, device=c.device)
        holds = (c >= 0) & ((n + 1) * (1 - c) <= self.f)
        return top(seen.logprob, seen.active, holds.sum(1).clamp(min=1))


@dataclass(frozen=True)
class Gate(Rule):
    """TA-GRPO-d's stochastic confidence gate: reveal j with probability (max(c_j - tau, 0) / (1 -
    tau)) ** kappa.

    Where fewer than n_min are revealed, the surest of the others make up the number.
    """

    tau: float = 0.7
    kappa: float = 0.5
    n_min: int = 1
    random = True

    def __post_init__(self):
        if not 0 <= self.tau < 1 or self.kappa <= 0 or self.n_min < 1:
            raise ValueError(f"need 0 <= tau < 1, kappa > 0 and n_min >= 1, got {self}")

    def chance(self, logprob: Tensor) -> Tensor:
        """Probability that a candidate of this log-confidence passes the gate; any shape,
        differentiable."""
        above = (logprob.exp() - self.tau).clamp(min=0) / (1 - self.tau)
        tiny = torch.finfo(
            above.dtype
        ).tiny  # at 0 the slope of a power below 1 is infinite, and infinity times 0 is NaN
        return torch.where(above > 0, above.clamp(min=tiny) ** self.kappa, 0.0)

    def reveal(self, seen: RuleInput) -> Tensor:
        p = self.chance(seen.logprob)
        g = seen.generator
        chosen = seen.active & (torch.rand(p.shape, generator=g, device=g.device).to(p.device) < p)
        missing = (self.n_min - chosen.sum(1)).clamp(min=0)
        return chosen | top(seen.logprob, seen.active & ~chosen, missing)


@dataclass(frozen=True)
class RunningConfidence(Rule):
    """MDPO's running-confidence remasking (RCR): write everything, then withdraw what looked least
    sure so far.

    At each step every masked position up to the end of the block is written; the positions that the
    schedule still owes are then re-masked where the running confidence is lowest over all tokens
    written so far, earlier blocks included.
    Source: MDPO (arXiv 2508.13148). `keep="latest"` is what the release does; `keep="max"` is how
    the paper describes it.
    """

    steps: int
    keep: str = "latest"
    remasks = True

    def __post_init__(self):
        if self.steps < 1 or self.keep not in ("latest", "max"):
            raise ValueError(f"need steps >= 1 and keep 'latest' or 'max', got {self}")

    check = Schedule.check

    def reveal(self, seen: RuleInput) -> Tensor:
        return seen.active

    def update(self, running: Tensor, logprob: Tensor, written: Tensor) -> Tensor:
        """Running log-confidence (n, L) after this step; inf where nothing was ever written."""
        known = torch.maximum(running, logprob) if self.keep == "max" else logprob
        return torch.where(written, torch.where(running.isinf(), logprob, known), running)

    def remask(self, running: Tensor, seen: RuleInput) -> Tensor:
        """(n, L) bool: the positions to withdraw; floor(m (S - s - 1) / S) of the m that the block
        began with."""
        steps = self.steps // seen.n_blocks
        owed = seen.masked_at_start * (steps - seen.step_in_block - 1) // steps
        return top(-running, ~running.isinf(), owed)


def _surest(seen: RuleInput) -> Tensor:
    return top(seen.logprob, seen.active, torch.ones_like(seen.step_in_block))
