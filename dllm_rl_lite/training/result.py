"""What a run leaves in its folder, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from ..models import MaskedDiffusionLM, load_lm
from ..processes import init_processes
from .checkpoint import complete_checkpoints
from .config import TrainConfig

ERROR = "error in process "  # how a worker's own error begins, for who reads the lines of all


@dataclass
class TrainResult:
    """What a run returns: its log, and the trained model."""

    rows: list[dict]  # one per step, as in log.csv
    lm: MaskedDiffusionLM
    run_dir: Path

    def curve(self, column: str) -> tuple[list[int], list[float]]:
        """(steps, values) of a log column, rows without a value left out."""
        pairs = [(r["step"], r[column]) for r in self.rows if r.get(column) is not None]
        return [s for s, _ in pairs], [v for _, v in pairs]


def finished(config: TrainConfig) -> TrainResult:
    """What a run left in its folder: the log and the model of its last checkpoint, on the run's
    device and in its dtype.

    Raises ValueError where there is no checkpoint.
    """
    saved = complete_checkpoints(Path(config.run_dir))
    if not saved:
        raise ValueError(f"{config.run_dir} holds no checkpoint: the run has not come that far")
    device = init_processes(config.device)
    base, adapters = (
        (config.model, saved[-1] / "model") if config.lora_targets else (saved[-1] / "model", None)
    )
    lm = load_lm(base, device, getattr(torch, config.dtype), adapters, config.quantize or None)
    return TrainResult(
        json.loads((saved[-1] / "state.json").read_text())["rows"], lm, Path(config.run_dir)
    )
