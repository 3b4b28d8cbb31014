"""The denoising player: a rollout to step through in a notebook."""

from __future__ import annotations

import html
import json
import math
from typing import TYPE_CHECKING

from matplotlib.colors import to_hex

from ..sampler import DraftedRollout, Rollout
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

# Inline styles only: JupyterLab strips style sheets and scripts from a notebook that nobody has run
# here yet, and what is left must look right.
CELL = (
    "display:inline-block;font-family:monospace;font-size:14px;text-align:center;min-width:9px;"
    "padding:2px 4px;margin:1px;border-radius:3px;"
)
ACCEPTED, REJECTED = "#5dc3a0", "#f2b36b"  # drafts
LOOKS = {  # by kind of cell; COLOUR: of its confidence
    "m": f"background:{EMPTY};color:#999999;border:2px solid {EMPTY}",
    "g": f"background:{GIVEN};color:#111111;border:2px solid {GIVEN}",
    "e": "background:#ffffff;color:#aaaaaa;border:2px solid #ffffff",
    "w": "background:#ffffff;color:#777777;border:2px dotted #bbbbbb",
    "k": "background:COLOUR;color:#111111;border:2px solid COLOUR",
    "a": f"background:{ACCEPTED};color:#111111;border:2px solid {ACCEPTED}",
    "r": f"background:{REJECTED};color:#111111;border:2px solid {REJECTED}",
}
OUTLINE = f";border:2px solid {NEW}"  # of a cell that is new in this frame
SCALE = "color:#111111;padding:0 5px;background:"

# Replaces the note by the controls. data.cells holds {colour, about, changes}; of the changes
# [frame, kind, text], the last one up to the slider's frame is shown.
SCRIPT = """
(() => {
  const here = document.currentScript;
  const player = here.closest(".dllm-player") || here.parentNode.querySelector(".dllm-player");
  const data = DATA;
  const [controls, row] = player.querySelectorAll("div");
  controls.innerHTML = '<button type="button">Play</button> <input type="range" min="0" '
    + 'autocomplete="off" aria-label="denoising step" style="width:240px;vertical-align:middle"> '
    + '<output></output>';
  const [button, slider, position] = controls.children;
  let timer = null;
  function draw() {
    const frame = +slider.value;
    let masked = 0;
    data.cells.forEach((cell, i) => {
      const [at, kind, text] = cell.changes.filter(change => change[0] <= frame).pop();
      const isNew = at === frame && frame > 0 && kind !== "m";
      const look = data.looks[kind].replaceAll("COLOUR", cell.colour);
      const span = row.children[i];
      span.textContent = text;
      span.title = {m: "masked", w: "withdrawn later", r: "rejected draft"}[kind] || cell.about;
      span.style.cssText = data.cell + look + (isNew ? data.outline : "");
      masked += kind === "m" || kind === "r";
    });
    position.textContent = `${data.unit} ${frame} of ${data.last}, ${masked} masked`;
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  }
  function advance() {
    slider.value = +slider.value + 1;
    draw();
    if (+slider.value >= data.last || !player.isConnected) stop();
  }
  slider.max = data.last;
  slider.value = data.last;
  slider.oninput = draw;
  button.onclick = () => {
    if (timer) return stop();
    if (+slider.value >= data.last) slider.value = 0;
    draw();
    button.textContent = "Pause";
    timer = setInterval(advance, 350);
  };
  draw();
})();
"""


