"""The process that runs generated code and answers calls to it: it sends values, never a
verdict."""

from __future__ import annotations

import builtins
import operator
import sys
import types
from collections.abc import Iterator

from . import walls, wire

ITERATORS = ("builtins", "itertools")  # whose iterators are handed over item by item


class Program:
    """The generated code, and the objects of its that the judge knows by number."""

    def __init__(self, job: dict):
        self.read = job["read"]
        self.write = job["write"]
        self.module = types.ModuleType("solution")
        self.kept: list[object] = []  # alive, so that equal identities stay equal numbers
        self.number: dict[int, int] = {}
        self.keep(self.module)  # its number is 0

    def keep(self, value: object) -> list:
        """What stands for an object that stays here."""
        if isinstance(value, Caller):
            return ["yours", value.number]
        number = self.number.setdefault(id(value), len(self.kept))
        if number == len(self.kept):
            self.kept.append(value)
        if isinstance(value, type) and issubclass(value, BaseException):
            base = None if value is BaseException else self.keep(value.__base__)
            return ["exception", number, value.__module__, value.__qualname__, base]
        if isinstance(value, Iterator) and type(value).__module__ in ITERATORS:
            return ["iterator", number]
        return ["mine", number]

    def find(self, text: list) -> object:
        kind, number = text
        if kind == "builtin":
            return getattr(builtins, number)
        if kind == "mine":
            return self.kept[number]
        return Caller(self, number)

    def error(self, error: BaseException) -> list:
        """An exception: its class, arguments and attributes."""
        arguments = error.args
        if getattr(type(error).__str__, "__module__", "") == self.module.__name__:
            arguments = (str(error),)
        parts = (type(error), arguments, vars(error))
        return ["error", *[wire.encode(part, self.keep) for part in parts]]

    def work(self, action: str, number: int, values: list, names: dict) -> list:
        """Do what the judge asks; arguments that were changed in place go back with the answer."""
        try:
            args, named = wire.decode_call(values, names, self.find)
            result = act(action, self.kept[number], *args, **named)
            answer = ["value", wire.encode(result, self.keep), {}]
            if action == "call":
                answer[2] = self.changed(values, args)
            return answer
        # SystemExit and the like too: the code must not end its own process quietly
        except BaseException as error:
            return self.error(error)

    def changed(self, values: list, args: list) -> dict[int, object]:
        """The arguments that were changed in place, by position."""
        found = {}
        for i, (before, arg) in enumerate(zip(values, args, strict=True)):
            if wire.name_of(arg) in wire.MUTABLE:
                after = wire.encode(arg, self.keep)
                if after != before:
                    found[i] = after
        return found

    def serve(self) -> list:
        """Answer requests until a reply to a call of ours comes."""
        while True:
            kind, *rest = wire.receive(self.read)
            if kind in ("value", "error"):
                return [kind, *rest]
            answer = self.work(kind, *rest)
            try:
                wire.send(self.write, answer)
            except (ValueError, RecursionError) as error:
                wire.send(self.write, self.error(error))


def act(action: str, target: object, *values, **names) -> object:
    """What an action of the judge's does: the operator, special method or built-in function of
    that name."""
    if action == "__next__":
        try:
            return True, next(target)
        except StopIteration:
            return False, None
    if action in ("__enter__", "__exit__"):
        return getattr(target, action)(*values)
    name = action.strip("_")
    work = getattr(builtins, name, None) or getattr(operator, action)
    return work(target, *values, **names)


class Caller:
    """A function of the tests that was passed to the program as an argument."""

    def __init__(self, program: Program, number: int):
        self.program = program
        self.number = number

    def __call__(self, *values, **names):
        arguments = wire.encode_call(values, names, self.program.keep)
        wire.send(self.program.write, ["call", self.number, *arguments])
        kind, *rest = self.program.serve()
        if kind == "error":
            raise getattr(builtins, rest[0])(rest[1])
        return wire.decode(rest[0], self.program.find)


def main() -> None:
    job, _ = walls.enter()
    program = Program(job)
    sys.modules["solution"] = program.module
    try:
        for code in job["code"]:
            exec(compile(code, "<program>", "exec"), program.module.__dict__)
        wire.send(program.write, ["ready"])
    except BaseException as error:  # sys.exit() while it is loaded is a failure like any other
        wire.send(program.write, program.error(error))
        return
    program.serve()
