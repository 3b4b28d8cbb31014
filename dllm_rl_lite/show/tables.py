"""Plain-text tables."""

from __future__ import annotations

from ..names import unknown


def shorten(text: str, width: int) -> str:
    """The text on one line; where it is longer than `width`, its middle becomes an ellipsis."""
    text = str(text).strip().replace("\n", "↵")
    return (
        text
        if len(text) <= width
        else text[: width // 2] + "…" + text[len(text) - (width - width // 2 - 1) :]
    )


def table(rows: list[dict], columns: list[str] | None = None) -> str:
    """Rows as aligned plain text: floats to 3 decimals (smaller ones to 3 digits), numbers right,
    text left, None as –.

    columns: which, in order; None: all, in order of appearance. Raises ValueError for no rows or an
    unknown column.
    """
    if not rows:
        raise ValueError("a table needs at least one row")
    known = list(dict.fromkeys(name for row in rows for name in row))
    for name in columns or ():
        if name not in known:
            raise ValueError(unknown("column", name, known))
    columns = columns or known
    cells = [[_plain(row.get(name)) for name in columns] for row in rows]
    widths = [max(len(c) for c in column) for column in zip(columns, *cells, strict=True)]
    text = [any(isinstance(row.get(name), str) for row in rows) for name in columns]

    def line(values) -> str:
        return "  ".join(
            v.ljust(w) if left else v.rjust(w)
            for v, w, left in zip(values, widths, text, strict=True)
        ).rstrip()

    return "\n".join([line(columns), line("-" * w for w in widths), *map(line, cells)])


def _plain(value) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"
    return "–" if value is None else str(value).replace("\n", "↵")


def before_after(
    examples, before: list[str], after: list[str], rewards_before, rewards_after, n: int = 6
) -> str:
    """The first n problems as plain text: prompt, a right answer, texts before and after, ✓ where
    the reward is 1.

    examples: records with prompt and answer; the four lists are as long as it. Raises ValueError
    where they are not, for no examples, or n < 1.
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

    def marked(text: str, reward: float) -> str:
        return f"{'✓' if reward == 1 else '✗'} {shorten(text, 44)}"

    every = zip(examples, before, after, rewards_before, rewards_after, strict=True)
    return table(
        [
            {
                "prompt": shorten(e.prompt, 32),
                "right answer": shorten(e.answer, 20),
                "before": marked(b, rb),
                "after": marked(a, ra),
            }
            for e, b, a, rb, ra in list(every)[:n]
        ]
    )
