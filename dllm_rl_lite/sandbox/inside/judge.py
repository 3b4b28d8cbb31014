"""The process that runs the tests. The program's functions are elsewhere: here are only their names
and what they answer, which is data."""

from __future__ import annotations

import builtins
import json
import os
import sys
import types
from collections.abc import Callable, Iterator

from . import minipytest, walls, wire

ENDS_ITERATION = (StopIteration, StopAsyncIteration)
MODULE = 0  # the number of the program's module
# Operators of an object that take no operand, or a key.
OWN = (
    "len bool iter next reversed str repr int float index abs neg pos invert hash enter "
    "getitem setitem delitem contains"
).split()
# Operators of two objects. Asked of the program only if both are its own: whoever is given the
# expected value as an operand knows what to answer.
BETWEEN = "add sub mul truediv floordiv mod pow matmul and or xor eq ne lt le gt ge".split()


class Broken(BaseException):
    """The program has ended or does not keep to the protocol. No test can catch it and pass."""


class Candidate:
    """The other side of the two pipes."""

    def __init__(self, job: dict):
        self.read = job["read"]
        self.write = job["write"]
        self.remote = remote_class(self, job["members"])
        # What stands here for an object over there, one per number, so that identity means
        # identity over there; and the number of each by its id.
        self.stand_ins: dict[int, object] = {}
        self.numbers: dict[int, int] = {}
        self.passed_on: list[Callable] = []  # functions of the tests that the program may call
        self.broken = ""

    def keep(self, value: object) -> list:
        """What stands for a value that does not travel: an object of the program, a standard
        function, one of the tests'."""
        if id(value) in self.numbers:
            return ["mine", self.numbers[id(value)]]
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
        kind, number, *more = text
        if type(number) is not int:
            raise ValueError("a message names nothing")
        if kind == "yours":
            return self.passed_on[number]
        if number not in self.stand_ins:
            if kind == "exception":
                stand_in = self.exception_class(*more)
            elif kind == "iterator":
                stand_in = self.items(number)
            else:
                stand_in = self.remote()
            self.stand_ins[number] = stand_in
            self.numbers[id(stand_in)] = number
        return self.stand_ins[number]

    def items(self, number: int) -> Iterator:
        """What an iterator of the program gives, one by one."""
        while True:
            more, item = self.ask(number, "__next__")
            if not more:
                return
            yield item

    def exception_class(self, home: str, name: str, base: list | None) -> type:
        """The standard exception class of that name, or one that stands for the program's own.

        One that is no Exception, or that would end the iteration of whoever calls the program, is
        a RuntimeError here.
        """
        standard = None
        if home.partition(".")[0] in sys.stdlib_module_names:
            standard = getattr(sys.modules.get(home), name, None)
        if not isinstance(standard, type):
            parent = wire.decode(base, self.find)
        elif issubclass(standard, Exception) and not issubclass(standard, ENDS_ITERATION):
            return standard
        else:
            parent = RuntimeError
        return type(name, (parent,), {"__module__": "solution"})

    def ask(self, number: int, action: str, *values, **names) -> object:
        """Have the program's process do something with an object; gives data or what stands for
        an object of the program, or raises what it raised."""
        if self.broken:
            raise Broken(self.broken)
        message = [action, number, *wire.encode_call(values, names, self.keep)]
        try:
            wire.send(self.write, message)
            kind, *rest = wire.receive(self.read)
            while kind == "call":
                wire.send(self.write, self.called(*rest))
                kind, *rest = wire.receive(self.read)
            if kind == "error":
                answer = self.error(*rest)
            else:
                answer = self.answer(values, *rest)
        except Exception as error:
            self.broken = str(error) or type(error).__name__
            raise Broken(self.broken) from None
        if kind == "error":
            raise answer
        return answer

    def answer(self, values: tuple, result: object, changed: dict) -> object:
        """What was answered; arguments that the program changed in place are changed here too."""
        for i, text in changed.items():
            if wire.name_of(values[int(i)]) in wire.MUTABLE:
                wire.replace(values[int(i)], wire.decode(text, self.find))
        return wire.decode(result, self.find)

    def called(self, number: int, values: list, names: dict) -> list:
        """The program calls a function that the tests passed to it."""
        try:
            args, named = wire.decode_call(values, names, self.find)
            result = self.passed_on[number](*args, **named)
            return ["value", wire.encode(result, self.keep)]
        except Exception as error:
            kind = next(k.__name__ for k in type(error).__mro__ if k.__module__ == "builtins")
            return ["error", kind, str(error)[:2000]]

    def error(self, kind: list, arguments: list, attributes: list) -> Exception:
        """The program's exception."""
        kind = wire.decode(kind, self.find)
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            raise ValueError("a message holds an error that is none")
        try:
            # not kind(...), for a standard class may want other arguments than these
            error = kind.__new__(kind, *wire.decode(arguments, self.find))
        except TypeError:
            return RuntimeError(kind.__name__)
        error.__dict__.update(wire.decode(attributes, self.find))
        return error


