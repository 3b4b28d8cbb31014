"""Fine-tuning and then reinforcement: one budget for all stages, and a record without a hole."""

import pandas as pd
import pytest
import two_stages
from two_stages import RECIPES, RESULTS, TASK, TESTED, TEXTS, Stage, train_recipe

from dllm_rl_lite.evaluation import read_results, records


def test_stages_share_one_budget(tmp_path):
    """The second stage starts where the first ended, and stops when both have spent the passes."""
    budget = 200
    stages = [Stage("sft", 1), Stage("grpo")]
    _, curve = train_recipe(stages, 0, budget, tmp_path)
    assert [(point["stage"], point["batch"]) for point in curve] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert [point["method"] for point in curve] == ["sft", "sft", "grpo", "grpo"]
    _, first, second, last = curve
    assert first["accuracy"] == second["accuracy"] and first["computed"] == second["computed"]
    assert 0 < first["computed"] < budget <= last["computed"]


def test_bare_texts_are_those_without_working(monkeypatch):
    written = [
        {"completion": "<answer>3</answer>", "reward": 1.0},
        {"completion": "<answer>4</answer>", "reward": 0.0},
        {"completion": "1+2=3<answer>3</answer>", "reward": 1.0},
    ]

    class Report:
        generations = written

    asked = []

    def evaluate(lm, task, decoding, n):
        asked.append((decoding.rule and decoding.rule.order, decoding.temperature))
        return Report

    monkeypatch.setattr(two_stages, "evaluate", evaluate)
    for texts in TEXTS:
        found = two_stages.shares(None, "chain1", texts)
        assert found["problems"] == 3
        assert found["accuracy"] == found["bare"] == pytest.approx(2 / 3)
        assert (found["right_bare"], found["right_worked"]) == (0.5, 1.0)
    assert asked == [(None, 0.0), (None, 1.0), ("left_to_right", 1.0)]


def test_a_mixed_group_holds_both_formats(monkeypatch):
    bare = ["<answer>1</answer>"]
    worked = ["1=1<answer>1</answer>"]
    texts = 8 * bare + 7 * bare + worked + 8 * worked + 4 * (bare + worked)

    class Report:
        generations = [{"completion": text, "reward": 1.0} for text in texts]

    monkeypatch.setattr(two_stages, "evaluate", lambda *args, samples: Report)
    found = two_stages.group_shares(None)
    assert (found["mixed"], found["problems"]) == (0.5, 32)
    assert found["bare"] == (8 + 7 + 4) / 32


def test_the_record_is_complete():
    """Every recipe, seed, task and way of writing once, at one budget; `ton` alone is the run that
    the comparison recorded."""
    table = pd.read_csv(RESULTS / "two_stages.csv")
    wanted = {
        (recipe, seed, task, texts)
        for recipe in RECIPES
        for seed in range(5)
        for task in TESTED
        for texts in TEXTS
    }
    wanted |= {(two_stages.GROUPS_OF, seed, TASK, "groups") for seed in range(5)}
    keys = list(table[list(two_stages.KEY)].itertuples(index=False, name=None))
    assert set(keys) == wanted and len(keys) == len(wanted)
    curves = pd.read_csv(RESULTS / "two_stages_curves.csv")
    spent = curves.groupby(["recipe", "seed"])["computed"].max()
    assert len(spent) == 5 * len(RECIPES)
    assert (spent.drop(two_stages.GROUPS_OF) >= two_stages.BUDGET["stages"]).all()
    compared = {
        run["seed"]: run["accuracy"]
        for run in records.results(RESULTS, "stages", task=TASK)
        if run["method"] == "ton"
    }
    for row in read_results(RESULTS / "two_stages.csv"):
        if (row["recipe"], row["task"], row["texts"]) == ("ton", TASK, "greedy"):
            assert row["accuracy"] == pytest.approx(compared[row["seed"]], abs=1e-3)
