"""What the runs of `benchmarks/two_stages.py` show: fine-tuning and then reinforcement at the
passes of either alone, and which texts do without working."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from dllm_rl_lite.evaluation import records, t_interval

BUDGET = 24_000  # passes computed
LOOKS = {
    "sft": ("#000000", "-"),
    "sft 80, then grpo": ("#0072B2", "-"),
    "sft 20, then grpo": ("#56B4E9", "-"),
    "ton 80, then grpo": ("#009E73", "-"),
    "grpo": ("#D55E00", "-"),
    "ton": ("#E69F00", "--"),
}
TASKS = ("chain1", "chain2", "chain4")


def recorded(folder: str | Path) -> pd.DataFrame:
    """One row per recipe, seed, task and way of writing (greedy or sampled)."""
    return pd.read_csv(Path(folder) / "two_stages.csv")


def accuracies(folder: str | Path) -> dict[str, list[float]]:
    """recipe -> greedy test accuracy in % of each seed on `chain2`; `sft` and `grpo` alone are
    those of stage "stages" of the comparison."""
    table = recorded(folder)
    table = table[(table["task"] == "chain2") & (table["texts"] == "greedy")]
    found = {
        recipe: (100 * runs.sort_values("seed")["accuracy"]).tolist()
        for recipe, runs in table.groupby("recipe")
    }
    for method in ("sft", "grpo"):
        runs = records.results(folder, "stages", task="chain2")
        runs = sorted((r for r in runs if r["method"] == method), key=lambda run: run["seed"])
        found[method] = [100 * run["accuracy"] for run in runs]
    return {recipe: found[recipe] for recipe in LOOKS if recipe in found}


def accuracy_rows(folder: str | Path) -> list[dict]:
    """A row of text per recipe: its seeds, and its paired differences to `grpo` and `sft`, a star
    where the 95 % interval leaves out 0."""
    found = accuracies(folder)
    rows = []
    for recipe, own in found.items():
        row = {
            "recipe": recipe,
            "by seed": " ".join(f"{value:.0f}" for value in own),
            "mean": f"{np.mean(own):.1f}",
        }
        for other in ("grpo", "sft"):
            if recipe != other:
                row[f"minus {other}"] = difference(own, found[other])
        rows.append(row)
    return rows


def difference(one: list[float], other: list[float]) -> str:
    """Mean paired difference in points with its 95 % interval, as text."""
    gaps = [a - b for a, b in zip(one, other, strict=True)]
    mean, half = t_interval(gaps)
    star = "*" if abs(mean) > half else ""
    return f"{mean:+.1f} ± {half:.1f}{star}"


def validation_curves(folder: str | Path) -> dict[str, list[pd.DataFrame]]:
    """recipe -> for each seed its columns computed, accuracy and stage, by passes."""
    folder = Path(folder)
    table = pd.read_csv(folder / "two_stages_curves.csv")
    found = {}
    for (recipe, _), run in table.groupby(["recipe", "seed"]):
        found.setdefault(recipe, []).append(run.sort_values("computed"))
    logs = pd.read_csv(folder / "compare_curves.csv", low_memory=False)
    logs = logs[(logs["stage"] == "stages") & (logs["task"] == "chain2")]
    for method in ("sft", "grpo"):
        for _, run in logs[logs["method"] == method].groupby("seed"):
            run = run.sort_values("step")
            passes = run["computed_rollout"].fillna(0) + run["computed_update"].fillna(0)
            run = run.assign(computed=passes.cumsum(), accuracy=run["eval_accuracy"], stage=1)
            found.setdefault(method, []).append(run.dropna(subset=["accuracy"]))
    return {recipe: found[recipe] for recipe in LOOKS if recipe in found}


def draw_accuracy(curves: dict[str, list[pd.DataFrame]]) -> plt.Figure:
    """Validation accuracy against passes: the mean of the seeds, a dot where fine-tuning ends."""
    fig, ax = plt.subplots(figsize=(8.2, 3.8), layout="constrained")
    passes = np.linspace(0, BUDGET, 200)
    for recipe, runs in curves.items():
        colour, line = LOOKS[recipe]
        each = [np.interp(passes, run["computed"], 100 * run["accuracy"]) for run in runs]
        mean = np.mean(each, axis=0)
        ax.plot(passes / 1000, mean, line, color=colour, label=recipe)
        ends = [run.loc[run["stage"] == 1, "computed"].max() for run in runs]
        if max(ends) < 0.5 * BUDGET:
            end = np.mean(ends)
            ax.plot(end / 1000, np.interp(end, passes, mean), "o", color=colour)
    ax.set(xlabel="passes computed (thousands)", ylabel="validation accuracy (%)", ylim=(0, 102))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return fig


def draw_bare(table: pd.DataFrame) -> plt.Figure:
    """The share of texts without working by difficulty, a dot per seed, for each way of writing."""
    fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.2), sharey=True, layout="constrained")
    for ax, texts in zip(axes, ("greedy", "sampled", "left to right"), strict=True):
        for recipe, shift in (("ton", -0.12), ("ton 80, then grpo", 0.12)):
            own = table[(table["recipe"] == recipe) & (table["texts"] == texts)]
            place = own["task"].map(TASKS.index)
            spread = 0.02 * (own["seed"] - 2)
            ax.plot(
                place + shift + spread,
                100 * own["bare"],
                "o",
                color=LOOKS[recipe][0],
                alpha=0.8,
                label=recipe,
            )
        ax.set_xticks(range(len(TASKS)), TASKS)
        ax.set_title(texts, loc="left")
    axes[0].set(ylabel="texts without working (%)", ylim=(-4, 104))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def group_rows(table: pd.DataFrame) -> list[dict]:
    """A row of text per seed: the groups that the second stage starts from, in %."""
    rows = []
    for _, run in table[table["texts"] == "groups"].sort_values("seed").iterrows():
        row = {"seed": int(run["seed"])}
        for column in ("bare", "right_bare", "right_worked", "mixed"):
            row[column.replace("_", " ")] = f"{100 * run[column]:.0f}"
        rows.append(row)
    return rows


def format_rows(table: pd.DataFrame) -> list[dict]:
    """A row of text per recipe, seed and way of writing, on `chain2`: which texts are bare, and how
    many of either kind are right, in %."""
    own = table[(table["task"] == "chain2") & table["recipe"].isin(["ton", "ton 80, then grpo"])]
    rows = []
    for _, run in own.sort_values(["recipe", "seed", "texts"]).iterrows():
        row = {"recipe": run["recipe"], "seed": int(run["seed"]), "texts": run["texts"]}
        for column in ("accuracy", "bare", "right_bare", "right_worked"):
            value = run[column]
            row[column.replace("_", " ")] = None if pd.isna(value) else f"{100 * value:.0f}"
        rows.append(row)
    return rows
