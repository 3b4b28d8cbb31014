"""The dry run: a step of the run's own, counted by hooks as training counts itself, scaled to the
whole run, and gone without a trace."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from large import run_8b
from updates import RUN_APART

from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.models import MaskedDiffusionLM
from dllm_rl_lite.planning import check_memory, plan
from dllm_rl_lite.planning.dry_run import Measured, measure, span
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig, collect_step, prepare, read_config, update_policy

ROOT = Path(__file__).parents[2]
RECIPES = sorted(
    p
    for p in (ROOT / "notebooks" / "configs").glob("*.yaml")
    if not p.name.startswith("accelerate")
)
GIB = 2**30


def config(tmp_path, **changes) -> TrainConfig:
    base = {
        "task": "chain2",
        "steps": 2,
        "eval_every": 0,
        "eval_problems": 8,
        "run_dir": str(tmp_path / "run"),
    }
    numbers = {"prompts": 2, "group": 4} | changes.pop("numbers", {})
    return TrainConfig(**{**base, **changes, "numbers": numbers})


def silent(line):
    pass


def uneven(completions, **columns):
    """Every sibling has another reward, so every row has an advantage."""
    return [(0.0, 1.0, 3.0, 7.0)[i % 4] + 0.01 * (len(c) % 5) for i, c in enumerate(completions)]


@pytest.mark.parametrize("method", sorted(RUN_APART))
def test_hooks_count_the_passes_that_training_logs(tmp_path, method):
    guide = {"guide": {"rows": 2}} if METHODS[method].tiny.guide else {}
    c = config(tmp_path, method=method, numbers=guide)
    run = prepare(c, c.load_task(), uneven)
    run.lm.shares_rows = False
    if isinstance(run.reference, MaskedDiffusionLM):
        run.reference.shares_rows = False
    for step in (1, 2):
        rollouts, batch = measure(run, lambda step=step: collect_step(run, step))
        update, log = measure(run, lambda b=batch, step=step: update_policy(run, b, step))
        assert rollouts.passes == batch.log["forwards_rollout"] > 0
        assert update.passes == log["forwards_update"] > 0
        width = batch.rollout.prompt.shape[1] + batch.rollout.tokens.shape[1]
        assert rollouts.tokens + update.tokens == (rollouts.passes + update.passes) * width
    assert not run.lm.backbone.model._forward_pre_hooks


@pytest.mark.parametrize(
    "changes",
    [
        {"numbers": {"guide": {"rows": 2, "importance": 2.0}}},
        {"numbers": {"guide": {"rows": 4, "repredict": False}}},
        {"lora_targets": "all", "lora_r": 4, "gradient_checkpointing": True, "micro_batch": 2},
        {"cache": "dual", "rollout_batch": 4},
    ],
    ids=str,
)
def test_weights_adapters_and_caches_are_counted_too(tmp_path, changes):
    c = config(tmp_path, method="ag-grpo", task="chain", **changes)
    run = prepare(c, c.load_task(), uneven)
    run.lm.shares_rows = False
    if isinstance(run.reference, MaskedDiffusionLM):
        run.reference.shares_rows = False
    rollouts, batch = measure(run, lambda: collect_step(run, 1))
    update, log = measure(run, lambda: update_policy(run, batch, 1))
    assert rollouts.passes == batch.log["forwards_rollout"]
    assert update.passes == log["forwards_update"]


def test_a_plan_of_pairs_takes_two_rows_of_each_group(tmp_path):
    """Of an odd group too; it plans what a step takes in which every group has a pair."""
    c = config(tmp_path, method="dpo", numbers={"group": 3})
    run = prepare(c, c.load_task(), uneven)
    run.lm.shares_rows = False
    run.reference.shares_rows = False
    batch = collect_step(run, 1)
    log = update_policy(run, batch, 1)
    assert (batch.advantage != 0).view(2, 3).sum(1).tolist() == [2, 2]
    assert plan(c, say=silent).update.passes == log["forwards_update"]


@pytest.fixture(scope="module")
def fixed():
    """The plan of a run with a fixed schedule, and of which the small step is all."""
    c = TrainConfig(
        method="agrpo",
        steps=20,
        run_dir="none/of/this",
        eval_problems=32,
        numbers={"prompts": 4, "group": 4},
    )
    return plan(c, say=silent)


def test_the_plan_says_what_a_run_would_do(fixed):
    said = str(fixed)
    flat = " ".join(said.split())
    assert "agrpo on chain2, 20 steps, on cpu" in said
    assert "trains 1,092,992 of 1,092,992 parameters (100.00 %)" in said
    assert "prompts of 7 tokens on average, 7 at most" in said
    assert "4 prompts x 4 texts of 16 tokens = 16 rows" in said
    assert "128 of one row per step in rollouts (8.0 per text), at most 64 in updates" in flat
    assert "4,608 in 20 steps and 3 evaluations" in flat
    assert fixed.total("passes") == 20 * (128 + 64) + 3 * 32 * 8
    assert fixed.total("tokens") == 4608 * 23 and "105,984 through the model" in said
    assert fixed.known.checkpoint == 12 * 1_092_992 and "13 MiB each" in said
    assert re.search(r"free now \S+ GiB per process", flat) and "it fits" in said
    assert max(map(len, said.splitlines())) <= 100
    assert not Path("none").exists(), "a dry run writes nothing"


def test_a_run_costs_what_the_plan_of_a_few_prompts_says(tmp_path):
    """All rows have an advantage, so the update takes as many passes as it can."""
    c = config(tmp_path, method="diffu-grpo", eval_every=1, numbers={"prompts": 8})
    p = plan(c, reward=uneven, say=silent)
    assert p.scale == 2 and p.evaluations == 3
    rows = train(c, uneven, say=silent).rows
    spent = sum(row.get("forwards_rollout", 0) + row.get("forwards_update", 0) for row in rows)
    assert p.total("passes") == spent + 8 * sum(row["eval_forwards"] for row in rows)
    budget = plan(replace(c, forwards=spent - 1, steps=50), reward=uneven, say=silent)
    assert budget.steps == 2


def test_rows_of_no_advantage_are_counted_all_the_same(tmp_path):
    c = config(tmp_path, method="agrpo", numbers={"prompts": 4})
    tied = plan(c, reward=lambda completions, **_: [1.0] * len(completions), say=silent)
    assert tied.update.passes == plan(c, reward=uneven, say=silent).update.passes == 16 * 4


def test_time_and_memory_scale_with_the_rows(fixed):
    rollouts = Measured(passes=128, tokens=0, seconds=2.0, memory=100)
    update = Measured(passes=64, tokens=0, seconds=6.0, memory=fixed.known.gradients + 1000)
    p = replace(fixed, rollouts=rollouts, update=update)
    evaluation = 3 * 32 / 16 * 2
    low, high = 20 * (2 + 6 / 2) + evaluation, 1.25 * (20 * (2 + 6) + evaluation)
    assert p.seconds == pytest.approx((low, high))
    assert replace(p, processes=4).seconds == pytest.approx((low / 4, high / 4))
    held = fixed.known.total - fixed.known.gradients
    assert p.memory("rollouts") == held + 100 and p.memory("update") == fixed.known.total + 1000
    wider = replace(p, config=replace(p.config, numbers={"prompts": 32, "group": 4}))
    assert wider.memory("update") == fixed.known.total + 8000
    assert (
        replace(wider, config=replace(wider.config, micro_batch=4)).memory("update")
        == fixed.known.total + 250
    )
    full = replace(wider, free=fixed.known.total + 4000)
    assert "too much, set micro_batch=64 (now all 128 rows)" in " ".join(str(full).split())


def test_split_weights_are_planned_but_not_measured(tmp_path):
    c = config(tmp_path, shard=True)
    p = plan(c, processes=2, say=silent)
    assert p.small is None and "not measured" in str(p) and "processes: 2" in str(p)


def test_what_does_not_fit_is_not_loaded_but_advised(tmp_path, monkeypatch):
    monkeypatch.setattr("dllm_rl_lite.planning.memory.available_memory", lambda device: 15 * GIB)
    c = run_8b(tmp_path, task="chain2", length=256)
    with pytest.raises(ValueError, match="15.0 GiB are free: set quantize=4bit, which needs"):
        plan(c, say=silent)


def test_memory_that_ends_in_the_small_step_says_what_to_lower(tmp_path, monkeypatch):
    def full(*arguments, **named):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("dllm_rl_lite.training.update.token_logprobs", full)
    with pytest.raises(RuntimeError, match=r"in the update: set micro_batch=4 \(now all 8 rows\)"):
        plan(config(tmp_path), say=silent)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_fits_its_gpus(tmp_path, path):
    tiny = path.stem == "quickstart"
    c, start = read_config(path, {} if tiny else {"model": run_8b(tmp_path).model})
    check_memory(c, start["processes"], 79 * GIB)


@pytest.mark.parametrize(
    "seconds, words",
    [
        ((0.36, 0.72), "0.36 to 0.72 seconds"),
        ((360, 720), "6 to 12 minutes"),
        ((3600, 10800), "1 to 3 hours"),
        ((86400, 3 * 86400), "1 to 3 days"),
    ],
)
def test_time_is_said_in_the_unit_that_reads_best(seconds, words):
    assert span(*seconds) == words
