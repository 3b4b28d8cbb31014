"""Credit and losses: by hand, by autograd, and by their invariances."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.advantages import group_mean
from dllm_rl_lite.objectives import clipped_k3, clipped_ratio, clipped_weighted_k3, k3

logprobs = st.lists(st.floats(-12, 0, width=32), min_size=1, max_size=6)


def column(values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


# ---------------------------------------------------------------- credit


def test_group_mean_by_hand():
    """Reward minus the mean of its own group, without division by the spread."""
    got = group_mean(torch.tensor([[1.0, 0.0, 0.0, 1.0], [5.0, 1.0, 0.0, 0.0]]))
    assert got.tolist() == [[0.5, -0.5, -0.5, 0.5], [3.5, -0.5, -1.5, -1.5]]


groups = st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(0, 999))


def rewards_of(shape):
    b, g, seed = shape
    return torch.randn(b, g, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(groups, st.floats(-3, 3))
def test_group_mean_invariances(shape, shift):
    """Rows sum to zero; siblings can be permuted; a constant changes nothing; credit scales with the reward."""
    rewards = rewards_of(shape)
    got = group_mean(rewards)
    torch.testing.assert_close(got.sum(1), torch.zeros(shape[0]), rtol=0, atol=1e-5)
    order = torch.randperm(shape[1], generator=torch.Generator().manual_seed(shape[2]))
    torch.testing.assert_close(group_mean(rewards[:, order]), got[:, order], rtol=0, atol=1e-6)
    torch.testing.assert_close(group_mean(rewards + shift), got, rtol=0, atol=1e-5)
    torch.testing.assert_close(group_mean(3 * rewards), 3 * got, rtol=0, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6, width=32), st.integers(1, 64))
def test_equal_rewards_earn_exactly_nothing(reward, group):
    """A dead group has credit 0, not 1e-9: it is then left out of the update, and Adam cannot blow it up."""
    assert (group_mean(torch.full((2, group), reward)) == 0).all()


@pytest.mark.parametrize("rewards, message", [
    (torch.zeros(0, 4), r"not empty, got shape \(0, 4\)"),
    (torch.zeros(4, 0), "not empty"),
    (torch.zeros(4), "groups, siblings"),
    (torch.tensor([[1.0, 2.0], [0.0, float("nan")]]), "reward nan of sibling 1 in group 1 is not finite"),
    (torch.tensor([[float("inf"), 2.0]]), "reward inf of sibling 0 in group 0 is not finite"),
])
def test_bad_rewards_are_named(rewards, message):
    """Empty groups and rewards that are not finite."""
    with pytest.raises(ValueError, match=message):
        group_mean(rewards)


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("ratio, advantage, loss, slope", [
    (1.0, 2.0, -2.0, -2.0), (1.0, -2.0, 2.0, 2.0),  # at ratio 1: -A, and the gradient is REINFORCE's
    (1.1, 1.0, -1.1, -1.1), (0.9, 1.0, -0.9, -0.9),  # inside
    (1.5, 1.0, -1.2, 0.0), (0.5, 1.0, -0.5, -0.5),  # A > 0: cut above 1.2, not below
    (0.5, -1.0, 0.8, 0.0), (1.5, -1.0, 1.5, 1.5),  # A < 0: cut below 0.8, not above
    (7.0, 0.0, 0.0, 0.0),
])
def test_clipped_ratio_by_hand(ratio, advantage, loss, slope):
    """-min(r A, clip(r, 0.8, 1.2) A), and its derivative with respect to the log-probability, -r A or 0."""
    old = torch.tensor([[-1.3]], dtype=torch.float64)
    logp = (old + torch.tensor(ratio, dtype=torch.float64).log()).requires_grad_()
    got = clipped_ratio(logp, old, column([advantage]), 0.2)
    got.sum().backward()
    assert got.item() == pytest.approx(loss, abs=1e-12) and logp.grad.item() == pytest.approx(slope, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(logprobs, st.floats(-3, 3), st.floats(0, 0.9), st.integers(0, 99))
def test_clipping_is_pessimistic(old, advantage, clip, seed):
    """The clipped loss is never below the unclipped one, and equals it inside the range."""
    old = column(old)
    logp = old + 0.7 * torch.randn(old.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    plain = -(logp - old).exp() * advantage
    got = clipped_ratio(logp, old, torch.full_like(old, advantage), clip)
    assert (got >= plain - 1e-12).all()
    inside = ((logp - old).exp() - 1).abs() <= clip
    torch.testing.assert_close(got[inside], plain[inside])


def test_gradient_flows_through_the_new_policy_only():
    """old is a constant: with the same tensor on both sides the gradient is that of its first use."""
    logp = torch.tensor([[-0.5, -2.0]], requires_grad=True)
    clipped_ratio(logp, logp.detach(), torch.tensor([[3.0]]), 0.2).sum().backward()
    assert logp.grad.tolist() == [[-3.0, -3.0]]


@settings(max_examples=100, deadline=None)
@given(logprobs, st.integers(0, 99))
def test_k3_is_never_negative_and_zero_only_at_equality(ref, seed):
    """k3 >= 0; 0 with zero slope where the policies agree; e^d - d - 1 by Python's own arithmetic."""
    ref = column(ref)
    logp = ref + torch.randn(ref.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert (k3(logp, ref) > 0).all()
    same = ref.clone().requires_grad_()
    value = k3(same, ref)
    value.sum().backward()
    assert (value == 0).all() and (same.grad == 0).all()
    assert k3(torch.tensor(-1.0), torch.tensor(-3.0)).item() == pytest.approx(2.718281828 ** -2 + 2 - 1, rel=1e-6)


def test_k3_estimates_the_kl_without_bias():
    """Its exact mean under the policy is KL(policy || reference)."""
    p, q = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]], dtype=torch.float64)
    assert (p * k3(p.log(), q.log())).sum().item() == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-12)


