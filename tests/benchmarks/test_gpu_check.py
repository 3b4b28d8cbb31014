"""`benchmarks/gpu_check.py` on a CPU, with a small model: its checks run, none stops the rest."""

import json

import gpu_check
import pytest


def check(folder, *names):
    """The record of some checks."""
    words = [*names, "--device", "cpu", "--small", "--work", str(folder), "--out"]
    return gpu_check.main([*words, str(folder / "gpu.json")])["checks"]


def test_on_a_cpu_both_sides_agree_to_the_bit(tmp_path):
    """bfloat16 with adapters is 1 to 5 % of the gradient off, so the comparison sees a
    difference."""
    found = check(tmp_path, "agreement")["agreement"]
    assert found["passed"], found
    for name in ("nats", "natsdual", "gradient_agrpo", "gradient_gdpo"):
        assert found[name] == 0
    assert 0.01 < found["gradient_bfloat16_cpu"] < 0.05


def test_the_large_model_is_written_loaded_planned_and_trained(tmp_path):
    """In LLaDA's layout; the passes of the two steps are those of the plan."""
    names = ("checkpoint", "loading", "planned_and_taken")
    found = check(tmp_path, *names)
    assert all(found[name]["passed"] for name in names), found
    taken = found["planned_and_taken"]
    assert taken["passes_update"] == taken["passes_update_planned"] == 2 * 2 * 2
    assert taken["passes_rollout"] == 2 * 2 * 4 and "it fits" in " ".join(taken["plan"])


def test_a_failure_is_recorded_and_the_next_check_runs(tmp_path, monkeypatch):
    """Its numbers are kept; checks that are not asked for keep their record."""

    def failing(o, found):
        found["nats"] = 0.123456
        gpu_check.require(False, "log-probabilities differ")

    checks = {"one": failing, "two": lambda o, found: None, "four_bits": failing}
    monkeypatch.setattr(gpu_check, "CHECKS", checks)
    found = check(tmp_path)
    assert list(found) == ["one", "two"]  # 4 bits need a GPU
    assert not found["one"]["passed"] and found["two"]["passed"]
    assert found["one"]["nats"] == 0.1235
    assert found["one"]["error"] == "AssertionError: log-probabilities differ"
    check(tmp_path, "two")
    assert json.loads((tmp_path / "gpu.json").read_text())["checks"] == found
    with pytest.raises(ValueError, match="did you mean 'two'"):
        check(tmp_path, "tvo")
