"""Credit of wd1 and MDPO: by hand, by their laws, and what goes wrong."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.advantages import exponential_weights, group_mean, step_credit, z_score


def random_rewards(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


SHAPES = st.tuples(st.integers(1, 4), st.integers(2, 8), st.integers(0, 999))


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.floats(-3, 3), st.floats(0.1, 5))
def test_wd1s_weights_are_two_distributions(shape, shift, psi):
    """w+ and w- sum to one over each group, so their difference to zero; a constant added to all
    rewards changes nothing."""
    rewards = random_rewards(*shape[:2], seed=shape[2])
    plus = exponential_weights(rewards, psi, negative=False)
    both = exponential_weights(rewards, psi)
    torch.testing.assert_close(plus.sum(1), torch.ones(shape[0]))
    torch.testing.assert_close((plus - both).sum(1), torch.ones(shape[0]))  # w-
    assert (plus > 0).all() and (plus - both > 0).all()
    torch.testing.assert_close(
        exponential_weights(rewards + shift, psi), both, rtol=1e-3, atol=1e-4
    )
    order = both.sort(1).indices
    assert (rewards.gather(1, order).diff(dim=1) >= -1e-6).all(), "better texts have more weight"


def test_wd1s_weights_by_hand():
    """Rewards (1, 0): A = (1/2, -1/2), w+ = (sigmoid(1), sigmoid(-1)), w- the same the other way
    round."""
    s = torch.sigmoid(torch.tensor(1.0)).item()
    assert exponential_weights(torch.tensor([[1.0, 0.0]]))[0].tolist() == pytest.approx(
        [2 * s - 1, 1 - 2 * s]
    )
    small = exponential_weights(
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 1e-3
    )  # small psi: 2 psi A / G
    torch.testing.assert_close(
        small, 2e-3 / 4 * group_mean(torch.tensor([[1.0, 0.0, 0.0, 0.0]])), rtol=1e-3, atol=0
    )


def test_wd1_over_a_batch_mixes_the_groups():
    """Over the batch all B groups share one softmax, times B; a dead group then gets weight
    although it says nothing."""
    rewards = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    mixed = exponential_weights(rewards, over="batch", negative=False)
    assert mixed.sum().item() == pytest.approx(2)
    assert (mixed.sum(1) - 1).abs().min() > 0.05
    assert exponential_weights(rewards)[1].tolist() == [0, 0]
    one = rewards[:1]
    assert torch.equal(exponential_weights(one, over="batch"), exponential_weights(one))


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e3, 1e3, width=32), st.integers(2, 16))
def test_equal_rewards_earn_exactly_nothing(reward, group):
    """Zero to the last bit, for wd1's weights and for every step of MDPO."""
    assert (exponential_weights(torch.full((2, group), reward)) == 0).all()
    assert (step_credit(torch.full((2, group, 5), reward)) == 0).all()


def test_mdpos_credit_by_hand():
    """Three steps, two siblings. a_t = r_t - r_{t-1} + mean of the later rewards; the last step's
    outlook is its own reward.

    Sibling 0: rewards (0, 1, 1): a = (0 + 1, 1 + 1, 0 + 1). Sibling 1: (1, 0, 0): a = (1 + 0, -1 +
    0, 0 + 0).
    """
    rewards = torch.tensor([[[0.0, 1, 1], [1, 0, 0]]])
    a = torch.tensor([[[1.0, 2, 1], [1, -1, 0]]])
    wanted = torch.stack([z_score(a[:, :, t]) for t in range(3)], -1)
    torch.testing.assert_close(step_credit(rewards), wanted)
    assert step_credit(rewards)[0, :, 0].tolist() == [0, 0]  # the same a at step 0
    plain = torch.tensor([[[0.0, 1, 0], [1, -1, 0]]])
    wanted = torch.stack([z_score(plain[:, :, t]) for t in range(3)], -1)
    torch.testing.assert_close(step_credit(rewards, outlook=False), wanted)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(1, 6), st.floats(-3, 3))
def test_mdpos_credit_follows_the_released_formula(shape, steps, shift):
    """Written as the release has it, with the 1 added: the z-score takes it out. Siblings may be
    permuted."""
    r = random_rewards(*shape[:2], steps, seed=shape[2])
    released = torch.empty_like(r)
    for t in range(steps):
        change = r[..., t] - (r[..., t - 1] if t else 0)
        later = r[..., t + 1 :].mean(-1) if t < steps - 1 else r[..., -1]
        released[..., t] = change + 1 + later
    wanted = (released - released.mean(1, keepdim=True)) / (released.std(1, keepdim=True) + 1e-4)
    torch.testing.assert_close(step_credit(r), wanted, rtol=1e-3, atol=1e-3)
    order = torch.randperm(shape[1], generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        step_credit(r[:, order]), step_credit(r)[:, order], rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: exponential_weights(torch.zeros(2, 1)), "no siblings"),
        (
            lambda: exponential_weights(torch.tensor([[1.0, float("nan")]])),
            "reward nan of sibling 1 in group 0",
        ),
        (lambda: exponential_weights(torch.zeros(2, 2), psi=0), "psi > 0"),
        (lambda: exponential_weights(torch.zeros(2, 2), over="row"), "'group' or 'batch'"),
        (
            lambda: step_credit(torch.zeros(2, 2)),
            r"siblings, steps\) and not empty, got shape \(2, 2\)",
        ),
        (lambda: step_credit(torch.zeros(2, 2, 0)), "not empty"),
        (lambda: step_credit(torch.zeros(2, 1, 3)), "no siblings"),
        (lambda: step_credit(torch.full((2, 2, 3), float("inf"))), "not finite"),
    ],
)
def test_bad_input_is_named(call, message):
    """Empty groups, lone siblings, rewards that are not finite, unknown settings."""
    with pytest.raises(ValueError, match=message):
        call()