def test_token_losses_add_the_penalty():
    """diffu-GRPO adds kl * k3; AGRPO multiplies k3 by the ratio; with kl = 0 no reference is needed."""
    logp, old, ref = (torch.tensor([[a, b]]) for a, b in ((-1.0, -2.0), (-1.1, -1.9), (-0.5, -2.5)))
    advantage = torch.tensor([[0.7]])
    base, penalty = clipped_ratio(logp, old, advantage, 0.2), k3(logp, ref)
    torch.testing.assert_close(clipped_k3(logp, old, ref, advantage, 0.2, 0.3), base + 0.3 * penalty)
    torch.testing.assert_close(clipped_weighted_k3(logp, old, ref, advantage, 0.2, 0.3),
                               base + 0.3 * penalty * (logp - old).exp())
    for loss in (clipped_k3, clipped_weighted_k3):
        assert torch.equal(loss(logp, old, None, advantage, 0.2, 0.0), base)


def test_weighted_k3_has_the_gradient_of_the_kl():
    """On-policy, the mean of AGRPO's penalty has the exact gradient of KL(policy || reference); k3 alone has not."""
    q = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)
    logits = torch.tensor([0.4, -0.3, 0.2], dtype=torch.float64, requires_grad=True)

    def gradient(make):
        return torch.autograd.grad(make(logits.log_softmax(0)), logits)[0]
    wanted = gradient(lambda lp: (lp.exp() * (lp - q.log())).sum())
    p = logits.detach().softmax(0)
    zero = torch.zeros(3).double()
    weighted, plain = (gradient(lambda lp, f=f: (p * f(lp, lp.detach(), q.log(), zero, 0.2, 1.0)).sum())
                       for f in (clipped_weighted_k3, clipped_k3))
    torch.testing.assert_close(weighted, wanted)
    assert (plain - wanted).abs().max() > 0.05
