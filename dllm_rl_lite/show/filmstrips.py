"""The denoising filmstrip: how one text came about, a line of cells for each forward pass.

A frame k of a rollout is the canvas after k forward passes, which is what step k saw; the last
frame is the finished text. Nothing in this folder computes a result: what is drawn was handed in.
"""

from __future__ import annotations

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex
from matplotlib.patches import Rectangle
from torch import Tensor

from ..sampler import Rollout
from .tables import shorten

CONFIDENCE = LinearSegmentedColormap.from_list(
    "confidence", plt.get_cmap("YlGnBu")([i / 22 for i in range(1, 11)])
)
NEW, GIVEN, EMPTY = "#D55E00", "#DDDDDD", "#F6F6F6"  # outline of new cells; backgrounds
MASK, END = "·", "∎"
SYMBOLS = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥", "\r": "↵"})


def frames(rollout: Rollout, row: int = 0) -> Tensor:
    """(T + 1, L) int64 for a row of T forward passes: frame k is its canvas after k passes, frame T
    its tokens.

    Raises ValueError where the rollout has no such row.
    """
    if not 0 <= row < len(rollout.tokens):
        raise ValueError(f"row must be in 0..{len(rollout.tokens) - 1}, got {row}")
    canvases = [rollout.canvas_at(k)[row] for k in range(int(rollout.n_forwards[row]))]
    return torch.stack([*canvases, rollout.tokens[row]]).cpu()


def cell_text(rollout: Rollout, tokenizer, token: int) -> str:
    """One token as visible text: masks, ends of sequence and white space as symbols."""
    special = {rollout.mask_id: MASK, rollout.eos_id: END}
    return special.get(token) or tokenizer.decode([token]).translate(SYMBOLS) or "�"


def prompt_text(rollout: Rollout, tokenizer, row: int, width: int = 90) -> str:
    """The row's prompt without its special tokens, on one line and shortened to `width`
    characters."""
    ids = rollout.prompt[row][rollout.prompt_mask[row]]
    return shorten(tokenizer.decode(ids, skip_special_tokens=True), width)


def kinds(rollout: Rollout, row: int = 0) -> list[list[str]]:
    """T + 1 lists of L letters: m masked, g given (anchored), w withdrawn later, e end of sequence,
    k any other."""
    tokens = frames(rollout, row).numpy()
    reveal = rollout.unmask_step[row].cpu().numpy()
    frame = np.arange(len(tokens))[:, None]
    # A token that is shown before the pass that wrote it for good: a re-masking rule took it back.
    withdrawn = (frame <= reveal) & (frame < len(tokens) - 1)
    first_that_holds = [tokens == rollout.mask_id, reveal < 0, withdrawn, tokens == rollout.eos_id]
    return np.select(first_that_holds, ["m", "g", "w", "e"], default="k").tolist()


def backgrounds(rollout: Rollout, row: int = 0) -> list[str]:
    """L hex colours: the confidence each final token was revealed with, to two decimals (so the
    output is reproducible)."""
    return [to_hex(CONFIDENCE(round(math.exp(x), 2))) for x in rollout.logprob[row].tolist()]


def filmstrip(
    rollout: Rollout,
    tokenizer,
    row: int = 0,
    steps: list[int] | None = None,
    title: str | None = None,
    max_frames: int = 8,
) -> plt.Figure:
    """Draw how one text came about: a line of cells per frame, new tokens outlined, coloured by
    their confidence.

    A cell is outlined if it differs from the line above (in the first line: from the frame before).
    The text of cell i in frame k has gid "cell k i".

    Args:
        rollout: one or more texts, of which `row` is drawn.
        tokenizer: the model's.
        steps: frames to show, increasing, in 0..T: k is what step k saw, T the finished text. None:
            at most `max_frames` >= 2, evenly spread, first and last among them.
        title: a line above the prompt.
    Returns:
        A closed figure: as a cell's last expression it is displayed once.
    Raises:
        ValueError: for a row or step that does not exist, or max_frames < 2.
    """
    ids = frames(rollout, row).tolist()
    letters = kinds(rollout, row)
    colours = backgrounds(rollout, row)
    shown = _chosen(len(ids) - 1, steps, max_frames)
    texts = {k: [cell_text(rollout, tokenizer, token) for token in ids[k]] for k in shown}
    order = [str(step) if step >= 0 else "–" for step in rollout.unmask_step[row].tolist()]
    columns = zip(order, *texts.values(), strict=True)
    widths = [1 + max(1.0, 0.8 * len(number), *map(len, cells)) for number, *cells in columns]
    edges = [0, *itertools.accumulate(widths)]  # of the columns, in characters
    font = min(10.0, max(6.0, 10 * 120 / edges[-1]))
    fig, ax = _strip_axes(edges[-1], len(shown), font)
    above = ids[max(shown[0] - 1, 0)]
    for y, k in enumerate(shown):
        _row_name(ax, y + 0.5, f"before step {k}" if k < len(ids) - 1 else "finished")
        for i, letter in enumerate(letters[k]):
            box = (edges[i], y, widths[i])
            new = ids[k][i] != above[i] and letter != "m"
            _cell(ax, box, texts[k][i], letter, colours[i], new, font, gid=f"cell {k} {i}")
        above = ids[k]
    bottom = len(shown) + 0.3
    _row_name(ax, bottom, "unmask_step")
    look = {"ha": "center", "va": "center", "fontsize": 0.72 * font, "color": "#555555"}
    for i, number in enumerate(order):
        ax.text((edges[i] + edges[i + 1]) / 2, bottom, number, gid=f"order {i}", **look)
    _strip_legend(fig, ax, len(shown) + 1, {letter for k in shown for letter in letters[k]})
    prompt = f"prompt: {prompt_text(rollout, tokenizer, row)}"
    heading = f"{title}\n{prompt}" if title else prompt
    ax.set_title(heading, loc="left", fontsize=11, parse_math=False)
    plt.close(fig)
    return fig


