"""The little of pytest that generated test files use: raises, approx, mark.parametrize. Fixtures
are not there."""

from __future__ import annotations

import math
import re
import types


class Raises:
    """`with pytest.raises(kind, match=...)`: the block must raise it."""

    def __init__(self, kinds, match: str | None, remote: type):
        self.kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        self.match = match
        self.remote = remote
        self.value: BaseException | None = None

    def __enter__(self) -> Raises:
        return self

    def __exit__(self, kind, error, trace) -> bool:
        if error is None:
            raise AssertionError("did not raise")
        if not any(self.is_kind(error, wanted) for wanted in self.kinds):
            return False
        if self.match is not None and not re.search(self.match, str(error)):
            raise AssertionError(f"{str(error)!r} does not match {self.match!r}")
        self.value = error
        return True

    def is_kind(self, error: BaseException, wanted: type) -> bool:
        """Is it of the class? The program's exception classes are known by identity."""
        if isinstance(wanted, self.remote):
            return any(wanted is own for own in getattr(error, "own_classes", []))
        return isinstance(error, wanted)


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

        def decorate(test):
            def run(*args, **others):
                for case in cases:
                    values = (case,) if len(names) == 1 else case
                    test(*args, **others, **dict(zip(names, values, strict=True)))

            return run

        return decorate


def module(remote: type) -> types.ModuleType:
    """A module to stand for pytest; `remote` is the type of the program's objects."""
    found = types.ModuleType("pytest")
    found.raises = lambda kinds, match=None: Raises(kinds, match, remote)
    found.approx = Approx
    found.mark = Mark()
    return found
