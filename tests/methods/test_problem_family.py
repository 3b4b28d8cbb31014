"""Records of filters, pools and memory: what each changes, that it trains, and what it may cost."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from updates import check_a_step, graded, logged

from dllm_rl_lite.methods import METHODS, PROBLEMS
from dllm_rl_lite.models import decode
from dllm_rl_lite.seeds import derived_seed
from dllm_rl_lite.tasks import task_counts
from dllm_rl_lite.training import (
    TrainConfig,
    collect_step,
    complete_checkpoints,
    prepare,
)

SMALL = {"prompts": 4, "group": 4, "tokens_per_step": 4}


def right_or_wrong(completions, **columns):
    """0 or 1, more often 0."""
    return [float(sum(map(ord, text)) % 3 == 0) for text in completions]


@pytest.fixture
def run(model_folder, tmp_path):
    """Makes the configuration of a short run of a method."""

    def made(name, steps=1, **numbers):
        return TrainConfig(
            method=name,
            model=model_folder,
            preset="tiny",
            task="chain1+chain2" if name == "mt-grpo" else "chain2",
            steps=steps,
            run_dir=str(tmp_path / name),
            eval_every=0,
            eval_problems=1,
            numbers={**SMALL, **numbers},
        )

    return made


@pytest.mark.parametrize("name", PROBLEMS)
def test_it_trains_within_the_dry_runs_bound(run, name):
    """A step has a gradient and finite numbers, and takes no more passes than the dry run's."""
    config = run(name)
    check_a_step(config, graded)


def test_no_group_of_a_batch_is_dead(run):
    """With rounds enough, though groups that were drawn are."""
    config = run("dapo-sampling", rounds=20)
    own = prepare(config, config.load_task(), right_or_wrong)
    batch = collect_step(own, 1)
    assert batch.log["kept_groups"] == 4 < batch.log["drawn_groups"] < 80
    assert (batch.advantage.view(4, 4).abs().amax(1) > 0).all()
    assert batch.log["dead_groups"] > 0


def test_all_rows_are_the_parent_to_the_bit(run):
    """D3S with the share 1; before its `over` steps are done it is another run."""
    parent = logged(run("grpo"))
    whole = logged(run("d3s", rows={"share": 1.0}))
    assert [row.pop("kept_rows") for row in whole[1:]] == [16]
    assert whole == parent
    config = run("d3s")
    batch = collect_step(prepare(config, config.load_task(), graded), 1)
    assert batch.log["kept_rows"] == len(batch.advantage) == 4


@pytest.mark.parametrize("name", ["dcpo-smooth", "spo-single"])
def test_memory_is_of_the_pools_problems(run, name):
    """The checkpoint says in plain words how each prompt went."""
    group = METHODS[name].tiny.group
    config = run(name, steps=2, prompts=4, group=min(group, 4), problems={"pool": 4})
    logged(config)
    newest = complete_checkpoints(Path(config.run_dir))[-1]
    memory = json.loads((newest / "state.json").read_text())["memory"]
    pool = {e.prompt for e in config.load_task().sample(4, "train", 0)}
    assert memory.keys() <= pool
    if name == "dcpo-smooth":
        assert {known["visits"] for known in memory.values()} == {2}
        assert {known["n"] for known in memory.values()} == {8}


def test_half_a_group_for_twice_as_many_problems(run):
    """1.5 B G rows are drawn, whatever is chosen; a group's halves are of one problem, and the
    chosen ones have the widest rewards of the first half."""
    config = run("xrpo-allocation")
    own = prepare(config, config.load_task(), graded)
    asked = []
    batch = collect_step(
        replace(own, reward=lambda **known: asked.append(known) or graded(**known)), 1
    )
    first, second = asked
    assert batch.log["forwards_rollout"] == 1.5 * 4 * 4 * 4
    assert (len(first["prompts"]), len(second["prompts"]), len(batch.advantage)) == (16, 8, 16)
    texts = decode(own.lm.tokenizer, batch.rollout.tokens)
    spreads = torch.tensor(graded(first["completions"])).view(8, 2).var(1)
    chosen = spreads.argsort(descending=True, stable=True)[:4].sort().values.tolist()
    for b, problem in enumerate(chosen):
        assert second["prompts"][2 * b] == first["prompts"][2 * problem]
        assert texts[4 * b : 4 * b + 2] == first["completions"][2 * problem : 2 * problem + 2]
        assert texts[4 * b + 2 : 4 * b + 4] == second["completions"][2 * b : 2 * b + 2]


def test_each_task_gets_its_share_of_groups(run):
    """With rounds enough exactly the drawn counts, whatever is mixed."""
    config = run("mt-grpo", prompts=6, rounds=20)
    own = prepare(config, config.load_task(), right_or_wrong)
    for step in (1, 2):
        before = dict(own.memory)
        batch = collect_step(own, step)
        seed = derived_seed(config.seed, step, "problems")
        wanted = task_counts(before, ["chain1", "chain2"], 6, seed)
        prompts = batch.rollout.prompt_mask.sum(1).view(6, 4)[:, 0]
        longer = (prompts > 6).sum().item()  # the prompts of chain2
        assert batch.log["kept_groups"] == 6
        assert longer == wanted["chain2"]
    assert own.memory.keys() == {"chain1", "chain2"}


def test_what_a_record_needs_is_named(run):
    with pytest.raises(
        ValueError, match="group must be even, for xrpo-allocation draws its halves"
    ):
        METHODS["xrpo-allocation"].numbers("tiny", group=3)
    with pytest.raises(ValueError, match="xrpo-allocation: half a group has no guided rows"):
        replace(METHODS["xrpo-allocation"], dice=METHODS["treepo"].dice)
    config = replace(run("mt-grpo"), task="chain2")
    with pytest.raises(ValueError, match=r"need a mixture of tasks, .*: got 'chain2'"):
        collect_step(prepare(config, config.load_task(), graded), 1)


def test_the_loop_names_no_method_and_no_slot():
    source = (Path(__file__).parents[2] / "dllm_rl_lite" / "train.py").read_text()
    for name in ("problems", "remember", "groups", *METHODS):
        assert f".{name}" not in source and f'"{name}"' not in source
