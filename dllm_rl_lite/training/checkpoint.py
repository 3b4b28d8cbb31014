"""Atomic, complete checkpoints: a folder that either holds a whole training state or is not there.

A run's random numbers are all derived from (seed, step, purpose), and so are its problems, so the
step is the state of the generators and of the data: `generator(seed, step, purpose)` gives the same
draws after a resume.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..files import read_object, write_atomically, writing
from ..models import save_adapters
from ..models.adapters import adapter_parameters, restore_adapters
from ..processes import full_tensor, is_sharded, process_rank, split_like


def save_checkpoint(
    run_dir: Path,
    step: int,
    lm,
    optimizer,
    scheduler,
    *,
    rows: list[dict],
    identity: dict,
    memory: dict | None = None,
) -> Path:
    """Write `run_dir/checkpoints/step-000123` (model or adapters, optimiser, schedule, log so far),
    then forget all but two.

    Everything is written and flushed under another name first and then renamed, and what is
    forgotten is renamed before it is deleted, so a kill leaves no half checkpoint. The first
    process writes; split weights are put together for it, so any number of processes can go on from
    there.

    Args:
        run_dir: of the run.
        step: that was done last.
        lm, optimizer, scheduler: their state is saved.
        rows: of the log.
        identity: what the run is, as plain json; `load_checkpoint` compares it.
        memory: what its method remembers, as plain json.
    Returns:
        the new folder.
    Raises:
        FloatingPointError: if weights or optimiser hold values that are not finite.
        RuntimeError: if the folder cannot be written; the checkpoints before it are whole.
    """
    tensors, plain = _flatten(optimizer.state_dict())
    weights = None
    if is_sharded(lm):
        weights = {k: full_tensor(v).cpu() for k, v in lm.backbone.state_dict().items()}
    trained = weights or trained_tensors(lm)
    wrong = first_not_finite(trained) or first_not_finite(tensors)
    if wrong:
        raise FloatingPointError(f"{wrong} is not finite after this step: lower lr or grad_clip")
    folder = run_dir / "checkpoints" / f"step-{step:06d}"
    if process_rank():
        return folder
    state = {
        "step": step,
        "identity": identity,
        "optimizer": plain,
        "scheduler": scheduler.state_dict(),
        "rows": rows,
        "memory": memory or {},
    }
    new = folder.with_suffix(".new")
    size = sum(tensor.nbytes for tensor in [*trained.values(), *tensors.values()])
    with writing(folder, new, size):
        write_state(new, lm, weights, tensors, state)
        discard(folder)
        new.rename(folder)
        for old in complete_checkpoints(run_dir)[:-2]:
            discard(old)
    return folder


def write_state(new: Path, lm, weights: dict | None, tensors: dict, state: dict) -> None:
    """Write a whole training state into a new folder, and flush it to the disk; what an earlier
    process left there is deleted. weights: of a model that does not hold them whole; tensors: of
    the optimiser; state: the rest, as plain json."""
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    if lm.has_adapters:
        save_adapters(lm, new / "model")
    else:
        lm.save_pretrained(new / "model", weights)
    save_file(tensors, new / "optimizer.safetensors")
    (new / "state.json").write_text(json.dumps(state))
    for path in [*new.rglob("*"), new]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def discard(folder: Path) -> None:
    """Delete a checkpoint, which is no complete one from the first moment on."""
    if folder.exists():
        old = folder.with_suffix(".old")
        folder.rename(old)
        shutil.rmtree(old)


def tidy_checkpoints(run_dir: Path) -> None:
    """Delete what a killed process left half written or half deleted, and nothing else."""
    for path in (run_dir / "checkpoints").glob("step-*"):
        if re.fullmatch(r"step-\d{6,}\.(new|old)", path.name):
            shutil.rmtree(path, ignore_errors=True)


def write_log(path: Path, rows: list[dict]) -> None:
    """Write the whole log, atomically: one row per step, the union of all columns."""
    log = pd.DataFrame(rows, dtype=object)  # object: integers stay integers beside empty cells
    write_atomically(path, log.to_csv(index=False))


def complete_checkpoints(run_dir: Path) -> list[Path]:
    """The finished checkpoint folders of a run, oldest first; a copy such as step-000001-keep is
    none."""
    found = []
    for path in (run_dir / "checkpoints").glob("step-*"):
        if re.fullmatch(r"step-\d{6,}", path.name) and path.is_dir():
            found.append(path)
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def load_checkpoint(
    folder: Path, lm, optimizer, scheduler, identity: dict, memory: dict | None = None
) -> tuple[int, list[dict]]:
    """Restore everything in place, an empty `memory` included; returns (step, log rows).

    Raises ValueError naming the folder and what to do where it is of another run, step or model, a
    file is missing or truncated, or a value is not finite.
    """
    state = read_state(folder, identity)
    try:
        weights = restore_model(folder / "model", lm)
        tensors = load_file(folder / "optimizer.safetensors")
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.load_state_dict(_unflatten(tensors, state["optimizer"], trained))
        scheduler.load_state_dict(state["scheduler"])
        if memory is not None:
            memory.update(state.get("memory", {}))
    except torch.OutOfMemoryError:  # the checkpoint may be whole
        raise
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise damaged(folder, error) from error
    check_finite(folder, weights | tensors)
    return state["step"], state["rows"]


def read_state(folder: Path, identity: dict) -> dict:
    """A checkpoint's state.json, of the step that its folder names and of the run `identity`.

    An older one does not say what run it is of, and is taken as it stands. Raises ValueError.
    """
    try:
        state = read_object(folder / "state.json")
        step = state["step"]
        if state["rows"][-1]["step"] > step:
            raise ValueError("its log is longer than its run")
        of_another_run = differences(state.get("identity", {}), identity)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise damaged(folder, error) from error
    if folder.name != f"step-{step:06d}":
        raise ValueError(
            f"the checkpoint {folder} holds step {step}: give the folder its old name, "
            f"step-{step:06d}, or move it away"
        )
    if of_another_run:
        raise ValueError(
            f"the checkpoint {folder} is of another run ({of_another_run}): bring back what it "
            "started from, or choose another run_dir"
        )
    return state


def damaged(folder: Path, error: Exception) -> ValueError:
    """What to do about a checkpoint that cannot be read."""
    if isinstance(error.__cause__ or error, PermissionError):
        return ValueError(f"the checkpoint {folder} cannot be read ({error}): make it readable")
    return ValueError(
        f"the checkpoint {folder} is damaged ({type(error).__name__}: {str(error)[:200]}); "
        "delete this folder to resume from the one before it"
    )


def differences(found: dict, wanted: dict) -> str:
    """What two descriptions of a run say differently of what both name, in words; empty: nothing.

    Lists and tuples are the same, as in json.
    """
    wanted = json.loads(json.dumps(wanted))
    return ", ".join(
        f"{name} {found[name]!r} -> {wanted[name]!r}"
        for name in sorted(found.keys() & wanted)
        if found[name] != wanted[name]
    )


def trained_tensors(lm) -> dict[str, Tensor]:
    """What a checkpoint holds of a model: its adapters if it has some, else all its weights."""
    return adapter_parameters(lm) if lm.has_adapters else lm.backbone.state_dict()


def first_not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            return name
    return None


def check_finite(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Raise ValueError if a checkpoint's tensors hold NaN or infinity."""
    wrong = first_not_finite(tensors)
    if wrong:
        raise ValueError(
            f"the checkpoint {folder} holds NaN or infinity in {wrong}: delete this folder to "
            "resume from the one before it"
        )


