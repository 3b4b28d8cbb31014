"""Credit against earlier texts of the problem: what is remembered, and what it does to the
gradient."""

import itertools
import math

import pytest
import torch

from dllm_rl_lite.advantages import (
    above_the_past,
    pool_statistics,
    smooth_score,
    track,
    weigh_tasks,
    z_score,
)
from dllm_rl_lite.tasks import Example, chance_remembered, task_shares

ONE = [Example("1+1", "2")]


def remembered(decay, rewards):
    memory = {}
    for reward in rewards:
        memory = track(memory, ONE, torch.tensor([[reward]]), decay)
    return memory["1+1"]


@pytest.mark.parametrize("decay, mass", [(0.875, 8), (0.9, 10), (0.96, 25)])
def test_old_visits_are_forgotten(decay, mass):
    """The visits that count tend to 1 / (1 - decay), and the chance to that of the last ones."""
    known = remembered(decay, [1.0] * 400)
    assert known["right"] + known["wrong"] == pytest.approx(mass, rel=1e-4)
    assert chance_remembered({"1+1": known}, ONE[0]) == pytest.approx(1, rel=1e-4)


def test_without_forgetting_it_is_a_running_mean():
    """Of the eight visits at 1/2 that it starts from, and of the rewards."""
    known = remembered(1.0, [1.0, 0.0, 0.25])
    assert known == {"right": 5.25, "wrong": 5.75}
    assert chance_remembered({}, ONE[0]) == 0.5


def test_the_memory_before_stays():
    """So what is compared with it is not part of it; a group is one visit."""
    memory = {}
    after = track(memory, ONE * 2, torch.tensor([[1.0, 0.0]]), 1.0)
    assert memory == {} and after["1+1"] == {"right": 4.5, "wrong": 4.5}
    pooled = pool_statistics(memory, ONE * 2, torch.tensor([[1.0, 0.0]]))
    assert memory == {} and pooled["1+1"] == {"visits": 1, "n": 2, "mean": 0.5, "squares": 0.5}


@pytest.mark.parametrize("past", [0.1, 0.5, 0.8])
def test_a_past_baseline_is_unbiased(past):
    """Over all rewards of three prompts, right with p, the expected gradient is the true one; that
    of the whitened credit is not."""
    examples = [Example(str(i), "") for i in range(3)]
    memory = {e.prompt: {"right": past, "wrong": 1 - past} for e in examples}
    p = 0.3
    slopes = {True: 0.0, False: 0.0}
    for outcome in itertools.product((0.0, 1.0), repeat=3):
        rewards = torch.tensor(outcome, dtype=torch.float64)[:, None]
        chance = p ** rewards.sum().item() * (1 - p) ** (3 - rewards.sum().item())
        for whiten in slopes:
            credit = above_the_past(rewards, examples, memory, whiten)
            slopes[whiten] += chance * (credit * (rewards - p)).mean().item()
    assert slopes[False] == pytest.approx(p * (1 - p), abs=1e-12)
    assert slopes[True] != pytest.approx(p * (1 - p), abs=1e-2)


def test_whitened_credit_has_mean_zero_and_spread_one():
    rewards = torch.rand(64, 1, generator=torch.Generator().manual_seed(0))
    credit = above_the_past(rewards, ONE * 64, {})
    assert credit.mean().item() == pytest.approx(0, abs=1e-6)
    assert credit.std(unbiased=False).item() == pytest.approx(1, abs=1e-3)
    assert (above_the_past(torch.ones(4, 1), ONE * 4, {}) == 0).all()


# ---------------------------------------------------------------- DCPO


def test_smooth_scores_in_the_limits():
    """At the first visit the z-score; where all rewards ever were equal exactly 0."""
    rewards = torch.tensor([[0.0, 1.0, 1.0, 0.5]])
    torch.testing.assert_close(smooth_score(rewards, ONE * 4, {}), z_score(rewards))
    same = torch.full((1, 4), 0.5)
    memory = pool_statistics({}, ONE * 4, same)
    assert (smooth_score(same, ONE * 4, memory) == 0).all()


