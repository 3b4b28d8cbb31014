"""The ledger of claims: `python benchmarks/claims.py` reads the records and writes
notebooks/results/claims.csv, one row for each claim of the core methods' papers that can be put to
this tiny world, and one for each other record of `METHODS`: does it learn more than its parent, or
than the first of its family, at equal passes, on the task of its claim?

A row names the setting, the effect with its 95 % interval, and a verdict by the same rule for all:
"held" if the interval lies on the claimed side of the stated value, "not held" if it lies on the
other side, "open" if it holds that value or nothing is recorded. The claims are those of the
papers; settings and values are ours, most of them chosen when the records were there already (those
of AG-GRPO in the writers' worlds were written down before).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from result_tables import record
from studies import (
    BUDGET,
    COMPUTED,
    FAMILY_VARIANT,
    HARD_RUN,
    HARD_TASK,
    MERGED,
    NEWER_CLAIMS,
    PATHS_RUN,
    PATHS_TASK,
    PROBLEM_RUNS,
    PUBLISHED,
    STAGES_APART,
    TUNE_TASK,
    WORLDS,
    run_as,
)
from worlds import RESULTS

from dllm_rl_lite.evaluation import read_results, t_interval
from dllm_rl_lite.evaluation.records import curves, results
from dllm_rl_lite.methods import BUDGETS, FAMILY, METHODS, STAGES

CONTROLS = ("dapo", "grpo-pool", "gated-grpo")  # of the problems: there to be compared with
NOTHING = (math.nan, math.nan, 0)  # mean, half width, runs
COMPARE = "python benchmarks/compare.py --stages"


@dataclass(frozen=True)
class Claim:
    """A claim and how it is put to the records."""

    claim: str
    method: str  # whose claim it is
    setting: str
    unit: str  # of the effect
    side: str  # "above" or "below"
    limit: float  # on that side of it the effect is what was claimed
    # The folder of the records -> mean, half width of the 95 % interval, runs.
    effect: Callable[[Path], tuple[float, float, int]]
    command: str
    family: str = "claims of the core methods"


def verdict(claim: Claim, mean: float, half_width: float) -> str:
    """held, not held or open, by the rule above."""
    ahead = mean - claim.limit if claim.side == "above" else claim.limit - mean
    if ahead > half_width:
        return "held"
    if -ahead > half_width:
        return "not held"
    return "open"  # also for NaN


def interval(values: list[float]) -> tuple[float, float, int]:
    """mean, half width, how many; nothing from fewer than two."""
    if len(values) < 2:
        return NOTHING
    return (*t_interval(values), len(values))


def difference(
    stage: str, first: str, second: str, task: str = ""
) -> Callable[[Path], tuple[float, float, int]]:
    """Test accuracy of one "method/variant" minus another's, in points, paired by seed, on a task
    or on all ("")."""

    def effect(folder: Path) -> tuple[float, float, int]:
        found = accuracies(folder, stage)
        pairs = [
            found[first, its, seed] - found[second, its, seed]
            for label, its, seed in found
            if label == first and its in (task or its,) and (second, its, seed) in found
        ]
        return interval(pairs)

    return effect


def accuracies(folder: Path, stage: str) -> dict[tuple[str, str, int], float]:
    """("method/variant", task, seed) -> test accuracy in %."""
    return {
        (f"{row['method']}/{row['variant']}", row["task"], row["seed"]): 100 * row["accuracy"]
        for row in results(folder, stage)
    }


def gain_over_base(stage: str, label: str, task: str) -> Callable[[Path], tuple[float, float, int]]:
    """Test accuracy after training minus the base model's, in points."""

    def effect(folder: Path) -> tuple[float, float, int]:
        gains = [
            100 * (row["accuracy"] - row["before"])
            for row in results(folder, stage)
            if f"{row['method']}/{row['variant']}" == label and row["task"] == task
        ]
        return interval(gains)

    return effect


def smallest_gain(folder: Path) -> tuple[float, float, int]:
    """agrpo's gain over the base on the task where its interval reaches lowest."""
    gains = [gain_over_base("final", "agrpo/plain", task) for task in ("chain2", "sudoku4")]
    gains += [gain_over_base("summit", "agrpo/plain", task) for task in ("chain", "chain_worked")]
    found = [gain(folder) for gain in gains]
    return min(found, key=lambda effect: effect[0] - effect[1])


