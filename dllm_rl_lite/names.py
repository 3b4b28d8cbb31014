"""Looking things up by name, with a message that helps."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name: what was asked, the nearest match, and all that there is."""
    known = sorted(known)
    return f"unknown {kind} {name!r}{hint(name, known)} (known: {', '.join(known)})"


def hint(name: object, known: Iterable[str]) -> str:
    """The nearest match as a part of a message; empty if none is near."""
    near = difflib.get_close_matches(str(name), known, 1, 0.4)
    return f"; did you mean {near[0]!r}?" if near else ""


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """table[name], or a ValueError that names the nearest match."""
    if name not in table:
        raise ValueError(unknown(kind, name, table))
    return table[name]
