"""Likelihood estimators: against enumeration, against the path's own log-probability, and by their
invariants."""

import itertools
from dataclasses import replace

import pytest
import torch

from dllm_rl_lite.estimators import (
    View,
    all_steps,
    last_scored_step,
    one_step,
    reweighted,
    token_logprobs,
    view_of_step,
    visited_steps,
)
from dllm_rl_lite.sampler import Gate, Rollout, RunningConfidence, Schedule, Threshold, denoise

PROMPTS = ["6-4+7-1", "1+2", "f(1)=3", "9"]


def hand_made(tokens, unmask_step, prompt_length=3, padding=None, mask_id=2, eos_id=1):
    """A rollout from lists, for claims that need no model."""
    tokens = torch.tensor(tokens)
    unmask_step = torch.tensor(unmask_step)
    n = len(tokens)
    mask = torch.ones(n, prompt_length, dtype=torch.bool)
    for row, width in enumerate(padding or []):
        mask[row, :width] = False
    prompt = torch.where(mask, 50, 0)
    return Rollout(
        prompt=prompt,
        prompt_mask=mask,
        tokens=tokens,
        unmask_step=unmask_step,
        logprob=torch.zeros(tokens.shape),
        entropy=torch.zeros(tokens.shape),
        n_forwards=unmask_step.max(1).values + 1,
        mask_id=mask_id,
        eos_id=eos_id,
    )


@pytest.fixture(scope="module")
def ending(lm, biased):
    """A model that ends many of its texts early."""
    return biased(lm, {lm.eos_id: 4.0})


@pytest.fixture(scope="module")
def rollout(ending):
    """16 rows of 8 tokens, two a step in random order, many with end-of-sequence tokens."""
    g = torch.Generator().manual_seed(0)
    return denoise(ending, PROMPTS * 4, 8, Schedule(4, "random"), temperature=1.0, generator=g)


# ---------------------------------------------------------------- one step


def test_one_step_masks_what_it_scores(rollout, rng):
    """The whole completion is masked; every token to the first end-of-sequence is scored, with
    weight 1."""
    (view,) = one_step(rollout, rng(0), 0.3)
    assert (view.tokens[:, -8:] == rollout.mask_id).all()
    assert torch.equal(view.scored, rollout.until_eos) and torch.equal(
        view.weight, rollout.until_eos.float()
    )
    assert not view.scored.all() and view.scored.any(1).all()


def test_one_step_leaves_anchored_tokens_out(rng):
    """Given tokens were not sampled: they are not scored."""
    r = hand_made([[5, 6, 7, 8]], [[0, -1, 1, -1]])
    assert one_step(r, rng(0))[0].scored.tolist() == [[True, False, True, False]]


def test_one_step_draws_anew_and_repeats_with_the_seed(rng):
    """Equal seeds give equal prompt masks, a second draw another."""
    r = hand_made([[5, 6]] * 4, [[0, 1]] * 4, prompt_length=40)
    g = rng(1)
    first, second, again = one_step(r, g)[0], one_step(r, g)[0], one_step(r, rng(1))[0]
    assert torch.equal(first.tokens, again.tokens) and not torch.equal(first.tokens, second.tokens)


@pytest.mark.parametrize("p", [0.0, 0.15, 0.6, 1.0])
def test_one_step_prompt_mask_rate(rng, p):
    """Real prompt tokens are masked at rate p within 4.5 standard errors; padding never; others
    stay as they are."""
    r = hand_made(
        [[5, 6]] * 200, [[0, 1]] * 200, prompt_length=60, padding=[i % 30 for i in range(200)]
    )
    prompt = one_step(r, rng(2), p)[0].tokens[:, :-2]
    hidden = prompt == r.mask_id
    assert not (hidden & ~r.prompt_mask).any() and torch.equal(prompt[~hidden], r.prompt[~hidden])
    n = int(r.prompt_mask.sum())
    assert abs(int(hidden.sum()) / n - p) <= 4.5 * (p * (1 - p) / n) ** 0.5


def test_one_step_is_exact_for_a_decoder_of_one_step(lm, rng):
    """All tokens in one step, prompt whole: the estimate is the rollout's own log-probability,
    token by token."""
    r = denoise(lm, PROMPTS, 8, Schedule(1), temperature=1.0, generator=rng(3))
    (view,) = one_step(r, rng(0), 0.0)
    with torch.no_grad():
        got = token_logprobs(lm, r, view)
    assert view.scored.any() and (got != 0).any()
    torch.testing.assert_close(got[view.scored], r.logprob[view.scored], rtol=1e-5, atol=1e-5)


