"""The recipe of the base model: its learning rate, and a run that was stopped."""

import json
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from dllm_rl_lite.evaluation import read_log
from dllm_rl_lite.training.base_model import PretrainConfig, lr_at, pretrain

SHORT = PretrainConfig(steps=4, rows={"chain1": 4, "python": 2})


def test_the_learning_rate_is_piecewise_linear():
    config = PretrainConfig(lr=((0, 0.0), (10, 1.0), (20, 0.5)))
    assert [lr_at(step, config) for step in (0, 5, 10, 15, 20)] == [0, 0.5, 1, 0.75, 0.5]
    with pytest.raises(ValueError, match="says nothing about step 21"):
        lr_at(21, config)


def test_a_stopped_pretraining_goes_on_to_the_same_model(tmp_path):
    """Stopped after its first checkpoint, the run ends with the weights and the log of a run that
    was not stopped."""
    pretrain(SHORT, tmp_path / "whole", log_every=1, checkpoint_every=2)
    pretrain(replace(SHORT, steps=2), tmp_path / "stopped", log_every=1, checkpoint_every=2)
    pretrain(SHORT, tmp_path / "stopped", log_every=1, checkpoint_every=2)
    whole, stopped = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped")
    )
    assert whole.keys() == stopped.keys()
    assert all(weight.equal(stopped[name]) for name, weight in whole.items())
    logs = [read_log(tmp_path / name / "pretrain.csv") for name in ("whole", "stopped")]
    for log in logs:
        for row in log:
            del row["seconds"]
    assert logs[0] == logs[1] and [row["step"] for row in logs[0]] == [1, 2, 3, 4]
    record = json.loads((tmp_path / "stopped" / "pretrain.json").read_text())
    assert record["config"]["rows"] == SHORT.rows and record["parameters"] > 0
