"""The process that runs generated code and answers calls to it: it sends values, never a
verdict."""

from __future__ import annotations

import builtins
import operator
import sys
import types

from . import walls, wire

ACTIONS = {
    name: getattr(operator, name)
    for name in (
        "getitem",
        "setitem",
        "delitem",
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "matmul",
        "and_",
        "or_",
        "xor",
        "neg",
        "pos",
        "abs",
        "invert",
        "call",
    )
} | {
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
        self.read, self.write = job["read"], job["write"]
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
        return self.kept[number] if kind == "mine" else Caller(self, number)

    def error(self, error: BaseException) -> list:
        """An exception: its nearest standard types by name, its text, and its own classes by
        number."""
        kinds = type(error).__mro__
        text = (
            error.args[0] if len(error.args) == 1 and isinstance(error.args[0], str) else str(error)
        )
        return [
            "error",
            [k.__name__ for k in kinds if k.__module__ == "builtins"],
            str(text)[:2000],
            [self.keep(k)[1] for k in kinds if k.__module__ != "builtins"],
        ]

    def work(self, action: str, values: list, names: dict) -> list:
        """Do what the judge asks; arguments that were changed in place go back with the answer."""
        try:
            args = [wire.decode(v, self.find) for v in values]
            result = ACTIONS[action](
                *args, **{k: wire.decode(v, self.find) for k, v in names.items()}
            )
            answer = ["value", wire.encode(result, self.keep), {}]
            if action == "call":
                for i, (before, arg) in enumerate(zip(values, args, strict=True)):
                    if (
                        wire.name_of(arg) in wire.MUTABLE
                        and (after := wire.encode(arg, self.keep)) != before
                    ):
                        answer[2][i] = after
        except (
            BaseException
        ) as error:  # SystemExit and the like too: the code must not end its own process quietly
            answer = self.error(error)
        return answer

    def serve(self) -> list:
        """Answer requests until a reply to a call of ours comes."""
        while True:
            kind, *rest = wire.receive(self.read)
            if kind in ("value", "error"):
                return [kind, *rest]
            answer = (
                ["value", self.keep(self.module), {}]
                if kind == "module"
                else self.work(kind, *rest)
            )
            try:
                wire.send(self.write, answer)
            except (ValueError, RecursionError) as error:
                wire.send(self.write, self.error(error))


class Caller:
    """A function of the tests that was passed to the program as an argument."""

    def __init__(self, program: Program, number: int):
        self.program, self.number = program, number

    def __call__(self, *values, **names):
        keep = self.program.keep
        wire.send(
            self.program.write,
            [
                "call",
                self.number,
                [wire.encode(v, keep) for v in values],
                {k: wire.encode(v, keep) for k, v in names.items()},
            ],
        )
        kind, *rest = self.program.serve()
        if kind == "error":
            raise getattr(builtins, rest[0])(rest[1])
        return wire.decode(rest[0], self.program.find)


def main() -> None:
    job = walls.receive()
    walls.import_modules(job["imports"])
    walls.lock(job["limits"], job["namespaces"])
    if "random" in sys.modules:
        sys.modules["random"].seed(0)  # the same verdict every time
    program = Program(job)
    sys.modules["solution"] = program.module
    try:
        exec(compile(job["code"], "<program>", "exec"), program.module.__dict__)
        wire.send(program.write, ["ready"])
    except BaseException as error:  # sys.exit() while it is loaded is a failure like any other
        wire.send(program.write, program.error(error))
        return
    program.serve()
