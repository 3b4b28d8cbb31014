"""Credit and losses: by hand, by autograd, by enumeration, and by their invariances."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.advantages import group_mean, leave_one_out, z_score
from dllm_rl_lite.methods import CORE, METHODS
from dllm_rl_lite.objectives import (
    AVERAGES,
    clipped_ratio,
    divisors,
    k1,
    k2,
    k3,
    token_weights,
)

logprobs = st.lists(st.floats(-12, 0, width=32), min_size=1, max_size=6)


def column(values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


# ---------------------------------------------------------------- credit


def test_group_mean_by_hand():
    """Reward minus the mean of its own group, without division by the spread."""
    got = group_mean(torch.tensor([[1.0, 0.0, 0.0, 1.0], [5.0, 1.0, 0.0, 0.0]]))
    assert got.tolist() == [[0.5, -0.5, -0.5, 0.5], [3.5, -0.5, -1.5, -1.5]]


groups = st.tuples(st.integers(1, 4), st.integers(2, 8), st.integers(0, 999))


def rewards_of(shape):
    b, g, seed = shape
    return torch.randn(b, g, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(groups, st.floats(-3, 3))
def test_group_mean_invariances(shape, shift):
    """Rows sum to zero; siblings can be permuted; a constant changes nothing; credit scales with
    the reward."""
    rewards = rewards_of(shape)
    got = group_mean(rewards)
    torch.testing.assert_close(got.sum(1), torch.zeros(shape[0]), rtol=0, atol=1e-5)
    order = torch.randperm(shape[1], generator=torch.Generator().manual_seed(shape[2]))
    torch.testing.assert_close(group_mean(rewards[:, order]), got[:, order], rtol=0, atol=1e-6)
    torch.testing.assert_close(group_mean(rewards + shift), got, rtol=0, atol=1e-5)
    torch.testing.assert_close(group_mean(3 * rewards), 3 * got, rtol=0, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(1, 4), st.integers(2, 8), st.integers(0, 999)), st.floats(-3, 3))
def test_every_credit_has_the_invariances(shape, shift):
    """Leave-one-out and the z-score too sum to zero, follow a permutation and ignore a constant;
    only scale differs."""
    rewards = rewards_of(shape)
    order = torch.randperm(shape[1], generator=torch.Generator().manual_seed(shape[2]))
    for credit, tripled in ((leave_one_out, 3), (z_score, 1)):
        got = credit(rewards)
        torch.testing.assert_close(got.sum(1), torch.zeros(shape[0]), rtol=0, atol=1e-4)
        torch.testing.assert_close(credit(rewards[:, order]), got[:, order], rtol=0, atol=1e-5)
        torch.testing.assert_close(credit(rewards + shift), got, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            credit(3 * rewards), tripled * got, rtol=0.05, atol=1e-4
        )  # eps is not scaled


def test_leave_one_out_by_hand_and_by_its_name():
    """1 minus the mean of the other three; on random rewards, the definition written as a loop."""
    assert leave_one_out(torch.tensor([[1.0, 0.0, 0.0, 0.0]])).tolist()[0] == pytest.approx(
        [1, -1 / 3, -1 / 3, -1 / 3]
    )
    rewards = rewards_of((3, 5, 0))
    wanted = [[row[i] - (row.sum() - row[i]) / 4 for i in range(5)] for row in rewards]
    torch.testing.assert_close(leave_one_out(rewards), torch.tensor(wanted))


def test_z_score_by_hand():
    """(1, 0, 0, 0): 0.75 over a standard deviation of 0.5; eps sits beside it, not inside the
    root."""
    assert z_score(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 1e-9).tolist()[0] == pytest.approx(
        [1.5, -0.5, -0.5, -0.5]
    )
    assert z_score(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 0.5)[0, 0].item() == pytest.approx(0.75)


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6, width=32), st.integers(2, 64))
def test_equal_rewards_earn_exactly_nothing(reward, group):
    """A dead group has credit 0, not 1e-9: it is then left out of the update, and Adam cannot blow
    it up."""
    for credit in (group_mean, leave_one_out, z_score):
        assert (credit(torch.full((2, group), reward)) == 0).all()


def expected_slope(credit, p: float, g: int) -> float:
    """E[mean of A_i d log pi(a_i) / d theta], over all 2^g groups of siblings that are right with p
    = sigmoid(theta)."""
    total = 0.0
    for rewards in itertools.product((0.0, 1.0), repeat=g):
        right = int(sum(rewards))
        advantage = credit(torch.tensor([rewards], dtype=torch.float64))[0].tolist()
        score = [(1 - p) if r else -p for r in rewards]
        total += (
            p**right
            * (1 - p) ** (g - right)
            * sum(a * s for a, s in zip(advantage, score, strict=True))
            / g
        )
    return total


@pytest.mark.parametrize("p", [0.02, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("g", [2, 4, 7])
def test_bias_of_the_credit_by_enumeration(p, g):
    """Against d p / d theta = p (1 - p): leave-one-out is exact, group_mean is (G - 1) / G of it,
    whatever p is."""
    truth = p * (1 - p)
    assert expected_slope(leave_one_out, p, g) == pytest.approx(truth, rel=1e-12)
    assert expected_slope(group_mean, p, g) == pytest.approx(truth * (g - 1) / g, rel=1e-12)


def test_the_z_score_favours_easy_and_hard_prompts():
    """Its expected gradient over the true one is no constant: it rises from the middle towards both
    ends."""
    weight = [expected_slope(z_score, p, 8) / (p * (1 - p)) for p in (0.05, 0.2, 0.5, 0.8, 0.95)]
    assert weight[0] > weight[1] > weight[2] < weight[3] < weight[4]
    assert weight[0] == pytest.approx(weight[4]) and weight[0] > 1.15 * weight[2]


@pytest.mark.parametrize(
    "rewards, message",
    [
        (torch.zeros(0, 4), r"not empty, got shape \(0, 4\)"),
        (torch.zeros(4, 0), "not empty"),
        (torch.zeros(4), "groups, siblings"),
        (
            torch.tensor([[1.0, 2.0], [0.0, float("nan")]]),
            "reward nan of sibling 1 in group 1 is not finite",
        ),
        (torch.tensor([[float("inf"), 2.0]]), "reward inf of sibling 0 in group 0 is not finite"),
    ],
)
def test_bad_rewards_are_named(rewards, message):
    """Empty groups and rewards that are not finite."""
    for credit in (group_mean, leave_one_out, z_score):
        with pytest.raises(ValueError, match=message):
            credit(rewards)


def test_a_text_without_siblings_and_a_spread_without_eps_are_named():
    """Nothing to compare with; zero over zero."""
    for credit in (group_mean, leave_one_out, z_score):
        with pytest.raises(ValueError, match="no siblings to compare with"):
            credit(torch.ones(3, 1))
    with pytest.raises(ValueError, match="eps must be above 0"):
        z_score(torch.ones(3, 2), 0.0)


# ---------------------------------------------------------------- losses


def losses_of(name, logp, old, ref, advantage, clip, kl):
    """A method's losses where every token is scored."""
    scored = torch.ones_like(logp, dtype=torch.bool)
    return METHODS[name].objective.losses(logp, old, ref, advantage, scored, clip=clip, kl=kl)


