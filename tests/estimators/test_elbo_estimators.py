"""Random masks, coupled masks, quadrature, complement pairs, left to right: expectations by
enumeration, then the draws."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.estimators import (
    ESTIMATORS,
    NODES,
    complement_pairs,
    coupled,
    estimate,
    exact_elbo,
    exact_logprob,
    left_to_right,
    quadrature,
    random_masks,
    random_subset,
)
from dllm_rl_lite.estimators.masks import COUNTS
from dllm_rl_lite.sampler import Rollout, Schedule

PROMPT = torch.zeros(1, dtype=torch.long)
DRAWS = 20000


@pytest.fixture(scope="module")
def lm(table_lm):
    return table_lm(length=3, seed=6, scale=2.0)


def copies(lm, text, n=DRAWS):
    """A rollout that holds one text n times."""
    tokens = torch.tensor(text).expand(n, -1)
    ids, mask = lm.prompts(n)
    return Rollout(
        prompt=ids,
        prompt_mask=mask,
        tokens=tokens,
        unmask_step=torch.arange(len(text)).expand(n, -1),
        logprob=torch.zeros(tokens.shape),
        entropy=torch.ones(tokens.shape),
        n_forwards=torch.full((n,), len(text)),
        mask_id=lm.mask_id,
        eos_id=lm.eos_id,
    )


def cross_entropy(lm, text):
    """[S_0, ..., S_L]: S_c is the mean, over masks of c tokens, of the sum of the masked tokens'
    log-probabilities."""
    n = len(text)
    sums = []
    for count in range(n + 1):
        values = []
        for hidden in itertools.combinations(range(n), count):
            canvas = tuple(lm.mask_id if i in hidden else v for i, v in enumerate(text))
            values.append(sum(float(lm.logits(canvas)[i].log_softmax(-1)[text[i]]) for i in hidden))
        sums.append(sum(values) / len(values))
    return sums


def binomial(n, t):
    return [math.comb(n, c) * t**c * (1 - t) ** (n - c) for c in range(n + 1)]


TEXT = (2, 0, 1)


def expected_value(name, s):
    """What each recipe estimates, in closed form, from the cross-entropies S_c of a text of three
    tokens."""
    elbo = sum(s[c] / c for c in (1, 2, 3))

    def nodes(q, share):
        return sum(w / share(t, c) * s[c] for t, w in NODES[q] for c in [max(int(t * 3 + 1e-9), 1)])

    def pair(t):
        return (
            s[3]
            + sum(p * x / t for p, x in zip(binomial(3, t), s, strict=True))
            + sum(p * x / (1 - t) for p, x in zip(binomial(3, 1 - t), s, strict=True))
        ) / 2

    grid = [0.001 + 0.999 * (i + 0.5) / 20000 for i in range(20000)]
    return {
        "elbo": elbo,
        "bernoulli": sum(
            sum(p * x / t for p, x in zip(binomial(3, t), s, strict=True)) for t in grid
        )
        / len(grid),
        "coupled": sum(pair(0.2 + 0.6 * (i + 0.5) / 2000) for i in range(2000)) / 2000,
        "half": sum(s) / 4,  # each count 0..3 equally likely, both copies: half of twice the mean
        **{f"nominal {q}": nodes(q, lambda t, c: t) for q in NODES},
        **{f"shares {q}": nodes(q, lambda t, c: c / 3) for q in NODES},
        # k = 1, 2, 3 + 3/2 rounds half to even: 2, 4, 4, so counts 2, 1, 1 where they should be 1,
        # 2, 3
        "llada": (elbo + sum(s[x] / x for x in (2, 1, 1))) / 2,
    }[name]


RECIPES = {
    "stratified 1": (lambda r, g: random_masks(r, g), "elbo"),
    "stratified 2": (lambda r, g: random_masks(r, g, n=2), "elbo"),
    "llada 2": (lambda r, g: random_masks(r, g, n=2, counts="llada"), "llada"),
    "llada 3": (lambda r, g: random_masks(r, g, n=3, counts="llada"), "elbo"),
    "bernoulli": (lambda r, g: random_masks(r, g, n=2, counts="bernoulli"), "bernoulli"),
    "pairs": (lambda r, g: complement_pairs(r, g, weighting="elbo"), "elbo"),
    "pairs 2": (lambda r, g: complement_pairs(r, g, n=2, weighting="elbo"), "elbo"),
    "half": (lambda r, g: complement_pairs(r, g), "half"),
    **{f"nominal {q}": (lambda r, g, q=q: quadrature(r, g, q), f"nominal {q}") for q in NODES},
    **{
        f"shares {q}": (lambda r, g, q=q: quadrature(r, g, q, n=2, nominal=False), f"shares {q}")
        for q in NODES
    },
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_mean_is_the_enumerated_value(lm, rng, name):
    """20 000 draws of one text within 4.5 standard errors of the closed form; every row is noisy,
    or the mean is exact."""
    recipe, value = RECIPES[name]
    got = estimate(lm, copies(lm, TEXT), recipe(copies(lm, TEXT), rng(1))).double().sum(1)
    want = expected_value(value, cross_entropy(lm, TEXT))
    assert abs(float(got.mean()) - want) < 4.5 * float(got.std()) / DRAWS**0.5 + 1e-5


def test_coupled_estimates_what_the_card_says(lm, rng):
    """One t a batch, so the draws are batches: 300 of them within 4.5 standard errors; larger than
    a log-probability."""
    g = rng(2)
    r = copies(lm, TEXT, 100)
    got = torch.stack([estimate(lm, r, coupled(r, g)).double().sum(1).mean() for _ in range(300)])
    want = expected_value("coupled", cross_entropy(lm, TEXT))
    assert abs(float(got.mean()) - want) < 4.5 * float(got.std()) / 300**0.5
    truth = float(exact_logprob(lm, PROMPT, torch.tensor(TEXT), Schedule(3, "random")))
    assert want < 1.2 * truth < 0


def test_the_closed_forms_are_the_exact_elbo(lm):
    """sum of S_c / c is the ELBO of exact.py, below log p; the Bernoulli masks' floor at 0.001
    moves it by under 0.3 %."""
    for text in ((2, 0, 1), (0, 0, 0), (1, 2, 2)):
        s = cross_entropy(lm, text)
        elbo = expected_value("elbo", s)
        assert elbo == pytest.approx(float(exact_elbo(lm, PROMPT, torch.tensor(text))), abs=1e-12)
        assert expected_value("bernoulli", s) == pytest.approx(elbo, rel=3e-3)
        assert elbo < float(exact_logprob(lm, PROMPT, torch.tensor(text), Schedule(3, "random")))


def test_the_rounding_of_the_released_counts_biases_them(lm):
    """Two views of three tokens: the closed form of "llada" is off the ELBO; 'stratified' is not
    (above)."""
    s = cross_entropy(lm, TEXT)
    assert abs(expected_value("llada", s) - expected_value("elbo", s)) > 0.05


@pytest.mark.parametrize("counts", COUNTS[:2])
@pytest.mark.parametrize(("m", "n"), [(9, 3), (8, 8), (9, 2)])
def test_counts_are_spread_and_uniform(lm, rng, counts, m, n):
    """n counts at distance m / n; over many rows each count 1..m equally often, but for the
    release's half-integers."""
    rows = 9000
    r = copies(lm, [0] * m, rows)
    views = random_masks(r, rng(3), n=n, counts=counts)
    x = torch.stack([v.scored.sum(1) for v in views])  # (n, rows)
    if n == m:
        assert (x.sort(0).values == torch.arange(1, m + 1)[:, None]).all()
    share = torch.bincount(x.flatten(), minlength=m + 1)[1:] / x.numel()
    uneven = float((share - 1 / m).abs().max()) / (1 / m * (1 - 1 / m) / rows) ** 0.5
    assert uneven > 8 if (counts, m, n) == ("llada", 9, 2) else uneven < 4.5


