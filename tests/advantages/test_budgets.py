"""Curricula and budgets: their limits are the rewards themselves, and each rule by hand."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_shaping import random_rewards, rollout_of

from dllm_rl_lite.advantages import (
    budget_of,
    cheaper_right,
    is_worked,
    rare_format,
    within_budget,
    z_score,
)

WORKED = "6-4=2<answer>2</answer>"
BARE = "<answer>2</answer>"


def rollout_with(passes):
    passes = torch.tensor(passes)
    return replace(rollout_of(len(passes)), n_forwards=passes)


# ---------------------------------------------------------------- Ada-GRPO


def test_a_format_is_worked_or_bare():
    assert is_worked(WORKED) and is_worked("<reasoning>so</reasoning><answer>2</answer>")
    assert not is_worked(BARE) and not is_worked("<reasoning>\n</reasoning>\n" + BARE)
    assert is_worked("6-4=2") and not is_worked("")


def test_a_lone_format_counts_eight_times_at_first():
    """F = 1, G = 8, t = 0: 8, and 1 for the others but for 1/7; half as much more at half time."""
    rewards = torch.ones(1, 8, dtype=torch.float64)
    texts = [BARE] + [WORKED] * 7
    assert rare_format(rewards, texts, 0).tolist()[0] == pytest.approx([8] + [8 / 7] * 7)
    assert rare_format(rewards, texts, 10).tolist()[0] == pytest.approx([4.5] + [1 + 0.5 / 7] * 7)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 999),
    st.integers(0, 40),
    st.integers(1, 20),
    st.lists(st.booleans(), min_size=24, max_size=24),
)
def test_ada_grpo_ends_as_its_parent(seed, step, over, worked):
    """From step `over` on, in a group of one format, or with strength 0, rewards are what they
    were, to the bit; the rarer format never counts less."""
    rewards = random_rewards(seed=seed)
    texts = [WORKED if w else BARE for w in worked]
    got = rare_format(rewards, texts, step, over)
    if step >= over:
        assert torch.equal(got, rewards)
    assert torch.equal(rare_format(rewards, [WORKED] * 24, step, over), rewards)
    assert torch.equal(rare_format(rewards, texts, step, over, strength=0.0), rewards)
    factor = (got / rewards).view(-1)
    for start in range(0, 24, 8):
        some = range(start, start + 8)
        n = sum(worked[i] for i in some)
        for i in some:
            for j in some:
                if worked[i] and not worked[j] and n < 4:
                    assert factor[i] >= factor[j] - 1e-12


# ---------------------------------------------------------------- GRPO-lambda


def test_passes_cost_only_where_a_group_is_often_right():
    """Of five groups the best one pays: by hand 1 - 0.6 sigmoid((n - m) / s); its wrong text earns
    nothing, however fast."""
    rewards = torch.zeros(5, 4, dtype=torch.float64)
    rewards[2, :3] = 1.0
    rewards[4, :2] = 1.0
    passes = [4] * 20
    passes[8:12] = [2, 4, 6, 1]
    got = cheaper_right(rewards, rollout_with(passes))
    s = math.sqrt(8 / 3)
    wanted = [1 - 0.6 / (1 + math.exp(-(n - 4) / s)) for n in (2, 4, 6)]
    assert got[2].tolist() == pytest.approx([*wanted, 0.0])
    others = [0, 1, 3, 4]
    assert torch.equal(got[others], rewards[others])
    assert wanted[1] == pytest.approx(0.7)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.floats(0, 1), st.floats(0, 1))
def test_grpo_lambda_in_the_limits(seed, share, weight):
    """Weight 0 or share 0: the rewards to the bit. Wrong texts stay at 0 and right ones between 1 -
    weight and 1; of two right texts of a group the one with more passes never earns more."""
    g = torch.Generator().manual_seed(seed)
    rewards = torch.randint(0, 2, (5, 4), generator=g).double()
    rollout = rollout_with(torch.randint(1, 9, (20,), generator=g).tolist())
    assert torch.equal(cheaper_right(rewards, rollout, share=share, weight=0.0), rewards)
    assert torch.equal(cheaper_right(rewards, rollout, share=0.0, weight=weight), rewards)
    got = cheaper_right(rewards, rollout, share, weight)
    assert (got[rewards == 0] == 0).all()
    assert (got[rewards == 1] >= 1 - weight - 1e-12).all() and (got <= 1).all()
    passes = rollout.n_forwards.view(5, 4)
    both = (rewards[:, :, None] == 1) & (rewards[:, None, :] == 1)
    slower = passes[:, :, None] > passes[:, None, :]
    assert (got[:, :, None] <= got[:, None, :] + 1e-12)[both & slower].all()
    changed = (got != rewards).any(1).sum()
    assert changed <= max(1, int(share * 5))


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_equal_passes_are_the_parent_up_to_eps(share):
    """All right texts of a group get the same, so the z-score is that of right and wrong."""
    rewards = torch.tensor([[1.0, 1, 0, 1], [0, 0, 1, 0]], dtype=torch.float64)
    got = cheaper_right(rewards, rollout_with([5] * 8), share)
    assert got[0].tolist() == pytest.approx([0.7, 0.7, 0, 0.7])
    torch.testing.assert_close(z_score(got, 1e-12), z_score(rewards, 1e-12), rtol=0, atol=1e-9)


def test_with_a_share_of_one_every_group_pays():
    """Also a group that is all right, which GRPO has nothing to say of."""
    rewards = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    got = cheaper_right(rewards, rollout_with([2, 8, 2, 8, 2, 8]), share=1.0)
    assert got[0, 0] > got[0, 1] and got[1, 0] < 1 and torch.equal(got[2], rewards[2])


# ---------------------------------------------------------------- Train Long, Think Short


def test_the_budget_shrinks_by_the_stairs_and_ends_at_one():
    budgets = [budget_of(step, 16, 0.5, 5) for step in range(0, 40, 5)]
    assert budgets == [16, 8, 4, 2, 1, 1, 1, 1]
    assert budget_of(4, 16, 0.5, 5) == 16 and budget_of(99, 16, 1.0, 5) == 16


def test_the_score_by_hand():
    """At step 5 a canvas of 5 tokens has a budget of 4 passes: 1 up to it, 0 from 8 on."""
    rewards = torch.tensor([[1.0, 0.0, 1.0, 0.0, 1.0]], dtype=torch.float64)
    got = within_budget(rewards, rollout_with([1, 4, 6, 7, 9]), 5)
    assert got[0].tolist() == pytest.approx([1.3, 0.3, 1.15, 0.075, 1.0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(0, 99), st.floats(0.1, 1))
def test_train_long_in_the_limits(seed, step, decay):
    """cheap 0: the rewards to the bit; decay 1: the same at every step; a shrinking budget never
    pays more than a fixed one."""
    rewards = random_rewards(seed=seed)
    g = torch.Generator().manual_seed(seed)
    rollout = rollout_with(torch.randint(1, 12, (24,), generator=g).tolist())
    assert torch.equal(within_budget(rewards, rollout, step, decay=decay, cheap=0.0), rewards)
    fixed = within_budget(rewards, rollout, step, decay=1.0)
    assert torch.equal(fixed, within_budget(rewards, rollout, 0, decay=1.0))
    assert (within_budget(rewards, rollout, step, decay=decay) <= fixed).all()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda r, o: rare_format(r, ["a"], 0), "4 rewards need as many texts, got 1"),
        (lambda r, o: rare_format(r, ["a"] * 4, 0, over=0), "shape.over of at least 1"),
        (lambda r, o: cheaper_right(r, o, share=1.5), r"in \[0, 1\], got 1.5 and 0.6"),
        (lambda r, o: cheaper_right(r, o, weight=-1.0), r"in \[0, 1\], got 0.2 and -1.0"),
        (lambda r, o: within_budget(r, o, 1, decay=0.0), r"decay in \(0, 1\]"),
        (lambda r, o: within_budget(r, o, 1, every=0), "every of at least 1"),
    ],
)
def test_bad_numbers_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 4), rollout_with([1] * 4))
