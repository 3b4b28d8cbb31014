"""Methods that score the states which a rollout visited: AGRPO and MDPO."""

from __future__ import annotations

from dataclasses import replace

import torch

from .. import advantages, estimators, objectives
from ..estimators import View
from ..sampler import Rollout
from .masked_views import DIFFU_GRPO
from .numbers import Numbers
from .parts import part


def mean_over_steps(
    rollout: Rollout,
    generator: torch.Generator,
    k: int = 4,
    stratified: bool = True,
    law: str = "uniform",
) -> list[View]:
    """`visited_steps` with each row divided by its number of steps, as AGRPO's objective has it."""
    views = estimators.visited_steps(rollout, generator, k, stratified, law)
    return estimators.reweighted(views, 1 / estimators.last_scored_step(rollout))


def mean_over_path(rollout: Rollout, generator: torch.Generator) -> list[View]:
    """`all_steps` with each row divided by its number of steps; nothing is drawn."""
    views = estimators.all_steps(rollout)
    return estimators.reweighted(views, 1 / estimators.last_scored_step(rollout))


AGRPO = replace(
    DIFFU_GRPO,
    name="agrpo",
    parent="diffu-grpo",
    source="AGRPO, arXiv 2510.04019",
    views=part(mean_over_steps, k=4, stratified=True, law="uniform"),
    objective=replace(DIFFU_GRPO.objective, weighted_penalty=True, average="text_sum"),
    tempered=True,
    paper=Numbers(
        prompts=16,
        group=8,
        inner_updates=1,
        clip=0.2,
        kl=0.0,
        lr=5e-6,
        weight_decay=0.01,
        temperature=0.6,
        top_k=150,
        top_p=0.99,
        top_p_crossing="dropped",
        confidence="sampled",
        tokens_per_step=3,
        block_length=12,
        order="random",
        eos="block",
        views={"k": 24, "law": "entropy"},
    ),
    tiny=Numbers(
        prompts=32,
        group=8,
        inner_updates=1,
        clip=0.2,
        kl=0.0,
        lr=2e-4,
    ),
)

# The gradient that AGRPO's steps are a sample of.
MERGED_PATH = replace(
    AGRPO,
    name="merged-path",
    parent="agrpo",
    source="ours, after AGRPO",
    views=mean_over_path,
    objective=replace(
        AGRPO.objective,
        ratio=None,
        surrogate=objectives.weighted_likelihood,
        weighted_penalty=False,
    ),
    merged=True,
    paper=replace(AGRPO.paper, views={}),
)

MDPO = replace(
    AGRPO,
    name="mdpo",
    parent="agrpo",
    source="MDPO, arXiv 2508.13148",
    views=part(estimators.chosen_steps, k=4, confident=True),
    advantage=part(advantages.step_credit, outlook=True),
    rewarded="every step",
    objective=replace(AGRPO.objective, penalty=objectives.k2, weighted_penalty=False),
    paper=Numbers(
        prompts=16,
        group=8,
        inner_updates=1,
        clip=0.2,
        kl=0.02,
        lr=7e-7,
        adam_beta2=0.999,
        temperature=0.4,
        confidence="sampled",
        tokens_per_step=4,
        views={"k": 8},
    ),
    tiny=Numbers(
        prompts=32,
        group=8,
        inner_updates=1,
        clip=0.2,
        kl=0.02,
        lr=2e-4,
        confidence="sampled",
    ),
)
