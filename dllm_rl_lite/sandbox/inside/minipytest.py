"""The little of pytest that generated test files use: raises, approx, mark.parametrize. Fixtures
are not there."""

from __future__ import annotations

import math
import re
import types


class Raises:
    """`with pytest.raises(kind, match=...)`: the block must raise it."""

    def __init__(self, kinds, match: str | None, remote: type):
        self.kinds, self.match, self.remote, self.value = kinds, match, remote, None

    def __enter__(self) -> Raises:
        return self

    def __exit__(self, kind, error, trace) -> bool:
        kinds = self.kinds if isinstance(self.kinds, tuple) else (self.kinds,)
        if error is None:
            raise AssertionError("did not raise")
        own = getattr(
            error, "own_classes", []
        )  # the program's exception classes, which are known by identity
        if not any(
            any(k is o for o in own) if isinstance(k, self.remote) else isinstance(error, k)
            for k in kinds
        ):
            return False
        if self.match is not None and not re.search(self.match, str(error)):
            raise AssertionError(f"{str(error)!r} does not match {self.match!r}")
        self.value = error
        return True


class Approx:
    """`x == pytest.approx(y)`: numbers, and lists, tuples and dicts of numbers, to one part in a
    million or 1e-12."""

    def __init__(self, expected, rel: float | None = None, abs: float | None = None):  # noqa: A002  pytest's own name
        self.expected, self.rel, self.abs = expected, rel, abs

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
        relative = 1e-6 if self.rel is None and self.abs is None else self.rel or 0.0
        return math.isclose(
            a,
            b,
            rel_tol=0.0,
            abs_tol=max(relative * abs(b), 1e-12 if self.abs is None else self.abs),
        )


class Mark:
    """`pytest.mark`: parametrize runs a test once a case; every other mark changes nothing."""

    def __getattr__(self, name: str):
        return lambda *args, **kwargs: (
            args[0] if len(args) == 1 and callable(args[0]) and not kwargs else lambda test: test
        )

    def parametrize(self, names, cases, **_):
        names = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)

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
    found.approx, found.mark = Approx, Mark()
    return found