def _chosen(last: int, steps: list[int] | None, max_frames: int) -> list[int]:
    if max_frames < 2:
        raise ValueError(
            f"max_frames must be at least 2 (the first and the last), got {max_frames}"
        )
    if steps is None:
        n = min(max_frames, last + 1)
        return sorted({round(j * last / max(n - 1, 1)) for j in range(n)})
    if not steps or list(steps) != sorted(set(steps)) or not 0 <= steps[0] <= steps[-1] <= last:
        raise ValueError(
            f"steps must increase within 0..{last} ({last}: the finished text), got {list(steps)}"
        )
    return list(steps)


def _row_name(ax, y: float, text: str) -> None:
    ax.text(-0.8, y, text, ha="right", va="center", fontsize=8)


def _strip_axes(width: float, n_frames: int, font: float) -> tuple[plt.Figure, plt.Axes]:
    """Axes whose x unit is one character of the given font size, and whose y unit is one line of
    cells."""
    character, line = 0.0086 * font, 0.027 * font  # inches, as all below
    left, right, bottom, top = 1.2, 0.25, 0.45, 0.6
    rows = n_frames + 2.2
    wide = max(left + width * character + right, 7.2)
    high = rows * line + top + bottom
    inner = wide - (left + right)
    fig = plt.figure(figsize=(wide, high))
    ax = fig.add_axes([left / wide, bottom / high, inner / wide, rows * line / high])
    ax.set(xlim=(0, inner / character), ylim=(rows, 0))
    ax.axis("off")
    return fig, ax


BACKGROUND = {"g": GIVEN, "m": EMPTY}  # by kind of cell; k: by its confidence; else white
INK = {"m": "#999999", "e": "#AAAAAA", "w": "#777777"}


def _cell(
    ax: plt.Axes,
    box: tuple[float, float, float],
    text: str,
    letter: str,
    colour: str,
    new: bool,
    font: float,
    gid: str | None = None,
) -> None:
    """Draw a cell. box: left, top, width; letter: as in `kinds`; colour: of its confidence."""
    x, y, width = box
    outline = {"edgecolor": "#CCCCCC", "linewidth": 0.5, "linestyle": ":" if letter == "w" else "-"}
    if new:
        outline = {"edgecolor": NEW, "linewidth": 1.8}
    face = colour if letter == "k" else BACKGROUND.get(letter, "white")
    corner = (x + 0.15, y + 0.08)
    ax.add_patch(
        Rectangle(
            corner, width - 0.3, 0.84, facecolor=face, zorder=2 + new, clip_on=False, **outline
        )
    )
    ax.text(
        x + width / 2,
        y + 0.5,
        text,
        ha="center",
        va="center_baseline",
        family="monospace",
        fontsize=font,
        color=INK.get(letter, "#111111"),
        zorder=4,
        parse_math=False,
        gid=gid,
    )


LEGEND = {  # letter: text of its cell, words, is it outlined as new?
    "m": (MASK, "masked", False),
    "k": ("", "newly revealed", True),
    "e": (END, "end of sequence", False),
    "g": ("", "given", False),
    "w": ("a", "withdrawn later", False),
}


def _strip_legend(fig: plt.Figure, ax: plt.Axes, y: float, letters: set[str]) -> None:
    """Explain the kinds of cells that are there, and the colours."""
    place = ax.get_position()
    wide, high = fig.get_size_inches()
    per_inch = ax.get_xlim()[1] / (place.width * wide)
    x = 0.0
    for letter, (text, words, new) in LEGEND.items():
        if letter in letters:
            _cell(ax, (x, y + 0.15, 2.0), text, letter, "white", new, 9)
            ax.text(x + 2.4, y + 0.65, words, va="center", fontsize=8.5)
            x += 2.4 + per_inch * (0.25 + 0.068 * len(words))
    bar = fig.add_axes([place.x0 + 1.75 / wide, 0.3 / high, 1.6 / wide, 0.12 / high])
    scale = plt.cm.ScalarMappable(Normalize(0, 1), CONFIDENCE)
    fig.colorbar(scale, cax=bar, orientation="horizontal", ticks=[0, 0.5, 1])
    bar.tick_params(labelsize=8, length=2, pad=1)
    fig.text(place.x0, 0.36 / high, "confidence when revealed", fontsize=8.5, va="center")
