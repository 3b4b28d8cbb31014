"""The process that runs generated code and answers calls to it: it sends values, never a
verdict."""

from __future__ import annotations

import builtins
import operator
import sys
import types

from . import walls, wire

OPERATORS = (
    "getitem setitem delitem add sub mul truediv floordiv mod pow matmul and_ or_ xor "
    "neg pos abs invert call"
).split()
ACTIONS = {name: getattr(operator, name) for name in OPERATORS} | {
    "getattr": getattr,
    "setattr": setattr,
    "delattr": delattr,
    "len": len,
    "bool": bool,
    "iter": iter,
    "next": next,
    "str": str,
    "repr": repr,
    "int": int,
    "float": float,
    "isinstance": isinstance,
    "reversed": reversed,
    "enter": lambda v: type(v).__enter__(v),
    "exit": lambda v: type(v).__exit__(v, None, None, None),
}


class Program:
    """The generated code, and the objects of its that the judge knows by number."""

    def __init__(self, job: dict):
        self.read = job["read"]
        self.write = job["write"]
        self.module = types.ModuleType("solution")
        self.kept: list[object] = []  # alive, so that equal identities stay equal numbers
        self.number: dict[int, int] = {}

    def keep(self, value: object) -> list:
        """What stands for an object that stays here."""
        if isinstance(value, Caller):
            return ["yours", value.number]
        if id(value) not in self.number:
            self.number[id(value)] = len(self.kept)
            self.kept.append(value)
        return ["mine", self.number[id(value)]]

    def find(self, text: list) -> object:
        kind, number = text
        if kind == "builtin":
            return getattr(builtins, number)
        if kind == "mine":
            return self.kept[number]
        return Caller(self, number)

    def error(self, error: BaseException) -> list:
        """An exception: its nearest standard types by name, its text, and its own classes by
        number."""
        kinds = type(error).__mro__
        standard = [kind.__name__ for kind in kinds if kind.__module__ == "builtins"]
        own = [self.keep(kind)[1] for kind in kinds if kind.__module__ != "builtins"]
        if len(error.args) == 1 and isinstance(error.args[0], str):
            text = error.args[0]  # KeyError would put it in quotation marks
        else:
            text = str(error)
        return ["error", standard, str(text)[:2000], own]

    def work(self, action: str, values: list, names: dict) -> list:
        """Do what the judge asks; arguments that were changed in place go back with the answer."""
        try:
            args, named = wire.decode_call(values, names, self.find)
            result = ACTIONS[action](*args, **named)
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
            if kind == "module":
                answer = ["value", self.keep(self.module), {}]
            else:
                answer = self.work(kind, *rest)
            try:
                wire.send(self.write, answer)
            except (ValueError, RecursionError) as error:
                wire.send(self.write, self.error(error))


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
        exec(compile(job["code"], "<program>", "exec"), program.module.__dict__)
        wire.send(program.write, ["ready"])
    except BaseException as error:  # sys.exit() while it is loaded is a failure like any other
        wire.send(program.write, program.error(error))
        return
    program.serve()
