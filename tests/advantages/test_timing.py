"""Credit by unmasking time: areas, speed scores, weights, and the rewards of partial texts they are
made of."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.advantages import (
    area_under_rewards,
    group_mean,
    speed_score,
    timed_credit,
    unmasking_weight,
)
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.sampler import Gate, Rollout, Schedule, Threshold, denoise
from dllm_rl_lite.tasks import Example, load_task
from dllm_rl_lite.training import experience as collect
from dllm_rl_lite.training import verify
from dllm_rl_lite.training.verifier import partial_texts


def rollout_of(unmask_step, n_forwards=None):
    """A rollout with these unmask steps and nothing else of interest."""
    steps = torch.tensor(unmask_step)
    zeros = torch.zeros(steps.shape)
    n = steps.max(1).values + 1 if n_forwards is None else torch.tensor(n_forwards)
    return Rollout(
        zeros[:, :1].long(), zeros[:, :1].bool(), zeros.long(), steps, zeros, zeros, n, 3, 9
    )


@st.composite
def histories(draw):
    """(rewards (B, G, T), n_forwards (B, G)): finished rows hold their last reward."""
    b, g, t = draw(st.integers(1, 3)), draw(st.integers(2, 6)), draw(st.integers(1, 5))
    n = torch.tensor(draw(st.lists(st.integers(1, t), min_size=b * g, max_size=b * g))).view(b, g)
    values = draw(
        st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=b * g * t, max_size=b * g * t)
    )
    rewards = torch.tensor(values).view(b, g, t)
    last = rewards.gather(2, n[..., None] - 1)
    return torch.where(torch.arange(t) < n[..., None], rewards, last), n


# ---------------------------------------------------------------- area and speed


def test_the_area_by_hand():
    """A finished row holds its last reward up to the slowest sibling of its own group, and not
    further."""
    rewards = torch.tensor(
        [[[0.0, 1, 1, 1, 1], [0, 0, 0, 1, 1]], [[1.0, 1, 1, 1, 1], [0, 0, 0, 0, 0.0]]]
    )
    n = torch.tensor([[2, 4], [1, 2]])
    assert area_under_rewards(rewards, n).tolist() == [[3, 1], [2, 0]], (
        "K* is 4 in the first group and 2 in the second"
    )
    z = speed_score(rewards, n)
    torch.testing.assert_close(z, torch.tensor([[2**-0.5, -(2**-0.5)]] * 2))


@settings(deadline=None)
@given(histories())
def test_laws_of_the_speed_score(history):
    """Zero in sum and bounded by (G - 1) / sqrt(G); exactly zero on ties; of unit spread else; a
    group knows no other."""
    rewards, n = history
    z, area = speed_score(rewards, n), area_under_rewards(rewards, n)
    g = rewards.shape[1]
    torch.testing.assert_close(z.sum(1), torch.zeros(len(z)), rtol=0, atol=1e-4)
    assert float(z.abs().max()) <= (g - 1) / g**0.5 + 1e-4
    tied = (area == area[:, :1]).all(1)
    assert (z[tied] == 0).all()
    for b in range(len(z)):
        longest = int(n[b].max())
        assert torch.equal(speed_score(rewards[b : b + 1, :, :longest], n[b : b + 1]), z[b : b + 1])
        wanted = [
            sum(float(rewards[b, i, min(k, int(n[b, i])) - 1]) for k in range(1, longest + 1))
            for i in range(g)
        ]
        torch.testing.assert_close(
            area[b], torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-5
        )


def test_bad_histories_are_named():
    for rewards, n, message in (
        (torch.zeros(2, 3), torch.ones(2, 3).long(), "need rewards"),
        (torch.zeros(1, 2, 3), torch.ones(1, 3).long(), "need rewards"),
        (torch.zeros(1, 2, 3), torch.tensor([[0, 1]]), "must lie in 1..3"),
        (torch.zeros(1, 2, 3), torch.tensor([[4, 1]]), "must lie in 1..3"),
        (torch.zeros(1, 1, 3), torch.tensor([[1]]), "group of 1"),
        (torch.full((1, 2, 3), float("nan")), torch.tensor([[1, 3]]), "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            speed_score(rewards, n)


# ---------------------------------------------------------------- weight of a token


def test_the_unmasking_weight_by_hand():
    m = unmasking_weight(rollout_of([[0, 0, 1, 3], [2, 1, 0, -1]]))
    assert m.tolist() == [[0.5, 0.5, 0.25, 0], [0, 0.25, 0.5, 0.75]]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-1, 6), min_size=8, max_size=8), min_size=1, max_size=4))
def test_earlier_tokens_weigh_no_less(steps):
    """m never rises with the step, lies in [0, 1), is 0 at the last step, and is the share masked
    on the next canvas."""
    r = rollout_of([[max(s, 0) if i == 0 else s for i, s in enumerate(row)] for row in steps])
    m = unmasking_weight(r)
    assert (m >= 0).all() and (m < 1).all()
    earlier = r.unmask_step[:, :, None] <= r.unmask_step[:, None, :]
    assert (~earlier | (m[:, :, None] >= m[:, None, :])).all()
    for i, j in itertools.product(range(len(m)), range(8)):
        after = r.canvas_at(int(r.unmask_step[i, j]) + 1)[i]
        assert float(m[i, j]) == pytest.approx(float((after == r.mask_id).float().mean()))
        assert r.unmask_step[i, j] < r.unmask_step[i].max() or m[i, j] == 0


# ---------------------------------------------------------------- credit of a token


@settings(deadline=None)
@given(histories(), st.sampled_from([0.0, 0.5, 1.0]))
def test_timed_credit_is_the_formula(history, delta):
    """A (1 + delta z m), row by row; with delta = 0 or tied final rewards it is plain credit or
    nothing."""
    rewards, n = history
    b, g, t = rewards.shape
    steps = [[(i + j) % int(n.flatten()[i]) for j in range(4)] for i in range(b * g)]
    r, a = rollout_of(steps, n.flatten().tolist()), group_mean(rewards[..., -1])
    credit, m, z = timed_credit(a, rewards, r, delta), unmasking_weight(r), speed_score(rewards, n)
    for i, j in itertools.product(range(b * g), range(4)):
        flat = float(a.flatten()[i])
        assert float(credit[i, j]) == pytest.approx(
            flat * (1 + delta * float(z.flatten()[i]) * float(m[i, j])), abs=1e-6
        )
    if delta == 0:
        assert torch.equal(credit, a.flatten()[:, None].expand(-1, 4))
    tied = (a == 0).all(1).repeat_interleave(g)
    assert (credit[tied] == 0).all()
    clamped = timed_credit(a, rewards, r, delta, clamp=True)
    assert (clamped * a.flatten()[:, None] >= 0).all(), "clamped credit has the sign of A"
    same = credit * a.flatten()[:, None] >= 0
    torch.testing.assert_close(clamped[same], credit[same])


def test_a_lone_slow_failure_is_praised_for_its_early_tokens():
    """The hazard, in numbers: five siblings right at once, one wrong: z = -2.04; at delta = 1 early
    tokens change sign."""
    rewards = torch.tensor([[[1.0, 1, 1, 1]] * 5 + [[0.0, 0, 0, 0]]])
    r = rollout_of([[0, 1, 2, 3]] * 6)
    a = group_mean(rewards[..., -1])
    failure = timed_credit(a, rewards, r)[5]
    z = -5 / 6**0.5
    torch.testing.assert_close(failure, -5 / 6 * (1 + z * torch.tensor([0.75, 0.5, 0.25, 0])))
    assert (failure[:2] > 0).all() and (failure[2:] < 0).all()
    assert (timed_credit(a, rewards, r, delta=0.5)[5] < 0).all()
    assert (timed_credit(a, rewards, r, clamp=True)[5, :2] == 0).all()


def test_only_the_sum_hears_of_speed_where_all_are_right():
    """Tied final rewards: the factor has nothing to multiply; A + delta z m prefers the one that
    was right earlier."""
    rewards = torch.tensor([[[0.0, 1, 1], [0.0, 0, 1]]])
    r = rollout_of([[0, 1, 1, 1], [0, 1, 2, 2]])
    a = group_mean(rewards[..., -1])
    assert (timed_credit(a, rewards, r) == 0).all()
    credit = timed_credit(a, rewards, r, form="sum")
    assert (credit[0, 0] > 0 > credit[1, 0]) and credit[0, 3] == 0
    torch.testing.assert_close(
        credit, torch.tensor([[1.0], [-1.0]]) * 2**-0.5 * unmasking_weight(r)
    )


@given(st.integers(0, 10_000), st.sampled_from(["factor", "sum"]))
@settings(max_examples=30, deadline=None)
def test_guards_take_from_the_timing_what_they_say(seed, form):
    """balanced: a group's timing sums to zero. right_only: without the highest final reward credit
    is plain. floor: with all steps below it, so is everybody's; at 0 nothing changes."""
    g = torch.Generator().manual_seed(seed)
    rewards = torch.randint(0, 2, (2, 4, 3), generator=g).float()
    r = rollout_of([torch.randperm(3, generator=g).tolist() for _ in range(8)])
    a = group_mean(rewards[..., -1])
    plain = a.flatten()[:, None].expand(-1, 3)
    balanced = timed_credit(a, rewards, r, form=form, balanced=True) - plain
    torch.testing.assert_close(balanced.view(2, -1).sum(1), torch.zeros(2), atol=1e-5, rtol=0)
    free = timed_credit(a, rewards, r, form=form) - plain
    difference = (free - balanced).view(2, -1)
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference))
    best = rewards[..., -1] == rewards[..., -1].amax(1, keepdim=True)
    right_only = timed_credit(a, rewards, r, form=form, right_only=True)
    torch.testing.assert_close(right_only[~best.flatten()], plain[~best.flatten()])
    torch.testing.assert_close(right_only[best.flatten()], (free + plain)[best.flatten()])
    torch.testing.assert_close(timed_credit(a, rewards, r, form=form, floor=3), plain)
    assert torch.equal(
        timed_credit(a, rewards, r, form=form, floor=0), timed_credit(a, rewards, r, form=form)
    )


