"""What went wrong while a model was read: its files, or this machine's memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

# What errors for lack of memory say, on GPUs and CPUs.
LACK = ("out of memory", "allocate memory", "not enough memory")


def lacks_memory(error: BaseException) -> bool:
    """Does an error say that memory has run out, on a GPU or a CPU?"""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in LACK)


@contextlib.contextmanager
def named_failures(what: str) -> Iterator[None]:
    """Read something with the libraries' own loaders; whatever they raise becomes one line.

    Raises RuntimeError if memory has run out, for nothing is wrong with the files then, and
    ValueError in place of any other error.
    """
    try:
        yield
    except Exception as error:
        if lacks_memory(error):
            raise RuntimeError(
                f"memory ran out while {what} was loaded (the files are not at fault): free some "
                "memory, or load a smaller model, bfloat16 or 4 bits"
            ) from error
        said = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{what} cannot be read ({type(error).__name__}: {said}): copy or download it again"
        ) from error
