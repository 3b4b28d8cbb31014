"""The two figures of recorded results that benchmarks write too: methods side by side, likelihood
estimators against the truth."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import pandas as pd

from dllm_rl_lite.names import unknown
from dllm_rl_lite.show import CYCLE, METHOD_COLOURS
from dllm_rl_lite.show.charts import colours, dot, list_rows

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
LINES = ["-", "--", ":"]


def comparison(rows: list[dict], log: dict[str, dict[str, list[list[dict]]]]) -> plt.Figure:
    """Methods at equal forward passes: per task its test accuracies left, its validation curves
    right.

    Bars are 95 % intervals of the mean over seeds, small crosses the worst seed; the dashed line is
    the base model.

    Args:
        rows: as `records.summary` returns them, in %.
        log: task -> what `records.curves` returns for it.
    Returns:
        The figure.
    Raises:
        ValueError: for no rows.
    """
    tasks = sorted({row["task"] for row in rows})
    if not tasks:
        raise ValueError("nothing to draw: no finished runs; start benchmarks/compare.py")
    fig, axes = plt.subplots(
        len(tasks),
        3,
        figsize=(11, 3.3 * len(tasks)),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"width_ratios": [1.15, 1, 1]},
    )
    colour_of = colours([row["method"] for row in rows] + [*itertools.chain(*log.values())])
    for (dots, passes, steps), task in zip(axes, tasks, strict=True):
        _compare_accuracies(dots, [row for row in rows if row["task"] == task], colour_of)
        dots.set_title(task, loc="left")
        for method, seeds in log.get(task, {}).items():
            mean = _mean_curve(seeds)
            look = {"color": colour_of[method], "label": method}
            passes.plot(mean["forwards"], 100 * mean["eval_accuracy"], **look)
            steps.plot(mean["step"], 100 * mean["eval_accuracy"], **look)
        passes.set(xlabel="forward passes (thousands)", ylabel="validation accuracy (%)")
        steps.set(xlabel="batches of rollouts", ylabel="validation accuracy (%)")
    handles, labels = axes[0, 1].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=min(7, len(labels) or 1))
    plt.close(fig)
    return fig


def _compare_accuracies(ax: plt.Axes, rows: list[dict], colour_of: dict[str, str]) -> None:
    """The test accuracies of the methods on one task."""
    for y, row in enumerate(rows):
        colour = colour_of[row["method"]]
        dot(ax, y, row["mean"], row["low"], row["high"], colour=colour)
        ax.plot(row["worst"], y, "x", color=colour)
    ax.axvline(rows[0]["base"], color=METHOD_COLOURS["base"], linestyle="--", linewidth=1.2)
    list_rows(ax, [row["method"] for row in rows])
    left, right = ax.get_xlim()
    ax.set(xlabel="test accuracy, greedy (%)", xlim=(max(0, left), min(100, right)))


def _mean_curve(seeds: list[list[dict]]) -> pd.DataFrame:
    """Means over seeds of step, forwards and accuracy, at the steps that all seeds evaluated."""
    table = pd.concat([pd.DataFrame(rows) for rows in seeds])
    table = table[["step", "forwards", "eval_accuracy"]].apply(pd.to_numeric).dropna()
    by_step = table.groupby("step", as_index=False)
    return by_step.mean()[by_step.size()["size"] == len(seeds)]


def estimator_map(
    rows: list[dict],
    states: list[str],
    decoder: str = "random order",
    floor: float = 1e-2,
    series: list[str] | None = None,
) -> plt.Figure:
    """Likelihood estimators by cost, bias and spread against the exact truth: one column per state
    of the model.

    Estimators whose names differ in a last number are joined to one series; a name that is new here
    gets its own colour. Bars are 95 % intervals over completions.

    Args:
        rows: as `referee.errors` yields them, with `state` and `decoder` added (`read_results` of
            results/estimators.csv).
        states: which, from left to right.
        decoder: which.
        floor: nats; a spread below it (no noise at all) is drawn at the floor.
        series: which, by the estimators' names without their last number; None: all. About seven
            can be told apart.
    Returns:
        The figure.
    Raises:
        ValueError: for a state, decoder or series without rows.
    """
    table = _chosen(rows, states, decoder, series)
    fig, axes = plt.subplots(
        2,
        len(states),
        figsize=(1.6 + 3.9 * len(states), 6.6),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    new_colours = itertools.cycle(CYCLE)
    drawn = {}  # family -> how many of its series are drawn
    for name, points in table.groupby("series", sort=False):
        family = name.split()[0]
        before = drawn.get(family, 0)
        drawn[family] = before + 1
        look = {
            "color": FAMILIES.get(family) or next(new_colours),
            "marker": MARKERS[before % len(MARKERS)],
            "markersize": 6,
            "capsize": 2,
            "linewidth": 1.1,
            "linestyle": LINES[before % len(LINES)],
            "label": name.replace("_", " "),
        }
        # Series of equal cost stand side by side.
        aside = 2 ** (0.045 * (len(drawn) - 4) + 0.02 * before)
        for (bias, spread), state in zip(axes.T, states, strict=True):
            here = points[points["state"] == state].sort_values("forwards", kind="stable")
            x = aside * here["forwards"]
            bias.errorbar(x, here["bias"], yerr=1.96 * here["bias_se"], **look)
            spread.errorbar(x, here["sd"].clip(lower=floor), yerr=1.96 * here["sd_se"], **look)
    for (bias, spread), state in zip(axes.T, states, strict=True):
        bias.axhline(0, color="#888888", linewidth=0.8, zorder=0)
        bias.set_title(state, loc="left")
        spread.set_xlabel("forward passes a completion")
    bias, spread = axes[:, 0]
    # Biases of either sign span four orders of magnitude, and 0 is one of them.
    bias.set_ylabel("bias: mean error (nats)\nlinear within ±0.1, logarithmic beyond")
    bias.set_yscale("symlog", linthresh=0.1)
    bias.margins(y=0.08)
    spread.set_ylabel("spread: s.d. of one draw's error (nats)")
    spread.set(yscale="log", ylim=(floor / 1.5, None))
    spread.set_xscale("log", base=2)
    spread.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    fig.legend(*bias.get_legend_handles_labels(), loc="outside right center")
    plt.close(fig)
    return fig


def _chosen(
    rows: list[dict], states: list[str], decoder: str, series: list[str] | None
) -> pd.DataFrame:
    """The rows of a decoder and of some series, with the series of each; names are checked."""
    for name, wanted in [("decoder", [decoder]), ("state", states)]:
        known = {row[name] for row in rows}
        for value in wanted:
            if value not in known:
                raise ValueError(unknown(name, value, known))
    table = pd.DataFrame(rows)
    table = table[table["decoder"] == decoder]
    table["series"] = table["estimator"].str.replace(r" \d+$", "", regex=True)
    for name in series or []:
        if name not in set(table["series"]):
            raise ValueError(unknown("series", name, set(table["series"])))
    if series is not None:
        table = table[table["series"].isin(series)]
    return table
