"""The denoising filmstrip: how one text came about, a line of cells for each forward pass.

A frame k of a rollout is the canvas after k forward passes, which is what step k saw; the last
frame is the finished text. Nothing in this folder computes a result: what is drawn was handed in.
"""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex
from matplotlib.patches import Rectangle
from torch import Tensor

from ..sampler import Rollout
from .tables import shorten

CONFIDENCE = LinearSegmentedColormap.from_list(
    "confidence", plt.get_cmap("YlGnBu")([i / 22 for i in range(1, 11)])
)
NEW, GIVEN, EMPTY = (
    "#D55E00",
    "#DDDDDD",
    "#F6F6F6",
)  # outline of new cells; backgrounds of given and masked cells
MASK, END, SYMBOLS = "·", "∎", str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥", "\r": "↵"})


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
    if token in (rollout.mask_id, rollout.eos_id):
        return MASK if token == rollout.mask_id else END
    return tokenizer.decode([token]).translate(SYMBOLS) or "�"


def prompt_text(rollout: Rollout, tokenizer, row: int, width: int = 90) -> str:
    """The row's prompt without its special tokens, on one line and shortened to `width`
    characters."""
    ids = rollout.prompt[row][rollout.prompt_mask[row]]
    return shorten(tokenizer.decode(ids, skip_special_tokens=True), width)


def kinds(rollout: Rollout, row: int = 0) -> list[list[str]]:
    """T + 1 lists of L letters: m masked, g given (anchored), w withdrawn later, e end of sequence,
    k any other."""
    reveal, last = rollout.unmask_step[row].tolist(), int(rollout.n_forwards[row])

    def kind(k: int, i: int, token: int) -> str:
        if token == rollout.mask_id or reveal[i] < 0:
            return "m" if token == rollout.mask_id else "g"
        if k <= reveal[i] and k < last:
            # shown before the pass that wrote it for good: a re-masking rule took this one back
            return "w"
        return "e" if token == rollout.eos_id else "k"

    return [
        [kind(k, i, t) for i, t in enumerate(ids)]
        for k, ids in enumerate(frames(rollout, row).tolist())
    ]


