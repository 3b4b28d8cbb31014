"""The dry run: what a run would train, need and take, with hours from a short measured probe;
nothing is trained or written.

`python -m dllm_rl_lite.train CONFIG.yaml dry_run=true` prints it.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..estimators import token_logprobs
from ..methods import METHODS
from ..models import MaskedDiffusionLM, add_adapters, encode_prompts, load_lm, trainable_parameters
from ..models.adapters import checkpoint_gradients, training_mode
from ..sampler import Rollout, denoise
from ..tasks import Task
from ..training import TrainConfig
from ..training.config import preset
from ..training.experience import roll_out
from .guards import Prompts, gib, guard_memory, survey
from .memory import Memory
from .passes import Passes, count_passes, is_fixed, sketch, sketched_views

REPEATS = 3  # timings of each kind of pass, after one that is thrown away
PASSES = 4  # denoising passes of a timed rollout call with a fixed schedule
PATIENCE = 5.0  # seconds that a timed rollout call may take; fewer rows where all would take longer
# the slow end of the hours: what is not timed (rewards, checkpoints, waiting) is taken to add a
# quarter
UNTIMED = 1.25
# the fast end, without a KL penalty: the share of rows that earn credit, the others being skipped
LIVELY = 0.5


@dataclass(frozen=True)
class Probe:
    """Measured seconds of one row's pass: the fastest and the slowest of a few timings, at the
    run's own shape."""

    rollout: tuple[float, float]
    score: tuple[float, float]  # of a view, without gradient
    gradient: tuple[float, float]  # of a view, forward and backward
    rows: tuple[int, int]  # of the timed rollout call, and of the timed micro-batch
    passes: float  # that a text of the timed rollouts took; with a fixed schedule not a whole text
    spent: float  # seconds that timing took, loading not counted
    device: str


