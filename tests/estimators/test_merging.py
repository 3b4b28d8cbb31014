"""Merged actions have the gradient of all of them, from a fraction of the rows."""

from dataclasses import replace

import pytest
import torch
from updates import gradient_of

from dllm_rl_lite.estimators import (
    all_steps,
    chosen_steps,
    estimate,
    merge_equal_actions,
    one_step,
    token_logprobs,
    visited_steps,
)
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.models import load_lm
from dllm_rl_lite.sampler import RunningConfidence, Schedule, denoise
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.training import collect, score_views

RECIPES = {
    "all steps": lambda r, g: all_steps(r),
    "visited steps": lambda r, g: visited_steps(r, g, k=3),
    "one step": lambda r, g: one_step(r, g, 0.3),
}


@pytest.fixture(scope="module")
def siblings(policy):
    """Three groups of four, two of them on prompts of another length."""
    prompts = [p for p in ("6-4+7-1", "1+2", "3+2") for _ in range(4)]
    g = torch.Generator().manual_seed(3)
    return denoise(policy, prompts, 8, Schedule(4), temperature=0.5, generator=g)


def by_token(coefficient):
    return coefficient * (1 + torch.arange(8.0) / 8)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("by", [lambda c: c, by_token], ids=["text", "token"])
def test_the_sum_and_its_gradient_are_those_of_all_rows(policy, siblings, recipe, by):
    views = RECIPES[recipe](siblings, torch.Generator().manual_seed(1))
    coefficient = by(torch.randn(12, 1, generator=torch.Generator().manual_seed(2)))
    rows, merged = merge_equal_actions(siblings, views, coefficient)
    weights = list(policy.parameters())
    whole = (coefficient * estimate(policy, siblings, views)).sum()
    once = (merged.weight * token_logprobs(policy, rows, merged)).sum()
    torch.testing.assert_close(once, whole, rtol=1e-5, atol=1e-4)
    expected = torch.autograd.grad(whole, weights)
    for mine, theirs in zip(torch.autograd.grad(once, weights), expected, strict=True):
        size = max(float(theirs.abs().max()), 1.0)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5 * size)
    row, position = merged.scored.nonzero().unbind(1)
    canvas = torch.cat([rows.prompt_mask, merged.tokens], 1)[row]
    target = merged.target[row, position]
    action = torch.cat([canvas, position[:, None], target[:, None]], 1)
    assert len(action.unique(dim=0)) == len(action), "each action once"


def test_what_all_siblings_did_alike_cancels(policy):
    """A greedy group of equal completions, advantages that sum to zero: nothing is left; with
    different ones what they share is left out."""
    rollout = denoise(policy, ["1+2"] * 3, 8, Schedule(4))
    advantage = torch.tensor([[0.5], [0.25], [-0.75]])
    rows, view = merge_equal_actions(rollout, all_steps(rollout), advantage)
    assert len(view.tokens) == len(rows.tokens) == 0


def test_views_of_other_targets_are_refused(policy):
    rollout = denoise(policy, ["1+2"] * 2, 8, RunningConfidence(4), record=True)
    views = chosen_steps(rollout, None, torch.ones(2, 4), k=2)
    with pytest.raises(ValueError, match="targets of their own"):
        merge_equal_actions(rollout, views, torch.ones(2, 1))


@pytest.mark.parametrize("name, most", [("chain2", 0.2), ("chain", 0.3), ("sudoku4", 0.6)])
def test_the_method_has_the_exact_path_gradient_for_fewer_rows(name, most):
    """`merged-path` against the same loss of all steps unmerged, on rollouts of the shipped model:
    gradients equal to 1e-5 of the largest entry; on `chain2` under a fifth of the rows."""
    lm, task, method = load_lm("tiny"), load_task(name), METHODS["merged-path"]
    n = method.numbers("tiny", prompts=6)
    generator = torch.Generator().manual_seed(0)
    problems = task.sample(6, "train", 0)
    batch = collect(lm, task, task.reward, method, n, problems, generator)
    found = {}
    for merged in (True, False):
        plain = replace(method, merged=merged)
        scored = score_views(lm, None, plain, n, batch.rollout, batch.advantage, generator)
        found[merged] = gradient_of(lm, name, n, scored, method=plain)
    (once, stats), (whole, stats_of_all) = found[True], found[False]
    for parameter, gradient in whole.items():
        size = float(gradient.abs().max())
        torch.testing.assert_close(once[parameter], gradient, rtol=0, atol=1e-5 * size)
    assert stats["loss"] == pytest.approx(stats_of_all["loss"], rel=1e-4, abs=1e-5)
    print(
        name,
        stats["computed"],
        stats["forwards"],
        stats_of_all["computed"],
        stats_of_all["forwards"],
    )
    assert stats["computed"] < most * stats_of_all["forwards"]
