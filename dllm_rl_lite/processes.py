"""Several processes on one batch: who does which rows, what all know, one sum of gradients; weights
whole or split.

Only forward and backward passes and rewards are divided. Everything else (problems, views,
advantages, the optimiser's step) each process does for the whole batch, from the same random
numbers, so a run is the same however many processes share it. A process is started by torchrun,
accelerate launch or Slurm; what it reads is WORLD_SIZE, RANK, LOCAL_RANK and MASTER_*. A process
that no launcher started is alone: its rank is 0 of 1.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

# A torch without its distributed package trains alone; nothing is split there.
FSDPModule = DTensor = ()  # isinstance(anything, ()) is False
if dist.is_available():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
    from torch.distributed.tensor import DTensor, distribute_tensor

# For a process that still writes a checkpoint or runs a slow reward; a dead one is seen at once.
PROCESS_GROUP_TIMEOUT = timedelta(hours=1)


def init_processes(device: str = "cpu") -> torch.device:
    """Join the processes that the launcher started, if there was one; returns this one's device.

    Args:
        device: "cpu", or "auto": the accelerator of this process's local rank if there is one.
    Raises:
        ValueError: if the machine has fewer accelerators than processes, or torch was built without
            its distributed package and there are several.
    """
    accelerator = None
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
    here = torch.device("cpu")
    backend = "gloo"
    if accelerator is not None:
        local = int(os.environ.get("LOCAL_RANK", 0))
        count = torch.accelerator.device_count()
        if local >= count:
            raise ValueError(
                f"process {local} of this machine finds {count} accelerators: "
                "start as many processes as there are"
            )
        here = torch.device(accelerator.type, local)
        torch.accelerator.set_device_index(local)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not has_joined():
        require_distributed()
        if accelerator is not None:
            backend = f"cpu:gloo,{here.type}:{dist.get_default_backend_for_device(here)}"
        dist.init_process_group(backend, timeout=PROCESS_GROUP_TIMEOUT)
        atexit.register(dist.destroy_process_group)
    return here


def has_joined() -> bool:
    """Does this process share a run with others?"""
    return dist.is_available() and dist.is_initialized()


def require_distributed() -> None:
    """Raise ValueError if torch was built without its distributed package."""
    if not dist.is_available():
        raise ValueError("this torch has no distributed package: start one process, shard=false")


def exit_processes() -> None:
    """End this process at once when all are done; alone, do nothing. The last line of a script
    under a launcher.

    Without it an interpreter that winds down was aborted by gloo's threads in one start of ten with
    split weights, and a launcher takes that for a failed run.
    """
    if has_joined():
        dist.barrier()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def process_rank() -> int:
    """Which of the processes is this one? 0: the first, or the only one."""
    return dist.get_rank() if has_joined() else 0


def process_count() -> int:
    """How many processes share the run?"""
    return dist.get_world_size() if has_joined() else 1


def own_part(items: Sequence | Tensor) -> Any:
    """This process's part of the items: contiguous, and as even as can be."""
    rank = process_rank()
    count = process_count()
    return items[len(items) * rank // count : len(items) * (rank + 1) // count]


def gather(items: list, device: torch.device | str = "cpu") -> list:
    """The lists of all processes, one after another; to be called by all of them.

    Args:
        items: of this process; records and dictionaries may hold tensors.
        device: where the tensors of the result are. A single process gets its items as they are.
    """
    if process_count() == 1:
        return items
    parts: list = [None] * process_count()
    dist.all_gather_object(parts, [to_device(item, "cpu") for item in items])
    return [to_device(item, device) for part in parts for item in part]


def check_agreement(what: str, value: object) -> None:
    """Raise ValueError if the processes hold different values; to be called by all of them."""
    values = gather([value])
    for rank, other in enumerate(values):
        if other != values[0]:
            raise ValueError(
                f"process {rank} has another {what} than process 0: {other!r}, not {values[0]!r}; "
                "start all of them with the same command, files and versions"
            )


def add_gradients(lm: nn.Module, found: bool) -> None:
    """Replace every gradient by its sum over the processes; to be called by all of them.

    Args:
        lm: the model.
        found: did this process back-propagate anything? If none did, no parameter gets a gradient,
            so the optimiser leaves all as it is, as with one process.
    """
    if is_sharded(lm):
        _add_sharded(lm)
        return
    if process_count() == 1 or not any(gather([found])):
        return
    waiting = []
    for parameter in lm.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            waiting.append(dist.all_reduce(parameter.grad, async_op=True))
    for work in waiting:
        work.wait()


def to_device(item: Any, device: torch.device | str) -> Any:
    """A tensor, or a record or dictionary with tensors in it, on a device; anything else as it
    is."""
    if isinstance(item, Tensor):
        return item.to(device)
    if isinstance(item, dict):
        return {name: to_device(value, device) for name, value in item.items()}
    if is_dataclass(item):
        values = {f.name: to_device(getattr(item, f.name), device) for f in fields(item)}
        return replace(item, **values)
    return item


# Weights that are split (FSDP): between phases a process holds its part of weights, gradients and
# optimiser state; for a phase the weights are gathered once, so that processes may do different
# numbers of passes in it without waiting.


def shard(lm: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Split a model's float32 weights over the processes, in place; passes are computed in
    `dtype`."""
    require_distributed()
    mesh = init_device_mesh(device.type, (process_count(),))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    if dtype != torch.float32:
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for module in (*lm.backbone.model.layers, lm):
        fully_shard(module, mesh=mesh, mp_policy=policy)
        # A sum, as everywhere else: the loss is divided by the whole batch's count. Of gloo's
        # reductions, the sum is the only one that there is.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)


def is_sharded(lm: nn.Module) -> bool:
    return isinstance(lm, FSDPModule)


@contextlib.contextmanager
def whole_weights(*models: nn.Module | None) -> Iterator[None]:
    """The whole weights of split models, for a while; other models, and None, are left alone."""
    parts = []
    for lm in models:
        if lm is not None and is_sharded(lm):
            parts += [module for module in lm.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        _hold(part, True)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            _hold(part, False)
            part.reshard()


def _hold(part: FSDPModule, whole: bool) -> None:
    part.set_reshard_after_forward(not whole, recurse=False)
    part.set_reshard_after_backward(not whole, recurse=False)
    part.set_requires_gradient_sync(not whole, recurse=False)


def _add_sharded(lm: nn.Module) -> None:
    """Sum what each process has accumulated: one backward pass of a zero loss, in which all take
    part."""
    ids = torch.full((1, 2), lm.mask_id, device=lm.device)
    everywhere = torch.ones_like(ids, dtype=torch.bool)
    for part in lm.modules():
        if isinstance(part, FSDPModule):
            part.set_requires_gradient_sync(True, recurse=False)
    (lm(ids, everywhere, everywhere).amax(-1).sum() * 0).backward()


def full_tensor(tensor: Tensor) -> Tensor:
    """A split tensor put together again (by all processes); any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def split_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A tensor split as the parameter is, if it is and has that shape; else as it is."""
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor
    return distribute_tensor(
        tensor.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
