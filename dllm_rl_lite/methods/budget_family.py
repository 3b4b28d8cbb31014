"""Relatives of `grpo` that change what counts as training goes on, what a pass costs, and what
stands on the canvas at the start.

Each changes the rewards of `grpo` or the start of its rollouts. Those that price forward passes
need rollouts that differ in them, so their parent is `grpo` with TA-GRPO-d's gate; that of those
which look back at a problem is `grpo` on a fixed pool.
"""

from __future__ import annotations

from dataclasses import replace

from .. import advantages, objectives, tasks
from .grpo_family import GRPO
from .guided_and_timed import GATE
from .parts import part
from .problem_family import GRPO_POOL

# ---------------------------------------------------------------- curricula and budgets

ADA_GRPO = replace(
    GRPO,
    name="ada-grpo",
    parent="grpo",
    source="Ada-GRPO (ARM), arXiv 2505.20258",
    shape=part(advantages.rare_format, over=20, strength=0.5),
)

GATED_GRPO = replace(
    GRPO,
    name="gated-grpo",
    parent="grpo",
    source="our control: GRPO with the gate of TA-GRPO-d",
    paper=replace(GRPO.paper, confidence="plain", gate=GATE),
    tiny=replace(GRPO.tiny, gate=GATE),
)

# The weight is that of a port; the paper's was not found.
GRPO_LAMBDA = replace(
    GATED_GRPO,
    name="grpo-lambda",
    parent="gated-grpo",
    source="GRPO-lambda, arXiv 2505.18086",
    shape=part(advantages.cheaper_right, share=0.2, weight=0.6, best=1.0),
)

PASS_PENALTY = replace(
    GATED_GRPO,
    name="pass-penalty",
    parent="gated-grpo",
    source="our control of GRPO-lambda: passes cost in every group",
    shape=part(advantages.cheaper_right, share=1.0, weight=0.6, best=1.0),
)

# Reconstructed: see `within_budget`.
TRAIN_LONG_STYLE = replace(
    GATED_GRPO,
    name="train-long-style",
    parent="gated-grpo",
    source="after Train Long, Think Short, arXiv 2508.08940",
    shape=part(advantages.within_budget, first=0, decay=0.8, every=5, right=1.0, cheap=0.3),
)

# ---------------------------------------------------------------- what the canvas starts with

XRPO_SEEDING = replace(
    GRPO_POOL,
    name="xrpo-seeding",
    parent="grpo-pool",
    source="XRPO's seeding, arXiv 2510.06672",
    start=part(tasks.seeded, share=0.5),
    remember=part(tasks.remember_groups, enough=0.9),
)

REST_GRPO = replace(
    GRPO_POOL,
    name="rest-grpo",
    parent="grpo-pool",
    source="ReST-GRPO, arXiv 2508.19576",
    start=part(tasks.resumed, levels=16, decay=0.95),
    remember=part(tasks.remember_groups, enough=0.9),
    groups=part(advantages.spread_out, least=0.05),
)

# Reg-GRPO, the other half of the paper, is a record of its own.
HINTS = replace(
    GRPO_POOL,
    name="hints",
    parent="grpo-pool",
    source="DeepVideo-R1's hints, arXiv 2506.07464",
    start=part(tasks.hinted, window=10, most=0.5),
    remember=part(tasks.remember_groups, enough=0.9),
)

# Reconstructed: see `refine_best` and `shaped_where_given`.
RGR_STYLE = replace(
    GRPO,
    name="rgr-style",
    parent="grpo",
    source="after RGR-GRPO, arXiv 2511.12344",
    refine=tasks.refine_best,
    objective=replace(GRPO.objective, surrogate=part(objectives.shaped_where_given, gamma=0.1)),
    paper=replace(GRPO.paper, verify={"rubric": True}),
    tiny=replace(GRPO.tiny, verify={"rubric": True}),
)
