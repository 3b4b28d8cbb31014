"""The drawings of the chapter on AG-GRPO: the two stages of a guided row, completions under two
rewards, and where recorded runs gain."""

from __future__ import annotations

import matplotlib.pyplot as plt

from dllm_rl_lite.evaluation import records, wilson
from dllm_rl_lite.show import CYCLE
from dllm_rl_lite.tasks.tiny.chain import parse, work, worked_reward, written

from .guided_record import along

GIVEN = "#F5C98B"
WRITTEN = "#BFE0F2"
PREDICTED = "#B9E3C6"
BLANK = "#E4E4E4"
WRONG = "#F2B8AE"
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
    fig, ax = _page(width=28, height=5.0)
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
    """A chain by the careful and by the careless writer, and bent towards the answer, with both
    rewards."""
    start, terms = parse(prompt)
    right = work(start, terms, [True] * len(terms))
    habit = work(start, terms, [False] * len(terms))
    a, sign, b, _ = habit[-1]
    bent = [*habit[:-1], (a, sign, b, right[-1][3])]
    fig, ax = _page(width=28, height=4.0)
    for x, name in ((5.0, f"prompt {prompt} ="), (19.7, "answer read"), (23.9, "working read")):
        ax.text(x, 3.65, name, fontsize=10.5, color="#555555", va="center")
    for row, (name, lines) in enumerate((("careful", right), ("careless", habit), ("bent", bent))):
        y = 2.3 - row
        ax.text(4.6, y + 0.4, name, ha="right", va="center", fontsize=11, fontweight="bold")
        x = 5.0
        for line in lines:
            letters = list("{}{}{}={}".format(*line))
            if line != lines[-1]:
                letters.append(",")
            _cells(ax, x, y, letters, PREDICTED if _is_sound(line) else WRONG)
            x += len(letters)
        ends_right = lines[-1][3] == right[-1][3]
        answer = [TAGS[0], str(lines[-1][3]), TAGS[1]]
        _cells(ax, x, y, answer, PREDICTED if ends_right else WRONG)
        works = worked_reward([prompt], [written(lines)])[0]
        for at, reward in ((21.0, float(ends_right)), (25.4, works)):
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


def draw_dial(rows: list[dict]) -> plt.Figure:
    """The gain over honesty and death as a map, and against honesty with intervals.

    Args:
        rows: of `guided_record.worlds`.
    """
    rows = sorted(rows, key=lambda row: row["dead"])
    fig, (plane, ax) = plt.subplots(1, 2, figsize=(10.5, 5), layout="constrained")
    gains = [row["gain"].mean for row in rows]
    largest = max(10.0, *(abs(gain) for gain in gains))
    h = [100 * row["h"] for row in rows]
    d = [100 * row["dead"] for row in rows]
    look = {"cmap": "RdBu", "vmin": -largest, "vmax": largest, "edgecolors": "#444444"}
    dots = plane.scatter(h, d, c=gains, s=110, **look)
    for i, row in enumerate(rows):
        is_left = i % 2 == 1 and h[i] > 30
        # A label that would run into the next dot goes below its own.
        dots_beside = [x for x, y in zip(h, d, strict=True) if abs(y - d[i]) < 2]
        is_blocked = any(20 < x - h[i] < 38 for x in dots_beside)
        down = -15 if is_blocked else -3
        place = {"xytext": (-8 if is_left else 8, down), "textcoords": "offset points"}
        place["ha"] = "right" if is_left else "left"
        text = f"{row['world'].removeprefix('writers ')}: {gains[i]:+.0f}"
        plane.annotate(text, (h[i], d[i]), fontsize=8, **place)
    fig.colorbar(dots, ax=plane, label="gain of ag-grpo over AF only (points)")
    plane.set(xlim=(-5, 118), xlabel="honesty h, before training (%)")
    plane.set(ylabel="death d, before training (%)", title="careful % / steps: gain")
    shares = sorted({row["careful"] for row in rows})
    for share, colour in zip(shares, CYCLE, strict=False):
        here = sorted((row for row in rows if row["careful"] == share), key=lambda row: row["h"])
        x = [100 * row["h"] for row in here]
        y = [row["gain"].mean for row in here]
        half = [row["gain"].half for row in here]
        label = f"{100 * share:.0f} % careful"
        ax.errorbar(x, y, half, fmt="o", capsize=4, color=colour, label=label)
    ax.axhline(0, color="#6B6B6B", linestyle="--", linewidth=1)
    ax.set(xlim=(-5, 105), xlabel="honesty h, before training (%)", ylabel="gain (points)")
    ax.set(title="the same with 95 % intervals")
    ax.legend()
    plt.close(fig)
    return fig


