"""What *TA-GRPO-d* reads from the records: curves of made-up decoders and runs give the passes, the
differences and the guards that they were made with."""

import csv

import matplotlib.pyplot as plt
import pytest
from dllm_rl_course import passes
from dllm_rl_course.three_chains import taught

KEY = {"stage": "summit", "variant": "plain", "task": "sudoku4", "lr": 1e-4, "budget": 40000}
CURVE = {"schedule 2": (10.0, 50.0), "threshold 0.5": (2.0, 10.0), "threshold 0.8": (4.0, 30.0)}


def write(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    "wanted, needed", [(10, 2.0), (5, 2.0), (20, 3.0), (30, 4.0), (40, 7.0), (50.1, None)]
)
def test_passes_needed_are_read_off_straight_lines(wanted, needed):
    assert passes.passes_needed(CURVE, wanted) == needed


def test_a_decoder_that_is_worse_than_a_faster_one_counts_as_equally_good():
    curve = {"a": (2.0, 30.0), "b": (4.0, 10.0), "c": (6.0, 50.0)}
    assert passes.passes_needed(curve, 40) == 5.0


def decoder_rows(method, variant, seed, shift):
    key = KEY | {"method": method, "variant": variant, "seed": seed}
    return [
        key | {"decoder": decoder, "accuracy": accuracy / 100, "forwards": forwards - shift}
        for decoder, (forwards, accuracy) in CURVE.items()
    ]


@pytest.fixture
def models(tmp_path):
    """Two seeds each: ta-grpo-d is one pass faster than its control everywhere."""
    rows = decoder_rows("base", "plain", 0, 0) + decoder_rows("wd1", "plain", 0, 0)
    for seed in (0, 1):
        rows += decoder_rows("ag-grpo", "AF only", seed, 0.1 * seed)
        rows += decoder_rows("ta-grpo-d", "plain", seed, 1 + 0.1 * seed)
    write(tmp_path / "compare_decoders.csv", rows)
    return passes.decoded(tmp_path, "sudoku4")


def test_models_that_are_compared_are_read_with_their_seeds(models, tmp_path):
    assert list(models) == ["base", passes.CONTROL, "ta-grpo-d"]
    assert models["base"][0] == CURVE
    assert list(models["ta-grpo-d"]) == [0, 1]
    assert passes.decoded(tmp_path, "chain2") == {}
    assert list(passes.recorded(tmp_path, ("chain2", "sudoku4"))) == ["sudoku4"]


def test_savings_are_ratios_to_the_schedule_and_to_the_control(models):
    rows = {(row["as good as"], row["model"]): row for row in passes.savings(models, usual=10)}
    assert len(rows) == 6
    row = rows["base, 50.0 %", "ta-grpo-d"]
    assert row["passes"] == pytest.approx(8.95)
    assert row["of the usual %"] == pytest.approx(89.5)
    assert row["/ control"] == pytest.approx((9 / 10 + 8.9 / 9.9) / 2)
    assert row["runs"] == row["reached"] == 2
    assert "/ control" not in rows["base, 50.0 %", "base"]


def test_causes_are_paired_by_seed(models):
    rows = [row for row in passes.causes(models) if row["of"] == "passes"]
    assert [row["models"] for row in rows] == [
        f"ta-grpo-d - {passes.CONTROL}",
        f"{passes.CONTROL} - base",
    ]
    assert rows[0]["mean"] == pytest.approx(-1) and rows[0]["shown"] == "less"
    assert rows[1]["mean"] == pytest.approx(-0.05) and rows[1]["shown"] == "no difference shown"


def test_a_frontier_has_a_line_of_thresholds_and_squares_of_schedules(models):
    figure, ax = plt.subplots()
    passes.draw_frontier(ax, models)
    lines = [container.lines[0] for container in ax.containers]
    assert [line.get_marker() for line in lines] == ["o", "s"] * 3
    assert list(lines[0].get_xdata()) == [2, 4] and list(lines[1].get_ydata()) == [50]
    assert ax.get_legend_handles_labels()[1][0] == "base, 1 seed"
    plt.close(figure)


def log_rows(stage, variant, seed, rollout_passes):
    key = KEY | {"method": "ta-agrpo", "stage": stage, "variant": variant, "seed": seed}
    return [
        key
        | {"step": step, "forwards_rollout": 4000, "forwards_update": 1000}
        | {"steps_row": value, "eval_accuracy": value / 10}
        for step, value in enumerate(rollout_passes)
    ]


def test_guards_are_compared_up_to_their_budget(tmp_path):
    rows = log_rows("summit", "plain", 0, [6, 5, 4, 3, 2]) + log_rows("summit", "plain", 1, [6] * 5)
    rows += log_rows("guards", "balanced", 0, [6, 6, 5])
    write(tmp_path / "compare_curves.csv", rows)
    runs = passes.guarded_runs(tmp_path)
    assert list(runs) == ["none", "balanced"]
    assert [len(log) for log in runs["none"]] == [3, 3], "5, 10 and 15 thousand"
    none, balanced = passes.guard_table(runs)
    assert (none["passes, last"], none["fewest"], none["worst"]) == (5, 4, 40)
    assert balanced["right %, last"] == 50 and balanced["predicted"]
    figure, axes = plt.subplots(1, 2)
    passes.draw_guards(axes, runs)
    assert [len(ax.lines) for ax in axes] == [3, 3]
    plt.close(figure)


def test_nothing_recorded_is_an_empty_table(tmp_path):
    assert passes.guard_table(passes.guarded_runs(tmp_path)) == []
    assert all(row["pairs"] == 0 for row in passes.timing_alone(tmp_path))


def test_the_taught_model_is_another_one_and_the_same_again():
    first, again = taught(steps=2, rows=2), taught(steps=2, rows=2)
    assert not first.training
    weights = [model.state_dict() for model in (first, again)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
