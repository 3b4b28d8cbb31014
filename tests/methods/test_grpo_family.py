"""GRPO and its relatives: what each changes, how far it still is GRPO, and that it trains."""

import math
from dataclasses import replace

import pytest
import torch
from updates import (
    ADVANTAGE,
    advantage_of,
    assert_same,
    direct_gradient,
    gradient_of,
    numbers,
    scored_by,
)

from dllm_rl_lite.estimators import all_steps, estimate, last_scored_step
from dllm_rl_lite.methods import FAMILY, METHODS, part
from dllm_rl_lite.methods.grpo_family import own_steps
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig, scored_by_any


def test_views_end_with_their_own_text(batch):
    """Each token up to the last step that wrote a word is scored once, whatever the other rows are;
    the estimate is that of `all_steps`."""
    tokens = batch.tokens.clone()
    tokens[0, batch.unmask_step[0] >= 2] = batch.eos_id
    tokens[1:, 0] = 7  # no other text ends early
    rollout = replace(batch, tokens=tokens)
    last = last_scored_step(rollout)
    assert last[0] < last.max()
    scored = torch.stack([view.scored for view in own_steps(rollout)]).sum(0)
    assert torch.equal(scored, (rollout.unmask_step < last[:, None]).long())
    alone = rollout.select(torch.tensor([0]))
    assert torch.equal(scored_by_any(own_steps(alone)), scored[:1].bool())
    for mine, theirs in zip(own_steps(rollout), all_steps(rollout), strict=True):
        assert torch.equal(mine.tokens, theirs.tokens)
        assert torch.equal(mine.weight, theirs.weight)


def test_grpos_gradient_is_its_formula(policy, later, batch):
    """The mean over texts of each text's mean over its tokens of the clipped ratio, at a distance
    from the old policy."""
    n = numbers("grpo", inner_updates=2)
    scored = scored_by("grpo", policy, batch, n)
    views = own_steps(batch)
    with torch.no_grad():
        old = estimate(policy, batch, views)
    ratio = (estimate(later, batch, views) - old).exp()
    advantage = ADVANTAGE[:, None]
    losses = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
    tokens = scored_by_any(views)
    of_texts = (losses * tokens).sum(1) / tokens.sum(1)
    gradient, stats = gradient_of(later, "grpo", n, scored)
    assert stats["clip_fraction"] > 0
    assert_same(gradient, direct_gradient(later, of_texts.mean()), 1e-5)


RATIOS = ["cispo", "gspo", "sapo", "dcpo-clip", "sspo-style", "guard-style"]


@pytest.mark.parametrize("name", RATIOS)
def test_the_first_update_is_grpos(policy, batch, name):
    """Whatever a loss does to ratios, at the old policy its gradient is GRPO's."""
    n, plain = numbers(name, inner_updates=2), numbers("grpo", inner_updates=2)
    gradient, _ = gradient_of(policy, name, n, scored_by(name, policy, batch, n))
    wanted, _ = gradient_of(policy, "grpo", plain, scored_by("grpo", policy, batch, plain))
    assert_same(gradient, wanted, 1e-5)


@pytest.mark.parametrize("name", RATIOS)
def test_a_later_update_is_not_grpos(policy, later, batch, name):
    """From the second update on the rules differ."""
    n, plain = numbers(name, inner_updates=2), numbers("grpo", inner_updates=2)
    gradient, _ = gradient_of(later, name, n, scored_by(name, policy, batch, n))
    wanted, _ = gradient_of(later, "grpo", plain, scored_by("grpo", policy, batch, plain))
    with pytest.raises(AssertionError):
        assert_same(gradient, wanted, 1e-3)


def test_reg_grpos_first_update_is_reinforces_at_a_length_of_its_own(policy, batch):
    """-2 / eps times the mean over all texts of advantage times log-probability."""
    n = numbers("reg-grpo", inner_updates=2)
    # Whole groups of z-scores, as the loss expects.
    rewards = torch.tensor([[1.0, 0.0, 0.4], [0.0, 0.0, 1.0]])
    advantage = advantage_of(METHODS["reg-grpo"], n, rewards, batch, policy.tokenizer)
    scored = scored_by("reg-grpo", policy, batch, n, advantage=advantage)
    gradient, _ = gradient_of(policy, "reg-grpo", n, scored)
    text = estimate(policy, batch, own_steps(batch)).sum(1)
    loss = -2 / 1e-4 / len(text) * (advantage * text).sum()
    assert_same(gradient, direct_gradient(policy, loss), 1e-5)


def test_pref_grpo_is_grpo_where_rewards_are_0_or_1(policy, batch):
    """As records: the reward shape and the z-score together."""
    rewards = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    mine, plain = (
        advantage_of(METHODS[name], METHODS[name].numbers("tiny"), rewards, batch, policy.tokenizer)
        for name in ("pref-grpo", "grpo")
    )
    torch.testing.assert_close(mine, plain, rtol=1e-3, atol=0)


def graded(completions, **columns):
    """Siblings have rewards of their own, the best reward 1."""
    return [(0.0, 1.0, 0.25, 0.5)[i % 4] for i in range(len(completions))]


def three_steps(tmp_path, name, **numbers):
    config = TrainConfig(
        method=name,
        steps=3,
        run_dir=str(tmp_path / name),
        eval_every=0,
        eval_problems=1,
        numbers={"prompts": 1, "group": 4, "tokens_per_step": 8, **numbers},
    )
    return train(config, graded, say=lambda line: None).rows


def linear(log_ratio, advantage, slope: float = 1.0):
    return -slope * advantage * log_ratio


def test_a_new_row_is_a_function_and_a_record(tmp_path, monkeypatch):
    """It trains, with its number changed from outside, and nothing else knows its name."""
    objective = replace(METHODS["grpo"].objective, surrogate=part(linear, slope=1.0))
    row = replace(METHODS["grpo"], name="linear", objective=objective)
    monkeypatch.setitem(METHODS, "linear", row)
    found = three_steps(tmp_path, "linear", loss={"slope": 2.0})
    assert found[-1]["grad_norm"] > 0


@pytest.mark.parametrize("name", FAMILY)
def test_three_steps_of_training(tmp_path, name):
    """Every step has a gradient, and every number of the log is finite."""
    rows = three_steps(tmp_path, name)
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    for row in rows[1:]:
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
        assert row["grad_norm"] > 0 and row["ratio_spread"] > 0