def draw_margins(counts: dict[int, tuple[int, int]], fitted: int) -> plt.Figure:
    """Share of right guided rows by margin: margin -> (right, of how many)."""
    fig, ax = plt.subplots(figsize=(6.0, 2.8), layout="constrained")
    for margin, (right, n) in counts.items():
        low, high = wilson(right, n)
        error = [[100 * (right / n - low)], [100 * (high - right / n)]]
        colour = CYCLE[1] if margin == fitted else CYCLE[0]
        ax.errorbar(margin, 100 * right / n, yerr=error, fmt="o", capsize=4, color=colour)
    ax.set(xlabel="margin: end tokens after the answer", ylim=(-3, 105))
    ax.set(ylabel="guided rows right (%)", title=f"fitted: {fitted}; bars: 95 %")
    plt.close(fig)
    return fig


def draw_chances(found: dict[str, list[list[float]]], digits: list[str]) -> plt.Figure:
    """Probability of two digits at one place, step by step until it is written.

    Args:
        found: label -> for each step the probabilities of both digits.
        digits: their names.
    """
    fig, ax = plt.subplots(figsize=(7.4, 2.8), layout="constrained")
    for (label, steps), line in zip(found.items(), ("--", "-"), strict=True):
        for k, colour in enumerate((CYCLE[0], CYCLE[1])):
            values = [100 * step[k] for step in steps]
            name = f"{label}: digit {digits[k]}"
            ax.plot(values, line, marker="o", color=colour, label=name)
    ax.set(xlabel="step", ylabel="probability (%)", ylim=(-3, 103))
    fig.legend(loc="outside right center", fontsize=9)
    plt.close(fig)
    return fig


def draw_recorded(table: list[dict], folder: str, stage: str) -> plt.Figure:
    """One row per task: test accuracy at equal passes with intervals, and validation curves.

    Args:
        table: of `records.summary`, its methods are labels.
        folder: holds compare_curves.csv.
        stage: of the runs.
    """
    tasks = list(dict.fromkeys(row["task"] for row in table))
    labels = list(dict.fromkeys(row["method"] for row in table))
    colours = dict(zip(labels, CYCLE, strict=False))
    shape = {"figsize": (9.4, 2.6 * len(tasks)), "squeeze": False, "layout": "constrained"}
    fig, axes = plt.subplots(len(tasks), 2, **shape)
    named = {}  # label -> its curve, for one legend
    for (dots, way), task in zip(axes, tasks, strict=True):
        rows = [row for row in table if row["task"] == task]
        for y, row in enumerate(rows):
            low = row["mean"] if row["low"] is None else row["low"]
            high = row["mean"] if row["high"] is None else row["high"]
            error = [[row["mean"] - low], [high - row["mean"]]]
            colour = colours[row["method"]]
            dots.errorbar(row["mean"], y, xerr=error, fmt="o", capsize=4, color=colour)
        dots.axvline(rows[0]["base"], color="#6B6B6B", linestyle="--")
        dots.set(yticks=range(len(rows)), yticklabels=[row["method"] for row in rows])
        dots.set(ylim=(len(rows) - 0.5, -0.5), title=task)
        dots.set(xlabel="test accuracy (%); dashed: base")
        for label, seeds in records.curves(folder, stage=stage, task=task).items():
            if label in colours:
                way.plot(*along(seeds), color=colours[label], marker=".", label=label)
        way.set(xlabel="forward passes (thousands)", ylabel="validation accuracy (%)")
        handles, names = way.get_legend_handles_labels()
        named.update(zip(names, handles, strict=True))
    fig.legend(named.values(), named, loc="outside lower center", ncols=3)
    plt.close(fig)
    return fig
