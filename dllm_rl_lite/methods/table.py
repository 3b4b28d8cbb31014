"""METHODS: every method by name, family by family."""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType

from . import (
    budget_family,
    grpo_family,
    guided_and_timed,
    masked_views,
    newer,
    path_family,
    problem_family,
    stage_family,
    visited_steps,
    without_ratios,
)
from .method import Method


def records_of(file: ModuleType, imported: Collection[str]) -> dict[str, Method]:
    """The records that a file makes, by name and in order; those that it imports are left out."""
    records = [value for value in vars(file).values() if isinstance(value, Method)]
    return {record.name: record for record in records if record.name not in imported}


# Those of the course's chapters and its recorded tables.
CORE: dict[str, Method] = {}
for file in (masked_views, without_ratios, visited_steps, guided_and_timed):
    CORE |= records_of(file, CORE)
OURS = {"merged-path": CORE.pop("merged-path")}
FAMILY = records_of(grpo_family, CORE)
PATHS = records_of(path_family, FAMILY)
PROBLEMS = records_of(problem_family, FAMILY)
BUDGETS = records_of(budget_family, FAMILY | PROBLEMS)
STAGES = records_of(stage_family, FAMILY)
NEWER = records_of(newer, CORE)
METHODS = CORE | OURS | FAMILY | PATHS | PROBLEMS | BUDGETS | STAGES | NEWER
