"""The recorded runs of AG-GRPO against its control, read from notebooks/results: the worlds with
known writers, what was predicted for them, and the tasks of the course."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt

from dllm_rl_lite.evaluation import records, t_interval
from dllm_rl_lite.show import CYCLE

CONTROL = "ag-grpo AF only"
SHARES = {0.05: CYCLE[0], 0.15: CYCLE[1], 0.4: CYCLE[2]}  # of careful writers: colour
FAR = 1000.0  # points: no bound


@dataclass(frozen=True)
class Gain:
    """A paired difference of test accuracies, in points.

    Args:
        mean: over the seeds.
        half: of its 95 % interval.
        seeds: pairs.
    """

    mean: float
    half: float
    seeds: int

    @property
    def verdict(self) -> str:
        if self.mean - self.half > 0:
            return "better"
        if self.mean + self.half < 0:
            return "worse"
        return "no difference shown"

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ± {self.half:.1f}"


@dataclass(frozen=True)
class Prediction:
    """What was written down before the runs (a comment in benchmarks/studies.py).

    Args:
        task: of the runs, as in compare.csv.
        label: whose accuracy.
        other: minus whose.
        low, high: the difference in points lies between.
        shown: its interval leaves out 0 too.
        none: its interval contains 0, or the difference is negative.
    """

    task: str
    label: str = "ag-grpo"
    other: str = CONTROL
    low: float = -FAR
    high: float = FAR
    shown: bool = False
    none: bool = False

    @property
    def text(self) -> str:
        if self.none:
            return "no gain"
        if self.low == -FAR:
            return f"below {self.high:g}"
        if self.high == FAR:
            bound = f"at least {self.low:g}" if self.low else "above 0"
            return bound + (", interval above 0" if self.shown and self.low else "")
        return f"{self.low:g} to {self.high:g}"

    def holds(self, gain: Gain) -> bool:
        if self.none:
            return gain.verdict != "better"
        in_range = self.low <= gain.mean <= self.high
        return in_range and (not self.shown or gain.verdict == "better")


PREDICTIONS = (
    Prediction("writers 5/0", low=10, shown=True),
    Prediction("writers 5/2", low=10, shown=True),
    Prediction("writers 5/5", low=0),
    Prediction("writers 5/15", high=5),
    Prediction("writers 15/0", low=5, high=15),
    Prediction("writers 15/5", low=5, high=15),
    Prediction("writers 15/45", high=5),
    Prediction("writers 40/0", low=-5, high=5),
    Prediction("writers 40/13", low=-5, high=5),
    Prediction("writers 40/40", low=-5, high=5),
    Prediction("writers 40/60", low=-5, high=5),
    Prediction("writers_answer 5/15", high=-3),
    Prediction("writers_answer 40/60", high=-3),
    Prediction("writers 5/15", "ag-grpo one token", "ag-grpo", low=-5, high=5),
    Prediction("writers 5/15", "ag-grpo backwards", "ag-grpo", low=-5, high=5),
    Prediction("writers 5/15", "ag-grpo 3 drafts", "ag-grpo", low=-5, high=5),
    Prediction("writers 5/15", "ag-grpo importance", "ag-grpo", none=True),
)


def labelled(folder: str | Path, stage: str) -> list[dict]:
    """The runs of a stage, each with method and variant in one label."""
    rows = []
    for row in records.results(folder, stage):
        plain = row["variant"] == "plain"
        label = row["method"] if plain else f"{row['method']} {row['variant']}"
        rows.append(row | {"label": label})
    return rows


def versus(rows: list[dict], task: str, label: str, other: str) -> Gain | None:
    """The gain of one label over another on a task, paired over seeds; None below two pairs."""
    found = {}
    for row in rows:
        if row["task"] == task:
            found[row["label"], row["seed"]] = 100 * row["accuracy"]
    pairs = []
    for name, seed in found:
        if name == label and (other, seed) in found:
            pairs.append(found[label, seed] - found[other, seed])
    if len(pairs) < 2:
        return None
    mean, half = t_interval(pairs)
    return Gain(mean, half, len(pairs))


def honesties(folder: str | Path, variant: str = "plain") -> dict[str, dict]:
    """What was measured in each world before any training: world -> row of worlds.csv."""
    path = Path(folder) / "worlds.csv"
    if not path.is_file():
        return {}
    rows = records.read_results(path)
    return {row["world"]: row for row in rows if row["variant"] == variant}


def worlds(folder: str | Path) -> list[dict]:
    """Each recorded world: shares of writers, h and d (theory and before training), and the gain
    of AG-GRPO over its control."""
    runs = labelled(folder, "worlds")
    rows = []
    for name, measured in honesties(folder).items():
        gain = versus(runs, name, "ag-grpo", CONTROL)
        if gain is not None:
            careful = measured["careful"]
            others = careful + measured["cheats"]
            theory = {"h of theory": careful / others, "d of theory": (1 - careful) ** 4}
            rows.append(measured | theory | {"gain": gain} | _accuracies(runs, name))
    return rows


def _accuracies(runs: list[dict], task: str) -> dict[str, float]:
    """Mean accuracies in %: of the base, the control and the method."""
    found = {}
    here = [row for row in runs if row["task"] == task]
    for label in (CONTROL, "ag-grpo"):
        values = [100 * row["accuracy"] for row in here if row["label"] == label]
        found[label] = sum(values) / len(values)
    return {"base": 100 * here[0]["before"]} | found


def judged(folder: str | Path) -> list[dict]:
    """Every prediction beside its result; "not recorded yet" where runs are missing."""
    runs = labelled(folder, "worlds")
    rows = []
    for prediction in PREDICTIONS:
        gain = versus(runs, prediction.task, prediction.label, prediction.other)
        held = "" if gain is None else "held" if prediction.holds(gain) else "not held"
        label = prediction.label.removeprefix("ag-grpo").strip() or "plain"
        against = prediction.other.removeprefix("ag-grpo").strip() or "plain"
        rows.append(
            {
                "task careful/cheats": prediction.task,
                "variant minus variant": f"{label} - {against}",
                "predicted": prediction.text,
                "points": "not recorded yet" if gain is None else str(gain),
                "seeds": None if gain is None else gain.seeds,
                "prediction": held,
            }
        )
    return rows


def draw_dial(rows: list[dict]) -> plt.Figure:
    """The gain over death and honesty as a map, and against honesty with intervals.

    Args:
        rows: of `worlds`.
    """
    fig, (plane, ax) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    gains = [row["gain"].mean for row in rows]
    largest = max(10.0, *(abs(gain) for gain in gains))
    h = [100 * row["h"] for row in rows]
    d = [100 * row["dead"] for row in rows]
    look = {"cmap": "RdBu", "vmin": -largest, "vmax": largest, "edgecolors": "#444444"}
    dots = plane.scatter(h, d, c=gains, s=330, **look)
    for x, y, row in zip(h, d, rows, strict=True):
        name = row["world"].split(" ")[1]
        place = {"xytext": (0, -19), "textcoords": "offset points", "ha": "center"}
        plane.annotate(f"{name}: {row['gain'].mean:+.0f}", (x, y), fontsize=8, **place)
    fig.colorbar(dots, ax=plane, label="gain of ag-grpo over AF only (points)")
    plane.set(xlim=(-5, 108), ylim=(-12, 108), xlabel="honesty h, before training (%)")
    plane.set(ylabel="death d, before training (%)", title="careful/cheats: gain")
    for share, colour in SHARES.items():
        here = sorted((row for row in rows if row["careful"] == share), key=lambda row: row["h"])
        if here:
            x = [100 * row["h"] for row in here]
            y = [row["gain"].mean for row in here]
            half = [row["gain"].half for row in here]
            label = f"{100 * share:.0f} % careful"
            ax.errorbar(x, y, half, fmt="o-", capsize=4, color=colour, label=label)
    ax.axhline(0, color="#6B6B6B", linestyle="--", linewidth=1)
    ax.set(xlim=(-5, 108), xlabel="honesty h, before training (%)", ylabel="gain (points)")
    ax.set(title="the same with 95 % intervals")
    ax.legend()
    return fig