def every_text(lm):
    """A rollout that holds all texts of a table model, each once."""
    texts = torch.tensor(lm.texts())
    ids, mask = lm.prompts(len(texts))
    return Rollout(
        prompt=ids,
        prompt_mask=mask,
        tokens=texts,
        unmask_step=torch.zeros_like(texts),
        logprob=torch.zeros(texts.shape),
        entropy=torch.zeros(texts.shape),
        n_forwards=torch.ones(len(texts)),
        mask_id=lm.mask_id,
        eos_id=lm.eos_id,
    )


def test_one_step_is_a_distribution_and_the_wrong_one_for_more_steps(table_lm, rng):
    """Enumeration: exp(estimate) sums to 1 over all texts, but is far from that of the
    three-step decoder."""
    lm = table_lm()
    r = every_text(lm)
    estimate = token_logprobs(lm, r, one_step(r, rng(0), 0.0)[0]).double().sum(1).exp()
    assert abs(float(estimate.sum()) - 1) < 1e-5
    exact = torch.zeros(27, dtype=torch.float64)
    for i, text in enumerate(lm.texts()):
        for order in itertools.permutations(range(3)):
            canvas = [lm.mask_id] * 3
            p = 1 / 6
            for j in order:
                p *= float(lm.logits(tuple(canvas))[j].softmax(-1)[text[j]])
                canvas[j] = text[j]
            exact[i] += p
    assert abs(float(exact.sum()) - 1) < 1e-9
    assert float((estimate - exact).abs().sum()) / 2 > 0.1


def test_one_step_is_biased_along_a_path_of_more_steps(lm, rng):
    """On a model: the estimate differs from the path's exact log-probability by more than any
    rounding."""
    r = denoise(lm, PROMPTS, 8, Schedule(8), temperature=1.0, generator=rng(4))
    with torch.no_grad():
        got = token_logprobs(lm, r, one_step(r, rng(0), 0.0)[0])
    scored = r.until_eos
    gap = ((got - r.logprob) * scored).sum(1).abs()
    assert (gap > 0.5).all()


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_one_step_refuses_a_bad_rate(rollout, rng, p):
    """A chance lies in [0, 1]."""
    with pytest.raises(ValueError, match="p_mask_prompt must be in"):
        one_step(rollout, rng(0), p)


# ---------------------------------------------------------------- visited steps


def test_last_scored_step_by_hand():
    """One more than the last step that wrote something other than end-of-sequence; 1 for an empty
    text; anchors too."""
    r = hand_made(
        [[5, 6, 1, 1], [5, 1, 6, 1], [1, 1, 1, 1], [1, 5, 1, 1], [5, 6, 7, 8]],
        [[1, 0, 3, 2], [0, 1, 3, 2], [0, 1, 2, 3], [0, -1, 1, 2], [3, 2, 1, 0]],
    )
    assert last_scored_step(r).tolist() == [2, 4, 1, 1, 4]


def test_view_of_step_by_hand():
    """The canvas before the step; the tokens it wrote; the row's weight."""
    r = hand_made([[5, 6, 7], [8, 9, 10]], [[0, 1, 2], [1, -1, 0]], prompt_length=1)
    view = view_of_step(r, torch.tensor([1, 0]), torch.tensor([0.5, 2.0]))
    assert view.tokens.tolist() == [[50, 5, 2, 2], [50, 2, 9, 2]]
    assert view.scored.tolist() == [[False, True, False], [False, False, True]]
    assert view.weight.tolist() == [[0.0, 0.5, 0.0], [0.0, 0.0, 2.0]]


