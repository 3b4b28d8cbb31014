"""Records of curricula, budgets and starts: what each changes, that it trains, and that where
nothing is given or charged it is its parent."""

import json
import math
from dataclasses import replace

import pytest
import torch
from test_grpo_family import answers

from dllm_rl_lite.estimators import token_logprobs
from dllm_rl_lite.methods import BUDGETS, CORE, FAMILY, METHODS, PATHS, part
from dllm_rl_lite.planning.dry_run import take_step
from dllm_rl_lite.sampler import own_dice
from dllm_rl_lite.tasks import load_task, refine_best, remember_groups, seeded
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig, collect, collect_step, prepare, update_policy
from dllm_rl_lite.training.problems import Progress

# What each record changes of GRPO's answers; all else is the same.
CHANGED = {
    "ada-grpo": {"shape"},
    "grpo-lambda": {"shape"},
    "pass-penalty": {"shape"},
    "train-long-style": {"shape"},
    "xrpo-seeding": {"start", "remember"},
    "rest-grpo": {"start", "remember"},
    "hints": {"start", "remember"},
    "rgr-style": {"refine", "surrogate"},
}
SMALL = {"prompts": 2, "group": 4, "tokens_per_step": 4}
GATED = ("grpo-lambda", "pass-penalty", "train-long-style")
STARTS = [name for name in BUDGETS if METHODS[name].start]


@pytest.mark.parametrize("name", BUDGETS)
def test_a_record_changes_rewards_or_the_start(name):
    """As the table says; of the numbers only what the record needs: the gate, or the rubric."""
    method = METHODS[name]
    mine, theirs = answers(method), answers(METHODS["grpo"])
    assert method.parent == "grpo"
    assert {key for key in mine if mine[key] != theirs[key]} == CHANGED[name]
    plain = replace(method.tiny, gate={}, verify={})
    assert plain == METHODS["grpo"].tiny
    assert bool(method.tiny.gate) == (name in GATED)
    assert method.tiny.verify == ({"rubric": True} if name == "rgr-style" else {})
    assert not BUDGETS.keys() & (CORE.keys() | FAMILY.keys() | PATHS.keys())


@pytest.mark.parametrize("name", [name for name in BUDGETS if name.endswith("-style")])
def test_what_is_reconstructed_says_so(name):
    method = METHODS[name]
    assert method.source.startswith("after ")
    function = (method.shape or method.refine).function
    assert "Source: reconstructed" in function.__doc__


def graded(completions, **columns):
    """Siblings have rewards of their own: equal texts equal ones."""
    return [(sum(map(ord, text)) % 7) / 7 for text in completions]


def never(completions, **columns):
    return [0.0] * len(completions)


def run(folder, name, steps=2, **numbers):
    return TrainConfig(
        method=name,
        task="sudoku4" if name == "rgr-style" else "chain2",
        steps=steps,
        run_dir=str(folder / name),
        eval_every=0,
        eval_problems=1,
        numbers={**SMALL, **numbers},
    )


@pytest.mark.parametrize("name", BUDGETS)
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
    assert 0 < row["computed_rollout"] <= rollouts.passes
    assert 0 < row["computed_update"] <= update.passes


def logged(config, reward=graded):
    rows = train(config, reward, say=lambda line: None).rows
    dropped = ("second", "given_tokens")
    return [{k: v for k, v in row.items() if not any(d in k for d in dropped)} for row in rows]