@pytest.mark.parametrize(
    "ratio, advantage, loss, slope",
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.0, -2.0, 2.0, 2.0),  # at ratio 1: -A, and the gradient is REINFORCE's
        (1.1, 1.0, -1.1, -1.1),
        (0.9, 1.0, -0.9, -0.9),  # inside
        (1.5, 1.0, -1.2, 0.0),
        (0.5, 1.0, -0.5, -0.5),  # A > 0: cut above 1.2, not below
        (0.5, -1.0, 0.8, 0.0),
        (1.5, -1.0, 1.5, 1.5),  # A < 0: cut below 0.8, not above
        (7.0, 0.0, 0.0, 0.0),
    ],
)
def test_clipped_ratio_by_hand(ratio, advantage, loss, slope):
    """-min(r A, clip(r, 0.8, 1.2) A), and its derivative with respect to the log-probability, -r A
    or 0."""
    old = torch.tensor([[-1.3]], dtype=torch.float64)
    logp = (old + torch.tensor(ratio, dtype=torch.float64).log()).requires_grad_()
    got = clipped_ratio(logp - old, column([advantage]), 0.2)
    got.sum().backward()
    assert got.item() == pytest.approx(loss, abs=1e-12) and logp.grad.item() == pytest.approx(
        slope, abs=1e-12
    )