@pytest.mark.parametrize(
    "rule",
    [Schedule(4), Schedule(8, "random"), Threshold(0.4), Gate(0.3), RunningConfidence(4, "max")],
    ids=repr,
)
@pytest.mark.parametrize("eos", ["free", "stop"])
def test_all_steps_are_the_log_probability_of_the_path(ending, rng, rule, eos):
    """Summed over views: each token's own log-probability when it was written, for steps < T_i
    only."""
    r = denoise(ending, PROMPTS * 3, 8, rule, temperature=1.0, eos=eos, generator=rng(5))
    total = torch.zeros(12, 8)
    for view in all_steps(r):
        assert (view.tokens[:, -8:][view.scored] == r.mask_id).all()
        with torch.no_grad():
            total += view.weight * token_logprobs(ending, r, view)
    counted = r.unmask_step < last_scored_step(r)[:, None]
    assert counted.any(1).all() and not counted.all()
    torch.testing.assert_close(total, r.logprob * counted, rtol=1e-4, atol=1e-4)


def test_all_steps_equal_the_enumerated_path(table_lm, rng):
    """Enumeration: the path's log-probability is the sum, over its steps, of the table's own
    log-softmax in float64."""
    lm = table_lm(length=4, seed=2)
    r = denoise(lm, lm.prompts(40), 4, Schedule(2, "random"), temperature=1.0, generator=rng(6))
    got = sum(v.weight * token_logprobs(lm, r, v) for v in all_steps(r)).sum(1)
    for i in range(40):
        canvas = [lm.mask_id] * 4
        want = 0.0
        for t in range(2):
            written = [j for j in range(4) if r.unmask_step[i, j] == t]
            want += sum(
                float(lm.logits(tuple(canvas))[j].log_softmax(-1)[r.tokens[i, j]]) for j in written
            )
            for j in written:
                canvas[j] = int(r.tokens[i, j])
        assert float(got[i]) == pytest.approx(want, abs=1e-5)


@pytest.fixture(scope="module")
def path(ending, rollout):
    """(N, L) log-probability of each token of `rollout` on the canvas it was written from, zero
    from T_i on."""
    with torch.no_grad():
        return sum(v.weight * token_logprobs(ending, rollout, v) for v in all_steps(rollout))


def estimates(rollout, path, generator, draws, **numbers):
    """(draws, N): the weighted sum of each row's views, with log-probabilities looked up in
    `path`."""
    return torch.stack(
        [
            sum(v.weight * path for v in visited_steps(rollout, generator, **numbers)).sum(1)
            for _ in range(draws)
        ]
    )


def test_a_visited_view_scores_what_the_path_scored(ending, rollout, path, rng):
    """Each view's log-probabilities are the path's, so the look-up in the next tests is right;
    weights are T_i / k."""
    last = last_scored_step(rollout)
    for view in visited_steps(rollout, rng(7), k=3):
        with torch.no_grad():
            got = token_logprobs(ending, rollout, view)
        torch.testing.assert_close(got, path * view.scored, rtol=1e-4, atol=1e-4)
        assert view.scored.any(1).all()
        torch.testing.assert_close(view.weight, view.scored * (last / 3)[:, None])


@pytest.mark.parametrize("law", ["uniform", "entropy"])
@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_visited_steps_are_unbiased(rollout, path, rng, k, stratified, law):
    """The mean of 1 000 draws is the log-probability of the path, row by row, within 4.5 standard
    errors."""
    got = estimates(rollout, path, rng(8), 1000, k=k, stratified=stratified, law=law)
    se = got.std(0) / 1000**0.5
    last = last_scored_step(rollout)
    assert (se[last > 1] > 0).all() and (last > 1).sum() > 8
    assert ((got.mean(0) - path.sum(1)).abs() <= 4.5 * se + 1e-4).all()


def test_steps_are_drawn_uniformly(rng):
    """Every step below T_i is drawn equally often, the last one included, and none from T_i on."""
    r = hand_made([[5, 6, 7, 1]], [[0, 2, 1, 3]])
    generator = rng(9)
    views = [v for _ in range(2000) for v in visited_steps(r, generator, k=1)]
    counts = torch.stack([v.scored[0] for v in views]).float().mean(0)
    assert counts[3] == 0
    assert ((counts[:3] - 1 / 3).abs() < 4.5 * (1 / 3 * 2 / 3 / 2000) ** 0.5).all()


@pytest.mark.parametrize("law", ["uniform", "entropy"])
def test_the_weights_average_one(rollout, rng, law):
    """Times k / T_i, the weight is the importance weight of AGRPO: its mean over draws is 1 for
    each row."""
    last = last_scored_step(rollout)
    g = rng(12)
    got = torch.stack(
        [
            sum(v.weight.amax(1) for v in visited_steps(rollout, g, k=3, law=law)) / last
            for _ in range(1000)
        ]
    )
    assert ((got.mean(0) - 1).abs() <= 4.5 * got.std(0) / 1000**0.5 + 1e-5).all()
    assert (got.std(0) < 1e-6).all() if law == "uniform" else (got.std(0)[last > 1] > 0.01).any()


