"""Guards before the first step: do the prompts fit the model, and the run the memory? And what to
lower where it did not."""

from __future__ import annotations

import os
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from ..models import encode_prompts
from ..models.checkpoints import load_tokenizer, read_config, resolve_model
from ..tasks import Benchmark, Example, Task
from ..training import TrainConfig
from .memory import GIB, Memory, Workload, estimate_memory, measure, model_shape

GUESS = 256  # tokens of a prompt, where there is no tokenizer to count them with
SAMPLE = 256  # problems of a generated task that are looked at
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cannot allocate memory",
)
# The module that an error came through.
PHASES = {"training.experience": "rollouts", "evaluate": "evaluation", "training.update": "update"}


@dataclass(frozen=True)
class Prompts:
    """What the prompts of a split are like."""

    task: Task  # without the problems that are left out
    note: str  # a sentence for a person
    longest: int  # tokens, of those that are kept
    mean: float


@dataclass(frozen=True)
class Survey:
    """What is known of a run before its model is loaded."""

    prompts: Prompts
    memory: Memory
    free: int  # bytes that one process can take
    tokenizer: object  # None where the model's folder has none


def survey(config: TrainConfig, processes: int = 1, device: torch.device | str = "cpu") -> Survey:
    """Count the prompts and estimate the memory of a run; a fraction of a second, plus a
    millisecond a prompt.

    Args:
        processes: that share the run; those of this machine share the host's memory. device: of
            this process.
    Raises:
        ValueError: for a model or data that cannot be read, or prompts that do not fit; not for
            memory (`guard_memory`).
    """
    task, shape, tokenizer = (
        config.load_task(),
        model_shape(config.model),
        find_tokenizer(config.model),
    )
    room = shape.max_length - task.length
    if tokenizer is None:
        tokens = min(config.max_prompt or GUESS, room)
        note = (
            f"prompts are taken to have {tokens} tokens: {config.model} has no tokenizer to count "
            "them with"
        )
        prompts = Prompts(task, note, tokens, tokens)
    else:
        prompts = measure_prompts(task, tokenizer, room, config.max_prompt)
        guide = config.resolved().guide
        if guide.get("rows") and isinstance(task, Benchmark):
            prompts = fit_answers(prompts, tokenizer, guide)
    free = available_memory(device)
    if torch.device(device).type == "cpu":
        free //= int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    return Survey(
        prompts, estimate_memory(shape, config, prompts.longest, processes), free, tokenizer
    )


def find_tokenizer(model: str):
    """The tokenizer of a model, as `load_lm` reads it; None for a folder that has none."""
    folder = resolve_model(model)
    try:
        return load_tokenizer(folder, *read_config(folder))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def fit_prompts(
    task: Task, tokenizer, room: int, max_prompt: int = 0, split: str = "train"
) -> tuple[Task, str]:
    """`measure_prompts`, for a run: the task to train on, and what to say of it."""
    found = measure_prompts(task, tokenizer, room, max_prompt, split)
    return found.task, found.note


def measure_prompts(
    task: Task, tokenizer, room: int, max_prompt: int = 0, split: str = "train"
) -> Prompts:
    """Count the tokens of a split's prompts, once, and leave out the problems of a benchmark that
    are too long.

    Args:
        tokenizer: prompts are encoded as for rollouts, chat template included. room: tokens that
            the model leaves to a prompt: `lm.max_length - task.length`. max_prompt: problems of a
            benchmark with longer prompts are left out of this split (not of others); 0: every
            prompt has to fit.
    Returns:
        `Prompts`. Of a generated task a seeded sample is counted, and nothing can be left out.
    Raises:
        ValueError: where prompts do not fit and may not be left out, or none is left; how many, the
            longest, the fixes.
    """
    if room < 1:
        raise ValueError(
            f"a completion of {task.length} tokens leaves no room for a prompt: the model holds "
            f"{task.length + room} tokens; set a shorter length"
        )
    limit = min(max_prompt or room, room)
    fixed = isinstance(task, Benchmark)
    rng = random.Random(0)
    examples = task.read(split) if fixed else [task.make(rng) for _ in range(SAMPLE)]
    lengths = prompt_lengths(tokenizer, [e.prompt for e in examples])
    kept = [e for e, n in zip(examples, lengths, strict=True) if n <= limit]
    fitting = [n for n in lengths if n <= limit]
    worst = max(range(len(lengths)), key=lengths.__getitem__)
    counted = (
        f"{len(examples) - len(kept)} of {len(examples)} problems have prompts of more than "
        f"{limit} tokens"
    )
    if not kept or len(kept) < len(examples) and not (fixed and max_prompt):
        shorter = room + task.length - lengths[worst]
        fixes = [f"max_prompt={room} to leave such problems out"] if kept and fixed else []
        fixes += (
            [f"max_prompt to 0 or at least {lengths[worst]}"]
            if limit < lengths[worst] <= room
            else []
        )
        fixes += [f"a length of at most {shorter}"] if lengths[worst] > room and shorter > 0 else []
        raise ValueError(
            f"{task.name}: {counted} (a length of {task.length} leaves {room} of the model's "
            f"{room + task.length}; the longest, of {lengths[worst]}, ends "
            f"{examples[worst].prompt.strip()[-60:]!r}): "
            f"set {' or '.join(fixes) or 'a larger model'}"
        )
    note = f"prompts of {statistics.fmean(fitting):.0f} tokens on average, {max(fitting)} at most"
    if len(kept) < len(examples):
        note = f"{counted} (longest {lengths[worst]}) and are left out; {note}"
        task = replace(task, read=without(task.read, split, kept))
    return Prompts(task, note, max(fitting), statistics.fmean(fitting))


