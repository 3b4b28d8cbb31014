"""Drafts change what a text costs and nothing else: its distribution by enumeration, and token by
token at temperature 0."""

import itertools
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.estimators import text_distribution
from dllm_rl_lite.models import ShallowLM, encode_prompts, load_lm
from dllm_rl_lite.sampler import Schedule, denoise, denoise_with_drafts, speculate
from dllm_rl_lite.tasks import load_task

PROMPTS = ["6-4+7-1", "1+2", "f(1)=3 f(2)=5", "9"]
GREEDY_ORDERS = ["confidence", "entropy", "margin", "left_to_right", "right_to_left"]


def drafters(lm):
    """Every source of drafts, by name."""
    return {"pass": "pass", "last": "last", "fewer layers": ShallowLM(lm, [0])}


# ---------------------------------------------------------------- exact: the distribution


def every_outcome(run, monkeypatch):
    """{text: probability} of what `run()` writes: it is run again for each outcome of each of its
    draws, which are scripted."""
    distribution = defaultdict(float)
    script = []
    while True:
        trail = []  # (number of outcomes, which was taken) of each draw
        chance = 1.0

        def scripted(logits, generator, script=script, trail=trail):
            nonlocal chance
            tokens = []
            for p in logits.exp().tolist():
                possible = [token for token, x in enumerate(p) if x > 0]
                taken = script[len(trail)] if len(trail) < len(script) else 0
                trail.append((len(possible), taken))
                chance *= p[possible[taken]]
                tokens.append(possible[taken])
            return torch.tensor(tokens, dtype=torch.long)

        monkeypatch.setattr(speculate, "draw", scripted)
        text = tuple(run().tolist())
        distribution[text] += chance
        while trail and trail[-1][1] == trail[-1][0] - 1:
            trail.pop()
        if not trail:
            return distribution
        script = [taken for _, taken in trail]
        script[-1] += 1


def two_letters(table_lm, seed):
    """A table of canvases of three blanks and the letters 0 and 1."""
    lm = table_lm(seed=seed)
    lm.table[..., 2] = float("-inf")
    return lm


def sequential(lm, order, temperature):
    """{text: probability} if the positions are written one after the other in this order."""
    distribution = {}
    for text in itertools.product(range(2), repeat=3):
        canvas = [lm.mask_id] * 3
        chance = 1.0
        for position in order:
            p = (lm.logits(tuple(canvas))[position] / temperature).softmax(-1)
            chance *= float(p[text[position]])
            canvas[position] = text[position]
        distribution[text] = chance
    return distribution


def assert_equal_distributions(found, wanted):
    assert sum(found.values()) == pytest.approx(1, abs=1e-12)
    assert max(abs(found[text] - p) for text, p in wanted.items()) < 1e-12


@pytest.mark.parametrize("ahead", [1, 2, 3, 5])
@pytest.mark.parametrize("source", ["pass", "last", "another model"])
def test_the_distribution_is_the_plain_decoders(table_lm, monkeypatch, source, ahead):
    lm = two_letters(table_lm, 1)
    draft = two_letters(table_lm, 2) if source == "another model" else source

    def run():
        written = denoise_with_drafts(
            lm,
            lm.prompts(1),
            3,
            draft,
            ahead,
            order="left_to_right",
            temperature=0.7,
            generator=torch.Generator(),
        )
        return written.rollout.tokens[0]

    found = every_outcome(run, monkeypatch)
    assert_equal_distributions(found, sequential(lm, range(3), 0.7))
    choices = [torch.arange(2)] * 3
    prompt = torch.zeros(1, dtype=torch.long)
    rule = Schedule(3, "left_to_right")
    exact = text_distribution(lm, prompt, choices, rule, temperature=0.7)
    wanted = dict(zip(map(tuple, exact.texts.tolist()), exact.prob.tolist(), strict=True))
    assert_equal_distributions(found, wanted)


@pytest.mark.parametrize("source", ["pass", "last"])
def test_a_random_order_is_drawn_once_and_kept(table_lm, monkeypatch, source):
    """Given its order, a text has the distribution of that order; and every order comes."""
    lm = two_letters(table_lm, 1)
    seen = set()
    for seed in range(64):
        place = torch.rand(1, 3, generator=torch.Generator().manual_seed(seed))
        order = tuple(place[0].argsort(descending=True).tolist())
        if order in seen:
            continue
        seen.add(order)

        def run(seed=seed):
            written = denoise_with_drafts(
                lm,
                lm.prompts(1),
                3,
                source,
                3,
                order="random",
                temperature=1.0,
                generator=torch.Generator().manual_seed(seed),
            )
            return written.rollout.tokens[0]

        assert_equal_distributions(every_outcome(run, monkeypatch), sequential(lm, order, 1.0))
    assert len(seen) == 6


