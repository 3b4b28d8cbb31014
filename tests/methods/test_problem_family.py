"""Records of filters, pools and memory: what each changes, that it trains, and what it may cost."""

import json
import math
from pathlib import Path

import pytest
from test_grpo_family import answers

from dllm_rl_lite.methods import CORE, FAMILY, METHODS, PATHS, PROBLEMS
from dllm_rl_lite.planning.dry_run import take_step
from dllm_rl_lite.train import train
from dllm_rl_lite.training import (
    TrainConfig,
    collect_step,
    complete_checkpoints,
    prepare,
    update_policy,
)

# What each record changes of its parent's answers; all else is the same.
CHANGED = {
    "dapo-sampling": {"groups"},
    "d3s": {"rows"},
    "grpo-pool": {"problems"},
    "dcpo-smooth": {"remember", "advantage"},
    "spo-single": {"problems", "remember", "advantage"},
}
SMALL = {"prompts": 4, "group": 4, "tokens_per_step": 4}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_record_changes_what_comes_next(name):
    method = METHODS[name]
    mine, theirs = answers(method), answers(METHODS[method.parent])
    assert {key for key in mine if mine[key] != theirs[key]} == CHANGED[name]
    assert method.tiny.prompts * method.tiny.group == METHODS["grpo"].tiny.prompts * 8
    assert not PROBLEMS.keys() & (CORE.keys() | FAMILY.keys() | PATHS.keys())


def graded(completions, **columns):
    """0 or 1, more often 0."""
    return [float(sum(map(ord, text)) % 3 == 0) for text in completions]


def run(folder, name, steps=2, **numbers):
    return TrainConfig(
        method=name,
        steps=steps,
        run_dir=str(folder / name),
        eval_every=0,
        eval_problems=1,
        numbers={**SMALL, **numbers},
    )


@pytest.mark.parametrize("name", PROBLEMS)
def test_it_trains_within_the_dry_runs_bound(tmp_path, name):
    """A step has a gradient and finite numbers, and takes no more passes than the dry run's."""
    config = run(tmp_path, name)
    own = prepare(config, config.load_task(), graded)
    own.lm.shares_rows = False
    rollouts, update = take_step(own, 1)
    own.lm.shares_rows = True
    batch = collect_step(own, 2)
    row = batch.log | update_policy(own, batch, 2)
    assert all(math.isfinite(value) for value in row.values())
    assert row["grad_norm"] > 0
    assert 0 < row["computed_rollout"] <= own.numbers.rounds * rollouts.passes
    assert 0 < row["computed_update"] <= update.passes


def logged(config):
    rows = train(config, graded, say=lambda line: None).rows
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


def test_no_group_of_a_batch_is_dead(tmp_path):
    """With rounds enough, though groups that were drawn are."""
    config = run(tmp_path, "dapo-sampling", rounds=20)
    own = prepare(config, config.load_task(), graded)
    batch = collect_step(own, 1)
    assert batch.log["kept_groups"] == 4 < batch.log["drawn_groups"] < 80
    assert (batch.advantage.view(4, 4).abs().amax(1) > 0).all()
    assert batch.log["dead_groups"] > 0


def test_all_rows_are_the_parent_to_the_bit(tmp_path):
    """D3S with the share 1; before its `over` steps are done it is another run."""
    parent = logged(run(tmp_path, "grpo"))
    whole = logged(run(tmp_path, "d3s", rows={"share": 1.0}))
    assert [row.pop("kept_rows") for row in whole[1:]] == [16, 16]
    assert whole == parent
    config = run(tmp_path, "d3s")
    batch = collect_step(prepare(config, config.load_task(), graded), 1)
    assert batch.log["kept_rows"] == len(batch.advantage) == 4


@pytest.mark.parametrize("name", ["dcpo-smooth", "spo-single"])
def test_memory_is_of_the_pools_problems(tmp_path, name):
    """The checkpoint says in plain words how each prompt went."""
    group = METHODS[name].tiny.group
    config = run(tmp_path, name, prompts=4, group=min(group, 4), problems={"pool": 4})
    logged(config)
    newest = complete_checkpoints(Path(config.run_dir))[-1]
    memory = json.loads((newest / "state.json").read_text())["memory"]
    pool = {e.prompt for e in config.load_task().sample(4, "train", 0)}
    assert memory.keys() <= pool
    if name == "dcpo-smooth":
        assert {known["visits"] for known in memory.values()} == {2}
        assert {known["n"] for known in memory.values()} == {8}


def test_the_loop_names_no_method_and_no_slot():
    source = (Path(__file__).parents[2] / "dllm_rl_lite" / "train.py").read_text()
    for name in ("problems", "remember", "groups", *METHODS):
        assert f".{name}" not in source and f'"{name}"' not in source
