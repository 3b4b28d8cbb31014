"""What *Evaluate* draws and prints: set-up that is not its subject."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import matplotlib.pyplot as plt

from dllm_rl_lite.evaluation import Report, wilson
from dllm_rl_lite.tasks import GeneratedTask


def draw_frontier(
    ax: plt.Axes, reports: Mapping[str, Report], *, colour: str, name: str | None
) -> None:
    """Accuracy with its interval over the forward passes that it cost.

    Args:
        ax: where to draw.
        reports: one per decoder, by its label; " p" in a label makes it a square.
        colour: of all points.
        name: in the legend.
    """
    for label, report in reports.items():
        accuracy = 100 * report.accuracy
        bar = [[accuracy - 100 * report.low], [100 * report.high - accuracy]]
        threshold = " p" in label
        shape = "s" if threshold else "o"
        ax.errorbar(
            report.mean_forwards, accuracy, bar, fmt=shape, color=colour, capsize=4, label=name
        )
        ax.annotate(
            label,
            (report.mean_forwards, accuracy),
            (-6 if threshold else 6, 5),
            textcoords="offset points",
            ha="right" if threshold else "left",
            fontsize=9,
        )
        name = None
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.xaxis.set_minor_formatter("")
    ax.margins(x=0.18)
    ax.set(xlabel="forward passes a completion", ylabel="accuracy (%)", ylim=(0, None))


def draw_pass_at(
    ax: plt.Axes, ks: Sequence[int], curves: Mapping[str, Sequence[tuple[float, float, float]]]
) -> None:
    """pass@k over k, with bands.

    Args:
        ax: where to draw.
        ks: numbers of completions allowed.
        curves: by name, for each k the value and its interval, as shares.
    """
    for (name, values), style in zip(curves.items(), ("o-", "s-", "k:"), strict=True):
        mean, low, high = ([100 * v[i] for v in values] for i in range(3))
        (line,) = ax.plot(ks, mean, style, label=name)
        ax.fill_between(ks, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    ax.set_xscale("log", base=2)
    ax.set_xticks(ks, ks)
    ax.set(xlabel="k, completions allowed", ylabel="pass@k (%)", ylim=(0, 102))
    ax.legend(title="band: 95 % over problems")


def draw_checkpoints(ax: plt.Axes, checkpoints: Sequence[Mapping]) -> None:
    """Validation and test accuracy over the steps of a run, the best of each with a star.

    Args:
        ax: where to draw.
        checkpoints: each with `step`, `validation` (a share) and `test` (a Report).
    """
    steps = [c["step"] for c in checkpoints]
    n = checkpoints[0]["test"].n
    curves = {
        "validation": [c["validation"] for c in checkpoints],
        "test": [c["test"].accuracy for c in checkpoints],
    }
    for (name, shares), colour in zip(curves.items(), ("C0", "C1"), strict=True):
        intervals = [wilson(round(share * n), n) for share in shares]
        low = [100 * a for a, _ in intervals]
        high = [100 * b for _, b in intervals]
        ax.plot(steps, [100 * share for share in shares], "o-", color=colour, label=name)
        ax.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        top = shares.index(max(shares))
        ax.plot(steps[top], 100 * shares[top], "*", markersize=17, color=colour)
    ax.set(xlabel="batches of rollouts", ylabel="accuracy (%)")
    ax.legend(title="star: best; band: 95 % over problems")


def print_completion(title: str, row: Mapping, *, ours: float, theirs: float) -> None:
    """A saved completion with its problem and the rewards by two sets of rules.

    Args:
        title: of the first line.
        row: with `prompt`, `completion` and `answer`.
        ours: the reward by this package's rules.
        theirs: the reward by those of d1's release.
    """
    ends = row["completion"].count("<|endoftext|>")
    said = row["completion"].replace("<|endoftext|>", "").strip()
    print(f"{title}: gold {row['answer']}, reward by our rules {ours:.0f}, by d1's {theirs:.0f}")
    for line in [*row["prompt"].splitlines(), "", *said.splitlines()]:
        print(textwrap.fill(line, 78))
    print(f"[and {ends} tokens <|endoftext|>]\n" + "-" * 78)


def with_prompt(task: GeneratedTask, rewrite: Callable[[str], str]) -> GeneratedTask:
    """The same problems and splits of a task with another prompt; `columns["bare"]` keeps the old.

    Args:
        task: whose prompts change.
        rewrite: the old prompt -> the new one.
    """

    def make(rng):
        example = task.make(rng)
        columns = {"bare": example.prompt}
        return replace(example, prompt=rewrite(example.prompt), columns=columns)

    def bare(example):
        return replace(example, prompt=example.columns["bare"])

    return replace(
        task,
        make=make,
        key=lambda example: example.columns["bare"],
        shows_habit=lambda example, completion: task.shows_habit(bare(example), completion),
    )


def worked_examples(task: GeneratedTask, n: int, habit_share: float) -> str:
    """n training problems of a task with their working, a line each.

    Args:
        task: with demonstrations.
        n: how many.
        habit_share: of the examples that show the task's habit, in [0, 1].
    """
    rng = random.Random(0)
    lines = []
    for example in task.sample(n, "train", 5):
        lines.append(f"{example.prompt} {task.demonstrate(example, rng, habit_share)}\n")
    return "".join(lines)
