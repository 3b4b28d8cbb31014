"""Starts the two processes of a program, with or without namespaces of their own, and ends them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parent / "inside"
START = (
    "import sys; sys.path.append({where!r}); from inside.{role} import main; sys.path.pop(); main()"
)
# PYTHONHASHSEED: sets of strings have the same order in every run, so a verdict does not depend on
# chance.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


def pipe(stack: ExitStack) -> tuple[int, int]:
    """A pipe's two ends, for reading and for writing, which the stack closes."""
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    return ends


@contextmanager
def child_process(role: str, level: str, ends: tuple[int, int]) -> Iterator[subprocess.Popen]:
    """A process that waits for its job; on the way out it is killed and reaped, with everything
    that it started."""
    wrapped = level == "bubblewrap"
    where = "/" if wrapped else str(SOURCE.parent)
    program = START.format(where=where, role=role)
    command = [os.path.realpath(sys.executable), "-P", "-s", "-S", "-c", program]
    inherited = ends
    told, tell = os.pipe()
    if wrapped:
        command = _bubblewrap(tell) + command
        inherited = (*ends, tell)
    with os.fdopen(told, "rb") as news:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if role == "judge" else subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,
                pass_fds=inherited,
            )
        finally:
            os.close(tell)
        inside = None
        try:
            if wrapped:
                # Read before any generated code is handed over, so it is bubblewrap itself that
                # names the process to kill.
                inside = json.loads(news.read() or "{}").get("child-pid")
            yield child
        finally:
            _end(child, inside)


def _end(child: subprocess.Popen, inside: int | None) -> None:
    """Kill a child, reap it and close its pipes. `inside` is the first process of its namespace:
    with it all others end, and bubblewrap, which reaps it, ends too."""
    with suppress(ProcessLookupError):
        if child.poll() is None and inside:
            os.kill(inside, signal.SIGKILL)
        elif child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for pipe in (child.stdin, child.stdout):
        with suppress(BrokenPipeError):
            if pipe:
                pipe.close()


@cache
def python_files() -> tuple[str, ...]:
    """What a Python process needs to start and to import the standard library: all that it sees
    under bubblewrap. No /proc, no /dev, no home."""
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    machine = sysconfig.get_config_var("MULTIARCH") or ""
    found = ["/etc/ld.so.cache", "/lib64", "/usr/lib64", f"/lib/{machine}", f"/usr/lib/{machine}"]
    libraries = sysconfig.get_config_var("LIBDIR") or ""
    if libraries not in found:  # Python's own, which may lie beside much else
        found += [str(path) for path in Path(libraries).glob("lib*.so*")]
    found.append(os.path.realpath(sys.executable))
    found += [sysconfig.get_path(name, vars=base) for name in ("stdlib", "platstdlib")]
    return tuple(dict.fromkeys(found))


def _bubblewrap(tell: int) -> list[str]:
    """The command that starts another in namespaces of its own, and tells its process number on a
    descriptor."""
    binds: list[str] = []
    for path in python_files():
        binds += ["--ro-bind-try", path, path]
    return [
        "bwrap",
        "--unshare-all",
        "--as-pid-1",
        "--die-with-parent",
        "--uid",
        "65534",
        "--gid",
        "65534",
        "--cap-drop",
        "ALL",
        *binds,
        "--ro-bind",
        str(SOURCE),
        "/inside",
        "--remount-ro",
        "/",
        "--info-fd",
        str(tell),
    ]
