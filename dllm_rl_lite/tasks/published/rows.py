"""Rows of a file, a folder or the hub; whatever is wrong with one is said with the file and the
line it stands in."""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ..task import SPLITS

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
SHARD = re.compile(r"[-_](\d+)[-_]of[-_](\d+)\.")  # train-00000-of-00002.parquet


@dataclass(frozen=True)
class Row:
    """One record and where it stands."""

    values: dict[str, Any]  # column -> value
    where: str  # "gsm8k/test.jsonl line 12" or "openai/gsm8k:main test[12]"


def read_rows(source: str, split: str) -> list[Row]:
    """The rows of a split, in file order.

    Args:
        source: a file (.json, .jsonl, .csv, each also .gz, or .parquet), in UTF-8; a folder of such
            files, of which the one named `split` is read, else those whose name has the word
            `split` in it (one, or all shards of one), else the only one; or a hub id "owner/name"
            or "owner/name:configuration", read by `datasets`, which runs no remote code. A file is
            read for any split unless its name is that of another one.
        split: "train", "validation", "test", or what the hub calls it.
    Raises:
        FileNotFoundError: for a path that is not there.
        ConnectionError: for a hub id that cannot be read.
        ValueError: for an unknown suffix, no rows, no or several files for the split, missing
            shards, or a malformed row, with its line.
    """
    path = Path(source)
    if path.is_dir():
        rows = []
        for file in _files_of(path, split):
            rows += _read_file(file)
    elif path.is_file():
        others = set(SPLITS) & set(_words(path)) - {split}
        if others and split not in _words(path):
            raise ValueError(
                f"{source} is named for the {min(others)} split and {split!r} was asked for: "
                "pass the folder that holds both, or rename the file"
            )
        _check_shards([path])
        rows = _read_file(path)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", source) and _suffix(path) is None:
        rows = _read_hub(source, split)
    else:
        raise FileNotFoundError(
            f"no data at {source!r}: give a file ({', '.join(SUFFIXES)}), a folder, "
            "or a hub id owner/name"
        )
    if not rows:
        raise ValueError(f"{source} has no rows for the split {split!r}")
    return rows


def column(row: Row, name: str, kind: type) -> Any:
    """The value of a column if it is a `kind`.

    A text that is the JSON of a `kind` (str, int, float, list or dict) is taken as one ("23" for
    int), for csv files hold nothing but text; a whole number is also a float.

    Raises:
        ValueError: that names the place, the column, what was found and which columns there are.
    """
    columns = ", ".join(map(repr, row.values)) or "none"
    if name not in row.values:
        raise ValueError(f"{row.where} has no column {name!r}; it has {columns}")
    found = row.values[name]
    value = found
    if kind is not str and isinstance(found, str):
        try:
            value = json.loads(found)
        except (ValueError, RecursionError):
            value = None  # not JSON: refused below, with the text as it was found
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ValueError(
            f"{row.where}: column {name!r} should be {kind.__name__}, found {type(found).__name__} "
            f"{repr(found)[:80]} (columns: {columns})"
        )
    return value


def optional_column(row: Row, name: str, kind: type) -> Any:
    """`column`, or an empty `kind` if the row has no such column."""
    return column(row, name, kind) if name in row.values else kind()


def _suffix(path: Path) -> str | None:
    """The known suffix of a file name, .gz aside; parquet has its own compression."""
    name = path.name.lower()
    if name.endswith(".parquet.gz"):
        return None
    return next((s for s in SUFFIXES if name.removesuffix(".gz").endswith(s)), None)


def _words(path: Path) -> list[str]:
    """4x4_test_sudoku.csv -> ["", "x", "test", "sudoku", "csv"]: whole words, for "constrained" is
    not "train"."""
    return re.split(r"[^a-z]+", path.name.lower())


