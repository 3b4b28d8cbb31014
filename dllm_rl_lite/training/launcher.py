"""Start a run with several processes of this machine, as a checked subprocess, and read back what
it left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from .config import TrainConfig
from .result import ERROR, TrainResult, finished

GRACE = 30  # seconds that the workers have to end


def launch(config: TrainConfig, processes: int, say: Callable[[str], None] = print) -> TrainResult:
    """Train, or resume, one run with several processes; returns what `train` would, when all of
    them are done.

    Args:
        processes: of this machine, one per GPU. say: gets every line that they print.
    Raises:
        ValueError: for fewer than one process. RuntimeError: when a process fails or is killed; the
            others have been ended by then, and the message says which one it was, why, and that the
            same call goes on from the last checkpoint.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    with tempfile.TemporaryDirectory() as folder:  # the run's own is the workers' to lock
        settings = Path(folder) / "settings.json"
        settings.write_text(json.dumps(asdict(config)))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        torchrun.append(f"--nproc-per-node={processes}")
        code, last = follow([*torchrun, "-m", "dllm_rl_lite.train", str(settings)], say)
    if code:
        raise RuntimeError(
            f"{processes} processes ended with exit code {code}: {reason(last)}\n"
            "what was saved is "
            "whole: the same call, also with another number of processes, goes on in "
            f"{config.run_dir}"
        )
    return finished(config)


def follow(words: list[str], say: Callable[[str], None]) -> tuple[int, list[str]]:
    """Run a command to its end, and say its lines; returns its exit code and its last lines."""
    started = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    last: deque[str] = deque(maxlen=200)
    try:
        for line in started.stdout:
            last.append(line.rstrip())
            if is_ours(last[-1]):
                say(last[-1])
        return started.wait(), list(last)
    except BaseException:  # an interrupt, or a `say` that failed: nothing may be left running
        end(started)
        raise


def is_ours(line: str) -> bool:
    """False for what torchrun says of itself, which is long; `reason` reads it."""
    return bool(line) and not line.startswith(("W1", "E1", "W0", "E0", "*****", "Setting OMP"))


def reason(lines: list[str]) -> str:
    """Why a run ended: the signal that killed a worker, or a worker's own error, or the last lines.

    The others of a worker that was killed may still tell of the connection that they lost: that is
    no reason.
    """
    killed = re.search(r"failed \(exitcode: -(\d+)\) local_rank: (\d+)", "\n".join(lines))
    if killed:
        hint = " (which the system also sends where memory has run out)" if killed[1] == "9" else ""
        return f"process {killed[2]} was killed by signal {killed[1]}{hint}"
    own = [i for i, line in enumerate(lines) if line.startswith(ERROR)]
    said = lines[own[0] :] if own else lines[-5:]
    return "\n".join([line for line in said if is_ours(line) or not own][:4])


def end(process: subprocess.Popen) -> None:
    """Ask torchrun to end its workers, then insist."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(GRACE)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
