"""One step of a run: its model and optimiser, the rollouts, and the inner updates that learn from
them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..methods import METHODS, Method, Numbers
from ..models import (
    MaskedDiffusionLM,
    ReferencePolicy,
    add_adapters,
    add_passes,
    fingerprint,
    load_lm,
    reference_policy,
    trainable_parameters,
)
from ..models.adapters import checkpoint_gradients, training_mode
from ..processes import (
    add_gradients,
    check_agreement,
    full_tensor,
    gather,
    process_count,
    process_rank,
    shard,
    whole_weights,
)
from ..seeds import derived_seed, generator
from ..tasks import Task
from .calls import RolloutCall, Source, final_rewards, join_calls, rows_of
from .config import TrainConfig, check_canvas
from .experience import Batch, roll_out_problems, to_batch
from .problems import Progress, choose_groups, next_problems
from .scoring import UpdateBatch, mask_seeds, score_views
from .update import accumulate_gradients


@dataclass(frozen=True)
class Run:
    """What the steps of one run share."""

    config: TrainConfig
    method: Method
    numbers: Numbers
    task: Task
    reward: Callable[..., list[float]]
    lm: MaskedDiffusionLM
    # the starting model, where the loss looks at it
    reference: MaskedDiffusionLM | ReferencePolicy | None
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    # What the method remembers of the steps done, as plain json; `collect_step` changes it.
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        """What its rollouts come from."""
        return Source(self.lm, self.task, self.reward, self.method, self.numbers, self.config.cache)


def prepare(
    config: TrainConfig,
    task: Task,
    reward: Callable[..., list[float]] | None = None,
    device: torch.device | None = None,
) -> Run:
    """Load the model on the process's device, and make its optimiser and schedule.

    Args:
        config: the run.
        task: what it trains on: the configuration's own, without problems that are left out.
        reward: a reward function of TRL's signature in place of the task's own.
        device: of this process; None: the CPU.
    Raises:
        ValueError: as `check_possible` and `load_lm` do.
    """
    device = device or torch.device("cpu")
    numbers = config.resolved()
    check_possible(config, numbers, task.length, device)
    lm = load_policy(config, device)
    check_agreement("model", fingerprint(lm))
    method = METHODS[config.method]
    reference = reference_policy(lm) if method.objective.uses_reference(numbers.kl) else None
    if config.shard:
        dtype = getattr(torch, config.dtype)
        shard(lm, device, dtype)
        if reference is not None:
            shard(reference, device, dtype)
    optimizer = torch.optim.AdamW(
        trainable_parameters(lm),
        lr=numbers.lr,
        betas=(numbers.adam_beta1, numbers.adam_beta2),
        weight_decay=numbers.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min(1.0, (n + 1) / max(numbers.warmup, 1))
    )
    return Run(
        config=config,
        method=method,
        numbers=numbers,
        task=task,
        reward=reward or task.reward,
        lm=lm,
        reference=reference,
        optimizer=optimizer,
        schedule=schedule,
    )


def check_possible(
    config: TrainConfig, numbers: Numbers, length: int, device: torch.device
) -> None:
    """Raise ValueError for a run that this device or this number of processes cannot train, or
    whose decoding does not fit a canvas of `length` tokens."""
    # On a CPU the backward pass of 4-bit weights gives no gradient after a rollout.
    if config.quantize and device.type == "cpu":
        raise ValueError(
            f"quantize={config.quantize!r} trains on a GPU only: "
            "set device='auto' where there is one"
        )
    if config.shard and process_count() == 1:
        raise ValueError(
            "shard splits a model over several processes, and this is one: "
            "set processes, or shard to false"
        )
    check_canvas(numbers, length)
    numbers.decoding(length, config.cache)  # what cannot be decoded is named here
    numbers.test_decoding(length)


def load_policy(config: TrainConfig, device: torch.device) -> MaskedDiffusionLM:
    """The model that a run trains, adapters and gradient checkpointing on, not yet split."""
    # Weights that are split are trained in float32; their passes run in the configured precision.
    dtype = torch.float32 if config.shard else getattr(torch, config.dtype)
    lm = load_lm(config.model, device, dtype, quantize=config.quantize or None)
    if config.lora_targets:
        add_adapters(
            lm,
            config.lora_targets,
            r=config.lora_r,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
            seed=derived_seed(config.seed, 0, "adapters"),
        )
    if config.gradient_checkpointing:
        checkpoint_gradients(lm)
    return lm


def collect_step(run: Run, step: int) -> Batch:
    """The rollouts, rewards and advantages of one step's problems, which the run then remembers.

    Where the method leaves groups out, problems are drawn until `prompts` groups are kept, at most
    `rounds` times.
    """
    seed = derived_seed(run.config.seed, step, "problems")
    progress = Progress(step, seed, dict(run.memory))
    numbers = run.numbers
    with whole_weights(run.lm):
        drawn = draw_round(run, progress, 0)
        for number in range(1, numbers.rounds):
            if len(choose_groups(run.source, drawn, progress)) >= numbers.prompts:
                break
            drawn = join_calls([drawn, draw_round(run, progress, number)])
        batch = to_batch(run.source, drawn, progress)
    run.memory.clear()
    run.memory.update(batch.memory)
    return batch


def draw_round(run: Run, progress: Progress, number: int) -> RolloutCall:
    """The rollouts of one round of a step; round 0 is the first."""
    suffix = f" of round {number}" if number > 0 else ""
    if number > 0:
        seed = derived_seed(run.config.seed, progress.step, f"problems {number}")
        progress = replace(progress, seed=seed)
    if run.method.allocate:
        return draw_halves(run, progress, suffix)
    problems = next_problems(run.source, progress)
    noise = rollout_noise(run, progress.step, f"rollout{suffix}")
    return roll_out_problems(run.source, problems, noise, progress)


def draw_halves(run: Run, progress: Progress, suffix: str) -> RolloutCall:
    """Half of a group for twice as many problems, and the other half for those that the method
    chooses; the other problems are dropped, their passes count."""
    numbers = run.numbers
    half = replace(numbers, group=numbers.group // 2)
    twice = replace(half, prompts=2 * numbers.prompts)
    problems = next_problems(replace(run.source, numbers=twice), progress)
    noise = rollout_noise(run, progress.step, f"rollout{suffix}")
    source = replace(run.source, numbers=half)
    first = roll_out_problems(source, problems, noise, progress)
    rewards = final_rewards(first.by_group(half.group))
    known = {"rewards": rewards, "prompts": numbers.prompts, **vars(progress)}
    chosen = run.method.allocate(**known).nonzero().flatten()
    first = first.select(rows_of(chosen, half.group))
    problems = first.examples[:: half.group]
    noise = rollout_noise(run, progress.step, f"second half of rollout{suffix}")
    second = roll_out_problems(source, problems, noise, progress)
    drawn = join_calls([first, second])
    halves = torch.arange(len(drawn.rewards)).view(2, -1, half.group)
    return drawn.select(halves.transpose(0, 1).flatten())


def rollout_noise(run: Run, step: int, purpose: str) -> list[torch.Generator]:
    """One generator for each rollout call of a batch, on the model's device: the noise of a big
    vocabulary is drawn there."""
    rows = run.numbers.prompts * run.numbers.group
    batch = run.config.rollout_batch
    parts = math.ceil(rows / batch) if batch else process_count()
    names = [purpose] if parts == 1 else [f"{purpose} {i} of {parts}" for i in range(parts)]
    return [generator(run.config.seed, step, name, run.lm.device) for name in names]


def update_policy(run: Run, batch: Batch, step: int) -> dict[str, float]:
    """The inner updates of one step; old and reference scores of all of them are taken before the
    first.

    Returns the log columns, averaged over the inner updates, and `forwards_update` and
    `computed_update`, the forward passes (of one row) asked for and computed, `lr` and
    `seconds_update`.
    """
    start = time.perf_counter()
    scored = score_updates(run, batch, step)
    logs = []
    scoring = add_passes(gather([one.passes for one in scored]))
    forwards = scoring.asked
    computed = scoring.computed
    for i, one in enumerate(scored):
        stats = inner_update(run, one, step, i)
        forwards += stats.pop("forwards")
        computed += stats.pop("computed")
        logs.append(stats)
    columns = {name: [log[name] for log in logs if name in log] for log in logs for name in log}
    means = {name: sum(values) / len(values) for name, values in columns.items()}
    return means | {
        "forwards_update": forwards,
        "computed_update": computed,
        "lr": run.optimizer.param_groups[0]["lr"],
        "seconds_update": time.perf_counter() - start,
    }


def score_updates(run: Run, batch: Batch, step: int) -> list[UpdateBatch]:
    """The views of every inner update, with their old and reference scores."""
    numbers = run.numbers
    scored = []
    with whole_weights(run.lm, run.reference):
        for i, chunks in enumerate(mask_seeds(numbers.inner_updates, numbers.published_quirks)):
            seeds = [generator(run.config.seed, step, f"views {chunk}") for chunk in chunks]
            scored.append(
                score_views(
                    run.lm,
                    run.reference,
                    run.method,
                    numbers,
                    batch.rollout,
                    batch.advantage,
                    seeds,
                    i == 0,
                    run.config.micro_batch,
                )
            )
    return scored


def inner_update(run: Run, scored: UpdateBatch, step: int, i: int) -> dict[str, float]:
    """One step of the optimiser, the i-th on these rollouts; returns its log columns."""
    losses: list[None] = []  # one for every backward pass of this process

    def backward(loss: Tensor) -> None:
        losses.append(loss.backward())

    purpose = f"dropout {i}"
    if process_rank() > 0:
        purpose += f" of process {process_rank()}"  # other rows, other units
    with whole_weights(run.lm), training_mode(run.lm, derived_seed(run.config.seed, step, purpose)):
        stats = accumulate_gradients(
            run.lm, run.method, run.numbers, scored, backward, run.config.micro_batch
        )
        add_gradients(run.lm, bool(losses))
    norm = torch.nn.utils.clip_grad_norm_(trainable_parameters(run.lm), run.numbers.grad_clip)
    stats["grad_norm"] = float(full_tensor(norm))
    if not math.isfinite(stats["grad_norm"]):
        raise FloatingPointError("the gradient is not finite: lower lr or grad_clip")
    run.optimizer.step()
    run.schedule.step()
    run.optimizer.zero_grad()
    return stats
