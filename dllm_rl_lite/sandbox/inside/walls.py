"""The walls that a child builds around itself before it runs anything that was not written here.

First resource limits, then another user if root may become one, then a filter that lets few
system calls through. Every wall is built by the process it encloses, and none of them can be taken
down again from inside.
"""

from __future__ import annotations

import json
import os
import resource
import sys

NOBODY = 65534  # the user and group that root becomes

# System calls that a computation needs: (number on x86_64, on aarch64), from the kernel's
# asm/unistd_64.h and asm-generic/unistd.h. Left out on purpose, among others: all that names or
# makes a file, fork, exec, kill, ptrace, socket, prctl, prlimit64 (it reaches other processes) and
# fcntl (its F_SETOWN sends signals).
COMPUTE = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "uname": (63, 160),
    "gettimeofday": (96, 169),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "sigaltstack": (131, 132),
    "futex": (202, 98),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "getrandom": (318, 278),
    "rseq": (334, 293),
    "times": (100, 153),
    "getrusage": (98, 165),
    "sched_getaffinity": (204, 123),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "time": (201, None),
    "arch_prctl": (158, None),
    "membarrier": (324, 283),
    "set_robust_list": (273, 99),
    "fstat": (5, 80),
}

# Per machine the column of the tables above, and its name in the kernel.
AUDIT_ARCH = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
ALLOW = 0x7FFF0000  # SECCOMP_RET_ALLOW
REFUSE = 0x00050001  # SECCOMP_RET_ERRNO with EPERM
BPF_LOAD = 0x20  # BPF_LD|BPF_W|BPF_ABS
BPF_EQUAL = 0x15  # BPF_JMP|BPF_JEQ|BPF_K
BPF_RETURN = 0x06  # BPF_RET|BPF_K
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38


def enter() -> tuple[dict, dict[str, bool]]:
    """Receive the job, import what it needs, and lock this process in: (job, what `lock` says)."""
    job = receive()
    import_modules(job["imports"])
    state = lock(job["limits"])
    if "random" in sys.modules:
        sys.modules["random"].seed(0)  # the same verdict every time
    return job, state


def receive() -> dict:
    """The job, from standard input, with "report", a descriptor of what was the standard output;
    afterwards standard input, output and error lead to /dev/null."""
    with os.fdopen(os.dup(0)) as stdin:
        job = json.load(stdin)
    job["report"] = os.dup(1)
    os.dup2(2, 0)
    os.dup2(2, 1)
    sys.stdin = open(0, closefd=False)
    return job


def import_modules(names: list[str]) -> None:
    """Import modules while files can still be read."""
    for name in names:
        try:
            __import__(name)
        # no such submodule, or one that this build of Python lacks: the program will hear of it
        except Exception:
            continue


def lock(limits: dict) -> dict[str, bool]:
    """Build the walls, and say which stand: system calls are "filtered", root was "dropped" for
    nobody. limits: "seconds" of processor time, bytes of "memory"."""
    libc = _libc()
    dropped = os.geteuid() == 0  # under bubblewrap it is nobody already
    if dropped:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    os.environ.clear()
    if libc is not None:
        libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
        # No process of the same user may look into this one.
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    most = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CPU: limits["seconds"],
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 0,
    }
    if sys.platform != "darwin":  # macOS refuses this limit
        most[resource.RLIMIT_AS] = limits["memory"]
    for what, value in most.items():
        resource.setrlimit(what, (value, value))
    return {"filtered": libc is not None and _filter_calls(libc), "dropped": dropped}


def _libc():
    """The C library if it has prctl (Linux), else None."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    except (ImportError, OSError, AttributeError):
        return None
    return libc


def _filter_calls(libc) -> bool:
    """Refuse every system call that COMPUTE does not list (seccomp, in classic BPF); False if that
    is not possible."""
    import ctypes
    import struct

    machine = os.uname().machine
    if machine not in AUDIT_ARCH or sys.maxsize < 2**32:
        return False
    column, architecture = AUDIT_ARCH[machine]
    numbers = [columns[column] for columns in COMPUTE.values() if columns[column] is not None]
    # Each line: operation, lines to skip if equal, lines to skip if not, value. The last two
    # lines are the answers.
    code = [
        (BPF_LOAD, 0, 0, 4),  # the architecture
        (BPF_EQUAL, 0, len(numbers) + 1, architecture),
        (BPF_LOAD, 0, 0, 0),  # the number of the call
    ]
    for i, number in enumerate(numbers):
        code.append((BPF_EQUAL, len(numbers) - i, 0, number))
    code.append((BPF_RETURN, 0, 0, REFUSE))
    code.append((BPF_RETURN, 0, 0, ALLOW))
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = ctypes.create_string_buffer(struct.pack("HP", len(code), ctypes.addressof(text)))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return libc.prctl(PR_SET_SECCOMP, 2, ctypes.addressof(program), 0, 0) == 0
