"""Calling a reward function: what it is given, and what it may return."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .task import Example

Reward = Callable[..., list[float]]


def rewards_of(
    reward: Reward | Sequence[Reward], examples: list[Example], completions: list[str]
) -> list[float]:
    """The rewards of one completion per example, checked.

    Args:
        reward: a function of TRL's signature, `reward(prompts, completions, **columns)`; it is
            given the columns that it takes, by keyword, prompts and completions as plain texts, and
            may be asynchronous. Several are added up.
        examples: N problems, all with the same columns.
        completions: N texts.
    Returns:
        N finite numbers.
    Raises:
        TypeError: for what is no function, or takes a column that the task has not.
        RuntimeError: if the function raises; the cause is chained.
        ValueError: if it returns the wrong number of values, or one that is not a finite number.
    """
    if isinstance(reward, Sequence) and reward and not isinstance(reward, str):
        each = [rewards_of(function, examples, completions) for function in reward]
        return [sum(values) for values in zip(*each, strict=True)]
    label = getattr(reward, "__name__", repr(reward))
    arguments = _arguments(reward, label, examples, completions)
    try:
        values = reward(**arguments)
        if inspect.isawaitable(values):
            values = _awaited(values)
        if inspect.isgenerator(values):
            values = list(values)
    except (Exception, SystemExit) as error:
        hint = ""
        if isinstance(error, TypeError) and "string indices" in str(error):
            hint = "; completions and prompts are plain texts here: not completion[0]['content']"
        raise RuntimeError(
            f"the reward function {label} raised {type(error).__name__}: {error}{hint}"
        ) from error
    return _checked(values, label, completions)


def _arguments(
    reward: Reward, label: str, examples: list[Example], completions: list[str]
) -> dict[str, list]:
    """What a reward function is called with: all columns, or those that it names."""
    if not callable(reward):
        raise TypeError(
            f"the reward {reward!r} is no function: pass reward(prompts, completions, **columns), "
            "or a list of such functions, which are added up (write weights into a function)"
        )
    arguments = {
        "prompts": [example.prompt for example in examples],
        "completions": list(completions),
        "answer": [example.answer for example in examples],
    }
    if examples:
        for name in examples[0].columns:
            arguments[name] = [example.columns[name] for example in examples]
    try:
        signature = inspect.signature(reward)
    except ValueError:  # a function in C that does not say
        return arguments
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    columns = ", ".join(arguments)
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        arguments = {name: arguments[name] for name in signature.parameters if name in arguments}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise TypeError(
            f"the reward function {label} cannot be called: {error}; it is given, by keyword, "
            f"what it takes of {columns}"
        ) from error
    return arguments


def _awaited(values: Awaitable) -> object:
    """The result of an asynchronous function, also where a loop runs already, as in a notebook."""

    async def result() -> object:
        return await values

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, result()).result()


def _checked(values: object, label: str, completions: list[str]) -> list[float]:
    """The values as finite floats, one per completion, or a ValueError."""
    unordered = (Mapping, Set, str, bytes, bytearray)
    try:
        if isinstance(values, unordered):
            raise TypeError
        values = list(values)
    except TypeError:
        raise ValueError(
            f"the reward function {label} returned the {type(values).__name__} {values!r:.80}: "
            "it must return a list with one number per completion"
        ) from None
    if len(values) != len(completions):
        raise ValueError(
            f"the reward function {label} returned {len(values)} values "
            f"for {len(completions)} completions"
        )
    numbers = [_finite(value) for value in values]
    if None in numbers:
        i = numbers.index(None)
        raise ValueError(
            f"the reward function {label} returned {values[i]!r} for completion {i} "
            f"({completions[i]!r}): it must return finite numbers"
        )
    return numbers


def _finite(value: object) -> float | None:
    """The value as a float if it is a finite number of any kind (of numpy, torch, fractions,
    decimal), else None."""
    try:
        number = math.nan if isinstance(value, (str, bytes, bytearray)) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
