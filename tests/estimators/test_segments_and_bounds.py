"""Segments of the visited path (d2-StepMerge) and the two bounds of SPG: exact laws, then draws."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from updates import assert_same, direct_gradient, gradient_of, numbers, scored_by

from dllm_rl_lite.estimators import (
    all_steps,
    estimate,
    exact_elbo,
    exact_eubo,
    last_scored_step,
    one_step,
    path_segments,
    sandwiched,
    text_distribution,
    token_logprobs,
)
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.sampler import Rollout, RunningConfidence, Schedule, denoise

PROMPT = torch.zeros(1, dtype=torch.long)


@pytest.fixture(scope="module")
def table(table_lm):
    """Three tokens, three letters; its predictions on different canvases do not fit together as
    those of one distribution would."""
    return table_lm(length=3, seed=6, scale=2.0)


def written(lm, texts, steps):
    """A rollout of a table model that holds these texts, written in these steps."""
    texts = torch.tensor(texts)
    ids, mask = lm.prompts(len(texts))
    return Rollout(
        prompt=ids,
        prompt_mask=mask,
        tokens=texts,
        unmask_step=torch.tensor(steps),
        logprob=torch.zeros(texts.shape),
        entropy=torch.ones(texts.shape),
        n_forwards=torch.tensor(steps).max(1).values + 1,
        mask_id=lm.mask_id,
        eos_id=lm.eos_id,
    )


# ---------------------------------------------------------------- segments of the path


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 10))
def test_every_token_is_scored_once(batch, n):
    """Up to the end of the text, with more segments than steps too, and masked where it is
    scored."""
    views = path_segments(batch, torch.Generator().manual_seed(n), n=n)
    assert len(views) == n
    assert torch.equal(torch.stack([v.scored for v in views]).sum(0).bool(), batch.until_eos)
    assert sum(int(v.scored.sum()) for v in views) == batch.until_eos.sum()
    for view in views:
        assert torch.equal(view.weight, view.scored.float())
        assert (view.tokens[:, -8:][view.scored] == batch.mask_id).all()


def test_as_many_segments_as_steps_are_the_visited_path(policy, batch, rng):
    """`all_steps`, token by token and in the gradient, on the tokens that both score: all of the
    text but an end-of-sequence token that was written last."""
    both = batch.until_eos & (batch.unmask_step < last_scored_step(batch)[:, None])
    views = path_segments(batch, rng(0), n=4, p_mask_prompt=0.0)
    mine = (estimate(policy, batch, views) * both).sum(1)
    exact = (estimate(policy, batch, all_steps(batch)) * both).sum(1)
    assert torch.equal(mine, exact)
    assert_same(direct_gradient(policy, mine.sum()), direct_gradient(policy, exact.sum()))


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_one_segment_is_one_step(batch, rng, p):
    """diffu-GRPO's view, prompt masks included."""
    (mine,) = path_segments(batch, rng(3), n=1, p_mask_prompt=p)
    (theirs,) = one_step(batch, rng(3), p)
    assert torch.equal(mine.tokens, theirs.tokens)
    assert torch.equal(mine.scored, theirs.scored) and torch.equal(mine.weight, theirs.weight)


def test_segments_by_hand(table_lm, rng):
    """Five steps in two segments: the second begins with step 2; a given token stays in view."""
    lm = table_lm(length=6)
    rollout = written(lm, [[0, 1, 2, 0, 1, 2]], [[4, 0, 3, 1, 2, -1]])
    first, second = path_segments(rollout, rng(0), n=2, p_mask_prompt=0.0)
    assert first.tokens[0, 1:].tolist() == [3, 3, 3, 3, 3, 2]
    assert first.scored[0].tolist() == [False, True, False, True, False, False]
    assert second.tokens[0, 1:].tolist() == [3, 1, 3, 0, 3, 2]
    assert second.scored[0].tolist() == [True, False, True, False, True, False]
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        path_segments(rollout, rng(0), n=0)


def test_a_rule_that_masks_again_can_be_cut_too(policy, rng):
    """What a segment scores is masked, even where its beginning showed another token there."""
    rollout = denoise(
        policy, ["1+2", "3-1"], 8, RunningConfidence(4), temperature=1.0, generator=rng(2)
    )
    views = path_segments(rollout, rng(0), n=2)
    assert torch.isfinite(estimate(policy, rollout, views)).all()


