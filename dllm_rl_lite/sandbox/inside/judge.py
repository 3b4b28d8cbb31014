"""The process that runs the tests. The program's functions are elsewhere: here are only their names
and what they answer."""

from __future__ import annotations

import builtins
import json
import os
import sys
import types
from collections.abc import Callable

from . import minipytest, walls, wire


class Candidate:
    """The other side of the two pipes."""

    def __init__(self, job: dict):
        self.read = job["read"]
        self.write = job["write"]
        # One object per number, so that identity means identity over there.
        self.remotes: dict[int, Remote] = {}
        self.passed_on: list[Callable] = []  # functions of the tests that the program may call

    def keep(self, value: object) -> list:
        """What stands for a value that does not travel: an object of the program, a standard
        function, one of the tests'."""
        if isinstance(value, Remote):
            return ["mine", object.__getattribute__(value, "_remote")[1]]
        name = getattr(value, "__name__", "")
        if callable(value) and isinstance(name, str) and getattr(builtins, name, None) is value:
            return ["builtin", name]
        if callable(value) and not isinstance(value, type):
            self.passed_on.append(value)
            return ["yours", len(self.passed_on) - 1]
        raise TypeError(
            f"the sandbox cannot pass a {type(value).__name__} of the tests to the program"
        )

    def find(self, text: list) -> object:
        kind, number = text if len(text) == 2 else ("", 0)
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError("a message names nothing")
        if kind == "yours":
            return self.passed_on[number]
        return self.remotes.setdefault(number, Remote(self, number))

    def ask(self, action: str, *values, **names) -> object:
        """Have the program's process do something; gives a value or an object of the program, or
        raises what it raised."""
        wire.send(self.write, [action, *wire.encode_call(values, names, self.keep)])
        kind, *rest = wire.receive(self.read)
        while kind == "call":
            wire.send(self.write, self.called(*rest))
            kind, *rest = wire.receive(self.read)
        if kind == "error":
            raise self.error(*rest)
        value, changed = rest
        for i, text in changed.items():
            if wire.name_of(values[int(i)]) in wire.MUTABLE:
                wire.replace(values[int(i)], wire.decode(text, self.find))
        return wire.decode(value, self.find)

    def called(self, number: int, values: list, names: dict) -> list:
        """The program calls a function that the tests passed to it."""
        try:
            args, named = wire.decode_call(values, names, self.find)
            result = self.passed_on[number](*args, **named)
            return ["value", wire.encode(result, self.keep)]
        except Exception as error:
            kind = next(k.__name__ for k in type(error).__mro__ if k.__module__ == "builtins")
            return ["error", kind, str(error)[:2000]]

    def error(self, kinds: list[str], text: str, own: list[int]) -> Exception:
        """The program's exception, as the nearest standard one; those that are no Exception become
        RuntimeError."""
        for name in kinds:
            kind = getattr(builtins, str(name), None)
            if isinstance(kind, type) and issubclass(kind, Exception):
                try:
                    error = kind(text)
                except TypeError:  # such as UnicodeDecodeError, which wants five arguments
                    continue
                break
        else:
            error = RuntimeError(f"{kinds[:1]}: {text}")
        error.own_classes = [self.find(["mine", number]) for number in own]
        return error


class Remote:
    """An object that lives in the program's process. Two are equal if they are the same; the
    program has no say in it.

    What it answers comes by value, or is again a Remote. It has no order and no `in` of its own,
    for the same reason.
    """

    def __init__(self, candidate: Candidate, number: int):
        object.__setattr__(self, "_remote", (candidate, number))

    def __getattr__(self, name: str) -> object:
        return ask(self, "getattr", name)

    def __setattr__(self, name: str, value: object) -> None:
        ask(self, "setattr", name, value)

    def __delattr__(self, name: str) -> None:
        ask(self, "delattr", name)

    def __exit__(self, *_) -> None:
        ask(self, "exit")

    def __call__(self, *values, **names) -> object:
        return ask(self, "call", *values, **names)

    def __instancecheck__(self, other: object) -> bool:
        return isinstance(other, Remote) and ask(other, "isinstance", self) is True


def ask(remote: Remote, action: str, *values, **names) -> object:
    return object.__getattribute__(remote, "_remote")[0].ask(action, remote, *values, **names)


def forward(action: str) -> Callable:
    return lambda remote, *values: ask(remote, action, *values)


for _name in (
    "getitem setitem delitem add sub mul truediv floordiv mod pow matmul and_ or_ xor "
    "neg pos abs invert len bool iter next str repr int float enter reversed"
).split():
    setattr(Remote, f"__{_name.strip('_')}__", forward(_name))


def namespace(job: dict, candidate: Candidate) -> dict:
    """What the tests see: the setup's own names, then the program's under the names that were
    agreed on."""
    names: dict[str, object] = {"__name__": "tests"}
    exec(compile(job["before"], "<setup>", "exec"), names)
    module = candidate.ask("module")
    solution = types.ModuleType("solution")
    for name in job["names"]:
        try:
            names[name] = solution.__dict__[name] = ask(module, "getattr", name)
        except AttributeError:
            continue  # the program does not define it: a test that uses it fails with NameError
    sys.modules["solution"] = solution
    sys.modules["pytest"] = minipytest.module(Remote)
    exec(compile(job["setup"], "<setup>", "exec"), names)
    return names


def attempt(work: Callable[[], object]) -> str:
    """ "" if work raises nothing, else what it raised."""
    try:
        work()
    except BaseException as error:  # also SystemExit: whatever ends a test early fails it
        name = type(error).__name__
        text = str(error)
        return f"{name}: {text}"[:300] if text else name
    return ""


def start(job: dict, candidate: Candidate) -> dict:
    """Wait until the program is loaded, then make the tests' namespace."""
    message = wire.receive(candidate.read)
    if message[0] == "error":
        raise candidate.error(*message[1:])
    return namespace(job, candidate)


def main() -> None:
    job, state = walls.enter()
    candidate = Candidate(job)
    names: dict[str, object] = {}

    def report(line: object) -> None:
        os.write(job["report"], json.dumps(line).encode() + b"\n")

    report(state)
    failed = attempt(lambda: names.update(start(job, candidate)))
    for test in job["tests"]:
        report(failed or attempt(lambda test=test: exec(compile(test, "<test>", "exec"), names)))
