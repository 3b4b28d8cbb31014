"""The ratio and clip rules of the GRPO family: slopes by autograd, limit cases, identities."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.objectives import (
    capped_weight,
    clip_higher,
    clipped_ratio,
    entropy_clip,
    group_regression,
    guarded_ratio,
    mean_log_ratio,
    own_segments,
    probability_bounds,
    probability_clip,
    segment_mean,
    shaped_where_given,
    soft_gate,
    standardised_steps,
    step_log_ratio,
)
from dllm_rl_lite.sampler import Rollout

GROUP = 4
N, L = 8, 6


def rollout_of(steps=3, seed=0):
    """Two groups of four texts, each token revealed at a random step; texts end where they like."""
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 6, (N, L), generator=g)
    return Rollout(
        prompt=torch.zeros(N, 1, dtype=torch.int64),
        prompt_mask=torch.ones(N, 1, dtype=torch.bool),
        tokens=tokens,
        unmask_step=torch.randint(0, steps, (N, L), generator=g),
        logprob=-torch.rand(N, L, generator=g, dtype=torch.float64),
        entropy=torch.rand(N, L, generator=g, dtype=torch.float64),
        n_forwards=torch.full((N,), steps),
        mask_id=7,
        eos_id=6,
    )


def scores(seed=0, spread=0.3):
    """logp, old (N, L) and advantage (N, 1), float64; every token is scored but some of the
    last."""
    g = torch.Generator().manual_seed(seed)
    old = -3 * torch.rand(N, L, generator=g, dtype=torch.float64)
    logp = old + spread * torch.randn(N, L, generator=g, dtype=torch.float64)
    advantage = torch.randn(N, 1, generator=g, dtype=torch.float64)
    scored = torch.rand(N, L, generator=g) < 0.8
    scored[:, 0] = True
    return logp, old, advantage, scored


# Each rule as a function of (logp, old, advantage, scored) alone.
RULES = {
    "clip_higher": lambda logp, old, a, scored: clip_higher(logp - old, a, 0.2),
    "capped_weight": lambda logp, old, a, scored: capped_weight(logp - old, logp, a),
    "soft_gate": lambda logp, old, a, scored: soft_gate(logp - old, a),
    "soft_gate at 5": lambda logp, old, a, scored: soft_gate(logp - old, a, 5.0, 0.3),
    "probability_clip": lambda logp, old, a, scored: probability_clip(logp - old, old, a),
    "entropy_clip": lambda logp, old, a, scored: entropy_clip(
        step_log_ratio(logp, old, scored, rollout_of()), a, 0.2, rollout_of()
    ),
    "guarded_ratio": lambda logp, old, a, scored: guarded_ratio(
        logp - old, a, 0.2, scored, rollout_of(), GROUP
    ),
}


def slopes(rule, logp, old, advantage, scored):
    leaf = logp.clone().requires_grad_()
    losses = rule(leaf, old, advantage, scored)
    return torch.autograd.grad((losses * scored).sum(), leaf)[0]


@pytest.mark.parametrize("name", RULES)
def test_at_the_old_policy_every_slope_is_minus_the_advantage(name):
    """At ratio 1 all rules have REINFORCE's gradient, whatever their numbers."""
    _, old, advantage, scored = scores()
    got = slopes(RULES[name], old, old, advantage, scored)
    torch.testing.assert_close(got, -advantage * scored, rtol=1e-9, atol=1e-12)


def grid():
    """Ratios from 0.05 to 12, none of them a bound, for a good and a bad text; old probability
    0.3."""
    ratio = torch.linspace(0.0513, 12, 240, dtype=torch.float64)
    old = torch.full((2, 240), math.log(0.3), dtype=torch.float64)
    advantage = torch.tensor([[1.5], [-0.7]], dtype=torch.float64)
    return ratio, old + ratio.log(), old, advantage, torch.ones(2, 240, dtype=torch.bool)


def test_dapos_clip_is_grpos_where_the_bounds_are_equal():
    """And only the upper bound moves: between 1.2 and 1.28 a good token still has its slope."""
    ratio, logp, old, advantage, scored = grid()
    same = clip_higher(logp - old, advantage, 0.2, high=0.2)
    assert torch.equal(same, clipped_ratio(logp - old, advantage, 0.2))
    got = slopes(RULES["clip_higher"], logp, old, advantage, scored)
    torch.testing.assert_close(got[0], -1.5 * ratio * (ratio <= 1.28))
    torch.testing.assert_close(got[1], 0.7 * ratio * (ratio >= 0.8))