def test_steps_drawn_by_entropy_by_hand(rng):
    """Steps of entropy 1, 3 and nothing: drawn at 1/4, 3/4 and about 0, the end-of-sequence step
    never."""
    r = hand_made([[5, 6, 7, 8, 1]], [[0, 1, 1, 2, 3]])
    r = replace(r, entropy=torch.tensor([[1.0, 1.0, 2.0, 0.0, 9.0]]))
    g = rng(13)
    views = [visited_steps(r, g, k=1, law="entropy")[0] for _ in range(2000)]
    share = torch.stack([v.scored[0] for v in views]).double().mean(0)
    assert abs(float(share[0]) - 0.25) < 4.5 * (0.25 * 0.75 / 2000) ** 0.5
    assert share[1] == share[2] and abs(float(share[1]) - 0.75) < 4.5 * (0.25 * 0.75 / 2000) ** 0.5
    assert share[3] == 0 and share[4] == 0
    weights = {float(v.weight.max()) for v in views}
    assert sorted(weights) == pytest.approx([4 / 3, 4])


def test_an_unknown_law_is_refused(rollout, rng):
    with pytest.raises(ValueError, match="unknown law 'entropi'"):
        visited_steps(rollout, rng(0), law="entropi")


def test_stratified_draws_vary_less(rollout, path, rng):
    """A row alone (k = 3 of 4 steps), and the sum over 8 copies of it (k = 1): at most half the
    variance."""
    row = rollout.select((last_scored_step(rollout) == 4).nonzero()[0])
    values = path[(last_scored_step(rollout) == 4).nonzero()[0]]
    for copies, k in ((1, 3), (8, 1)):
        rows = torch.zeros(copies, dtype=torch.long)
        strat, indep = (
            estimates(row.select(rows), values[rows], rng(10), 1000, k=k, stratified=s).sum(1).var()
            for s in (True, False)
        )
        assert 0 < strat < 0.5 * indep


def test_stratified_draws_never_vary_more(rollout, path, rng):
    """In a mixed batch each row, and the batch, varies at most as much as with independent draws,
    up to sampling noise."""
    draws = 1000
    strat, indep = (
        estimates(rollout, path, rng(10), draws, k=4, stratified=s) for s in (True, False)
    )
    # twice the relative error of a ratio of two variances of normal draws
    room = 1 + 4.5 * 2 * (2 / draws) ** 0.5
    assert strat.sum(1).var() <= room * indep.sum(1).var()
    assert (strat.var(0) <= room * indep.var(0) + 1e-9).all()


def test_a_single_row_is_scored_without_noise_where_k_is_a_multiple_of_its_steps(
    rollout, path, rng
):
    """One row, k = T or 2 T: every step is drawn exactly k / T times, so the estimate is the path's
    log-probability."""
    for i in range(len(rollout.tokens)):
        row = rollout.select(torch.tensor([i]))
        steps = int(last_scored_step(row)[0])
        for k in (steps, 2 * steps):
            got = estimates(row, path[i : i + 1], rng(i), 5, k=k)
            torch.testing.assert_close(got, path[i].sum().expand(5, 1), rtol=1e-4, atol=1e-4)


def test_several_rows_share_the_slices(rng):
    """With more rows the slices are dealt among them: even k = N T leaves noise in each row (none
    in the steps' total)."""
    r = hand_made([[5, 6]] * 3, [[0, 1]] * 3)
    values = torch.tensor([[0.0, 1.0]] * 3)
    got = estimates(r, values, rng(11), 300, k=6)
    assert (got.var(0) > 0.01).all()
    torch.testing.assert_close(got.sum(1), torch.full((300,), 3.0))


def test_visited_steps_repeat_with_the_seed(rollout, rng):
    """Equal seeds give equal views; k views come back; k < 1 is refused."""
    a, b, c = (visited_steps(rollout, rng(s), k=5) for s in (1, 1, 2))
    assert len(a) == 5
    assert all(
        torch.equal(x.tokens, y.tokens) and torch.equal(x.weight, y.weight)
        for x, y in zip(a, b, strict=True)
    )
    assert any(not torch.equal(x.tokens, y.tokens) for x, y in zip(a, c, strict=True))
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        visited_steps(rollout, rng(0), k=0)