@given(st.integers(0, 2**31), st.integers(2, 9))
@settings(max_examples=60, deadline=None)
def test_the_final_token_has_its_distribution_and_agrees_as_often_as_it_can(seed, tokens):
    g = torch.Generator().manual_seed(seed)
    wanted, drafted = (3 * torch.randn(2, tokens, generator=g, dtype=torch.float64)).softmax(-1)
    drafts = torch.arange(tokens)
    final = speculate.agreeing(wanted.expand(tokens, -1), drafted.expand(tokens, -1), drafts)
    assert final.sum(1) == pytest.approx(1, abs=1e-12)
    assert drafted @ final == pytest.approx(wanted, abs=1e-12)
    agreement = float(drafted @ final.diagonal())
    assert agreement == pytest.approx(float(torch.minimum(wanted, drafted).sum()), abs=1e-12)


def test_a_draft_from_the_same_distribution_always_stays():
    p = torch.tensor([[0.2, 0.8, 0.0]], dtype=torch.float64)
    assert speculate.agreeing(p, p, torch.tensor([1])).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("source", ["pass", "last"])
def test_drawn_texts_follow_the_exact_distribution(table_lm, rng, source):
    lm = table_lm()
    n = 4000
    rollout = denoise_with_drafts(
        lm, lm.prompts(n), 3, source, 3, order="random", temperature=1.0, generator=rng(3)
    ).rollout
    prompt = torch.zeros(1, dtype=torch.long)
    exact = text_distribution(lm, prompt, [torch.arange(3)] * 3, Schedule(3, "random"))
    place = 3 ** torch.arange(2, -1, -1)
    count = torch.bincount((rollout.tokens * place).sum(1), minlength=27)
    error = (n * exact.prob * (1 - exact.prob)).sqrt()
    assert float(((count - n * exact.prob).abs() / error).max()) < 4


# ------------------------------------------------------- exact: the text, at temperature 0


@pytest.mark.parametrize("ahead", [1, 2, 4, 16])
@pytest.mark.parametrize("order", GREEDY_ORDERS)
def test_greedy_texts_are_the_plain_decoders(lm, order, ahead):
    """Tokens, steps and what is recorded of them; some positions are given."""
    anchor = torch.full((4, 12), lm.mask_id)
    anchor[1, 5] = 30
    plain = denoise(lm, PROMPTS, 12, Schedule(12, order), anchor=anchor)
    for name, draft in drafters(lm).items():
        found = denoise_with_drafts(lm, PROMPTS, 12, draft, ahead, order=order, anchor=anchor)
        for field in ("tokens", "unmask_step", "n_forwards", "prompt", "prompt_mask"):
            assert torch.equal(getattr(found.rollout, field), getattr(plain, field)), (name, field)
        for field in ("logprob", "entropy"):
            error = (getattr(found.rollout, field) - getattr(plain, field)).abs().max()
            assert float(error) < 1e-4, (name, field)


@pytest.mark.parametrize("task", ["chain2", "sudoku4"])
def test_the_base_model_writes_the_same_texts_in_fewer_calls(task):
    """Four problems each; `benchmarks/drafts.py` takes 200 of every task."""
    lm = load_lm("tiny")
    problems = load_task(task)
    prompts = [example.prompt for example in problems.sample(4, "test", 0)]
    plain = denoise(lm, prompts, problems.length, Schedule(problems.length))
    for draft in ("pass", "last", ShallowLM(lm, [0, 1, 3, 4])):
        found = denoise_with_drafts(lm, prompts, problems.length, draft, 4)
        assert torch.equal(found.rollout.tokens, plain.tokens)
        assert float(found.calls.float().mean()) < 0.8 * problems.length


@pytest.mark.parametrize("at_once", [0, 1, 2, 3])
def test_batched_acceptance_is_row_by_row(lm, at_once):
    for name, draft in drafters(lm).items():
        together = denoise_with_drafts(lm, PROMPTS, 12, draft, 4, at_once=at_once)
        for row, prompt in enumerate(PROMPTS):
            alone = denoise_with_drafts(lm, [prompt], 12, draft, 4)
            for field in ("calls", "rows", "draft_calls"):
                one = getattr(alone, field)[0]
                assert getattr(together, field)[row] == one, (name, field)
            assert torch.equal(together.rollout.tokens[row], alone.rollout.tokens[0]), name
            assert torch.equal(together.rollout.unmask_step[row], alone.rollout.unmask_step[0])


