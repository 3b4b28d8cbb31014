"""What comes before and beside reinforcement: fine-tuning on given texts, preferences between the
siblings of a group, and imitation among rollouts.

Pairs and win rates come from the verifier's rewards of the policy's own texts, where the papers ask
people or a preference model. All but the fine-tuning score every visited step, as `grpo` does.
"""

from __future__ import annotations

from dataclasses import replace

from .. import advantages, estimators, objectives
from ..tasks import demonstration
from .grpo_family import GRPO
from .method import Method
from .numbers import Numbers
from .objective import Objective
from .parts import part

# ---------------------------------------------------------------- given texts

# The pretraining loss on demonstrations. Two stages are two runs: the second one's `model` is the
# folder that a checkpoint of the first left.
SFT = Method(
    name="sft",
    parent="wd1",
    source="LLaDA's fine-tuning, arXiv 2502.09992",
    given=part(demonstration, rows=1, habit=0.0, drop=0.0),
    views=part(estimators.random_masks, n=1, counts="bernoulli"),
    advantage=advantages.ones,
    objective=Objective(
        level="view",
        ratio=None,
        surrogate=objectives.weighted_likelihood,
        average="canvas",
    ),
    tempered=False,
    paper=Numbers(
        prompts=256,
        group=1,
        inner_updates=1,
        clip=0.2,
        kl=0.0,
        lr=2.5e-5,
        weight_decay=0.1,
        warmup=50,
    ),
    tiny=Numbers(prompts=64, group=1, inner_updates=1, clip=0.2, kl=0.0, lr=2e-4),
)

# The first stage of TON: the model learns that a text may do without working.
TON = replace(
    SFT,
    name="ton",
    parent="sft",
    source="TON's thought dropout, arXiv 2505.16854",
    given=part(demonstration, rows=1, habit=0.0, drop=0.5),
)

GRAO = replace(
    GRPO,
    name="grao",
    parent="grpo",
    source="GRAO, arXiv 2508.07750",
    given=part(demonstration, rows=1, habit=0.0, drop=0.0),
    advantage=part(advantages.imitation_weights, beta=0.5, lam=0.6, eps=1e-4),
    objective=replace(GRPO.objective, ratio=None, surrogate=objectives.weighted_likelihood),
)

# ---------------------------------------------------------------- pairs

DPO = replace(
    GRPO,
    name="dpo",
    parent="grpo",
    source="DPO, arXiv 2305.18290",
    advantage=advantages.extremes,
    objective=Objective(
        level="pair",
        ratio=objectives.token_log_ratio,
        to_reference=True,
        surrogate=part(objectives.preference, beta=0.1, alpha=0.0),
        average="group_sum",
    ),
)

# Reconstructed: see `critical_weights`.
CDPO_STYLE = replace(
    DPO,
    name="cdpo-style",
    parent="dpo",
    source="after cDPO, arXiv 2411.19943",
    token_credit=part(advantages.critical_weights, smooth=0.5),
)

# Reconstructed: see `preference`.
TGDPO_STYLE = replace(
    DPO,
    name="tgdpo-style",
    parent="dpo",
    source="after TGDPO, arXiv 2506.14574",
    objective=replace(DPO.objective, surrogate=part(objectives.preference, beta=0.1, alpha=0.5)),
)

# ---------------------------------------------------------------- win rates

# The mix of forward and reverse penalty, their weight and psi on so short texts are ours.
RSPO = replace(
    GRPO,
    name="rspo",
    parent="grpo",
    source="RSPO, arXiv 2503.00030",
    shape=advantages.win_rate,
    advantage=advantages.group_mean,
    objective=Objective(
        level="text",
        ratio=objectives.text_log_ratio,
        surrogate=part(objectives.win_rate_regression, psi=10.0),
        penalty=part(objectives.mixed_divergence, forward=1.0, reverse=1.0, chi2=0.0, most=10.0),
        average="text_sum",
    ),
    paper=replace(GRPO.paper, kl=0.1, loss={"psi": 1000.0}),
    tiny=replace(GRPO.tiny, kl=0.1),
)

RSPO_FORWARD = replace(
    RSPO,
    name="rspo-forward",
    parent="rspo",
    objective=replace(
        RSPO.objective,
        penalty=part(objectives.mixed_divergence, forward=1.0, reverse=0.0, chi2=0.0, most=10.0),
    ),
)

RSPO_REVERSE = replace(
    RSPO,
    name="rspo-reverse",
    parent="rspo",
    objective=replace(
        RSPO.objective,
        penalty=part(objectives.mixed_divergence, forward=0.0, reverse=1.0, chi2=0.0, most=10.0),
    ),
)

STAGES = {
    m.name: m
    for m in (
        SFT,
        TON,
        GRAO,
        DPO,
        CDPO_STYLE,
        TGDPO_STYLE,
        RSPO,
        RSPO_FORWARD,
        RSPO_REVERSE,
    )
}
