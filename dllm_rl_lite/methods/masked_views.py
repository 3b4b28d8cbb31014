"""Methods whose likelihood comes from masked copies of the finished text: diffu-GRPO, coupled-GRPO,
GDPO."""

from __future__ import annotations

from dataclasses import replace

from .. import advantages, estimators, objectives
from .method import Method
from .numbers import D1, TINY, Numbers
from .objective import Objective
from .parts import part

DIFFU_GRPO = Method(
    name="diffu-grpo",
    parent="",
    source="d1, arXiv 2504.12216",
    views=part(estimators.one_step, p_mask_prompt=0.15),
    advantage=advantages.group_mean,
    objective=Objective(
        level="view",
        ratio=objectives.token_log_ratio,
        surrogate=objectives.clipped_ratio,
        penalty=objectives.k3,
        average="token",
    ),
    tempered=False,
    paper=D1,
    tiny=replace(TINY, kl=0.04, lr=4e-4),
)

COUPLED_GRPO = replace(
    DIFFU_GRPO,
    name="coupled-grpo",
    parent="diffu-grpo",
    source="DiffuCoder, arXiv 2506.20639",
    views=part(estimators.coupled, low=0.2, high=0.8),
    advantage=advantages.leave_one_out,
    objective=replace(DIFFU_GRPO.objective, level="token"),
    pieces_of_a_group=2,  # a device holds 5 rows of 10
    # Temperature: the paper's 1.2; the released configuration says 1.0.
    paper=Numbers(
        prompts=8,
        group=10,
        inner_updates=2,
        clip=0.5,
        kl=0.01,
        lr=1e-6,
        weight_decay=0.1,
        grad_clip=0.2,
        temperature=1.2,
        top_p=0.95,
        tokens_per_step=1,
        order="entropy",
        confidence="sampled",
    ),
    tiny=replace(TINY, kl=0.01),
)

GDPO = replace(
    DIFFU_GRPO,
    name="gdpo",
    parent="diffu-grpo",
    source="GDPO, arXiv 2510.08554",
    views=part(estimators.quadrature, nodes=3, n=1, nominal=True),
    objective=Objective(
        level="text",
        ratio=objectives.mean_log_ratio,
        surrogate=part(objectives.clipped_text_ratio, per_token="inside"),
        penalty=objectives.mean_k3,
        average="text_sum",
    ),
    paper=replace(D1, kl=0.0, lr=3e-7, counted="text"),
    tiny=TINY,
)
