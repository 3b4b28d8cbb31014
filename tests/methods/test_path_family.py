"""Records of dice and of credit along the path: what each changes, that it trains, and what it may
cost."""

from dataclasses import replace

import pytest
import torch
from updates import check_a_step, graded, logged

from dllm_rl_lite.methods import METHODS, PATHS, part
from dllm_rl_lite.sampler import exit_dice, tree_dice
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.training import TrainConfig, collect

SMALL = {"prompts": 2, "group": 4, "tokens_per_step": 4}


def run(folder, name, steps=2, **numbers):
    return TrainConfig(
        method=name,
        steps=steps,
        run_dir=str(folder / name),
        eval_every=0,
        eval_problems=1,
        numbers={**SMALL, **numbers},
    )


@pytest.mark.parametrize("name", PATHS)
def test_it_trains_within_the_dry_runs_bound(tmp_path, name):
    """A step has a gradient and finite numbers, and takes no more passes than the dry run's, whose
    rows all have an advantage and are computed apart."""
    config = run(tmp_path, name)
    row = check_a_step(config, graded)
    assert row["ratio_spread"] > 0 or not METHODS[name].objective.uses_old


def test_dice_of_ones_own_are_the_parent_to_the_bit(tmp_path):
    """A window of all steps, as a whole run."""
    window = {"first": 0, "width": 4}
    mixed = logged(run(tmp_path, "mix-grpo-style", dice=window))
    assert mixed == logged(run(tmp_path, "grpo"))


def one_batch(policy, name, parts=1, **numbers):
    task = replace(load_task("chain2"), length=8)
    method = METHODS[name]
    n = method.numbers("tiny", **{**SMALL, "tokens_per_step": 2, **numbers})
    noise = [torch.Generator().manual_seed(seed) for seed in range(parts)]
    problems = task.sample(2, "train", 0)
    return n, collect(policy, task, graded, method, n, problems, noise)


@pytest.mark.parametrize("name", [name for name in PATHS if PATHS[name].dice])
def test_dice_belong_to_their_groups(policy, name):
    """Rolled out in two parts, the table of the whole batch is that of its groups; numbers of the
    table are the caller's."""
    n, batch = one_batch(policy, name, parts=2)
    rollout = batch.rollout
    assert rollout.dice.shape == (4, 8)
    for group in (slice(0, 4), slice(4, 8)):
        canvas = rollout.canvas_at(1)[group]
        whose = rollout.dice[0, group]
        same = (canvas[:, None] == canvas).all(-1)
        equal = whose[:, None] == whose
        if name == "s-grpo":  # who leaves at once has filled its blanks
            equal &= (rollout.n_forwards[group] > 1)[:, None]
            equal &= equal.T.clone()
        assert same[equal].all()
    if "sizes" in n.dice:
        _, plain = one_batch(policy, name, dice={"sizes": "1"})
        assert len(plain.rollout.dice[0].unique()) == 8


def test_greedy_steps_cost_an_update_nothing(tmp_path):
    """The views of steps without dice take no pass: one step of four is scored."""
    (_, one) = logged(run(tmp_path, "mix-grpo-style", steps=1, dice={"first": 1, "width": 1}))
    (_, all_four) = logged(run(tmp_path, "grpo", steps=1))
    assert one["forwards_update"] <= all_four["forwards_update"] / 4


def test_tw_grpo_counts_its_own_pass(policy):
    """A row's pass through its half-written canvas is a pass of the rollouts."""
    _, plain = one_batch(policy.lm, "grpo")
    _, more = one_batch(policy.lm, "tw-grpo")
    assert more.log["forwards_rollout"] == plain.log["forwards_rollout"] + 8


def test_exits_share_the_path(policy):
    """S-GRPO's group costs as many canvases as its path has steps, and later right exits earn
    less."""
    n, batch = one_batch(policy.lm, "s-grpo")
    assert batch.log["forwards_rollout"] < 8 * 4
    assert batch.log["computed_rollout"] == 2 * 4
    assert n.shape == {"factor": 0.5}


def test_what_dice_cannot_be_combined_with_is_named():
    with pytest.raises(ValueError, match="ag-grpo: guided rows cannot use a table of dice"):
        replace(METHODS["ag-grpo"], dice=tree_dice)
    with pytest.raises(ValueError, match="unknown dice number of treepo 'size'; did you mean"):
        METHODS["treepo"].numbers("tiny", dice={"size": "8 4"})
    with pytest.raises(ValueError, match="known: generator, group, steps"):
        replace(METHODS["grpo"], dice=part(needs_rewards))
    assert METHODS["s-grpo"].dice == part(exit_dice)
    assert METHODS["treepo"].dice == part(tree_dice, sizes="")


def needs_rewards(steps, group, rewards):
    return rewards
