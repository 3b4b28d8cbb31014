"""The recorded runs of AG-GRPO against its control, read from notebooks/results: the worlds of two
writers, what was predicted for them, and the tasks of the course."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dllm_rl_lite.evaluation import records, t_interval

CONTROL = "ag-grpo AF only"
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
    """A gain as it was predicted: between two bounds in points, perhaps with an interval above
    0."""

    text: str
    low: float = -FAR
    high: float = FAR
    shown: bool = False

    def verdict(self, gain: Gain) -> str:
        in_range = self.low <= gain.mean <= self.high
        return "held" if in_range and (gain.verdict == "better" or not self.shown) else "not held"


LARGE = Prediction("10 or more, interval above 0", low=10, shown=True)
SMALL = Prediction("below 5", high=5)
LEVEL = Prediction("-5 to 5", low=-5, high=5)
NO_GAIN = Prediction("5 or less", high=5)
HARM = Prediction("below 0", high=0)


def predicted(h: float, d: float) -> Prediction | None:
    """What was written down before the runs, for honesty h and death d (benchmarks/studies.py)."""
    if d > 0.8 and h > 0.4:
        return LARGE
    if d > 0.8 and h < 0.1:
        return SMALL
    if d < 0.4:
        return LEVEL
    return None


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


def before_training(folder: str | Path) -> list[dict]:
    """The rows of worlds.csv: h, d and shares of each world and variant; none before it is made."""
    path = Path(folder) / "worlds.csv"
    return records.read_results(path) if path.is_file() else []


def worlds(folder: str | Path, task: str = "writers") -> list[dict]:
    """Each recorded world of a task: h and d before training, mean accuracies in %, and the gain of
    AG-GRPO over its control."""
    runs = labelled(folder, "worlds")
    rows = []
    for measured in before_training(folder):
        name = measured["world"]
        gain = versus(runs, name, "ag-grpo", CONTROL)
        is_asked = name.startswith(f"{task} ") and measured["variant"] == "plain"
        if is_asked and gain is not None:
            prediction = predicted(measured["h"], measured["dead"])
            result = {
                "prediction": "none" if prediction is None else prediction.text,
                "verdict": "" if prediction is None else prediction.verdict(gain),
                "gain": gain,
            }
            rows.append(measured | _accuracies(runs, name) | result)
    return rows


def _accuracies(runs: list[dict], task: str) -> dict[str, float]:
    """Mean accuracies in %: before training, of the control and of the method."""
    here = [row for row in runs if row["task"] == task]
    found = {"base": 100 * here[0]["before"]}
    for label in (CONTROL, "ag-grpo"):
        values = [100 * row["accuracy"] for row in here if row["label"] == label]
        found[label] = sum(values) / len(values)
    return found


def answer_alone(folder: str | Path) -> list[dict]:
    """The worlds in which the reward reads the answer only. Those without first lessons were
    predicted to be harmed."""
    runs = labelled(folder, "worlds")
    names = sorted({row["task"] for row in runs if row["task"].startswith("writers_answer")})
    rows = []
    for name in names:
        gain = versus(runs, name, "ag-grpo", CONTROL)
        if gain is not None:
            prediction = HARM if name.endswith("alone") else NO_GAIN
            result = {"prediction": prediction.text, "verdict": prediction.verdict(gain)}
            rows.append({"world": name} | _accuracies(runs, name) | {"gain": gain} | result)
    return rows


def closing_the_gap(folder: str | Path) -> list[dict]:
    """Variants of AG-GRPO where guided working is least honest: h of each, and the gain over the
    plain method."""
    runs = labelled(folder, "worlds")
    measured = before_training(folder)
    plain = honesty_of_the_plain_method(measured)
    least = min(plain, key=plain.get, default=None)
    rows = []
    for row in measured:
        gain = versus(runs, row["world"], f"ag-grpo {row['variant']}", "ag-grpo")
        if row["variant"] != "plain" and row["world"] == least:
            changed = row["h"] - plain[least]
            result = {"variant": row["variant"], "h": 100 * row["h"], "change of h": 100 * changed}
            prediction = NO_GAIN if row["variant"] == "importance" else LEVEL
            if gain is not None:
                held = prediction.verdict(gain) == "held" and abs(changed) < 0.15
                result |= {"gain over plain": str(gain), "seeds": gain.seeds}
                result |= {"verdict": "held" if held else "not held"}
            rows.append(result)
    return rows


def honesty_of_the_plain_method(measured: list[dict]) -> dict[str, float]:
    """world -> h of AG-GRPO as it is, of the rows of worlds.csv."""
    return {row["world"]: row["h"] for row in measured if row["variant"] == "plain"}


def backwards(folder: str | Path) -> list[dict]:
    """Each world in which guided completions were written from right to left too: h in % either
    way, and the gain in points over the plain method and over the control."""
    runs = labelled(folder, "worlds")
    measured = before_training(folder)
    plain = honesty_of_the_plain_method(measured)
    rows = []
    for row in measured:
        if row["variant"] == "backwards":
            world = row["world"]
            result = {"world": world, "h": 100 * plain[world], "h backwards": 100 * row["h"]}
            for name, other in (("over plain", "ag-grpo"), ("over AF only", CONTROL)):
                gain = versus(runs, world, "ag-grpo backwards", other)
                if gain is not None:
                    result |= {name: str(gain), "seeds": gain.seeds}
            rows.append(result)
    return rows


def along(seeds: list[list[dict]]) -> tuple[list[float], list[float]]:
    """Mean over seeds where all were evaluated: thousands of passes, accuracy in %."""
    by_step = []
    for rows in seeds:
        by_step.append({x["step"]: x for x in rows if x.get("eval_accuracy") not in (None, "")})
    shared = sorted(set(by_step[0]).intersection(*by_step[1:]))
    passes = []
    accuracies = []
    for step in shared:
        passes.append(sum(rows[step]["forwards"] for rows in by_step) / len(seeds))
        accuracies.append(100 * sum(rows[step]["eval_accuracy"] for rows in by_step) / len(seeds))
    return passes, accuracies


def third(seeds: list[list[dict]], column: str, late: bool) -> list[float]:
    """Mean of a column in the first or the last third of each run."""
    means = []
    for rows in seeds:
        values = [row[column] for row in rows if row.get(column) not in (None, "")]
        n = max(1, len(values) // 3)
        part = values[-n:] if late else values[:n]
        means.append(sum(part) / n)
    return means
