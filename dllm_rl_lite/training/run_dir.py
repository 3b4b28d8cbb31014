"""A run's folder: locked while a run works in it, and one configuration's own from then on."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from ..files import locked, read_object, write_atomically
from ..models import MaskedDiffusionLM
from ..models.adapters import base_fingerprint
from ..processes import check_agreement, gather, process_count, process_rank, whole_weights
from ..tasks import Benchmark, Task
from .checkpoint import differences, tidy_checkpoints
from .config import TrainConfig

# What may change when a run goes on: where it is, how long it is, and what only decides memory
# (rollout_batch: also which noise is drawn), or what is saved and shown.
MAY_CHANGE_ON_RESUME = (
    "run_dir",
    "steps",
    "forwards",
    "computed",
    "rollout_batch",
    "micro_batch",
    "gradient_checkpointing",
    "shard",
    "checkpoint_every",
    "tensorboard",
)


@contextlib.contextmanager
def own_run_dir(run_dir: Path) -> Iterator[None]:
    """Hold a run's folder alone; to be called by all processes, of which the first locks it.

    What a killed run left there half written or half deleted is deleted.

    Raises:
        ValueError: in all processes, if another run holds it or it cannot hold a run.
    """
    refusal = ""
    with contextlib.ExitStack() as held:
        if process_rank() == 0:
            try:
                check_places(run_dir)
                held.enter_context(locked(run_dir / "run.lock", f"run_dir {str(run_dir)!r}"))
                tidy_checkpoints(run_dir)
            except ValueError as error:
                refusal = str(error)
        refusal = gather([refusal])[0]
        if refusal:
            raise ValueError(refusal)
        yield


def check_places(run_dir: Path) -> None:
    """Raise ValueError if something else stands where a run writes."""
    for name in ("log.csv", "config.json"):
        if (run_dir / name).is_dir():
            raise ValueError(
                f"{run_dir / name} is a folder, where a run writes a file: move it away, or choose "
                "another run_dir"
            )
    for folder in (run_dir, run_dir / "checkpoints"):
        if folder.exists() and not folder.is_dir():
            raise ValueError(
                f"{folder} is a file, where a run has a folder: move it away, or choose another "
                "run_dir"
            )


def settle_run_dir(config: TrainConfig) -> TrainConfig:
    """Check that `run_dir` is this configuration's own, or nobody's.

    A `rollout_batch` that is left open becomes what the folder says, or with several processes the
    rows of one: so a run that goes on with another number of processes draws the same noise.

    Returns:
        the configuration that runs.
    Raises:
        ValueError: if the folder holds a run that differs in more than `MAY_CHANGE_ON_RESUME`.
    """
    found = saved_settings(Path(config.run_dir))
    rows = config.rollout_batch or found.get("rollout_batch", 0)
    if not rows and process_count() > 1:
        numbers = config.resolved()
        rows = -(-numbers.prompts // process_count()) * numbers.group
    changed = differences(found, fixed_settings(config))
    if changed:
        raise ValueError(
            f"{config.run_dir} holds another run ({changed}): choose another run_dir, "
            "or delete it to start afresh"
        )
    check_agreement("view of the run folder", found)  # all have read it before one of them writes
    return replace(config, rollout_batch=rows)


def claim_run_dir(config: TrainConfig) -> None:
    """Write the configuration into its folder, which is its own from now on."""
    if process_rank() == 0:
        wanted = asdict(config) | {"run_dir": ""}
        write_atomically(Path(config.run_dir) / "config.json", json.dumps(wanted, indent=1) + "\n")


def saved_settings(run_dir: Path) -> dict:
    """The settings in a run's config.json; none if there is no such file."""
    path = run_dir / "config.json"
    if not path.exists():
        return {}
    found = read_object(path)
    if "method" not in found:  # such as a model's
        raise ValueError(f"{path} is not a run's, for it names no method: choose another run_dir")
    return asdict(TrainConfig()) | found  # older runs have fewer fields


def fixed_settings(config: TrainConfig) -> dict:
    """The settings that make a run what it is."""
    return {k: v for k, v in asdict(config).items() if k not in MAY_CHANGE_ON_RESUME}


def run_identity(config: TrainConfig, lm: MaskedDiffusionLM, data: str) -> dict:
    """What a run is, as each of its checkpoints says: settings, base model (before a checkpoint is
    restored) and `data_fingerprint`; to be called by all processes that share the model."""
    with whole_weights(lm):
        base = base_fingerprint(lm)
    return fixed_settings(config) | {"base model": base, "data file": data}


def data_fingerprint(task: Task, splits: list[str]) -> str:
    """Eight hex digits that tell two states of a benchmark's data apart; "generated" of a task that
    makes its problems."""
    if not isinstance(task, Benchmark):
        return "generated"
    digest = hashlib.blake2b(digest_size=4)
    for split in splits:
        for example in task.read(split):
            digest.update(repr(example).encode(errors="surrogatepass"))
    return digest.hexdigest()
