"""The denoising player: a rollout to step through in a notebook."""

from __future__ import annotations

import html
import json
import math

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

PLAYER_CSS = (
    """.dllm-player{font:14px sans-serif;margin:6px 0}
.dllm-player i{display:inline-block;font:14px monospace;min-width:1ch;padding:2px 4px;margin:1px;color:#111;
border:2px solid transparent;border-radius:3px;background:var(--c)}
.dllm-player .m{background:EMPTY;color:#999}.dllm-player .g{background:GIVEN}.dllm-player .e{background:#fff;color:#aaa}
.dllm-player .w{background:#fff;color:#777;border:2px dotted #bbb}.dllm-player .n{border:2px solid NEW}
.dllm-player input{vertical-align:middle;width:240px}.dllm-player small{display:block}
.dllm-player small b{font-weight:normal;color:#111;padding:0 5px}
""".replace("EMPTY", EMPTY)
    .replace("GIVEN", GIVEN)
    .replace("NEW", NEW)
)
# c.dataset.f holds [frame, kind, text] of each change of a cell; the last one up to frame k is
# shown
PLAYER_DRAW = (
    "const p=this.closest('.dllm-player'),k=+this.value;let left=0;p.querySelectorAll('i').forEach(c=>{let s;"
    "for(const f of JSON.parse(c.dataset.f))if(f[0]<=k)s=f;c.textContent=s[2];left+=s[1]=='m';"
    "c.className=s[1]+(s[0]==k&&k>0&&s[1]!='m'?' n':'');"
    "c.title={m:'masked',w:'withdrawn later'}[s[1]]||c.dataset.t});"
    "p.querySelector('output').textContent='step '+k+' of '+this.max+', '+left+' masked'"
)
PLAYER_PLAY = (
    "const b=this,p=b.closest('.dllm-player'),s=p.querySelector('input'),stop=()=>{clearInterval(b.timer);b.timer=0;"
    "b.textContent='Play'},go=v=>{s.value=v;s.dispatchEvent(new Event('input'))};if(b.timer){stop()}else{"
    "if(+s.value>=+s.max)go(0);b.textContent='Pause';b.timer=setInterval(()=>{if(!p.isConnected)return stop();"
    "go(+s.value+1);if(+s.value>=+s.max)stop()},350)}"
)


def player(rollout: Rollout, tokenizer, row: int = 0):
    """A denoising player for one row: a slider over its T + 1 frames and a play button, as
    IPython.display.HTML.

    One cell per token, each with its changes; handlers find their own player, so many fit on a page
    and no id or script tag is needed. Without scripts the finished text is what is seen. The same
    rollout gives the same bytes.
    Raises ValueError for a row that does not exist, ModuleNotFoundError outside IPython's reach.
    """
    from IPython.display import (
        HTML,
    )  # comes with every notebook kernel; a plain training machine need not have it

    ids, letters, colours = (
        frames(rollout, row).tolist(),
        kinds(rollout, row),
        backgrounds(rollout, row),
    )
    last, cells = len(ids) - 1, []
    for i, colour in enumerate(colours):
        changes = [
            [k, letters[k][i], cell_text(rollout, tokenizer, ids[k][i])]
            for k in range(last + 1)
            if k == 0 or (ids[k][i], letters[k][i]) != (ids[k - 1][i], letters[k - 1][i])
        ]
        step, letter, text = changes[-1]
        reveal = int(rollout.unmask_step[row, i])
        about = (
            "given"
            if reveal < 0
            else f"unmask_step {reveal}, no forward pass needed"
            if reveal == last
            else (
                f"unmask_step {reveal}, confidence {math.exp(rollout.logprob[row, i]):.2f}, "
                f"entropy {abs(float(rollout.entropy[row, i])):.2f} nats"
            )
        )
        data = json.dumps(changes, ensure_ascii=False, separators=(",", ":"))
        data = (
            data.replace("&", "&amp;").replace("'", "&#39;").replace("<", "&lt;")
        )  # shorter than escaping every "
        new = " n" if step == last > 0 else ""
        cells.append(
            f'<i class="{letter}{new}" style="--c:{colour}" title="{about}" data-t="{about}" '
            f"data-f='{data}'>{html.escape(text)}</i>"
        )
    scale = "".join(
        f'<b style="background:{to_hex(CONFIDENCE(c / 4))}">{c / 4:g}</b>' for c in range(5)
    )
    return HTML(
        f'<div class="dllm-player mathjax_ignore tex2jax_ignore"><style>{PLAYER_CSS}</style><p>prompt: '
        f"{html.escape(prompt_text(rollout, tokenizer, row))}</p><div>"
        f'<button type="button" onclick="{html.escape(PLAYER_PLAY)}">Play</button> '
        f'<input type="range" min="0" max="{last}" value="{last}" autocomplete="off" aria-label="denoising step" '
        f'oninput="{html.escape(PLAYER_DRAW)}"> <output>step {last} of {last}, 0 masked</output></div>'
        f"<div>{''.join(cells)}</div>"
        f"<small>confidence when revealed {scale} · outlined: new at this step · {END} end of sequence</small></div>"
    )