def _files_of(folder: Path, split: str) -> list[Path]:
    """The file of a split in a folder, or its shards in order."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and _suffix(file))
    named = [file for file in files if split in _words(file)]
    shards = [file for file in named if SHARD.search(file.name)]
    exact = [file for file in named if file.name.lower().partition(".")[0] == split]
    chosen = []
    if len(named) == 1 or (named and shards == named):
        chosen = named
    elif len(exact) == 1 and not shards:  # GSM8K has a test_socratic.jsonl beside its test.jsonl
        chosen = exact
    elif len(files) == 1 and not set(_words(files[0])) & set(SPLITS):
        chosen = files
    if chosen:
        _check_shards(chosen)
        return chosen
    listed = ", ".join(file.name for file in named or files) or "no data files"
    number = "several files" if named else "no file"
    raise ValueError(
        f"{folder} has {number} for the split {split!r} ({listed}): "
        f"name one file after each split, such as {split}.jsonl"
    )


def _check_shards(files: list[Path]) -> None:
    """Raises ValueError if the files are shards, numbered from 0 or from 1, and not all of one set
    are there."""
    shards = [SHARD.search(file.name) for file in files]
    if None in shards:
        return
    numbers = sorted(int(shard[1]) for shard in shards)
    totals = {int(shard[2]) for shard in shards}
    start = min(numbers[0], 1)
    if totals != {len(numbers)} or numbers != list(range(start, start + len(numbers))):
        raise ValueError(
            f"{files[0].parent} has the shards {', '.join(file.name for file in files)} alone: "
            "pass a folder with every shard of the set, each once, or rename a file that is whole"
        )


def _read_file(path: Path) -> list[Row]:
    suffix = _suffix(path)
    if suffix is None:
        raise ValueError(
            f"{path} has an unknown suffix {path.suffix!r}: use {', '.join(SUFFIXES)} "
            "or a text with .gz"
        )
    if suffix == ".parquet":
        return _read_parquet(path)
    reader = {".jsonl": _json_lines, ".json": _json_list, ".csv": _csv_lines}[suffix]
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            return list(reader(file, path))
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path} cannot be read as text in UTF-8: {error}") from error


def _json_lines(file: TextIO, path: Path) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield _object(_parsed(line, f"{path} line {number}"), f"{path} line {number}")


def _json_list(file: TextIO, path: Path) -> Iterator[Row]:
    values = _parsed(file.read(), str(path))
    if isinstance(values, dict):  # as d1's evaluator writes it
        values = values.get("generations", values)
    if not isinstance(values, list):
        raise ValueError(f"{path} should hold a list of objects, found {type(values).__name__}")
    for number, value in enumerate(values, 1):
        yield _object(value, f"{path} item {number}")


def _parsed(text: str, where: str) -> Any:
    """The value of a JSON text; ValueError, with its place, for one that is none, also where it
    nests too deeply or a number has thousands of digits."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = "; one object a line is .jsonl" if "Extra data" in str(error) else ""
        raise ValueError(f"{where} is not JSON: {error}{hint}") from error


def _csv_lines(file: TextIO, path: Path) -> Iterator[Row]:
    reader = csv.reader(file)
    header = next(reader, [])
    try:
        for cells in reader:
            if not cells:  # an empty line
                continue
            where = f"{path} line {reader.line_num}"
            if len(cells) != len(header):
                raise ValueError(
                    f"{where} has {len(cells)} cells, the header names {len(header)}: {cells}"
                )
            yield Row(dict(zip(header, cells, strict=True)), where)
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num} is not csv: {error}") from error


def _object(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise ValueError(
            f"{where} should be an object with named columns, "
            f"found {type(value).__name__} {repr(value)[:80]}"
        )
    return Row(value, where)


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        values = parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as parquet: {error}") from error
    return [Row(value, f"{path} row {number}") for number, value in enumerate(values, 1)]


def _read_hub(source: str, split: str) -> list[Row]:
    import datasets

    name, _, configuration = source.partition(":")
    try:
        table = datasets.load_dataset(name, configuration or None, split=split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise ConnectionError(
            f"{source} is no file or folder here, and its {split!r} split cannot be read from the "
            f"hub ({type(error).__name__}: {error}): download it and pass the path"
        ) from error
    return [Row(value, f"{source} {split}[{number}]") for number, value in enumerate(table)]