def test_bad_timing_is_named():
    rewards, r = torch.zeros(1, 2, 3), rollout_of([[0, 1], [1, 0]])
    for kwargs in (
        {"delta": -1.0},
        {"floor": -1},
        {"form": "product"},
        {"form": "sum", "clamp": True},
        {"balanced": True, "clamp": True},
    ):
        with pytest.raises(ValueError, match="need delta >= 0"):
            timed_credit(torch.zeros(1, 2), rewards, r, **kwargs)


# ---------------------------------------------------------------- rewards of partial texts


def counted(calls):
    def reward(prompts, completions, **_):
        calls.append(len(completions))
        return [float(len(c)) for c in completions]

    return reward


def test_partial_texts_are_what_stands_there_without_masks(policy, batch):
    texts = partial_texts(batch, policy.tokenizer)
    assert len(texts) == int(batch.n_forwards.max())
    for t, i in itertools.product(range(len(texts)), range(6)):
        shown = [
            int(x) for x, s in zip(batch.tokens[i], batch.unmask_step[i], strict=True) if s <= t
        ]
        assert texts[t][i] == policy.tokenizer.decode(shown, skip_special_tokens=True)
    assert texts[-1] == [policy.tokenizer.decode(x, skip_special_tokens=True) for x in batch.tokens]


