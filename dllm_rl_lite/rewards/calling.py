"""Calling a reward function: what it is given, and what it may return."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor

Reward = Callable[..., list[float]]


def call_reward(reward: Reward | Sequence[Reward], arguments: dict[str, list]) -> list[float]:
    """The checked rewards of N completions.

    Args:
        reward: a function of TRL's signature, `reward(prompts, completions, **columns)`; it is
            given the columns that it takes, by keyword, prompts and completions as plain texts, and
            may be asynchronous. Several are added up.
        arguments: prompts, completions and further columns, N values each.
    Returns:
        N finite numbers.
    Raises:
        RuntimeError: if the function raises; the cause is chained.
        ValueError: for what is no function, or takes a column that is not there, and if it returns
            the wrong number of values, or one that is not a finite number.
    """
    if isinstance(reward, Sequence) and reward and not isinstance(reward, str):
        each = [call_reward(function, arguments) for function in reward]
        return [sum(values) for values in zip(*each, strict=True)]
    label = getattr(reward, "__name__", repr(reward))
    taken = _taken(reward, label, arguments)
    try:
        values = reward(**taken)
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
    return _checked(values, label, arguments["completions"])


def _taken(reward: Reward, label: str, arguments: dict[str, list]) -> dict[str, list]:
    """The arguments that a reward function takes, all of them or those that it names."""
    if not callable(reward):
        raise ValueError(
            f"the reward {reward!r} is no function: pass reward(prompts, completions, **columns), "
            "or a list of such functions, which are added up (write weights into a function)"
        )
    try:
        signature = inspect.signature(reward)
    except ValueError:  # a function in C that does not say
        return arguments
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    taken = arguments
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        taken = {name: arguments[name] for name in signature.parameters if name in arguments}
    try:
        signature.bind(**taken)
    except TypeError as error:
        raise ValueError(
            f"the reward function {label} cannot be called: {error}; it is given, by keyword, "
            f"what it takes of {', '.join(arguments)}"
        ) from error
    return taken


def _awaited(values: Awaitable) -> object:
    """The result of an asynchronous function, also where a loop runs already, as in a notebook."""

    async def result() -> object:
        return await values

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, result()).result()


def _checked(values: object, label: str, completions: list[str]) -> list[float]:
    """The values as finite floats, one per completion, or a ValueError."""
    try:
        if isinstance(values, (Mapping, Set, str, bytes, bytearray)):
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
