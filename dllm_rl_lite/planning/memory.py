"""Memory: what a run needs at the least, what is free, and what to lower when it has run out.

At the least it needs weights, optimiser and gradients: parameters times bytes, known from
config.json before any weight is read. What its batches add is measured (`planning.dry_run`).
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch
from torch import nn

from ..methods import METHODS
from ..models import MaskedDiffusionLM, build_tokenizer
from ..models.adapters import count_parameters, lora_targets
from ..models.checkpoints import empty_backbone, read_config, resolve_model
from ..models.failures import lacks_memory
from ..training import TrainConfig

# Bytes per weight in 4 bits: the weight, an 8-bit scale per 64, a 32-bit scale per 256 scales.
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)


@dataclass(frozen=True)
class KnownMemory:
    """Bytes that one process needs whatever its batches are; `str` is human-readable."""

    trained: int  # parameters
    parameters: int  # of the whole model, adapters included
    weights: int
    reference: int  # a frozen copy of the starting model, if a KL penalty needs one
    optimizer: int  # two float32 moments per trained parameter
    gradients: int  # float32, from the first backward pass of an update to its end
    checkpoint: int  # on disk: what is trained, and its moments

    @property
    def total(self) -> int:
        return self.weights + self.reference + self.optimizer + self.gradients

    def __str__(self) -> str:
        names = ("weights", "reference", "optimizer", "gradients")
        return ", ".join(f"{name} {gib(getattr(self, name))}" for name in names)


def known_memory(config: TrainConfig, processes: int = 1) -> KnownMemory:
    """What one of the processes that share a run needs at the least, from config.json alone.

    Raises:
        ValueError: if the model cannot be read.
    """
    lm = empty_model(config.model)
    _, base = count_parameters(lm)
    modules = list(lm.backbone.named_modules())
    itemsize = getattr(torch, config.dtype).itemsize
    weights = itemsize * base
    if config.quantize:
        packed = [m for name, m in modules if isinstance(m, nn.Linear) and name != "lm_head"]
        weights -= (itemsize - NF4) * sum(m.weight.numel() for m in packed)
    adapters = 0  # float32, two matrices of rank r per linear map
    if config.lora_targets:
        names = lora_targets(lm, config.lora_targets)
        maps = [m for name, m in modules if name.rpartition(".")[2] in names]
        adapters = config.lora_r * sum(m.in_features + m.out_features for m in maps)
    trained = adapters or base
    # With adapters, the base itself is the reference.
    objective = METHODS[config.method].objective
    reference = 0
    if objective.uses_reference(config.resolved().kl) and not adapters:
        reference = weights
    optimizer = 8 * trained
    if config.shard:
        # A process keeps its part of float32 weights, and gathers all in `dtype` for each phase.
        weights += 4 * base / processes
        reference = 4 * base / processes if reference else 0
        optimizer /= processes
    return KnownMemory(
        trained=trained,
        parameters=base + adapters,
        weights=round(weights + 4 * adapters),
        reference=round(reference),
        optimizer=round(optimizer),
        gradients=4 * trained,
        checkpoint=(4 if adapters else itemsize) * trained + 8 * trained,
    )


def empty_model(model: str) -> MaskedDiffusionLM:
    """A model by the name that `load_lm` takes, its parameters without memory; no weight is read.

    Raises:
        ValueError: if there is no such model, or its config.json is not supported.
    """
    folder = resolve_model(model)
    kind, values = read_config(folder)
    backbone = empty_backbone(folder, kind, values)
    return MaskedDiffusionLM(backbone, build_tokenizer())  # any tokenizer: it plays no part


def check_memory(config: TrainConfig, processes: int, free: int) -> None:
    """Refuse a run that cannot fit, before its weights are read.

    Args:
        config: the run.
        processes: that share it.
        free: bytes that one process can take (`free_memory`).
    Raises:
        ValueError: if weights, optimiser and gradients alone need more; it names the first of LoRA
            and 4 bits that fits.
    """
    known = known_memory(config, processes)
    if known.total <= free:
        return
    said = (
        f"weights, optimiser and gradients alone need {gib(known.total)} per process ({known}), "
        f"and {gib(free)} are free"
    )
    lora = {"lora_targets": config.lora_targets or "all", "dtype": "bfloat16", "shard": False}
    for settings in (lora, lora | {"quantize": "4bit"}):
        needed = known_memory(replace(config, **settings), processes).total
        if needed <= free:
            changed = [f"{k}={v}" for k, v in settings.items() if getattr(config, k) != v]
            raise ValueError(f"{said}: set {' '.join(changed)}, which needs {gib(needed)}")
    raise ValueError(
        f"{said}: neither lora_targets nor quantize=4bit is enough; take a smaller model, more "
        "memory, or shard=true over more GPUs"
    )


def rows_per_call(config: TrainConfig, phase: str, processes: int = 1) -> int:
    """Rows that one process has in memory at once in "rollouts", "update" or "evaluation"."""
    numbers = config.resolved()
    if phase == "evaluation":
        share = math.ceil(config.eval_problems / processes) or 128  # 0: all that a benchmark has
        return min(config.rollout_batch or 128, 128, share)
    if phase == "update":
        share = math.ceil(numbers.prompts * numbers.group / processes)
        return min(config.micro_batch or share, share)
    share = math.ceil(numbers.prompts / processes) * numbers.group  # a call has whole groups
    return min(config.rollout_batch or share, share)


def what_to_lower(config: TrainConfig, phase: str, processes: int = 1) -> str:
    """What to set after a phase ("rollouts", "update" or "evaluation") ran out of memory.

    Half the rows of a call, in whole groups, as long as there are any to spare.
    """
    updating = phase == "update"
    name = "micro_batch" if updating else "rollout_batch"
    unit = 1 if updating else config.resolved().group
    rows = rows_per_call(config, phase, processes)
    if rows > unit:
        fewer = max(rows // 2 // unit * unit, unit)
        return f"set {name}={fewer} (now {getattr(config, name) or f'all {rows} rows'})"
    if updating and not config.gradient_checkpointing:
        return "set gradient_checkpointing=true"
    shorter = "a shorter length"
    if updating and not config.lora_targets:
        shorter += ", lora_targets"
    return f"{name} is as small as it can be; set {shorter}, or use a smaller model"


@contextlib.contextmanager
def memory_advice(config: TrainConfig, phase: str, processes: int = 1) -> Iterator[None]:
    """Run a phase; an error that says that memory has run out becomes one that says what to lower.

    Raises:
        RuntimeError: in place of any error for lack of memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        advice = what_to_lower(config, phase, processes)
        raise RuntimeError(f"out of memory in the {phase}: {advice}") from error


