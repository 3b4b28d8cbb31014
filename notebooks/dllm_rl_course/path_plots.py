"""The figures of *Every path, counted*. Each function returns a closed figure, so that a cell whose
last line calls it displays it once."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch

BLUE = "#0072B2"
KINDS = {"right": "#009E73", "habit": "#D55E00", "contradiction": "#CC79A7"}


def paths(drawn: dict[str, torch.Tensor], truth: dict[str, float]) -> plt.Figure:
    """The summed log-probability along some paths of each completion, and the exact one.

    Args:
        drawn: completion -> (paths, L) log-probability of what each path has written so far.
        truth: completion -> its exact log-probability.
    """
    fig, axes = plt.subplots(1, len(drawn), figsize=(9.4, 3.8), layout="constrained")
    for ax, (name, lines) in zip(axes, drawn.items(), strict=True):
        for line in lines.tolist():
            ax.plot([0, *line], color=BLUE, alpha=0.35, linewidth=1)
        label = f"log p of the completion: {truth[name]:.2f}"
        ax.axhline(truth[name], color="black", linestyle="--", label=label)
        ax.plot([], [], color=BLUE, label=f"{len(lines)} paths")
        ax.set(xlabel="tokens written so far", ylabel="log-probability (nats)")
        ax.set_ylim(1.35 * float(lines.min()), None)
        ax.set_title(name, loc="left", fontsize=11)
        ax.legend(loc="lower left")
    plt.close(fig)
    return fig


def decoders(shares: dict[str, list[dict]]) -> plt.Figure:
    """What each decoder writes, problem by problem, and the mean.

    Args:
        shares: decoder -> for each problem the probability of each of `KINDS`.
    """
    fig, axes = plt.subplots(1, 3, figsize=(9.8, 4.2), layout="constrained", sharey=True)
    for ax, (kind, colour) in zip(axes, KINDS.items(), strict=True):
        for y, rows in enumerate(shares.values()):
            x = [100 * row[kind] for row in rows]
            ax.plot(x, [y] * len(x), "o", color=colour, alpha=0.55)
            ax.plot(sum(x) / len(x), y, "k|", markersize=13)
        ax.set(xlabel=f"{kind} (% of completions)", xlim=(-4, 100))
    axes[0].set(yticks=range(len(shares)), yticklabels=list(shares))
    axes[0].invert_yaxis()
    axes[0].set_title("exact: each problem (dots), mean (bar)", loc="left", fontsize=11)
    plt.close(fig)
    return fig


def gaps(found: dict[tuple[str, str], list[float]]) -> plt.Figure:
    """log p minus ELBO over the length of the canvas.

    Args:
        found: (model, completion) -> the gap at each length, from 1.
    """
    models = list(dict.fromkeys(model for model, _ in found))
    fig, axes = plt.subplots(1, len(models), figsize=(9.4, 3.8), layout="constrained")
    for ax, model in zip(axes, models, strict=True):
        lines = {name: gap for (which, name), gap in found.items() if which == model}
        for (name, gap), marker in zip(lines.items(), "os^", strict=True):
            length = range(1, len(gap) + 1)
            ax.plot(length, gap, marker=marker, label=name, alpha=0.8)
        ax.set(xlabel="canvas length L (tokens)", ylabel="log p minus ELBO (nats)", xticks=length)
        ax.set_title(f"{model} model: first L tokens of a completion", loc="left", fontsize=11)
    axes[0].legend()
    plt.close(fig)
    return fig


def two_sides(rows: list[dict], sampled: list[tuple[float, torch.Tensor]]) -> plt.Figure:
    """Scores minus log p: random orders lie below 0, visited paths above.

    Args:
        rows: one a completion: "log p", "ELBO" and "visited", in nats.
        sampled: (log p, the sampler's own scores) of each completion that it drew often.
    """
    fig, ax = plt.subplots(figsize=(7.6, 4), layout="constrained")
    logp = [row["log p"] for row in rows]
    above = [row["visited"] - row["log p"] for row in rows]
    below = [row["ELBO"] - row["log p"] for row in rows]
    ax.plot(logp, above, "o", label="visited paths: exact mean")
    x = [place for place, _ in sampled]
    y = [float(score.mean()) - place for place, score in sampled]
    error = [2 * float(score.std()) / len(score) ** 0.5 for _, score in sampled]
    ax.errorbar(x, y, error, fmt="k_", linewidth=1, label="the sampler's own, 2 SE")
    ax.plot(logp, below, "s", label="orders at random (ELBO)")
    ax.axhline(0, color="black", linewidth=1)
    ax.set(xlabel="log p of the completion (nats)", ylabel="score minus log p (nats)")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    plt.close(fig)
    return fig


def jumps(logits: list[float], reward: dict[str, list[float]]) -> plt.Figure:
    """Expected reward over one logit, for each order: the confidence order jumps."""
    fig, ax = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
    for order, y in reward.items():
        ax.plot(logits, y, ".", markersize=4, label=f"{order} order")
    ax.set(xlabel="logit of B at blank 0 on the empty canvas", ylabel="expected reward")
    ax.legend()
    plt.close(fig)
    return fig


def best_policies(
    shares: dict[str, dict[str, float]], reward: dict[float, float], value: dict[float, float],
    base: float,
) -> plt.Figure:  # fmt: skip
    """What the best policy under each KL penalty writes, and what it earns.

    Args:
        shares: policy -> kind of completion -> its probability.
        reward: beta -> expected reward.
        value: beta -> expected reward minus the penalty.
        base: expected reward of the reference.
    """
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    bottom = [0.0] * len(shares)
    kinds = list(next(iter(shares.values())))
    for kind, colour in zip(kinds, ("#009E73", "#CC79A7", "#D55E00"), strict=True):
        height = [100 * row[kind] for row in shares.values()]
        axes[0].bar(list(shares), height, bottom=bottom, label=kind, color=colour)
        bottom = [a + b for a, b in zip(bottom, height, strict=True)]
    axes[0].set(xlabel="beta", ylabel="% of completions", ylim=(0, 135))
    axes[0].set_yticks(range(0, 101, 20))
    axes[0].legend(loc="upper center", ncols=2, fontsize=9)
    axes[1].plot(list(reward), list(reward.values()), "o-", label="expected reward")
    axes[1].plot(list(value), list(value.values()), "s-", label="value, beta log Z")
    axes[1].axhline(base, color="black", linewidth=1, label="expected reward of base")
    axes[1].set(xlabel="beta", xscale="log", ylim=(0, 1.05), ylabel="reward")
    axes[1].legend(fontsize=9)
    plt.close(fig)
    return fig
