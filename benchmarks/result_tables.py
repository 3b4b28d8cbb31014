"""The tables that the benchmarks write: what is measured again replaces its row."""

from pathlib import Path

import pandas as pd


def record(rows: list[dict], path: Path, key: tuple[str, ...], digits: int = 4) -> None:
    """Add rows to a table, in place of those with the same key.

    Args:
        rows: what was measured, by column; "" is an empty cell.
        path: a csv file; it need not exist.
        key: the columns that tell one row from another.
        digits: significant digits of a float.
    """
    table = pd.DataFrame(rows).replace("", float("nan")).infer_objects()
    if path.is_file():
        table = pd.concat([pd.read_csv(path), table])
    table.index = table.groupby(list(key), sort=False).ngroup()  # a row keeps its place
    table = table[~table.index.duplicated(keep="last")].sort_index()
    table.to_csv(path, index=False, float_format=f"%.{digits}g")