# ---------------------------------------------------------------- what it costs


@pytest.mark.parametrize("source", ["pass", "last"])
def test_calls_and_rows_are_those_that_the_model_saw(lm, spy, source):
    for prompt in PROMPTS:
        watched = spy(lm)
        found = denoise_with_drafts(watched, [prompt], 12, source, 4)
        assert int(found.calls) == len(watched.calls)
        assert int(found.rows) == sum(len(ids) for ids, _, _ in watched.calls)
        assert int(found.draft_calls) == 0
        assert int(found.calls) <= 12 <= int(found.rows)


def test_another_models_calls_are_counted_apart(lm, new_lm, spy):
    watched, cheap = spy(lm), spy(new_lm(seed=5))
    found = denoise_with_drafts(watched, ["1+2"], 12, cheap, 4)
    assert int(found.calls) == len(watched.calls) == len(found.drafts)
    assert int(found.rows) == sum(len(ids) for ids, _, _ in watched.calls)
    assert int(found.draft_calls) == len(cheap.calls)


def test_one_canvas_ahead_is_the_plain_decoder(lm, spy):
    watched = spy(lm)
    found = denoise_with_drafts(watched, ["1+2"], 12, "last", 1)
    assert found.calls.tolist() == found.rows.tolist() == [12] == [len(watched.calls)]


def test_perfect_drafts_fill_every_call(lm):
    """The model as its own drafter, in an order in which its first token always stays."""
    found = denoise_with_drafts(lm, ["1+2"], 12, lm, 2, order="left_to_right")
    assert found.calls.tolist() == [6] and found.rows.tolist() == [12]


def test_accepted_drafts_are_what_a_call_wrote_beyond_its_own_token(lm):
    for name, draft in drafters(lm).items():
        found = denoise_with_drafts(lm, PROMPTS, 12, draft, 4)
        accepted = found.accepted
        assert bool((found.drafts[accepted] != lm.mask_id).all()), name
        assert int(accepted.sum()) > 0, name
        tokens = (found.written >= 0).sum(1)
        rounds = torch.stack([(found.written == r).any(1) for r in range(len(found.drafts))]).sum(0)
        assert torch.equal(accepted.sum((0, 2)), tokens - rounds), name


def test_a_canvas_without_blanks_costs_nothing(lm):
    given = torch.full((1, 12), 30)
    found = denoise_with_drafts(lm, ["1+2"], 12, anchor=given)
    assert torch.equal(found.rollout.tokens, given)
    assert int(found.calls) == int(found.rows) == int(found.rollout.n_forwards) == 0
    assert found.accepted.shape == found.drafts.shape == (0, 1, 12)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "change, message",
    [
        ({"draft": "next"}, "draft must be one of"),
        ({"ahead": 0}, "ahead must be a whole number of at least 1, got 0"),
        ({"at_once": -1}, "at_once must be a whole number of at least 0, got -1"),
        ({"length": 0}, "length must be a whole number of at least 1, got 0"),
        ({"length": 60}, "shorten the prompt or the length"),
        ({"order": "sideways"}, "unknown order 'sideways'"),
        ({"order": "random"}, "needs chance"),
        ({"temperature": 1.0}, "order 'confidence' looks at the candidates"),
        ({"temperature": 1.0, "order": "random"}, "needs chance"),
        ({"anchor": torch.zeros(1, 2)}, "anchor must be int64"),
    ],
)
def test_bad_arguments_name_the_value(lm, change, message):
    arguments = {"prompts": PROMPTS, "length": 12} | change
    with pytest.raises(ValueError, match=message):
        denoise_with_drafts(lm, **arguments)


def test_a_shallow_model_leaves_the_model_as_it_was(lm):
    ids, mask = encode_prompts(lm.tokenizer, PROMPTS)
    before = lm(ids, mask, mask)
    shallow = ShallowLM(lm, [1])(ids, mask, mask)
    assert not torch.equal(shallow, before)
    assert torch.equal(ShallowLM(lm, [0, 1])(ids, mask, mask), before)
    assert torch.equal(lm(ids, mask, mask), before)
    assert not any("shallow" in name for name, _ in lm.named_parameters())


@pytest.mark.parametrize("layers", [[], [2], [1, 0], [0, 0], [-1]])
def test_layers_that_a_shallow_model_cannot_keep(lm, layers):
    with pytest.raises(ValueError, match=r"layers must increase within 0\.\.1, got"):
        ShallowLM(lm, layers)
