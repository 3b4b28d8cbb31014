"""Start a run with several processes of this machine, as a checked subprocess, and read back what
it left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from .config import TrainConfig
from .result import ERROR, TrainResult, finished

GRACE = 30  # seconds that the workers have to end


def command(config: TrainConfig, processes: int) -> list[str]:
    """The command line that starts the run: torchrun on the training module, its configuration in
    `run_dir`."""
    path = Path(config.run_dir) / "launched.json"
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        "-m",
        "dllm_rl_lite.train",
        str(path),
    ]


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
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "launched.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
    started = subprocess.Popen(
        command(config, processes),
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
        code = started.wait()
    except BaseException:  # an interrupt, or a `say` that failed: nothing may be left running
        end(started)
        raise
    if code:
        raise RuntimeError(
            f"{processes} processes ended with exit code {code}: {reason(list(last))}\n"
            "what was saved is "
            f"whole: the same call, also with another number of processes, goes on in {run_dir}"
        )
    return finished(config)


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
