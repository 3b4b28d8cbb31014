"""Messages between candidate and judge: JSON with a length before it, values by value, nothing that
runs when it is read.

A value of a standard type is rebuilt from plain data on the other side. Anything else stays where
it was made; `keep` gives it a name.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections import namedtuple
from collections.abc import Callable, ItemsView, KeysView, ValuesView

LARGEST = 8 * 2**20  # bytes of one message

SERIES = ("list", "tuple", "set", "frozenset", "deque")
TABLES = ("dict", "OrderedDict", "defaultdict", "Counter")
HOMES = {
    "deque": "collections",
    "OrderedDict": "collections",
    "defaultdict": "collections",
    "Counter": "collections",
    "Fraction": "fractions",
    "Decimal": "decimal",
    "date": "datetime",
    "datetime": "datetime",
    "time": "datetime",
    "timedelta": "datetime",
}  # where a type is found that is not built in
SCALARS: dict[str, Callable] = {  # the arguments that make an equal value again
    "int": lambda v: (hex(v),),
    "bytes": lambda v: (v.decode("latin-1"),),
    "bytearray": lambda v: (v.decode("latin-1"),),
    "complex": lambda v: (v.real, v.imag),
    "range": lambda v: (hex(v.start), hex(v.stop), hex(v.step)),
    "Fraction": lambda v: (hex(v.numerator), hex(v.denominator)),
    "Decimal": lambda v: (str(v),),
    "date": lambda v: (v.year, v.month, v.day),
    "time": lambda v: (v.hour, v.minute, v.second, v.microsecond),
    "datetime": lambda v: (v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond),
    "timedelta": lambda v: (v.days, v.seconds, v.microseconds),
}
# An instance of a subclass counts as what it holds, read by the standard type's own methods,
# whatever its == says.
PLAIN: dict[type, Callable] = {
    int: int.__pos__,
    float: float.__pos__,
    str: str.__str__,
    bytes: lambda v: bytes.__add__(b"", v),
    tuple: lambda v: tuple(tuple.__iter__(v)),
}
# What keys(), values() and items() of a dict give, and how a list of it becomes one again.
VIEWS: dict[str, tuple[type, Callable]] = {
    "keys": (KeysView, lambda items: dict.fromkeys(items).keys()),
    "values": (ValuesView, lambda items: dict(enumerate(items)).values()),
    "items": (ItemsView, lambda items: dict(items).items()),
}
STANDARD = {*SERIES, *TABLES, *SCALARS}
MUTABLE = ("list", "set", "deque", "bytearray", *TABLES)


def type_named(name: str) -> type | None:
    """The standard type of that name, or None if its module was never imported."""
    home = sys.modules.get(HOMES.get(name, "builtins"))
    return getattr(home, name, None)


def name_of(value: object) -> str:
    """The name of a value's exact standard type, or "" for a type of another make (subclasses
    too)."""
    name = type(value).__name__
    if name not in STANDARD or type_named(name) is not type(value):
        return ""
    if getattr(value, "tzinfo", None) is not None:
        return ""
    return name


def encode(value: object, keep: Callable[[object], list]) -> object:
    """A value as JSON has it; `keep` gives what stands for one that does not travel, a list whose
    first item is no type's name. Raises ValueError for a value nested too deeply."""
    try:
        return _encode(value, keep)
    except RecursionError:
        raise ValueError("a value is nested too deeply to be passed on") from None