def estimator(name: str, column: str) -> tuple[float, float]:
    """A column of estimators.csv and its standard error, base model, random order."""
    for row in read_results(RESULTS / "estimators.csv"):
        if (row["state"], row["decoder"], row["estimator"]) == ("base", "random order", name):
            return row[column], row[f"{column}_se"]
    raise ValueError(f"no estimator {name!r} is recorded in estimators.csv")


def bias(name: str) -> Callable[[Path], tuple[float, float, int]]:
    """Mean error of one draw, in nats."""

    def effect(folder: Path) -> tuple[float, float, int]:
        mean, error = estimator(name, "bias")
        return mean, 1.96 * error, 48

    return effect


def less_spread(name: str, other: str) -> Callable[[Path], tuple[float, float, int]]:
    """Standard deviation of one draw minus another estimator's, in nats."""

    def effect(folder: Path) -> tuple[float, float, int]:
        mean, error = estimator(name, "sd")
        other_mean, other_error = estimator(other, "sd")
        return mean - other_mean, 1.96 * math.hypot(error, other_error), 48

    return effect


def decoded(folder: Path, label: str, task: str) -> dict[int, dict[str, dict]]:
    """seed -> decoder -> row of compare_decoders.csv."""
    found = {}
    for row in read_results(folder / "compare_decoders.csv"):
        if (f"{row['method']}/{row['variant']}", row["task"]) == (label, task):
            found.setdefault(row["seed"], {})[row["decoder"]] = row
    return found


def quarter_of_the_passes(folder: Path) -> tuple[float, float, int]:
    """Accuracy of agrpo on chain2 at four tokens a pass minus that at one, in points."""
    gains = []
    for rows in decoded(folder, "agrpo/plain", "chain2").values():
        gains.append(100 * (rows["schedule 4"]["accuracy"] - rows["schedule 1"]["accuracy"]))
    return interval(gains)


def passes_at_base_accuracy(task: str) -> Callable[[Path], tuple[float, float, int]]:
    """Passes that ta-grpo-d needs to be as good as the base model under the fixed schedule of two
    tokens a pass, over that schedule's: the cheapest decoder that is good enough, by seed."""

    def effect(folder: Path) -> tuple[float, float, int]:
        base = decoded(folder, "base/plain", task).get(0)
        shares = []
        for rows in decoded(folder, "ta-grpo-d/plain", task).values():
            good = [
                row["forwards"]
                for row in rows.values()
                if row["accuracy"] >= base["schedule 2"]["accuracy"]
            ]
            shares.append(min(good, default=math.inf) / base["schedule 2"]["forwards"])
        return interval(shares)

    return effect


def dead_and_honest(folder: Path) -> list[str]:
    """The worlds with more than four fifths dead groups and more than two fifths honest guided
    completions."""
    file = folder / "worlds.csv"
    rows = read_results(file) if file.is_file() else []
    return [
        row["world"]
        for row in rows
        if row["variant"] == "plain"
        and row["world"] in WORLDS
        and row["dead"] > 0.8
        and row["h"] > 0.4
    ]


def gain_where_groups_are_dead(folder: Path) -> tuple[float, float, int]:
    """ag-grpo minus AF only in those worlds, in points."""
    found = accuracies(folder, "worlds")
    pairs = []
    for world in dead_and_honest(folder):
        for seed in range(5):
            first = ("ag-grpo/plain", world, seed)
            second = ("ag-grpo/AF only", world, seed)
            if first in found and second in found:
                pairs.append(found[first] - found[second])
    return interval(pairs)


