"""Files that are written whole or not at all, used by one process at a time, and read with errors
that name them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from safetensors import SafetensorError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


MIB = 2**20


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's text, in UTF-8, so that a killed process leaves the old text or the new one.

    Raises RuntimeError as `writing` does; the old text stays.
    """
    data = text.encode()
    new = path.with_name(path.name + ".new")
    with writing(path, new, len(data)):
        new.write_bytes(data)
        new.replace(path)


@contextlib.contextmanager
def writing(path: Path, new: Path, size: int) -> Iterator[None]:
    """Say what to do where the block cannot write: a full disk, a used-up quota, missing rights.

    Args:
        path: a file or folder that the block makes.
        new: its name until it is whole; deleted on an error, so that it fills no disk.
        size: bytes.
    Raises:
        RuntimeError: in place of the block's OSError or SafetensorError.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if new.is_dir():
            shutil.rmtree(new, ignore_errors=True)
        else:
            new.unlink(missing_ok=True)
        place = next(folder for folder in path.absolute().parents if folder.is_dir())
        free = shutil.disk_usage(place).free
        raise RuntimeError(
            f"cannot write {path} ({error}): it takes {size / MIB:.1f} MiB, and its disk has "
            f"{free / MIB:.1f} MiB left; make room or make the folder writable, then give the same "
            "command again: it goes on from what was saved"
        ) from error


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
    """The object in a JSON file. Raises ValueError, naming the file, if it cannot be read or holds
    anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}: {error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} should hold an object, found {type(found).__name__}")
    return found


def new_folder(parent: Path) -> Path:
    """Make a folder of this second under `parent`, such as 20260131-235959, or with -2 and so on
    behind it where another process was faster."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / stamp
    count = 1
    while True:
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            count += 1
            folder = parent / f"{stamp}-{count}"