OFF = {
    "ada-grpo": {"shape": {"strength": 0.0}},
    "grpo-lambda": {"shape": {"weight": 0.0}, "gate": {}},
    "pass-penalty": {"shape": {"weight": 0.0}, "gate": {}},
    "train-long-style": {"shape": {"cheap": 0.0}, "gate": {}},
    "xrpo-seeding": {"start": {"share": 0.0}},
    "rest-grpo": {"start": {"levels": 1}},
    "hints": {"start": {"most": 0.0}},
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return logged(run(tmp_path_factory.mktemp("plain"), "grpo"))


@pytest.mark.parametrize("name", OFF)
def test_switched_off_it_is_its_parent_to_the_bit(tmp_path, plain, name):
    """Strength, weight or share 0, as a whole run."""
    assert logged(run(tmp_path, name, **OFF[name])) == plain


# ---------------------------------------------------------------- given tokens


def one_batch(policy, name, memory, reward=graded, task="chain2", parts=1, **numbers):
    task = load_task(task)
    method = METHODS[name]
    n = method.numbers("tiny", **{**SMALL, "prompts": 4, **numbers})
    noise = [torch.Generator().manual_seed(seed) for seed in range(parts)]
    problems = task.sample(4, "train", 0)
    progress = Progress(step=5, memory=memory)
    return n, collect(policy, task, reward, method, n, problems, noise, progress=progress)


def remembered_of(task_name="chain2"):
    """The first two of four problems were all wrong, the others all right."""
    task = load_task(task_name)
    examples = [e for e in task.sample(4, "train", 0) for _ in range(2)]
    rewards = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    texts = [task.demonstrate(e, __import__("random").Random(0), 0.0) for e in examples]
    return remember_groups({}, examples, rewards, texts, 4)


SHOWN = {"xrpo-seeding": [8, 8, 0, 0], "hints": [4, 4, 0, 0], "rest-grpo": [0, 0, None, None]}


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", STARTS)
def test_siblings_start_from_the_same_tokens_and_keep_them(policy, name, parts):
    """As many as the record says, on the canvases of all siblings, in one rollout call or two; they
    stand there before the first pass."""
    _, batch = one_batch(policy, name, remembered_of(), parts=parts)
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
def test_given_tokens_are_never_scored(policy, name):
    """No view scores them, so they have no likelihood and no gradient; each other word is scored
    once, on a canvas where the given ones stand."""
    n, batch = one_batch(policy, name, remembered_of())
    rollout = batch.rollout
    views = METHODS[name].views(rollout=rollout, **n.views)
    scored = torch.stack([view.scored for view in views]).sum(0)
    assert (scored[~rollout.sampled] == 0).all() and (scored <= 1).all()
    for view in views:
        canvas = view.tokens[:, -rollout.tokens.shape[1] :]
        assert torch.equal(canvas[~rollout.sampled], rollout.tokens[~rollout.sampled])
        values = token_logprobs(policy, rollout, view)
        assert (values[~rollout.sampled] == 0).all()


def test_a_hinted_run_remembers_as_json(tmp_path):
    """After a step whose texts were all wrong, its problems are seeded when they come again."""
    config = run(tmp_path, "xrpo-seeding")
    own = prepare(config, config.load_task(), never)
    first = collect_step(own, 1)
    assert first.log["given_tokens"] == 0
    assert json.loads(json.dumps(own.memory)) == own.memory and len(own.memory) == 2
    again = collect_step(own, 1)
    assert again.log["given_tokens"] == 0.5


def test_a_full_canvas_is_named(policy):
    with pytest.raises(ValueError, match="share of 1 of a text of 16 tokens has no token left"):
        one_batch(policy, "xrpo-seeding", remembered_of(), start={"share": 1.0})


# ---------------------------------------------------------------- refinement


def test_a_refined_row_replaces_the_worst_sibling(policy):
    """Each group whose best text fails items has one row with given tokens, which are the best
    sibling's; its reward is the rubric's."""
    _, batch = one_batch(policy, "rgr-style", {}, task="sudoku4")
    _, before = one_batch(policy, "rgr-style", {}, task="sudoku4", parts=1)
    rollout = batch.rollout
    refined = (~rollout.sampled).any(1).view(4, 4)
    assert (refined.sum(1) <= 1).all()
    assert batch.log["forwards_rollout"] >= 16 and torch.equal(
        before.rollout.tokens, rollout.tokens
    )


def right_sudoku(policy):
    return policy


def test_what_refinement_and_starts_cannot_be_combined_with_is_named():
    grpo = METHODS["grpo"]
    with pytest.raises(ValueError, match="ag-grpo: guided rows have a start of their own"):
        replace(METHODS["ag-grpo"], start=seeded)
    with pytest.raises(ValueError, match="grpo: rows that are written again have dice"):
        replace(grpo, refine=refine_best, dice=own_dice)
    with pytest.raises(ValueError, match="reward 'final' texts"):
        replace(METHODS["ta-agrpo"], refine=refine_best)
    with pytest.raises(ValueError, match="unknown start number of hints 'mots'; did you mean"):
        METHODS["hints"].numbers("tiny", start={"mots": 0.1})
    assert METHODS["rgr-style"].refine == part(refine_best)