@settings(max_examples=100, deadline=None)
@given(logprobs, st.floats(-3, 3), st.floats(0, 0.9), st.integers(0, 99))
def test_clipping_is_pessimistic(old, advantage, clip, seed):
    """The clipped loss is never below the unclipped one, and equals it inside the range."""
    old = column(old)
    logp = old + 0.7 * torch.randn(
        old.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    plain = -(logp - old).exp() * advantage
    got = clipped_ratio(logp - old, torch.full_like(old, advantage), clip)
    assert (got >= plain - 1e-12).all()
    inside = ((logp - old).exp() - 1).abs() <= clip
    torch.testing.assert_close(got[inside], plain[inside])


def test_gradient_flows_through_the_new_policy_only():
    """old is a constant: with the same tensor on both sides the gradient is that of its first
    use."""
    logp = torch.tensor([[-0.5, -2.0]], requires_grad=True)
    clipped_ratio(logp - logp.detach(), torch.tensor([[3.0]]), 0.2).sum().backward()
    assert logp.grad.tolist() == [[-3.0, -3.0]]


@settings(max_examples=100, deadline=None)
@given(logprobs, st.integers(0, 99))
def test_k3_is_never_negative_and_zero_only_at_equality(ref, seed):
    """k3 >= 0; 0 with zero slope where the policies agree; e^d - d - 1 by Python's own
    arithmetic."""
    ref = column(ref)
    logp = ref + torch.randn(
        ref.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    assert (k3(logp, ref) > 0).all()
    same = ref.clone().requires_grad_()
    value = k3(same, ref)
    value.sum().backward()
    assert (value == 0).all() and (same.grad == 0).all()
    assert k3(torch.tensor(-1.0), torch.tensor(-3.0)).item() == pytest.approx(
        2.718281828**-2 + 2 - 1, rel=1e-6
    )


def law(seed, n=6):
    """Logits of a policy and log-probabilities of a reference over n tokens."""
    g = torch.Generator().manual_seed(seed)
    logits, other = torch.randn(2, n, generator=g, dtype=torch.float64)
    return logits, other.log_softmax(0)


def divergence(logp, logq):
    return (logp.exp() * (logp - logq)).sum()


def mean(estimate, logits, ref):
    logp = logits.log_softmax(0)
    return (logp.exp() * estimate(logp, ref)).sum().item()


def loss_gradient(estimate, logits, ref, drawn_from=None):
    """Expected gradient of estimate(logp of the token) as a loss on a token that is already drawn:
    no gradient through the drawing. By enumeration of the vocabulary; the policy draws unless
    `drawn_from` (logits) does."""
    leaf = logits.clone().requires_grad_()
    weight = (logits if drawn_from is None else drawn_from).softmax(0)
    return torch.autograd.grad((weight * estimate(leaf.log_softmax(0), ref)).sum(), leaf)[0]


def true_gradient(make, logits):
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad(make(leaf.log_softmax(0)), leaf)[0]


@pytest.mark.parametrize("seed", range(5))
def test_values_of_k1_and_k3_are_unbiased_and_k2_is_not(seed):
    """Their exact means under the policy against KL(policy || reference)."""
    logits, ref = law(seed)
    truth = divergence(logits.log_softmax(0), ref).item()
    assert mean(k1, logits, ref) == pytest.approx(truth, abs=1e-12)
    assert mean(k3, logits, ref) == pytest.approx(truth, abs=1e-12)
    assert abs(mean(k2, logits, ref) - truth) > 0.01


def test_k2_errs_either_way_and_only_in_third_order():
    """0.22 too high for one pair of laws, 0.08 too low for another; ten times closer laws, a
    thousand times less."""
    for p, q, error in (
        ([0.5, 0.3, 0.2], [0.1, 0.6, 0.3], 0.2204),
        ([0.1, 0.6, 0.3], [0.5, 0.3, 0.2], -0.0783),
    ):
        p, q = torch.tensor(p).double(), torch.tensor(q).double()
        assert mean(k2, p.log(), q.log()) - divergence(p.log(), q.log()).item() == pytest.approx(
            error, abs=1e-4
        )
    logits, ref = law(0)
    near, nearer = ((ref + step * logits) for step in (1e-2, 1e-3))
    errors = [mean(k2, x, ref) - divergence(x.log_softmax(0), ref).item() for x in (near, nearer)]
    assert errors[0] / errors[1] == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_which_divergence_each_estimate_descends(seed):
    """As a loss on drawn tokens: k1 nothing, k2 KL(policy || reference), k3 KL(reference ||
    policy); 1e-12."""
    logits, ref = law(seed)
    forward, backward = (
        true_gradient(make, logits)
        for make in (lambda lp: divergence(lp, ref), lambda lp: divergence(ref, lp))
    )
    exact = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(loss_gradient(k1, logits, ref), torch.zeros(6).double(), **exact)
    torch.testing.assert_close(loss_gradient(k2, logits, ref), forward, **exact)
    torch.testing.assert_close(loss_gradient(k3, logits, ref), backward, **exact)
    assert (forward - backward).abs().max() > 0.01  # two different directions, so the test can tell
    as_reward = loss_gradient(
        lambda lp, q: k1(lp, q).detach() * lp, logits, ref
    )  # k1 in the reward: score function
    torch.testing.assert_close(as_reward, forward, **exact)


@pytest.mark.parametrize("seed", range(3))
def test_the_ratio_keeps_the_penalty_right_off_policy(seed):
    """Tokens drawn by an older policy: ratio times k3 (AGRPO) has the gradient of KL(policy ||
    reference) still."""
    logits, ref = law(seed)
    older = law(seed + 100)[0]
    old, zero = older.log_softmax(0), torch.zeros(6).double()
    got = loss_gradient(
        lambda lp, q: losses_of("agrpo", lp, old, q, zero, 0.2, 1.0), logits, ref, older
    )
    wanted = true_gradient(lambda lp: divergence(lp, ref), logits)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    assert (
        loss_gradient(k2, logits, ref, older) - wanted
    ).abs().max() > 0.01  # k2 is right on-policy only


def test_token_losses_add_the_penalty():
    """diffu-GRPO adds kl * k3; AGRPO multiplies k3 by the ratio; with kl = 0 no reference is
    needed."""
    logp, old, ref = (torch.tensor([[a, b]]) for a, b in ((-1.0, -2.0), (-1.1, -1.9), (-0.5, -2.5)))
    advantage = torch.tensor([[0.7]])
    base = clipped_ratio(logp - old, advantage, 0.2)
    wanted = {
        "diffu-grpo": base + 0.3 * k3(logp, ref),
        "coupled-grpo": base + 0.3 * k3(logp, ref),
        "agrpo": base + 0.3 * k3(logp, ref) * (logp - old).exp(),
        "mdpo": base + 0.3 * k2(logp, ref),
    }
    for name, value in wanted.items():
        torch.testing.assert_close(losses_of(name, logp, old, ref, advantage, 0.2, 0.3), value)
        assert torch.equal(losses_of(name, logp, old, None, advantage, 0.2, 0.0), base)


def test_tokens_that_are_not_scored_have_no_loss():
    """Zero there, for every loss of tokens; whole texts look at the scored tokens only."""
    logp, old, ref = (torch.tensor([[a, a]]) for a in (-1.0, -1.2, -0.5))
    scored = torch.tensor([[True, False]])
    advantage = torch.tensor([[0.7]])
    for name, method in CORE.items():
        arguments = {"clip": 0.2, "kl": 0.3}
        loss = method.objective.losses(logp, old, ref, advantage, scored, **arguments)
        assert loss[0, 0] != 0
        if method.objective.level == "text":
            moved = logp + torch.tensor([[0.0, -3.0]])
            other = method.objective.losses(moved, old, ref, advantage, scored, **arguments)
            assert loss.shape == (1, 1) and torch.equal(other, loss), name
        else:
            assert loss.shape == (1, 2) and loss[0, 1] == 0, name


def test_what_the_clip_sees():
    """Log-ratios of the scored tokens, of whole texts, of the mean token; zeros without a ratio."""
    logp, old = torch.tensor([[-1.0, -1.0, -9.0]]), torch.tensor([[-1.5, -1.25, 0.0]])
    scored = torch.tensor([[True, True, False]])
    wanted = {"diffu-grpo": [0.5, 0.25], "gdsd": [0.75], "gdpo": [0.375], "wd1": [0.0, 0.0]}
    # Losses of groups and pairs whose ratios are of tokens.
    wanted |= {"guard-style": [0.5, 0.25], "dpo": [0.5, 0.25]}
    for name, values in wanted.items():
        assert METHODS[name].objective.log_ratios(logp, old, scored).tolist() == values


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"average": "tokens"}, "unknown average 'tokens'; did you mean 'token'"),
        ({"level": "texts"}, "unknown level 'texts'; did you mean 'text'"),
        ({"ratio": None, "level": "text"}, "without a ratio the level must be 'view'"),
        ({"ratio": None, "weighted_penalty": True}, "without a ratio"),
    ],
)
def test_bad_objectives_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        replace(METHODS["diffu-grpo"].objective, **changed)


