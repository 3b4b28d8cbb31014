"""Rubrics: what a completion is asked for, item by item, each with its weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One demand on a completion."""

    weight: float  # at least 0
    is_met: bool
    # The characters of the completion to write again if it is not met.
    characters: tuple[int, ...] = ()


def met_share(items: Sequence[Item]) -> float:
    """The weight of the items that are met, of all weight: 0.0 to 1.0.

    Raises:
        ValueError: for a negative weight, or if all are 0.
    """
    total = sum(item.weight for item in items)
    if total <= 0 or min(item.weight for item in items) < 0:
        raise ValueError(
            "the weights of a rubric must be at least 0, and one of them above, got "
            f"{[item.weight for item in items]}"
        )
    return sum(item.weight for item in items if item.is_met) / total
