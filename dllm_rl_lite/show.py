"""Pictures and tables: the denoising filmstrip and player, learning curves, intervals, plain-text tables.

A frame k of a rollout is the canvas after k forward passes, which is what step k saw; the last frame is the finished
text. Nothing here computes a result: what is drawn was handed in.
"""

from __future__ import annotations

import html
import json
import math
import platform
from importlib.metadata import version

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex
from matplotlib.patches import Rectangle
from torch import Tensor

from . import __version__
from .charts import (  # noqa: F401 - notebooks reach the charts as show.curves and so on
    CYCLE,
    METHOD_COLOURS,
    before_after,
    curves,
    intervals,
    read_log,
    read_results,
    shorten,
    t_interval,
    table,
)
from .panels import comparison, estimator_map, panels, with_forwards  # noqa: F401 - likewise
from .sampler import Rollout

CONFIDENCE = LinearSegmentedColormap.from_list("confidence", plt.get_cmap("YlGnBu")([i / 22 for i in range(1, 11)]))
NEW, GIVEN, EMPTY = "#D55E00", "#DDDDDD", "#F6F6F6"  # outline of new cells; backgrounds of given and masked cells
MASK, END, SYMBOLS = "·", "∎", str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥", "\r": "↵"})


def style() -> None:
    """Set readable matplotlib defaults: sizes, a colour-blind-safe cycle, no top and right spines."""
    plt.rcParams.update({
        "figure.figsize": (6.4, 3.8), "figure.dpi": 92, "savefig.dpi": 92, "figure.facecolor": "white",
        "font.size": 11, "axes.titlesize": 12, "axes.labelsize": 11, "legend.fontsize": 10, "legend.frameon": False,
        "xtick.labelsize": 10, "ytick.labelsize": 10, "lines.linewidth": 1.8, "axes.spines.top": False,
        "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "axes.axisbelow": True,
        "axes.prop_cycle": plt.cycler(color=CYCLE),
    })


def header(number: str, minutes: float | None = None) -> None:
    """Print what this notebook runs on, and apply `style()`. minutes: its measured runtime on two CPU cores."""
    style()
    device = f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    print(f"Notebook {number}" + ("" if minutes is None else f" · about {minutes:g} min on two CPU cores"))
    print(f"python {platform.python_version()} · torch {torch.__version__} · transformers {version('transformers')} · "
          f"dllm_rl_lite {__version__}")
    print(f"device {device} · {threads} torch thread{'s' * (threads != 1)}")


def frames(rollout: Rollout, row: int = 0) -> Tensor:
    """(T + 1, L) int64 for a row of T forward passes: frame k is its canvas after k passes, frame T its tokens.

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
    """The row's prompt without its special tokens, on one line and shortened to `width` characters."""
    ids = rollout.prompt[row][rollout.prompt_mask[row]]
    return shorten(tokenizer.decode(ids, skip_special_tokens=True), width)


def kinds(rollout: Rollout, row: int = 0) -> list[list[str]]:
    """T + 1 lists of L letters: m masked, g given (anchored), w withdrawn later, e end of sequence, k any other."""
    reveal, last = rollout.unmask_step[row].tolist(), int(rollout.n_forwards[row])

    def kind(k: int, i: int, token: int) -> str:
        if token == rollout.mask_id or reveal[i] < 0:
            return "m" if token == rollout.mask_id else "g"
        if k <= reveal[i] and k < last:
            return "w"  # shown before the pass that wrote it for good: a re-masking rule took this one back
        return "e" if token == rollout.eos_id else "k"

    return [[kind(k, i, t) for i, t in enumerate(ids)] for k, ids in enumerate(frames(rollout, row).tolist())]


def backgrounds(rollout: Rollout, row: int = 0) -> list[str]:
    """L hex colours: the confidence each final token was revealed with, to two decimals (so bytes do not waver)."""
    return [to_hex(CONFIDENCE(round(math.exp(x), 2))) for x in rollout.logprob[row].tolist()]


