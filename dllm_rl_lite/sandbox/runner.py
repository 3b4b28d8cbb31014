"""Run generated code where it can do no harm, and find out whether it is right where it cannot lie.

Two processes per program. The *candidate* runs the generated code and answers calls. The *judge*
runs the tests: in place of the program's functions it holds names for them, and asks. What comes
back is data, which the judge builds anew from plain types, so its operators are the judge's own. A
function or an iterator of the program can be called or iterated and no more. Verdicts are formed in
the judge alone: no program earns anything by ending early, patching an assertion, or returning
objects that are equal to everything.

If the tests use a class of the program, `Program.members` lists what they may do with its objects:
only that is asked of the program, and an operator only if both operands are its own objects, so
that it never computes with a value that a test expects.

Both processes are walled in, and no file can be opened: what a program may import is imported
before. Level "limits": resource limits and, on Linux, a filter of system calls; root becomes
nobody. Level "bubblewrap": the same in namespaces of their own (no network, no foreign process, a
root folder that is read-only and holds nothing but Python and the libraries that it loads).
"""

from __future__ import annotations

import compileall
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache

from ..names import unknown
from .children import SOURCE, child_process, pipe, python_files

LEVELS = ("bubblewrap", "limits")
# They do something when imported, as does a package's __main__.
ASIDE = {"antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter", "test"}
# Modules that others import only when a function of theirs is called.
LATER = {
    "collections": ("heapq", "copy"),
    "datetime": ("_strptime",),
    "time": ("_strptime",),
    "functools": ("typing", "weakref"),
    "statistics": ("heapq",),
    "uuid": ("hashlib",),
    "xml": ("xml.dom.expatbuilder",),
}
ENCODINGS = "cp1252 idna punycode rot_13 hex_codec base64_codec".split()


@dataclass(frozen=True)
class Limits:
    """What each of the two processes of a program may use."""

    seconds: int = 5  # of processor time, at least 1
    wall: float = 15.0  # seconds from start to end of both
    memory: int = 512 * 2**20  # bytes of address space

    def __post_init__(self):
        if self.seconds < 1 or self.wall <= 0 or self.memory < 2**26:
            raise ValueError(
                f"{self}: seconds must be at least 1, wall positive, memory at least {2**26} bytes"
            )


@dataclass(frozen=True)
class Program:
    """Generated code and what it must pass."""

    code: str  # what was generated
    tests: tuple[str, ...]  # statements; a test is passed if it raises nothing
    # The code's functions and classes, as tests and setup use them; no others are looked at.
    names: tuple[str, ...]
    setup: str = ""  # run once before the tests, which see its names; it may use the code's
    # Run before the code's names are defined, in the tests' process: helpers that a name may
    # replace.
    before: str = ""
    prelude: str = ""  # run before the code, in the code's process
    # What tests may do with objects of the code's classes: attributes, methods and operators
    # ("area", "__len__"). Without any the code gives them plain data and functions only.
    members: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.tests:
            raise ValueError("a program without tests would always pass: give at least one")


@dataclass(frozen=True)
class Outcome:
    """What came of a program."""

    passed: tuple[bool, ...]  # by test
    level: str  # the walls that it ran behind; gaps(level) says what they do not stop
    error: str  # what the first test that was not passed raised, or "" if all were
    seconds: float  # from start to end

    @property
    def correct(self) -> bool:
        return all(self.passed)


def run_programs(
    programs: Sequence[Program], level: str = "auto", limits: Limits | None = None
) -> list[Outcome]:
    """Run programs against their tests, one at a time per processor; equal programs run once,
    across calls too.

    Args:
        programs: what to run.
        level: "bubblewrap", "limits", or "auto" for the best that works here.
        limits: of each process; by default Limits().
    Returns:
        one Outcome per program, in order. No process is left when it returns.
    Raises:
        ValueError, RuntimeError: as `walls`.
    """
    if level == "auto":
        level = best_level()
    walls(level)
    limits = limits or Limits()

    def one(program: Program) -> Outcome:
        try:
            return _finished(program, level, limits)
        except TimeoutError as late:
            return late.args[0]

    distinct = list(dict.fromkeys(programs))
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        found = dict(zip(distinct, pool.map(one, distinct), strict=True))
    return [found[program] for program in programs]


@lru_cache(maxsize=4096)
def _finished(program: Program, level: str, limits: Limits) -> Outcome:
    """The outcome of a program. TimeoutError holds that of one which did not end in time, and
    perhaps would on a calmer machine: it is not remembered."""
    outcome, _ = _run(program, level, limits)
    if outcome.seconds >= limits.wall:
        raise TimeoutError(outcome)
    return outcome


@lru_cache(maxsize=1)
def best_level() -> str:
    """The strongest level that works on this machine."""
    try:
        walls("bubblewrap")
    except RuntimeError:
        return "limits"
    return "bubblewrap"


