"""Several processes on one batch: who does which rows, what all know, one sum of gradients; weights
whole or split.

Only forward and backward passes and rewards are divided. Everything else (problems, views, credit,
the optimiser's step) each process does for the whole batch, from the same random numbers, so a run
is the same however many processes share it. A process is started by torchrun, accelerate launch or
Slurm; what it reads is WORLD_SIZE, RANK, LOCAL_RANK and MASTER_*.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

PROCESS_GROUP_TIMEOUT = timedelta(
    hours=1
)  # for one that still writes a checkpoint or runs a slow reward; a dead one is seen at once


@dataclass(frozen=True)
class Team:
    """The processes of a run, as one of them sees them. Every method but `share` has to be called
    by all."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    def share(self, items: Sequence | Tensor) -> Any:
        """This process's part: contiguous, and as even as can be."""
        n = len(items)
        return items[n * self.rank // self.size : n * (self.rank + 1) // self.size]

    def gather(self, items: list) -> list:
        """The lists of all processes, one after another; tensors in them come back on this
        process's device."""
        if self.size == 1:
            return items
        parts: list = [None] * self.size
        dist.all_gather_object(parts, [moved(item, "cpu") for item in items])
        return [moved(item, self.device) for part in parts for item in part]

    def agree(self, what: str, value: object) -> None:
        """Raises ValueError where the processes hold different values."""
        found = self.gather([value])
        odd = [i for i, other in enumerate(found) if other != found[0]]
        if odd:
            raise ValueError(
                f"process {odd[0]} has another {what} than process 0: {found[odd[0]]!r}, not {found[0]!r}; "
                "start all of them with the same command, files and versions"
            )

    def add_gradients(self, lm: nn.Module, found: bool) -> None:
        """Replace every gradient by its sum over the processes. found: did this one back-propagate
        anything?

        Where none did, no parameter gets a gradient, so the optimiser leaves all as it is, as with
        one process.
        """
        if is_sharded(lm):
            _add_sharded(lm)
        elif self.size > 1 and any(self.gather([found])):
            trained = [p for p in lm.parameters() if p.requires_grad]
            for p in trained:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            for work in [dist.all_reduce(p.grad, async_op=True) for p in trained]:
                work.wait()


ALONE = Team()


def join(device: str = "cpu") -> Team:
    """This process's place among those that the launcher started; alone, where there was no
    launcher.

    Args:
        device: "cpu", or "auto": the accelerator of this process's local rank where there is one.
    Raises:
        ValueError: where the machine has fewer accelerators than processes.
    """
    size, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    kind = torch.accelerator.current_accelerator(check_available=True) if device == "auto" else None
    here = torch.device("cpu")
    if kind is not None:
        if local >= torch.accelerator.device_count():
            raise ValueError(
                f"process {local} of this machine finds {torch.accelerator.device_count()} accelerators: "
                "start as many processes as there are"
            )
        here = torch.device(kind.type, local)
        torch.accelerator.set_device_index(local)
    if size == 1:
        return Team(device=here)
    if not dist.is_initialized():
        backend = (
            "gloo"
            if kind is None
            else f"cpu:gloo,{kind.type}:{dist.get_default_backend_for_device(here)}"
        )
        dist.init_process_group(backend, timeout=PROCESS_GROUP_TIMEOUT)
        atexit.register(dist.destroy_process_group)
    return Team(dist.get_rank(), size, here)


def leave() -> None:
    """End this process at once when all of the team are done; alone, do nothing. The last line of a
    script under a launcher.

    Without it an interpreter that winds down was aborted by gloo's threads in one start of ten with
    split weights, and a launcher takes that for a failed run.
    """
    if dist.is_initialized():
        dist.barrier()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def moved(item, device):
    """A tensor, or a record or dictionary with tensors in it, on a device; anything else as it
    is."""
    if isinstance(item, Tensor):
        return item.to(device)
    if is_dataclass(item):
        return replace(item, **{f.name: moved(getattr(item, f.name), device) for f in fields(item)})
    return {k: moved(v, device) for k, v in item.items()} if isinstance(item, dict) else item


# Weights that are split (FSDP): between phases a process holds its part of weights, gradients and
# optimiser state; for a phase the weights are gathered once, so that processes may do different
# numbers of passes in it without waiting.


def shard(lm: nn.Module, team: Team, dtype: torch.dtype) -> None:
    """Split a model's float32 weights over the processes, in place; passes are computed in
    `dtype`."""
    mesh = init_device_mesh(team.device.type, (team.size,))
    policy = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32
    )
    for module in (*lm.backbone.model.layers, lm):
        fully_shard(module, mesh=mesh, mp_policy=policy)
        module.set_gradient_divide_factor(
            1.0
        )  # a sum, as everywhere else: the loss is divided by the whole batch's count
        module.set_force_sum_reduction_for_comms(
            True
        )  # of gloo's reductions, the only one that there is


def is_sharded(lm: nn.Module) -> bool:
    return isinstance(lm, FSDPModule)


@contextlib.contextmanager
def gathered(*models) -> Iterator[None]:
    """The whole weights of split models, for a while; models that are not split, or None, are left
    alone."""
    parts = [
        m
        for lm in models
        if isinstance(lm, FSDPModule)
        for m in lm.modules()
        if isinstance(m, FSDPModule)
    ]
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


def whole(tensor: Tensor) -> Tensor:
    """A split tensor put together again (by all processes); any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def split_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A tensor split as the parameter is, if it is and has that shape; else as it is."""
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor
    return distribute_tensor(
        tensor.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