# ---------------------------------------------------------------- claims about quadrature


@pytest.mark.parametrize("n", [1, 2, 3])
def test_gauss_legendre_is_exact_to_its_degree(n):
    """Powers of t up to 2 n - 1 integrate exactly over [0, 1], 2 n does not; weights sum to 1."""
    for degree in range(2 * n + 1):
        error = abs(sum(w * t**degree for t, w in NODES[n]) - 1 / (degree + 1))
        assert error < 1e-14 if degree < 2 * n else error > 1e-4


def test_the_simpson_variant_is_exact_for_constants_only():
    """Its first node is 0.1, not 0: already t itself integrates to 0.517."""
    assert sum(w for _, w in NODES["simpson"]) == pytest.approx(1)
    assert sum(w * t for t, w in NODES["simpson"]) == pytest.approx(0.51667, abs=1e-5)


def test_published_nodes():
    """The numbers of the paper's table, and its coefficients w / t."""
    assert [round(t, 6) for t, _ in NODES[3]] == [0.112702, 0.5, 0.887298]
    assert [round(w / t, 5) for t, w in NODES[3]] == [2.46472, 0.88889, 0.31306]
    assert [round(t, 6) for t, _ in NODES[2]] == [0.211325, 0.788675]


def test_quadrature_has_no_bias_where_the_integrand_s_degree_is_low(lm):
    """With independent masks at rate t the integrand is a polynomial of degree L - 1 = 2: two nodes
    do, one does not."""
    s = cross_entropy(lm, TEXT)
    elbo = expected_value("elbo", s)

    def rule(n):
        return sum(
            w / t * sum(p * x for p, x in zip(binomial(3, t), s, strict=True)) for t, w in NODES[n]
        )

    assert abs(rule(1) - elbo) > 0.01
    assert abs(rule(2) - elbo) < 1e-12 and abs(rule(3) - elbo) < 1e-12


