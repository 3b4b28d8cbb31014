"""METHODS: every method by name."""

from __future__ import annotations

from .budget_family import BUDGETS
from .grpo_family import FAMILY
from .guided_and_timed import AG_AGRPO, AG_GRPO, AG_TA_GRPO, TA_AGRPO, TA_GRPO_D
from .masked_views import COUPLED_GRPO, DIFFU_GRPO, GDPO
from .newer import NEWER
from .path_family import PATHS
from .problem_family import PROBLEMS
from .stage_family import STAGES
from .visited_steps import AGRPO, MDPO, MERGED_PATH
from .without_ratios import GDSD, WD1

# Those of the course's chapters and its recorded tables.
CORE = {
    m.name: m
    for m in (
        DIFFU_GRPO,
        COUPLED_GRPO,
        GDPO,
        WD1,
        GDSD,
        AGRPO,
        MDPO,
        AG_GRPO,
        TA_GRPO_D,
        AG_AGRPO,
        TA_AGRPO,
        AG_TA_GRPO,
    )
}
METHODS = {
    **CORE,
    MERGED_PATH.name: MERGED_PATH,
    **FAMILY,
    **PATHS,
    **PROBLEMS,
    **BUDGETS,
    **STAGES,
    **NEWER,
}
