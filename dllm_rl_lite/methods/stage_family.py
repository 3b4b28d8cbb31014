"""What comes before and beside reinforcement: fine-tuning on given completions, preferences between
the siblings of a group, imitation among rollouts, and agreement of the model with itself.

Pairs and win rates come from the verifier's rewards of the policy's own completions, where the
papers ask people or a preference model. All but the fine-tuning score every visited step, as `grpo`
does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .. import advantages, estimators, objectives
from ..models import MaskedDiffusionLM
from ..sampler import Rollout
from ..tasks import Example, demonstration, in_other_orders
from .grpo_family import GRPO
from .method import Method
from .numbers import Numbers
from .objective import Objective
from .parts import part

# ---------------------------------------------------------------- given completions

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

# The first stage of TON: the model learns that a completion may do without working.
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

# The mix of forward and reverse penalty, their weight and psi on so short completions are ours.
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
        penalty=objectives.mixed_divergence,
        average="text_sum",
    ),
    paper=replace(GRPO.paper, kl=0.1, loss={"psi": 1000.0}),
    tiny=replace(GRPO.tiny, kl=0.1),
)

RSPO_FORWARD = replace(
    RSPO,
    name="rspo-forward",
    parent="rspo",
    objective=replace(RSPO.objective, penalty=part(objectives.mixed_divergence, reverse=0.0)),
)

RSPO_REVERSE = replace(
    RSPO,
    name="rspo-reverse",
    parent="rspo",
    objective=replace(RSPO.objective, penalty=part(objectives.mixed_divergence, forward=0.0)),
)

# ---------------------------------------------------------------- agreement


def consensus(lm: MaskedDiffusionLM, rollout: Rollout, seed: int, orders: int, n: int) -> Tensor:
    """(N,) nats per token: how likely each completion is, on average, under the other prompts of
    its problem; its own prompt is not asked.

    Args:
        lm: the policy.
        rollout: N rows; each `orders` in a row answer one problem, asked in as many ways.
        seed: of the masks, which are the same under every prompt.
        orders: >= 2.
        n: pairs of masks, so 2 n forward passes for each completion and other prompt.
    """
    block = torch.arange(len(rollout.tokens), device=rollout.tokens.device).view(-1, orders)
    total = torch.zeros_like(rollout.logprob[:, 0])
    for shift in range(1, orders):
        asked = block.roll(-shift, 1).flatten()
        other = replace(
            rollout, prompt=rollout.prompt[asked], prompt_mask=rollout.prompt_mask[asked]
        )
        noise = torch.Generator().manual_seed(seed)
        views = estimators.complement_pairs(other, noise, n, "elbo")
        with torch.no_grad():
            total += estimators.estimate(lm, other, views).sum(1)
    return total / (orders - 1) / rollout.tokens.shape[1]


def consensus_credit(
    lm: MaskedDiffusionLM,
    rollout: Rollout,
    examples: Sequence[Example],
    seed: int,
    orders: int = 4,
    n: int = 2,
) -> Tensor:
    """CPC-GRPO-style credit: the z-score of `consensus` among the completions of a problem. No
    verifier is asked.

    Args:
        lm, rollout, orders, n: as in `consensus`.
        examples: one per row: `in_other_orders` of as many orders.
        seed: of the step.
    Returns:
        (N, L) float32, the same for all tokens of a completion.
    Raises:
        ValueError: if the rows are not the orders of single problems.
    Source: reconstructed from the abstract of CPC-GRPO (Findings of ACL 2026, 1486), which also
    updates each completion under the other prompts.
    Error: not an estimate of the reward's gradient: what the model is sure of is reinforced,
    mistakes included.
    """
    for start in range(0, len(examples), orders):
        problem = examples[start : start + orders]
        if len({example.answer for example in problem}) > 1 or len(problem) < orders:
            raise ValueError(
                f"rows {start} to {start + orders - 1} are not one problem in {orders} orders: set "
                "problems.orders and tokens.orders to one number, and group to 1"
            )
    found = consensus(lm, rollout, seed, orders, n).view(-1, orders)
    credit = advantages.z_score(found).view(-1, 1)
    return credit.expand(rollout.tokens.shape).contiguous()


# Reconstructed: see `consensus_credit`.
CPC_STYLE = replace(
    GRPO,
    name="cpc-style",
    parent="grpo",
    source="after CPC-GRPO, Findings of ACL 2026 1486",
    problems=part(in_other_orders, orders=4),
    advantage=advantages.ones,
    token_credit=part(consensus_credit, orders=4, n=2),
    paper=replace(GRPO.paper, prompts=128, group=1),
    tiny=replace(GRPO.tiny, prompts=128, group=1),
)
