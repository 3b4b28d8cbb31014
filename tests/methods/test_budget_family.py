"""Records of curricula, budgets and starts: what each changes, that it trains, and that where
nothing is given or charged it is its parent."""

import json
import random
from dataclasses import replace

import pytest
import torch
from updates import check_a_step, graded

from dllm_rl_lite.estimators import token_logprobs
from dllm_rl_lite.methods import BUDGETS, METHODS, part
from dllm_rl_lite.models import decode, load_lm
from dllm_rl_lite.planning.dry_run import write_first_again
from dllm_rl_lite.sampler import own_dice
from dllm_rl_lite.tasks import load_task, refine_best, remember_groups, rewards_of, seeded
from dllm_rl_lite.training import TrainConfig, collect, collect_step, prepare
from dllm_rl_lite.training.problems import Progress

SMALL = {"prompts": 4, "group": 4, "tokens_per_step": 4}
STARTS = [name for name in BUDGETS if METHODS[name].start]


def one_batch(lm, name, memory, task="chain2", parts=1, **numbers):
    """(numbers, batch) of four problems at step 5."""
    task = load_task(task)
    method = METHODS[name]
    n = method.numbers("tiny", **{**SMALL, **numbers})
    noise = [torch.Generator().manual_seed(seed) for seed in range(parts)]
    problems = task.sample(n.prompts, "train", 0)
    progress = Progress(step=5, memory=memory)
    return n, collect(lm, task, graded, method, n, problems, noise, progress=progress)


@pytest.fixture(scope="module")
def memory():
    """Of four problems the first two were all wrong, the others all right."""
    task = load_task("chain2")
    examples = [e for e in task.sample(4, "train", 0) for _ in range(2)]
    rewards = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    texts = [task.demonstrate(e, random.Random(0), 0.0) for e in examples]
    return remember_groups({}, examples, rewards, texts, 4)


OFF = {
    "ada-grpo": {"shape": {"strength": 0.0}},
    "grpo-lambda": {"shape": {"weight": 0.0}},
    "pass-penalty": {"shape": {"share": 0.0}},
    "train-long-style": {"shape": {"cheap": 0.0}},
    "xrpo-seeding": {"start": {"share": 0.0}},
    "rest-grpo": {"start": {"levels": 1}, "groups": {"least": 1e-9}},
    "hints": {"start": {"most": 0.0}},
}


@pytest.fixture(scope="module")
def parents(policy):
    names = ("grpo", "gated-grpo", "grpo-pool")
    return {name: one_batch(policy, name, {})[1] for name in names}


@pytest.mark.parametrize("name", OFF)
def test_switched_off_it_is_its_parent_to_the_bit(policy, parents, memory, name):
    """Strength, weight or share 0: the same texts, written in the same order, and the same
    advantages."""
    wanted = parents[METHODS[name].parent]
    _, off = one_batch(policy, name, memory, **OFF[name])
    for field in ("tokens", "unmask_step", "logprob", "n_forwards"):
        assert torch.equal(getattr(off.rollout, field), getattr(wanted.rollout, field))
    assert torch.equal(off.advantage, wanted.advantage)


# ---------------------------------------------------------------- given tokens

SHOWN = {"xrpo-seeding": [8, 8, 0, 0], "hints": [4, 4, 0, 0], "rest-grpo": [0, 0, None, None]}


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", STARTS)
def test_siblings_start_from_the_same_tokens_and_keep_them(policy, memory, name, parts):
    """As many as the record says, on the canvases of all siblings, in one rollout call or two; they
    stand there before the first pass."""
    _, batch = one_batch(policy, name, memory, parts=parts)
    rollout = batch.rollout
    given = ~rollout.sampled
    assert torch.equal(rollout.canvas_at(0) != rollout.mask_id, given)
    for i, wanted in enumerate(SHOWN[name]):
        rows = slice(4 * i, 4 * i + 4)
        assert (given[rows] == given[4 * i]).all()
        same = torch.where(given[rows], rollout.tokens[rows], -1)
        assert (same == same[0]).all()
        assert wanted is None or (given[rows].sum(1) == wanted).all()
    assert batch.log["given_tokens"] == pytest.approx(given.float().mean().item())
    assert given.any()


