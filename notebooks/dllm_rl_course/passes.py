"""Accuracy against forward passes, and what the timing of TA-GRPO-d does, as recorded by
`benchmarks/compare.py`. All functions take what is recorded: more runs make more rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from dllm_rl_lite.evaluation import read_results, records, t_interval
from dllm_rl_lite.tasks import load_task

Curve = Mapping[str, tuple[float, float]]  # decoder -> (passes a problem, accuracy in %)

CONTROL = "control"  # diffu-grpo with the prompt unmasked and a fixed schedule
NAMES = {"ag-grpo AF only": CONTROL}  # what ag-grpo is without guided rows
COLOURS = {
    "base": "#6B6B6B",
    CONTROL: "#D55E00",
    "ta-grpo-d": "#0072B2",
    "ta-grpo-d delta 0": "#56B4E9",
    "agrpo": "#E69F00",
    "ta-agrpo": "#009E73",
    "ta-agrpo delta 0": "#CC79A7",
}
DECODER = "threshold 0.8"  # at which models are compared
GUARD_COLOURS = {
    "none": "#009E73",
    "delta 0": "#CC79A7",
    "balanced": "#0072B2",
    "floor 5": "#D55E00",
    "right only": "#E69F00",
    "clamp": "#56B4E9",
}
GUARD_BUDGET = 16  # thousand forward passes
PREDICTED = {  # written down before the runs (benchmarks/studies.py)
    "balanced": "above 40 % and 4 passes",
    "floor 5": "above 4 passes",
    "right only": "slower to collapse",
    "clamp": "as without a guard",
}


def decoded(folder: str | Path, task: str) -> dict[str, dict[int, Curve]]:
    """label -> seed -> curve, of the models that are compared on a task, as far as recorded."""
    found = {}
    for row in read_results(Path(folder) / "compare_decoders.csv"):
        label = row["method"]
        if row["variant"] not in ("plain", "", None):
            label += f" {row['variant']}"
        label = NAMES.get(label, label)
        if row["task"] == task and label in COLOURS:
            curve = found.setdefault(label, {}).setdefault(row["seed"], {})
            curve[row["decoder"]] = (row["forwards"], 100 * row["accuracy"])
    return {label: found[label] for label in COLOURS if label in found}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of the 95 % t-interval; the width is 0 for one value."""
    values = list(values)
    return t_interval(values) if len(values) > 1 else (values[0], 0.0)


def draw_frontier(ax: plt.Axes, models: Mapping[str, Mapping[int, Curve]]) -> None:
    """Thresholds joined, fixed schedules as squares; bars are 95 % intervals over seeds.

    Args:
        ax: where to draw.
        models: as `decoded` returns them.
    """
    for label, seeds in models.items():
        name = f"{label}, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
        for kind, look in (("threshold", "o-"), ("schedule", "s")):
            points = []
            for decoder in next(iter(seeds.values())):
                if decoder.startswith(kind) and all(decoder in curve for curve in seeds.values()):
                    x, dx = interval([curve[decoder][0] for curve in seeds.values()])
                    y, dy = interval([curve[decoder][1] for curve in seeds.values()])
                    points.append((x, y, dx, dy))
            if points:
                x, y, dx, dy = zip(*sorted(points), strict=True)
                style = {"ms": 4, "elinewidth": 0.8, "color": COLOURS[label]}
                ax.errorbar(x, y, dy, dx, look, label=name if look == "o-" else None, **style)
    ax.set(xlabel="forward passes a problem", ylabel="right (%)")


def passes_needed(curve: Curve, wanted: float) -> float | None:
    """The fewest passes at which a curve reaches an accuracy (in %); None if it never does.

    Between two decoders the curve is a straight line; one that is worse than a faster one counts as
    equally good.
    """
    points = sorted(curve.values())
    passes, best = points[0]
    if best >= wanted:
        return passes
    for x, y in points[1:]:
        if y >= wanted:
            share = (wanted - best) / (y - best)
            return passes + share * (x - passes)
        best = max(best, y)
        passes = x
    return None