# ---------------------------------------------------------------- left to right


def test_left_to_right_is_exact_for_its_decoder(table_lm):
    """All 81 texts of a table model: log p of the left-to-right decoder; not that of the
    random-order one."""
    lm = table_lm(length=4, seed=7, scale=2.0)
    others = []
    for text in lm.texts():
        r = copies(lm, text, 1)
        got = float(estimate(lm, r, left_to_right(r)).sum())
        tokens = torch.tensor(text)
        assert got == pytest.approx(
            float(exact_logprob(lm, PROMPT, tokens, Schedule(4, "left_to_right"))), abs=1e-5
        )
        others.append(abs(got - float(exact_logprob(lm, PROMPT, tokens, Schedule(4, "random")))))
    assert max(others) > 0.5


def test_left_to_right_stops_at_the_end(lm, table_lm):
    """One view a position up to the longest text's end-of-sequence token."""
    ending = table_lm(length=3, eos=0)
    r = copies(ending, (2, 0, 1), 2)
    assert [v.scored.tolist()[0] for v in left_to_right(r)] == [
        [True, False, False],
        [False, True, False],
    ]


# ---------------------------------------------------------------- properties of every recipe


@st.composite
def rollouts(draw):
    """1 to 5 rows of 1 to 9 tokens, some given (now and then all of a row), some ending early."""
    n = draw(st.integers(1, 5))
    length = draw(st.integers(1, 9))
    g = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    tokens = torch.randint(3, 9, (n, length), generator=g)
    tokens[torch.rand(n, length, generator=g) < draw(st.sampled_from([0.0, 0.2]))] = 1
    steps = torch.stack([torch.randperm(length, generator=g) for _ in range(n)])
    given = torch.rand(n, length, generator=g) < draw(st.sampled_from([0.0, 0.3]))
    blank = torch.rand(n, length, generator=g)
    return Rollout(
        prompt=torch.full((n, 2), 50),
        prompt_mask=torch.ones(n, 2, dtype=torch.bool),
        tokens=tokens,
        unmask_step=torch.where(given, -1, steps),
        logprob=blank,
        entropy=blank,
        n_forwards=torch.full((n,), length),
        mask_id=2,
        eos_id=1,
    )


