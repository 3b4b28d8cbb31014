"""Files that are written whole or not at all, used by one process at a time, and read with errors
that name them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's text so that a killed process leaves the old text or the new one.

    Args:
        path: the file; its folder must exist.
        text: the whole new text, written as UTF-8.
    """
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file until the block ends or the process dies, however it dies.

    Windows and some file systems have no such locks: nothing is held there.

    Args:
        path: the lock file; it is made, its folder too, and removed at the end.
        what: is locked, in words.
    Raises:
        ValueError: if another process holds it, or another block of this one, or it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")
    except OSError as error:
        raise ValueError(f"{what} cannot be written ({error.strerror})") from error
    with file:
        if not _hold(file):
            raise ValueError(
                f"{what} is in use: another process works on it; wait until that has ended, or "
                "choose another"
            )
        try:
            yield
        finally:
            if fcntl:
                path.unlink(missing_ok=True)


def _hold(file: TextIO) -> bool:
    """Lock an open file; False if another process holds it, or has just removed it."""
    if not fcntl:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return os.fstat(file.fileno()).st_nlink > 0


def read_object(path: Path) -> dict:
    """The object in a JSON file.

    Raises:
        ValueError: naming the file, if it cannot be read or holds anything else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}: {error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} should hold an object, found {type(found).__name__}")
    return found
