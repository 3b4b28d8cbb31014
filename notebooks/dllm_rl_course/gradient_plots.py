"""The figures of *Policy gradient from nothing*. Each function returns a closed figure, so that a
cell whose last line calls it displays it once."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch

from dllm_rl_lite import show


def climb(
    chances: list[dict[str, float]], watched: list[str], problem: str, answers: list[torch.Tensor]
) -> plt.Figure:
    """Exact chances along the nudges, and one problem's answers before and after.

    Args:
        chances: after each nudge, problem -> chance of being right.
        watched: problems whose gradient was never followed.
        problem: whose answers are shown.
        answers: its ten answers' probabilities, before and after.
    """
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for name in chances[0]:
        style, label = ("--", f"{name} (never nudged)") if name in watched else ("-", name)
        axes[0].plot([row[name] for row in chances], style, label=label)
    axes[0].set(xlabel="gradient steps", ylabel="exact chance of being right", ylim=(0, 1.02))
    axes[0].set_xticks(range(0, len(chances), 5))
    axes[0].legend()
    for i, name in enumerate(("before", "after")):
        axes[1].bar(torch.arange(10) + 0.4 * i - 0.2, answers[i], 0.4, label=name)
    axes[1].set(xticks=range(10), xlabel=f"answer to {problem}", ylabel="exact probability")
    axes[1].legend()
    plt.close(fig)
    return fig


def baselines(
    b: torch.Tensor, spread: torch.Tensor, marks: dict[str, tuple[float, float]]
) -> plt.Figure:
    """Spread of one rollout's term over the baseline, with named points on the curve.

    Args:
        b: constant baselines.
        spread: one standard deviation for each.
        marks: name -> (baseline, spread).
    """
    fig, ax = plt.subplots(figsize=(6.4, 3.3), layout="constrained")
    ax.plot(b, spread)
    for name, point in marks.items():
        ax.plot(*point, "o", color="#D55E00")
        ax.annotate(name, point, (5, 8), textcoords="offset points")
    ylabel = "spread of one rollout's term\n(exact gradient's norm = 1)"
    ax.set(xlabel="constant baseline b", ylabel=ylabel, ylim=(0, None))
    plt.close(fig)
    return fig


def referee(rows: list[dict], title: str) -> plt.Figure:
    """Direction, length and noise of each estimator's gradient, with 95 % intervals.

    Args:
        rows: one an estimator, as the notebook's `judge` makes them.
        title: stands above the first panel.
    """
    fig, axes = plt.subplots(1, 3, figsize=(9.6, 4.2), layout="constrained", sharey=True)
    panels = {
        "cosine": ("cosine_se", "cosine of the expected gradient"),
        "norm": ("norm_se", "its norm (exact = 1)"),
        "batch_cosine": ("batch_se", "cosine of one batch"),
    }
    for ax, (key, (error, label)) in zip(axes, panels.items(), strict=True):
        for y, row in enumerate(rows):
            colour = "#0072B2" if "_steps" in row["estimator"] else "#D55E00"
            style = {"fmt": "o", "color": colour, "capsize": 3, "markersize": 5}
            ax.errorbar(row[key], y, xerr=1.96 * row[error], **style)
        ax.axvline(1, color="black", linewidth=1)
        ax.set(xlabel=label, yticks=range(len(rows)), ylim=(len(rows) - 0.5, -0.5))
        ax.set_yticklabels([f"{row['estimator']} ({row['views']})" for row in rows])
    axes[0].set_title(f"{title}; blue: the visited steps", loc="left")
    plt.close(fig)
    return fig


def tokens_alone(measured: list[dict]) -> plt.Figure:
    """Length and direction of the token-only gradient, over J; a line as computed by hand.

    Args:
        measured: one a problem: "problem", "J", "norm ratio" and "cosine".
    """
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    q = torch.linspace(0.05, 0.97, 300)
    chance = torch.where(q < 0.5, q**2, 1 - (1 - q) ** 2)
    ratio = torch.where(q < 0.5, 0.5, (2 - q) / (2 * (1 - q)))
    by_hand = "two tied blanks, by hand"
    axes[0].plot(chance[q < 0.5], ratio[q < 0.5], color="black", linewidth=1)
    axes[0].plot(chance[q > 0.5], ratio[q > 0.5], color="black", linewidth=1, label=by_hand)
    for size, name in ((3, "one sum"), (5, "two sums")):
        part = [row for row in measured if len(row["problem"]) == size]
        for ax, key in zip(axes, ("norm ratio", "cosine"), strict=True):
            y = [row[key] for row in part]
            ax.plot([row["J"] for row in part], y, "o", label=name, alpha=0.75)
    axes[0].set(ylabel="norm, tokens alone / exact", ylim=(0, 3))
    axes[1].set(ylabel="cosine, tokens alone and exact", ylim=(-0.1, 1.05))
    for ax in axes:
        ax.set(xlabel="exact chance of being right, confidence order", xlim=(0, 1))
    axes[0].legend()
    plt.close(fig)
    return fig


def trained(
    several: dict[str, list[list[float]]], alone: dict[str, list[float]], race: str
) -> plt.Figure:
    """Exact chances while both gradients are followed.

    Args:
        several: gradient -> one curve for each set of problems.
        alone: gradient -> the curve of a single problem.
        race: that problem.
    """
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.7), layout="constrained")
    for name, colour in zip(several, show.CYCLE, strict=False):
        curves = several[name]
        for curve in curves:
            axes[0].plot(curve, color=colour, linewidth=0.7, alpha=0.6)
        mean = [sum(values) / len(curves) for values in zip(*curves, strict=True)]
        label = f"{name}, mean of {len(curves)} sets"
        axes[0].plot(mean, color=colour, linewidth=2.6, label=label)
    axes[0].set_title("one sum, 3 problems together", loc="left")
    axes[0].set_ylabel("exact chance of being right,\nconfidence order")
    for name, curve in alone.items():
        axes[1].plot(curve, marker="o", markersize=4, label=name)
    axes[1].set_title(f"{race} alone", loc="left")
    axes[1].set_xticks(range(0, len(curve), 5))
    for ax in axes:
        ax.set(ylim=(0, 1.02), xlabel="step")
        ax.legend(loc="lower right")
    plt.close(fig)
    return fig