def test_unchanged_texts_are_not_verified_again(policy, batch):
    """As many verifier calls as different texts in a row's history; a finished row keeps its
    reward; the last is final."""
    calls, examples = [], [Example("1+2", "3")] * 6
    rewards = verify(counted(calls), examples, batch, policy.tokenizer, "partial")
    texts = partial_texts(batch, policy.tokenizer)
    changes = sum(
        t == 0 or texts[t][i] != texts[t - 1][i] for t in range(len(texts)) for i in range(6)
    )
    assert sum(calls) == changes < 6 * len(texts), "some step of some row only wrote end tokens"
    assert rewards.shape == (6, len(texts))
    assert rewards.tolist() == [
        [float(len(texts[t][i])) for t in range(len(texts))] for i in range(6)
    ]
    assert torch.equal(rewards[:, -1], verify(counted([]), examples, batch, policy.tokenizer))


def test_filled_texts_have_the_likeliest_tokens_of_the_same_pass(lm, rng):
    """Greedy, the likeliest token is the candidate: record=True and "likeliest" agree; sampled,
    they do not."""
    prompts = ["6-4+7-1", "1+2"]
    one, two = (denoise(lm, prompts, 8, Schedule(4), record=r) for r in (True, "likeliest"))
    assert torch.equal(one.predicted, two.predicted) and torch.equal(
        one.predicted_logprob, two.predicted_logprob
    )
    one, two = (
        denoise(lm, prompts, 8, Schedule(4), temperature=1.0, generator=rng(0), record=r)
        for r in (True, "likeliest")
    )
    assert torch.equal(one.tokens, two.tokens) and not torch.equal(
        one.predicted[0], two.predicted[0]
    )
    for t in range(4):
        canvas = two.canvas_at(t + 1)
        wanted = torch.where(canvas == lm.mask_id, two.predicted[t], canvas)
        shown = [
            lm.tokenizer.decode(row[row != lm.mask_id], skip_special_tokens=True) for row in wanted
        ]
        assert partial_texts(two, lm.tokenizer, fill=True)[t] == shown
    examples = [Example(p, "3") for p in prompts]
    with pytest.raises(ValueError, match='record="likeliest"'):
        verify(
            counted([]),
            examples,
            denoise(lm, prompts, 8, Schedule(4)),
            lm.tokenizer,
            "partial",
            fill=True,
        )
    with pytest.raises(ValueError, match="unknown record 'likelyest'"):
        denoise(lm, prompts, 8, Schedule(4), record="likelyest")


