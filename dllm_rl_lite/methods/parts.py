"""Parts: the answers of a method, each with the numbers it is called with.

Training code calls the part in a slot with all that it knows, by name; the part's function asks for
what it needs by the names of its parameters, and its other parameters are numbers. `SLOTS` lists
what can be asked for. A new slot is a line of `SLOTS`, a field of `Method` (or `Objective`) that is
None by default, and its call in training/; if its numbers are to be changed from outside, also a
dictionary of `Numbers` and a line of `Method.parts`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..names import unknown
from ..values import check_value, types_of

# Where the run stands: `training.problems.Progress`.
PROGRESS = ("step", "seed", "memory")
TEXTS = ("rewards", "rollout", "completions", "examples")
GROUPS = (*TEXTS, "guided", *PROGRESS)
LOSSES = ("logp", "old", "ref", "advantage", "scored", "clip", "rollout", "view", "group")
# The field of `Method` or `Objective` -> what its function may ask for.
SLOTS = {
    "problems": ("task", "prompts", *PROGRESS),
    "allocate": ("rewards", "prompts", *PROGRESS),
    "remember": (*TEXTS, *PROGRESS),
    "start": ("problems", "task", "tokenizer", "generator", *PROGRESS),
    "given": ("problems", "task", "rng"),
    "dice": ("steps", "group", "generator"),
    "refine": ("task", "tokenizer", "generator", "examples", "rollout", "rewards", *PROGRESS),
    "views": ("rollout", "generator", "credit", "score"),
    "shape": GROUPS,
    "advantage": GROUPS,
    "token_credit": ("advantage", "lm", *GROUPS),
    "groups": ("rewards", "examples", "prompts", *PROGRESS),
    "rows": ("advantage", "rewards", "rollout", *PROGRESS),
    "ratio": ("logp", "old", "scored", "rollout"),
    "surrogate": ("log_ratio", *LOSSES),
    "penalty": ("log_ratio", *LOSSES),
}


@dataclass(frozen=True)
class Part:
    """A function and the numbers it is called with; made by `part`."""

    function: Callable
    numbers: Mapping[str, Any]

    def __post_init__(self):
        self.check(self.numbers, self.__name__)

    @property
    def __name__(self) -> str:
        return self.function.__name__

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The function's parameters by name."""
        return inspect.signature(self.function).parameters

    def __call__(self, **known):
        """What the function makes of that which it asks for: known values, and numbers in place of
        the part's own."""
        asked = {name: known[name] for name in self.parameters if name in known}
        return self.function(**{**self.numbers, **asked})

    def check(self, numbers: Mapping[str, Any], label: str) -> None:
        """Raises ValueError for a number that the function does not take (with the nearest match)
        or of another type than it states; the message begins with the label."""
        for name, value in numbers.items():
            if name not in self.parameters:
                raise ValueError(
                    unknown(f"{label} number of {self.__name__}", name, self.parameters)
                )
            own = type(self.numbers.get(name, value))
            check_value(f"{label}.{name}", value, types_of(self.function).get(name, own))

    def check_slot(self, slot: str) -> None:
        """Raises ValueError if the function asks for something that the slot does not know, or a
        number has the name of something known."""
        known = SLOTS[slot]
        for name, parameter in self.parameters.items():
            if name in self.numbers and name in known:
                raise ValueError(
                    f"{slot} gives {self.__name__} its {name!r}, so it cannot be a number: rename "
                    "the parameter"
                )
            needed = parameter.default is parameter.empty and name not in self.numbers
            if needed and name not in known:
                raise ValueError(
                    f"{unknown(f'parameter of {self.__name__} for {slot}', name, known)}: "
                    "a number needs a default, or a value in `part`"
                )


def part(function: Callable, **numbers) -> Part:
    """An answer of a method: a function and its numbers.

    Raises:
        ValueError: for a number that the function does not take, or of another type than it states.
    """
    return Part(function, numbers)


def fill_slots(record: Any) -> None:
    """Make the answers of a frozen record parts (a function alone has no numbers), and check them
    against their slots."""
    for slot in SLOTS:
        answer = getattr(record, slot, None)
        if answer is not None:
            filled = answer if isinstance(answer, Part) else part(answer)
            filled.check_slot(slot)
            object.__setattr__(record, slot, filled)
