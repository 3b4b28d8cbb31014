"""METHODS: every method by name."""

from __future__ import annotations

from .guided_and_timed import AG_AGRPO, AG_GRPO, AG_TA_GRPO, TA_AGRPO, TA_GRPO_D
from .masked_views import COUPLED_GRPO, DIFFU_GRPO, GDPO
from .visited_steps import AGRPO, MDPO, MERGED_PATH
from .without_ratios import GDSD, WD1

METHODS = {
    m.name: m
    for m in (
        DIFFU_GRPO,
        COUPLED_GRPO,
        GDPO,
        WD1,
        GDSD,
        AGRPO,
        MDPO,
        MERGED_PATH,
        AG_GRPO,
        TA_GRPO_D,
        AG_AGRPO,
        TA_AGRPO,
        AG_TA_GRPO,
    )
}