def test_a_batch_gives_each_group_the_credit_that_it_has_alone(policy, rng):
    """Rows and groups are independent: credit of a group does not depend on what it is batched with
    (any batch size)."""
    task, method = load_task("chain2"), METHODS["ta-grpo-d"]
    n = method.numbers("tiny", prompts=3, group=2, gate={"tau": 0.02})
    calls = []
    reward = counted(calls)
    both = collect.collect(policy, task, reward, method, n, task.sample(3, "train", 0), rng(1))
    rollout = both.rollout
    assert (
        both.advantage.shape == rollout.tokens.shape and len(set(rollout.n_forwards.tolist())) > 1
    )
    assert both.log["steps_row"] == pytest.approx(float(rollout.n_forwards.float().mean()))
    for b in range(3):
        rows = torch.tensor([2 * b, 2 * b + 1])
        alone = rollout.select(rows)
        rewards = verify(reward, [Example("1+2", "3")] * 2, alone, policy.tokenizer, "partial")[
            None
        ]
        credit = collect.credit(policy, method, n, rewards, alone)
        torch.testing.assert_close(credit, both.advantage[rows])


def test_rollouts_are_gated_and_evaluations_take_the_threshold():
    n = METHODS["ta-grpo-d"].numbers("tiny", gate={"tau": 0.6, "test_tau": 0.9})
    assert n.rule(16) == Gate(0.6, 0.5, 1) and n.test_rule(16) == Threshold(0.9)
    plain = METHODS["diffu-grpo"].tiny
    assert plain.test_rule(16) == plain.rule(16) == Schedule(8)
    combined = METHODS["ag-ta-grpo"].tiny
    assert combined.answer_rule() == combined.rule(16) and METHODS[
        "ag-grpo"
    ].tiny.answer_rule() == Schedule(4)
    with pytest.raises(ValueError, match="did you mean 'test_tau'"):
        METHODS["ta-grpo-d"].numbers("tiny", gate={"test_tua": 0.9})
