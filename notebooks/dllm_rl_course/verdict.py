"""How a check speaks: `todo`, `right`, or the likely mistake; never an error (papermill stops at
one)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch


def judge(name: str, answer, mistakes: list[tuple[Callable[[], bool], str]]) -> None:
    """Print the verdict on one exercise.

    mistakes: (is it this one?, what to say), tried in order; the first that is true is named, none
    means right.
    """
    if answer is None:
        print(f"{name}: todo - replace None with your answer and run the cell again")
        return
    for made, message in mistakes:
        try:
            if made():
                print(f"{name}: not yet - {message}")
                return
        except Exception as error:  # a learner's function may fail in any way: say how, and go on
            print(f"{name}: not yet - it raised {type(error).__name__}: {error}")
            return
    print(f"{name}: right")


def predict(answer, options: str = "abc") -> None:
    """Take note of a guess among lettered options; the measurement after it is the answer."""
    letters = ", ".join(options)
    if answer is None:
        print(f"prediction: todo - replace None with one of {letters}, then measure")
    elif isinstance(answer, str) and len(answer) == 1 and answer in options:
        print(f"prediction: {answer} - the measurement below tells")
    else:
        print(f"prediction: not yet - give one of {letters}, as a text")


def differs(value, wanted: float, tolerance: float = 1e-6) -> bool:
    """True unless value is a number within tolerance of wanted."""
    number = float(value)
    return not math.isfinite(number) or abs(number - wanted) > tolerance


def tensor_differs(value, wanted: torch.Tensor, tolerance: float = 1e-6) -> bool:
    """True unless value is a tensor of wanted's shape within tolerance, on whatever device."""
    value = torch.as_tensor(value).detach().cpu().double()
    return value.shape != wanted.shape or bool((value - wanted.double()).abs().max() > tolerance)


def result_of(function, *arguments):
    """function(*arguments), or None where there is no function yet or it is still a stub; never
    raises."""
    try:
        return function(*arguments) if callable(function) else function
    except Exception:  # raised again, and named, by the first question that `judge` asks
        return ()


def attempt(function: Callable, *arguments):
    """What a learner's function returns, or the exception it raised."""
    try:
        return function(*arguments)
    except Exception as error:
        return error


def raised(outcome) -> bool:
    """Raise the exception that `attempt` caught, so that `judge` names it."""
    if isinstance(outcome, Exception):
        raise outcome
    return False
