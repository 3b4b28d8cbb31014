"""Learning curves with intervals, and dots with error bars."""

from __future__ import annotations

import matplotlib.pyplot as plt

from ..evaluation import t_interval
from ..names import unknown

CYCLE = [
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
]  # Okabe and Ito's, colour-blind safe
METHOD_COLOURS = {
    "base": "#6B6B6B",
    "diffu-grpo": "#D55E00",
    "coupled-grpo": "#CC79A7",
    "gdpo": "#E69F00",
    "wd1": "#56B4E9",
    "gdsd": "#7A5195",
    "agrpo": "#0072B2",
    "mdpo": "#009E73",
    "ag-grpo": "#882255",
    "ta-grpo-d": "#332288",
    "ag-agrpo": "#44AA99",
    "ta-agrpo": "#999933",
    "ag-ta-grpo": "#000000",
    "other": "#009E73",
}  # fallback


def curves(
    runs: dict[str, list[list[dict]]],
    column: str,
    x: str = "step",
    ax=None,
    ylabel: str | None = None,
    percent: bool = False,
    title: str | None = None,
) -> plt.Axes:
    """Learning curves: each seed thin, their mean thick, a 95 % interval as a band; returns the
    axes.

    runs: label -> one list of log rows per seed; rows without a value (None, "", missing) are
    skipped; a label that METHOD_COLOURS knows gets its colour. column, x: names of log columns.
    percent: show 100 times the value. With two seeds or more the band is Student's t interval of
    the mean over seeds, at the x that all seeds have. A single run has a band only for
    "eval_accuracy": its eval_low and eval_high, over problems. A band much taller than the curves
    runs off the picture. Raises ValueError for no runs, a run without values, or seeds that share
    no x.
    """
    if not runs or not all(runs.values()):
        raise ValueError("nothing to draw: runs must map each label to a list of at least one run")
    ax = ax or plt.subplots(layout="constrained")[1]
    free = [c for c in CYCLE if c not in {METHOD_COLOURS.get(label) for label in runs}]
    scale, over = 100 if percent else 1, set()
    for label, seeds in runs.items():
        colour = METHOD_COLOURS.get(label) or (free.pop(0) if free else METHOD_COLOURS["other"])
        points = [_points(label, rows, column, x, scale) for rows in seeds]
        name, mean, band = label, points[0], {}
        if len(seeds) > 1:
            for seed in points:
                ax.plot(list(seed), list(seed.values()), color=colour, linewidth=0.7, alpha=0.5)
            mean, band = _over_seeds(label, points, x)
            name = f"{label} (mean of {len(seeds)} seeds)"
        elif column == "eval_accuracy":
            band = _own_interval(seeds[0], x, scale)
        over |= {"seeds" if len(seeds) > 1 else "problems"} if band else set()
        ax.plot(
            list(mean),
            list(mean.values()),
            color=colour,
            linewidth=2.2,
            label=name,
            markersize=4,
            marker="o" if len(mean) < 25 else None,
        )
        if band:
            ax.fill_between(
                list(band), *zip(*band.values(), strict=True), color=colour, alpha=0.18, linewidth=0
            )
    _view(ax, percent)
    own = column.replace("_", " ") + (" (%)" if percent else "")
    ax.set(xlabel=x.replace("_", " "), ylabel=own if ylabel is None else ylabel)
    ax.set_title(title or "", loc="left")
    ax.legend(title=f"band: 95 % interval over {' or '.join(sorted(over))}" if over else None)
    return ax


def _over_seeds(label: str, points: list[dict[float, float]], x: str) -> tuple[dict, dict]:
    """x -> mean, and x -> (low, high) of its interval, where every seed has a value."""
    found = {
        v: t_interval([p[v] for p in points]) for v in points[0] if all(v in p for p in points)
    }
    if not found:
        raise ValueError(f"the seeds of {label!r} share no value of {x!r}, so they have no mean")
    return {v: m for v, (m, _) in found.items()}, {
        v: (m - half, m + half) for v, (m, half) in found.items()
    }


def _view(ax, percent: bool) -> None:
    """Let no band be more than half as high again as the curves, and show no share beyond 0 and
    100."""
    values = [v for line in ax.lines for v in line.get_ydata()]
    low, high = min(values), max(values)
    room = (high - low) / 2 or max(abs(high), 1.0)
    bottom, top = max(ax.get_ylim()[0], low - room), min(ax.get_ylim()[1], high + room)
    ax.set_ylim(max(bottom, -2) if percent else bottom, min(top, 102) if percent else top)


def _points(label: str, rows: list[dict], column: str, x: str, scale: float) -> dict[float, float]:
    """x -> scale * value of the rows that have both."""
    points = {float(r[x]): scale * float(r[column]) for r in rows if _has(r, x, column)}
    if not points:
        known = {name for row in rows for name in row if _has(row, name)}
        wanted = next((name for name in (column, x) if name not in known), column)
        raise ValueError(f"no row of {label!r} has a value: " + unknown("column", wanted, known))
    return dict(sorted(points.items()))


def _own_interval(rows: list[dict], x: str, scale: float) -> dict[float, tuple[float, float]]:
    return {
        float(r[x]): (scale * float(r["eval_low"]), scale * float(r["eval_high"]))
        for r in rows
        if _has(r, x, "eval_accuracy", "eval_low", "eval_high")
    }


def _has(row: dict, *columns: str) -> bool:
    return all(row.get(c) not in (None, "") for c in columns)


def intervals(
    points: dict[str, tuple[float, float, float]], ax=None, xlabel: str | None = None
) -> plt.Axes:
    """Horizontal dots with error bars, top to bottom: label -> (value, low, high), all in the unit
    of the axis.

    Raises ValueError for no points, or one whose value is not within its interval.
    """
    if not points:
        raise ValueError("nothing to draw: points is empty")
    ax = ax or plt.subplots(figsize=(6.4, 0.9 + 0.45 * len(points)), layout="constrained")[1]
    for y, (label, (value, low, high)) in enumerate(points.items()):
        if not low <= value <= high:
            raise ValueError(
                f"{label!r}: need low <= value <= high, got value {value}, low {low}, high {high}"
            )
        ax.errorbar(
            value,
            y,
            xerr=[[value - low], [high - value]],
            fmt="o",
            markersize=7,
            capsize=4,
            linewidth=2,
            color=METHOD_COLOURS.get(label, METHOD_COLOURS["other"]),
        )
    ax.set(
        yticks=range(len(points)),
        yticklabels=list(points),
        ylim=(len(points) - 0.5, -0.5),
        xlabel=xlabel or "value and its interval",
    )
    ax.grid(False, axis="y")
    return ax