@pytest.mark.parametrize("name", STARTS)
def test_given_tokens_are_never_scored(policy, memory, name):
    """No view scores them, so they have no likelihood and no gradient; each other word is scored
    once, on a canvas where the given ones stand."""
    n, batch = one_batch(policy, name, memory)
    rollout = batch.rollout
    views = METHODS[name].views(rollout=rollout, **n.views)
    scored = torch.stack([view.scored for view in views]).sum(0)
    assert (scored[~rollout.sampled] == 0).all() and (scored <= 1).all()
    for view in views:
        canvas = view.tokens[:, -rollout.tokens.shape[1] :]
        assert torch.equal(canvas[~rollout.sampled], rollout.tokens[~rollout.sampled])
        values = token_logprobs(policy, rollout, view)
        assert (values[~rollout.sampled] == 0).all()


def never(completions, **columns):
    return [0.0] * len(completions)


def test_a_problem_that_comes_again_is_seeded(tmp_path):
    """After a step whose texts were all wrong, which the run remembers as plain json."""
    config = run(tmp_path, "xrpo-seeding")
    own = prepare(config, config.load_task(), never)
    first = collect_step(own, 1)
    assert first.log["given_tokens"] == 0
    assert json.loads(json.dumps(own.memory)) == own.memory and len(own.memory) == 2
    again = collect_step(own, 1)
    assert again.log["given_tokens"] == 0.5
    # What was given was not drawn, and has no entropy.
    drawn = again.rollout.entropy[again.rollout.sampled]
    assert again.log["entropy"] == pytest.approx(drawn.mean().item())


def test_a_full_canvas_is_named(policy, memory):
    with pytest.raises(ValueError, match="start.share of 1 of a canvas of 16 tokens"):
        one_batch(policy, "xrpo-seeding", memory, start={"share": 1.0})


# ---------------------------------------------------------------- refinement


def test_a_refined_row_begins_as_its_best_sibling():
    """The shipped model meets some items of Sudoku's rubric. Each group whose best text fails one
    has one row that began with the rest of that text; its place was the worst, and the rewards are
    the rubric's."""
    lm = load_lm(TrainConfig.model)
    _, batch = one_batch(lm, "rgr-style", {}, task="sudoku4", prompts=8, group=2)
    rollout, tokenizer = batch.rollout, lm.tokenizer
    task = load_task("sudoku4")
    refined = (~rollout.sampled).any(1)
    assert 0 < batch.log["reward"] < 1 and refined.any() and not refined.view(8, 2).any(1).all()
    for i, problem in enumerate(task.sample(8, "train", 0)):
        rows = torch.arange(2 * i, 2 * i + 2)
        others = rollout.select(rows[~refined[rows]])
        examples = [problem] * len(others.tokens)
        texts = decode(tokenizer, others.tokens)
        rewards = torch.tensor(rewards_of(task.rubric_reward, examples, texts))
        places, canvas = refine_best(task, tokenizer, examples, others, rewards[None])
        assert len(places) == refined[rows].sum() == (rewards.max() < 1)
        if len(places):
            (row,) = rows[refined[rows]]
            assert torch.equal(rollout.canvas_at(0)[row], canvas[0])


def run(folder, name, task="chain2"):
    return TrainConfig(
        method=name, task=task, run_dir=str(folder), preset="tiny", numbers=SMALL | {"prompts": 2}
    )


def test_it_trains_within_the_dry_runs_bound(tmp_path):
    """A step takes no more passes than the dry run's, whose rows are computed apart, and where one
    row of each group is written again."""
    config = run(tmp_path, "rgr-style", "sudoku4")
    check_a_step(config)


def test_the_dry_run_writes_one_row_of_each_group_again(policy):
    """Whatever the texts are: so many passes can a step take."""
    method = replace(METHODS["rgr-style"], refine=write_first_again)
    n = method.numbers("tiny", **SMALL)
    task = load_task("sudoku4")
    problems = task.sample(4, "train", 0)
    batch = collect(policy.lm, task, graded, method, n, problems, torch.Generator().manual_seed(0))
    assert batch.log["given_tokens"] == 0
    assert batch.log["forwards_rollout"] == (16 + 4) * 5


def test_what_refinement_and_starts_cannot_be_combined_with_is_named():
    grpo = METHODS["grpo"]
    with pytest.raises(ValueError, match="ag-grpo: start and refine are for whole groups"):
        replace(METHODS["ag-grpo"], start=seeded)
    with pytest.raises(ValueError, match="grpo: rows that are written again have dice"):
        replace(grpo, refine=refine_best, dice=own_dice)
    with pytest.raises(ValueError, match="reward 'final' texts"):
        replace(METHODS["ta-agrpo"], refine=refine_best)
    with pytest.raises(ValueError, match="unknown start number of hints 'mots'; did you mean"):
        METHODS["hints"].numbers("tiny", start={"mots": 0.1})
    assert METHODS["rgr-style"].refine == part(refine_best)
