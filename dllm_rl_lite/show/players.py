"""The denoising player: a rollout to step through in a notebook."""

from __future__ import annotations

import html
import json
import math
from typing import TYPE_CHECKING

from matplotlib.colors import to_hex

from ..sampler import Rollout
from .filmstrips import (
    CONFIDENCE,
    EMPTY,
    END,
    GIVEN,
    NEW,
    backgrounds,
    cell_text,
    frames,
    kinds,
    prompt_text,
)

if TYPE_CHECKING:
    from IPython.display import HTML

PLAYER_CSS = (
    ".dllm-player{font:14px sans-serif;margin:6px 0}\n"
    ".dllm-player i{display:inline-block;font:14px monospace;min-width:1ch;padding:2px 4px;"
    "margin:1px;color:#111;\n"
    "border:2px solid transparent;border-radius:3px;background:var(--c)}\n"
    f".dllm-player .m{{background:{EMPTY};color:#999}}"
    f".dllm-player .g{{background:{GIVEN}}}"
    ".dllm-player .e{background:#fff;color:#aaa}\n"
    ".dllm-player .w{background:#fff;color:#777;border:2px dotted #bbb}"
    f".dllm-player .n{{border:2px solid {NEW}}}\n"
    ".dllm-player input{vertical-align:middle;width:240px}.dllm-player small{display:block}\n"
    ".dllm-player small b{font-weight:normal;color:#111;padding:0 5px}\n"
)
# c.dataset.f holds [frame, kind, text] of each change of a cell; the last one up to frame k is
# shown
PLAYER_DRAW = (
    "const p=this.closest('.dllm-player'),k=+this.value;let left=0;"
    "p.querySelectorAll('i').forEach(c=>{let s;"
    "for(const f of JSON.parse(c.dataset.f))if(f[0]<=k)s=f;c.textContent=s[2];left+=s[1]=='m';"
    "c.className=s[1]+(s[0]==k&&k>0&&s[1]!='m'?' n':'');"
    "c.title={m:'masked',w:'withdrawn later'}[s[1]]||c.dataset.t});"
    "p.querySelector('output').textContent='step '+k+' of '+this.max+', '+left+' masked'"
)
PLAYER_PLAY = (
    "const b=this,p=b.closest('.dllm-player'),s=p.querySelector('input'),"
    "stop=()=>{clearInterval(b.timer);b.timer=0;b.textContent='Play'},"
    "go=v=>{s.value=v;s.dispatchEvent(new Event('input'))};"
    "if(b.timer){stop()}else{if(+s.value>=+s.max)go(0);b.textContent='Pause';"
    "b.timer=setInterval(()=>{if(!p.isConnected)return stop();"
    "go(+s.value+1);if(+s.value>=+s.max)stop()},350)}"
)


def player(rollout: Rollout, tokenizer, row: int = 0) -> HTML:
    """A denoising player for one row: a slider over its T + 1 frames and a play button.

    One cell per token, each with its changes; handlers find their own player, so many fit on a page
    and no id or script tag is needed. Without scripts the finished text is what is seen. The same
    rollout gives the same bytes.

    Args:
        rollout: one or more texts.
        tokenizer: the model's.
        row: which text.
    Raises:
        ValueError: for a row that does not exist.
        ModuleNotFoundError: outside IPython's reach.
    """
    # It comes with every notebook kernel; a plain training machine need not have it.
    from IPython.display import HTML

    last = len(frames(rollout, row)) - 1
    scale = "".join(
        f'<b style="background:{to_hex(CONFIDENCE(p))}">{p:g}</b>'
        for p in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    return HTML(
        f'<div class="dllm-player mathjax_ignore tex2jax_ignore"><style>{PLAYER_CSS}</style>'
        f"<p>prompt: {html.escape(prompt_text(rollout, tokenizer, row))}</p><div>"
        f'<button type="button" onclick="{html.escape(PLAYER_PLAY)}">Play</button> '
        f'<input type="range" min="0" max="{last}" value="{last}" autocomplete="off" '
        f'aria-label="denoising step" oninput="{html.escape(PLAYER_DRAW)}"> '
        f"<output>step {last} of {last}, 0 masked</output></div>"
        f"<div>{_cells(rollout, tokenizer, row)}</div>"
        f"<small>confidence when revealed {scale} · outlined: new at this step · "
        f"{END} end of sequence</small></div>"
    )


def _cells(rollout: Rollout, tokenizer, row: int) -> str:
    """The cells as HTML, each with its changes from frame to frame."""
    ids = frames(rollout, row).tolist()
    letters = kinds(rollout, row)
    last = len(ids) - 1
    cells = []
    for i, colour in enumerate(backgrounds(rollout, row)):
        changes = []
        for k, letter in enumerate(kind[i] for kind in letters):
            if k == 0 or (ids[k][i], letter) != (ids[k - 1][i], letters[k - 1][i]):
                changes.append([k, letter, cell_text(rollout, tokenizer, ids[k][i])])
        step, letter, text = changes[-1]
        new = " n" if step == last > 0 else ""
        about = _about(rollout, row, i)
        data = json.dumps(changes, ensure_ascii=False, separators=(",", ":"))
        # Within '...' this is shorter than escaping every ".
        data = data.replace("&", "&amp;").replace("'", "&#39;").replace("<", "&lt;")
        cells.append(
            f'<i class="{letter}{new}" style="--c:{colour}" title="{about}" data-t="{about}" '
            f"data-f='{data}'>{html.escape(text)}</i>"
        )
    return "".join(cells)


def _about(rollout: Rollout, row: int, i: int) -> str:
    """What a cell's tooltip says."""
    step = int(rollout.unmask_step[row, i])
    if step < 0:
        return "given"
    if step == int(rollout.n_forwards[row]):
        return f"unmask_step {step}, no forward pass needed"
    confidence = math.exp(rollout.logprob[row, i])
    entropy = abs(float(rollout.entropy[row, i]))
    return f"unmask_step {step}, confidence {confidence:.2f}, entropy {entropy:.2f} nats"
