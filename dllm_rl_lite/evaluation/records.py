"""Records of runs, read and summarised: logs, results tables, and the comparison of methods at
equal forward passes.

`benchmarks/compare.py` writes compare.csv and compare_curves.csv; whoever reads them names the
folder that holds them.
"""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import pandas as pd

from .intervals import t_interval

# What tells one run of compare.csv from another.
KEY = ("stage", "method", "variant", "task", "seed", "lr", "budget")


def read_table(path: Path, missing: str) -> pd.DataFrame:
    """A csv file as a table with one type per column: integers, floats or text.

    pandas fills up short lines and shifts long ones, so the shape is checked first.

    Raises:
        FileNotFoundError: for a missing file, with the text of `missing`.
        ValueError: for a line with too many or too few cells, or bad column names, naming file and
            line.
    """
    if not path.is_file():
        raise FileNotFoundError(missing)
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        names = next(reader, [])
        if not names or len(set(names)) < len(names) or "" in names:
            raise ValueError(
                f"{path} line 1: column names must be given, and each once, got {names}"
            )
        for values in reader:
            if len(values) != len(names):
                raise ValueError(
                    f"{path} line {reader.line_num}: {len(values)} values for {len(names)} "
                    "columns; delete the line"
                )
    # Integers beside empty cells.
    return pd.read_csv(path, dtype_backend="numpy_nullable", encoding="utf-8-sig")


def as_rows(table: pd.DataFrame) -> list[dict]:
    """One dict of plain Python values per row, None for an empty cell."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def read_log(path: str | Path) -> list[dict]:
    """The rows of a log.csv: ints and floats, None for an empty cell.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for a malformed line or a cell that is not a number, naming file and line.
    """
    missing = f"no training log at {path}: train with this run_dir first, or correct the path"
    table = read_table(Path(path), missing)
    for name in table.select_dtypes("string"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        index = table.index[numbers.isna() & table[name].notna()][0]
        raise ValueError(
            f"{path} line {index + 2}: column {name!r} holds {table[name][index]!r}, "
            "which is not a number"
        )
    return as_rows(table)


def read_results(path: str | Path) -> list[dict]:
    """The rows of a results table: numbers in columns of numbers, else text; None for an empty
    cell.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for a malformed line, naming file and line.
    """
    missing = f"no results at {path}: run the benchmark that makes them, or correct the path"
    return as_rows(read_table(Path(path), missing))


def with_forwards(rows: list[dict]) -> list[dict]:
    """The rows of a log with `forwards`: all forward passes (of one row) so far, in thousands."""
    spent = 0
    counted = []
    for row in rows:
        spent += (row.get("forwards_rollout") or 0) + (row.get("forwards_update") or 0)
        counted.append(row | {"forwards": spent / 1000})
    return counted


def _recorded(folder: str | Path, name: str) -> pd.DataFrame:
    """A table of compare.py; an empty one if it is not there yet."""
    path = Path(folder) / name
    return read_table(path, "") if path.is_file() else pd.DataFrame(columns=[*KEY, "step"])


def results(
    folder: str | Path, stage: str | None = None, method: str | None = None, task: str | None = None
) -> list[dict]:
    """The finished runs that a folder's compare.csv records; an empty list if there is no table
    yet.

    Args:
        folder: holds compare.csv.
        stage: only runs of this stage; None: of all.
        method: only runs of this method; None: of all.
        task: only runs of this task; None: of all.
    """
    table = _recorded(folder, "compare.csv").drop_duplicates(list(KEY), keep="last")
    for column, wanted in (("stage", stage), ("method", method), ("task", task)):
        if wanted is not None:
            table = table[table[column] == wanted]
    return as_rows(table)


def curves(
    folder: str | Path, *methods: str, stage: str = "final", task: str = "chain2"
) -> dict[str, list[list[dict]]]:
    """The logs that a folder's compare_curves.csv records: label -> one list of log rows per seed.

    `show.curves` and `show.panels` draw them. Labels name every variant but the plain one. Rows
    gain `forwards`, all forward passes so far, in thousands.

    Args:
        folder: holds compare_curves.csv.
        methods: which; none: all.
        stage: runs of this stage.
        task: runs of this task.
    """
    table = _recorded(folder, "compare_curves.csv")
    table = table[(table["stage"] == stage) & (table["task"] == task)]
    if methods:
        table = table[table["method"].isin(methods)]
    found = {}
    runs = table.groupby(["method", "variant", "seed", "lr"], sort=False)
    for (method, variant, _, _), run in runs:
        plain = variant == "plain" and stage != "flag"
        label = method if plain else f"{method} {variant}"
        run = run.drop_duplicates("step", keep="last").sort_values("step")
        found.setdefault(label, []).append(with_forwards(as_rows(run)))
    return found


def summary(rows: list[dict]) -> list[dict]:
    """One row per method, variant, task and learning rate: mean accuracy over seeds, 95 %
    t-interval, worst seed, cost.

    A run has collapsed if it ends below half of the base model's accuracy. Accuracies are in %; the
    best comes first.
    """
    found = []
    if not rows:
        return found
    groups = pd.DataFrame(rows).groupby(["method", "variant", "task", "lr"], sort=False)
    for (method, variant, task, lr), runs in groups:
        accuracies = (100 * runs["accuracy"]).tolist()
        mean = statistics.fmean(accuracies)
        half = t_interval(accuracies)[1] if len(accuracies) > 1 else None
        found.append(
            {
                "method": method,
                "variant": variant,
                "task": task,
                "lr": float(lr),
                "seeds": len(runs),
                "base": 100 * float(runs["before"].iloc[0]),
                "mean": mean,
                "low": None if half is None else mean - half,
                "high": None if half is None else mean + half,
                "worst": min(accuracies),
                "collapsed": int((runs["accuracy"] < runs["before"] / 2).sum()),
                "steps": float(runs["steps"].mean()),
                "forwards": float(runs["forwards"].mean()),
                "seconds": float(runs["seconds"].mean()),
            }
        )
    return sorted(found, key=lambda row: row["mean"], reverse=True)


def paired(rows: list[dict], method: str, other: str) -> tuple[float, float, int]:
    """How much more accurate is a method than another, seed by seed and task by task?

    Seeds share problems, so pairing takes their common luck out.

    Args:
        rows: finished runs, as `results` returns them; variants are left out.
        method: the one.
        other: the other.
    Returns:
        (mean, half width, pairs): accuracy of method minus other, in points, with its 95 %
        t-interval over the (task, seed) that both have.
    Raises:
        ValueError: for fewer than two pairs.
    """
    found = {
        (r["method"], r["task"], r["seed"]): 100 * r["accuracy"]
        for r in rows
        if r["variant"] == "plain"
    }
    shared = [k[1:] for k in found if k[0] == method and (other, *k[1:]) in found]
    mean, half = t_interval([found[(method, *k)] - found[(other, *k)] for k in shared])
    return mean, half, len(shared)
