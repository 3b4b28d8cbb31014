"""METHODS: each method of the course as one record, its five answers and their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from . import advantages, estimators, objectives
from .estimators import View
from .names import lookup, unknown
from .rules import Rule, Schedule
from .sampler import Rollout


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
    order: str = "confidence"  # unmasking order of the fixed schedule
    eos: str = "free"  # end-of-sequence policy of the sampler
    views: dict = field(default_factory=dict)  # keyword arguments of the view recipe

    def __post_init__(self):
        for name in ("prompts", "group", "inner_updates", "tokens_per_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.group < 2:
            raise ValueError(f"group must be at least 2, got {self.group}: credit compares siblings")
        if self.lr <= 0 or self.clip < 0 or self.kl < 0 or self.temperature <= 0:
            raise ValueError(f"need lr, temperature > 0 (at 0 all siblings are equal) and clip, kl >= 0, got {self}")

    def rule(self, length: int) -> Rule:
        """The unmasking rule for a canvas of `length` tokens."""
        if length % self.tokens_per_step:
            raise ValueError(f"tokens_per_step {self.tokens_per_step} must divide the canvas length {length}")
        return Schedule(length // self.tokens_per_step, self.order)


@dataclass(frozen=True)
class Method:
    """One method: what fills the blanks and what the rollout sees are in the numbers, the other answers are functions."""

    name: str
    source: str
    views: Callable[..., list[View]]  # (rollout, generator, **numbers.views): the masked copies that score a text
    advantage: Callable[[Tensor], Tensor]  # (B, G) rewards -> (B, G) credit
    token_loss: Callable[..., Tensor]  # (logp, old, ref, advantage, clip, kl) -> (N, L)
    reduction: str  # "token_mean": over all scored tokens of the batch; "row_mean": weighted sum per row, mean over rows
    tempered: bool  # score under the rollouts' temperature (True) or at temperature 1 (False)
    paper: Numbers  # what the paper's main experiment ran
    # What the tiny world runs. The learning rate is the best of three by greedy validation accuracy on chain2 after 30
    # steps of one seed: agrpo of 2e-4, 3e-4, 1e-3 (the last on chain), diffu-grpo of 1e-4, 2e-4, 4e-4.
    tiny: Numbers

    def numbers(self, preset: str, **overrides) -> Numbers:
        """The "tiny" or the "paper" numbers, some of them overridden; unknown names are errors with the nearest match."""
        base = lookup("preset", preset, {"tiny": self.tiny, "paper": self.paper})
        known = [f.name for f in fields(Numbers)]
        for name in overrides:
            if name not in known:
                raise ValueError(unknown("number", name, known))
        if "views" in overrides:
            for name in overrides["views"]:
                if name not in base.views:
                    raise ValueError(unknown(f"view number of {self.name}", name, base.views))
            overrides = {**overrides, "views": {**base.views, **overrides["views"]}}
        return replace(base, **overrides)


def mean_over_steps(rollout: Rollout, generator: torch.Generator, **numbers) -> list[View]:
    """`visited_steps` with each row divided by its number of steps, as AGRPO's objective has it."""
    views = estimators.visited_steps(rollout, generator, **numbers)
    return estimators.reweighted(views, 1 / estimators.last_scored_step(rollout))


METHODS = {
    "diffu-grpo": Method(
        name="diffu-grpo", source="d1, arXiv 2504.12216", views=estimators.one_step, advantage=advantages.group_mean,
        token_loss=objectives.clipped_k3, reduction="token_mean", tempered=False,
        paper=Numbers(prompts=16, group=6, inner_updates=12, clip=0.5, kl=0.04, lr=3e-6, weight_decay=0.1,
                      grad_clip=0.2, temperature=0.9, block_length=32, views={"p_mask_prompt": 0.15}),
        tiny=Numbers(prompts=32, group=8, inner_updates=2, clip=0.5, kl=0.04, lr=4e-4, grad_clip=0.2,
                     views={"p_mask_prompt": 0.15}),
    ),
    "agrpo": Method(
        name="agrpo", source="AGRPO, arXiv 2510.04019", views=mean_over_steps, advantage=advantages.group_mean,
        token_loss=objectives.clipped_weighted_k3, reduction="row_mean", tempered=True,
        paper=Numbers(prompts=16, group=8, inner_updates=1, clip=0.2, kl=0.0, lr=5e-6, weight_decay=0.01,
                      temperature=0.6, top_k=150, top_p=0.99, tokens_per_step=3, block_length=12, order="random",
                      views={"k": 24, "stratified": True, "law": "entropy"}),
        tiny=Numbers(prompts=32, group=8, inner_updates=1, clip=0.2, kl=0.0, lr=2e-4,
                     views={"k": 4, "stratified": True, "law": "uniform"}),
    ),
}
