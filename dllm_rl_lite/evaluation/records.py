"""Records of runs, read and summarised: logs, results tables, and the comparison of methods at
equal forward passes.

`benchmarks/compare.py` writes compare.csv and compare_curves.csv; whoever reads them names the
folder that holds them.
"""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

from .intervals import t_interval

KEY = (
    "stage",
    "method",
    "variant",
    "task",
    "seed",
    "lr",
    "budget",
)  # what tells one run of compare.csv from another


def read_log(path: str | Path) -> list[dict]:
    """The rows of a log.csv: ints and floats, None where a cell is empty.

    Raises FileNotFoundError for a missing file, ValueError naming file and line for a malformed
    one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no training log at {path}: train with this run_dir first, or correct the path"
        )
    with open(path, newline="") as file:
        reader = csv.reader(file)
        names = next(reader, [])
        if not names or len(set(names)) < len(names) or "" in names:
            raise ValueError(
                f"{path} line 1: column names must be given, and each once, got {names}"
            )
        rows = []
        for values in reader:
            where = f"{path} line {reader.line_num}"
            if len(values) != len(names):
                raise ValueError(
                    f"{where}: {len(values)} values for {len(names)} columns; delete the line"
                )
            rows.append(
                {name: _number(text, name, where) for name, text in zip(names, values, strict=True)}
            )
    return rows


def read_results(path: str | Path) -> list[dict]:
    """The rows of a results table: numbers where a cell is one, else text.

    Raises FileNotFoundError for a missing file, ValueError naming file and line for a row of
    another length.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no results at {path}: run the benchmark that makes them, or correct the path"
        )

    def value(text: str):
        try:
            return int(text) if text.lstrip("-").isdigit() else float(text)
        except ValueError:
            return text

    rows = []
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(
                    f"{path} line {reader.line_num}: too many or too few cells; delete the line"
                )
            rows.append({name: value(text) for name, text in row.items()})
    return rows


def _number(text: str, name: str, where: str) -> int | float | None:
    try:
        return None if text == "" else float(text) if not text.lstrip("-").isdigit() else int(text)
    except ValueError as error:
        raise ValueError(
            f"{where}: column {name!r} holds {text!r}, which is not a number"
        ) from error


def with_forwards(rows: list[dict]) -> list[dict]:
    """The rows of a log with `forwards`: all forward passes (of one row) so far, in thousands."""
    spent, done = 0, []
    for row in rows:
        spent += (row.get("forwards_rollout") or 0) + (row.get("forwards_update") or 0)
        done.append({**row, "forwards": spent / 1000})
    return done


def results(
    folder: str | Path, stage: str | None = None, method: str | None = None, task: str | None = None
) -> list[dict]:
    """The finished runs that a folder's compare.csv records; an empty list where there is no table
    yet."""
    path = Path(folder) / "compare.csv"
    rows = read_results(path) if path.is_file() else []
    latest = {tuple(r[k] for k in KEY): r for r in rows}
    return [
        r
        for r in latest.values()
        if stage in (None, r["stage"])
        and method in (None, r["method"])
        and task in (None, r["task"])
    ]


def curves(
    folder: str | Path, *methods: str, stage: str = "final", task: str = "chain2"
) -> dict[str, list[list[dict]]]:
    """The logs that a folder's compare_curves.csv records: label -> one list of log rows per seed.

    `show.curves` and `show.panels` draw them. Labels name every variant but the plain one.
    Rows gain `forwards`, all forward passes so far, in thousands. No methods: all. Unfinished ones
    are left out.
    """
    path = Path(folder) / "compare_curves.csv"
    rows = read_results(path) if path.is_file() else []
    runs: dict[tuple, dict[int, dict]] = {}
    for row in rows:
        if (
            row["stage"] == stage
            and row["task"] == task
            and (not methods or row["method"] in methods)
        ):
            plain = row["variant"] == "plain" and stage != "flag"
            label = row["method"] if plain else f"{row['method']} {row['variant']}"
            runs.setdefault((label, row["seed"], row["lr"]), {})[row["step"]] = row
    found: dict[str, list[list[dict]]] = {}
    for (label, _, _), by_step in runs.items():
        found.setdefault(label, []).append(with_forwards([by_step[s] for s in sorted(by_step)]))
    return found


def summary(rows: list[dict]) -> list[dict]:
    """One row per method, variant, task and learning rate: mean accuracy over seeds, 95 %
    t-interval, worst seed, cost.

    A run has collapsed where it ends below half of the base model's accuracy. Accuracies in %,
    sorted best first.
    """
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["variant"], row["task"], row["lr"]), []).append(row)
    table = []
    for (method, variant, task, lr), runs in groups.items():
        values = [100 * r["accuracy"] for r in runs]
        mean, half = t_interval(values) if len(values) > 1 else (values[0], None)
        table.append(
            {
                "method": method,
                "variant": variant,
                "task": task,
                "lr": lr,
                "seeds": len(runs),
                "base": 100 * runs[0]["before"],
                "mean": mean,
                "low": None if half is None else mean - half,
                "high": None if half is None else mean + half,
                "worst": min(values),
                "collapsed": sum(r["accuracy"] < r["before"] / 2 for r in runs),
                "steps": statistics.fmean(r["steps"] for r in runs),
                "forwards": statistics.fmean(r["forwards"] for r in runs),
                "seconds": statistics.fmean(r["seconds"] for r in runs),
            }
        )
    return sorted(table, key=lambda r: -r["mean"])


def paired(rows: list[dict], method: str, other: str) -> tuple[float, float, int]:
    """(mean, half width, pairs) of method's accuracy minus other's, in points, over the (task,
    seed) that both have.

    The half width is that of the 95 % t-interval. Seeds share problems, so pairing takes their
    common luck out.
    Raises ValueError for fewer than two pairs.
    """
    found = {
        (r["method"], r["task"], r["seed"]): 100 * r["accuracy"]
        for r in rows
        if r["variant"] == "plain"
    }
    shared = [k[1:] for k in found if k[0] == method and (other, *k[1:]) in found]
    mean, half = t_interval([found[(method, *k)] - found[(other, *k)] for k in shared])
    return mean, half, len(shared)
