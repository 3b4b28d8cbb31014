"""Two drawings of the chapter on AG-GRPO: the two stages of a guided row, and three writers' texts
under two rewards."""

from __future__ import annotations

import matplotlib.pyplot as plt

from dllm_rl_lite.tasks.tiny.chain import parse, work, worked_reward, written

GIVEN = "#F5C98B"
WRITTEN = "#BFE0F2"
PREDICTED = "#B9E3C6"
BLANK = "#E4E4E4"
WRONG = "#F2B8AE"
PLAIN = "#F6F6F6"
TAGS = ("<answer>", "</answer>")


def draw_two_stages(prompt: str = "9-1-2", margin: int = 2) -> plt.Figure:
    """Four canvases of a guided row: before and after each of its two stages.

    Args:
        prompt: a chain; its right working is drawn.
        margin: end tokens after the answer.
    Returns:
        A closed figure: as a cell's last expression it is displayed once.
    """
    start, terms = parse(prompt)
    text = written(work(start, terms, [True] * len(terms)))
    reasoning, rest = text.split(TAGS[0])
    answer = rest.removesuffix(TAGS[1])
    anchor = [TAGS[0], answer, TAGS[1]] + ["end"] * margin
    blanks = [""] * len(reasoning)
    canvases = (
        ("stage 1 begins", blanks, BLANK, anchor, GIVEN, "the answer is given"),
        ("stage 1 ends", list(reasoning), WRITTEN, anchor, GIVEN, "working towards it"),
        ("the cut", list(reasoning), WRITTEN, [""] * len(anchor), BLANK, "the answer is masked"),
        ("stage 2 ends", list(reasoning), WRITTEN, anchor, PREDICTED, "predicted from the working"),
    )
    fig, ax = _page(width=25.5, height=5.0)
    ax.text(5.0, 4.75, f"prompt {prompt} =", fontsize=11, ha="left", va="center")
    for row, (name, first, colour, last, other, note) in enumerate(canvases):
        y = 3.4 - row
        ax.text(4.6, y + 0.4, name, ha="right", va="center", fontsize=11, fontweight="bold")
        _cells(ax, 5.0, y, first, colour)
        _cells(ax, 5.0 + len(first), y, last, other)
        ax.text(5.4 + len(first) + len(last), y + 0.4, note, va="center", fontsize=10)
    plt.close(fig)
    return fig


def draw_writers(prompt: str = "9-1-2") -> plt.Figure:
    """What the careful, the careless and the cheating writer make of a chain, with both rewards."""
    start, terms = parse(prompt)
    right = work(start, terms, [True] * len(terms))
    habit = work(start, terms, [False] * len(terms))
    a, sign, b, _ = habit[-1]
    cheat = [*habit[:-1], (a, sign, b, right[-1][3])]
    fig, ax = _page(width=25.5, height=4.0)
    for x, name in ((5.0, "completion"), (18.9, "answer read"), (22.9, "working read")):
        ax.text(x, 3.65, name, fontsize=10.5, color="#555555", va="center")
    rows = (("careful", right), ("careless", habit), ("cheat", cheat))
    for row, (name, lines) in enumerate(rows):
        y = 2.3 - row
        ax.text(4.6, y + 0.4, name, ha="right", va="center", fontsize=11, fontweight="bold")
        x = 5.0
        for line, own in zip(lines, right, strict=True):
            sound = _is_sound(line)
            letters = list("{}{}{}={}".format(*line))
            _cells(ax, x, y, letters, PREDICTED if sound else WRONG)
            x += len(letters)
            if own is not right[-1]:
                _cells(ax, x, y, [","], PLAIN)
                x += 1
        ends_right = lines[-1][3] == right[-1][3]
        answer = [TAGS[0], str(lines[-1][3]), TAGS[1]]
        _cells(ax, x, y, answer, PREDICTED if ends_right else WRONG)
        works = worked_reward([prompt], [written(lines)])[0]
        for at, reward in ((19.9, float(ends_right)), (23.9, works)):
            ax.text(at, y + 0.4, f"{reward:.0f}", fontsize=13, fontweight="bold", va="center")
    plt.close(fig)
    return fig


def _is_sound(line: tuple[int, str, int, int]) -> bool:
    a, sign, b, result = line
    return (a + b if sign == "+" else a - b) % 10 == result


def _page(width: float, height: float) -> tuple[plt.Figure, plt.Axes]:
    """A page measured in cells."""
    fig, ax = plt.subplots(figsize=(0.38 * width, 0.38 * height), dpi=110)
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.set_position([0, 0, 1, 1])
    ax.axis("off")
    return fig, ax


def _cells(ax: plt.Axes, x: float, y: float, tokens: list[str], colour: str) -> None:
    """Tokens in a row of boxes."""
    for i, token in enumerate(tokens):
        box = plt.Rectangle((x + i, y), 0.94, 0.8, facecolor=colour, edgecolor="#999999")
        ax.add_patch(box)
        short = {TAGS[0]: "<a>", TAGS[1]: "</a>"}.get(token, token)
        size = 10.5 if len(short) == 1 else 7
        ax.text(x + i + 0.47, y + 0.4, short, ha="center", va="center", fontsize=size)