def backgrounds(rollout: Rollout, row: int = 0) -> list[str]:
    """L hex colours: the confidence each final token was revealed with, to two decimals (so bytes
    do not waver)."""
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

    steps: frames to show, increasing, in 0..T: k is what step k saw, T the finished text. None: at
    most `max_frames`, evenly spread, first and last among them. title: a line above the prompt.
    Returns a closed figure: as a cell's last expression it is displayed once. A cell is outlined
    where it differs from the line above (in the first line: from the frame before). The text of
    cell i in frame k has gid "cell k i".
    Raises ValueError for a row or step that does not exist, or max_frames < 2.
    """
    ids, letters, colours = (
        frames(rollout, row).tolist(),
        kinds(rollout, row),
        backgrounds(rollout, row),
    )
    shown = _chosen(len(ids) - 1, steps, max_frames)
    texts = {k: [cell_text(rollout, tokenizer, t) for t in ids[k]] for k in shown}
    order = [str(s) if s >= 0 else "–" for s in rollout.unmask_step[row].tolist()]
    widths = [
        1 + max(1.0, 0.8 * len(order[i]), *(len(texts[k][i]) for k in shown))
        for i in range(len(order))
    ]
    left = [sum(widths[:i]) for i in range(len(widths) + 1)]  # cell edges, in characters
    font = min(10.0, max(6.0, 10 * 120 / left[-1]))
    fig, ax = _strip_axes(left[-1], len(shown), font)
    for y, k in enumerate(shown):
        before = ids[shown[y - 1]] if y else ids[max(k - 1, 0)]
        _row_name(ax, y + 0.5, f"before step {k}" if k < len(ids) - 1 else "finished")
        for i, letter in enumerate(letters[k]):
            new = ids[k][i] != before[i] and letter != "m"
            _cell(
                ax,
                left[i],
                y,
                widths[i],
                texts[k][i],
                letter,
                colours[i],
                new,
                font,
                f"cell {k} {i}",
            )
    _row_name(ax, len(shown) + 0.3, "unmask_step")
    for i, text in enumerate(order):
        ax.text(
            (left[i] + left[i + 1]) / 2,
            len(shown) + 0.3,
            text,
            ha="center",
            va="center",
            fontsize=0.72 * font,
            color="#555555",
            gid=f"order {i}",
        )
    _strip_legend(fig, ax, len(shown) + 1, {letter for k in shown for letter in letters[k]})
    lines = ([title] if title else []) + [f"prompt: {prompt_text(rollout, tokenizer, row)}"]
    ax.set_title("\n".join(lines), loc="left", fontsize=11, parse_math=False)
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


def _strip_axes(width: float, n_frames: int, font: float):
    """Axes whose x unit is one character of the given font size, and whose y unit is one line of
    cells."""
    char, line = 0.0086 * font, 0.027 * font  # inches
    sides, rows = (1.2, 0.25), n_frames + 2.2
    wide, high = max(sides[0] + width * char + sides[1], 7.2), rows * line + 0.6 + 0.45
    fig = plt.figure(figsize=(wide, high))
    ax = fig.add_axes(
        [sides[0] / wide, 0.45 / high, (wide - sum(sides)) / wide, rows * line / high]
    )
    ax.set(xlim=(0, (wide - sum(sides)) / char), ylim=(rows, 0))
    ax.axis("off")
    return fig, ax


def _cell(
    ax,
    x: float,
    y: float,
    width: float,
    text: str,
    letter: str,
    colour: str,
    new: bool,
    font: float,
    gid: str | None = None,
) -> None:
    face = {"k": colour, "g": GIVEN, "m": EMPTY}.get(letter, "white")
    ax.add_patch(
        Rectangle(
            (x + 0.15, y + 0.08),
            width - 0.3,
            0.84,
            facecolor=face,
            zorder=2 + new,
            clip_on=False,
            edgecolor=NEW if new else "#CCCCCC",
            linewidth=1.8 if new else 0.5,
            linestyle=":" if letter == "w" and not new else "-",
        )
    )
    ink = {"m": "#999999", "e": "#AAAAAA", "w": "#777777"}.get(letter, "#111111")
    ax.text(
        x + width / 2,
        y + 0.5,
        text,
        ha="center",
        va="center_baseline",
        family="monospace",
        fontsize=font,
        color=ink,
        zorder=4,
        parse_math=False,
        gid=gid,
    )


def _strip_legend(fig, ax, y: float, letters: set[str]) -> None:
    entries = [
        ("m", MASK, "masked", False),
        ("k", "", "newly revealed", True),
        ("e", END, "end of sequence", False),
        ("g", "", "given", False),
        ("w", "a", "withdrawn later", False),
    ]
    x, per_inch = 0.0, ax.get_xlim()[1] / (ax.get_position().width * fig.get_figwidth())
    for letter, text, words, new in entries:
        if letter in letters:
            _cell(ax, x, y + 0.15, 2.0, text, letter if not new else "", "white", new, 9)
            ax.text(x + 2.4, y + 0.65, words, va="center", fontsize=8.5)
            x += 2.4 + per_inch * (0.25 + 0.068 * len(words))
    box, wide, high = ax.get_position(), fig.get_figwidth(), fig.get_figheight()
    bar = fig.add_axes([box.x0 + 1.75 / wide, 0.3 / high, 1.6 / wide, 0.12 / high])
    scale = plt.cm.ScalarMappable(Normalize(0, 1), CONFIDENCE)
    fig.colorbar(scale, cax=bar, orientation="horizontal", ticks=[0, 0.5, 1])
    bar.tick_params(labelsize=8, length=2, pad=1)
    fig.text(box.x0, 0.36 / high, "confidence when revealed", fontsize=8.5, va="center")
