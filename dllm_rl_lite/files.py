"""Files that are written whole or not at all, used by one process at a time, and read with errors
that name them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path


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
def locked(path: Path) -> Iterator[None]:
    """Keep a file to this process for a while; a process that dies lets go of it.

    The lock is of the file, not of its name: whoever holds it must not replace the file. Windows
    has no such locks; nothing is held there.

    Args:
        path: the file; made if it is missing, empty, and its folder too.
    Raises:
        ValueError: if another process holds it, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a")  # noqa: SIM115
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror})") from error
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except BlockingIOError as error:
            raise ValueError(
                f"{path} is in use by another process: wait for its end, or name another file"
            ) from error
        yield


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