def savings(models: Mapping[str, Mapping[int, Curve]], usual: float) -> list[dict]:
    """The passes that each model needs to be as good as the base model, and as the control, under
    the fixed schedule of two tokens a pass.

    Args:
        models: as `decoded` returns them.
        usual: passes of that schedule.
    Returns:
        one row per reference and model: mean and half width over seeds, the share of the usual
        passes in %, the ratio to the passes that the control needs (paired by seed).
    """
    rows = []
    for reference in ("base", CONTROL):
        if reference not in models:
            continue
        wanted = statistics.fmean(c["schedule 2"][1] for c in models[reference].values())
        need = {}
        for label, seeds in models.items():
            need[label] = {seed: passes_needed(curve, wanted) for seed, curve in seeds.items()}
        for label, by_seed in need.items():
            reached = [passes for passes in by_seed.values() if passes is not None]
            row = {"as good as": f"{reference}, {wanted:.1f} %", "model": label}
            row |= {"runs": len(by_seed), "reached": len(reached)}
            if reached:
                mean, half = interval(reached)
                row |= {"passes": mean, "±": half, "of the usual %": 100 * mean / usual}
            control = need.get(CONTROL, {})
            ratios = [
                passes / control[seed]
                for seed, passes in by_seed.items()
                if passes is not None and control.get(seed) is not None
            ]
            if len(ratios) > 1 and label not in ("base", CONTROL):
                row["/ control"], row["± "] = interval(ratios)
            rows.append(row)
    return rows


def difference(pairs: Sequence[float]) -> dict:
    """Of paired differences: how many, their mean, its half width, and whether it leaves out 0."""
    if len(pairs) < 2:
        return {"pairs": len(pairs)}
    mean, half = t_interval(list(pairs))
    shown = "no difference shown"
    if abs(mean) > half:
        shown = "more" if mean > 0 else "less"
    return {"pairs": len(pairs), "mean": mean, "±": half, "shown": shown}


COMPARED = (
    ("gate, with timing", "ta-grpo-d", CONTROL),
    ("gate, without timing", "ta-grpo-d delta 0", CONTROL),
    ("timing", "ta-grpo-d", "ta-grpo-d delta 0"),
    ("timing, visited steps", "ta-agrpo", "ta-agrpo delta 0"),
    ("any RL", CONTROL, "base"),
)


def causes(models: Mapping[str, Mapping[int, Curve]]) -> list[dict]:
    """What changes passes and accuracy at threshold 0.8: paired differences, as far as both models
    are recorded."""
    rows = []
    for cause, label, other in COMPARED:
        for column, what in enumerate(("passes", "right, points")):
            seeds = models.get(label, {})
            base = models.get(other, {})
            if other == "base" and base:
                base = dict.fromkeys(seeds, next(iter(base.values())))
            pairs = [
                seeds[seed][DECODER][column] - base[seed][DECODER][column]
                for seed in seeds
                if seed in base
            ]
            if pairs:
                comparison = {"what": cause, "models": f"{label} - {other}", "of": what}
                rows.append(comparison | difference(pairs))
    return rows


