"""Files that are written whole or not at all."""

from __future__ import annotations

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
