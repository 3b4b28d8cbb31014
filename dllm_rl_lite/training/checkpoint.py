"""Atomic, complete checkpoints: a folder that either holds a whole training state or is not there.

A run's random numbers are all derived from (seed, step, purpose), and so are its problems, so the
step is the state of the generators and of the data: `generator(seed, step, purpose)` gives the same
draws after a resume.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..files import write_atomically
from ..models import save_adapters
from ..models.adapters import adapted_layers, restore_adapters
from ..processes import full_tensor, is_sharded, process_rank, split_like


def save_checkpoint(run_dir: Path, step: int, lm, optimizer, scheduler, rows: list[dict]) -> Path:
    """Write `run_dir/checkpoints/step-000123` (model or adapters, optimiser, schedule, log so far),
    then forget all but two.

    Everything is written and flushed under another name first and then renamed, so a kill leaves no
    half checkpoint. The first process writes; split weights are put together for it, so
    any number of processes can go on from there.
    """
    weights = (
        {k: full_tensor(v).cpu() for k, v in lm.backbone.state_dict().items()}
        if is_sharded(lm)
        else None
    )
    tensors, plain = _flatten(optimizer.state_dict())
    folder = run_dir / "checkpoints" / f"step-{step:06d}"
    if process_rank():
        return folder
    new = folder.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    if adapted_layers(lm):
        save_adapters(lm, new / "model")
    else:
        lm.save_pretrained(new / "model", weights)
    save_file(tensors, new / "optimizer.safetensors")
    state = {"step": step, "optimizer": plain, "scheduler": scheduler.state_dict(), "rows": rows}
    (new / "state.json").write_text(json.dumps(state))
    for path in [*new.rglob("*"), new]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    for old in complete_checkpoints(run_dir)[:-2]:
        shutil.rmtree(old)
    return folder


def write_log(path: Path, rows: list[dict]) -> None:
    """Write the whole log, atomically: one row per step, the union of all columns."""
    log = pd.DataFrame(rows, dtype=object)  # object: integers stay integers beside empty cells
    write_atomically(path, log.to_csv(index=False))


def complete_checkpoints(run_dir: Path) -> list[Path]:
    """The finished checkpoint folders of a run, oldest first."""
    return sorted(p for p in (run_dir / "checkpoints").glob("step-*") if p.suffix == "")


def load_checkpoint(folder: Path, lm, optimizer, scheduler) -> tuple[int, list[dict]]:
    """Restore everything in place; returns (step, log rows).

    Raises ValueError naming the folder and what to do where a file is missing, truncated or of
    another model.
    """
    try:
        restore_model(folder / "model", lm)
        state = json.loads((folder / "state.json").read_text())
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.load_state_dict(
            _unflatten(load_file(folder / "optimizer.safetensors"), state["optimizer"], trained)
        )
        scheduler.load_state_dict(state["scheduler"])
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"the checkpoint {folder} is damaged ({type(error).__name__}: {str(error)[:200]}); "
            "delete this "
            "folder to resume from the one before it"
        ) from error
    return state["step"], state["rows"]


def restore_model(folder: Path, lm) -> None:
    """Put a checkpoint's weights into a model, in place; its adapters alone, where the model has
    some."""
    if adapted_layers(lm):
        restore_adapters(lm, load_file(folder / "adapter_model.safetensors"))
        return
    weights = load_file(folder / "model.safetensors")
    if lm.backbone.config.tie_word_embeddings:  # the file holds a tied head once, as the embedding
        weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    own = lm.backbone.state_dict()
    lm.backbone.load_state_dict(
        {k: split_like(v, own.get(k, v)) for k, v in weights.items()}, strict=True
    )


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
