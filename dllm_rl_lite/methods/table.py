"""METHODS: every method by name, family by family."""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType

from . import budget_family, grpo_family, path_family, problem_family, stage_family
from .guided_and_timed import AG_AGRPO, AG_GRPO, AG_TA_GRPO, TA_AGRPO, TA_GRPO_D
from .masked_views import COUPLED_GRPO, DIFFU_GRPO, GDPO
from .method import Method
from .visited_steps import AGRPO, MDPO, MERGED_PATH
from .without_ratios import GDSD, WD1


def records_of(file: ModuleType, imported: Collection[str]) -> dict[str, Method]:
    """The records that a file makes, by name and in order; those that it imports are left out."""
    records = [value for value in vars(file).values() if isinstance(value, Method)]
    return {record.name: record for record in records if record.name not in imported}


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
FAMILY = records_of(grpo_family, CORE)
PATHS = records_of(path_family, FAMILY)
PROBLEMS = records_of(problem_family, FAMILY)
BUDGETS = records_of(budget_family, FAMILY | PROBLEMS)
STAGES = records_of(stage_family, FAMILY)
METHODS = CORE | {MERGED_PATH.name: MERGED_PATH} | FAMILY | PATHS | PROBLEMS | BUDGETS | STAGES
