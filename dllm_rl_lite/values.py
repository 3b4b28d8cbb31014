"""Settings: what a value may be, said once beside the field, and checked wherever it comes from.

A schema is a dataclass whose fields are `option`s. YAML files, name=value words of a command line,
notebook parameters and Python all pass `check_values`. Every program and every parameterised
notebook has one grammar: `name=value`, and `name.key=value` within a dictionary. A value is written
as in a YAML file.
"""

from __future__ import annotations

import operator
import os
import re
import reprlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, field, fields
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml

from .names import hint, unknown

# What is not a text although it is not in quotes. YAML 1.1 itself reads 1e-6 as a text, 010 as 8,
# 1:30 as 90 and 2026-01-01 as a date.
PLAIN = {
    "null": r"null|~|",
    "bool": r"true|false|yes|no|on|off",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?|[-+]?\.inf|\.nan",
}

BOUNDS = {
    "least": ("of at least", operator.ge),
    "above": ("above", operator.gt),
    "most": ("of at most", operator.le),
}
types_of = cache(get_type_hints)  # what a dataclass or a signature states, by name


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    choices: Sequence[str] = (),
):
    """A dataclass field that knows its line of help and what it may be.

    Args:
        default: its value if none is given; without one it must be given. A text may only be empty
            if this one is.
        help: one line.
        least, above, most: the range of a number, which is always finite; `above` is excluded.
        choices: of a text; none: any text of one line.
    """
    metadata = {"help": help, "least": least, "above": above, "most": most, "choices": choices}
    metadata["needed"] = isinstance(default, str) and default != ""
    if isinstance(default, (dict, list)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


NO_LIMIT = option().metadata


def check_options(settings: Any) -> None:
    """Raises ValueError for a field of a record that is not what its `option` says."""
    check_values(type(settings), {f.name: getattr(settings, f.name) for f in fields(settings)})


def check_values(schema: type, given: Mapping, prefix: str = "", kind: str = "parameter") -> None:
    """Hold values, by name, to what the options of a dataclass say.

    Args:
        prefix: what an error puts before the name.
        kind: what an error calls a value.
    Raises:
        ValueError: in one line, for an unknown name (with the nearest match) or a value that cannot
            be; it says what can.
    """
    wanted = types_of(schema)
    limits = {f.name: f.metadata or NO_LIMIT for f in fields(schema)}
    for name, value in given.items():
        if name not in limits:
            raise ValueError(unknown(kind, name, limits))
        check_value(f"{prefix}{name}", value, wanted[name], limits[name])


def check_value(name: str, value: Any, wanted: type, limit: Mapping = NO_LIMIT) -> None:
    """Raises ValueError if this is no value of the type (or of one of a union), or if it is out of
    the limits of its `option`."""
    kinds = get_args(wanted) or (wanted,)
    if not fits(value, kinds, limit):
        allowed = " or ".join(describe(kind, limit) for kind in kinds)
        near = hint(value, limit["choices"])
        raise ValueError(f"{name} must be {allowed}, got {shown(value)}{near}")


def fits(value: Any, kinds: Sequence[type], limit: Mapping) -> bool:
    """Is this a value of one of these types, within the limits of its `option`?"""
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int) and (int in kinds or float in kinds):
        return abs(value) < 2**63 and in_range(value, limit)
    if isinstance(value, float) and float in kinds:
        return abs(value) <= sys.float_info.max and in_range(value, limit)  # not nan, not inf
    if isinstance(value, str) and str in kinds:
        if limit["choices"]:
            return value in limit["choices"]
        return value.isprintable() and (value != "" or not limit["needed"])
    return isinstance(value, (dict, list)) and type(value) in kinds


def in_range(value: float, limit: Mapping) -> bool:
    """Is a number within the limits of its `option`?"""
    bounds = [(holds, limit[name]) for name, (_, holds) in BOUNDS.items()]
    return all(bound is None or holds(value, bound) for holds, bound in bounds)


def describe(kind: type, limit: Mapping) -> str:
    """What a value of this type may be, in words."""
    if kind is bool:
        return "true or false"
    if kind is str:
        if limit["choices"]:
            *others, last = map(repr, limit["choices"])
            return f"{', '.join(others)} or {last}" if others else last
        return "a text of one line" + (", not empty" if limit["needed"] else "")
    if kind in (dict, list):
        return "name: value pairs" if kind is dict else "a list"
    words = ["a whole number" if kind is int else "a finite number"]
    for name, (phrase, _) in BOUNDS.items():
        if limit[name] is not None:
            words.append(f"{phrase} {limit[name]}")
    return " ".join(words[:2]) + "".join(f" and {more}" for more in words[2:])