def last_third(rows: Sequence[dict], column: str = "steps_row") -> float | None:
    """The mean of a log's column over the last third of a run."""
    values = [row[column] for row in rows if row.get(column) not in (None, "")]
    return statistics.fmean(values[-max(1, len(values) // 3) :]) if values else None


def flags(folder: str | Path, method: str) -> list[dict]:
    """The summary of stage "flag", with the passes of a rollout in the last third of the runs."""
    log = records.curves(folder, method, stage="flag")
    rows = records.summary(records.results(folder, "flag", method))
    for row in rows:
        passes = [last_third(run) for run in log.get(f"{method} {row['variant']}", [])]
        row["passes"] = statistics.fmean(passes) if passes else None
    return rows


def timing_alone(folder: str | Path) -> list[dict]:
    """delta 1 minus delta 0 in stage "flag" (chain2, equal passes of training), paired by seed."""
    rows = []
    for method in ("ta-grpo-d", "ta-agrpo"):
        passes = {}
        for label, runs in records.curves(folder, method, stage="flag").items():
            for run in runs:
                passes[label.removeprefix(f"{method} "), run[0]["seed"]] = last_third(run)
        accuracy = {
            (row["variant"], row["seed"]): 100 * row["accuracy"]
            for row in records.results(folder, "flag", method)
        }
        for what, values in (("passes of a rollout", passes), ("right, points", accuracy)):
            pairs = [
                value - values["delta 0", seed]
                for (variant, seed), value in values.items()
                if variant == "plain" and ("delta 0", seed) in values
            ]
            rows.append({"timing of": method, "of": what} | difference(pairs))
    return rows


def guarded_runs(folder: str | Path) -> dict[str, list[list[dict]]]:
    """guard -> logs of ta-agrpo on sudoku4, one per seed, up to the budget of stage "guards".

    "none" and "delta 0" are runs of stage "summit", cut off there.
    """
    found = {}
    for stage in ("summit", "guards"):
        logs = records.curves(folder, "ta-agrpo", stage=stage, task="sudoku4")
        for label, runs in logs.items():
            guard = label.removeprefix("ta-agrpo").strip() or "none"
            for run in runs:
                rows = [row for row in run if row["forwards"] <= GUARD_BUDGET + 1]
                found.setdefault(guard, []).append(rows)
    return {guard: found[guard] for guard in GUARD_COLOURS if guard in found}


def guard_table(runs: Mapping[str, Sequence[Sequence[dict]]]) -> list[dict]:
    """Per guard: the passes of the first and the last rollouts, and the last validation accuracy
    (mean and worst seed), all up to the budget.

    Args:
        runs: as `guarded_runs` returns them.
    """
    rows = []
    for guard, seeds in runs.items():
        passes = [values_of(log, "steps_row") for log in seeds]
        right = [values_of(log, "eval_accuracy") for log in seeds]
        rows.append(
            {
                "guard": guard,
                "seeds": len(seeds),
                "passes, first": statistics.fmean(values[0] for values in passes),
                "passes, last": statistics.fmean(values[-1] for values in passes),
                "fewest": min(values[-1] for values in passes),
                "right %, first": 100 * statistics.fmean(values[0] for values in right),
                "right %, last": 100 * statistics.fmean(values[-1] for values in right),
                "worst": 100 * min(values[-1] for values in right),
                "predicted": PREDICTED.get(guard),
            }
        )
    return rows


def values_of(log: Sequence[dict], column: str) -> list[float]:
    """The values of a log's column; empty cells are left out."""
    return [row[column] for row in log if row.get(column) not in (None, "")]


def draw_guards(axes: Sequence[plt.Axes], runs: Mapping[str, Sequence[Sequence[dict]]]) -> None:
    """Passes of a rollout, and validation accuracy, over the forward passes of training.

    Args:
        axes: two.
        runs: as `guarded_runs` returns them; each line is a seed.
    """
    columns = (("steps_row", 1, "passes of a rollout"), ("eval_accuracy", 100, "right (%)"))
    for ax, (column, scale, label) in zip(axes, columns, strict=True):
        for guard, seeds in runs.items():
            for number, log in enumerate(seeds):
                rows = [row for row in log if row.get(column) not in (None, "")]
                x = [row["forwards"] for row in rows]
                y = [scale * row[column] for row in rows]
                name = f"{guard} ({len(seeds)})" if number == 0 else None
                ax.plot(x, y, "o-", ms=3, lw=1.2, color=GUARD_COLOURS[guard], label=name)
        ax.set(xlabel="thousand forward passes of training", ylabel=label, ylim=(0, None))


def recorded(folder: str | Path, tasks: Sequence[str]) -> dict[str, tuple[dict, float]]:
    """task -> its models (as `decoded`) and the usual passes, for the tasks that are recorded."""
    found = {}
    for task in tasks:
        models = decoded(folder, task)
        if models:
            found[task] = (models, load_task(task).length / 2)
    return found