def fit_answers(prompts: Prompts, tokenizer, guide: dict, split: str = "train") -> Prompts:
    """Leave out a benchmark's problems whose anchored answer (a whole program, say) leaves no token
    to reason with.

    guide: `Numbers.guide`, whose margin has to be a number. Raises ValueError where no problem is
    left.
    """
    task, column, margin = prompts.task, guide["column"], guide["margin"]
    if isinstance(margin, str):
        return prompts  # refused where it is used, with the numbers that the releases took
    examples = task.read(split)
    texts = [
        f"<answer>{e.columns.get(column, '') if column else e.answer}</answer>" for e in examples
    ]
    lengths = [len(ids) + margin for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    kept = [e for e, n in zip(examples, lengths, strict=True) if n < task.length]
    if not kept:
        raise ValueError(
            f"{task.name}: no anchored answer fits a canvas of {task.length} tokens (the shortest "
            "takes "
            f"{min(lengths)}): set a longer length, or guide rows to 0"
        )
    if len(kept) == len(examples):
        return prompts
    note = (
        f"{len(examples) - len(kept)} of {len(examples)} answers leave no token to reason with "
        "and are left out"
    )
    return replace(
        prompts,
        task=replace(task, read=without(task.read, split, kept)),
        note=f"{note}; {prompts.note}",
    )


def prompt_lengths(tokenizer, prompts: list[str], batch: int = 256) -> list[int]:
    """Tokens of each prompt, encoded as for rollouts."""
    return [
        n
        for i in range(0, len(prompts), batch)
        for n in encode_prompts(tokenizer, prompts[i : i + batch])[1].sum(1).tolist()
    ]


def without(read, split: str, kept: list[Example]):
    """A benchmark's `read` that gives `kept` for one split."""
    return lambda asked: list(kept) if asked == split else read(asked)


def available_memory(device: torch.device | str) -> int:
    """Bytes that this process can still take: of a GPU what is free, of the host what system,
    container and limits leave."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    rooms = [
        psutil.virtual_memory().available,
        *container_rooms(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")),
    ]
    if hasattr(psutil, "RLIMIT_AS"):  # on Linux
        process = psutil.Process()
        most, _ = process.rlimit(psutil.RLIMIT_AS)
        rooms += [max(most - process.memory_info().vms, 0)] if most != psutil.RLIM_INFINITY else []
    return min(rooms)


def container_rooms(membership: Path, root: Path) -> Iterator[int]:
    """Bytes left under every memory limit that the process's control groups set (versions 1 and
    2)."""
    lines = membership.read_text().splitlines() if membership.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "memory" if controllers else root
        names = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if controllers
            else ("memory.max", "memory.current")
        )
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(base):
                break
            if all((folder / name).is_file() for name in names):
                limit, used = ((folder / name).read_text().strip() for name in names)
                if limit != "max":
                    yield max(int(limit) - int(used) + cached(folder / "memory.stat"), 0)


def cached(stat: Path) -> int:
    """Bytes of files that a control group's use counts and that are given up where memory is
    short."""
    values = dict(line.split() for line in stat.read_text().splitlines()) if stat.is_file() else {}
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))


def guard_memory(memory: Memory, available: int) -> None:
    """Stop a run that cannot fit before it starts.

    Args:
        memory: as `estimate_memory` gives it. available: bytes, as `available_memory` gives it
            before the model is loaded.
    Raises:
        ValueError: what is needed, what is there, and the first setting that fits, of: micro_batch,
            rollout_batch, both, then with gradient_checkpointing, LoRA, or the weights split over
            more processes.
    """
    if memory.total <= available:
        return
    said = [
        f"the run needs about {gib(memory.total)} a process (in {memory.largest}), and "
        f"{gib(available)} are free"
    ]
    for words, smaller in lowered(memory.workload):
        needed = measure(smaller).total
        if needed <= available:
            raise ValueError(f"{said[0]}: {words}: {gib(needed)}\n{memory}")
    raise ValueError(
        f"{said[0]}: nothing that can be lowered here is enough; take a smaller model, a shorter "
        "length, "
        f"quantize='4bit', or more memory\n{memory}"
    )


def lowered(w: Workload) -> Iterator[tuple[str, Workload]]:
    """Smaller workloads and how to get there, in the order in which a run loses least by them."""
    n, c = w.config.resolved(), w.config
    micro = halves(w.micro_batch, 1)
    rollout = halves(w.rollout_batch, n.group)
    batches = [
        *((m, 0) for m in micro),
        *((0, r) for r in rollout),
        *((m, r) for m in micro for r in rollout),
    ]
    variants: list[tuple[str, TrainConfig, int]] = [("", c, w.processes)]
    if not c.gradient_checkpointing:
        variants.append(
            ("gradient_checkpointing=true", replace(c, gradient_checkpointing=True), w.processes)
        )
    if not c.lora_targets:
        lora = replace(
            c, gradient_checkpointing=True, lora_targets="all", dtype="bfloat16", shard=False
        )
        variants.append(
            ("lora_targets=all dtype=bfloat16 gradient_checkpointing=true", lora, w.processes)
        )
        split = replace(c, gradient_checkpointing=True, shard=True)
        variants += [
            (f"shard=true processes={p} gradient_checkpointing=true", split, p)
            for p in (2, 4, 8, 16, 32, 64)
            if p > w.processes and p <= n.prompts
        ]
    for words, config, processes in variants:
        for m, r in [(0, 0), *batches] if words else batches:
            parts = [words] if words else []
            parts += [f"micro_batch={m} (now {now(c.micro_batch, w.micro_batch)})"] if m else []
            parts += (
                [f"rollout_batch={r} (now {now(c.rollout_batch, w.rollout_batch)})"] if r else []
            )
            changes = {"micro_batch": m} if m else {}
            changes |= {"rollout_batch": r} if r else {}
            yield (
                "set " + " ".join(parts),
                replace(w, config=replace(config, **changes), processes=processes),
            )


def halves(value: int, unit: int) -> list[int]:
    """Half of a number of rows, half of that, ..., in whole units, down to one unit."""
    found = []
    while value > unit:
        value = max(value // 2 // unit * unit, unit)
        found.append(value)
    return found


def now(setting: int, rows: int) -> str:
    return str(setting) if setting else f"all {rows} rows"


def gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:.0f} MiB"


def out_of_memory(error: BaseException, memory: Memory, phase: str = "") -> str | None:
    """What to lower after an error that says that memory has run out, and by how much; None for any
    other error.

    Args:
        error: as it was caught. memory: the run's estimate. phase: "rollouts", "update" or
            "evaluation"; empty: where the error came from, by its traceback.
    """
    if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and not (
        isinstance(error, RuntimeError)
        and any(words in str(error).lower() for words in OUT_OF_MEMORY)
    ):
        return None
    phase, w = phase or phase_of(error), memory.workload
    n, c = w.config.resolved(), w.config
    if phase == "update":
        name, present, unit = "micro_batch", w.micro_batch, 1
    else:
        name, present, unit = (
            "rollout_batch",
            w.eval_batch if phase == "evaluation" else w.rollout_batch,
            n.group,
        )
    smaller = halves(present, unit)[:1]
    change = f"{name}={smaller[0]} (now {now(getattr(c, name), present)})" if smaller else ""
    after = replace(c, **{name: smaller[0]}) if smaller else None
    if not smaller and not c.gradient_checkpointing and phase == "update":
        change, after = "gradient_checkpointing=true", replace(c, gradient_checkpointing=True)
    said = f"out of memory in the {phase or 'step'}, which was estimated to need "
    said += f"{gib(part_of(memory, phase))} beyond "
    said += f"{gib(memory.weights + memory.reference + memory.optimizer)} of weights and optimiser"
    if after is None:
        shorter = "a shorter length" + (
            ", lora_targets" if not c.lora_targets and phase == "update" else ""
        )
        return f"{said}: {name} is as small as it can be; set {shorter}, or use a smaller model"
    needed = part_of(measure(replace(w, config=after)), phase)
    return f"{said}: set {change}, which is estimated to need {gib(needed)}"


def part_of(memory: Memory, phase: str) -> int:
    """Bytes of one phase; scores are part of the update."""
    return (
        max(memory.update, memory.scores)
        if phase == "update"
        else memory.phases.get(phase, memory.total)
    )


def phase_of(error: BaseException) -> str:
    """The phase that an error was raised in: of the modules on its traceback, the outermost that is
    one; empty: none."""
    step = error.__traceback__
    while step is not None:
        module = step.tb_frame.f_globals.get("__name__", "").removeprefix("dllm_rl_lite.")
        if module in PHASES:
            return PHASES[module]
        step = step.tb_next
    return ""
