"""The figures of *diffu-GRPO*. Each function returns a closed figure, so that a cell whose last
line calls it displays it once."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch

from dllm_rl_lite import show
from dllm_rl_lite.evaluation import t_interval


def masked_prompt(means: torch.Tensor, hidden: list[str], tokens: list[str]) -> plt.Figure:
    """How likely each token of a completion is when one prompt token is masked.

    Args:
        means: (prompt tokens + 1, completion tokens) mean log-probabilities, nats.
        hidden: what is masked in each row.
        tokens: of the completion.
    """
    fig, ax = plt.subplots(figsize=(8.6, 3.3), layout="constrained")
    ax.imshow(means, cmap="Reds_r", vmin=-8, vmax=0, aspect="auto")
    for y, row in enumerate(means.tolist()):
        for x, v in enumerate(row):
            look = {"ha": "center", "va": "center", "fontsize": 8}
            number = f"{v:.1f}".replace("-0.0", "0")
            ax.text(x, y, number, color="white" if v < -4 else "black", **look)
    ax.set_xticks(range(len(tokens)), [token.replace("answer", "a") for token in tokens])
    ax.set_yticks(range(len(hidden)), hidden)
    ax.set(xlabel="token (of the first completion)", ylabel="masked in the prompt")
    ax.set_title("mean log-probability on the empty canvas (nats)", loc="left")
    ax.grid(False)
    plt.close(fig)
    return fig


def mask_chances(angles: list[dict], sweep: list[dict]) -> plt.Figure:
    """What masking the prompt does to direction, length and tokens, over the chance to mask.

    Args:
        angles: one a chance: "cosine" and "cosine_se".
        sweep: one a chance: "p", "gradient norm", "% below -5 nats" and "clip fraction".
    """
    fig, axes = plt.subplots(1, 3, figsize=(9.4, 2.8), layout="constrained")
    p = [row["p"] for row in sweep]
    error = [1.96 * row["cosine_se"] for row in angles]
    axes[0].errorbar(p, [row["cosine"] for row in angles], error, marker="o", capsize=3)
    axes[0].set(ylabel="cosine to the exact gradient", ylim=(0, 1.05))
    axes[1].plot(p, [row["gradient norm"] for row in sweep], marker="o")
    axes[1].set(ylabel="gradient norm, real batch", ylim=(0, None))
    below = [row["% below -5 nats"] for row in sweep]
    clipped = [100 * row["clip fraction"] for row in sweep]
    axes[2].plot(p, below, marker="o", label="below -5 nats")
    axes[2].plot(p, clipped, marker="s", label="ratio clipped after a step")
    axes[2].set(ylabel="tokens (%)", ylim=(-2, 65))
    axes[2].legend(fontsize=9)
    for ax in axes:
        ax.set(xlabel="chance to mask a prompt token", xticks=p)
    plt.close(fig)
    return fig


def inner_updates(runs: dict[str, list[list[dict]]]) -> plt.Figure:
    """Ratios, clipping and lift of each arm over the inner updates.

    Args:
        runs: arm -> batch -> one row an update: "ratio_spread", "clip_fraction", and in the last
            row "own" and "other", the lifts.
    """
    fig, axes = plt.subplots(1, 3, figsize=(9.4, 2.9), layout="constrained")
    for i, (name, batches) in enumerate(runs.items()):
        colour = show.CYCLE[i]
        for ax, column, unit in ((axes[0], "ratio_spread", 1), (axes[1], "clip_fraction", 100)):
            lines = [[unit * row[column] for row in rows] for rows in batches]
            for line in lines:
                ax.plot(line, color=colour, lw=0.6, alpha=0.6)
            middle = torch.tensor(lines).median(0).values
            ax.plot(middle, color=colour, lw=2.4, label=name)
        for x, column in ((i, "own"), (i + 4, "other")):
            mean, half = t_interval([rows[-1][column] for rows in batches])
            axes[2].errorbar(x, mean, half, fmt="o", capsize=4, color=colour)
    updates = len(batches[0])
    axes[0].set(yscale="log", ylabel="spread of the ratio (log scale)")
    axes[1].set(ylabel="tokens outside the clip range (%)")
    for ax in axes[:2]:
        ax.set(xlabel="inner updates before", xticks=range(0, updates, 2))
    axes[1].legend(fontsize=9, title="thick: median of the batches", title_fontsize=8)
    axes[2].set_xticks([1, 5], ["own batch", "other prompts"])
    axes[2].axhline(0, color="#888888", lw=0.8)
    axes[2].set_ylabel(f"lift after {updates} updates (points)")
    plt.close(fig)
    return fig
