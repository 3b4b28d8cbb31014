"""Answer-guided rollouts (AG-GRPO), credit by unmasking time (TA-GRPO-d), and our combinations."""

from __future__ import annotations

from dataclasses import asdict, replace

from .. import advantages, estimators
from .masked_views import DIFFU_GRPO
from .numbers import D1, TINY, GateNumbers, Guide
from .parts import part
from .visited_steps import AGRPO

GUIDE = asdict(Guide())
TINY_GUIDE = {**GUIDE, "rows": 4, "margin": "fitted", "answer_steps": 4}
GATE = asdict(GateNumbers())
TIMING = {
    "delta": 1.0,
    "form": "factor",
    "clamp": False,
    "right_only": False,
    "balanced": False,
    "floor": 0,
}

AG_GRPO = replace(
    DIFFU_GRPO,
    name="ag-grpo",
    parent="diffu-grpo",
    source="AG-GRPO, ACL 2026 long 1724",
    views=part(estimators.one_step_with_answer, p_mask_prompt=0.15, told=False),
    advantage=part(advantages.guided_mean, baseline="shared"),
    paper=replace(D1, prompts=2, tokens_per_step=4, guide=GUIDE),
    # The prompt is not masked here: on these short prompts a masked operand drowns the signal
    # (notebook on diffu-GRPO).
    tiny=replace(TINY, kl=0.04, guide=TINY_GUIDE, views={"p_mask_prompt": 0.0}),
)

TA_GRPO_D = replace(
    DIFFU_GRPO,
    name="ta-grpo-d",
    parent="diffu-grpo",
    source="TA-GRPO-d, ACL 2026 long 1723",
    token_credit=part(advantages.timed_credit, **TIMING),
    rewarded="partial",
    paper=replace(D1, prompts=2, top_p=0.95, gate=GATE, verify={"fill": False}),
    tiny=replace(
        TINY,
        kl=0.04,
        lr=1e-4,
        views={"p_mask_prompt": 0.0},
        gate=GATE,
        verify={"fill": False},
    ),
)

AG_AGRPO = replace(
    AGRPO,
    name="ag-agrpo",
    parent="agrpo",
    source="our combination: answer-guided rollouts, visited steps",
    advantage=part(advantages.guided_mean, baseline="shared"),
    paper=replace(AGRPO.paper, guide={**GUIDE, "rows": 4}),
    tiny=replace(AGRPO.tiny, guide=TINY_GUIDE),
)

TA_AGRPO = replace(
    AGRPO,
    name="ta-agrpo",
    parent="agrpo",
    source="our combination: the gate and its credit, visited steps",
    token_credit=part(advantages.timed_credit, **TIMING),
    rewarded="partial",
    # The gate's confidence is the plain one, as in TA-GRPO-d.
    paper=replace(AGRPO.paper, confidence="plain", gate=GATE, verify={"fill": False}),
    tiny=replace(AGRPO.tiny, gate=GATE, verify={"fill": False}),
)

AG_TA_GRPO = replace(
    TA_AGRPO,
    name="ag-ta-grpo",
    parent="ta-agrpo",
    source="our combination: answer-guided rollouts, the gate and its credit, visited steps",
    advantage=part(advantages.guided_mean, baseline="shared"),
    paper=replace(TA_AGRPO.paper, guide={**GUIDE, "rows": 4}),
    tiny=replace(TA_AGRPO.tiny, guide=TINY_GUIDE),
)