def test_weighted_k3_has_the_gradient_of_the_kl():
    """On-policy, the mean of AGRPO's penalty has the exact gradient of KL(policy || reference); k3
    alone has not."""
    q = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)
    logits = torch.tensor([0.4, -0.3, 0.2], dtype=torch.float64, requires_grad=True)

    def gradient(make):
        return torch.autograd.grad(make(logits.log_softmax(0)), logits)[0]

    wanted = gradient(lambda lp: (lp.exp() * (lp - q.log())).sum())
    p = logits.detach().softmax(0)
    zero = torch.zeros(3).double()
    weighted, plain = (
        gradient(
            lambda lp, name=name: (
                p * losses_of(name, lp, lp.detach(), q.log(), zero, 0.2, 1.0)
            ).sum()
        )
        for name in ("agrpo", "diffu-grpo")
    )
    torch.testing.assert_close(weighted, wanted)
    assert (plain - wanted).abs().max() > 0.05


# ---------------------------------------------------------------- averages

SCORED = torch.tensor(
    [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]]
).bool()  # two groups of two


@pytest.mark.parametrize(
    "per, rows",
    [
        ("token", [1 / 10] * 4),
        ("sequence", [1 / 8, 1 / 16, 1 / 4, 1 / 12]),
        ("group", [1 / 12, 1 / 12, 1 / 8, 1 / 8]),
        ("canvas", [1 / 16] * 4),
        ("text_sum", [1 / 4] * 4),
        ("group_sum", [1 / 2] * 4),
    ],
)
def test_token_weights_by_hand(per, rows):
    """One weight per row, on its scored tokens only."""
    torch.testing.assert_close(token_weights(SCORED, per, 2), SCORED * torch.tensor(rows)[:, None])