def filmstrip(rollout: Rollout, tokenizer, row: int = 0, steps: list[int] | None = None, title: str | None = None,
              max_frames: int = 8) -> plt.Figure:
    """Draw how one text came about: a line of cells per frame, new tokens outlined, coloured by their confidence.

    steps: frames to show, increasing, in 0..T: k is what step k saw, T the finished text. None: at most `max_frames`,
    evenly spread, first and last among them. title: a line above the prompt.
    Returns a closed figure: as a cell's last expression it is displayed once. A cell is outlined where it differs from
    the line above (in the first line: from the frame before). The text of cell i in frame k has gid "cell k i".
    Raises ValueError for a row or step that does not exist, or max_frames < 2.
    """
    ids, letters, colours = frames(rollout, row).tolist(), kinds(rollout, row), backgrounds(rollout, row)
    shown = _chosen(len(ids) - 1, steps, max_frames)
    texts = {k: [cell_text(rollout, tokenizer, t) for t in ids[k]] for k in shown}
    order = [str(s) if s >= 0 else "–" for s in rollout.unmask_step[row].tolist()]
    widths = [1 + max(1.0, 0.8 * len(order[i]), *(len(texts[k][i]) for k in shown)) for i in range(len(order))]
    left = [sum(widths[:i]) for i in range(len(widths) + 1)]  # cell edges, in characters
    font = min(10.0, max(6.0, 10 * 120 / left[-1]))
    fig, ax = _strip_axes(left[-1], len(shown), font)
    for y, k in enumerate(shown):
        before = ids[shown[y - 1]] if y else ids[max(k - 1, 0)]
        _row_name(ax, y + 0.5, f"before step {k}" if k < len(ids) - 1 else "finished")
        for i, letter in enumerate(letters[k]):
            new = ids[k][i] != before[i] and letter != "m"
            _cell(ax, left[i], y, widths[i], texts[k][i], letter, colours[i], new, font, f"cell {k} {i}")
    _row_name(ax, len(shown) + 0.3, "unmask_step")
    for i, text in enumerate(order):
        ax.text((left[i] + left[i + 1]) / 2, len(shown) + 0.3, text, ha="center", va="center", fontsize=0.72 * font,
                color="#555555", gid=f"order {i}")
    _strip_legend(fig, ax, len(shown) + 1, {letter for k in shown for letter in letters[k]})
    lines = ([title] if title else []) + [f"prompt: {prompt_text(rollout, tokenizer, row)}"]
    ax.set_title("\n".join(lines), loc="left", fontsize=11, parse_math=False)
    plt.close(fig)
    return fig


def _chosen(last: int, steps: list[int] | None, max_frames: int) -> list[int]:
    if max_frames < 2:
        raise ValueError(f"max_frames must be at least 2 (the first and the last), got {max_frames}")
    if steps is None:
        n = min(max_frames, last + 1)
        return sorted({round(j * last / max(n - 1, 1)) for j in range(n)})
    if not steps or list(steps) != sorted(set(steps)) or not 0 <= steps[0] <= steps[-1] <= last:
        raise ValueError(f"steps must increase within 0..{last} ({last}: the finished text), got {list(steps)}")
    return list(steps)


def _row_name(ax, y: float, text: str) -> None:
    ax.text(-0.8, y, text, ha="right", va="center", fontsize=8)


def _strip_axes(width: float, n_frames: int, font: float):
    """Axes whose x unit is one character of the given font size, and whose y unit is one line of cells."""
    char, line = 0.0086 * font, 0.027 * font  # inches
    sides, rows = (1.2, 0.25), n_frames + 2.2
    wide, high = max(sides[0] + width * char + sides[1], 7.2), rows * line + 0.6 + 0.45
    fig = plt.figure(figsize=(wide, high))
    ax = fig.add_axes([sides[0] / wide, 0.45 / high, (wide - sum(sides)) / wide, rows * line / high])
    ax.set(xlim=(0, (wide - sum(sides)) / char), ylim=(rows, 0))
    ax.axis("off")
    return fig, ax


def _cell(ax, x: float, y: float, width: float, text: str, letter: str, colour: str, new: bool, font: float,
          gid: str | None = None) -> None:
    face = {"k": colour, "g": GIVEN, "m": EMPTY}.get(letter, "white")
    ax.add_patch(Rectangle((x + 0.15, y + 0.08), width - 0.3, 0.84, facecolor=face, zorder=2 + new, clip_on=False,
                           edgecolor=NEW if new else "#CCCCCC", linewidth=1.8 if new else 0.5,
                           linestyle=":" if letter == "w" and not new else "-"))
    ink = {"m": "#999999", "e": "#AAAAAA", "w": "#777777"}.get(letter, "#111111")
    ax.text(x + width / 2, y + 0.5, text, ha="center", va="center_baseline", family="monospace", fontsize=font,
            color=ink, zorder=4, parse_math=False, gid=gid)


def _strip_legend(fig, ax, y: float, letters: set[str]) -> None:
    entries = [("m", MASK, "masked", False), ("k", "", "newly revealed", True), ("e", END, "end of sequence", False),
               ("g", "", "given", False), ("w", "a", "withdrawn later", False)]
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