def shown(value: Any) -> str:
    """A value in one short line."""
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a number of more than 64 bits"
    return " ".join(reprlib.repr(value).split())


def describe_options(schema: type) -> str:
    """One line per field of a dataclass: name=default, help, what it may be."""
    lines = []
    wanted = types_of(schema)
    for f in fields(schema):
        default = {} if f.default is MISSING else f.default
        allowed = describe(wanted[f.name], f.metadata)
        lines.append(f"  {f'{f.name}={default}':<30} {f.metadata['help']} ({allowed})")
    return "\n".join(lines)


def split_arguments(arguments: Sequence[str], most: int) -> tuple[list[str], list[str]]:
    """The first `most` names of a command line, and everything else: its name=value words."""
    names = [a for a in arguments if "=" not in a and not a.startswith("-")][:most]
    words = [a for a in arguments if a not in names]
    return names, words


class Loader(yaml.SafeLoader):
    """YAML in which a number is what it looks like, and a name is given once."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    problem=f"{name!r} is given twice", problem_mark=node.start_mark
                )
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {
    None: [
        (f"tag:yaml.org,2002:{kind}", re.compile(f"(?:{pattern})$", re.IGNORECASE))
        for kind, pattern in PLAIN.items()
    ]
}
Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def read_yaml(text: str, source: str) -> Any:
    """What a YAML text holds. Raises ValueError, in one line that names its source."""
    try:
        return yaml.load(text, Loader)
    except RecursionError as error:
        raise ValueError(f"{source} is nested too deeply") from error
    except (yaml.YAMLError, ValueError, AttributeError) as error:  # the last two: a tag that lies
        raise ValueError(f"{source} is not YAML: {' '.join(str(error).split())}") from error


def read_file(path: str | Path | None) -> dict:
    """The values of a YAML file, if there is a path. Raises ValueError, in one line that names the
    file, if there is none or it cannot be read."""
    if path is None:
        return {}
    if not Path(path).is_file():
        raise ValueError(f"no parameter file {path}")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a UTF-8 text: {error}") from error
    found = read_yaml(text, str(path))
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold `name: value` lines, got {shown(found)}")
    return found


def read_words(schema: type, words: Sequence[str]) -> dict:
    """The values of name=value words; text stays as it is for a field whose default is text. Raises
    ValueError for a word of another form."""
    found: dict = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or text.startswith("="):
            raise ValueError(f"cannot read {word!r}: write name=value, as in steps=3 dry_run=true")
        value = text
        if not isinstance(getattr(schema, name, None), str):
            value = read_yaml(text, f"the value of {word!r}")
        for key in reversed(name.split(".")):
            value = {key: value}
        found = merged(found, value)
    return found


def merged(first: Mapping, second: Mapping) -> dict:
    """The values of both: the second wins, dictionaries are merged key by key."""
    result = dict(first)
    for name, value in second.items():
        if isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            value = merged(result[name], value)
        result[name] = value
    return result


def read_values(schema: type, *sources: Mapping, kind: str = "parameter") -> dict:
    """The values that are given, checked against the fields of `schema`.

    A whole number may be written as 1e3, a number as 3; nothing else is another type's.

    Args:
        schema: a dataclass.
        sources: values by name; the last one wins, dictionaries are merged key by key.
        kind: what an error calls a value, as in `check_values`.
    """
    given: dict = {}
    for source in sources:
        given = merged(given, source)
    wanted = types_of(schema)
    for name, value in given.items():
        if wanted.get(name) is int and isinstance(value, float) and value.is_integer():
            given[name] = int(value)
    check_values(schema, given, kind=kind)
    for name, value in given.items():
        if wanted[name] is float:
            given[name] = float(value)
        if isinstance(value, str):
            given[name] = absolute(value)
    return given


def absolute(text: str) -> str:
    """A path that exists here, as an absolute one: a notebook runs in a folder of its own."""
    path = os.path.expanduser(text)
    exists = "/" in path and os.path.exists(path)
    return os.path.realpath(path) if exists else path
