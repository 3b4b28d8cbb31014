"""Learning curves with intervals, a training run in panels, dots with error bars."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import MaxNLocator

from ..evaluation import t_interval
from ..evaluation.records import with_forwards
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
    found = {label: METHOD_COLOURS.get(label) for label in labels}
    free = itertools.cycle([c for c in CYCLE if c not in found.values()] or CYCLE)
    return {label: colour or next(free) for label, colour in found.items()}


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

    With two seeds or more the band is Student's t interval of the mean over seeds, at the steps
    that all seeds have (and at the mean of their x, where x is something else). A single run has a
    band only for "eval_accuracy": its eval_low and eval_high, over problems. No band is cut off,
    except where a share would be below 0 or above 100 %.

    Args:
        runs: label -> one list of log rows per seed; rows without a value (None, "", missing) are
            skipped.
        column: name of the log column to draw.
        x: name of the log column to draw it over.
        ax: where to draw; None: a new figure.
        ylabel: None: the name of the column.
        percent: show 100 times the value.
        title: stands above the axes.
    Raises:
        ValueError: for no runs, a run without values, or seeds that share no step.
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
        line = points[0]
        name = label
        if len(seeds) > 1:
            for seed in points:
                ax.plot(seed["x"], seed["mean"], color=colour, linewidth=0.7, alpha=0.5)
            line = _over_seeds(label, points)
            name = f"{label} (mean of {len(seeds)} seeds)"
        style = {"linewidth": 2.2, "markersize": 4, "marker": "o" if len(line) < 25 else None}
        ax.plot(line["x"], line["mean"], color=colour, label=name, **style)
        band = line.dropna()
        if "low" in band and len(band):
            ax.fill_between(
                band["x"], band["low"], band["high"], color=colour, alpha=0.18, linewidth=0
            )
            banded.add("seeds" if len(seeds) > 1 else "problems")
    _limit_view(ax, percent)
    if x == "step":
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    if ylabel is None:
        ylabel = column.replace("_", " ") + (" (%)" if percent else "")
    ax.set(xlabel=x.replace("_", " "), ylabel=ylabel)
    ax.set_title(title, loc="left")
    over = " or ".join(sorted(banded))
    ax.legend(title=f"band: 95 % interval over {over}" if over else None)
    return ax


def _points(label: str, rows: list[dict], column: str, x: str, scale: float) -> pd.DataFrame:
    """The rows that have a value, by step: `x`, `mean`, the value times scale, and for an
    evaluation `low` and `high`."""
    log = pd.DataFrame(rows)
    by = "step" if "step" in log else x
    names = {"mean": column}
    if column == "eval_accuracy":
        names |= {"low": "eval_low", "high": "eval_high"}
    log = log.reindex(columns=dict.fromkeys([by, x, *names.values()])).apply(pd.to_numeric)
    log = log.dropna(subset=[by, x, column]).drop_duplicates(by, keep="last")
    if log.empty:
        known = {name for row in rows for name in row if row[name] not in (None, "")}
        wanted = x if column in known and x not in known else column
        raise ValueError(f"no row of {label!r} has a value: " + unknown("column", wanted, known))
    log = log.set_index(by, drop=False).sort_index()
    scaled = {name: scale * log[source] for name, source in names.items()}
    return pd.DataFrame({"x": log[x], **scaled})


def _over_seeds(label: str, seeds: list[pd.DataFrame]) -> pd.DataFrame:
    """Mean and interval over seeds, at each step that all of them have."""
    shared = pd.concat([seed["mean"] for seed in seeds], axis=1, join="inner")
    if shared.empty:
        by = seeds[0].index.name
        raise ValueError(f"the seeds of {label!r} share no value of {by!r}, so they have no mean")
    found = [t_interval(values) for values in shared.to_numpy().tolist()]
    table = pd.DataFrame(found, index=shared.index, columns=["mean", "half"])
    where = pd.concat([seed["x"] for seed in seeds], axis=1, join="inner").mean(axis=1)
    return table.assign(
        x=where, low=table["mean"] - table["half"], high=table["mean"] + table["half"]
    )


def _limit_view(ax: plt.Axes, percent: bool) -> None:
    """Show no share beyond 0 and 100, and what is 0 throughout at the bottom."""
    if percent:
        bottom, top = ax.get_ylim()
        ax.set_ylim(max(bottom, -2), min(top, 102))
    elif all(value == 0 for line in ax.lines for value in line.get_ydata()):
        ax.set_ylim(-0.05, 1)


PANELS = {
    "eval_accuracy": "validation accuracy (%)",
    "reward": "reward of the rollouts",
    "dead_groups": "dead groups",
    "clip_fraction": "ratios outside the clip range",
    "ratio_spread": "spread of the ratio",
    "forwards": "forward passes (thousands)",
}
TITLES = PANELS | {
    "reward_free": "reward, answer-free rows",
    "reward_guided": "reward, answer-guided rows",
    "dead_free_wrong": "answer-free groups all wrong",
    "logprob_free": "log-prob. a token, answer-free",
    "logprob_guided": "log-prob. a token, answer-guided",
    "steps_row": "forward passes a rollout",
    "entropy": "entropy when unmasked (nats)",
    "grad_norm": "gradient norm",
}


def panels(runs: dict[str, list[list[dict]]], columns: list[str] | None = None) -> plt.Figure:
    """One small chart per log column: accuracy, reward, dead groups, clip fraction, spread of the
    ratio, forward passes.

    Args:
        runs: label -> one list of log rows (`TrainResult.rows`, `records.curves`) per seed.
        columns: others in place of those. Columns that no run has are left out.
    Raises:
        ValueError: for no runs, or no known column.
    """
    runs = {label: [with_forwards(rows) for rows in seeds] for label, seeds in runs.items()}
    every_row = [row for seeds in runs.values() for rows in seeds for row in rows]
    found = {name for row in every_row for name in row if row[name] not in (None, "")}
    columns = [name for name in columns or PANELS if name in found]
    if not columns:
        raise ValueError("nothing to draw: no run has any of the columns")
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    # Ten inches are as wide as a notebook shows without scaling down.
    size = (3.3 * across, 2.5 * down + 0.3)
    fig, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for ax, column in zip(axes.flat, columns, strict=False):
        percent = column == "eval_accuracy"
        title = TITLES.get(column, column)
        curves(runs, column, ax=ax, percent=percent, ylabel="", title=title)
        ax.get_legend().remove()
    for ax in axes.flat[len(columns) :]:
        ax.set_visible(False)
    if len(runs) > 1 or any(len(seeds) > 1 for seeds in runs.values()):
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    plt.close(fig)
    return fig


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
    list_rows(ax, list(points))
    ax.set_xlabel(xlabel)
    ax.grid(False, axis="y")
    return ax


def dot(
    ax: plt.Axes, y: float, value: float, low: float | None, high: float | None, colour: str
) -> None:
    """A horizontal dot, with an error bar if it has an interval."""
    error = None if low is None else [[value - low], [high - value]]
    ax.errorbar(value, y, xerr=error, fmt="o", markersize=7, capsize=4, linewidth=2, color=colour)


def list_rows(ax: plt.Axes, labels: list[str]) -> None:
    """Name the rows of dots, the first on top."""
    ax.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.5, -0.5))
