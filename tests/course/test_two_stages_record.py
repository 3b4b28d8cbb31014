"""What the chapter *Before and beside reinforcement* says of two stages comes from their record."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from dllm_rl_course import two_stages

from dllm_rl_lite.evaluation import t_interval

RESULTS = Path(__file__).parents[2] / "notebooks" / "results"


def test_differences_are_paired_by_seed():
    """Equal noise in both cancels; a star says that 0 is outside the interval."""
    assert two_stages.difference([50.0, 60.0, 70.0], [45.0, 55.0, 65.0]) == "+5.0 ± 0.0*"
    one, other = [50.0, 60.0, 71.0], [52.0, 50.0, 70.0]
    mean, half = t_interval([-2.0, 10.0, 1.0])
    assert two_stages.difference(one, other) == f"{mean:+.1f} ± {half:.1f}" and half > mean


def test_rows_of_the_table_are_those_of_the_record():
    table = two_stages.recorded(RESULTS)
    of_chain2 = table[(table["task"] == "chain2") & (table["texts"] == "greedy")]
    rows = {row["recipe"]: row for row in two_stages.accuracy_rows(RESULTS)}
    for recipe in ("ton", "sft 20, then grpo", "sft 80, then grpo", "ton 80, then grpo"):
        own = of_chain2[of_chain2["recipe"] == recipe]["accuracy"]
        assert float(rows[recipe]["mean"]) == pytest.approx(100 * own.mean(), abs=0.06)
    assert "minus sft" not in rows["sft"] and "minus grpo" not in rows["grpo"]
    bare = table[(table["recipe"] == "ton") & (table["task"] == "chain2")]["bare"]
    assert len(two_stages.format_rows(table)) == 2 * len(bare)
    mixed = [float(row["mixed"]) for row in two_stages.group_rows(table)]
    assert len(mixed) == 5 and 0 <= min(mixed) and max(mixed) <= 100


def test_curves_count_the_passes_of_all_stages():
    """They never go back, and a second stage starts where the first ended."""
    curves = two_stages.validation_curves(RESULTS)
    assert list(curves) == list(two_stages.LOOKS)
    for runs in curves.values():
        assert len(runs) == 5
        for run in runs:
            assert run["computed"].iloc[0] == 0 and run["computed"].is_monotonic_increasing
            last = run[run["stage"] == 1].iloc[-1]
            second = run[run["stage"] == 2]
            if len(second):
                assert second.iloc[0]["computed"] == last["computed"]
                assert second.iloc[0]["accuracy"] == pytest.approx(last["accuracy"])


def test_the_figure_marks_where_fine_tuning_ends():
    stages = [1, 1, 2, 2]
    run = pd.DataFrame({"computed": [0, 100, 100, 900], "accuracy": [0.2, 0.5, 0.5, 0.9]})
    fig = two_stages.draw_accuracy({"sft 20, then grpo": [run.assign(stage=stages)]})
    line, dot = fig.axes[0].lines
    assert line.get_label() == "sft 20, then grpo"
    assert dot.get_xdata()[0] == pytest.approx(0.1)
    plt.close(fig)