def player(rollout: Rollout | DraftedRollout, tokenizer, row: int = 0) -> HTML:
    """A denoising player for one row: a slider over its T + 1 frames and a play button.

    Of texts that were written with drafts a frame is a round, with the drafts that it accepted and
    those that it rejected.

    Where scripts do not run (a notebook that is not trusted yet, a page that shows notebooks), the
    finished completion is seen, with a note that says to run the cells. Many players fit on a page.
    The same rollout gives the same bytes. Raises ValueError for a row that does not exist.
    """
    # It comes with every notebook kernel; a plain training machine need not have it.
    from IPython.display import HTML

    if isinstance(rollout, DraftedRollout):
        unit = "round"
        cells = _drafted_cells(rollout, tokenizer, row)
        last = int(rollout.written[row].max()) + 1
        legend = f'<span style="{SCALE}{ACCEPTED}">accepted draft</span> '
        legend += f'<span style="{SCALE}{REJECTED}">rejected draft</span> · '
        rollout = rollout.rollout
    else:
        unit = "step"
        cells = _cells(rollout, tokenizer, row)
        last = len(frames(rollout, row)) - 1
        legend = ""
    data = {"last": last, "unit": unit, "cell": CELL, "looks": LOOKS, "outline": OUTLINE}
    data["cells"] = cells
    words = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    words = words.replace("<", "\\u003c")  # no text of the model's ends the script
    scale = " ".join(
        f'<span style="{SCALE}{to_hex(CONFIDENCE(p))}">{p:g}</span>'
        for p in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    return HTML(
        '<div class="dllm-player mathjax_ignore tex2jax_ignore" '
        'style="font-family:sans-serif;font-size:14px;margin:6px 0">'
        f"<p>prompt: {html.escape(prompt_text(rollout, tokenizer, row))}</p>"
        f"<div>Finished after {last} {unit}s. "
        "<strong>Run the cells up to this one</strong> to get a slider and a Play button.</div>"
        f'<div style="margin:4px 0">{"".join(_finished(cell, last) for cell in cells)}</div>'
        f'<p style="font-size:12px">confidence when revealed: {scale} · {legend}outlined: new at '
        f"this {unit} · {END} end of sequence</p>"
        f"<script>{SCRIPT.replace('DATA', words)}</script></div>"
    )


def _cells(rollout: Rollout, tokenizer, row: int) -> list[dict]:
    """One dictionary a cell: its colour, what is said about it, its changes from frame to frame."""
    ids = frames(rollout, row).tolist()
    letters = kinds(rollout, row)
    cells = []
    for i, colour in enumerate(backgrounds(rollout, row)):
        shown = [(letters[k][i], ids[k][i]) for k in range(len(ids))]
        changes = _changes(rollout, tokenizer, shown)
        cells.append({"colour": colour, "about": _about(rollout, row, i), "changes": changes})
    return cells


def _drafted_cells(drafted: DraftedRollout, tokenizer, row: int) -> list[dict]:
    """The same of a text that was written with drafts; a frame k > 0 is what round k - 1 did."""
    rollout = drafted.rollout
    first = frames(rollout, row)[0].tolist()
    accepted = drafted.accepted[:, row]
    cells = []
    for i, colour in enumerate(backgrounds(rollout, row)):
        written = int(drafted.written[row, i])
        token = int(rollout.tokens[row, i])
        shown = [("g" if written < 0 else "m", first[i])]
        for number, draft in enumerate(drafted.drafts[: written + 1, row, i].tolist()):
            if number < written:
                shown.append(("m" if draft == rollout.mask_id else "r", draft))
            elif accepted[number, i]:
                shown.append(("a", token))
            else:
                shown.append(("e" if token == rollout.eos_id else "k", token))
        changes = _changes(rollout, tokenizer, shown)
        cells.append({"colour": colour, "about": _about(rollout, row, i), "changes": changes})
    return cells


def _changes(rollout: Rollout, tokenizer, shown: list[tuple[str, int]]) -> list[list]:
    """Where the (letter, token) of a cell's frames changes: [frame, letter, text]."""
    changes = []
    for k, (letter, token) in enumerate(shown):
        if k == 0 or shown[k - 1] != (letter, token):
            changes.append([k, letter, cell_text(rollout, tokenizer, token)])
    return changes


def _finished(cell: dict, last: int) -> str:
    """A cell as it looks in the last frame."""
    step, kind, text = cell["changes"][-1]
    look = CELL + LOOKS[kind].replace("COLOUR", cell["colour"])
    if step == last > 0:
        look += OUTLINE
    return f'<span style="{look}" title="{cell["about"]}">{html.escape(text)}</span>'


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
