"""Unmasking rules: which of the masked positions are revealed after a forward pass?

A rule is a frozen record with one question to answer, `reveal(seen) -> (n, L) bool`. Of equal
positions the leftmost is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .dice import PassDice
from .ranges import check_number, check_whole


@dataclass(frozen=True)
class RuleInput:
    """What a rule may look at: n rows, L canvas positions. Values count only where `active`."""

    active: Tensor  # (n, L) bool: masked, and in the row's current block or before it
    # Of the distribution that `Decoding.confidence` names:
    logprob: Tensor  # (n, L) float32 nats, of the candidate token: its confidence
    entropy: Tensor  # (n, L) float32 nats
    margin: Tensor  # (n, L) float32: probability of the likeliest token minus that of the second
    step_in_block: Tensor  # (n,) int64: forward passes spent on this block so far
    masked_at_start: Tensor  # (n,) int64: masked positions when the block began
    n_blocks: int | Tensor  # (n,) int64 if rows have blocks of different lengths
    generator: torch.Generator | None
    dice: PassDice | None = None  # whose noise each row uses; None: its own


class Rule:
    """What the sampler asks of every rule."""

    remasks = False  # may it withdraw a token that was written?
    random = False  # does it need a generator?

    def check(self, n_blocks: int) -> None:
        """Raise ValueError if the rule cannot work with this number of blocks."""

    def reveal(self, seen: RuleInput) -> Tensor:
        """(n, L) bool: the active positions to write, at least one of each row."""
        raise NotImplementedError


def top(key: Tensor, allowed: Tensor, count: Tensor) -> Tensor:
    """The allowed positions with the highest keys; ties go to the leftmost.

    Args:
        key: (n, L) float.
        allowed: (n, L) bool.
        count: (n,) int64, how many of each row; all allowed ones if there are fewer.
    Returns:
        (n, L) bool.
    """
    order = key.masked_fill(~allowed, float("-inf")).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    return (rank < count[:, None]) & allowed


def _check_steps(steps: int, n_blocks: int) -> None:
    if steps % n_blocks:
        raise ValueError(f"steps {steps} must be a multiple of the number of blocks, {n_blocks}")


def _uniform(seen: RuleInput) -> Tensor:
    """(n, L) float32 noise in [0, 1), drawn on the generator's own device; 1/2 for rows without
    dice."""
    shape = seen.active.shape
    noise = torch.rand(shape, generator=seen.generator, device=seen.generator.device)
    noise = noise.to(seen.active.device)
    if seen.dice is not None:
        noise = seen.dice.share(noise, neutral=0.5)
    return noise


ORDERS = ("confidence", "random", "entropy", "margin", "left_to_right", "right_to_left")


@dataclass(frozen=True)
class Schedule(Rule):
    """A fixed number of steps; the masked positions of a block are spread evenly over its steps,
    remainder first.

    Orders: confidence (LLaDA's low-confidence remasking: the surest candidates first), random,
    entropy (lowest first), margin (largest gap between the two likeliest tokens first),
    left_to_right, right_to_left. A block with fewer masked positions than steps ends early.
    Source: LLaDA (arXiv 2502.09992) and its `generate`; Dream for entropy and margin. Greedy texts
    are `generate`'s
    token for token on float32 logits only: on bfloat16 logits it ranks by a softmax in bfloat16,
    whose ties order positions differently.
    """

    steps: int  # forward passes for the whole canvas; must be a multiple of the number of blocks
    order: str = "confidence"

    def __post_init__(self):
        check_whole("steps", self.steps, 1)
        if self.order not in ORDERS:
            raise ValueError(f"unknown order {self.order!r}: one of {ORDERS}")

    @property
    def random(self) -> bool:
        return self.order == "random"

    def check(self, n_blocks: int) -> None:
        _check_steps(self.steps, n_blocks)

    def quota(
        self,
        step_in_block: int | Tensor,
        masked_at_start: int | Tensor,
        n_blocks: int | Tensor,
    ) -> int | Tensor:
        """How many positions this step of the block reveals; ints or (n,) int64 tensors."""
        steps = self.steps // n_blocks
        return masked_at_start // steps + (step_in_block < masked_at_start % steps)

    def reveal(self, seen: RuleInput) -> Tensor:
        count = self.quota(seen.step_in_block, seen.masked_at_start, seen.n_blocks)
        if self.order == "random":
            key = _uniform(seen)
        else:
            key = self.sort_key(seen.logprob, seen.entropy, seen.margin)
        return top(key, seen.active, count)

    def sort_key(self, logprob: Tensor, entropy: Tensor, margin: Tensor) -> Tensor:
        """(n, L) float32: the highest are revealed first, where the order is not random.

        Args: of the candidates, (n, L) each, as `RuleInput` has them.
        """
        if self.order == "entropy":
            return -entropy
        if self.order == "margin":
            return margin
        if self.order == "left_to_right":
            return torch.zeros_like(logprob)  # all tie, and ties go to the leftmost
        if self.order == "right_to_left":
            return torch.ones_like(logprob).cumsum(1)  # the rightmost is the highest
        return logprob


@dataclass(frozen=True)
class Threshold(Rule):
    """Reveal every candidate with confidence >= tau, and always the surest one. Source: Fast-dLLM
    (arXiv 2505.22618)."""

    tau: float = 0.9  # probability
    n_min = 1

    def __post_init__(self):
        check_number("threshold tau", self.tau, 0, 1)

    def chance(self, logprob: Tensor) -> Tensor:
        """1 if a candidate of this log-confidence is revealed on its own account, else 0; any
        shape."""
        return (logprob.exp() >= self.tau).to(logprob.dtype)

    def reveal(self, seen: RuleInput) -> Tensor:
        surest = top(seen.logprob, seen.active, torch.ones_like(seen.step_in_block))
        return surest | (seen.active & (self.chance(seen.logprob) == 1))


@dataclass(frozen=True)
class Factor(Rule):
    """Reveal the n surest candidates for the largest n with (n + 1)(1 - c_n) <= f, at least one.
    Source: Fast-dLLM.

    c_n is the n-th highest confidence. Unlike the released code, a last candidate that fails the
    test is not taken.
    """

    f: float = 1.0

    def __post_init__(self):
        check_number("factor f", self.f, 0, 1000)

    def reveal(self, seen: RuleInput) -> Tensor:
        confidence = seen.logprob.exp().masked_fill(~seen.active, -1.0)
        c = confidence.sort(1, descending=True).values
        n = torch.arange(1, c.shape[1] + 1, device=c.device)
        holds = (c >= 0) & ((n + 1) * (1 - c) <= self.f)
        return top(seen.logprob, seen.active, holds.sum(1).clamp(min=1))


@dataclass(frozen=True)
class Gate(Rule):
    """TA-GRPO-d's stochastic confidence gate: reveal j with probability (max(c_j - tau, 0) / (1 -
    tau)) ** kappa.

    If fewer than n_min are revealed, the surest of the others make up the number.
    """

    tau: float = 0.7
    kappa: float = 0.5
    n_min: int = 1
    random = True

    def __post_init__(self):
        check_number("gate tau", self.tau, 0, 1)
        check_number("gate kappa", self.kappa, 0, 1000)
        check_whole("gate n_min", self.n_min, 1)
        if self.tau == 1 or self.kappa == 0:
            raise ValueError(f"a gate needs tau below 1 and kappa above 0, got {self}")

    def chance(self, logprob: Tensor) -> Tensor:
        """Probability that a candidate of this log-confidence passes the gate; any shape,
        differentiable."""
        above = (logprob.exp() - self.tau).clamp(min=0) / (1 - self.tau)
        # at 0 the slope of a power below 1 is infinite, and infinity times 0 is NaN
        tiny = torch.finfo(above.dtype).tiny
        return torch.where(above > 0, above.clamp(min=tiny) ** self.kappa, 0.0)

    def reveal(self, seen: RuleInput) -> Tensor:
        chosen = seen.active & (_uniform(seen) < self.chance(seen.logprob))
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
        check_whole("steps", self.steps, 1)
        if self.keep not in ("latest", "max"):
            raise ValueError(f"keep must be 'latest' or 'max', got {self.keep!r}")

    def check(self, n_blocks: int) -> None:
        _check_steps(self.steps, n_blocks)

    def reveal(self, seen: RuleInput) -> Tensor:
        return seen.active

    def update(self, running: Tensor, logprob: Tensor, written: Tensor) -> Tensor:
        """Running log-confidence (n, L) after this step; inf where nothing was ever written."""
        latest = logprob
        if self.keep == "max":
            latest = torch.where(running.isinf(), logprob, torch.maximum(running, logprob))
        return torch.where(written, latest, running)

    def remask(self, running: Tensor, seen: RuleInput) -> Tensor:
        """(n, L) bool: the positions to withdraw; floor(m (S - s - 1) / S) of the m that the block
        began with."""
        steps = self.steps // seen.n_blocks
        owed = seen.masked_at_start * (steps - seen.step_in_block - 1) // steps
        return top(-running, ~running.isinf(), owed)
