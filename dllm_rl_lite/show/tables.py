"""Plain-text tables.

pandas would print one layout for all columns; here text stands left, numbers right, and a rule
below the names, as in every printed output of the course.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..names import unknown
from ..tasks import Example


def shorten(text: str, width: int) -> str:
    """The text on one line; if it is longer than `width`, its middle becomes an ellipsis."""
    text = str(text).strip().replace("\n", "↵")
    start, end = width // 2, width - width // 2 - 1
    return text if len(text) <= width else text[:start] + "…" + text[len(text) - end :]


def table(rows: list[dict], columns: list[str] | None = None) -> str:
    """Rows as aligned plain text: floats to 3 decimals (smaller ones to 3 digits), numbers right,
    text left, None as –.

    Args:
        rows: at least one.
        columns: which, in order; None: all, in order of appearance.
    Raises:
        ValueError: for no rows or an unknown column.
    """
    if not rows:
        raise ValueError("a table needs at least one row")
    known = list(dict.fromkeys(name for row in rows for name in row))
    for name in columns or ():
        if name not in known:
            raise ValueError(unknown("column", name, known))
    padded = []
    for name in columns or known:
        values = [row.get(name) for row in rows]
        cells = [name, *map(_plain, values)]
        width = max(map(len, cells))
        cells.insert(1, "-" * width)
        is_text = any(isinstance(value, str) for value in values)
        pad = str.ljust if is_text else str.rjust
        padded.append([pad(cell, width) for cell in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*padded, strict=True))


def _plain(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"
    return str(value).replace("\n", "↵")


def before_after(
    examples: Sequence[Example],
    before: Sequence[str],
    after: Sequence[str],
    rewards_before: Sequence[float],
    rewards_after: Sequence[float],
    n: int = 6,
) -> str:
    """The first n >= 1 problems as plain text: prompt, a right answer, texts before and after, ✓ if
    the reward is 1.

    Raises ValueError for lists of another length than `examples`, no examples, or n < 1.
    """
    lists = {
        "before": before,
        "after": after,
        "rewards_before": rewards_before,
        "rewards_after": rewards_after,
    }
    for name, values in lists.items():
        if len(values) != len(examples):
            raise ValueError(f"{name} has {len(values)} entries for {len(examples)} examples")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    rows = []
    for i, example in enumerate(examples[:n]):
        rows.append(
            {
                "prompt": shorten(example.prompt, 32),
                "right answer": shorten(example.answer, 20),
                "before": _marked(before[i], rewards_before[i]),
                "after": _marked(after[i], rewards_after[i]),
            }
        )
    return table(rows)


def _marked(text: str, reward: float) -> str:
    return ("✓ " if reward == 1 else "✗ ") + shorten(text, 44)
