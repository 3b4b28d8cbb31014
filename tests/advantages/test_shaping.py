"""Shaped advantages: limit cases, and expected strengths by enumeration of all groups."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.advantages import (
    answer_entropy,
    entropy_scaled,
    group_mean,
    leave_one_out,
    sharpened,
    virtual_best,
    win_rate,
    z_score,
)
from dllm_rl_lite.sampler import Rollout

G = 8


def random_rewards(groups=3, group=G, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(groups, group, generator=g, dtype=torch.float64)


# ---------------------------------------------------------------- strength by chance right


def won(rewards):
    return z_score(win_rate(rewards))


# Expected gradient over the true one, p (1 - p), of groups of 8 whose texts are right with p.
STRENGTHS = {
    group_mean: {0.02: 0.875, 0.25: 0.875, 0.5: 0.875, 0.98: 0.875},
    leave_one_out: {0.02: 1.0, 0.25: 1.0, 0.5: 1.0, 0.98: 1.0},
    z_score: {0.02: 2.406, 0.05: 2.313, 0.25: 1.895, 0.5: 1.735, 0.98: 2.406},
    virtual_best: {0.02: 2.062, 0.05: 2.013, 0.25: 1.803, 0.5: 1.768, 0.9: 2.328, 0.98: 2.589},
    won: {0.02: 2.406, 0.05: 2.313, 0.25: 1.895, 0.5: 1.735, 0.98: 2.406},
}


@pytest.mark.parametrize("credit", STRENGTHS)
def test_strengths_by_enumeration(credit):
    """Over all 256 groups of 0/1 rewards: NGRPO weighs hard prompts less and easy ones more than
    GRPO does; that of the win rate is GRPO's."""
    rewards = torch.tensor(list(itertools.product((0.0, 1.0), repeat=G)), dtype=torch.float64)
    advantage = credit(rewards)
    right = rewards.sum(1)
    for p, wanted in STRENGTHS[credit].items():
        chance = p**right * (1 - p) ** (G - right)
        score = rewards - p  # the slope of each text's log-probability
        slope = (chance * (advantage * score).mean(1)).sum().item()
        assert slope / (p * (1 - p)) == pytest.approx(wanted, abs=1e-3)


# ---------------------------------------------------------------- NGRPO


@pytest.mark.parametrize("group", [1, 2, 8])
def test_a_group_that_is_all_wrong_is_pushed_down(group):
    """-1 / sqrt(G + 1) each; one that is all right has exactly nothing, as the release drops it."""
    got = virtual_best(torch.zeros(2, group, dtype=torch.float64), eps=1e-12)
    wanted = -1 / math.sqrt(group + 1)
    torch.testing.assert_close(got, torch.full_like(got, wanted), rtol=1e-9, atol=0)
    assert (virtual_best(torch.full((2, group), 0.7), best=0.7) == 0).all()


def test_ngrpo_by_hand():
    """One of eight right: 1.76 and -0.50, where the z-score says 2.47 and -0.35."""
    rewards = torch.tensor([[1.0] + [0.0] * 7])
    assert virtual_best(rewards)[0, :2].tolist() == pytest.approx([1.764, -0.504], abs=1e-3)
    assert z_score(rewards)[0, :2].tolist() == pytest.approx([2.474, -0.353], abs=1e-3)


def test_a_reward_above_the_best_is_named():
    with pytest.raises(ValueError, match="reward 2 is above credit.best 1: set best"):
        virtual_best(torch.tensor([[0.0, 2.0]]))
    assert virtual_best(torch.tensor([[0.0, 2.0]]), best=2.0).shape == (1, 2)


# ---------------------------------------------------------------- SEED-GRPO


def saying(answers):
    return [f"so it is <answer>{answer}</answer>" for answer in answers]


def test_the_entropy_of_answers_by_hand():
    """Groups of four: one answer 0, two equal halves ln 2, all different ln 4; texts without an
    answer agree."""
    texts = saying("7777") + saying("1122") + saying("1234") + ["none", "nothing", "1", "2"]
    got = answer_entropy(texts, 4)
    assert got.tolist() == pytest.approx([0, math.log(2), math.log(4), 0])


def test_seed_grpo_in_the_limits():
    """alpha 0, or one answer: group_mean; all answers different: e^-alpha of it, or with "linear"
    and alpha 1 exactly nothing."""
    rewards = random_rewards(2, 4)
    mixed = saying("1123") + saying("1234")
    assert torch.equal(entropy_scaled(rewards, mixed, alpha=0.0), group_mean(rewards))
    assert torch.equal(entropy_scaled(rewards, saying("55556666")), group_mean(rewards))
    got = entropy_scaled(rewards, mixed, alpha=0.5)
    torch.testing.assert_close(got[1], group_mean(rewards)[1] * math.exp(-0.5))
    linear = entropy_scaled(rewards, mixed, fade="linear")
    torch.testing.assert_close(linear[1], torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-15)
    assert (linear[0] != 0).any()


