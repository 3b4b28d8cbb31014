"""Relatives of `grpo` that ask who may be compared with whom: credit along the path, credit by
token, and tables of dice.

Each changes the credit of `grpo`, the dice of its siblings, or both. Numbers that a paper states
for a model that writes from left to right are kept where they have a meaning on a canvas.
"""

from __future__ import annotations

from dataclasses import replace

from .. import advantages, objectives, sampler
from .grpo_family import GRPO
from .parts import part

# ---------------------------------------------------------------- credit along the path

TEMPO = replace(
    GRPO,
    name="tempo",
    parent="grpo",
    source="TEMPO, arXiv 2509.18314",
    advantage=part(advantages.temporal_difference, eps=1e-6, scaled=True),
    paper=replace(GRPO.paper, group=7),
)

SPO_CHAIN = replace(
    GRPO,
    name="spo-chain",
    parent="grpo",
    source="SPO-segment's chain, arXiv 2505.23564",
    dice=part(sampler.chain_dice, checkpoints=3),
    advantage=part(advantages.segment_difference, most=0.9),
)

SPO_TREE = replace(
    GRPO,
    name="spo-tree",
    parent="grpo",
    source="SPO-segment's tree, arXiv 2505.23564",
    dice=part(sampler.tree_dice, sizes=""),
    advantage=part(advantages.segment_difference, most=0.9),
)

TREEPO = replace(
    GRPO,
    name="treepo",
    parent="grpo",
    source="TreePO, arXiv 2508.17445",
    dice=part(sampler.tree_dice, sizes=""),
    advantage=part(advantages.subgroup_mean, weight="size", whiten=True, eps=1e-8),
    paper=replace(GRPO.paper, group=16),
)

# Without its pruning of the backward pass.
BRANCH_GRPO = replace(
    GRPO,
    name="branch-grpo",
    parent="grpo",
    source="BranchGRPO, arXiv 2509.06040",
    dice=part(sampler.tree_dice, sizes=""),
    advantage=part(advantages.depth_score, eps=1e-6, scaled=True),
)

S_GRPO = replace(
    GRPO,
    name="s-grpo",
    parent="grpo",
    source="S-GRPO, arXiv 2505.07686",
    dice=sampler.exit_dice,
    shape=part(advantages.serial_decay, factor=0.5),
    advantage=advantages.group_mean,
)

PATH_LOO = replace(
    GRPO,
    name="path-loo",
    parent="grpo",
    source="ours, after RLOO",
    advantage=advantages.path_leave_one_out,
)

# ---------------------------------------------------------------- credit by token

GTPO = replace(
    GRPO,
    name="gtpo",
    parent="grpo",
    source="GTPO, arXiv 2508.03772",
    token_credit=part(advantages.conflict_weighted, right=2.0, wrong=0.0, entropy=0.1, most=0.7),
    objective=replace(GRPO.objective, ratio=None, surrogate=objectives.weighted_likelihood),
)

TW_GRPO = replace(
    GRPO,
    name="tw-grpo",
    parent="grpo",
    source="TW-GRPO, arXiv 2505.24718",
    token_credit=part(advantages.spread_weighted, alpha=1.7),
)

# Reconstructed: see `item_score`.
RANK_GRPO_STYLE = replace(
    GRPO,
    name="rank-grpo-style",
    parent="grpo",
    source="after Rank-GRPO, arXiv 2510.20150",
    advantage=part(advantages.item_score, size=4, first=1, eps=1e-4),
    objective=replace(GRPO.objective, ratio=part(objectives.item_log_ratio, size=4, first=1)),
)

# ---------------------------------------------------------------- dice alone

# Reconstructed: the paper's window moves along the steps as training goes on; here each group draws
# where its own begins.
MIX_GRPO_STYLE = replace(
    GRPO,
    name="mix-grpo-style",
    parent="grpo",
    source="after MixGRPO, arXiv 2507.21802",
    dice=part(sampler.window_dice, first=-1, width=4),
)

# Reconstructed: see `branch_credit`.
TEMPFLOW_STYLE = replace(
    GRPO,
    name="tempflow-style",
    parent="grpo",
    source="after TempFlow-GRPO, arXiv 2508.04324",
    dice=part(sampler.branch_dice, step=-1),
    token_credit=advantages.branch_credit,
)