def restore_model(folder: Path, lm) -> dict[str, Tensor]:
    """Put a checkpoint's weights into a model, in place; its adapters alone, where the model has
    some. Returns what the file holds."""
    if lm.has_adapters:
        adapters = load_file(folder / "adapter_model.safetensors")
        restore_adapters(lm, adapters)
        return adapters
    weights = load_file(folder / "model.safetensors")
    if lm.backbone.config.tie_word_embeddings:  # the file holds a tied head once, as the embedding
        weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    own = lm.backbone.state_dict()
    lm.backbone.load_state_dict(
        {k: split_like(v, own.get(k, v)) for k, v in weights.items()}, strict=True
    )
    return weights


def _flatten(state: dict) -> tuple[dict[str, torch.Tensor], dict]:
    """An optimiser state as named tensors and plain json."""
    tensors = {
        f"{i}.{k}": full_tensor(v).contiguous()
        for i, slot in state["state"].items()
        for k, v in slot.items()
    }
    return tensors, {"param_groups": state["param_groups"]}


def _unflatten(
    tensors: dict[str, torch.Tensor], plain: dict, trained: list[torch.nn.Parameter]
) -> dict:
    state: dict[int, dict] = {}
    for name, value in tensors.items():
        i, k = name.split(".", 1)
        state.setdefault(int(i), {})[k] = split_like(value, trained[int(i)])
    return {"state": state, "param_groups": plain["param_groups"]}