PLAYER_CSS = """.dllm-player{font:14px sans-serif;margin:6px 0}
.dllm-player i{display:inline-block;font:14px monospace;min-width:1ch;padding:2px 4px;margin:1px;color:#111;
border:2px solid transparent;border-radius:3px;background:var(--c)}
.dllm-player .m{background:EMPTY;color:#999}.dllm-player .g{background:GIVEN}.dllm-player .e{background:#fff;color:#aaa}
.dllm-player .w{background:#fff;color:#777;border:2px dotted #bbb}.dllm-player .n{border:2px solid NEW}
.dllm-player input{vertical-align:middle;width:240px}.dllm-player small{display:block}
.dllm-player small b{font-weight:normal;color:#111;padding:0 5px}
""".replace("EMPTY", EMPTY).replace("GIVEN", GIVEN).replace("NEW", NEW)
PLAYER_DRAW = (  # c.dataset.f holds [frame, kind, text] of each change of a cell; the last one up to frame k is shown
    "const p=this.closest('.dllm-player'),k=+this.value;let left=0;p.querySelectorAll('i').forEach(c=>{let s;"
    "for(const f of JSON.parse(c.dataset.f))if(f[0]<=k)s=f;c.textContent=s[2];left+=s[1]=='m';"
    "c.className=s[1]+(s[0]==k&&k>0&&s[1]!='m'?' n':'');"
    "c.title={m:'masked',w:'withdrawn later'}[s[1]]||c.dataset.t});"
    "p.querySelector('output').textContent='step '+k+' of '+this.max+', '+left+' masked'")
PLAYER_PLAY = (
    "const b=this,p=b.closest('.dllm-player'),s=p.querySelector('input'),stop=()=>{clearInterval(b.timer);b.timer=0;"
    "b.textContent='Play'},go=v=>{s.value=v;s.dispatchEvent(new Event('input'))};if(b.timer){stop()}else{"
    "if(+s.value>=+s.max)go(0);b.textContent='Pause';b.timer=setInterval(()=>{if(!p.isConnected)return stop();"
    "go(+s.value+1);if(+s.value>=+s.max)stop()},350)}")


def player(rollout: Rollout, tokenizer, row: int = 0):
    """A denoising player for one row: a slider over its T + 1 frames and a play button, as IPython.display.HTML.

    One cell per token, each with its changes; handlers find their own player, so many fit on a page and no id or script
    tag is needed. Without scripts the finished text is what is seen. The same rollout gives the same bytes.
    Raises ValueError for a row that does not exist, ModuleNotFoundError outside IPython's reach.
    """
    from IPython.display import HTML  # comes with every notebook kernel; a plain training machine need not have it

    ids, letters, colours = frames(rollout, row).tolist(), kinds(rollout, row), backgrounds(rollout, row)
    last, cells = len(ids) - 1, []
    for i, colour in enumerate(colours):
        changes = [[k, letters[k][i], cell_text(rollout, tokenizer, ids[k][i])] for k in range(last + 1)
                   if k == 0 or (ids[k][i], letters[k][i]) != (ids[k - 1][i], letters[k - 1][i])]
        step, letter, text = changes[-1]
        reveal = int(rollout.unmask_step[row, i])
        about = "given" if reveal < 0 else f"unmask_step {reveal}, no forward pass needed" if reveal == last else (
            f"unmask_step {reveal}, confidence {math.exp(rollout.logprob[row, i]):.2f}, "
            f"entropy {abs(float(rollout.entropy[row, i])):.2f} nats")
        data = json.dumps(changes, ensure_ascii=False, separators=(",", ":"))
        data = data.replace("&", "&amp;").replace("'", "&#39;").replace("<", "&lt;")  # shorter than escaping every "
        new = " n" if step == last > 0 else ""
        cells.append(f'<i class="{letter}{new}" style="--c:{colour}" title="{about}" data-t="{about}" '
                     f"data-f='{data}'>{html.escape(text)}</i>")
    scale = "".join(f'<b style="background:{to_hex(CONFIDENCE(c / 4))}">{c / 4:g}</b>' for c in range(5))
    return HTML(
        f'<div class="dllm-player mathjax_ignore tex2jax_ignore"><style>{PLAYER_CSS}</style><p>prompt: '
        f'{html.escape(prompt_text(rollout, tokenizer, row))}</p><div>'
        f'<button type="button" onclick="{html.escape(PLAYER_PLAY)}">Play</button> '
        f'<input type="range" min="0" max="{last}" value="{last}" autocomplete="off" aria-label="denoising step" '
        f'oninput="{html.escape(PLAYER_DRAW)}"> <output>step {last} of {last}, 0 masked</output></div>'
        f'<div>{"".join(cells)}</div>'
        f'<small>confidence when revealed {scale} · outlined: new at this step · {END} end of sequence</small></div>')
