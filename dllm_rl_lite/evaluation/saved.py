"""The file of saved texts: the protocol card, then one json line per text. It is written whole or
batch by batch, and read again."""

from __future__ import annotations

import codecs
import json
import os
from pathlib import Path

from ..files import write_atomically
from ..tasks.published.rows import Row, column
from .cards import differences

# Of every saved text, and what an evaluation adds.
COLUMNS = {"task": str, "prompt": str, "completion": str, "answer": str, "columns": dict}
ADDED = {"item": int, "sample": int, "reward": float, "forwards": int, "seconds": float}


def saved_lines(card: dict, generations: list[dict]) -> str:
    """A file of saved texts: the card, then one json line per text."""
    return "".join(json.dumps(entry) + "\n" for entry in [{"protocol": card}, *generations])


def read_run(path: str | os.PathLike, cut_off: bool = False) -> tuple[dict, list[dict]]:
    """(protocol card, rows) of a file written by `evaluate(save=)` or `Report.save`.

    Args:
        path: the file.
        cut_off: drop a last line that is not whole (the run was killed) instead of refusing it.
    Raises:
        ValueError: for anything that is not a saved text, naming the line.
    """
    card = {}
    rows = []
    lines = numbered_lines(path)
    for number, line in lines:
        try:
            found = json.loads(line.decode())
            if not isinstance(found, dict):
                raise TypeError(f"it should be an object, found {type(found).__name__}")
            row = Row(found, "it")
            if "protocol" in found:
                card = column(row, "protocol", dict)
                continue
            kinds = COLUMNS | {name: kind for name, kind in ADDED.items() if name in found}
            rows.append(found | {name: column(row, name, kind) for name, kind in kinds.items()})
        except (ValueError, TypeError, RecursionError) as error:
            ours = card or rows or line.startswith(b'{"protocol"')
            if cut_off and ours and number == lines[-1][0]:
                break
            raise ValueError(
                f"{path} line {number} is not a saved generation ({type(error).__name__}: {error})"
            ) from error
    tasks = sorted({row["task"] for row in rows})
    if len(tasks) > 1:
        raise ValueError(f"{path} must hold one task, found {tasks}")
    return card, rows


def numbered_lines(path: str | os.PathLike) -> list[tuple[int, bytes]]:
    """The lines that are not blank, and their numbers. They end at line feeds alone: a text may
    hold what else Unicode counts as an end of a line."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no saved generations at {path}: write them with evaluate(save=) or Report.save"
        )
    lines = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def finished_rows(path: Path, made: dict, jobs: list[tuple[int, int]], batch: int) -> list[dict]:
    """The finished rows of a locked save file, or a new file that holds the card. A last batch that
    was cut off is dropped."""
    rows = []
    if path.exists():
        found, rows = read_run(path, cut_off=True)
    if not rows:  # nothing is lost
        found = made
    if changed := differences(found, made):
        both = ", ".join(f"{k} {a!r} -> {b!r}" for k, (a, b) in changed.items())
        raise ValueError(
            f"{path} holds another evaluation ({both}): "
            "choose another file, or delete it to start afresh"
        )
    if [(row.get("item"), row.get("sample")) for row in rows] != jobs[: len(rows)]:
        raise ValueError(
            f"{path} does not hold the texts of this evaluation in their order: "
            "choose another file, or delete it to start afresh"
        )
    rows = rows if len(rows) == len(jobs) else rows[: len(rows) // batch * batch]
    write_atomically(path, saved_lines(found, rows))
    return rows


def append_rows(path: Path, rows: list[dict]) -> None:
    """Add finished texts to the save file."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    except OSError as error:
        raise RuntimeError(
            f"{path} cannot be written ({error.strerror}): make room, then the same call goes on "
            "from the last whole batch"
        ) from error
