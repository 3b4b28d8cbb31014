"""The dry run: what a run would train, need and take, scaled up from one small step of its own.

The step is that of training, on the real model with its real lengths and groups, but of a few
prompts. Nothing is written, and the weights that it changes are thrown away.
`python -m dllm_rl_lite.train CONFIG.yaml dry_run=true` prints it.
"""

from __future__ import annotations

import gc
import math
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from ..models import MaskedDiffusionLM, count_passes
from ..sampler import Rollout
from ..training import Run, TrainConfig, collect_step, prepare, update_policy
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

PROMPTS = 4  # of the small step, at most
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
    memory: int  # bytes, the peak beyond what was in use before


@dataclass(frozen=True)
class Plan:
    """What a run would train, need and take. `str` is human-readable."""

    config: TrainConfig
    processes: int
    device: str
    prompts: Prompts
    known: KnownMemory
    free: int  # bytes per process, before the model is loaded
    small: TrainConfig | None = None  # the run of the small step; None: not measured
    rollouts: Measured | None = None  # rewards included
    update: Measured | None = None

    @property
    def scale(self) -> float:
        """How many small steps make one step of the run."""
        return self.config.resolved().prompts / self.small.resolved().prompts

    @property
    def steps(self) -> int:
        """All of the run, or as many as its budget of forward passes allows."""
        if not self.config.forwards:
            return self.config.steps
        passes = self.scale * (self.rounds * self.rollouts.passes + self.update.passes)
        return min(self.config.steps, math.ceil(self.config.forwards / passes))

    @property
    def rounds(self) -> int:
        """How often a step draws problems, at most."""
        return self.config.resolved().rounds

    @property
    def evaluations(self) -> int:
        """One before the first step, one every `eval_every` steps, one after the last."""
        return 1 + math.ceil(self.steps / (self.config.eval_every or self.steps))

    def total(self, name: str, least: bool = False) -> float:
        """One measured column, summed over the whole run. A text of an evaluation is taken to cost
        what one of the rollouts does; `least`: problems are never drawn again, and rows of no
        advantage are skipped."""
        rollouts = getattr(self.rollouts, name)
        numbers = self.small.resolved()
        texts = self.config.eval_problems
        if not texts:
            texts = len(self.prompts.task.sample(0, self.config.eval_split))
        evaluation = texts / (numbers.prompts * numbers.group) * rollouts
        live = LIVELY if least and numbers.kl == 0 else 1.0
        rounds = 1 if least else self.rounds
        step = self.scale * (rounds * rollouts + live * getattr(self.update, name))
        return self.steps * step + self.evaluations * evaluation

    @property
    def seconds(self) -> tuple[float, float]:
        """From .. to, of the whole run."""
        low = self.total("seconds", least=True)
        high = UNMEASURED * self.total("seconds")
        return low / self.processes, high / self.processes

    def memory(self, phase: str) -> int:
        """Bytes of one process in "rollouts" or "update": what is known, and what a row added in
        the small step, times the rows that the run has in memory at once."""
        gradients = self.known.gradients if phase == "update" else 0
        added = max(getattr(self, phase).memory - gradients, 0)
        rows = rows_per_call(self.config, phase, self.processes)
        ratio = rows / rows_per_call(self.small, phase)
        return self.known.total - self.known.gradients + gradients + round(ratio * added)

    @property
    def verdict(self) -> str:
        """Does it fit? If not, what to lower."""
        for phase in ("rollouts", "update"):
            if self.memory(phase) > self.free:
                return f"too much, {what_to_lower(self.config, phase, self.processes)}"
        return "it fits"

    def __str__(self) -> str:
        lines = []
        for label, text in describe(self).items():
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
        ValueError: if the model or its data cannot be read, or prompts or weights do not fit.
        RuntimeError: if memory runs out in the small step; it says what to lower.
    """
    device = torch.device("cpu")
    if config.device == "auto":
        device = torch.accelerator.current_accelerator(check_available=True) or device
    free = free_memory(device, processes)
    check_memory(config, processes, free)
    result = Plan(
        config=config,
        processes=processes,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        prompts=check_prompts(config),
        known=known_memory(config, processes),
        free=free,
    )
    if config.shard:  # one process has no room for weights that are split
        return result
    say(f"loading {config.model} for a small step ...")
    fewer = min(PROMPTS, math.ceil(config.resolved().prompts / processes))
    small = replace(config, numbers=config.numbers | {"prompts": fewer})
    with memory_limit(device, free):
        rollouts, update = take_small_step(small, result.prompts, reward, device)
    gc.collect()  # optimiser and schedule refer to each other
    torch.cuda.empty_cache()
    return replace(result, small=small, rollouts=rollouts, update=update)


def take_small_step(
    config: TrainConfig,
    prompts: Prompts,
    reward: Callable[..., list[float]] | None,
    device: torch.device,
) -> tuple[Measured, Measured]:
    """Load the model, and measure the rollouts and the update of a step.

    A step of one prompt comes before it: libraries load, kernels are chosen, and the optimiser
    makes its moments. Equal rows are computed apart: how many of a run are equal changes as it
    learns, so what is measured is the most that it may need.
    """
    run = prepare(config, prompts.task, reward, device)
    for lm in (run.lm, run.reference):
        if isinstance(lm, MaskedDiffusionLM):  # any other reference is the policy itself
            lm.shares_rows = False
    take_step(replace(run, numbers=replace(run.numbers, prompts=1)), 1)
    return take_step(run, 2)


def take_step(run: Run, step: int) -> tuple[Measured, Measured]:
    """One step as training takes it: what the rollouts of a round and the update took."""
    # So the passes are the most.
    method = replace(run.method, groups=None, rows=None)
    if method.refine:
        method = replace(method, refine=write_first_again)
    run = replace(run, method=method)
    with memory_advice(run.config, "rollouts"):
        rollouts, batch = measure(run, lambda: collect_step(run, step))
    # Rows of no advantage may be skipped; here each has some, so the passes are the most.
    dead = (batch.advantage == 0).view(len(batch.advantage), -1).all(1)
    if method.objective.level == "pair":
        # A group takes part with two of its rows, or with none: then the first two.
        of_group = dead.view(-1, run.numbers.group)
        of_group &= of_group.all(1, keepdim=True)
        of_group[:, 2:] = False
    batch.advantage[dead] = 1.0
    with memory_advice(run.config, "update"):
        update, _ = measure(run, lambda: update_policy(run, batch, step))
    return rollouts, update


def write_first_again(rollout: Rollout, rewards: Tensor) -> tuple[Tensor, Tensor]:
    """The first row of each group, to be written again from a blank canvas; a refinement in the
    dry run."""
    rows = torch.arange(0, rewards.numel(), rewards.shape[1])
    return rows, torch.full_like(rollout.tokens[rows], rollout.mask_id)


def measure(run: Run, work: Callable[[], Any]) -> tuple[Measured, Any]:
    """Do a part of a step; returns what it took, its passes counted, and what `work` returned."""
    on_gpu = run.lm.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        if CLEAR.exists():
            CLEAR.write_text("5")
        before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    with count_passes(run.lm, run.reference) as spent:
        result = work()
    if on_gpu:
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = peak_memory()
    return (
        Measured(
            passes=spent.computed,
            tokens=spent.tokens,
            seconds=time.perf_counter() - start,
            memory=peak - before,
        ),
        result,
    )


def peak_memory() -> int:
    """The most memory that this process ever had, or had since `CLEAR` was written; bytes."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # a Windows machine has no such module

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def describe(plan: Plan) -> dict[str, str]:
    """The lines of a plan, by their labels."""
    config, known = plan.config, plan.known
    numbers = config.resolved()
    rows = numbers.prompts * numbers.group
    lines = {
        "run": f"{config.method} on {config.task}, {config.steps} steps, on {plan.device}, "
        f"processes: {plan.processes}",
        "model": f"{config.model}, {config.quantize or config.dtype}: trains {known.trained:,} of "
        f"{known.parameters:,} parameters ({100 * known.trained / known.parameters:.2f} %)",
        "problems": plan.prompts.note,
        "a step": f"{numbers.prompts} prompts x {numbers.group} texts of "
        f"{plan.prompts.task.length} tokens = {rows} rows; optimiser steps: "
        f"{numbers.inner_updates}",
        "checkpoint": f"{gib(known.checkpoint)} each; two are kept, a third while it is written",
        "known": f"{known}; free now {gib(plan.free)} per process",
    }
    if plan.small:
        rollouts = plan.rounds * plan.scale * plan.rollouts.passes
        lines["passes"] = (
            f"{rollouts:,.0f} of one row per step in rollouts ({rollouts / rows:.1f} per text), "
            f"at most {plan.scale * plan.update.passes:,.0f} in updates; "
            f"{plan.total('passes'):,.0f} in {plan.steps} steps and {plan.evaluations} evaluations"
        )
        lines["tokens"] = (
            f"{plan.total('tokens'):,.0f} through the model, fewer where rows are equal"
        )
        lines["memory"] = (
            f"rollouts {gib(plan.memory('rollouts'))}, update {gib(plan.memory('update'))} "
            f"per process: {plan.verdict}"
        )
        lines["time"] = (
            f"{span(*plan.seconds)}, scaled from a step of {plan.small.resolved().prompts} prompts "
            f"that took {plan.rollouts.seconds + plan.update.seconds:.2g} s"
        )
    else:
        lines["memory"] = "not measured: it takes all processes to hold weights that are split"
    return lines


def span(low: float, high: float) -> str:
    """A range of seconds in the unit that reads best."""
    unit, size = "seconds", 1
    for name, seconds in (("minutes", 60), ("hours", 3600), ("days", 86400)):
        if high >= 1.5 * seconds:
            unit, size = name, seconds
    return f"{low / size:.2g} to {high / size:.2g} {unit}"
