"""One plain training loop: rollouts, rewards, credit, inner updates, evaluation, log, checkpoint.

It knows no method by name: a `Method` record says what to do. `python -m dllm_rl_lite.train --help`
starts it from a shell.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from .evaluate import evaluate
from .models import trainable_parameters
from .models.adapters import describe_parameters
from .planning import guard_memory, out_of_memory, plan, survey
from .planning.memory import Memory
from .processes import gathered, is_sharded, join, leave
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
from .training.config import claim, parse, parser
from .training.result import ERROR


def train(
    config: TrainConfig,
    reward: Callable[..., list[float]] | None = None,
    say: Callable[[str], None] = print,
) -> TrainResult:
    """Train, or resume, one run; the processes that torchrun or its like has started share it.

    Args:
        reward: a reward function of TRL's signature in place of the task's own. say: gets a line
            per step, in the first process.
    Returns:
        a `TrainResult`; log.csv, config.json and checkpoints are in `run_dir`. Its model is split
        where `shard` is set: `finished(config)` loads it whole.
    Raises:
        ValueError: bad names or values, or a `run_dir` that holds another configuration or a
            damaged checkpoint.
        FloatingPointError, ValueError, RuntimeError: a non-finite loss or reward, or a reward
            function that fails; the message names the step, the method and the last good
            checkpoint.
    """
    team = join(config.device)
    say = say if team.rank == 0 else lambda line: None
    team.agree("configuration", asdict(config))
    found = survey(config, team.size, team.device)
    guard_memory(
        found.memory, found.free
    )  # before the folder is claimed: what is advised may then be changed
    team.agree("task", found.prompts.note)  # and nobody loads before all have seen what is free
    config = claim(config, team)
    run_dir = Path(config.run_dir)
    run = prepare(config, found.prompts.task, reward, team)
    if config.lora_targets:
        say(describe_parameters(run.lm))
    if isinstance(run.task, Benchmark):
        say(found.prompts.note)
    rows, start, saved = [], 0, complete_checkpoints(run_dir)
    team.agree("newest checkpoint", saved[-1:])
    if saved:
        done, rows = load_checkpoint(saved[-1], run.lm, run.optimizer, run.schedule)
        start = done + 1
        say(f"resuming {run_dir} after step {done}")
    board = _tensorboard(run_dir) if config.tensorboard and team.rank == 0 else None
    for step in range(start, config.steps + 1):  # step 0 is the base model, before any update
        if step > 0 and is_over(config, rows):
            break
        rows.append(guarded_step(run, step, rows, found.memory))
        if team.rank == 0:
            write_log(run_dir / "log.csv", rows)
        say(describe(rows[-1]))
        for name, value in rows[-1].items() if board else ():
            board.add_scalar(name, value, step)
        if step > 0 and (step % config.checkpoint_every == 0 or is_over(config, rows)):
            team.agree("state of the weights", checksum(run.lm))
            save_checkpoint(run_dir, step, run.lm, run.optimizer, run.schedule, rows, team)
    if board:
        board.close()
    return TrainResult(rows, run.lm, run_dir)


def is_over(config: TrainConfig, rows: list[dict]) -> bool:
    """Are the steps or the forward passes spent?"""
    spent = sum(r.get("forwards_rollout", 0) + r.get("forwards_update", 0) for r in rows)
    return rows[-1]["step"] >= config.steps or 0 < config.forwards <= spent


def guarded_step(run: Run, step: int, rows: list[dict], memory: Memory) -> dict:
    """The log row of one step, evaluation included where it is due; errors name the step and the
    last good checkpoint."""
    row, c = {"step": step}, run.config
    try:
        if step > 0:
            row |= one_step(run, step)
        if step == 0 or is_over(c, [*rows, row]) or (c.eval_every and step % c.eval_every == 0):
            row |= evaluate_validation(run)
    except (FloatingPointError, ValueError, RuntimeError, MemoryError) as error:
        good = complete_checkpoints(Path(c.run_dir))
        kind = next(
            (k for k in (FloatingPointError, ValueError) if isinstance(error, k)), RuntimeError
        )
        said = out_of_memory(error, memory) or error
        raise kind(
            f"step {step} of {c.method} on {c.task}: {said}\nlast good checkpoint: "
            f"{good[-1] if good else 'none yet, the run starts from the base model'}"
        ) from error
    return row


def one_step(run: Run, step: int) -> dict[str, float]:
    """Rollouts, rewards, advantages and inner updates; returns the row of the log."""
    batch = collect_step(run, step)
    return batch.log | update_policy(run, batch, step)


def evaluate_validation(run: Run) -> dict[str, float]:
    """Greedy accuracy on held-out problems, with its 95 % interval."""
    c, n = run.config, run.numbers
    batch = min(c.rollout_batch or 128, 128, -(-c.eval_problems // run.team.size) or 128)
    with gathered(run.lm):
        report = evaluate(
            run.lm,
            run.task,
            n.test_rule(run.task.length),
            c.eval_problems,
            split=c.eval_split,
            block_length=n.block_length or None,
            eos=n.eos,
            batch=batch,
            team=run.team,
        )
    return {
        "eval_accuracy": report.accuracy,
        "eval_low": report.low,
        "eval_high": report.high,
        "eval_forwards": report.mean_forwards,
        "seconds_eval": report.seconds,
    }


def checksum(lm) -> float:
    """A number that tells two states of the trained weights apart; of split weights, none: there is
    one copy."""
    return (
        0.0
        if is_sharded(lm)
        else sum(float(p.detach().double().sum()) for p in trainable_parameters(lm))
    )


def describe(row: dict) -> str:
    """One line for a person."""
    parts = [f"step {row['step']:3d}"]
    if "reward" in row:
        seconds = row["seconds_rollout"] + row["seconds_reward"] + row["seconds_update"]
        parts.append(
            f"reward {row['reward']:.3f}  dead groups {row['dead_groups']:.2f}  clipped {row['clip_fraction']:.3f}"
            f"  grad {row['grad_norm']:.2f}  {seconds:.1f} s"
        )
    if "eval_accuracy" in row:
        parts.append(
            f"held-out {100 * row['eval_accuracy']:.1f} % "
            f"[{100 * row['eval_low']:.1f}, {100 * row['eval_high']:.1f}]"
        )
    return "  ".join(parts)


def _tensorboard(run_dir: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "tensorboard=True needs the extra: pip install -e .[tensorboard]"
        ) from error
    return SummaryWriter(run_dir / "tensorboard")


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    given = parse(options)
    try:
        split = (
            {"shard": True} if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" else {}
        )  # accelerate's word
        config, start = read_config(given.pop("config"), given | split)
        if start["dry_run"]:
            print(plan(config, start["processes"]))
        elif start["processes"] > 1 and "WORLD_SIZE" not in os.environ:
            launch(config, start["processes"])
        else:
            train(config)
            leave()
    except (ValueError, RuntimeError, FloatingPointError) as error:
        options.exit(
            1, f"{ERROR + os.environ['RANK'] + ': ' if 'RANK' in os.environ else ''}{error}\n"
        )


if __name__ == "__main__":
    main()
