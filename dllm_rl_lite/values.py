"""Settings from YAML files and name=value words, read by OmegaConf as the types of a dataclass.

Every program and every parameterised notebook has this one grammar: `name=value`, and
`name.key=value` within a dictionary. A value is written as in a YAML file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, field, fields
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from .names import unknown


def option(default, help: str, least: float | None = None, choices: Sequence[str] = ()):
    """A dataclass field that knows its line of help, and what `check_options` holds it to."""
    metadata = {"help": help, "least": least, "choices": choices}
    if isinstance(default, (dict, list)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def check_options(settings) -> None:
    """Raises ValueError for a field below its least value or outside its choices."""
    for f in fields(settings):
        value = getattr(settings, f.name)
        least = f.metadata["least"]
        choices = f.metadata["choices"]
        if least is not None and value < least:
            raise ValueError(f"{f.name} must be at least {least}, got {value}")
        if choices and value not in choices:
            wanted = " or ".join(map(repr, choices))
            raise ValueError(f"{f.name} must be {wanted}, got {value!r}")


def describe_options(schema: type) -> str:
    """One line per field of a dataclass: name=default, type, help."""
    lines = []
    for f in fields(schema):
        default = {} if f.default is MISSING else f.default
        lines.append(f"  {f'{f.name}={default}':<30} {f.type:<6} {f.metadata['help']}")
    return "\n".join(lines)


def split_arguments(arguments: Sequence[str], most: int) -> tuple[list[str], list[str]]:
    """The first `most` names of a command line, and everything else: its name=value words."""
    names = [a for a in arguments if "=" not in a and not a.startswith("-")][:most]
    words = [a for a in arguments if a not in names]
    return names, words


def read_file(path: str | Path | None) -> DictConfig:
    """The values of a YAML file, if there is a path. Raises ValueError if there is no such file."""
    if path is None:
        return OmegaConf.create()
    if not Path(path).is_file():
        raise ValueError(f"no parameter file {path}")
    found = OmegaConf.load(path)
    if not isinstance(found, DictConfig):
        raise ValueError(f"{path} must hold `name: value` lines, found a list")
    return found


def read_words(schema: type, words: Sequence[str]) -> DictConfig:
    """The values of name=value words; text stays as it is for a field whose default is text.

    Raises ValueError for a word of another form.
    """
    found = OmegaConf.create()
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"cannot read {word!r}: write name=value, as in steps=3 dry_run=true")
        if isinstance(getattr(schema, name, None), str):
            found[name] = text
        else:
            found.merge_with_dotlist([word])
    return found


def read_values(schema: type, *sources: Mapping, kind: str = "parameter") -> dict:
    """The values that are given, as the types of the fields of `schema`.

    Args:
        schema: a dataclass.
        sources: values by name; the last one wins, dictionaries are merged key by key.
        kind: what an error calls a value.
    Raises:
        ValueError: for an unknown name (with the nearest match) or a value of another type.
    """
    given = OmegaConf.to_container(OmegaConf.merge(*sources))
    known = {f.name: f for f in fields(schema)}
    for name, value in given.items():
        if name not in known:
            raise ValueError(unknown(kind, name, known))
        if isinstance(value, float) and value.is_integer():
            given[name] = int(value)  # 1e3 is also a whole number; a float field takes it back
        if isinstance(value, str) and known[name].default_factory is not MISSING:
            given[name] = OmegaConf.create(value)  # a dictionary or a list, written as text
    cast = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(schema), given))
    return {name: absolute(cast[name]) for name in given}


def absolute(value):
    """A path that exists here, as an absolute one: a notebook runs in a folder of its own."""
    if not isinstance(value, str):
        return value
    path = os.path.expanduser(value)
    exists = "/" in path and os.path.exists(path)
    return os.path.realpath(path) if exists else path