@settings(max_examples=25, deadline=None)
@given(rollouts(), st.integers(0, 1000))
@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_recipe_keeps_the_rules_of_views(name, r, seed):
    """Scored tokens are masked, given ones neither masked nor scored, the others intact; weights
    finite and zero elsewhere; the global generator untouched; equal seeds give equal views."""
    before = torch.get_rng_state()
    views, again = (ESTIMATORS[name](r, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert views or not (r.sampled & r.until_eos).any()
    for v, w in zip(views, again, strict=True):
        completion = v.tokens[:, 2:]
        masked = completion == r.mask_id
        assert not (v.scored & ~masked).any()
        assert not (masked & ~r.sampled).any()
        assert not (v.scored & ~r.sampled).any()
        assert torch.equal(completion[~masked], r.tokens[~masked])
        assert (v.tokens[:, :2] == r.prompt).all() or name == "one_step"
        assert v.weight.dtype == torch.float32
        assert torch.isfinite(v.weight).all() and (v.weight >= 0).all()
        assert (v.weight[~v.scored] == 0).all()
        assert torch.equal(v.tokens, w.tokens) and torch.equal(v.weight, w.weight)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_row_whose_every_token_was_given_scores_nothing(lm, rng, name):
    """No division by zero tokens: finite weights, an estimate of 0."""
    r = copies(lm, TEXT, 2)
    r = replace(r, unmask_step=torch.full((2, 3), -1))
    views = ESTIMATORS[name](r, rng(0))
    assert all(torch.isfinite(v.weight).all() and not v.scored.any() for v in views)
    assert (estimate(lm, r, views) == 0).all()


@settings(max_examples=50, deadline=None)
@given(rollouts(), st.integers(0, 1000), st.integers(1, 3))
def test_complementary_masks_cover_every_token_once(r, seed, n):
    """GDSD's and DiffuCoder's pairs: each sampled token is masked in exactly one copy of a pair."""
    g = torch.Generator().manual_seed(seed)
    views = complement_pairs(r, g, n=n)
    for first, second in zip(views[::2], views[1::2], strict=True):
        assert torch.equal(first.scored.int() + second.scored.int(), r.sampled.int())
    full, first, second = coupled(r, g)
    assert torch.equal(first.scored.int() + second.scored.int(), (r.sampled & r.until_eos).int())
    assert torch.equal(full.scored, r.sampled & r.until_eos)


@settings(max_examples=50, deadline=None)
@given(rollouts(), st.integers(0, 1000))
def test_quadrature_masks_an_exact_number(r, seed):
    """floor(t m), at least one, of the tokens up to the first end of sequence."""
    m = (r.sampled & r.until_eos).sum(1)
    for (t, _), v in zip(
        NODES[3], quadrature(r, torch.Generator().manual_seed(seed), 3), strict=True
    ):
        wanted = (t * m + 1e-9).long().clamp(min=1).minimum(m)
        assert torch.equal(v.scored.sum(1), wanted)


def test_random_subsets_are_equally_likely(rng):
    """Two of four allowed positions: six sets, 12 000 draws, each within 4.5 standard errors."""
    allowed = torch.tensor([True, False, True, True, True]).expand(12000, -1)
    picked = random_subset(allowed, torch.full((12000,), 2), rng(4))
    assert (picked.sum(1) == 2).all() and not picked[:, 1].any()
    counts = torch.bincount((picked * 2 ** torch.arange(5)).sum(1))
    counts = counts[counts > 0]
    assert (
        len(counts) == 6 and ((counts / 12000 - 1 / 6).abs() < 4.5 * (5 / 36 / 12000) ** 0.5).all()
    )


def test_complementary_masks_remove_the_noise_of_coverage(table_lm, rng):
    """Where no token depends on another, all noise is which tokens are covered: none is left in a
    pair, some in two independent masks of the same counts. (With dependence and ELBO weights the
    pair can be noisier, as the notebook shows.)"""
    lm = table_lm(length=3, seed=6, scale=2.0)
    lm.table = lm.table[-1:].expand_as(lm.table)
    r = copies(lm, TEXT, 2000)
    pair = estimate(lm, r, complement_pairs(r, rng(5))).double().sum(1)
    full = float(exact_logprob(lm, PROMPT, torch.tensor(TEXT), Schedule(3, "random")))
    torch.testing.assert_close(pair, torch.full_like(pair, full / 2), rtol=0, atol=1e-5)
    # two halves of different pairs
    views = complement_pairs(r, rng(5))[:1] + complement_pairs(r, rng(6))[1:]
    assert estimate(lm, r, views).sum(1).std() > 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r, g: random_masks(r, g, n=0), "n >= 1"),
        (lambda r, g: random_masks(r, g, counts="even"), "counts one of"),
        (lambda r, g: coupled(r, g, 0.0), "0 < low <= high < 1"),
        (lambda r, g: coupled(r, g, 0.9), "0 < low <= high < 1"),
        (lambda r, g: quadrature(r, g, 4), "nodes must be one of"),
        (lambda r, g: quadrature(r, g, n=0), "n >= 1"),
        (lambda r, g: complement_pairs(r, g, weighting="full"), "weighting 'half' or 'elbo'"),
        (lambda r, g: complement_pairs(r, g, n=0), "n >= 1"),
    ],
)
def test_bad_numbers_are_refused(lm, rng, call, message):
    with pytest.raises(ValueError, match=message):
        call(copies(lm, TEXT, 1), rng(0))
