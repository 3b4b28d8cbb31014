"""The figures of *Who may be compared with whom*: the tree of a group, and tables of dice."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from torch import Tensor

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")


def tree(ax: plt.Axes, same: Tensor, rewards: Tensor, texts: list[str], first: int = 0) -> None:
    """Draw the canvases of one group as nodes: the larger, the more siblings stand there; the
    colour is their mean reward.

    Args:
        ax: where to draw.
        same: (T + 1, G, G) bool: are the canvases of two siblings equal after t steps?
        rewards: (G,) in 0..1.
        texts: what each sibling wrote in the end.
        first: steps that are left out.
    """
    last = len(same) - 1
    group = len(rewards)
    node = same.long().argmax(-1)  # a node's name is its first sibling
    size = same.sum(-1)
    value = (same * rewards.float()).sum(-1) / size
    # Those who stay together longest stand next to each other; nodes of one step never overlap.
    order = sorted(range(group), key=lambda sibling: node[:, sibling].tolist())
    place = torch.tensor(order).argsort().float()
    middle = (same * place).sum(-1) / size
    height = torch.zeros(last + 1, group)
    for step in range(last + 1):
        names = sorted(set(node[step].tolist()), key=lambda name: float(middle[step, name]))
        for row, name in enumerate(names):
            height[step, node[step] == name] = (row + 0.5) * group / len(names)
    for sibling in range(group):
        ax.plot(range(first, last + 1), height[first:, sibling], color="#999999", lw=1.2, zorder=1)
    step, sibling = (node == torch.arange(group)).nonzero(as_tuple=True)
    step, sibling = step[step >= first], sibling[step >= first]
    look = {"cmap": "cividis", "vmin": 0, "vmax": 1, "edgecolors": "black", "linewidths": 0.6}
    ax.scatter(
        step,
        height[step, sibling],
        s=22 + 24 * size[step, sibling],
        c=value[step, sibling],
        zorder=2,
        **look,
    )
    for sibling in sorted(set(node[last].tolist())):
        label = f"{texts[sibling]}  reward {float(rewards[sibling]):g}"
        if size[last, sibling] > 1:
            label += f" ({size[last, sibling]} times)"
        y = float(height[last, sibling])
        ax.text(last + 0.2, y, label, va="center", fontsize=9, family="monospace")
    ax.set(xticks=range(first, last + 1), yticks=[], ylim=(group + 0.2, -0.2))
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.grid(False)


def dice(tables: dict[str, Tensor]) -> plt.Figure:
    """Whose noise each sibling uses at each step.

    Args:
        tables: name -> (T, G) int64; -1: no noise.
    Returns:
        A closed figure: as a cell's last expression it is displayed once.
    """
    fig, axes = plt.subplots(1, len(tables), figsize=(9.6, 2.1), layout="constrained")
    for ax, (name, whose) in zip(axes, tables.items(), strict=True):
        steps, group = whose.shape
        for step in range(steps):
            for sibling in range(group):
                number = int(whose[step, sibling])
                colour = "white" if number < 0 else COLOURS[number % len(COLOURS)]
                corner = (step - 0.5, sibling - 0.5)
                ax.add_patch(plt.Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white"))
                ax.text(step, sibling, "–" if number < 0 else number, ha="center", va="center")
        ax.set(xlim=(-0.6, steps - 0.4), ylim=(group - 0.4, -0.6), xlabel="step")
        ax.set(xticks=range(steps), yticks=range(group))
        ax.set_title(name, loc="left", fontsize=11)
        ax.grid(False)
    axes[0].set_ylabel("sibling")
    plt.close(fig)
    return fig
