"""What a run leaves in its folder, read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..models import MaskedDiffusionLM, load_lm
from ..processes import init_processes
from .checkpoint import check_finite, complete_checkpoints, read_state, trained_tensors
from .config import TrainConfig
from .run_dir import fixed_settings

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

    Raises ValueError where there is no checkpoint, or one that is damaged or of another run.
    """
    saved = complete_checkpoints(Path(config.run_dir))
    if not saved:
        raise ValueError(f"{config.run_dir} holds no checkpoint: the run has not come that far")
    newest = saved[-1]
    rows = read_state(newest, fixed_settings(config))["rows"]
    base = newest / "model"
    adapters = None
    if config.lora_targets:
        base = config.model
        adapters = newest / "model"
    device = init_processes(config.device)
    lm = load_lm(base, device, getattr(torch, config.dtype), adapters, config.quantize or None)
    check_finite(newest, trained_tensors(lm))
    return TrainResult(rows, lm, Path(config.run_dir))
