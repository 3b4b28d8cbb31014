"""Unmasking rules: each against its definition, by brute force or by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.sampler import (
    Factor,
    Gate,
    RuleInput,
    RunningConfidence,
    Schedule,
    Threshold,
    denoise,
    top,
)

NAN = float("nan")
INF = float("inf")


def seen(
    confidence,
    active=None,
    step=0,
    start=None,
    n_blocks=1,
    entropy=None,
    margin=None,
    generator=None,
):
    """What a rule sees, from (n, L) confidences; by default every position is active."""
    confidence = torch.as_tensor(confidence, dtype=torch.float32)
    if active is None:
        active = torch.ones_like(confidence, dtype=torch.bool)
    active = torch.as_tensor(active)
    n = confidence.shape[0]
    blank = torch.zeros_like(confidence)
    return RuleInput(
        active=active,
        logprob=confidence.log(),
        entropy=blank if entropy is None else torch.as_tensor(entropy),
        margin=blank if margin is None else torch.as_tensor(margin),
        step_in_block=torch.full((n,), step),
        masked_at_start=active.sum(1) if start is None else torch.full((n,), start),
        n_blocks=n_blocks,
        generator=generator,
    )


cells = st.integers(1, 8).flatmap(
    lambda n: st.tuples(
        st.lists(
            st.sampled_from([0.05, 0.2, 0.5, 0.7, 0.71, 0.9, 0.95, 0.999, 1.0]),
            min_size=n,
            max_size=n,
        ),
        st.lists(st.booleans(), min_size=n, max_size=n).filter(any),
    )
)


@settings(max_examples=150, deadline=None)
@given(cells, st.integers(0, 9))
def test_top_takes_the_highest_and_breaks_ties_to_the_left(row, n):
    """top() is Python's stable sort by falling score, cut after n, among the allowed positions."""
    score, allowed = row
    order = sorted((i for i in range(len(score)) if allowed[i]), key=lambda i: -score[i])
    got = top(torch.tensor([score]), torch.tensor([allowed]), torch.tensor([n]))[0]
    assert got.nonzero().flatten().tolist() == sorted(order[:n])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 20), st.integers(1, 12))
