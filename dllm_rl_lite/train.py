"""One plain training loop: rollouts, rewards, credit, inner updates, evaluation, log, checkpoint.

It knows no method by name: a `Method` record says what to do. `python -m dllm_rl_lite.train --help`
starts it from a shell.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from .evaluate import evaluate
from .methods import METHODS, Method, Numbers
from .models import (
    MaskedDiffusionLM,
    ReferencePolicy,
    add_adapters,
    load_lm,
    reference_policy,
    trainable_parameters,
)
from .models.adapters import base_fingerprint, checkpoint_gradients, describe_parameters, learning
from .planning import Survey, guard_memory, out_of_memory, plan, survey
from .planning.memory import Memory
from .processes import ALONE, Team, gathered, is_sharded, join, leave, shard, whole
from .sampler import Rollout
from .seeds import derived_seed, generator
from .tasks import Benchmark, Task
from .training import (
    TrainConfig,
    TrainResult,
    accumulate_gradients,
    collect,
    complete_checkpoints,
    launch,
    mask_seeds,
    read_config,
    score_views,
)
from .training.checkpoint import load_checkpoint, save_checkpoint, write_log
from .training.config import check_canvas, claim, parse, parser
from .training.result import ERROR


@dataclass(frozen=True)
class Run:
    """What the steps of one run share."""

    config: TrainConfig
    method: Method
    numbers: Numbers
    task: Task
    reward: Callable[..., list[float]]
    lm: MaskedDiffusionLM
    reference: (
        MaskedDiffusionLM | ReferencePolicy | None
    )  # the starting model, where a KL penalty needs it
    team: Team  # the processes that share it
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    memory: Memory  # what it was estimated to need


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
    run_dir, run = Path(config.run_dir), prepare(config, reward, team, found)
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
        rows.append(guarded_step(run, step, rows))
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


def guarded_step(run: Run, step: int, rows: list[dict]) -> dict:
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
        said = out_of_memory(error, run.memory) or error
        raise kind(
            f"step {step} of {c.method} on {c.task}: {said}\nlast good checkpoint: "
            f"{good[-1] if good else 'none yet, the run starts from the base model'}"
        ) from error
    return row


def prepare(
    config: TrainConfig,
    reward: Callable[..., list[float]] | None,
    team: Team = ALONE,
    found: Survey | None = None,
) -> Run:
    """Model, optimiser and schedule on the process's device."""
    found = found or survey(config, team.size, team.device)
    c, method, numbers = config, METHODS[config.method], config.resolved()
    if (
        c.quantize and team.device.type == "cpu"
    ):  # there its backward pass gives no gradient after a rollout
        raise ValueError(
            f"quantize={c.quantize!r} trains on a GPU only: set device='auto' where there is one"
        )
    if c.shard and team.size == 1:
        raise ValueError(
            "shard splits a model over several processes, and this is one: set processes, or shard to false"
        )
    task, dtype = found.prompts.task, getattr(torch, c.dtype)
    check_canvas(numbers, task.length)
    lm = load_lm(
        c.model, team.device, torch.float32 if c.shard else dtype, quantize=c.quantize or None
    )
    if c.lora_targets:
        add_adapters(
            lm,
            c.lora_targets,
            c.lora_r,
            c.lora_alpha,
            c.lora_dropout,
            derived_seed(c.seed, 0, "adapters"),
        )
    if c.gradient_checkpointing:
        checkpoint_gradients(lm)
    team.agree("model", base_fingerprint(lm))
    reference = reference_policy(lm) if numbers.kl > 0 else None
    if c.shard:
        for model in (lm, reference):
            shard(model, team, dtype) if model is not None else None
    optimizer = torch.optim.AdamW(
        trainable_parameters(lm), numbers.lr, (0.9, 0.99), weight_decay=numbers.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min(1.0, (n + 1) / max(numbers.warmup, 1))
    )
    return Run(
        config,
        method,
        numbers,
        task,
        reward or task.reward,
        lm,
        reference,
        team,
        optimizer,
        schedule,
        found.memory,
    )


def one_step(run: Run, step: int) -> dict[str, float]:
    """Rollouts, rewards, credit and inner updates; returns the row of the log."""
    c, n = run.config, run.numbers
    problems = run.task.sample(n.prompts, "train", derived_seed(c.seed, step, "problems"))
    with gathered(run.lm):
        batch = collect(
            run.lm,
            run.task,
            run.reward,
            run.method,
            n,
            problems,
            rollout_noise(run, step),
            run.team,
            c.cache,
        )
    start = time.perf_counter()
    stats = update(run, batch.rollout, batch.advantage, step)
    return (
        batch.log
        | stats
        | {"lr": run.optimizer.param_groups[0]["lr"], "seconds_update": time.perf_counter() - start}
    )


def rollout_noise(run: Run, step: int) -> list[torch.Generator]:
    """One generator for each rollout call of a step, on the model's device: the noise of a big
    vocabulary is drawn there."""
    rows, batch = run.numbers.prompts * run.numbers.group, run.config.rollout_batch
    parts = -(-rows // batch) if batch else run.team.size
    names = ["rollout"] if parts == 1 else [f"rollout {i} of {parts}" for i in range(parts)]
    return [generator(run.config.seed, step, name, run.lm.device) for name in names]


def update(run: Run, rollout: Rollout, advantage: Tensor, step: int) -> dict[str, float]:
    """The inner updates of one step; old and reference scores of all of them are taken before the
    first.

    Returns the log columns, averaged over the inner updates, and `forwards_update`, the forward
    passes (of one row) spent.
    """
    c, n, team = run.config, run.numbers, run.team
    seeds = [
        [generator(run.config.seed, step, f"views {i}") for i in chunks]
        for chunks in mask_seeds(n.inner_updates, n.published_quirks)
    ]
    with gathered(run.lm, run.reference):
        batches = [
            score_views(
                run.lm,
                run.reference,
                run.method,
                n,
                rollout,
                advantage,
                s,
                i == 0,
                team,
                c.micro_batch,
            )
            for i, s in enumerate(seeds)
        ]
    logs, spent = [], sum(team.gather([b.forwards for b in batches]))
    for i, batch in enumerate(batches):
        losses: list[None] = []  # one for every backward pass of this process

        def backward(loss: Tensor, losses=losses) -> None:
            losses.append(loss.backward())

        dropped = (
            f"dropout {i}" if team.rank == 0 else f"dropout {i} of process {team.rank}"
        )  # other rows, other units
        with gathered(run.lm), learning(run.lm, derived_seed(c.seed, step, dropped)):
            stats = accumulate_gradients(
                run.lm, run.method, n, batch, backward, c.micro_batch, team
            )
            team.add_gradients(run.lm, bool(losses))
        spent += stats.pop("forwards")
        norm = torch.nn.utils.clip_grad_norm_(trainable_parameters(run.lm), n.grad_clip)
        stats["grad_norm"] = float(whole(norm))
        if not math.isfinite(stats["grad_norm"]):
            raise FloatingPointError("the gradient is not finite: lower lr or grad_clip")
        run.optimizer.step()
        run.schedule.step()
        run.optimizer.zero_grad()
        logs.append(stats)
    means = {k: [log[k] for log in logs if k in log] for log in logs for k in log}
    return {k: sum(v) / len(v) for k, v in means.items()} | {"forwards_update": spent}


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
