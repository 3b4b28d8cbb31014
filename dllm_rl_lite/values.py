"""Values from a file or a command line: read as the type of a default, merged key by key."""

from __future__ import annotations

import ast
import contextlib
from pathlib import Path


def cast(name: str, value, default):
    """Read `value` (a string from the command line, or what YAML made of it) as the type of the
    notebook's default.

    Text with a slash that is a path here becomes an absolute one.

    Raises ValueError naming the parameter, the value and the wanted type.
    """
    kind = type(default)
    wrong = ValueError(
        f"parameter {name}={value!r} is not {kind.__name__} (the notebook's default is {default!r})"
    )
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if str(value).lower() not in words:
            raise wrong
        return words[str(value).lower()]
    if kind in (int, float):
        if kind is int and str(value).lstrip("+-").isdigit():
            return int(value)  # exact, also beyond the whole numbers that a float can hold
        try:
            number = float(value)
            whole = int(number)
        except (TypeError, ValueError, OverflowError):
            raise wrong from None
        if isinstance(value, bool) or (kind is int and number != whole):
            raise wrong
        return number if kind is float else whole
    if kind is str:  # the notebook runs in its own folder: a path is one of the caller's
        path = Path(str(value)).expanduser()
        return str(path.resolve()) if "/" in str(value) and path.exists() else str(value)
    if isinstance(value, str):
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
    if not isinstance(value, kind):
        raise wrong
    return value


def merged(values: dict, over: dict) -> dict:
    """`values` with those of `over` put in: dictionaries key by key, also where one is written as
    text."""
    result = dict(values)
    for name, value in over.items():
        if isinstance(result.get(name), dict) and isinstance(value, str):
            with contextlib.suppress(ValueError, SyntaxError):
                value = ast.literal_eval(value)
        both = isinstance(result.get(name), dict) and isinstance(value, dict)
        result[name] = merged(result[name], value) if both else value
    return result
