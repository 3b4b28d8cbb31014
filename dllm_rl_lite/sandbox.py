"""Run generated code where it can do no harm: one process a program, no network, no files, little time and memory.

What the caller expects never enters the sandbox: the child only reports what it computed, so no program can earn a
reward by ending early, by patching an assertion or by printing "passed".
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

SECONDS = 2  # processor and wall-clock limit of one program
MEMORY = 256 * 2**20  # bytes of address space
OUTPUT = 4096  # bytes of output read back

# The child: everything it needs is imported before the limits fall. With no file descriptor left to open it can reach
# neither files nor sockets; root is dropped, and a private network namespace is entered where the kernel allows it.
# Attributes are refused before it starts: without them no expression reaches a module, hence no signal to a process.
CHILD = r"""
import ctypes, json, os, resource, sys
program = json.loads(sys.stdin.read())
if os.geteuid() == 0:
    try: os.setgroups([]); os.setgid(65534); os.setuid(65534)
    except OSError: pass
getattr(ctypes.CDLL(None), "unshare", int)(0x10000000 | 0x40000000)
code = compile(program["expression"], "<answer>", "eval")
write, dumps = os.write, json.dumps
del os, sys, ctypes
for what, limit in program["limits"]:
    resource.setrlimit(what, (limit, limit))
f = eval("lambda x: (" + program["expression"] + ")", {"__builtins__": {"abs": abs, "min": min, "max": max, "range": range,
         "sum": sum, "len": len, "int": int, "str": str, "sorted": sorted, "bool": bool}})
write(1, dumps([f(x) for x in program["inputs"]])[:program["output"]].encode())
"""


def _limits() -> list[tuple[int, int]]:
    import resource  # not on every platform, so only when it is used

    return [(resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_NOFILE, 0), (resource.RLIMIT_NPROC, 0), (resource.RLIMIT_CORE, 0)]


@lru_cache(maxsize=65536)
def _run(expression: str, inputs: tuple[int, ...]) -> tuple | None:
    """Values of the expression at the inputs, or None if it fails, in a child process of its own.

    Raises TimeoutError, so that a program that was slow on a busy machine is not remembered as a failure.
    """
    job = json.dumps({"expression": expression, "inputs": inputs, "limits": _limits(), "output": OUTPUT + 1})
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, start_new_session=True, cwd="/", env={})
    try:
        output, _ = child.communicate(job.encode(), timeout=SECONDS + 2)
        values = json.loads(output) if child.returncode == 0 and len(output) <= OUTPUT else None
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    except ValueError:
        values = None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, 9)
            child.communicate()
    return tuple(values) if isinstance(values, list) and len(values) == len(inputs) else None


def run_expressions(programs: list[tuple[str, list[int]]]) -> list[list | None]:
    """Evaluate one-variable expressions in the sandbox.

    Args:
        programs: (expression in x, the integer inputs to try), one program a row.
    Returns:
        for each program the list of its values, or None where it is empty, too long (over 200 characters), not an
        expression, asks for an attribute (`a.b`), raises, or runs out of time or memory. Equal programs are run once.
    """
    def one(program: tuple[str, tuple[int, ...]]) -> tuple | None:
        expression, inputs = program
        if not expression or len(expression) > 200:
            return None
        try:
            tree = ast.parse(expression, mode="eval")  # not run: most malformed answers end here, without a process
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return None
        if any(isinstance(node, ast.Attribute) for node in ast.walk(tree)):
            return None
        try:
            return _run(expression, inputs)
        except TimeoutError:
            return None

    jobs = [(expression, tuple(inputs)) for expression, inputs in programs]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        distinct = list(dict.fromkeys(jobs))
        found = dict(zip(distinct, pool.map(one, distinct), strict=True))
    return [None if found[job] is None else list(found[job]) for job in jobs]