def transfer(folder: Path) -> tuple[float, float, int]:
    """Reward of free completions in ag-grpo's last third of batches minus that in its first, in
    those worlds."""
    rises = []
    for world in dead_and_honest(folder):
        runs = curves(folder, stage="worlds", task=world)
        for rows in runs.get("ag-grpo", []):
            free = [row["reward_free"] for row in rows if row.get("reward_free") is not None]
            third = max(len(free) // 3, 1)
            rises.append(sum(free[-third:]) / third - sum(free[:third]) / third)
    return interval(rises)


def padding_cure(folder: Path) -> tuple[float, float, int]:
    """Right answers of seven padding tokens minus those of end padding, in points, paired by seed,
    on a canvas of twice the length in training."""
    path = folder / "bodies.csv"
    rows = read_results(path) if path.is_file() else []
    right = {(row["body"], row["seed"]): 100 * row["right"] for row in rows if row["setting"] == 48}
    pairs = []
    for body, seed in right:
        other = ("end padding, all lines", seed)
        if body == "rainbow, all lines" and other in right:
            pairs.append(right[body, seed] - right[other])
    return interval(pairs)


ESTIMATORS = "python benchmarks/estimators.py"
CLAIMS = [
    Claim(
        "one forward pass gives a biased likelihood",
        "diffu-grpo",
        "base model, nine tokens in random order, whole prompt; mean error",
        "nats",
        "below",
        0.0,
        bias("one_step whole_prompt"),
        ESTIMATORS,
    ),
    Claim(
        "three quadrature nodes spread less than four random masks",
        "gdpo",
        "base model, nine tokens in random order; difference of standard deviations",
        "nats",
        "below",
        0.0,
        less_spread("quadrature 3", "random_masks 4"),
        ESTIMATORS,
    ),
    Claim(
        "complementary masks spread less than independent ones",
        "coupled-grpo",
        "base model, nine tokens in random order, two passes; difference of standard deviations",
        "nats",
        "below",
        0.0,
        less_spread("complement_pairs elbo 1", "random_masks 2"),
        ESTIMATORS,
    ),
    Claim(
        "weighted likelihood without ratios learns more than diffu-GRPO",
        "wd1",
        "chain2 and sudoku4, 60 000 passes",
        "points",
        "above",
        0.0,
        difference("final", "wd1/plain", "diffu-grpo/plain"),
        f"{COMPARE} final",
    ),
    Claim(
        "a sampled visited step is unbiased",
        "agrpo",
        "base model, nine tokens in random order; mean error, held if above -0.25",
        "nats",
        "above",
        -0.25,
        bias("visited_steps 1"),
        ESTIMATORS,
    ),
    Claim(
        "accuracy is kept with a quarter of the passes",
        "agrpo",
        "chain2, trained at two tokens a pass; four tokens a pass against one, kept: within 5",
        "points",
        "above",
        -5.0,
        quarter_of_the_passes,
        f"{COMPARE} summit --tasks chain2",
    ),
    Claim(
        "rewarding every prediction learns more than rewarding the last",
        "mdpo",
        "chain2 and sudoku4, 60 000 passes, against agrpo",
        "points",
        "above",
        0.0,
        difference("final", "mdpo/plain", "agrpo/plain"),
        f"{COMPARE} final",
    ),
    Claim(
        "running-confidence remasking learns more",
        "mdpo",
        "chain2, 30 000 passes, against mdpo without it",
        "points",
        "above",
        0.0,
        difference("flag", "mdpo/rcr", "mdpo/plain"),
        f"{COMPARE} flag --methods mdpo",
    ),
    Claim(
        "self-distillation is stable: it does not fall below the base model",
        "gdsd",
        "sudoku4, 60 000 passes, learning rate tuned on chain2",
        "points",
        "above",
        0.0,
        gain_over_base("final", "gdsd/plain", "sudoku4"),
        f"{COMPARE} final --methods gdsd",
    ),
    Claim(
        "guided completions beat answer-free ones where groups are dead",
        "ag-grpo",
        "writers' worlds with d > 0.8 and h > 0.4, 40 000 passes, the working rewarded",
        "points",
        "above",
        0.0,
        gain_where_groups_are_dead,
        f"{COMPARE} worlds",
    ),
    Claim(
        "the reward of free completions rises too",
        "ag-grpo",
        "the same worlds; last third of the batches minus the first",
        "reward",
        "above",
        0.0,
        transfer,
        f"{COMPARE} worlds",
    ),
    Claim(
        "accuracy is kept in half the passes",
        "ta-grpo-d",
        "sudoku4; passes at the base model's accuracy over those of its fixed schedule",
        "ratio",
        "below",
        0.5,
        passes_at_base_accuracy("sudoku4"),
        f"{COMPARE} summit --tasks sudoku4",
    ),
    Claim(
        "credit for early rewards learns more than plain credit",
        "ta-grpo-d",
        "three_chains, 80 000 passes, against the same method with delta 0",
        "points",
        "above",
        0.0,
        difference("timed", "ta-grpo-d/plain", "ta-grpo-d/delta 0"),
        f"{COMPARE} timed",
    ),
    Claim(
        "reinforcement learning beats the base model on every task",
        "agrpo",
        "chain2, sudoku4 (60 000 passes), chain, chain_worked (40 000): the least certain of them",
        "points",
        "above",
        0.0,
        smallest_gain,
        f"{COMPARE} final summit",
    ),
    Claim(
        "padding with several tokens cures early ends",
        "rainbow padding",
        "chain2, completions with all lines, trained on a canvas of 24 tokens and decoded on 48",
        "points",
        "above",
        0.0,
        padding_cure,
        "python benchmarks/bodies.py",
    ),
]


def relative(family: str, stage: str, label: str, parent: str, task: str) -> Claim:
    """The row of a record that is compared with its parent, in points of test accuracy.

    Args:
        family: what the record belongs to.
        stage: of `compare.py`, where both are run.
        label: "method" or "method/variant".
        parent: likewise.
        task: where.
    """
    method, _, variant = label.partition("/")
    other, _, other_variant = parent.partition("/")
    counted = "passes computed" if stage in COMPUTED else "passes"
    against = other_variant if other == method else other
    return Claim(
        f"learns more than {against}",
        method,
        f"{task}, {BUDGET[stage]:,} {counted}".replace(",0", " 0"),
        "points",
        "above",
        0.0,
        difference(
            stage, f"{method}/{variant or 'plain'}", f"{other}/{other_variant or 'plain'}", task
        ),
        f"{COMPARE} {stage}",
        family,
    )


def relatives() -> list[Claim]:
    """A row for each record beyond the claims of the core methods, family by family."""
    likelihood = "likelihoods and combinations"
    found = [
        relative(likelihood, "likelihoods", method, "diffu-grpo", TUNE_TASK)
        for method in PUBLISHED
        if method != "diffu-grpo"
    ]
    found.append(relative(likelihood, "merged", *reversed(MERGED), TUNE_TASK))
    for method in ("ag-agrpo", "ta-agrpo"):
        found.append(relative(likelihood, "summit", method, "agrpo", "chain"))
    found.append(relative(likelihood, "summit", "ag-ta-grpo", "ta-agrpo", "chain"))
    for method in FAMILY:
        if method != "grpo":
            found.append(
                relative(
                    "ratios and advantages",
                    "family",
                    f"{method}/{FAMILY_VARIANT}",
                    f"grpo/{FAMILY_VARIANT}",
                    TUNE_TASK,
                )
            )
    for label in PATHS_RUN[1:]:
        found.append(relative("credit along the path", "paths", label, "grpo", PATHS_TASK))
    beside = [("hard problems", HARD_TASK, HARD_RUN)]
    for task, methods in PROBLEM_RUNS.items():
        beside.append(("problems", task, [run_as(method) for method in methods]))
    for stage, task, labels in beside:
        label_of = {label.partition("/")[0]: label for label in labels}
        for method, label in label_of.items():
            parent = METHODS[method].parent
            if parent in label_of and method not in CONTROLS:
                family = "hints and budgets" if method in BUDGETS else "problems and memory"
                found.append(relative(family, stage, label, label_of[parent], task))
    for method in STAGES:
        task = STAGES_APART.get(method, TUNE_TASK)
        found.append(relative("given texts and pairs", "stages", method, "grpo", task))
    for label, control in NEWER_CLAIMS.items():
        found.append(relative(likelihood, "newer", label, control, TUNE_TASK))
    return found


def write(folder: Path = RESULTS) -> list[dict]:
    """Put every claim to the records of a folder, and write claims.csv there."""
    rows = []
    for claim in (*CLAIMS, *relatives()):
        mean, half_width, runs = claim.effect(folder)
        row = {
            "family": claim.family,
            "claim": claim.claim,
            "method": claim.method,
            "setting": claim.setting,
            "claimed": f"{claim.side} {claim.limit:g}",
            "effect": mean,
            "low": mean - half_width,
            "high": mean + half_width,
            "unit": claim.unit,
            "runs": runs,
            "verdict": verdict(claim, mean, half_width),
            "command": claim.command,
        }
        rows.append(row)
    (folder / "claims.csv").unlink(missing_ok=True)
    record(rows, folder / "claims.csv", ("method", "claim", "setting"))
    return rows


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    for row in write():
        print(
            f"{row['method']}: {row['claim']}: {row['effect']:.3g} "
            f"[{row['low']:.3g}, {row['high']:.3g}] {row['unit']}, {row['verdict']}"
        )
