"""One plain training loop: rollouts, rewards, credit, inner updates, evaluation, log, checkpoint.

It knows no method by name: a `Method` record says what to do. From a shell:

    python -m dllm_rl_lite.train [CONFIG.yaml] [name=value ...]
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from .evaluate import evaluate
from .models import fingerprint
from .models.adapters import describe_parameters
from .planning import (
    Prompts,
    check_memory,
    check_prompts,
    free_memory,
    memory_advice,
    memory_limit,
    plan,
    rows_per_call,
)
from .processes import (
    check_agreement,
    exit_processes,
    init_processes,
    is_sharded,
    process_count,
    process_rank,
    whole_weights,
)
from .tasks import Benchmark
from .training import (
    Run,
    TrainConfig,
    TrainResult,
    collect_step,
    complete_checkpoints,
    launch,
    prepare,
    read_config,
    update_policy,
)
from .training.checkpoint import load_checkpoint, save_checkpoint, write_log
from .training.config import Parameters
from .training.result import ERROR
from .training.run_dir import (
    claim_run_dir,
    data_fingerprint,
    own_run_dir,
    run_identity,
    settle_run_dir,
)
from .values import describe_options, read_words, split_arguments


def train(
    config: TrainConfig,
    reward: Callable[..., list[float]] | None = None,
    say: Callable[[str], None] = print,
) -> TrainResult:
    """Train, or resume, one run; the processes that torchrun or its like has started share it.

    Args:
        config: the run.
        reward: a reward function of TRL's signature in place of the task's own.
        say: gets a line per step, in the first process.
    Returns:
        a `TrainResult`; log.csv, config.json and checkpoints are in `run_dir`. Its model is split
        if `shard` is set: `finished(config)` loads it whole.
    Raises:
        ValueError: bad names or values, or a `run_dir` that another process works in, or that holds
            another configuration, base model or data file, or a damaged checkpoint.
        FloatingPointError, ValueError, RuntimeError: a loss, reward or weight that is not finite, a
            reward function that fails, or a full disk; the message names the step, the method and
            the last good checkpoint.
    """
    device = init_processes(config.device)
    if process_rank() > 0:
        say = silent
    check_agreement("configuration", asdict(config))
    # Before the folder is taken over: what is advised may then still be changed.
    free = free_memory(device, process_count())
    check_memory(config, process_count(), free)
    prompts = check_prompts(config)
    data = data_fingerprint(prompts.task, ["train", config.eval_split])
    # Nobody loads before all have seen what is free.
    check_agreement("task", (prompts.note, data))
    with own_run_dir(Path(config.run_dir)), memory_limit(device, free):
        return run_steps(settle_run_dir(config), prompts, data, reward, device, say)


def run_steps(
    config: TrainConfig,
    prompts: Prompts,
    data: str,
    reward: Callable[..., list[float]] | None,
    device: torch.device,
    say: Callable[[str], None],
) -> TrainResult:
    """The steps of a run from its last checkpoint on, each logged; see `train`."""
    run_dir = Path(config.run_dir)
    is_first = process_rank() == 0
    run = prepare(config, prompts.task, reward, device)
    identity = run_identity(config, run.lm, data)
    if config.lora_targets:
        say(describe_parameters(run.lm))
    if isinstance(run.task, Benchmark):
        say(prompts.note)
    rows: list[dict] = []
    start = 0
    saved = complete_checkpoints(run_dir)
    check_agreement("newest checkpoint", saved[-1:])
    if saved:
        done, rows = load_checkpoint(
            saved[-1], run.lm, run.optimizer, run.schedule, identity, run.memory
        )
        start = done + 1
        say(f"resuming {run_dir} after step {done}")
    claim_run_dir(config)  # only now: what could not start leaves the folder to others
    board = None
    if config.tensorboard and is_first:
        board = open_tensorboard(run_dir)
    for step in range(start, config.steps + 1):  # step 0 is the base model, before any update
        if step > 0 and is_over(config, rows):
            break
        with named_errors(config, step):
            row = log_row(run, step, rows)
            rows.append(row)
            if is_first:
                write_log(run_dir / "log.csv", rows)
        say(describe(row))
        if board:
            for name, value in row.items():
                board.add_scalar(name, value, step)
        if step > 0 and (step % config.checkpoint_every == 0 or is_over(config, rows)):
            with named_errors(config, step):
                save(run, step, rows, identity)
    if board:
        board.close()
    return TrainResult(rows, run.lm, run_dir)


def save(run: Run, step: int, rows: list[dict], identity: dict) -> None:
    """Write a checkpoint of what all processes agree on."""
    if not is_sharded(run.lm):  # of split weights there is one copy
        check_agreement("state of the weights", fingerprint(run.lm))
    save_checkpoint(
        Path(run.config.run_dir),
        step,
        run.lm,
        run.optimizer,
        run.schedule,
        rows=rows,
        identity=identity,
        memory=run.memory,
    )


def silent(line: str) -> None:
    """What the processes after the first say."""


def is_over(config: TrainConfig, rows: list[dict]) -> bool:
    """Are the steps or the forward passes spent?"""
    if rows[-1]["step"] >= config.steps:
        return True
    for name in ("forwards", "computed"):
        spent = 0
        for row in rows:
            spent += row.get(f"{name}_rollout", 0) + row.get(f"{name}_update", 0)
        if 0 < getattr(config, name) <= spent:
            return True
    return False


def log_row(run: Run, step: int, rows: list[dict]) -> dict:
    """The log row of one step, evaluation included if it is due."""
    row: dict = {"step": step}
    if step > 0:
        row |= one_step(run, step)
    due = run.config.eval_every and step % run.config.eval_every == 0
    if step == 0 or due or is_over(run.config, [*rows, row]):
        row |= evaluate_validation(run)
    return row


@contextlib.contextmanager
def named_errors(config: TrainConfig, step: int) -> Iterator[None]:
    """Errors of a step name it and the last good checkpoint."""
    try:
        yield
    except (FloatingPointError, ValueError, RuntimeError) as error:
        kinds = (FloatingPointError, ValueError, RuntimeError)
        kind = next(kind for kind in kinds if isinstance(error, kind))
        good = complete_checkpoints(Path(config.run_dir))
        last = good[-1] if good else "none yet, the run starts from the base model"
        raise kind(
            f"step {step} of {config.method} on {config.task}: "
            f"{error}\nlast good checkpoint: {last}"
        ) from error


def one_step(run: Run, step: int) -> dict[str, float]:
    """Rollouts, rewards, advantages and inner updates; returns the row of the log."""
    with memory_advice(run.config, "rollouts", process_count()):
        batch = collect_step(run, step)
    with memory_advice(run.config, "update", process_count()):
        return batch.log | update_policy(run, batch, step)


def evaluate_validation(run: Run) -> dict[str, float]:
    """Greedy accuracy on held-out problems, with its 95 % interval."""
    config = run.config
    decoding = run.numbers.test_decoding(run.task.length)
    with whole_weights(run.lm), memory_advice(config, "evaluation", process_count()):
        report = evaluate(
            run.lm,
            run.task,
            decoding,
            config.eval_problems,
            split=config.eval_split,
            batch=rows_per_call(config, "evaluation", process_count()),
            skip_long=config.max_prompt > 0,
        )
    return {
        "eval_accuracy": report.accuracy,
        "eval_low": report.low,
        "eval_high": report.high,
        "eval_forwards": report.mean_forwards,
        "seconds_eval": report.seconds,
    }


def describe(row: dict) -> str:
    """One line for a person."""
    parts = [f"step {row['step']:3d}"]
    if "reward" in row:
        seconds = row["seconds_rollout"] + row["seconds_reward"] + row["seconds_update"]
        parts.append(f"reward {row['reward']:.3f}  dead groups {row['dead_groups']:.2f}")
        parts.append(f"clipped {row['clip_fraction']:.3f}  grad {row['grad_norm']:.2f}")
        parts.append(f"{seconds:.1f} s")
    if "eval_accuracy" in row:
        parts.append(
            f"held-out {100 * row['eval_accuracy']:.1f} % "
            f"[{100 * row['eval_low']:.1f}, {100 * row['eval_high']:.1f}]"
        )
    return "  ".join(parts)


def open_tensorboard(run_dir: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "tensorboard=True needs the extra: pip install -e .[tensorboard]"
        ) from error
    return SummaryWriter(run_dir / "tensorboard")


def main() -> None:
    """The command line."""
    try:
        files, words = split_arguments(sys.argv[1:], most=1)
        if "--help" in words:
            print(f"{__doc__}\n{describe_options(Parameters)}")
            return
        if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":  # set by accelerate launch
            words.append("shard=true")
        path = files[0] if files else None
        config, start = read_config(path, read_words(Parameters, words))
        if start["dry_run"]:
            print(plan(config, start["processes"]))
        elif start["processes"] > 1 and "WORLD_SIZE" not in os.environ:
            launch(config, start["processes"])
        else:
            train(config)
            exit_processes()
    except (ValueError, RuntimeError, FloatingPointError, OSError) as error:
        rank = os.environ.get("RANK")
        sys.exit(str(error) if rank is None else f"{ERROR}{rank}: {error}")


if __name__ == "__main__":
    main()