def test_reweighted_multiplies_each_row(rollout, rng):
    """Weights only."""
    views = visited_steps(rollout, rng(0), k=2)
    factor = torch.arange(16.0)
    for old, new in zip(views, reweighted(views, factor), strict=True):
        assert torch.equal(new.weight, old.weight * factor[:, None])
        assert new.tokens is old.tokens and new.scored is old.scored


def test_given_tokens_stay_visible_in_one_step(rng):
    """What the decoder always saw, the estimate sees too."""
    r = hand_made([[5, 6, 7, 8]], [[0, -1, 1, -1]])
    assert one_step(r, rng(0))[0].tokens[0, -4:].tolist() == [2, 6, 2, 8]


# ---------------------------------------------------------------- token_logprobs


def naive_logprobs(lm, rollout, view, temperature=1.0):
    """One row and one position at a time, no padding, the whole vocabulary's log-softmax."""
    n, length = rollout.tokens.shape
    rows = []
    for i in range(n):
        real = torch.cat([rollout.prompt_mask[i], torch.ones(length, dtype=torch.bool)])
        ids = view.tokens[i][real][None]
        hidden = lm.backbone.model(
            ids, attention_mask=torch.zeros(1, 1, ids.shape[1], ids.shape[1]), use_cache=False
        )
        logits = lm.backbone.lm_head(hidden.last_hidden_state)[0, -length:]
        kept = torch.arange(logits.shape[-1]) != lm.mask_id
        logp = (logits.where(kept, torch.tensor(float("-inf"))) / temperature).log_softmax(-1)
        rows.append(
            torch.stack(
                [
                    logp[j, rollout.tokens[i, j]] if view.scored[i, j] else torch.zeros(())
                    for j in range(length)
                ]
            )
        )
    return torch.stack(rows)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_token_logprobs_and_their_gradient_equal_the_naive_ones(lm, rng, temperature):
    """Gathering before the head and padding change nothing: values to 1e-5, every gradient to 2e-5
    of its size."""
    r = denoise(lm, PROMPTS, 8, Schedule(4, "random"), temperature=1.0, generator=rng(12))
    view = visited_steps(r, rng(13), k=2)[0]
    results = []
    for f in (token_logprobs, naive_logprobs):
        got = f(lm, r, view, temperature)
        gradient = torch.autograd.grad((got * view.weight).sum(), list(lm.parameters()))
        results.append((got.detach(), gradient))
    (got, a), (want, b) = results
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert (got[view.scored] < 0).all() and (got[~view.scored] == 0).all() and not view.scored.all()
    for (name, _), x, y in zip(lm.named_parameters(), a, b, strict=True):
        assert y.abs().max() > 0, name
        torch.testing.assert_close(x, y, rtol=0, atol=2e-5 * float(y.abs().max()), msg=name)


def test_nothing_scored_is_zero(lm, rollout):
    """A view that scores nothing gives zeros and a gradient of nothing."""
    view = View(
        torch.cat([rollout.prompt, rollout.tokens], 1),
        torch.zeros(16, 8, dtype=torch.bool),
        torch.zeros(16, 8),
    )
    got = token_logprobs(lm, rollout, view)
    assert got.shape == (16, 8) and (got == 0).all()


def test_a_visible_token_may_not_be_scored(lm, rollout):
    """The model would see the answer: refused."""
    scored = torch.ones(16, 8, dtype=torch.bool)
    view = View(torch.cat([rollout.prompt, rollout.tokens], 1), scored, scored.float())
    with pytest.raises(ValueError, match="may only score tokens that it masks"):
        token_logprobs(lm, rollout, view)


def test_views_and_rollouts_are_selected_alike(lm, rollout, rng):
    """Some rows of a view with the same rows of the rollout give those rows' numbers."""
    (view,) = one_step(rollout, rng(0))
    rows = torch.tensor([5, 0, 11])
    with torch.no_grad():
        whole = token_logprobs(lm, rollout, view)
        some = token_logprobs(lm, rollout.select(rows), view.select(rows))
    torch.testing.assert_close(whole[rows], some, rtol=0, atol=1e-5)
