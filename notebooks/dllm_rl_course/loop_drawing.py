"""The drawing that opens the chapters: one turn of the training loop, and the five questions that
every method answers."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

# The five questions, in the order of README's "One idea".
QUESTIONS = {
    "blanks": "Which blanks are filled next?",
    "seen": "What may the rollout see?",
    "views": "Under which masked copies is a completion scored?",
    "advantage": "How do rewards become an advantage?",
    "loss": "How does that become a loss?",
}
# What each chapter answers anew, by its name: the answers that its opening drawing shows.
ANSWERS = {
    "the_whole_loop": {
        "blanks": "two a pass, surest first",
        "seen": "the prompt alone",
        "views": "one: the whole completion masked",
        "advantage": "reward minus the mean of its group",
        "loss": "clipped ratio, mean over the tokens",
    },
    "grpo": {
        "advantage": "group mean, leave-one-out, z-score",
        "loss": "ratio, clip, penalty and average",
    },
    "likelihood_estimators": {"views": "every published way, against the truth"},
    "diffu_grpo": {
        "views": "one: all masked, and some of the prompt",
        "loss": "several updates on one batch",
    },
    "coupled_grpo": {
        "views": "a random mask and its complement",
        "advantage": "reward minus the mean of the others",
        "loss": "one ratio for a token's three estimates",
    },
    "gdpo": {
        "views": "masks at three chosen noise levels",
        "loss": "one ratio for the whole completion",
    },
    "without_ratios": {
        "views": "pairs of complements (GDSD)",
        "advantage": "exponential weights (wd1)",
        "loss": "likelihood weighted, or distilled",
    },
    "visited_steps": {"views": "some of the canvases that were visited"},
    "every_prediction": {
        "blanks": "unsure ones again",
        "views": "the steps with the most credit",
        "advantage": "by step: every prediction is rewarded",
    },
    "ag_grpo": {
        "seen": "some rows: the answer",
        "views": "one, the answer masked or shown",
        "advantage": "a baseline for two kinds of rows",
    },
    "ta_grpo_d": {
        "blanks": "those that pass a gate",
        "advantage": "by token: early right ones count more",
    },
    "grpo_family": {
        "advantage": "seven rules for the credit of a text",
        "loss": "nine bounds for the ratio",
    },
    "who_may_be_compared": {
        "seen": "a sibling's dice",
        "advantage": "by step: what a canvas is worth",
    },
    "which_problem_next": {
        "seen": "part of a solved text",
        "advantage": "minus a past mean, or left out",
    },
    "before_and_beside": {
        "blanks": "none: the text is given (SFT)",
        "advantage": "1; a pair; wins; agreement",
        "loss": "likelihood, or a preference",
    },
}
# One turn, clockwise: the name of a step, the questions it answers, its column and row.
STEPS = [
    ("rollout", ["blanks", "seen"], 0, 1),
    ("reward", [], 1, 1),
    ("advantage", ["advantage"], 2, 1),
    ("views", ["views"], 2, 0),
    ("loss", ["loss"], 1, 0),
    ("optimiser step", [], 0, 0),
]
PLAIN_TEXT = {"reward": "a program says right or wrong", "optimiser step": "a new policy"}
PACKAGE = [  # the package's name for some of the steps: text, left, right, height
    ("collect", 0.0, 8.62, 3.72),
    ("score_views", 6.0, 8.62, -0.34),
    ("accumulate_gradients", 3.0, 5.62, -0.34),
]
WIDTH = 2.62  # of a box
HEIGHT = 1.42
LINE = 0.19  # from one line of text to the next
LETTERS = {"question": 29, "answer": 25}  # of a line; answers are bold
RIGHT = 3.0  # from one column to the next
UP = 2.0  # from one row to the next
INK = "#222222"
QUIET = "#6E6E6E"
LIT = "#0072B2"


def draw_loop(
    highlight: Iterable[str] | None = None, answers: Mapping[str, str] | None = None
) -> plt.Figure:
    """Draw one turn of the loop: six steps, and where the five questions are answered.

    Args:
        highlight: the questions in colour, keys of `QUESTIONS`; None: those with an answer, or all
            five where no answers are given.
        answers: a chapter's answer to a question, printed under it; at most two lines of 25
            letters, in the rollout one.
    Returns:
        A closed figure: as a cell's last expression it is displayed once.
    Raises:
        ValueError: for a question that does not exist.
    """
    answers = answers or {}
    if highlight is None:
        highlight = answers or QUESTIONS
    lit = set(highlight)
    for name in [*lit, *answers]:
        if name not in QUESTIONS:
            raise ValueError(f"unknown question {name!r}: one of {list(QUESTIONS)}")
    fig, ax = plt.subplots(figsize=(8.6, 4.3), dpi=110)
    ax.set(xlim=(-0.1, 8.72), ylim=(-0.75, 4.1))
    ax.axis("off")
    ax.set_position([0, 0, 1, 1])
    for step, questions, column, row in STEPS:
        corner = (column * RIGHT, row * UP)
        _box(ax, corner, bool(lit.intersection(questions)))
        _step(ax, corner, step, questions, lit, answers)
    _arrows(ax)
    for name, left, right, height in PACKAGE:
        _bracket(ax, name, left, right, height)
    plt.close(fig)
    return fig


def _box(ax: plt.Axes, corner: tuple[float, float], is_lit: bool) -> None:
    ax.add_patch(
        FancyBboxPatch(
            corner,
            WIDTH,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor="#E3F0F8" if is_lit else "#F6F6F6",
            edgecolor=LIT if is_lit else "#BBBBBB",
            linewidth=2 if is_lit else 1,
        )
    )


def _step(
    ax: plt.Axes,
    corner: tuple[float, float],
    step: str,
    questions: list[str],
    lit: set[str],
    answers: Mapping[str, str],
) -> None:
    """The words in a box: the step's name, and its questions and answers, or a plain line."""
    x = corner[0] + 0.12
    y = corner[1] + HEIGHT - 0.13
    ax.text(x, y, step, va="top", fontsize=12, fontweight="bold", color=INK)
    y -= 0.36
    if not questions:
        ax.text(x, y, PLAIN_TEXT[step], va="top", fontsize=9.8, color=QUIET)
    for name in questions:
        colour = LIT if name in lit else QUIET
        number = list(QUESTIONS).index(name) + 1
        badge = {"boxstyle": "circle,pad=0.2", "facecolor": colour, "edgecolor": "none"}
        look = {"color": "white", "fontweight": "bold", "bbox": badge}
        ax.text(x + 0.08, y - 0.08, str(number), ha="center", va="center", fontsize=8.5, **look)
        for line in textwrap.wrap(QUESTIONS[name], LETTERS["question"]):
            ax.text(x + 0.27, y, line, va="top", fontsize=9.8, color=colour)
            y -= LINE
        for line in textwrap.wrap(answers.get(name, ""), LETTERS["answer"]):
            ax.text(x + 0.27, y, line, va="top", fontsize=9.8, fontweight="bold", color=INK)
            y -= LINE
        y -= 0.06