def test_cispos_slope_is_capped_and_never_zero():
    """Minus A times the ratio up to the cap, A times the cap above; without a cap the gradient of
    importance weighting."""
    ratio, logp, old, advantage, scored = grid()
    got = slopes(RULES["capped_weight"], logp, old, advantage, scored)
    torch.testing.assert_close(got, -advantage * ratio.clamp(max=5))
    assert (got != 0).all()
    free = slopes(
        lambda x, o, a, s: capped_weight(x - o, x, a, cap=math.inf), logp, old, advantage, scored
    )
    torch.testing.assert_close(free, -advantage * ratio)


def test_sapos_gate_by_its_formula_and_in_the_limit():
    """The slope is ratio A 4 s (1 - s); as tau goes to 0 the loss is importance weighting plus a
    constant."""
    ratio, logp, old, advantage, scored = grid()
    got = slopes(RULES["soft_gate"], logp, old, advantage, scored)
    tau = torch.tensor([[1.0], [1.05]], dtype=torch.float64)
    s = torch.sigmoid(tau * (ratio - 1))
    torch.testing.assert_close(got, -advantage * ratio * 4 * s * (1 - s))
    assert (got != 0).all()
    small = 1e-5
    limit = soft_gate(logp - old, advantage, small, small) + 2 / small * advantage
    torch.testing.assert_close(limit, -advantage * (ratio - 1), rtol=0, atol=1e-5)
    far = soft_gate(torch.full((1, 1), 800.0), torch.ones(1, 1))
    assert torch.isfinite(far).all()