def test_schedule_spreads_a_block_evenly_remainder_first(masked, steps):
    """Quotas over the steps of a block sum to its masked positions, differ by at most one and never
    rise."""
    confidence = torch.rand(1, 20, generator=torch.Generator().manual_seed(masked))
    active = torch.arange(20)[None] < masked
    quotas = []
    for step in range(steps):
        chosen = Schedule(steps).reveal(seen(confidence, active, step, start=masked))
        assert not (chosen & ~active).any()
        quotas.append(int(chosen.sum()))
        active = active & ~chosen
    assert quotas == [masked // steps + (s < masked % steps) for s in range(steps)]
    assert sum(quotas) == masked and not active.any()


def test_schedule_divides_its_steps_among_the_blocks():
    """12 steps over 3 blocks are 4 a block; a number that does not divide is refused."""
    assert int(Schedule(12).reveal(seen(torch.full((1, 8), 0.5), n_blocks=3)).sum()) == 2
    Schedule(12).check(3)
    for rule in (Schedule(12), RunningConfidence(12)):
        with pytest.raises(
            ValueError, match="steps 12 must be a multiple of the number of blocks, 5"
        ):
            rule.check(5)


@pytest.mark.parametrize(
    "order, first", [("confidence", 2), ("entropy", 1), ("margin", 3), ("left_to_right", 0)]
)
def test_schedule_orders(order, first):
    """Each order asks its own question: surest candidate, lowest entropy, widest margin,
    leftmost."""
    s = seen([[0.1, 0.2, 0.9, 0.3]], entropy=[[1.0, 0.1, 0.5, 0.7]], margin=[[0.1, 0.2, 0.3, 0.4]])
    assert Schedule(4, order).reveal(s)[0].nonzero().flatten().tolist() == [first]


def test_random_order_is_uniform(rng):
    """Every pair of 4 positions is revealed equally often, whatever the confidence."""
    n = 12_000
    s = seen(torch.tensor([[0.9, 0.1, 0.5, 0.99]]).expand(n, 4), generator=rng(1))
    code = (Schedule(2, "random").reveal(s) * 2 ** torch.arange(4)).sum(1)
    pairs = [2**i + 2**j for i in range(4) for j in range(i)]
    counts = torch.tensor([int((code == pair).sum()) for pair in pairs])
    assert counts.sum() == n
    se = (1 / 6 * 5 / 6 / n) ** 0.5
    assert ((counts / n - 1 / 6).abs() < 4.5 * se).all()


@settings(max_examples=100, deadline=None)
@given(cells, st.floats(0, 1, width=32))
def test_threshold_is_everything_sure_and_always_the_surest(row, tau):
    """Brute force of Fast-dLLM's rule."""
    c, active = row
    surest = max((i for i in range(len(c)) if active[i]), key=lambda i: c[i])
    s = seen([c], [active])
    want = [
        i
        for i in range(len(c))
        if active[i] and (float(s.logprob[0, i].exp()) >= tau or i == surest)
    ]
    assert Threshold(tau).reveal(s)[0].nonzero().flatten().tolist() == want


@settings(max_examples=100, deadline=None)
@given(cells, st.floats(0.01, 4))
def test_factor_takes_the_largest_n_that_holds(row, f):
    """Brute force over n: the largest n with (n + 1)(1 - c_n) <= f, at least one, surest first,
    leftmost in ties."""
    c, active = row
    s = seen([c], [active])
    order = sorted((i for i in range(len(c)) if active[i]), key=lambda i: -c[i])
    holds = [
        n
        for n in range(1, len(order) + 1)
        if (n + 1) * (1 - s.logprob[0, order[n - 1]].exp()) <= f  # float32, as the rule counts
    ]
    n = max(holds, default=1)
    assert Factor(f).reveal(s)[0].nonzero().flatten().tolist() == sorted(order[:n])


def test_factor_does_not_take_a_last_candidate_that_fails():
    """The released code would reveal all three here; the rule says two."""
    assert Factor(1.0).reveal(seen([[0.99, 0.99, 0.1]]))[0].tolist() == [True, True, False]


def test_gate_frequencies(rng):
    """Position j opens with p_j = (max(c_j - tau, 0) / (1 - tau)) ** kappa; if none does, the
    surest one."""
    n, c = 20_000, torch.tensor([0.60, 0.72, 0.85, 0.95])
    got = Gate(tau=0.7, kappa=0.5).reveal(seen(c.expand(n, 4), generator=rng(2))).float().mean(0)
    p = ((c - 0.7).clamp(min=0) / 0.3) ** 0.5
    want = p.clone()
    want[3] += (1 - p).prod()
    se = (want * (1 - want) / n).sqrt()
    assert got[0] == 0 and want[0] == 0
    assert ((got - want).abs()[1:] < 4.5 * se[1:]).all()


@settings(max_examples=60, deadline=None)
@given(cells, st.integers(1, 5), st.integers(0, 99))
def test_gate_tops_up_to_n_min_among_the_active(row, n_min, seed):
    """At least min(n_min, active) are revealed, none twice and none that is not active; n_min makes
    up the surest."""
    c, active = row
    one, many = (
        Gate(0.7, 0.5, k).reveal(
            seen([c], [active], generator=torch.Generator().manual_seed(seed))
        )[0]
        for k in (1, n_min)
    )
    assert not (many & ~torch.tensor(active)).any()
    assert not (one & ~many).any()  # same noise: topping up adds, it takes nothing back
    assert int(many.sum()) == max(int(one.sum()), min(n_min, sum(active)))
    added = [c[i] for i in (many & ~one).nonzero().flatten()]
    left = [c[i] for i in range(len(c)) if active[i] and not many[i]]
    assert not added or not left or min(added) >= max(left)


def test_running_confidence_by_hand():
    """`latest` overwrites, `max` keeps the best; never-written positions stay at infinity and are
    never withdrawn."""
    inf = float("inf")
    running = torch.tensor([[inf, -0.1, -2.0, -1.0]])
    logprob = torch.tensor([[0.0, -3.0, -0.5, -0.7]])
    written = torch.tensor([[False, True, True, False]])
    latest, best = RunningConfidence(4, "latest"), RunningConfidence(4, "max")
    assert latest.update(running, logprob, written).tolist() == [[inf, -3.0, -0.5, -1.0]]
    got = best.update(running, logprob, written)
    torch.testing.assert_close(got, torch.tensor([[inf, -0.1, -0.5, -1.0]]))
    first = best.update(torch.full((1, 4), inf), logprob, written)
    torch.testing.assert_close(first, torch.tensor([[inf, -3.0, -0.5, inf]]))
    s = seen(torch.full((1, 4), 0.5), step=1, start=4)  # owed after step 1 of 4: 4 * 2 / 4 = 2
    assert latest.remask(torch.tensor([[inf, -3.0, -0.5, -1.0]]), s).tolist() == [
        [False, True, False, True]
    ]
    assert best.remask(got, s).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("keep", ["latest", "max"])
def test_running_confidence_quotas_ten_in_four(lm, keep):
    """10 positions in 4 steps stay written 3, 2, 3, 2 at a time, as MDPO's schedule has it."""
    rollout = denoise(lm, ["1+2", "7"], 10, RunningConfidence(4, keep))
    masked = [int((rollout.canvas_at(t)[0] == lm.mask_id).sum()) for t in range(5)]
    assert masked == [10, 7, 5, 2, 0]


@pytest.mark.parametrize("keep", ["latest", "max"])
def test_running_confidence_ends_and_leaves_anchors_alone(lm, rng, keep):
    """With anchors and blocks: no mask is left, anchors stand at every step, some token was
    withdrawn."""
    anchor = torch.full((6, 12), lm.mask_id)
    anchor[:, 2], anchor[:, 9:11] = 20, 33
    rollout = denoise(
        lm,
        [f"{i}+{i}" for i in range(6)],
        12,
        RunningConfidence(12, keep),
        block_length=6,
        temperature=1.0,
        anchor=anchor,
        generator=rng(4),
    )
    given_ = anchor != lm.mask_id
    assert not (rollout.tokens == lm.mask_id).any()
    assert (rollout.unmask_step[given_] == -1).all() and (rollout.unmask_step[~given_] >= 0).all()
    withdrawn = 0
    for t in range(len(rollout.history)):
        assert torch.equal(rollout.canvas_at(t)[given_], anchor[given_])
        written = (rollout.canvas_at(t) != lm.mask_id) & (rollout.canvas_at(t + 1) == lm.mask_id)
        withdrawn += int(written.sum())
    assert withdrawn > 0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Schedule(0), "steps must be a whole number of at least 1, got 0"),
        (lambda: Schedule(2.5), "steps must be a whole number of at least 1, got 2.5"),
        (lambda: Schedule("8"), "steps must be a whole number of at least 1, got '8'"),
        (lambda: Schedule(True), "steps must be a whole number of at least 1, got True"),
        (lambda: Schedule(4, "sideways"), "unknown order 'sideways'"),
        (lambda: Threshold(NAN), "threshold tau must be a number from 0 to 1, got nan"),
        (lambda: Threshold(INF), "threshold tau must be a number from 0 to 1, got inf"),
        (lambda: Threshold(7), "threshold tau must be a number from 0 to 1, got 7"),
        (lambda: Threshold(-1), "threshold tau must be a number from 0 to 1, got -1"),
        (lambda: Threshold("high"), "threshold tau must be a number from 0 to 1, got 'high'"),
        (lambda: Factor(NAN), "factor f must be a number from 0 to 1000, got nan"),
        (lambda: Factor(-1), "factor f must be a number from 0 to 1000, got -1"),
        (lambda: Gate(tau=1.0), "tau below 1"),
        (lambda: Gate(tau=NAN), "gate tau must be a number from 0 to 1, got nan"),
        (lambda: Gate(tau=7), "gate tau must be a number from 0 to 1, got 7"),
        (lambda: Gate(kappa=0), "kappa above 0"),
        (lambda: Gate(kappa=INF), "gate kappa must be a number from 0 to 1000, got inf"),
        (lambda: Gate(n_min=0), "gate n_min must be a whole number of at least 1, got 0"),
        (lambda: Gate(n_min=1.5), "gate n_min must be a whole number of at least 1, got 1.5"),
        (lambda: RunningConfidence(0), "steps must be a whole number of at least 1, got 0"),
        (lambda: RunningConfidence(4, "mean"), "keep must be 'latest' or 'max', got 'mean'"),
    ],
)
def test_bad_numbers_are_refused(make, message):
    """A rule that cannot work does not come into being."""
    with pytest.raises(ValueError, match=message):
        make()
