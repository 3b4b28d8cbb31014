"""The little of pytest that generated test files use: raises, approx, fail, param and
mark.parametrize. Fixtures are not there."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable


class Raises:
    """`with pytest.raises(kind, match=...)`: the block must raise it."""

    def __init__(self, kind: type | tuple[type, ...], match: str | None):
        self.kind = kind
        self.wanted = match
        self.value: BaseException | None = None
        self.type: type | None = None

    def __enter__(self) -> Raises:
        return self

    def __exit__(self, kind, error, trace) -> bool:
        if error is None:
            raise AssertionError("did not raise")
        if not isinstance(error, self.kind):
            return False
        self.value = error
        self.type = kind
        if self.wanted is not None:
            self.match(self.wanted)
        return True

    def match(self, pattern: str) -> bool:
        if not re.search(pattern, str(self.value)):
            raise AssertionError(f"{str(self.value)!r} does not match {pattern!r}")
        return True


def raises(kind, call: Callable | None = None, *values, match: str | None = None, **names):
    """As a context, or with a function to call and its arguments."""
    block = Raises(kind, match)
    if call is not None:
        with block:
            call(*values, **names)
    return block


class Approx:
    """`x == pytest.approx(y)`: numbers, and lists, tuples and dicts of numbers, to one part in a
    million or 1e-12."""

    # abs: pytest's own name
    def __init__(self, expected, rel: float | None = None, abs: float | None = None):
        self.expected = expected
        self.rel = rel
        self.abs = abs

    def __eq__(self, other) -> bool:
        return self.near(other, self.expected)

    __hash__ = None

    def near(self, a, b) -> bool:
        if isinstance(b, dict):
            return (
                isinstance(a, dict)
                and a.keys() == b.keys()
                and all(self.near(a[k], b[k]) for k in b)
            )
        if isinstance(b, (list, tuple)):
            return type(a) is type(b) and len(a) == len(b) and all(map(self.near, a, b))
        if not isinstance(a, (int, float)) or not isinstance(b, (int, float)):
            return a == b
        relative = self.rel or 0.0
        if self.rel is None and self.abs is None:
            relative = 1e-6
        absolute = 1e-12 if self.abs is None else self.abs
        return math.isclose(a, b, rel_tol=0.0, abs_tol=max(relative * abs(b), absolute))


class Param:
    """`pytest.param(1, 2, id="...")`: the values of a case."""

    def __init__(self, *values, **_):
        self.values = values


class Mark:
    """`pytest.mark`: parametrize runs a test once per case; every other mark changes nothing."""

    def __getattr__(self, name: str):
        def mark(*args, **kwargs):
            if len(args) == 1 and callable(args[0]) and not kwargs:
                return args[0]  # @pytest.mark.slow
            return lambda test: test  # @pytest.mark.slow(...)

        return mark

    def parametrize(self, names, cases, **_):
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",")]

        def values(case) -> tuple:
            if isinstance(case, Param):
                return case.values
            return (case,) if len(names) == 1 else case

        def decorate(test):
            def run(*args, **others):
                for case in cases:
                    test(*args, **others, **dict(zip(names, values(case), strict=True)))

            return run

        return decorate


def fail(reason: str = "", **_) -> None:
    raise AssertionError(reason)


def module() -> types.ModuleType:
    """A module to stand for pytest."""
    found = types.ModuleType("pytest")
    found.raises = raises
    found.approx = Approx
    found.param = Param
    found.fail = fail
    found.mark = Mark()
    return found
