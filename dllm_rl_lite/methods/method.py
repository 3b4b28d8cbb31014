"""The record of a method: five answers and their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

from torch import Tensor

from ..estimators import View
from ..names import lookup, unknown
from ..objectives import Objective
from ..sampler import ORDERS, Gate, Rule, RunningConfidence, Schedule, Threshold

REWARDED = ("final", "every step", "partial")


REMASKING = {
    "rcr": "latest",
    "rcr-max": "max",
}  # orders that withdraw tokens -> which confidence they keep


@dataclass(frozen=True)
class Numbers:
    """What a method is run with. Every field can be overridden in a `TrainConfig`."""

    prompts: int  # prompts a step
    group: int  # rollouts a prompt
    inner_updates: int  # optimiser steps on one batch of rollouts (mu)
    clip: float  # epsilon of the clipped ratio
    kl: float  # beta, weight of the KL penalty towards the starting model
    lr: float  # AdamW learning rate
    weight_decay: float = 0.0
    grad_clip: float = 1.0  # largest gradient norm
    warmup: int = 0  # optimiser steps of linear warm-up
    temperature: float = 1.0  # of the rollouts
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    tokens_per_step: int = 2  # tokens revealed in one forward pass
    block_length: int = 0  # 0: the whole canvas is one block
    # unmasking order of the fixed schedule, or "rcr", "rcr-max": running-confidence remasking
    order: str = "confidence"
    eos: str = "free"  # end-of-sequence policy of the sampler
    views: dict = field(default_factory=dict)  # keyword arguments of the view recipe
    credit: dict = field(default_factory=dict)  # keyword arguments of the advantage
    tokens: dict = field(default_factory=dict)  # keyword arguments of the token credit
    verify: dict = field(default_factory=dict)  # further keyword arguments of `training.verify`
    # The stochastic gate in place of the schedule: tau, kappa, n_min of `sampler.Gate`, and
    # test_tau: evaluation reveals every candidate at least that sure (`sampler.Threshold`).
    gate: dict = field(default_factory=dict)
    # Answer-guided rollouts (`guided_denoise`): rows of a group; column of the examples to anchor
    # ("": the answer); margin, end tokens after it, or "fitted": as many as put it where a
    # demonstration has it; block_length of guided rows (0: one block); answer_steps of the second
    # stage; repredict; importance, cap of the weights of guided texts (0: none).
    guide: dict = field(default_factory=dict)
    loss: dict = field(default_factory=dict)  # keyword arguments of the loss
    published_quirks: bool = (
        False  # do as the release did where a bug of it changed published results: `mask_seeds`
    )

    def __post_init__(self):
        for f in fields(self):
            wanted, value = (
                {"int": int, "float": (int, float), "bool": bool, "str": str, "dict": dict}[f.type],
                getattr(self, f.name),
            )
            if not isinstance(value, wanted) or isinstance(value, bool) and f.type != "bool":
                raise ValueError(
                    f"{f.name}={value!r} must be a {f.type}, not {type(value).__name__}"
                )
        for name in ("prompts", "group", "inner_updates", "tokens_per_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.group < 2:
            raise ValueError(
                f"group must be at least 2, got {self.group}: credit compares siblings"
            )
        if self.lr <= 0 or self.clip < 0 or self.kl < 0 or self.temperature <= 0:
            raise ValueError(
                f"need lr, temperature > 0 (at 0 all siblings are equal) and clip, kl >= 0, got {self}"
            )
        if self.order not in (*ORDERS, *REMASKING):
            raise ValueError(unknown("order", self.order, [*ORDERS, *REMASKING]))
        if self.guide and not 0 <= self.guide["rows"] <= self.group:
            raise ValueError(
                f"guide rows must be in 0..{self.group} (group), got {self.guide['rows']}"
            )
        if self.guide and self.order in REMASKING:
            raise ValueError(
                f"order {self.order!r} re-masks, which guided rollouts cannot: choose one of {ORDERS}"
            )

    def rule(self, length: int) -> Rule:
        """The unmasking rule of rollouts, for a canvas of `length` tokens."""
        if self.gate:
            return Gate(**{k: v for k, v in self.gate.items() if k != "test_tau"})
        if length % self.tokens_per_step:
            raise ValueError(
                f"tokens_per_step {self.tokens_per_step} must divide the canvas length {length}"
            )
        steps = length // self.tokens_per_step
        return (
            RunningConfidence(steps, REMASKING[self.order])
            if self.order in REMASKING
            else Schedule(steps, self.order)
        )

    def answer_rule(self) -> Rule:
        """The rule that predicts a guided row's answer again: the gate, or `answer_steps` steps of
        the schedule's order."""
        return self.rule(0) if self.gate else Schedule(self.guide["answer_steps"], self.order)

    def test_rule(self, length: int) -> Rule:
        """The rule of evaluations: that of the rollouts, or of a gated method the deterministic
        threshold."""
        return Threshold(self.gate["test_tau"]) if self.gate else self.rule(length)


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
    # What the verifier sees: one of `REWARDED`; credit by step goes to the views too.
    rewarded: str = "final"
    paper: Numbers  # what the paper's main experiment ran
    # What the tiny world runs. Each learning rate is the best of 1e-4, 2e-4, 4e-4 by greedy
    # validation accuracy on chain2 at equal forward passes, one seed: `python
    # benchmarks/compare.py` tunes and records it.
    tiny: Numbers

    def __post_init__(self):
        if self.rewarded not in REWARDED:
            raise ValueError(f"{self.name}: {unknown('rewarded', self.rewarded, REWARDED)}")

    def numbers(self, preset: str, **overrides) -> Numbers:
        """The "tiny" or the "paper" numbers, some of them overridden; unknown names are errors with
        the nearest match."""
        base = lookup("preset", preset, {"tiny": self.tiny, "paper": self.paper})
        known = [f.name for f in fields(Numbers)]
        for name in overrides:
            if name not in known:
                raise ValueError(unknown("number", name, known))
        for part in ("views", "credit", "loss", "tokens", "verify", "gate", "guide"):
            own = getattr(base, part)
            changed = overrides.get(part, {})
            for name in changed:
                if name not in own:
                    raise ValueError(
                        unknown(f"{part.replace('views', 'view')} number of {self.name}", name, own)
                    )
            overrides = {**overrides, part: {**own, **changed}}
        return replace(base, **overrides)


D1 = Numbers(
    prompts=16,
    group=6,
    inner_updates=12,
    clip=0.5,
    kl=0.04,
    lr=3e-6,
    weight_decay=0.1,
    grad_clip=0.2,
    temperature=0.9,
    block_length=32,
)  # the recipe that four releases start from
TINY = Numbers(prompts=32, group=8, inner_updates=2, clip=0.5, kl=0.0, lr=2e-4, grad_clip=0.2)