@contextlib.contextmanager
def memory_limit(device: torch.device, free: int) -> Iterator[None]:
    """On a Linux CPU, let this process take no more than `free` bytes beyond what it has.

    Linux grants more than there is and kills whoever uses it; under the limit the allocation fails
    instead, and the run can say what to lower.
    """
    if device.type != "cpu" or not hasattr(psutil, "RLIMIT_DATA"):
        yield
        return
    process = psutil.Process()
    before = process.rlimit(psutil.RLIMIT_DATA)
    limits = [limit for limit in before if limit != psutil.RLIM_INFINITY]
    most = min([process.memory_info().data + free, *limits])
    process.rlimit(psutil.RLIMIT_DATA, (most, before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_DATA, before)


def free_memory(device: torch.device, processes: int = 1) -> int:
    """Bytes that one process can still take; those of one machine share the host's memory."""
    free = available_memory(device)
    if device.type == "cpu":
        free //= int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    return free


def available_memory(device: torch.device) -> int:
    """Bytes that are free: of a GPU, or of the host under the limits of system, container and
    process."""
    if device.type == "cuda":
        # What this process keeps of freed tensors it can use again.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    rooms = [psutil.virtual_memory().available]
    rooms += container_rooms(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    if hasattr(psutil, "RLIMIT_AS"):  # on Linux
        process = psutil.Process()
        limit, _ = process.rlimit(psutil.RLIMIT_AS)
        if limit != psutil.RLIM_INFINITY:
            rooms.append(max(limit - process.memory_info().vms, 0))
    return min(rooms)


def container_rooms(membership: Path, root: Path) -> Iterator[int]:
    """Bytes left under every memory limit that the process's control groups set (versions 1 and
    2)."""
    lines = membership.read_text().splitlines() if membership.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            base, limit_name, used_name = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base = root / "memory"
            limit_name, used_name = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(base):
                break
            if not ((folder / limit_name).is_file() and (folder / used_name).is_file()):
                continue
            limit = (folder / limit_name).read_text().strip()
            if limit != "max":
                used = int((folder / used_name).read_text())
                yield max(int(limit) - used + reclaimable(folder / "memory.stat"), 0)


def reclaimable(stat: Path) -> int:
    """Bytes of cached files that a control group counts as used, and gives up when memory is
    short."""
    if not stat.is_file():
        return 0
    values = dict(line.split() for line in stat.read_text().splitlines())
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))


def gib(size: float) -> str:
    """Bytes as text."""
    if size < 0.1 * 2**30:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / 2**30:.1f} GiB"
