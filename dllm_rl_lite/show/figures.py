"""Larger figures: a training run in panels, methods side by side, estimators against the truth."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt

from ..evaluation.records import with_forwards
from ..names import unknown
from .charts import CYCLE, METHOD_COLOURS, curves

PANELS = {
    "eval_accuracy": "validation accuracy (%)",
    "reward": "reward of the rollouts",
    "dead_groups": "dead groups",
    "clip_fraction": "ratios outside the clip range",
    "ratio_spread": "spread of the ratio",
    "forwards": "forward passes so far (thousands)",
}


def panels(runs: dict[str, list[list[dict]]], columns: list[str] | None = None):
    """One small chart per log column: accuracy, reward, dead groups, clip fraction, spread of the
    ratio, forward passes.

    runs: label -> one list of log rows (`TrainResult.rows`, `records.curves`) per seed. columns:
    others in place of those. Columns that no run has are left out. Returns the figure. Raises
    ValueError for no runs, or no known column.
    """
    runs = {label: [with_forwards(rows) for rows in seeds] for label, seeds in runs.items()}
    found = {
        k
        for seeds in runs.values()
        for rows in seeds
        for row in rows
        for k, v in row.items()
        if v not in (None, "")
    }
    columns = [c for c in columns or PANELS if c in found]
    if not columns:
        raise ValueError("nothing to draw: no run has any of the columns")
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    fig, axes = plt.subplots(
        down, across, figsize=(3.7 * across, 2.8 * down + 0.3), squeeze=False, layout="constrained"
    )
    for ax, column in zip(axes.flat, columns, strict=False):
        curves(
            runs,
            column,
            ax=ax,
            percent=column == "eval_accuracy",
            ylabel="",
            title=PANELS.get(column, column),
        )
        ax.get_legend().remove()
    for ax in axes.flat[len(columns) :]:
        ax.set_visible(False)
    if len(runs) > 1 or any(len(seeds) > 1 for seeds in runs.values()):
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    plt.close(fig)
    return fig


def comparison(rows: list[dict], log: dict[str, dict[str, list[list[dict]]]]):
    """Methods at equal forward passes: one row of charts a task, its test accuracies left, its
    validation curves right.

    rows: as `records.summary` returns them, in %. log: task -> what `records.curves` returns for
    it. Returns the figure. Bars are 95 % intervals of the mean over seeds, small crosses the worst
    seed; the dashed line is the base model.
    Raises ValueError for no rows.
    """
    tasks = sorted({r["task"] for r in rows})
    if not tasks:
        raise ValueError("nothing to draw: no finished runs; start benchmarks/compare.py")
    fig, axes = plt.subplots(
        len(tasks),
        3,
        figsize=(13, 3.6 * len(tasks)),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"width_ratios": [1.15, 1, 1]},
    )
    for (dots, spent, steps), task in zip(axes, tasks, strict=True):
        here = [r for r in rows if r["task"] == task]
        for y, r in enumerate(here):
            colour = METHOD_COLOURS.get(r["method"], METHOD_COLOURS["other"])
            error = None if r["low"] is None else [[r["mean"] - r["low"]], [r["high"] - r["mean"]]]
            dots.errorbar(
                r["mean"],
                y,
                xerr=error,
                fmt="o",
                markersize=7,
                capsize=4,
                linewidth=2,
                color=colour,
            )
            dots.plot(r["worst"], y, "x", color=colour)
        dots.axvline(here[0]["base"], color=METHOD_COLOURS["base"], linestyle="--", linewidth=1.2)
        dots.set(
            yticks=range(len(here)),
            yticklabels=[r["method"] for r in here],
            xlabel="test accuracy, greedy (%)",
            ylim=(len(here) - 0.5, -0.5),
            xlim=(max(0, dots.get_xlim()[0]), min(100, dots.get_xlim()[1])),
        )
        dots.set_title(task, loc="left")
        for ax, x, label in (
            (spent, "forwards", "forward passes (thousands)"),
            (steps, "step", "batches of rollouts"),
        ):
            for method, seeds in log.get(task, {}).items():
                mean = _mean_curve(seeds, x)
                ax.plot(
                    *zip(*mean, strict=True),
                    color=METHOD_COLOURS.get(method, METHOD_COLOURS["other"]),
                    label=method,
                )
            ax.set(xlabel=label, ylabel="validation accuracy (%)")
    handles, labels = axes[0, 1].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels) or 1)
    plt.close(fig)
    return fig


def _mean_curve(seeds: list[list[dict]], x: str) -> list[tuple[float, float]]:
    """Mean over seeds of x and accuracy in %, at the steps that all seeds evaluated."""
    by_step = [
        {r["step"]: r for r in rows if r.get("eval_accuracy") not in (None, "")} for rows in seeds
    ]
    shared = sorted(set(by_step[0]).intersection(*by_step[1:]))
    return [
        (
            sum(s[k][x] for s in by_step) / len(seeds),
            sum(100 * s[k]["eval_accuracy"] for s in by_step) / len(seeds),
        )
        for k in shared
    ]


FAMILIES = {
    "one_step": "#D55E00",
    "random_masks": "#56B4E9",
    "coupled": "#CC79A7",
    "quadrature": "#E69F00",
    "complement_pairs": "#6B6B6B",
    "visited_steps": "#0072B2",
    "all_steps": "#000000",
    "left_to_right": "#009E73",
}
MARKERS = "osD^v<>P"


def estimator_map(
    rows: list[dict], states: list[str], decoder: str = "random order", floor: float = 1e-2
):
    """Likelihood estimators by cost, bias and spread against the exact truth: one column a state of
    the model.

    rows: as `referee.errors` yields them, with `state` and `decoder` added (`read_results` of
    results/estimators.csv). Estimators whose names differ in a last number are joined to one
    series; a name that is new here gets its own colour. Bars are 95 % intervals over texts. A
    spread below `floor` nats (no noise at all) is drawn at the floor. Returns the figure. Raises
    ValueError for a state or decoder without rows.
    """
    for name, wanted in [("decoder", [decoder]), ("state", states)]:
        known = {r[name] for r in rows}
        for value in wanted:
            if value not in known:
                raise ValueError(unknown(name, value, known))
    fig, axes = plt.subplots(
        2,
        len(states),
        figsize=(1.6 + 3.9 * len(states), 6.6),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    series = {}
    for r in rows:
        if r["decoder"] == decoder:
            series.setdefault(re.sub(r" \d+$", "", str(r["estimator"])), []).append(r)
    free, used = iter(CYCLE * 9), {}
    for name, points in series.items():
        family = name.split()[0]
        colour = FAMILIES.get(family) or next(free)
        used[family] = used.get(family, -1) + 1
        look = dict(
            color=colour,
            marker=MARKERS[used[family] % len(MARKERS)],
            markersize=6,
            capsize=2,
            linewidth=1.1,
            linestyle=["-", "--", ":"][used[family] % 3],
            label=name.replace("_", " "),
        )
        aside = 2 ** (
            0.045 * (len(used) - 4) + 0.02 * used[family]
        )  # so that equal costs do not hide each other
        for column, state in enumerate(states):
            here = sorted((p for p in points if p["state"] == state), key=lambda p: p["forwards"])
            x = [aside * p["forwards"] for p in here]
            axes[0, column].errorbar(
                x, [p["bias"] for p in here], yerr=[1.96 * p["bias_se"] for p in here], **look
            )
            axes[1, column].errorbar(
                x,
                [max(p["sd"], floor) for p in here],
                yerr=[1.96 * p["sd_se"] for p in here],
                **look,
            )
    for column, state in enumerate(states):
        axes[0, column].axhline(0, color="#888888", linewidth=0.8, zorder=0)
        axes[0, column].set_title(state, loc="left")
        axes[1, column].set_xlabel("forward passes a text")
    axes[0, 0].set_ylabel("bias: mean error (nats)")
    axes[0, 0].set_yscale("symlog", linthresh=0.1)
    axes[0, 0].margins(y=0.08)
    axes[1, 0].set(
        yscale="log", ylabel="spread: s.d. of one draw's error (nats)", ylim=(floor / 1.5, None)
    )
    axes[1, 0].set_xscale("log", base=2)
    axes[1, 0].xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    plt.close(fig)
    return fig
