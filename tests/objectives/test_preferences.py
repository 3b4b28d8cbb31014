"""Losses that prefer: by hand, at the reference, and RSPO's penalty by enumeration."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.objectives import mixed_divergence, preference, win_rate_regression

SIGN = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)


def log_ratios(n=4, length=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, length, generator=g, dtype=torch.float64)


def slope(loss, leaf):
    (found,) = torch.autograd.grad(loss.sum(), leaf, retain_graph=True)
    return found


# ---------------------------------------------------------------- pairs


def test_a_pairs_loss_by_hand():
    """DPO's, from the sums over the scored tokens."""
    log_ratio = log_ratios()
    scored = torch.tensor([[True, True, False]] * 4)
    found = preference(log_ratio, SIGN, scored, beta=0.3)
    for pair in range(2):
        right, wrong = log_ratio[2 * pair : 2 * pair + 2, :2].sum(1).tolist()
        wanted = math.log(1 + math.exp(-0.3 * (right - wrong)))
        assert found[2 * pair : 2 * pair + 2, 0].tolist() == pytest.approx([wanted / 2] * 2)


@settings(max_examples=20, deadline=None)
@given(beta=st.floats(0.01, 5), seed=st.integers(0, 100))
def test_at_the_reference_it_is_reinforce_on_the_pair(beta, seed):
    """The slope is -beta / 2 times the advantage, with credit by token too, and whatever alpha;
    swapping right and wrong flips it."""
    advantage = SIGN * log_ratios(seed=seed).abs()
    scored = torch.ones(4, 3, dtype=torch.bool)
    zero = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    for alpha in (0.0, 0.5):
        found = slope(preference(zero, advantage, scored, beta=beta, alpha=alpha), zero)
        torch.testing.assert_close(found, -beta / 2 * advantage, rtol=1e-12, atol=0)
    swapped = slope(preference(zero, -advantage, scored, beta=beta), zero)
    torch.testing.assert_close(swapped, -found, rtol=1e-12, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_tgdpos_weights_by_hand(alpha):
    """1 + alpha q on the right text's tokens and 1 - alpha q on the wrong one's, as constants; with
    alpha 0 DPO's."""
    beta = 0.4
    leaf = log_ratios(2, 3, seed=3).requires_grad_()
    scored = torch.ones(2, 3, dtype=torch.bool)
    found = preference(leaf, SIGN[:2], scored, beta=beta, alpha=alpha)
    q = beta * leaf.detach()
    right = (beta * (1 + alpha * q[0]) * leaf[0]).sum()
    wrong = (beta * (1 - alpha * q[1]) * leaf[1]).sum()
    wanted = -torch.nn.functional.logsigmoid(right - wrong)
    assert found.sum().item() == pytest.approx(wanted.item(), rel=1e-12)
    torch.testing.assert_close(slope(found, leaf), slope(wanted, leaf), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "rows, numbers, said",
    [
        (3, {}, "rows come in pairs, got 3"),
        (4, {"beta": 0.0}, "beta > 0"),
        (4, {"alpha": -1.0}, "alpha >= 0"),
    ],
)
def test_what_cannot_be_compared_is_refused(rows, numbers, said):
    with pytest.raises(ValueError, match=said):
        preference(log_ratios(rows), SIGN[:rows], torch.ones(rows, 3) > 0, **numbers)


# ---------------------------------------------------------------- RSPO


def test_sppo_by_hand():
    """1/2 (R - psi (P - 1/2))^2, whose slope at the old policy is -psi (P - 1/2)."""
    ratio = torch.tensor([[0.0], [0.5], [-1.0]], dtype=torch.float64, requires_grad=True)
    win = torch.tensor([[0.5], [0.0], [-0.5]], dtype=torch.float64)
    found = win_rate_regression(ratio, win, psi=2.0)
    assert found.flatten().tolist() == [0.5, 0.125, 0.0]
    assert slope(found, ratio).flatten().tolist() == [-1.0, 0.5, 0.0]
    with pytest.raises(ValueError, match="psi must be above 0, got 0"):
        win_rate_regression(ratio, win, psi=0)


def divergences(p, q):
    """KL(q || p), 2 KL(p || q) and half of chi2(p || q), of a policy p and a reference q."""
    forward = (q * (q / p).log()).sum()
    reverse = 2 * (p * (p / q).log()).sum()
    chi2 = ((p - q) ** 2 / q).sum() / 2
    return forward, reverse, chi2


@pytest.mark.parametrize(
    "mix", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.3, 0.5, 0.2)]
)
def test_rspos_penalties_have_the_gradients_of_divergences(mix):
    """Over all 16 texts of two tokens, drawn from the policy: the mean gradient is that of the
    divergence of the text distributions."""
    g = torch.Generator().manual_seed(0)
    theta = torch.randn(2, 4, generator=g, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(2, 4, generator=g, dtype=torch.float64).log_softmax(1)
    texts = torch.tensor(list(itertools.product(range(4), repeat=2)))
    place = torch.arange(2)
    logp = theta.log_softmax(1)[place, texts]  # (16, 2)
    ref = reference[place, texts]
    scored = torch.ones_like(texts, dtype=torch.bool)
    forward, reverse, chi2 = mix
    penalty = mixed_divergence(logp, ref, scored, forward=forward, reverse=reverse, chi2=chi2)
    chance = logp.sum(1).exp()
    found = slope(chance.detach()[:, None] * penalty, theta)
    parts = divergences(chance, ref.sum(1).exp())
    wanted = slope(sum(share * part for share, part in zip(mix, parts, strict=True)), theta)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("numbers", [{"reverse": -1.0}, {"chi2": -0.1}, {"most": 0.0}], ids=str)
def test_a_divergence_out_of_range_is_named(numbers):
    logp = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="need forward, reverse and chi2 of at least 0"):
        mixed_divergence(logp, logp, logp == 0, **numbers)


def test_a_large_quotient_is_cut_off():
    """Beyond `most` nats a penalty has no gradient, and no more than e^most."""
    logp = torch.tensor([[-12.0], [12.0]], dtype=torch.float64, requires_grad=True)
    ref = torch.zeros_like(logp)
    scored = torch.ones(2, 1, dtype=torch.bool)
    for number, row in (("forward", 0), ("chi2", 1)):
        mix = {"forward": 0.0, "reverse": 0.0, number: 1.0}
        found = mixed_divergence(logp, ref, scored, **mix)
        assert found[row].item() == pytest.approx(math.exp(10))
        assert slope(found, logp)[row] == 0
