"""Relatives of `grpo` that ask which problem comes next and what is remembered of it: filters of
groups and rows, more siblings for some problems, pools of problems, mixtures of tasks.

A memory's keys are prompts, or names of tasks.
"""

from __future__ import annotations

from dataclasses import replace

from .. import advantages, tasks
from .grpo_family import DAPO, GRPO
from .parts import part

# ---------------------------------------------------------------- what is learnt from

# Without its penalty of texts that do not end.
DAPO_SAMPLING = replace(
    DAPO,
    name="dapo-sampling",
    parent="dapo",
    source="DAPO's dynamic sampling, arXiv 2503.14476",
    groups=advantages.mixed,
    paper=replace(DAPO.paper, rounds=10),
    tiny=replace(DAPO.tiny, rounds=3),
)

# Without its selection of tokens; the shares are ours.
D3S = replace(
    GRPO,
    name="d3s",
    parent="grpo",
    source="D3S, arXiv 2509.22115",
    rows=part(advantages.widest_rows, share=0.25, over=20),
)

# Half of a group for twice as many problems, the other half for those of the widest rewards.
XRPO_ALLOCATION = replace(
    GRPO,
    name="xrpo-allocation",
    parent="grpo",
    source="XRPO's allocation, arXiv 2510.06672",
    allocate=advantages.widest_groups,
)

# ---------------------------------------------------------------- memory

# The control of the two that follow.
GRPO_POOL = replace(
    GRPO,
    name="grpo-pool",
    parent="grpo",
    source="ours: GRPO on a fixed pool of problems",
    problems=part(tasks.pooled, pool=64),
)

DCPO_SMOOTH = replace(
    GRPO_POOL,
    name="dcpo-smooth",
    parent="grpo-pool",
    source="DCPO's smooth standardisation, arXiv 2509.02333",
    remember=advantages.pool_statistics,
    advantage=part(advantages.smooth_score, eps=1e-4),
)

# The release starts from 8 rollouts of each problem, and its decay follows the policy's change.
SPO_SINGLE = replace(
    GRPO_POOL,
    name="spo-single",
    parent="grpo-pool",
    source="SPO (single stream), arXiv 2509.13232",
    problems=part(tasks.uncertain, pool=64, floor=0.05),
    remember=part(advantages.track, decay=0.9, mass=8.0),
    advantage=part(advantages.above_the_past, whiten=True),
    paper=replace(GRPO_POOL.paper, prompts=GRPO.paper.prompts * GRPO.paper.group, group=1),
    tiny=replace(GRPO_POOL.tiny, prompts=GRPO.tiny.prompts * GRPO.tiny.group, group=1),
)

# On a mixture of tasks.
MT_GRPO = replace(
    GRPO,
    name="mt-grpo",
    parent="grpo",
    source="MT-GRPO (multi-task), arXiv 2602.05547",
    problems=tasks.by_task,
    remember=part(advantages.weigh_tasks, rate=0.025, level=0.2),
    groups=advantages.mixed_by_task,
    paper=replace(GRPO.paper, rounds=10),
    tiny=replace(GRPO.tiny, rounds=3),
)