def _encode(value, keep):
    if value is None or type(value) in (bool, str, float):
        return value
    if type(value) is int and -(2**53) < value < 2**53:
        return value  # larger ones go in hexadecimal: decimal digits are slow and limited
    name = name_of(value)
    if name in SERIES:
        return [name, [_encode(v, keep) for v in value]]
    if name in TABLES:
        return [name, [[_encode(k, keep), _encode(v, keep)] for k, v in value.items()]]
    if name:
        return [name, list(SCALARS[name](value))]
    for name, (view, _) in VIEWS.items():
        if isinstance(value, view):
            return [name, [_encode(v, keep) for v in value]]
    if isinstance(value, tuple) and hasattr(type(value), "_fields"):
        # A named tuple: its class is made again, not the program's methods.
        items = [_encode(v, keep) for v in tuple.__iter__(value)]
        return ["namedtuple", [type(value).__name__, list(value._fields), items]]
    for plain, content in PLAIN.items():
        if isinstance(value, plain):
            return _encode(content(value), keep)
    return keep(value)


def decode(text: object, find: Callable[[list], object]) -> object:
    """The value again; `find` gives what a kept value's name stands for. Raises ValueError for text
    that is none."""
    if not isinstance(text, list):
        if isinstance(text, dict):
            raise ValueError("a message holds an object where values were expected")
        return text
    if not text or not isinstance(text[0], str):
        raise ValueError("a message holds a value without a type")
    name = text[0]
    if name in STANDARD:
        kind = type_named(name)
        if kind is None or len(text) != 2 or not isinstance(text[1], list):
            raise ValueError(f"a message holds a {name} that cannot be read")
        return _rebuild(name, kind, text[1], find)
    if name in VIEWS:
        _, rebuild = VIEWS[name]
        return rebuild([decode(v, find) for v in text[1]])
    if name == "namedtuple":
        label, fields, items = text[1]
        return namedtuple(label, fields)(*[decode(v, find) for v in items])
    return find(text)


def _rebuild(name: str, kind: type, parts: list, find: Callable[[list], object]) -> object:
    if name in SERIES:
        return kind([decode(v, find) for v in parts])
    if name in TABLES:
        pairs = {decode(k, find): decode(v, find) for k, v in parts}
        if name == "defaultdict":
            return kind(None, pairs)
        return kind(pairs)
    if name == "int":
        return int(parts[0], 16)
    if name in ("range", "Fraction"):
        return kind(*[int(part, 16) for part in parts])
    if name in ("bytes", "bytearray"):
        return kind(parts[0], "latin-1")
    return kind(*parts)


def encode_call(values: tuple, names: dict, keep: Callable[[object], list]) -> list:
    """The arguments of a call, encoded: [positional, by name]."""
    encoded = [encode(value, keep) for value in values]
    return [encoded, {name: encode(value, keep) for name, value in names.items()}]


def decode_call(values: list, names: dict, find: Callable[[list], object]) -> tuple[list, dict]:
    """The arguments of a call again."""
    decoded = [decode(value, find) for value in values]
    return decoded, {name: decode(value, find) for name, value in names.items()}


def replace(old: object, new: object) -> None:
    """Give a list, set, dict, deque or bytearray the content that it was left with on the other
    side."""
    if isinstance(old, (list, bytearray)):
        old[:] = new
    else:
        old.clear()
        fill = old.extend if name_of(old) == "deque" else old.update
        fill(new)


def send(to: int, message: list) -> None:
    """Write one message to a descriptor. Raises ValueError if it is larger than LARGEST."""
    data = json.dumps(message).encode()
    if len(data) > LARGEST:
        raise ValueError(f"a message of {len(data)} bytes is larger than {LARGEST}")
    data = struct.pack("<I", len(data)) + data
    while data:
        data = data[os.write(to, data) :]


def receive(at: int) -> list:
    """Read one message. Raises ConnectionError if the other side is gone, ValueError for what is
    no message."""
    (size,) = struct.unpack("<I", _read(at, 4))
    if size > LARGEST:
        raise ValueError(f"a message of {size} bytes is larger than {LARGEST}")
    try:
        message = json.loads(_read(at, size))
    except RecursionError:
        raise ValueError("a message is nested too deeply") from None
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise ValueError("what came is no message")
    return message


def _read(at: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(at, min(size, 2**20))
        if not part:
            raise ConnectionError("the program has ended")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