@settings(max_examples=60, deadline=None)
@given(st.floats(0.001, 1.0), st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_dcpos_bounds_limit_how_far_a_probability_moves(q, low, high):
    """(hi - 1) hi q = high where the cap is not reached, (1 - lo) lo q = low where q >= 4 low;
    below that lo is 0.5."""
    old = torch.tensor([[q]], dtype=torch.float64).log()
    least, largest = (x.item() for x in probability_bounds(old, low, high, most=1e9))
    assert (largest - 1) * largest * q == pytest.approx(high, abs=1e-9)
    if q >= 4 * low:
        assert (1 - least) * least * q == pytest.approx(low, abs=1e-9)
    else:
        assert least == pytest.approx(0.5)


def test_dcpos_bounds_by_hand():
    """The rarer a token, the wider; at q = 1 and a small epsilon 1 +- epsilon to first order."""
    old = torch.tensor([[0.01, 0.3, 0.9]], dtype=torch.float64).log()
    least, largest = probability_bounds(old)
    assert least.tolist()[0] == pytest.approx([0.5, 0.5, 0.769], abs=5e-4)
    assert largest.tolist()[0] == pytest.approx([5.0, 1.457, 1.187], abs=5e-4)
    least, largest = probability_bounds(torch.zeros(1, 1, dtype=torch.float64), 1e-4, 1e-4)
    assert least.item() == pytest.approx(1 - 1e-4, abs=1e-7)
    assert largest.item() == pytest.approx(1 + 1e-4, abs=1e-7)
    assert probability_bounds(torch.tensor([[-20.0]]))[1].item() == 10.0


def test_dcpos_slope_stops_at_its_bounds():
    """A good token counts up to the upper bound; a bad one from the lower bound to ratio 10, the
    dual clip."""
    ratio, logp, old, advantage, scored = grid()
    got = slopes(RULES["probability_clip"], logp, old, advantage, scored)
    least, largest = probability_bounds(old)
    torch.testing.assert_close(got[0], -1.5 * ratio * (ratio <= largest[0]))
    torch.testing.assert_close(got[1], 0.7 * ratio * ((ratio >= least[1]) & (ratio <= 10)))


# ---------------------------------------------------------------- segments


def test_a_segments_mean_by_hand():
    """Equal numbers belong together, in any row; what does not count is told the mean all the
    same."""
    values = torch.tensor([[1.0, 3.0, 10.0], [5.0, 7.0, 2.0]])
    segment = torch.tensor([[0, 0, 1], [0, 1, 2]])
    counted = torch.tensor([[True, True, False], [True, True, False]])
    got = segment_mean(values, segment, counted)
    assert got.tolist() == [[3.0, 3.0, 7.0], [3.0, 7.0, 0.0]]


def test_segments_are_kept_apart_by_row_or_by_group():
    steps = torch.tensor([[-1, 1], [0, 1], [1, 0], [0, 0]])
    assert own_segments(steps).tolist() == [[0, 1], [2, 3], [5, 4], [6, 6]]
    assert own_segments(steps, 2).tolist() == [[0, 1], [0, 1], [3, 2], [2, 2]]
    with pytest.raises(ValueError, match="group 3 must divide the number of rows, 4"):
        own_segments(steps, 3)


@pytest.mark.parametrize("seed", range(3))
def test_one_step_is_gspos_ratio_and_one_per_token_the_tokens(seed):
    """In between, the mean over each step's scored tokens of each text, written as a loop."""
    logp, old, _, scored = scores(seed)
    rollout = rollout_of(seed=seed)
    got = step_log_ratio(logp, old, scored, rollout)
    for i in range(N):
        for step in range(3):
            here = (rollout.unmask_step[i] == step) & scored[i]
            wanted = float((logp - old)[i][here].mean()) if here.any() else 0.0
            assert got[i][here].tolist() == pytest.approx([wanted] * int(here.sum()))
    whole = step_log_ratio(logp, old, scored, rollout_of(steps=1))
    torch.testing.assert_close(whole, mean_log_ratio(logp, old, scored).expand(N, L))
    rollout.unmask_step[:] = torch.arange(L)
    single = step_log_ratio(logp, old, scored, rollout)
    torch.testing.assert_close(single, (logp - old) * scored)


def test_without_the_entropys_factor_the_clip_is_fixed():
    """With it, the certain half of a text has half the room, the other one more."""
    logp, old, advantage, _ = scores()
    rollout = rollout_of()
    fixed = entropy_clip(logp - old, advantage, 0.2, rollout, least=1.0, most=1.0)
    assert torch.equal(fixed, clipped_ratio(logp - old, advantage, 0.2))
    rollout.unmask_step[:] = torch.arange(L) // 3
    rollout.entropy[:] = torch.tensor([0.1, 0.1, 0.1, 1.9, 1.9, 1.9])
    up = torch.full((N, L), math.log(1.5), dtype=torch.float64)
    good = torch.ones(N, 1, dtype=torch.float64)
    got = entropy_clip(up, good, 0.2, rollout)
    assert got[0].tolist() == pytest.approx([-1.1] * 3 + [-1.38] * 3)


@pytest.mark.parametrize("seed", range(3))
def test_guarded_log_ratios_have_mean_zero_and_equal_spread(seed):
    """Within each step of each group; steps without any spread stay at zero."""
    logp, old, _, scored = scores(seed)
    rollout = rollout_of(seed=seed)
    shifted = logp - old - 0.5 * rollout.unmask_step
    got, _ = standardised_steps(shifted, scored, rollout, GROUP, eps=1e-12)
    for rows in (slice(0, 4), slice(4, 8)):
        spreads = []
        for step in range(3):
            here = got[rows][(rollout.unmask_step[rows] == step) & scored[rows]]
            assert here.mean().item() == pytest.approx(0, abs=1e-9)
            spreads.append(here.std(correction=0).item())
        assert spreads == pytest.approx([spreads[0]] * 3)


def test_one_step_for_all_tokens_is_only_recentred():
    logp, old, _, scored = scores()
    rollout = rollout_of(steps=1)
    got, stretch = standardised_steps(logp - old, scored, rollout, N)
    torch.testing.assert_close(stretch, torch.ones_like(stretch))
    torch.testing.assert_close(got, logp - old - (logp - old)[scored].mean())


def test_guarded_steps_weigh_the_same():
    """The mean over each step's tokens of slope / -A is 1, however far the step has drifted; a step
    whose tokens are all clipped has none."""
    logp, old, advantage, scored = scores(spread=0.6)
    rollout = rollout_of()
    drifted = logp - 0.7 * rollout.unmask_step
    weight = slopes(RULES["guarded_ratio"], drifted, old, advantage, scored) / -advantage
    assert ((weight == 0) & scored).any()  # some are clipped
    for rows in (slice(0, 4), slice(4, 8)):
        for step in range(3):
            here = (rollout.unmask_step[rows] == step) & scored[rows]
            assert weight[rows][here].mean().item() == pytest.approx(1)


# ---------------------------------------------------------------- regression


def z(values, eps=0.0):
    """Over each group of (B, G)."""
    return (values - values.mean(1, keepdim=True)) / (values.std(1, keepdim=True) + eps)


def texts(seed, group, groups=3):
    g = torch.Generator().manual_seed(seed)
    change = torch.randn(groups, group, generator=g, dtype=torch.float64)
    rewards = torch.rand(groups, group, generator=g, dtype=torch.float64)
    return change, z(rewards)


def flat(values):
    return values.reshape(-1, 1)


@pytest.mark.parametrize("group", [2, 5, 8])
def test_reg_grpos_loss_is_a_correlation(group):
    """Its mean over a group is 2 (G - 1) / G (1 - correlation); zero at any affine map of the
    rewards."""
    change, advantage = texts(group, group)
    got = group_regression(flat(change), flat(advantage), group, eps=1e-12).view(3, group).mean(1)
    correlation = (z(change) * advantage).sum(1) / (group - 1)
    torch.testing.assert_close(got, 2 * (group - 1) / group * (1 - correlation))
    affine = group_regression(flat(3 * advantage - 2), flat(advantage), group, eps=1e-12)
    torch.testing.assert_close(affine, torch.zeros_like(affine))


def slope_of_regression(change, advantage, group, **numbers):
    leaf = flat(change).clone().requires_grad_()
    losses = group_regression(leaf, flat(advantage), group, **numbers)
    loss = losses.sum() / group  # of each group its mean
    return torch.autograd.grad(loss, leaf)[0].view(-1, group)


def test_reg_grpos_slope_never_says_how_far():
    """It is orthogonal to the log-ratios and to the vector of ones."""
    change, advantage = texts(1, 8)
    slope = slope_of_regression(change, advantage, 8, eps=1e-12)
    assert slope.abs().max() > 0.01
    torch.testing.assert_close((slope * change).sum(1), torch.zeros(3).double(), rtol=0, atol=1e-11)
    torch.testing.assert_close(slope.sum(1), torch.zeros(3).double(), rtol=0, atol=1e-11)


def test_reg_grpos_first_slope_is_grpos_direction_at_a_length_set_by_eps():
    """-2 / (G eps) times the advantage, where no log-ratio has moved: no division by zero."""
    _, advantage = texts(2, 8)
    slope = slope_of_regression(torch.zeros_like(advantage), advantage, 8)
    torch.testing.assert_close(slope, -2 / (8 * 1e-4) * advantage)


def test_with_beta_the_regression_has_a_scale():
    """It is zero where beta times the log-ratios is the advantage, up to a constant of the group,
    and not at twice that."""
    _, advantage = texts(3, 4)
    there = advantage / 0.5 + 7.0
    zero = torch.zeros(12, 1, dtype=torch.float64)
    torch.testing.assert_close(group_regression(flat(there), flat(advantage), 4, beta=0.5), zero)
    assert group_regression(flat(2 * there), flat(advantage), 4, beta=0.5).max() > 0.1


def test_groups_do_not_see_each_other():
    change, advantage = texts(4, 4)
    whole = group_regression(flat(change), flat(advantage), 4)
    parts = [group_regression(flat(c), flat(a), 4) for c, a in zip(change, advantage, strict=True)]
    torch.testing.assert_close(whole, torch.cat(parts))


# ---------------------------------------------------------------- RGR-GRPO


def test_only_texts_with_given_tokens_are_shaped():
    """With none given it is PPO's clip; a text with one has the slope -A gamma p / (p + gamma)^2,
    largest at p = gamma, whatever the old policy says."""
    logp, old, advantage, _ = scores()
    rollout = rollout_of()
    plain = clipped_ratio(logp - old, advantage, 0.2)
    assert torch.equal(shaped_where_given(logp - old, logp, advantage, 0.2, rollout), plain)

    steps = rollout.unmask_step.clone()
    steps[2, 4] = -1
    given = replace(rollout, unmask_step=steps)
    got = shaped_where_given(logp - old, logp, advantage, 0.2, given)
    others = torch.arange(N) != 2
    assert torch.equal(got[others], plain[others])
    p = logp[2].exp()
    wanted = -advantage[2] * 0.1 * p / (p + 0.1) ** 2
    leaf = logp.clone().requires_grad_()
    shaped = shaped_where_given(leaf - old, leaf, advantage, 0.2, given)
    (slope,) = torch.autograd.grad(shaped.sum(), leaf)
    torch.testing.assert_close(slope[2], wanted)
    assert (wanted.abs() <= advantage[2].abs() / 4).all()


ONE = torch.zeros(1, 1)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: clip_higher(ONE, ONE, 0.2, -0.1), "high must be at least 0, got -0.1"),
        (lambda: capped_weight(ONE, ONE, ONE, cap=0.2), "floor <= 1 <= cap, got floor 0.0 and cap"),
        (lambda: soft_gate(ONE, ONE, tau=0.0), "must be above 0, got tau 0.0"),
        (lambda: probability_bounds(ONE, low=-1.0), "need low >= 0, high >= 0, most >= 1"),
        (
            lambda: entropy_clip(ONE, ONE, 0.2, rollout_of(), least=2.0),
            "least <= 1 <= most, got least 2.0",
        ),
        (
            lambda: shaped_where_given(ONE, ONE, ONE, 0.2, rollout_of(), gamma=0.0),
            "loss.gamma must be above 0, got 0.0",
        ),
        (lambda: group_regression(ONE, ONE, 1), "at least 2 and divide the 1 rows, got 1"),
        (lambda: group_regression(ONE.expand(2, 1), ONE, 2, eps=0.0), "eps > 0, got beta 0.0"),
    ],
)
def test_bad_numbers_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
