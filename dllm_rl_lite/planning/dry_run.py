"""The dry run: what a run would train, need and take, scaled up from one small step of its own.

The step is that of training, on the real model with its real lengths and groups, but of a few
prompts. Nothing is written, and the weights that it changes are thrown away.
`python -m dllm_rl_lite.train CONFIG.yaml --dry-run` prints it.
"""

from __future__ import annotations

import gc
import math
import resource
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from ..methods import METHODS
from ..models import MaskedDiffusionLM
from ..processes import Team
from ..training import Run, TrainConfig, collect_step, prepare, update_policy
from ..training.config import preset
from .memory import (
    KnownMemory,
    check_memory,
    free_memory,
    gib,
    known_memory,
    memory_advice,
    memory_limit,
    rows_per_call,
    what_to_lower,
)
from .prompts import Prompts, check_prompts

PROMPTS = 2  # of the small step
# Without a KL penalty an update skips rows of no advantage: the low end counts this share of them.
LIVELY = 0.5
# Checkpoints and the waiting of processes for each other are not measured: the high end adds this.
UNMEASURED = 1.25
CLEAR = Path("/proc/self/clear_refs")  # Linux: writing 5 resets the peak of the resident memory


@dataclass(frozen=True)
class Measured:
    """What one phase of the small step took."""

    passes: int  # forward passes of one row
    tokens: int  # that passed through the model
    seconds: float
    peak: int  # bytes of the process, on a GPU those that it allocated there


@dataclass(frozen=True)
class SmallStep:
    """One step of a run that has fewer prompts and is otherwise the same."""

    config: TrainConfig
    held: int  # bytes before the first step: weights and reference
    rollouts: Measured  # rewards included
    update: Measured


@dataclass(frozen=True)
class Plan:
    """What a run would train, need and take. `str` is human-readable."""

    config: TrainConfig
    processes: int
    device: str
    prompts: Prompts
    known: KnownMemory
    free: int  # bytes per process, before the model is loaded
    step: SmallStep | None = None  # None: not measured
    obstacle: str = ""  # why it does not fit, or was not measured

    @property
    def scale(self) -> float:
        """How many small steps make one step of the run."""
        return self.config.resolved().prompts / self.step.config.resolved().prompts

    @property
    def steps(self) -> int:
        """All of the run, or as many as its budget of forward passes allows."""
        if not self.config.forwards:
            return self.config.steps
        passes = self.scale * (self.step.rollouts.passes + self.step.update.passes)
        return min(self.config.steps, math.ceil(self.config.forwards / passes))

    @property
    def evaluations(self) -> int:
        """Before the first step, every `eval_every` steps, and after the last."""
        every = self.config.eval_every or self.steps
        return 1 + math.ceil(self.steps / every)

    @property
    def evaluated(self) -> float:
        """Small steps whose rollouts cost what all evaluations do, if a text costs the same."""
        split = self.config.eval_split
        texts = self.config.eval_problems or len(self.prompts.task.sample(0, split))
        numbers = self.step.config.resolved()
        return self.evaluations * texts / (numbers.prompts * numbers.group)

    @property
    def passes(self) -> float:
        """Forward passes of one row in the whole run."""
        rollouts, update = self.step.rollouts.passes, self.step.update.passes
        return self.steps * self.scale * (rollouts + update) + self.evaluated * rollouts

    @property
    def tokens(self) -> float:
        """Tokens that pass through the model in the whole run."""
        rollouts, update = self.step.rollouts.tokens, self.step.update.tokens
        return self.steps * self.scale * (rollouts + update) + self.evaluated * rollouts

    @property
    def seconds(self) -> tuple[float, float]:
        """From .. to, of the whole run."""
        rollouts, update = self.step.rollouts.seconds, self.step.update.seconds
        texts = (self.steps * self.scale + self.evaluated) * rollouts
        updates = self.steps * self.scale * update
        live = LIVELY if self.config.resolved().kl == 0 else 1.0
        low = (texts + live * updates) / self.processes
        high = UNMEASURED * (texts + updates) / self.processes
        return low, high

    def memory(self, phase: str) -> int:
        """Bytes of one process in "rollouts" or "update": what is known, and what a row added in
        the small step, times the rows that the run has in memory at once."""
        fixed = self.known.optimizer
        if phase == "update":
            fixed += self.known.gradients
        measured = getattr(self.step, phase)
        added = max(measured.peak - self.step.held - fixed, 0)
        per_row = added / rows_per_call(self.step.config, phase)
        rows = rows_per_call(self.config, phase, self.processes)
        return round(self.known.weights + self.known.reference + fixed + rows * per_row)

    def __str__(self) -> str:
        lines = []
        for label, text in describe(self):
            head = f"{label:<12}"
            lines.append(textwrap.fill(text, 100, initial_indent=head, subsequent_indent=" " * 12))
        return "\n".join(lines)