def remote_class(candidate: Candidate, members: list[str]) -> type:
    """The class of what stands for the program's objects here.

    It can be called, and named; all else that a test may do with it is listed in `members`. Two are
    equal if they are the same, unless "__eq__" is a member.
    """
    wanted = {"__name__", *members}
    if "__eq__" in wanted:
        wanted.add("__hash__")
    if "__len__" in wanted:
        wanted.add("__bool__")  # another class of the program may have no length

    def ask(remote: object, action: str, *values, **names) -> object:
        if action in ("getattr", "setattr") and values[0] not in wanted:
            raise AttributeError(f"tests may not use {values[0]!r} of the program's objects")
        return candidate.ask(candidate.numbers[id(remote)], action, *values, **names)

    def own(action: str) -> Callable:
        return lambda remote, *values, **names: ask(remote, action, *values, **names)

    def between(action: str) -> Callable:
        def operate(remote, other):
            if not isinstance(other, kind):
                return NotImplemented
            return ask(remote, action, other)

        return operate

    def advance(remote) -> object:
        more, item = ask(remote, "__next__")
        if not more:
            raise StopIteration
        return item

    def leave(remote, *error) -> None:
        ask(remote, "__exit__", None, None, None)  # nor may it swallow what the test raised

    def check_instance(remote, other) -> bool:
        return isinstance(other, kind) and ask(other, "isinstance", remote) is True

    operators = {f"__{name}__": own(f"__{name}__") for name in OWN}
    operators |= {f"__{name}__": between(f"__{name}__") for name in BETWEEN}
    operators |= {"__next__": advance, "__exit__": leave}
    methods = {name: operators[name] for name in operators.keys() & wanted}
    methods |= {"__call__": own("call"), "__instancecheck__": check_instance}
    methods |= {"__getattr__": own("getattr"), "__setattr__": own("setattr")}
    kind = type("Remote", (), methods)
    return kind


def namespace(job: dict, candidate: Candidate) -> dict:
    """What the tests see: the setup's own names, then the program's under the names that were
    agreed on."""
    names: dict[str, object] = {"__name__": "tests"}
    exec(compile(job["before"], "<setup>", "exec"), names)
    solution = types.ModuleType("solution")
    for name in job["names"]:
        try:
            value = candidate.ask(MODULE, "getattr", name)
        except AttributeError:
            continue  # the program does not define it: a test that uses it fails with NameError
        if isinstance(value, type) and value.__module__ != "solution":
            continue  # Exception under another name would swallow what a test raises
        names[name] = solution.__dict__[name] = value
    sys.modules["solution"] = solution
    sys.modules["pytest"] = minipytest.module()
    exec(compile(job["setup"], "<setup>", "exec"), names)
    return names


def attempt(candidate: Candidate, work: Callable[[], object]) -> str:
    """ "" if work raises nothing and the program goes on, else what was raised."""
    try:
        work()
    except BaseException as error:  # also SystemExit: whatever ends a test early fails it
        name = type(error).__name__
        text = str(error)
        return f"{name}: {text}"[:300] if text else name
    return candidate.broken


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

    def run(test: str) -> None:
        exec(compile(test, "<test>", "exec"), names)

    report(state)
    failed = attempt(candidate, lambda: names.update(start(job, candidate)))
    for test in job["tests"]:
        report(failed or attempt(candidate, lambda test=test: run(test)))