@lru_cache(maxsize=2)
def walls(level: str) -> dict[str, bool]:
    """Which of a level's walls stand on this machine, found by running a program: "filtered",
    "dropped".

    Raises:
        ValueError: for an unknown level.
        RuntimeError: with the reason, if the level does not work.
    """
    if level not in LEVELS:
        raise ValueError(unknown("level", level, LEVELS))
    if level == "bubblewrap" and not shutil.which("bwrap"):
        raise RuntimeError("bubblewrap (bwrap) is not installed: install it, or use level='limits'")
    # Children start faster; nothing is lost if the folder cannot be written.
    compileall.compile_dir(SOURCE, quiet=2)
    program = Program("def f(x): return x + 1", ("assert f(1) == 2",), ("f",))
    outcome, state = _run(program, level, Limits(seconds=20, wall=60))
    if not outcome.correct or state is None:
        raise RuntimeError(
            f"the sandbox level {level!r} does not work on this machine: {outcome.error}"
        )
    return state


def gaps(level: str) -> tuple[str, ...]:
    """What a level does not stop on this machine. Raises as `walls` does."""
    state = walls(level)
    found = [
        "bugs of the kernel, of Python or of the processor",
        "slowing others down within the limits",
    ]
    if sys.platform == "darwin":
        found.append("using more memory than allowed: macOS has no such limit")
    found.append(
        "a program whose tests use its own classes (Program.members): what its objects' methods "
        "answer, and which of its objects are equal, is its word"
    )
    found.append(
        "weak tests: one that compares no item if the program gives none, or that takes an error "
        "of the program for the end (next() within a map, a __getitem__ that it iterates over)"
    )
    if level == "limits":
        also = " and the filter of system calls" if state["filtered"] else ""
        found.append(f"what namespaces would: resource limits{also} stand alone")
    if not state["filtered"]:
        found.append("system calls are not filtered")
        found.append("looking up names, sizes and owners of the files that it can see")
    if level == "bubblewrap":
        found.append(
            "no file can be opened, but these are there, read-only: " + ", ".join(python_files())
        )
    if level == "limits" and not state["filtered"]:
        found.append("removing, renaming or linking what its user may")
        if not state["dropped"]:
            found.append("signals to other processes of the same user, the caller among them")
    if level == "bubblewrap" and not state["filtered"] and os.geteuid() == 0:
        found.append(
            "starting many processes, until the wall-clock limit: the kernel does not count those "
            "of root"
        )
    return tuple(found)


def _run(program: Program, level: str, limits: Limits) -> tuple[Outcome, dict | None]:
    """One program; also which walls stood, or None if the judge did not say so."""
    start = time.monotonic()
    common = {"limits": asdict(limits), "imports": imports(program)}
    with ExitStack() as stack:
        pipes = stack.enter_context(ExitStack())
        calls_out, calls_in = pipe(pipes)  # judge to candidate
        answers_out, answers_in = pipe(pipes)  # candidate to judge
        candidate = stack.enter_context(child_process("candidate", level, (calls_out, answers_in)))
        judge = stack.enter_context(child_process("judge", level, (answers_out, calls_in)))
        code = {
            **common,
            "code": [program.prelude, program.code],
            "read": calls_out,
            "write": answers_in,
        }
        with suppress(BrokenPipeError):  # it did not start: the judge will hear so
            candidate.stdin.write(json.dumps(code).encode())
            candidate.stdin.close()
        tests = {
            **common,
            "tests": program.tests,
            "names": program.names,
            "members": program.members,
            "setup": program.setup,
            "before": program.before,
            "read": answers_out,
            "write": calls_in,
        }
        pipes.close()  # so that each child hears when the other is gone
        try:
            text, _ = judge.communicate(json.dumps(tests).encode(), timeout=limits.wall)
            ending = "the tests' process ended early"
        except subprocess.TimeoutExpired as late:
            text = late.output or b""
            ending = f"not finished within {limits.wall} s"
    *complete, _ = text.split(b"\n")  # what follows the last line end was cut off
    state, *errors = [json.loads(line) for line in complete] or [None]
    errors += [ending] * (len(program.tests) - len(errors))
    outcome = Outcome(
        passed=tuple(error == "" for error in errors),
        level=level,
        error=next(filter(None, errors), ""),
        seconds=time.monotonic() - start,
    )
    return outcome, state


def imports(program: Program) -> list[str]:
    """The standard modules that a program and its tests import: they are loaded before the sandbox
    is locked."""
    parts = (program.prelude, program.code, program.before, program.setup, *program.tests)
    text = "\n".join(parts)
    found = [] if text.isascii() and "\\N{" not in text else ["unicodedata"]
    if re.search("encod|decod|codecs", text):
        found += [f"encodings.{name}" for name in ENCODINGS]
    for line in text.splitlines():
        if "import" not in line:
            continue
        # Every word is tried: what is no module does no harm.
        words = re.findall(r"[\w.]+", line)
        found += words
        if "from" in words[:-1]:
            home = words[words.index("from") + 1]
            found += [f"{home}.{word}" for word in words]
    for name in found.copy():
        found += LATER.get(_root(name), ())
    wanted = sys.stdlib_module_names - ASIDE
    return [n for n in dict.fromkeys(found) if _root(n) in wanted and "__main__" not in n]


def _root(module: str) -> str:
    return module.partition(".")[0]