def plan(
    config: TrainConfig,
    processes: int = 1,
    reward: Callable[..., list[float]] | None = None,
    say: Callable[[str], None] = print,
) -> Plan:
    """What a run would train, need and take; nothing is trained, and nothing written to its folder.

    Args:
        config: the run.
        processes: that would share it.
        reward: a reward function of TRL's signature in place of the task's own.
        say: gets a line before the model is loaded.
    Raises:
        ValueError: if the model or its data cannot be read, or prompts do not fit.
    """
    device = torch.device("cpu")
    if config.device == "auto":
        device = torch.accelerator.current_accelerator(check_available=True) or device
    result = Plan(
        config=config,
        processes=processes,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        prompts=check_prompts(config),
        known=known_memory(config, processes),
        free=free_memory(device, processes),
    )
    try:
        check_memory(config, processes, result.free)
    except ValueError as error:
        return replace(result, obstacle=str(error))
    if config.shard:
        return replace(result, obstacle="one process cannot measure weights that are split")
    say(f"loading {config.model} for two small steps ...")
    try:
        with memory_limit(device, result.free):
            step = take_small_step(config, result.prompts, reward, device)
    except RuntimeError as error:
        return replace(result, obstacle=str(error))
    finally:
        gc.collect()  # optimiser and schedule refer to each other
        torch.cuda.empty_cache()
    result = replace(result, step=step)
    for phase in ("rollouts", "update"):
        if result.memory(phase) > result.free:
            advice = what_to_lower(config, phase, processes)
            return replace(result, obstacle=f"too much in the {phase}: {advice}")
    return result


def take_small_step(
    config: TrainConfig,
    prompts: Prompts,
    reward: Callable[..., list[float]] | None,
    device: torch.device,
) -> SmallStep:
    """Load the model, take two steps of a few prompts, and measure the second.

    The first warms up: kernels are chosen, and the optimiser makes its moments.

    Raises:
        RuntimeError: if memory runs out; it says what to lower. And as training does.
    """
    fewer = min(PROMPTS, config.resolved().prompts)
    small = replace(config, numbers=config.numbers | {"prompts": fewer})
    with memory_advice(small, "loading"):
        run = prepare(small, prompts.task, reward, Team(device=device))
    held = memory_in_use(device)
    for step in (1, 2):
        with memory_advice(small, "rollouts"):
            rollouts, batch = measure(run, lambda step=step: collect_step(run, step))
        # Rows of no advantage may be skipped; here each has some, so the passes are the most.
        dead = (batch.advantage == 0).view(len(batch.advantage), -1).all(1)
        batch.advantage[dead] = 1.0
        with memory_advice(small, "update"):
            update, _ = measure(run, lambda step=step, batch=batch: update_policy(run, batch, step))
    return SmallStep(small, held, rollouts, update)


