"""The figures of *GRPO, piece by piece*. Each function returns a closed figure, so that a cell
whose last line calls it displays it once."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch

from dllm_rl_lite import show
from dllm_rl_lite.evaluation import t_interval

BLUE = "#0072B2"
ORANGE = "#D55E00"
GREY = "#999999"


def group_advantages(values: dict[str, torch.Tensor]) -> plt.Figure:
    """Some groups under each rule, as numbers on colours.

    Args:
        values: "reward" first, then each rule -> (groups, G); one group with each number of right
            completions is shown.
    """
    right = values["reward"].sum(1)
    size = values["reward"].shape[1]
    shown = [k for k in (0, 1, 2, 4, size - 1, size) if (right == k).any()]
    groups = [int((right == k).nonzero()[0]) for k in shown]
    fig, axes = plt.subplots(1, len(values), figsize=(9.2, 2.4), layout="constrained")
    for ax, (name, table) in zip(axes, values.items(), strict=True):
        top = 2.5 if name == "z_score" else 1
        digits = 0 if name == "reward" else 1
        ax.imshow(table[groups], cmap="RdBu", vmin=-top, vmax=top, aspect="auto")
        for y, row in enumerate(table[groups].tolist()):
            for x, v in enumerate(row):
                look = {"ha": "center", "va": "center", "fontsize": 8}
                colour = "white" if abs(v) > 0.65 * top else "black"
                ax.text(x, y, f"{v:.{digits}f}", color=colour, **look)
        labels = [f"{k} right" for k in shown] if name == "reward" else [""] * len(shown)
        ax.set_yticks(range(len(shown)), labels)
        ax.set(xlabel="completion of the group", xticks=range(size))
        ax.set_title(name, loc="left")
        ax.grid(False)
    plt.close(fig)
    return fig


def advantage_rules(
    sizes: dict[str, list[float]], strength: dict[str, torch.Tensor], p_right: torch.Tensor
) -> plt.Figure:
    """How large a group's advantages are, and the expected gradient over the true one.

    Args:
        sizes: rule -> sum of |A| with 0, 1 .. G right completions.
        strength: rule -> the ratio of the gradients at each chance of `p_right`.
        p_right: chances that a completion is right.
    """
    fig, axes = plt.subplots(1, 2, figsize=(7.8, 2.8), layout="constrained")
    for name, size in sizes.items():
        axes[0].plot(size, marker="o", label=name)
        axes[1].plot(100 * p_right, strength[name], label=name)
    axes[0].set(xlabel=f"right completions of {len(size) - 1}", ylabel="sum of |A| over the group")
    axes[0].set_title("size of a group's advantages", loc="left")
    axes[1].set(xlabel="chance that a completion is right (%)", ylim=(0, None))
    axes[1].set_ylabel("expected / true gradient")
    axes[1].set_title("exact, all groups enumerated", loc="left")
    axes[0].legend(fontsize=9)
    plt.close(fig)
    return fig


def after_the_first_update(
    ratios: dict[int, torch.Tensor],
    shares: dict[str, list[list[float]]],
    angles: dict[str, list[list[float]]],
    clip: float,
) -> plt.Figure:
    """Ratios of tokens, the clipped share, and how far the rules part.

    Args:
        ratios: inner update -> the ratios of all tokens.
        shares: rule -> inner update -> clipped share of each batch, in %.
        angles: rule -> inner update -> cosine of each batch with the token rule.
        clip: the ratio counts within 1 - clip .. 1 + clip.
    """
    fig, axes = plt.subplots(1, 3, figsize=(9.8, 3.2), layout="constrained")
    bins = torch.logspace(-0.5, 0.5, 61)
    for (u, values), shade in zip(ratios.items(), ("#9ecae1", "#4292c6", "#08306b"), strict=True):
        label = f"{u} update{'s' * (u > 1)}"
        axes[0].hist(values, bins, histtype="step", lw=1.6, color=shade, label=label)
    axes[0].axvspan(1 - clip, 1 + clip, color="#EEEEEE", zorder=0)
    axes[0].set(yscale="log", xlabel="ratio of a token", xlim=(0.3, 2.2), ylabel="tokens")
    colours = dict(zip(angles, show.CYCLE, strict=False))
    for ax, data, unit in (
        (axes[1], shares, "clipped share (%)"),
        (axes[2], angles, "cosine with the token rule"),
    ):
        for i, (name, lists) in enumerate(data.items()):
            mean, half = zip(*[t_interval(values) for values in lists], strict=True)
            x = [u + 0.07 * (i - 2) for u in range(len(lists))]
            style = {"marker": "o", "ms": 4, "capsize": 2, "color": colours[name]}
            ax.errorbar(x, mean, half, label=name, **style)
        ax.set(xlabel="inner updates so far", ylabel=unit)
    axes[0].legend(fontsize=8.5)
    axes[2].legend(fontsize=8.5)
    axes[2].set_ylim(-1.25, 1.25)
    plt.close(fig)
    return fig


def clipping(
    ratio: torch.Tensor,
    loss: dict[float, torch.Tensor],
    tokens: tuple[torch.Tensor, torch.Tensor],
    clip: float,
) -> plt.Figure:
    """The four quadrants of the clip, and where real tokens lie.

    Args:
        ratio: of a token.
        loss: advantage, 1 or -1 -> loss at each ratio.
        tokens: (ratios, advantages) of real tokens.
        clip: the ratio counts within 1 - clip .. 1 + clip.
    """
    fig, axes = plt.subplots(1, 3, figsize=(9.4, 2.9), layout="constrained")
    for ax, (sign, line) in zip(axes, loss.items(), strict=False):
        flat = (ratio - 1) * sign > clip
        ax.plot(ratio, -ratio * sign, ":", color=GREY, label="without clip")
        ax.plot(ratio[~flat], line[~flat], color=BLUE, label="gradient")
        ax.plot(ratio[flat], line[flat], color=ORANGE, lw=3, label="no gradient")
        ax.set(ylabel="loss of the token", title=f"A = {sign:+.0f}")
    axes[0].legend(fontsize=9)
    real, A = tokens
    flat = (real - 1) * A.sign() > clip
    for where, colour in ((~flat, BLUE), (flat, ORANGE)):
        axes[2].plot(real[where], A[where], ".", ms=3, color=colour)
    axes[2].set(ylabel="A", xlim=(0, 2), title="real tokens, last update")
    for ax in axes:
        ax.axvspan(1 - clip, 1 + clip, color="#EEEEEE", zorder=0)
        ax.set_xlabel("ratio")
    plt.close(fig)
    return fig


def penalties(measured: list[dict]) -> plt.Figure:
    """Error and spread of each estimate of the KL, in units of the true one.

    Args:
        measured: one an estimate and policy: "policy", "estimate", "KL", "mean", "s.e.",
            "exact bias / KL" and "spread of one / KL".
    """
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 3), layout="constrained")
    for y, row in enumerate(measured):
        colour = show.CYCLE[y % 3]
        error = 100 * (row["mean"] / row["KL"] - 1)
        half = 196 * row["s.e."] / row["KL"]
        axes[0].errorbar(error, y, xerr=half, fmt="o", capsize=4, color=colour)
        axes[0].plot(100 * row["exact bias / KL"], y, "kx", ms=8)
        axes[1].barh(y, row["spread of one / KL"], color=colour)
    names = [f"{row['policy']}, {row['estimate']}" for row in measured]
    for ax in axes:
        ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    axes[0].axvline(0, color=GREY, lw=1)
    axes[0].set(xlabel="error of the mean (% of the true KL)")
    axes[1].set(xlabel="spread of one token / true KL")
    plt.close(fig)
    return fig


def averages(weights: dict[str, torch.Tensor], length: torch.Tensor, short: int) -> plt.Figure:
    """How much a completion and one of its tokens count under each average.

    Args:
        weights: average -> (N, L) weight of each token.
        length: (N,) scored tokens.
        short: the first so many completions belong to the task with the shorter ones.
    """
    fig, axes = plt.subplots(1, 2, figsize=(8.6, 3), layout="constrained")
    n = len(length)
    order = torch.cat(
        [
            length[:short].argsort(stable=True),
            short + length[short:].argsort(stable=True),
        ]
    )
    for (name, w), dash in zip(weights.items(), ("-", "-", "--", ":"), strict=True):
        style = {"ls": dash, "lw": 2.2, "where": "mid", "label": name}
        axes[0].step(range(n), n * w.sum(1)[order], **style)
        axes[1].step(range(n), w.amax(1)[order] * w.gt(0).sum(), **style)
    axes[0].set(ylabel="weight of a completion (1 = fair)")
    axes[1].set(ylabel="weight of one token (1 = fair)")
    for ax in axes:
        ax.axvline(short - 0.5, color=GREY, lw=1)
        ax.set(ylim=(0, None), xlabel="completion: python by length | chain")
    axes[0].legend()
    plt.close(fig)
    return fig


def seeds(seen: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> plt.Figure:
    """Which mask each chunk uses at each inner update: one colour is one mask.

    Args:
        seen: release -> (published, intended), both (chunks, updates).
    """
    look = {"figsize": (8.8, 2.7), "layout": "constrained", "width_ratios": (12, 3.2)}
    fig, axes = plt.subplots(2, 2, **look)
    for column, (name, pair) in zip(axes.T, seen.items(), strict=True):
        for ax, table, title in zip(column, pair, ("published", "intended"), strict=True):
            chunks, updates = table.shape
            many = updates > 2
            colours = {"cmap": "tab20" if many else "Paired", "vmin": 0, "vmax": 19 if many else 11}
            ax.imshow(table, aspect="auto", alpha=0.65, **colours)
            for y, row in enumerate(table.tolist()):
                for x, value in enumerate(row):
                    ax.text(x, y, value, ha="center", va="center")
            ax.set_xticks(range(updates))
            ax.set_yticks(range(chunks), [f"chunk {c}" for c in range(chunks)])
            ax.set_title(f"{name}, {title}", loc="left", fontsize=11)
            ax.grid(False)
        column[1].set(xlabel="inner update")
    plt.close(fig)
    return fig
