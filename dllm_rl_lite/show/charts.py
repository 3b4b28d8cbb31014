"""Learning curves with intervals, and dots with error bars."""

from __future__ import annotations

from collections.abc import Iterable

import matplotlib.pyplot as plt

from ..evaluation import t_interval
from ..names import unknown

# Okabe and Ito's, colour-blind safe
CYCLE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
# The colours of what this course publishes; any other label takes one of CYCLE.
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
}
OTHER = "#009E73"  # of dots that are no method's


def colours(labels: Iterable[str]) -> dict[str, str]:
    """label -> colour: a known method's own, for others the next one of CYCLE that is free."""
    labels = dict.fromkeys(labels)
    own = {label: METHOD_COLOURS[label] for label in labels if label in METHOD_COLOURS}
    free = [colour for colour in CYCLE if colour not in own.values()] or CYCLE
    others = [label for label in labels if label not in own]
    return own | {label: free[i % len(free)] for i, label in enumerate(others)}


def curves(
    runs: dict[str, list[list[dict]]],
    column: str,
    x: str = "step",
    ax: plt.Axes | None = None,
    ylabel: str | None = None,
    percent: bool = False,
    title: str = "",
) -> plt.Axes:
    """Learning curves: each seed thin, their mean thick, a 95 % interval as a band.

    With two seeds or more the band is Student's t interval of the mean over seeds, at the x that
    all seeds have. A single run has a band only for "eval_accuracy": its eval_low and eval_high,
    over problems. A band much taller than the curves runs off the picture.

    Args:
        runs: label -> one list of log rows per seed; rows without a value (None, "", missing) are
            skipped.
        column: name of the log column to draw.
        x: name of the log column to draw it over.
        ax: where to draw; None: a new figure.
        ylabel: None: the name of the column.
        percent: show 100 times the value.
        title: stands above the axes.
    Returns:
        The axes.
    Raises:
        ValueError: for no runs, a run without values, or seeds that share no x.
    """
    if not runs or not all(runs.values()):
        raise ValueError("nothing to draw: runs must map each label to a list of at least one run")
    ax = ax or plt.subplots(layout="constrained")[1]
    colour_of = colours(runs)
    scale = 100 if percent else 1
    banded = set()  # what the bands are over
    for label, seeds in runs.items():
        colour = colour_of[label]
        points = [_points(label, rows, column, x, scale) for rows in seeds]
        name = label
        mean = points[0]
        band = {}
        if len(seeds) > 1:
            for seed in points:
                ax.plot(list(seed), list(seed.values()), color=colour, linewidth=0.7, alpha=0.5)
            mean, band = _over_seeds(label, points, x)
            name = f"{label} (mean of {len(seeds)} seeds)"
            banded.add("seeds")
        elif column == "eval_accuracy":
            band = _over_problems(seeds[0], x, scale)
            banded |= {"problems"} if band else set()
        style = {"linewidth": 2.2, "markersize": 4, "marker": "o" if len(mean) < 25 else None}
        ax.plot(list(mean), list(mean.values()), color=colour, label=name, **style)
        if band:
            low, high = zip(*band.values(), strict=True)
            ax.fill_between(list(band), low, high, color=colour, alpha=0.18, linewidth=0)
    _limit_view(ax, percent)
    if ylabel is None:
        ylabel = column.replace("_", " ") + (" (%)" if percent else "")
    ax.set(xlabel=x.replace("_", " "), ylabel=ylabel)
    ax.set_title(title, loc="left")
    over = " or ".join(sorted(banded))
    ax.legend(title=f"band: 95 % interval over {over}" if over else None)
    return ax


def _points(label: str, rows: list[dict], column: str, x: str, scale: float) -> dict[float, float]:
    """x -> scale * value of the rows that have both, by x."""
    points = {float(row[x]): scale * float(row[column]) for row in with_values(rows, x, column)}
    if not points:
        known = {name for row in rows for name in row if with_values([row], name)}
        wanted = x if column in known and x not in known else column
        raise ValueError(f"no row of {label!r} has a value: " + unknown("column", wanted, known))
    return dict(sorted(points.items()))


def with_values(rows: list[dict], *columns: str) -> list[dict]:
    """The rows that have a value in each of these columns."""
    return [row for row in rows if all(row.get(name) not in (None, "") for name in columns)]


def _over_seeds(label: str, points: list[dict[float, float]], x: str) -> tuple[dict, dict]:
    """x -> mean, and x -> (low, high) of its interval, at each x that all seeds have."""
    means = {}
    band = {}
    for at in points[0]:
        if all(at in seed for seed in points):
            mean, half = t_interval([seed[at] for seed in points])
            means[at] = mean
            band[at] = (mean - half, mean + half)
    if not means:
        raise ValueError(f"the seeds of {label!r} share no value of {x!r}, so they have no mean")
    return means, band


def _over_problems(rows: list[dict], x: str, scale: float) -> dict[float, tuple[float, float]]:
    """x -> (low, high) of an evaluation."""
    band = {}
    for row in with_values(rows, x, "eval_accuracy", "eval_low", "eval_high"):
        band[float(row[x])] = (scale * float(row["eval_low"]), scale * float(row["eval_high"]))
    return band


def _limit_view(ax: plt.Axes, percent: bool) -> None:
    """Show at most half of the curves' height above and below them, and no share beyond 0 and
    100."""
    values = [value for line in ax.lines for value in line.get_ydata()]
    low = min(values)
    high = max(values)
    room = (high - low) / 2 or max(abs(high), 1.0)
    bottom, top = ax.get_ylim()
    bottom = max(bottom, low - room)
    top = min(top, high + room)
    if percent:
        bottom = max(bottom, -2)
        top = min(top, 102)
    ax.set_ylim(bottom, top)


def intervals(
    points: dict[str, tuple[float, float, float]],
    ax: plt.Axes | None = None,
    xlabel: str = "value and its interval",
) -> plt.Axes:
    """Horizontal dots with error bars, top to bottom.

    Args:
        points: label -> (value, low, high), all in the unit of the axis.
        ax: where to draw; None: a new figure.
        xlabel: stands below the axis.
    Returns:
        The axes.
    Raises:
        ValueError: for no points, or one whose value is not within its interval.
    """
    if not points:
        raise ValueError("nothing to draw: points is empty")
    ax = ax or plt.subplots(figsize=(6.4, 0.9 + 0.45 * len(points)), layout="constrained")[1]
    for y, (label, (value, low, high)) in enumerate(points.items()):
        if not low <= value <= high:
            raise ValueError(
                f"{label!r}: need low <= value <= high, got value {value}, low {low}, high {high}"
            )
        dot(ax, y, value, low, high, colour=METHOD_COLOURS.get(label, OTHER))
    list_rows(ax, points)
    ax.set_xlabel(xlabel)
    ax.grid(False, axis="y")
    return ax


def dot(
    ax: plt.Axes, y: float, value: float, low: float | None, high: float | None, colour: str
) -> None:
    """A horizontal dot, with an error bar if it has an interval."""
    error = None if low is None else [[value - low], [high - value]]
    look = {"fmt": "o", "markersize": 7, "capsize": 4, "linewidth": 2, "color": colour}
    ax.errorbar(value, y, xerr=error, **look)


def list_rows(ax: plt.Axes, labels: Iterable[str]) -> None:
    """Name the rows of dots, the first on top."""
    labels = list(labels)
    ax.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.5, -0.5))