def measure(run: Run, work: Callable[[], Any]) -> tuple[Measured, Any]:
    """Do a part of a step, and count what passes through the run's models in it.

    Returns:
        what it took, and what `work` returned.
    """
    shapes = []
    hooks = []
    for lm in (run.lm, run.reference):
        if isinstance(lm, MaskedDiffusionLM):  # any other reference is the policy itself
            count = lm.backbone.model.register_forward_hook(
                lambda module, arguments, output: shapes.append(arguments[0].shape)
            )
            hooks.append(count)
    device = run.lm.device
    reset_peak(device)
    start = time.perf_counter()
    try:
        result = work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    finally:
        for hook in hooks:
            hook.remove()
    seconds = time.perf_counter() - start
    passes = sum(rows for rows, _ in shapes)
    return Measured(passes, sum(map(math.prod, shapes)), seconds, peak_memory(device)), result


def reset_peak(device: torch.device) -> None:
    """Let the peak start again from what is in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR.exists():
        CLEAR.write_text("5")


def peak_memory(device: torch.device) -> int:
    """Most bytes that were in use since `reset_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_in_use(device: torch.device) -> int:
    """Bytes that this process holds now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return psutil.Process().memory_info().rss


def describe(plan: Plan) -> list[tuple[str, str]]:
    """(label, text) of the lines of a plan."""
    c, known = plan.config, plan.known
    n = c.resolved()
    share = 100 * known.trained / known.parameters
    weight = 4 if c.lora_targets else getattr(torch, c.dtype).itemsize
    length = plan.prompts.task.length
    changed = f", changed: {', '.join(sorted(c.numbers))}" if c.numbers else ""
    lines = [
        ("run", f"{c.method} on {c.task}, {c.steps} steps, on {plan.device}, processes: {plan.processes}"),
        ("method", f"{METHODS[c.method].source}; {preset(c.model, c.preset)} numbers{changed}"),
        (
            "model",
            f"{c.model}, {c.quantize or c.dtype}: trains {known.trained:,} of "
            f"{known.parameters:,} parameters ({share:.2f} %)",
        ),
        ("problems", plan.prompts.note),
        (
            "a step",
            f"{n.prompts} prompts x {n.group} texts of {length} tokens = "
            f"{n.prompts * n.group} rows; optimiser steps: {n.inner_updates}",
        ),
        (
            "checkpoint",
            f"{gib(known.trained * (weight + 8))} each; two are kept, a third while it is written",
        ),
        ("known", f"{known}; free now {gib(plan.free)} per process"),
    ]
    if plan.step:
        lines += describe_step(plan, plan.step)
    return [*lines, ("verdict", plan.obstacle or "it fits")]


def describe_step(plan: Plan, step: SmallStep) -> list[tuple[str, str]]:
    """What was measured, scaled to the run."""
    rows = step.config.resolved().prompts * step.config.resolved().group
    rollouts = plan.scale * step.rollouts.passes
    update = plan.scale * step.update.passes
    needed = []
    for phase in ("rollouts", "update"):
        at_once = rows_per_call(plan.config, phase, plan.processes)
        needed.append(f"{phase} {gib(plan.memory(phase))} with {at_once} rows at once")
    spent = step.rollouts.seconds + step.update.seconds
    apart = "" if plan.processes == 1 else f", and divided by {plan.processes}"
    return [
        (
            "passes",
            f"of one row: about {rollouts:,.0f} per step in rollouts "
            f"({step.rollouts.passes / rows:.1f} per text), at most {update:,.0f} in updates; "
            f"{plan.passes:,.0f} in {plan.steps} steps and {plan.evaluations} evaluations, whose "
            "texts are taken to cost as much as a rollout's",
        ),
        ("tokens", f"{plan.tokens:,.0f} through the model"),
        ("memory", f"per process about: {', '.join(needed)}"),
        (
            "time",
            f"{span(*plan.seconds)}, scaled from a step of {rows} rows in {spent:.2g} s{apart}",
        ),
    ]


def span(low: float, high: float) -> str:
    """A range of seconds in the unit that reads best."""
    unit, size = "seconds", 1
    for name, seconds in (("minutes", 60), ("hours", 3600), ("days", 86400)):
        if high >= 1.5 * seconds:
            unit, size = name, seconds
    return f"{low / size:.2g} to {high / size:.2g} {unit}"
