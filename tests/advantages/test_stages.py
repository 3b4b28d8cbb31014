"""Advantages of given texts and of pairs: by hand, by their sums, and GRAO's objective."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.advantages import (
    critical_share,
    critical_weights,
    extremes,
    imitation_weights,
    ones,
    z_score,
)
from dllm_rl_lite.sampler import given_rollout

REWARDS = torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.5, 0.2, 0.9, 0.2]])


def rollout_of(tokens, kind=None):
    """Texts, and which of them are given; nothing else of the rollout matters here."""
    prompt = torch.zeros(len(tokens), 1, dtype=torch.long)
    noise = torch.Generator().manual_seed(0)
    rows = given_rollout(prompt, prompt == 0, tokens, noise, mask_id=9, eos_id=8)
    return replace(rows, kind=kind)


def test_extremes_by_hand():
    """The first best and the first worst; nothing where all are equal."""
    assert extremes(REWARDS).tolist() == [[-1, 1, 0, 0], [0, 0, 0, 0], [0, -1, 1, 0]]
    with pytest.raises(ValueError, match="a group of 1 has no siblings"):
        extremes(torch.ones(2, 1))


def test_every_given_text_has_the_same_advantage():
    assert torch.equal(ones(REWARDS), torch.ones(3, 4))
    assert torch.equal(ones(torch.zeros(5, 1)), torch.ones(5, 1))
    with pytest.raises(ValueError, match="not finite"):
        ones(torch.tensor([[float("nan")]]))


# ---------------------------------------------------------------- GRAO


def graos_objective(advantage, likelihood, beta, lam):
    """As the paper writes it, of groups whose last text is the given one."""
    free, told = advantage[:, :-1], advantage[:, -1:]
    own, theirs = likelihood[:, :-1], likelihood[:, -1:]
    exploration = (free * own).mean(1)
    imitation = (beta * told * theirs)[:, 0]
    alignment = (free * (own - theirs)).mean(1)
    return exploration + imitation + lam * alignment


@settings(max_examples=30, deadline=None)
@given(
    group=st.integers(2, 6),
    beta=st.floats(0, 2),
    lam=st.floats(0, 2),
    seed=st.integers(0, 1000),
)
def test_graos_objective_is_a_weighted_likelihood(group, beta, lam, seed):
    """For any likelihoods: the weights' sum is as many times the objective as there are
    rollouts."""
    g = torch.Generator().manual_seed(seed)
    rewards = torch.rand(3, group, generator=g, dtype=torch.float64)
    likelihood = torch.randn(3, group, generator=g, dtype=torch.float64)
    kind = torch.zeros(3, group, dtype=torch.long)
    kind[:, -1] = 2
    rollout = rollout_of(torch.zeros(3 * group, 2, dtype=torch.long), kind.flatten())
    weights = imitation_weights(rewards, rollout, beta=beta, lam=lam)
    wanted = graos_objective(z_score(rewards), likelihood, beta, lam)
    found = (weights * likelihood).sum(1) / (group - 1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_grao_by_hand():
    """Three wrong rollouts and a right demonstration: z-scores -1/2 and 3/2; all right: nothing."""
    rollout = rollout_of(torch.zeros(8, 2, dtype=torch.long), torch.tensor([0, 0, 0, 2] * 2))
    rewards = torch.tensor([[0.0, 0, 0, 1], [1, 1, 1, 1]], dtype=torch.float64)
    weights = imitation_weights(rewards, rollout, beta=0.5, lam=0.6, eps=1e-12)
    assert weights[0].tolist() == pytest.approx([-0.8, -0.8, -0.8, 1.5 * (3 * 0.5 + 0.6)])
    assert (weights[1] == 0).all()


@pytest.mark.parametrize("kind", [None, torch.tensor([0, 2, 2, 2])])
def test_grao_needs_one_given_text_a_group(kind):
    rollout = rollout_of(torch.zeros(4, 2, dtype=torch.long), kind)
    with pytest.raises(ValueError, match="one text of each group must be given"):
        imitation_weights(torch.ones(2, 2), rollout)


# ---------------------------------------------------------------- critical tokens


def test_critical_shares_by_hand():
    """Two right and two wrong siblings. At position 0 all agree; at 1 the token tells right from
    wrong: (2.5^2 / 0.5) against (0.5^2 / 2.5); at 2 each token stands once on either side."""
    tokens = torch.tensor([[5, 1, 3], [5, 1, 4], [5, 2, 3], [5, 2, 4]])
    rewards = torch.tensor([[1.0, 1, 0, 0]])
    share = critical_share(rollout_of(tokens), rewards, 0.5)
    told = 12.5 / (12.5 + 0.1)
    assert share[:, 0].tolist() == [1, 1, 1, 1]
    assert share[:, 1].tolist() == pytest.approx([told, told, 1 - told, 1 - told])
    assert share[:, 2].tolist() == [0.5] * 4


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), smooth=st.floats(0.01, 5))
def test_the_shares_of_different_tokens_sum_to_one(seed, smooth):
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 3, (8, 4), generator=g)
    rewards = torch.rand(2, 4, generator=g, dtype=torch.float64)
    share = critical_share(rollout_of(tokens), rewards, smooth).view(2, 4, 4)
    for group in range(2):
        for place in range(4):
            of_token = {}
            for row in range(4):
                of_token[int(tokens[4 * group + row, place])] = float(share[group, row, place])
            assert sum(of_token.values()) == pytest.approx(1, abs=1e-6)


def test_tokens_that_tell_the_pair_apart_have_dpos_weights():
    """s goes to 1 and 0 as the smoothing goes to 0: then the weights are DPO's. A token that the
    wrong text shares with all right ones is not blamed."""
    tokens = torch.tensor([[1, 5], [1, 5], [2, 5], [2, 5]])
    rewards = torch.tensor([[1.0, 1, 0, 0]])
    advantage = extremes(rewards)
    weights = critical_weights(advantage, rewards, rollout_of(tokens), smooth=1e-6)
    assert weights[:, 0].tolist() == pytest.approx(advantage.flatten().tolist(), abs=1e-5)
    assert weights[:, 1].tolist() == [1, 0, 0, 0]
    with pytest.raises(ValueError, match="smooth must be above 0, got 0"):
        critical_weights(advantage, rewards, rollout_of(tokens), smooth=0)
