"""The figures of *How likely is an answer?*. Each function returns a closed figure, so that a cell
whose last line calls it displays it once."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch

LARGEST = 4  # weights above share one colour


def views(lines: list[tuple[str, list[str], torch.Tensor]]) -> plt.Figure:
    """One line a view: its tokens, shaded by their weight.

    Args:
        lines: (recipe, tokens as words, (1, L) weights); a recipe is named at its first line.
    """
    fig, ax = plt.subplots(figsize=(8.4, 5.2), layout="constrained")
    weight = torch.cat([w for _, _, w in lines]).clamp(max=LARGEST)
    image = ax.imshow(weight, cmap="Oranges", aspect="auto", vmin=0, vmax=LARGEST)
    names = []
    for y, (recipe, tokens, _) in enumerate(lines):
        before = lines[y - 1][0] if y else ""
        names.append(recipe if recipe != before else "")
        for x, token in enumerate(tokens):
            ax.text(x, y, token, ha="center", va="center", fontsize=9)
    ax.set(yticks=range(len(lines)), yticklabels=names, xlabel="position")
    ax.grid(False)
    fig.colorbar(image, label=f"weight of the log-probability ({LARGEST}: or more)")
    plt.close(fig)
    return fig


def masks_by_count(
    sums: dict[str, torch.Tensor], count: torch.Tensor, nodes: list[float]
) -> plt.Figure:
    """Every mask of one completion, its log-probability per masked token over their number.

    Args:
        sums: model -> (2^L,) summed log-probability of the masked tokens.
        count: (2^L,) how many tokens each mask hides.
        nodes: mask rates that are drawn as lines.
    """
    fig, axes = plt.subplots(1, len(sums), figsize=(9.2, 3.8), layout="constrained")
    length = int(count.max())
    generator = torch.Generator().manual_seed(0)
    jitter = (torch.rand(len(count), generator=generator) - 0.5) * 0.35
    for ax, (state, f) in zip(axes, sums.items(), strict=True):
        each = f / count.clamp(min=1)
        mean = [float(each[count == c].mean()) for c in range(1, length + 1)]
        x = (count + jitter)[count > 0]
        light = {"color": "#56B4E9", "markersize": 3, "label": "one mask: f(M) / c"}
        ax.plot(x, each[count > 0], ".", **light)
        dark = {"color": "#0072B2", "label": "their mean"}
        ax.plot(range(1, length + 1), mean, "o-", **dark)
        for i, t in enumerate(nodes):
            label = "GDPO's three nodes" if i == 0 else None
            ax.axvline(t * length, color="#E69F00", linewidth=1, zorder=0, label=label)
        ax.set(xlabel="masked tokens c", title=f"{state}: ELBO {sum(mean):.2f} nats")
    axes[0].set_ylabel("log-probability per masked token (nats)")
    fig.legend(*axes[0].get_legend_handles_labels(), ncols=3, loc="outside lower center")
    plt.close(fig)
    return fig


def entropy_shares(shares: dict[str, torch.Tensor]) -> plt.Figure:
    """How much of a completion's entropy its most uncertain steps hold together.

    Args:
        shares: model -> (steps,) running sum of the mean shares, the largest first.
    """
    fig, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for state, share in shares.items():
        ax.plot(range(1, len(share) + 1), 100 * share, "o-", label=state)
    ax.set(xlabel="steps, the most uncertain first", ylabel="share of the entropy (%)")
    ax.set_ylim(0, 104)
    ax.legend()
    plt.close(fig)
    return fig