def test_fewer_segments_are_too_low_on_average(table_lm, rng):
    """Over all paths of two table models: the mean gap to the path's log-probability is a KL
    divergence, 0 with a segment for each step; more segments are nearer on average, but for
    many paths they are not."""
    for seed in (0, 1):
        lm = table_lm(length=4, seed=seed, scale=1.0)
        paths = itertools.product(lm.texts(), itertools.permutations(range(4)))
        texts, steps = zip(*paths, strict=True)
        rollout = written(lm, texts, steps)
        found = {}
        for n in (1, 2, 4):
            views = path_segments(rollout, rng(0), n=n, p_mask_prompt=0.0)
            found[n] = estimate(lm, rollout, views).sum(1).double()
        chance = found[4].exp() / math.factorial(4)
        assert chance.sum().item() == pytest.approx(1, abs=1e-5)
        gap = {n: (chance * (found[4] - logp)).sum().item() for n, logp in found.items()}
        assert gap[1] > gap[2] > gap[4] == 0
        farther = (found[4] - found[2]).abs() > (found[4] - found[1]).abs()
        assert 0.2 < (chance * farther).sum() < 0.5


# ---------------------------------------------------------------- the two bounds


def test_the_upper_bound_is_a_mean_over_orders(table):
    """By its definition, every order tried."""
    text = (2, 0, 1)
    for beta in (0.7, 2.0):
        powers = torch.zeros(3, dtype=torch.float64)
        for order in itertools.permutations(range(3)):
            canvas = [table.mask_id] * 3
            for position in order:
                p = table.logits(tuple(canvas)).softmax(-1)[position, text[position]]
                powers[position] += p**beta / 6
                canvas[position] = text[position]
        bound = exact_eubo(table, PROMPT, torch.tensor(text), beta)
        assert bound.item() == pytest.approx(powers.log().sum().item() / beta, abs=1e-6)


def test_the_log_probability_lies_between_the_bounds(table):
    """ELBO <= log p <= EUBO for each of the 27 texts, if beta is the number of tokens; the EUBO
    grows with beta, from the ELBO. With beta = 1, where the paper adds a constant, it lies below
    log p for some texts."""
    exact = text_distribution(
        table, PROMPT, [torch.arange(3)] * 3, Schedule(3, "random")
    ).prob.log()
    bounds = []
    for text in table.texts():
        tokens = torch.tensor(text)
        row = [exact_elbo(table, PROMPT, tokens)]
        row += [exact_eubo(table, PROMPT, tokens, beta) for beta in (1e-6, 1.0, 3.0)]
        bounds.append(torch.stack(row))
    elbo, limit, one, three = torch.stack(bounds).unbind(1)
    assert (elbo <= exact + 1e-9).all() and (exact <= three + 1e-9).all()
    assert (limit <= one).all() and (one <= three).all()
    torch.testing.assert_close(limit, elbo, atol=1e-4, rtol=0)
    assert 0 < (one < exact - 1e-6).sum() < 27
    with pytest.raises(ValueError, match="beta must be above 0, got 0"):
        exact_eubo(table, PROMPT, tokens, 0.0)


def direct_bounds(logp, views, m, beta):
    """SPG's lower and upper estimate (N,) of each text from log-probabilities (n, N, L), as its
    release computes them, times the number of tokens m."""
    hidden = torch.stack([v.scored for v in views])
    share = hidden.sum(2, keepdim=True) / m[:, None]
    lower = (logp * hidden / share).mean(0).sum(1)
    mean = (logp.exp() ** beta * hidden / share).mean(0)
    seen = hidden.any(0)
    upper = (torch.where(seen, mean, 1.0).log() / beta).sum(1) / seen.sum(1) * m
    return lower, upper


def scorer(lm):
    def score(rollout, views):
        with torch.no_grad():
            return [token_logprobs(lm, rollout, view) for view in views]

    return score


@pytest.mark.parametrize("n, beta, omega, block", [(2, 1.5, 0.5, 0), (3, 2.0, 1.0, 4)])
def test_the_weights_are_the_slope_of_the_objective(policy, batch, rng, n, beta, omega, block):
    """The lower bound where credit is not negative; elsewhere omega times the upper one, the rest
    the lower. Only rows with negative credit are scored."""
    credit = torch.tensor([0.6, -0.9, 0.3, -0.4, 0.0, 0.4])
    asked = []

    def score(rollout, views):
        asked.append(rollout.tokens)
        return scorer(policy)(rollout, views)

    views = sandwiched(
        batch, rng(1), credit, score, n=n, beta=beta, omega=omega, block=block, p_mask_prompt=0.2
    )
    assert len(asked) == 1 and torch.equal(asked[0], batch.tokens[credit < 0])
    logp = torch.stack(scorer(policy)(batch, views)).requires_grad_()
    lower, upper = direct_bounds(logp, views, batch.until_eos.sum(1), beta)
    mixed = omega * upper + (1 - omega) * lower
    (slope,) = torch.autograd.grad(torch.where(credit < 0, mixed, lower).sum(), logp)
    torch.testing.assert_close(torch.stack([v.weight for v in views]), slope)


