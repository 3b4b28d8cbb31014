"""Methods without a clipped ratio: wd1 and GDSD."""

from __future__ import annotations

from dataclasses import replace

from .. import advantages, estimators, objectives
from .masked_views import DIFFU_GRPO, GDPO
from .numbers import D1, TINY
from .parts import part

WD1 = replace(
    DIFFU_GRPO,
    name="wd1",
    parent="diffu-grpo",
    source="wd1, arXiv 2507.08838",
    advantage=part(advantages.exponential_weights, psi=1.0, over="group", negative=True),
    # The paper has no penalty.
    objective=replace(
        DIFFU_GRPO.objective,
        ratio=None,
        surrogate=objectives.weighted_likelihood,
        average="group_sum",
    ),
    paper=replace(D1, prompts=8, kl=0.0),
    tiny=TINY,
)

GDSD = replace(
    GDPO,
    name="gdsd",
    parent="gdpo",
    source="GDSD, arXiv 2605.29398",
    views=part(estimators.complement_pairs, n=1, weighting="half"),
    advantage=advantages.leave_one_out,
    objective=replace(
        GDPO.objective,
        ratio=objectives.text_log_ratio,
        surrogate=part(objectives.self_distillation, psi=1.0),
        penalty=objectives.text_k2,
    ),
    paper=replace(
        D1,
        inner_updates=8,
        clip=4e-4,
        kl=1e-3,
        weight_decay=0.01,
        temperature=1.0,
        tokens_per_step=4,
    ),
    tiny=replace(TINY, clip=4e-4, kl=1e-3, lr=4e-4),
)
