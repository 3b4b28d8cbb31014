"""GRPO on a diffusion model, and its relatives: each changes one answer of it.

All score every step that a rollout visited. There a ratio is that of the distribution which really
wrote the tokens, so these methods compare objectives, and not estimators of likelihood. The papers
train models that write from left to right: how rollouts are written is AGRPO's in the paper's
numbers too, and what a paper's numbers do not name is the parent's.
"""

from __future__ import annotations

from dataclasses import replace

from .. import advantages, estimators, objectives
from ..estimators import View
from ..sampler import Rollout
from .parts import part
from .visited_steps import AGRPO


def own_steps(rollout: Rollout) -> list[View]:
    """`all_steps`, without the end-of-sequence tokens that a text reveals after its last other
    token: how many of them were scored would depend on the longest text of the batch."""
    last = estimators.last_scored_step(rollout)
    views = []
    for step, view in enumerate(estimators.all_steps(rollout)):
        views.append(replace(view, scored=view.scored & (step < last)[:, None]))
    return views


GRPO = replace(
    AGRPO,
    name="grpo",
    parent="agrpo",
    source="GRPO, arXiv 2402.03300",
    views=own_steps,
    advantage=part(advantages.z_score, eps=1e-4),
    objective=replace(AGRPO.objective, weighted_penalty=False, average="sequence"),
    paper=replace(AGRPO.paper, inner_updates=2, lr=1e-6, views={}),
    tiny=replace(AGRPO.tiny, inner_updates=2),
)

# ---------------------------------------------------------------- baselines

DR_GRPO = replace(
    GRPO,
    name="dr-grpo",
    parent="grpo",
    source="Dr.GRPO, arXiv 2503.20783",
    advantage=advantages.group_mean,
    objective=replace(GRPO.objective, average="canvas"),
)

# The paper has no ratio and puts the penalty into the reward; here only the credit is its.
RLOO = replace(
    GRPO,
    name="rloo",
    parent="grpo",
    source="RLOO, arXiv 2402.14740",
    advantage=advantages.leave_one_out,
)

# Without its filter of groups and its penalty of texts that do not end.
DAPO = replace(
    GRPO,
    name="dapo",
    parent="grpo",
    source="DAPO, arXiv 2503.14476",
    objective=replace(
        GRPO.objective, surrogate=part(objectives.clip_higher, high=0.28), average="token"
    ),
)

# ---------------------------------------------------------------- ratio, clip and surrogate

CISPO = replace(
    GRPO,
    name="cispo",
    parent="grpo",
    source="CISPO, arXiv 2506.13585",
    objective=replace(GRPO.objective, surrogate=part(objectives.capped_weight, cap=5.0, floor=0.0)),
)

# The paper clips to 3e-4 below and 4e-4 above, which would clip nearly all of so short texts.
GSPO = replace(
    GRPO,
    name="gspo",
    parent="grpo",
    source="GSPO, arXiv 2507.18071",
    objective=replace(
        GRPO.objective,
        level="text",
        ratio=objectives.mean_log_ratio,
        surrogate=part(objectives.clip_higher, high=0.02),
        penalty=objectives.mean_k3,
        average="text_sum",
    ),
    paper=replace(GRPO.paper, clip=3e-4, loss={"high": 4e-4}),
    tiny=replace(GRPO.tiny, clip=0.02),
)

SAPO = replace(
    GRPO,
    name="sapo",
    parent="grpo",
    source="SAPO, arXiv 2511.20347",
    objective=replace(
        GRPO.objective, surrogate=part(objectives.soft_gate, tau=1.0, tau_negative=1.05)
    ),
)

DCPO_CLIP = replace(
    GRPO,
    name="dcpo-clip",
    parent="grpo",
    source="DCPO's clip, arXiv 2509.02333",
    objective=replace(
        GRPO.objective,
        surrogate=part(objectives.probability_clip, low=0.16, high=0.2, most=10.0),
    ),
)

# Reconstructed: see `entropy_clip`.
SSPO_STYLE = replace(
    GRPO,
    name="sspo-style",
    parent="grpo",
    source="after SSPO, arXiv 2511.04256",
    objective=replace(
        GRPO.objective,
        ratio=objectives.step_log_ratio,
        surrogate=part(objectives.entropy_clip, least=0.5, most=2.0),
    ),
)

# Reconstructed: see `guarded_ratio`.
GUARD_STYLE = replace(
    GRPO,
    name="guard-style",
    parent="grpo",
    source="after GRPO-Guard, arXiv 2510.22319",
    objective=replace(
        GRPO.objective, level="group", surrogate=part(objectives.guarded_ratio, eps=1e-6)
    ),
)

REG_GRPO = replace(
    GRPO,
    name="reg-grpo",
    parent="grpo",
    source="Reg-GRPO (DeepVideo-R1), arXiv 2506.07464",
    objective=replace(
        GRPO.objective,
        level="group",
        ratio=objectives.text_log_ratio,
        surrogate=part(objectives.group_regression, beta=0.0, eps=1e-4),
        penalty=objectives.mean_k3,
        average="text_sum",
    ),
)

# ---------------------------------------------------------------- credit

# The release also clips to 0.16 below and 0.24 above.
NGRPO = replace(
    GRPO,
    name="ngrpo",
    parent="grpo",
    source="NGRPO, arXiv 2509.18851",
    advantage=part(advantages.virtual_best, best=1.0, eps=1e-6),
)

# Which factor and which alpha the paper ran was not found.
SEED_GRPO = replace(
    GRPO,
    name="seed-grpo",
    parent="grpo",
    source="SEED-GRPO, arXiv 2505.12346",
    advantage=part(advantages.entropy_scaled, alpha=1.0, fade="exponential"),
)

XRPO_SHARPENING = replace(
    GRPO,
    name="xrpo-sharpening",
    parent="grpo",
    source="XRPO's sharpening, arXiv 2510.06672",
    advantage=part(advantages.sharpened, lam=2.5, kappa=0.5),
)

PREF_GRPO = replace(
    GRPO,
    name="pref-grpo",
    parent="grpo",
    source="Pref-GRPO, arXiv 2508.20751",
    shape=advantages.win_rate,
)