def _arrows(ax: plt.Axes) -> None:
    """From each step to the next one, and back to the first."""
    places = [(column, row) for _, _, column, row in STEPS]
    for (column, row), (then, below) in zip(places, [*places[1:], places[0]], strict=True):
        x = column * RIGHT + WIDTH / 2
        y = row * UP + HEIGHT / 2
        if row == below:
            side = 1 if then > column else -1
            start = (x + side * WIDTH / 2, y)
            end = (then * RIGHT + WIDTH / 2 - side * WIDTH / 2, y)
        else:
            side = 1 if below > row else -1
            start = (x, y + side * HEIGHT / 2)
            end = (x, below * UP + HEIGHT / 2 - side * HEIGHT / 2)
        ax.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle="-|>", mutation_scale=15, linewidth=1.6, color=INK,
                shrinkA=2, shrinkB=2,
            )
        )  # fmt: skip


def _bracket(ax: plt.Axes, name: str, left: float, right: float, height: float) -> None:
    """A line along some steps, with the package's name for them."""
    ax.plot([left, right], [height, height], color=QUIET, linewidth=1)
    above = height > 1
    ax.text(
        (left + right) / 2,
        height + (0.06 if above else -0.06),
        name,
        ha="center",
        va="bottom" if above else "top",
        fontsize=10,
        family="monospace",
        color=INK,
    )