@dataclass(frozen=True)
class Plan:
    """What a run would train, need and take. `str` is for people."""

    config: TrainConfig
    processes: int
    device: str
    prompts: Prompts
    passes: Passes
    trained: int  # parameters
    parameters: int  # of the whole model, adapters included
    memory: Memory
    free: int  # bytes, on the device
    obstacle: str  # why it does not fit and what to lower; empty: it fits
    probe: Probe | None

    @property
    def length(self) -> int:
        return self.prompts.task.length

    @property
    def open_ended(self) -> bool:
        """Does the number of passes of a rollout depend on its text?"""
        n = self.config.resolved()
        return not is_fixed(n.rule(self.length), n.eos)

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens that pass through the model in the whole run, and tokens that its rollouts
        write."""
        return (
            round(self.passes.total * (self.prompts.mean + self.length)),
            self.passes.steps * self.passes.rows * self.length,
        )

    @property
    def checkpoint(self) -> int:
        """Bytes of one checkpoint: what is trained, and two moments of each."""
        weights = 4 if self.config.lora_targets else getattr(torch, self.config.dtype).itemsize
        return self.trained * (weights + 8)

    @property
    def hours(self) -> tuple[float, float] | None:
        """From .. to, of the whole run: `LIVELY` rows at the fastest timings; every row at the
        slowest, and `UNTIMED`."""
        if self.probe is None:
            return None
        p, q = self.passes, self.probe
        seen = (
            min(q.passes * p.rows / p.rollout, 1.0) if self.open_ended else 1.0
        )  # share of the most that a text can take
        written = p.steps * p.rollout * seen + p.evaluations * p.evaluation * (
            1.0 if p.eval_exact else seen
        )
        live = (LIVELY if self.config.resolved().kl == 0 else 1.0, 1.0)
        low, high = (
            written * q.rollout[i]
            + p.steps
            * (
                p.importance * q.score[i]
                + live[i] * ((p.update - p.gradient) * q.score[i] + p.gradient * q.gradient[i])
            )
            for i in (0, 1)
        )
        return low / self.processes / 3600, high * UNTIMED / self.processes / 3600

    def __str__(self) -> str:
        return "\n".join(line for name, text in describe(self) for line in labelled(name, text))


def plan(
    config: TrainConfig, processes: int = 1, probe: bool = True, say: Callable[[str], None] = print
) -> Plan:
    """What a run would train, need and take, without training it and without writing to its folder.

    Args:
        processes: that would share the run. probe: load the model and time some passes; without,
            the model's config.json is enough (its tokenizer, where there is one, counts the
            prompts), and no hours are estimated.
        say: gets a line where it is going to take a while.
    Raises:
        ValueError: for a model or data that cannot be read, or prompts that do not fit
            (`planning.guards.measure_prompts`).
    """
    device = (
        torch.accelerator.current_accelerator(check_available=True)
        if config.device == "auto"
        else None
    )
    found = survey(config, processes, device or torch.device("cpu"))
    shape, memory, obstacle = found.memory.workload.shape, found.memory, ""
    try:
        guard_memory(memory, found.free)
    except ValueError as error:
        obstacle = str(error).splitlines()[0]
    adapters = shape.adapters(config.lora_targets, config.lora_r)
    result = Plan(
        config,
        processes,
        str(device or "cpu"),
        found.prompts,
        count_passes(config, found.prompts.task, found.tokenizer),
        adapters or shape.parameters,
        shape.parameters + adapters,
        memory,
        found.free,
        obstacle,
        None,
    )
    if not probe or obstacle:
        return result
    say(f"loading {config.model} to time a few passes ...")
    lm = load_for_probe(config, device or torch.device("cpu"))
    return replace(result, probe=run_probe(config, lm, found.prompts.task, memory))


def load_for_probe(config: TrainConfig, device: torch.device) -> MaskedDiffusionLM:
    """The model as training has it, in one process and without an optimiser."""
    lm = load_lm(
        config.model, device, getattr(torch, config.dtype), quantize=config.quantize or None
    )
    if config.lora_targets:
        add_adapters(lm, config.lora_targets, config.lora_r, config.lora_alpha, config.lora_dropout)
    if config.gradient_checkpointing:
        checkpoint_gradients(lm)
    return lm


def run_probe(config: TrainConfig, lm: MaskedDiffusionLM, task: Task, memory: Memory) -> Probe:
    """Time rollouts of a few passes, and one view of one micro-batch with and without gradient;
    each after a warm-up."""
    begun, w, n = time.perf_counter(), memory.workload, config.resolved()
    problems = task.sample(n.prompts, "train", config.seed)
    examples = [e for e in problems for _ in range(n.group)][: w.rollout_batch]
    few = examples[: 2 * n.group]

    def rollouts(part) -> Rollout:
        return timed_rollout(config, lm, task, part)

    warm, _ = timed(lambda: rollouts(few), lm.device)
    if warm * len(examples) / len(few) > PATIENCE:
        examples = few
    runs = [timed(lambda: rollouts(examples), lm.device) for _ in range(REPEATS)]
    each = [seconds / int(r.n_forwards.sum()) for seconds, r in runs]
    texts = [e for e in problems for _ in range(n.group)][: w.micro_batch]
    rollout, view = timed_view(config, lm, encode_prompts(lm.tokenizer, [e.prompt for e in texts]))
    temperature = n.temperature if METHODS[config.method].tempered else 1.0

    def forward():
        with torch.no_grad():
            token_logprobs(lm, rollout, view, temperature)

    def backward():
        with training_mode(lm, 0):
            token_logprobs(lm, rollout, view, temperature).sum().backward()

    forward(), backward()  # the first of each is slower
    score = [timed(forward, lm.device)[0] / len(texts) for _ in range(REPEATS)]
    gradient = [timed(backward, lm.device)[0] / len(texts) for _ in range(REPEATS)]
    for p in trainable_parameters(lm):
        p.grad = None
    passes = runs[-1][1].n_forwards.float().mean().item()
    name = torch.cuda.get_device_name(lm.device) if lm.device.type == "cuda" else str(lm.device)
    return Probe(
        *((min(x), max(x)) for x in (each, score, gradient)),
        (len(examples), len(texts)),
        passes,
        time.perf_counter() - begun,
        name,
    )


def timed_rollout(
    config: TrainConfig, lm: MaskedDiffusionLM, task: Task, examples: list
) -> Rollout:
    """A rollout call: whole where its passes depend on the texts; else of the first block alone, in
    at most `PASSES` passes.

    What comes after the first block is filled with end tokens, so that a pass has its real width
    and its real open block.
    """
    n, length = config.resolved(), task.length
    noise, rule = torch.Generator(lm.device).manual_seed(0), n.rule(length)
    if not is_fixed(rule, n.eos):
        return roll_out(lm, task, METHODS[config.method], n, examples, noise, config.cache)
    block = n.block_length or length
    n_blocks = length // block
    steps = (
        rule.steps // n_blocks if config.cache else min(rule.steps // n_blocks, PASSES)
    )  # a cache's first pass is dear
    anchor = torch.full((len(examples), length), lm.eos_id)
    anchor[:, :block] = lm.mask_id
    return denoise(
        lm,
        [e.prompt for e in examples],
        length,
        replace(rule, steps=steps * n_blocks),
        block,
        n.temperature,
        n.top_k,
        n.top_p,
        n.eos,
        anchor,
        noise,
        cache=config.cache,
    )


def timed_view(
    config: TrainConfig, lm: MaskedDiffusionLM, prompts: tuple[torch.Tensor, torch.Tensor]
):
    """Texts without content after real prompts, and of their views the one that scores nearest to
    the mean."""
    rows, blank = len(prompts[0]), sketch(config, len(prompts[0]))
    word = next(i for i in range(len(lm.tokenizer)) if i not in (lm.mask_id, lm.eos_id, lm.pad_id))
    anchor = None if blank.anchor is None else torch.where(blank.anchor < 0, lm.mask_id, word)
    tokens = torch.full_like(blank.tokens, word)
    rollout = replace(
        blank,
        prompt=prompts[0],
        prompt_mask=prompts[1],
        tokens=tokens,
        mask_id=lm.mask_id,
        eos_id=lm.eos_id,
        predicted=tokens.expand_as(blank.predicted),
        anchor=anchor,
    )
    views = sketched_views(config, rows, rollout)
    sizes = [int(v.scored.sum()) for v in views]
    view = min(views, key=lambda v: abs(int(v.scored.sum()) - sum(sizes) / len(sizes)))
    on = {
        name: value.to(lm.device)
        for name, value in vars(rollout).items()
        if isinstance(value, torch.Tensor)
    }
    moved = {
        name: value.to(lm.device)
        for name, value in vars(view).items()
        if isinstance(value, torch.Tensor)
    }
    return replace(rollout, **on), replace(view, **moved)


def timed(action: Callable, device: torch.device) -> tuple[float, object]:
    """Seconds of one call, and what it returned; a GPU has finished when the clock is read."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    result = action()
    wait()
    return time.perf_counter() - start, result