def test_a_group_that_is_all_wrong_after_better_ones():
    """The third visit of four texts, after eight of mean 0.4 and standard deviation 0.5: -0.20, a
    third of the distance to the pool's mean, where the z-score says 0."""
    memory = {"1+1": {"visits": 2, "n": 8, "mean": 0.4, "squares": 7 * 0.25}}
    wrong = torch.zeros(1, 4)
    got = smooth_score(wrong, ONE * 4, memory)
    assert got.tolist()[0] == pytest.approx([-0.20] * 4, abs=5e-3)
    assert (z_score(wrong) == 0).all()


def test_the_pool_is_that_of_all_rewards():
    """Group after group the statistics of all the rewards together, and the credit of the last by
    the formula."""
    groups = torch.rand(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    memory = {}
    for rewards in groups[:-1]:
        memory = pool_statistics(memory, ONE * 4, rewards[None])
    last = groups[-1:]
    total = (last - groups.mean()) / (groups.std() + 1e-4)
    now = z_score(last)
    mixtures = torch.stack([0.8 * now + 0.2 * total, 0.2 * now + 0.8 * total])
    smaller = mixtures.gather(0, mixtures.abs().argmin(0)[None])[0]
    torch.testing.assert_close(smooth_score(last, ONE * 4, memory), smaller)
    known = pool_statistics(memory, ONE * 4, last)["1+1"]
    assert (known["visits"], known["n"]) == (5, 20)
    assert known["mean"] == pytest.approx(groups.mean().item())
    assert known["squares"] == pytest.approx(19 * groups.var().item())


# ---------------------------------------------------------------- MT-GRPO

NAMES = ["a", "b", "c"]
THREE = [Example(name, "", {"task": name, "mixture": "a+b+c"}) for name in NAMES]


def logits(memory):
    return [memory[name]["logit"] for name in NAMES]


def test_tasks_of_low_reward_get_more_problems():
    """The steps of the logits sum to 0 from equal shares, shares stay a distribution, and equal
    signals change nothing."""
    memory = weigh_tasks({}, THREE, torch.tensor([[0.9], [0.5], [0.1]]), rate=5.0)
    assert sum(logits(memory)) == pytest.approx(0, abs=1e-12)
    shares = task_shares(memory, NAMES)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["a"] < shares["b"] < shares["c"]
    same = {name: {"logit": memory[name]["logit"], "reward": 0.4} for name in NAMES}
    after = weigh_tasks(same, THREE, torch.full((3, 1), 0.4), rate=5.0)
    assert logits(after) == pytest.approx(logits(memory), abs=1e-12)


def test_the_step_of_the_logits_by_hand():
    """g = z (s - sum z s), s = change + level * reward, at shares 1/2, 1/4, 1/4; it sums to 0; a
    task without a group has no change."""
    start = {"a": math.log(2), "b": 0.0, "c": 0.0}
    before = {name: {"logit": value, "reward": 0.5} for name, value in start.items()}
    after = weigh_tasks(before, THREE[:2], torch.tensor([[1.0], [0.5]]), rate=1.0, level=0.2)
    signal = [0.5 + 0.2, 0.1, 0.1]
    mean = 0.5 * signal[0] + 0.25 * signal[1] + 0.25 * signal[2]
    steps = [z * (s - mean) for z, s in zip((0.5, 0.25, 0.25), signal, strict=True)]
    assert sum(steps) == pytest.approx(0)
    found = [start[name] - after[name]["logit"] for name in NAMES]
    assert found == pytest.approx(steps)
    with pytest.raises(ValueError, match="remember.rate and level of at least 0, got -1.0 and 0.2"):
        weigh_tasks(before, THREE[:2], torch.tensor([[1.0], [0.5]]), rate=-1.0)
    assert after["c"]["reward"] == 0.5


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: track({}, ONE, torch.tensor([[1.5]])), "needs rewards in 0..1, got 1.5 to 1.5"),
        (lambda: track({}, ONE, torch.ones(1, 1), decay=1.5), "need decay in 0..1"),
        (lambda: above_the_past(torch.tensor([[-1.0]]), ONE, {}), "got -1 to -1"),
        (lambda: smooth_score(torch.ones(1, 1), ONE, {}), "a group of 1 has no siblings"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
