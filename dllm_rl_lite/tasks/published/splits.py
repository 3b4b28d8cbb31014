"""The splits of a published data set: where each is read, and how validation is cut from train."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache

import numpy as np

from ...names import unknown
from ..task import SPLITS, Example
from .rows import Row, read_rows


def train_and_test(train: str, test: str) -> dict[str, tuple[str, str]]:
    """Where the splits of a data set without a validation split are read: (source, its split)."""
    return {"train": (train, "train"), "validation": (train, "train"), "test": (test, "test")}


def split_reader(
    name: str,
    places: dict[str, tuple[str, str]],
    parse: Callable[[Row, str], Example | None],
    divide: Callable[[list[Example], str], list[Example]] | None = None,
) -> Callable[[str], list[Example]]:
    """A function that reads the examples of a split, in file order, and remembers them.

    Args:
        name: of the benchmark, for error messages.
        places: per split the source and what the source calls it.
        parse: parse(row, split), the example of a row; None leaves the row out.
        divide: divide(examples, split), the part of the train rows that is "train" or
            "validation"; None if the source keeps the two apart.
    """

    @cache
    def read(split: str) -> list[Example]:
        if split not in SPLITS:
            raise ValueError(unknown("split", split, SPLITS))
        if split not in places:
            raise ValueError(f"{name} has no {split} split: use {' or '.join(places)}")
        parsed = [parse(row, split) for row in read_rows(*places[split])]
        examples = [example for example in parsed if example is not None]
        if split == "test" or divide is None:
            return examples
        return divide(examples, split)

    return read


def held_back(examples: list[Example], split: str) -> list[Example]:
    """One example in twenty, chosen by the hash of its prompt, is "validation"; "train" is the
    others.

    So a checkpoint can be chosen without looking at the test split.
    """

    def is_held(example: Example) -> bool:
        return hashlib.blake2b(example.prompt.encode(), digest_size=4).digest()[0] % 20 == 0

    return [example for example in examples if is_held(example) == (split == "validation")]


def leave_out(examples: list[Example], split: str) -> list[Example]:
    """d1's cut: shuffled with seed 42, the last 500 are "validation" (d1 keeps them from training).

    Of fewer than 10 000 examples it is the last twentieth. Both splits come in file order.
    """
    last = min(500, len(examples) // 20)
    order = np.random.default_rng(42).permutation(len(examples))  # as Dataset.shuffle(seed=42)
    kept_out = set(order[len(order) - last :].tolist())
    return [e for i, e in enumerate(examples) if (i in kept_out) == (split == "validation")]