def test_the_update_is_that_of_the_sandwich(policy, batch):
    """The gradient of training, against the objective written out: minus the mean over canvases of
    credit times bound."""
    n = numbers("spg")
    scored = scored_by("spg", policy, batch, n)
    logp = torch.stack([token_logprobs(policy, scored.rollout, v) for v in scored.views])
    m = scored.rollout.until_eos.sum(1)
    lower, upper = direct_bounds(logp, scored.views, m, 1.5)
    bound = torch.where(scored.advantage < 0, (upper + lower) / 2, lower)
    loss = -(scored.advantage * bound).sum() / batch.tokens.numel()
    assert_same(gradient_of(policy, "spg", n, scored)[0], direct_gradient(policy, loss), 2e-6)


def test_equal_signs_and_omega_0_are_the_lower_bound_alone(policy, batch, rng):
    """Without negative credit, or without the upper bound, nothing is scored and credit does not
    matter."""
    weights = []
    for credit, omega in ((torch.ones(6), 0.5), (-torch.ones(6), 0.0)):
        views = sandwiched(batch, rng(4), credit, None, omega=omega)
        weights.append(torch.stack([v.weight for v in views]))
    assert torch.equal(*weights)


def test_with_one_view_beta_does_nothing(policy, batch, rng):
    """The logarithm of one power: each masked token counts the same."""
    found = []
    for beta in (1.0, 7.0):
        (view,) = sandwiched(
            batch, rng(5), -torch.ones(6), scorer(policy), n=1, beta=beta, omega=1.0
        )
        found.append(view.weight)
    torch.testing.assert_close(*found)
    for weight, scored, m in zip(view.weight, view.scored, batch.until_eos.sum(1), strict=True):
        torch.testing.assert_close(weight[scored].unique(), m / scored.sum()[None])


def test_the_lower_estimate_is_unbiased_and_the_upper_one_not(table, rng):
    """20 000 draws of one block without prompt masks, against the exact bounds: the lower one is
    met within 4.5 standard errors; the upper one is off with two masks and near with 64."""
    text, draws, beta = (2, 0, 1), 20000, 1.5
    exact = exact_elbo(table, PROMPT, torch.tensor(text)).item()
    above = exact_eubo(table, PROMPT, torch.tensor(text), beta).item()
    off = {}
    for n in (2, 64):
        count = draws if n == 2 else 300
        rollout = written(table, [text] * count, [(0, 1, 2)] * count)
        views = sandwiched(rollout, rng(n), torch.ones(count), None, n=n, p_mask_prompt=0.0)
        logp = torch.stack(scorer(table)(rollout, views))
        lower, upper = direct_bounds(logp, views, rollout.until_eos.sum(1), beta)
        error = lower.std() / math.sqrt(count)
        assert abs(lower.mean() - exact) < 4.5 * error
        off[n] = (upper.mean() - above).item()
        if n == 2:
            assert abs(off[n]) > 9 * (upper.std() / math.sqrt(count))
    assert abs(off[64]) < abs(off[2]) / 5


def test_masks_go_block_by_block(policy, batch, rng):
    """A part of one block, all of the later ones, of the earlier ones as many as prompt tokens; the
    tail is masked and not scored; two views show two blocks where the text has them."""
    for p in (0.0, 1.0):
        first, second = sandwiched(batch, rng(6), torch.ones(6), None, block=4, p_mask_prompt=p)
        for view in (first, second):
            completion = view.tokens[:, -8:] == batch.mask_id
            assert torch.equal(completion, view.scored | ~batch.until_eos)
            assert not (view.scored & ~batch.until_eos).any() and view.scored.any(1).all()
        if p == 0:
            long = batch.until_eos[:, 4:].any(1)
            in_front = [view.scored[long, :4].any(1) for view in (first, second)]
            assert long.any() and (in_front[0] ^ in_front[1]).all()
            assert (
                (first.scored | second.scored)[long][:, 4:].eq(batch.until_eos[long][:, 4:]).all()
            )
        else:
            assert ((first.tokens[:, :-8] == batch.mask_id) | ~batch.prompt_mask).all()
    with pytest.raises(ValueError, match="block must divide the canvas of 8 tokens, got 3"):
        sandwiched(batch, rng(0), torch.ones(6), None, block=3)
    with pytest.raises(ValueError, match="need beta > 0 and omega"):
        sandwiched(batch, rng(0), torch.ones(6), None, omega=2.0)
    with pytest.raises(ValueError, match="credit must be one number a text"):
        sandwiched(batch, rng(0), torch.ones(6, 8), None)


# ---------------------------------------------------------------- the records


def test_records():
    """One answer apart from diffu-GRPO; three from wd1."""
    d2, spg = METHODS["d2-stepmerge"], METHODS["spg"]
    assert d2.objective == METHODS["diffu-grpo"].objective
    assert d2.numbers("tiny").views == {"n": 4, "p_mask_prompt": 0.15}
    assert spg.objective.ratio is None and spg.objective.average == "canvas"
    assert spg.numbers("paper").views["block"] == spg.paper.block_length == 32