def describe(p: Plan) -> list[tuple[str, str]]:
    """(label, text) lines of a plan; a text may hold several lines."""
    c, n, q = p.config, p.config.resolved(), p.passes
    several = f", {p.processes} processes" if p.processes > 1 else ""
    at_most = "" if q.exact else "at most "
    seen = f" (in the probe {p.probe.passes:.1f})" if p.probe and p.open_ended else ""
    views = f"{q.views} view{'s' if q.views > 1 else ''} a text"
    parts = [
        ("gradient", q.gradient),
        ("old policy", q.old),
        ("reference", q.reference),
        ("present policy", q.again),
    ]
    counts = ", ".join(f"{name} {number(value)}" for name, value in parts if value)
    bound = "" if q.eval_exact else "at most "
    evaluation = f"{q.evaluations} times, {bound}{number(q.evaluation)} passes each"
    stop = f" (the budget of {number(c.forwards)} passes ends it)" if q.steps < c.steps else ""
    lines = [
        ("run", f"{c.method} on {c.task}, {q.steps} steps{stop}, on {p.device}{several}"),
        (
            "method",
            f"{METHODS[c.method].source}; {preset(c.model, c.preset)} numbers"
            + (f", changed: {', '.join(sorted(c.numbers))}" if c.numbers else ""),
        ),
        (
            "model",
            f"{c.model}, {c.quantize or c.dtype}: trains {p.trained:,} of {p.parameters:,} "
            "parameters "
            f"({100 * p.trained / p.parameters:.2f} %)",
        ),
        ("problems", p.prompts.note),
        (
            "a step",
            f"{n.prompts} prompts x {n.group} texts of {p.length} tokens = {q.rows} rows; "
            "optimiser steps: "
            f"{n.inner_updates}",
        ),
        (
            "rollouts",
            f"{at_most}{number(q.rollout)} passes a step, "
            f"{at_most}{q.rollout / q.rows:.1f} a text{seen}"
            + (f"; weights of guided texts {number(q.importance)}" if q.importance else ""),
        ),
        ("updates", f"at most {number(q.update)} passes a step, {views}: {counts}"),
        ("evaluation", evaluation),
        (
            "in all",
            f"{number(q.total)} passes of one row, {number(p.tokens[0])} tokens through the model, "
            f"{number(p.tokens[1])} written",
        ),
        ("checkpoint", f"{gib(p.checkpoint)} each; two are kept, a third while it is written"),
        ("memory", f"{p.memory}\nfree now {gib(p.free)} a process: {p.obstacle or 'fits'}"),
    ]
    return [*lines, ("time", describe_time(p))]


def describe_time(p: Plan) -> str:
    """What was measured, and the hours that follow."""
    if p.probe is None:
        return "not measured: " + ("it does not fit" if p.obstacle else "no probe was asked for")
    q, (low, high) = p.probe, p.hours
    rollout, score, gradient = (
        f"{1000 * a:.2g} to {1000 * b:.2g} ms" for a, b in (q.rollout, q.score, q.gradient)
    )
    apart = (
        f"; one process was timed, and its hours divided by {p.processes}: communication is not "
        "in them"
    )
    return (
        f"{span(low, high)}, by a probe of {q.spent:.0f} s on {q.device}: a pass of one row takes "
        f"{rollout} in rollouts ({q.rows[0]} rows a call), {score} in scores, {gradient} with "
        f"gradient ({q.rows[1]} rows); rewards and "
        f"checkpoints were not timed{apart if p.processes > 1 else ''}"
    )


def span(low: float, high: float) -> str:
    """A range of hours in the unit that reads best."""
    unit, size = next(
        (u for u in (("days", 24.0), ("hours", 1.0), ("minutes", 1 / 60)) if high >= 1.5 * u[1]),
        ("seconds", 1 / 3600),
    )
    return f"{low / size:.2g} to {high / size:.2g} {unit}"


def number(value: int) -> str:
    """Digits up to ten million, then words."""
    for size, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if value >= max(size, 10**7):
            return f"{value / size:.3g} {word}"
    return f"{value:,}"


def labelled(name: str, text: str, width: int = 100) -> list[str]:
    """The lines of one entry: its label, then its text, wrapped and aligned."""
    indent = " " * 12
    lines = [
        part for line in text.splitlines() for part in textwrap.wrap(line, width - len(indent))
    ]
    return [f"{name:<12}{lines[0]}", *(indent + line for line in lines[1:])]