# ---------------------------------------------------------------- XRPO


def rollout_of(n, seed=0, length=5):
    g = torch.Generator().manual_seed(seed)
    return Rollout(
        prompt=torch.zeros(n, 1, dtype=torch.int64),
        prompt_mask=torch.ones(n, 1, dtype=torch.bool),
        tokens=torch.randint(0, 7, (n, length), generator=g),
        unmask_step=torch.arange(length).repeat(n, 1),
        logprob=-2 * torch.rand(n, length, generator=g, dtype=torch.float64),
        entropy=torch.zeros(n, length),
        n_forwards=torch.full((n,), length),
        mask_id=7,
        eos_id=6,
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.floats(0, 10), st.floats(0, 1))
def test_sharpening_only_adds_to_good_texts_and_not_too_much(seed, lam, kappa):
    """Negative advantages are the z-score's; a positive one is between A and (1 + kappa) A."""
    rewards = random_rewards(seed=seed)
    plain = z_score(rewards)
    got = sharpened(rewards, rollout_of(3 * G, seed), lam, kappa)
    bad = plain <= 0
    assert torch.equal(got[bad], plain[bad])
    assert (got >= plain - 1e-12).all()
    assert (got[~bad] <= (1 + kappa) * plain[~bad] + 1e-12).all()


def test_sharpening_in_the_limits_and_by_hand():
    """lambda 0, or equally likely texts: the z-score; a rare good text gains lam (1 - eta), a
    likely one nothing; what stands after the end of the text does not count."""
    rewards = random_rewards()
    rollout = rollout_of(3 * G)
    assert torch.equal(sharpened(rewards, rollout, lam=0.0), z_score(rewards))
    rollout.logprob[:] = -0.3
    torch.testing.assert_close(sharpened(rewards, rollout), z_score(rewards))

    rollout = rollout_of(4)
    rollout.tokens[:, 2:] = 6  # all end at the third token
    rollout.logprob[:, :3] = torch.tensor([-1.2, -0.8, -1.0, -1.0], dtype=torch.float64)[:, None]
    rewards = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    gain = (sharpened(rewards, rollout) - z_score(rewards))[0].tolist()
    a = z_score(rewards)[0, 0].item()
    assert gain == pytest.approx([min(2.5 * (1 - math.exp(-0.2)), 0.5 * a), 0, 0, 0])


# ---------------------------------------------------------------- Pref-GRPO


def test_the_win_rate_by_hand():
    assert win_rate(torch.tensor([[3.0, 1.0, 1.0, 0.0]])).tolist()[0] == pytest.approx(
        [1, 0.5, 0.5, 0]
    )
    assert (win_rate(torch.full((2, 5), 0.3)) == 0.5).all()


@pytest.mark.parametrize("right", range(G + 1))
def test_of_right_and_wrong_the_win_rate_says_nothing_new(right):
    """On 0/1 rewards the z-score of the win rate is that of the rewards, up to eps; a dead group
    stays dead."""
    rewards = (torch.arange(G) < right).double()[None]
    torch.testing.assert_close(
        z_score(win_rate(rewards), 1e-12), z_score(rewards, 1e-12), rtol=0, atol=1e-9
    )


def test_only_the_order_of_siblings_counts():
    """Any increasing map of the rewards leaves the win rate as it is; the z-score hears of it."""
    rewards = random_rewards()
    assert torch.equal(win_rate(rewards), win_rate(rewards**3))
    assert not torch.allclose(z_score(rewards), z_score(rewards**3), atol=1e-3)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: entropy_scaled(torch.zeros(1, 2), ["a"]), "2 rewards need as many texts, got 1"),
        (lambda: entropy_scaled(torch.zeros(1, 2), ["a", "b"], -1.0), "need alpha >= 0"),
        (lambda: entropy_scaled(torch.zeros(1, 2), ["a", "b"], fade="cosine"), "got 1.0 and 'cos"),
        (lambda: sharpened(torch.zeros(1, 2), rollout_of(2), lam=-1.0), "got lam -1.0"),
        (lambda: virtual_best(torch.zeros(1, 2), eps=0.0), "eps must be above 0"),
        (lambda: win_rate(torch.zeros(2, 1)), "a group of 1 has no siblings"),
        (lambda: sharpened(torch.zeros(2, 1), rollout_of(2)), "a group of 1 has no siblings"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