def test_token_weights_are_the_means_they_are_named_after():
    """On random losses, each average written out with means."""
    losses = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    rows = [x[m] for x, m in zip(losses, SCORED, strict=True)]
    rows_sum = [r.sum() for r in rows]
    wanted = {
        "token": torch.cat(rows).mean(),
        "sequence": torch.stack([r.mean() for r in rows]).mean(),
        "group": torch.stack([torch.cat(rows[:2]).mean(), torch.cat(rows[2:]).mean()]).mean(),
        "canvas": torch.cat(rows).sum() / 16,
        "text_sum": torch.stack(rows_sum).mean(),
        "group_sum": torch.stack(rows_sum).view(2, 2).sum(1).mean(),
    }
    assert set(wanted) == set(AVERAGES)
    for per, value in wanted.items():
        torch.testing.assert_close((token_weights(SCORED, per, 2) * losses).sum(), value)
        sizes, count = divisors(SCORED, per, 2)
        torch.testing.assert_close((losses * SCORED / sizes).sum() / count, value)


def test_token_weights_agree_up_to_scale_where_all_texts_are_equally_long():
    """Then only the constant differs; an empty row has no weight and breaks nothing."""
    scored = torch.tensor([[1, 1, 0]] * 4).bool()
    for per in AVERAGES:
        weights = token_weights(scored, per, 2)
        assert weights[scored].unique().numel() == 1
        total = {"canvas": 2 / 3, "text_sum": 2, "group_sum": 4}.get(per, 1)
        assert weights.sum().item() == pytest.approx(total)
        empty = token_weights(torch.tensor([[1, 1, 0], [0, 0, 0]]).bool(), per, 1)
        assert torch.isfinite(empty).all() and (empty[1] == 0).all()


@pytest.mark.parametrize(
    "per, group, message",
    [
        ("text", 1, "unknown average 'text'"),
        ("group", 3, "group 3 must divide the number of rows, 4"),
        ("group", 0, "group 0 must divide"),
    ],
)
def test_bad_averages_are_named(per, group, message):
    with pytest.raises(ValueError, match=message):
        token_weights(SCORED, per, group)
