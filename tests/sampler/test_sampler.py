"""The sampler: exact laws by enumeration, a naive twin, the record it keeps, and the errors it
gives."""

import itertools
import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from dllm_rl_lite.models import encode_prompts
from dllm_rl_lite.sampler import (
    Decoding,
    Factor,
    Gate,
    Rule,
    RunningConfidence,
    Schedule,
    Threshold,
    denoise,
    guided_denoise,
    top,
)
from dllm_rl_lite.sampler.candidates import draw, filtered

PROMPTS = ["6-4+7-1", "1+2", "f(1)=3 f(2)=5", "9"]
GREEDY_RULES = [
    Schedule(6, "confidence"),
    Schedule(6, "left_to_right"),
    Schedule(6, "entropy"),
    Schedule(6, "margin"),
    Threshold(0.4),
    Factor(1.0),
    RunningConfidence(6, "latest"),
    RunningConfidence(6, "max"),
]
RANDOM_RULES = [Schedule(6, "random"), Gate(0.3, 0.5)]


# ---------------------------------------------------------------- exact laws


def quota(steps):
    """How many of a block's m masked positions a schedule reveals at a step."""
    return lambda m, step: m // steps + (step < m % steps)


def by_score(score, steps):
    """A schedule that reveals the highest scores; ties go to the leftmost position."""

    def choose(candidates, step, start):
        order = sorted(candidates, key=lambda i: (-score(i, candidates[i]), i))
        return [(1.0, frozenset(order[: quota(steps)(start, step)]))]

    return choose


def at_random(steps):
    def choose(candidates, step, start):
        subsets = list(itertools.combinations(sorted(candidates), quota(steps)(start, step)))
        return [(1 / len(subsets), frozenset(s)) for s in subsets]

    return choose


def threshold(tau):
    def choose(candidates, step, start):
        surest = min(candidates, key=lambda i: (-candidates[i]["confidence"], i))
        return [
            (
                1.0,
                frozenset(
                    i for i in candidates if candidates[i]["confidence"] >= tau or i == surest
                ),
            )
        ]

    return choose


def gate(tau, kappa):
    def choose(candidates, step, start):
        surest = min(candidates, key=lambda i: (-candidates[i]["confidence"], i))
        p = {i: (max(c["confidence"] - tau, 0) / (1 - tau)) ** kappa for i, c in candidates.items()}
        result = []
        for opened in itertools.product([False, True], repeat=len(p)):
            chance = math.prod(p[i] if o else 1 - p[i] for i, o in zip(p, opened, strict=True))
            result.append(
                (
                    chance,
                    frozenset(i for i, o in zip(p, opened, strict=True) if o)
                    or frozenset([surest]),
                )
            )
        return result

    return choose


def outcomes(lm, canvas, positions, temperature, sampled=False):
    """Every tuple of candidates at the masked positions: (its probability, {position: what a rule
    may ask}), of the plain distribution or of the one that is sampled from."""
    logits = lm.logits(canvas)
    law, p = (logits / temperature).softmax(-1), logits.softmax(-1)
    if sampled:
        p = law
    for tokens in itertools.product(range(3), repeat=len(positions)):
        told = {}
        for i, token in zip(positions, tokens, strict=True):
            top2 = p[i].topk(2).values
            told[i] = {
                "token": token,
                "confidence": float(p[i, token]),
                "margin": float(top2[0] - top2[1]),
                "entropy": float(torch.special.entr(p[i]).sum()),
            }
        yield math.prod(float(law[i, t]) for i, t in zip(positions, tokens, strict=True)), told


def exact_law(lm, choose, temperature=1.0, block=None, sampled=False):
    """Probability of every text: the sum over all candidate tuples and all choices of positions of
    every step."""
    length = lm.length
    block = block or length
    final = defaultdict(float)
    todo = {
        ((lm.mask_id,) * length, 0, block): 1.0
    }  # (canvas, step in the block, masked when the block began)
    while todo:
        (canvas, step, start), mass = todo.popitem()
        masked = [i for i in range(length) if canvas[i] == lm.mask_id]
        if not masked:
            final[canvas] += mass
            continue
        active = [i for i in masked if i // block == masked[0] // block]
        for chance, told in outcomes(lm, canvas, active, temperature, sampled):
            for share, chosen in choose(told, step, start):
                new = tuple(told[i]["token"] if i in chosen else c for i, c in enumerate(canvas))
                full = chosen == set(active)
                state = (new, 0, block) if full else (new, step + 1, start)
                todo[state] = todo.get(state, 0.0) + mass * chance * share
    return final


def exact_law_with_remasking(lm, steps, keep):
    """The same for running-confidence remasking: the state also holds the running confidences."""
    length, final = lm.length, defaultdict(float)
    todo = [((lm.mask_id,) * length, (None,) * length, 0, 1.0)]
    while todo:
        canvas, running, step, mass = todo.pop()
        masked = [i for i in range(length) if canvas[i] == lm.mask_id]
        if not masked:
            final[canvas] += mass
            continue
        for chance, told in outcomes(lm, canvas, masked, 1.0):
            known = list(running)
            for i in masked:
                c = told[i]["confidence"]
                known[i] = c if keep == "latest" or known[i] is None else max(known[i], c)
            owed = length * (steps - step - 1) // steps
            withdrawn = sorted(range(length), key=lambda i: (known[i], i))[:owed]
            new = [told[i]["token"] if i in told else c for i, c in enumerate(canvas)]
            new = tuple(lm.mask_id if i in withdrawn else t for i, t in enumerate(new))
            todo.append((new, tuple(known), step + 1, mass * chance))
    return final


CONFIDENCE, MARGIN = (lambda i, c: c["confidence"]), (lambda i, c: c["margin"])
ENTROPY, LEFT = (lambda i, c: -c["entropy"]), (lambda i, c: -i)
DISTRIBUTIONS = {
    "random": (Schedule(3, "random"), lambda lm: exact_law(lm, at_random(3))),
    "random, two steps": (Schedule(2, "random"), lambda lm: exact_law(lm, at_random(2))),
    "left to right": (Schedule(3, "left_to_right"), lambda lm: exact_law(lm, by_score(LEFT, 3))),
    "confidence": (Schedule(3, "confidence"), lambda lm: exact_law(lm, by_score(CONFIDENCE, 3))),
    "confidence, two steps": (
        Schedule(2, "confidence"),
        lambda lm: exact_law(lm, by_score(CONFIDENCE, 2)),
    ),
    "entropy": (Schedule(3, "entropy"), lambda lm: exact_law(lm, by_score(ENTROPY, 3))),
    "margin": (Schedule(3, "margin"), lambda lm: exact_law(lm, by_score(MARGIN, 3))),
    "one step": (Schedule(1), lambda lm: exact_law(lm, by_score(CONFIDENCE, 1))),
    "threshold": (Threshold(0.5), lambda lm: exact_law(lm, threshold(0.5))),
    "gate": (Gate(0.3, 0.5), lambda lm: exact_law(lm, gate(0.3, 0.5))),
    "remasking, latest": (
        RunningConfidence(3, "latest"),
        lambda lm: exact_law_with_remasking(lm, 3, "latest"),
    ),
    "remasking, max": (
        RunningConfidence(3, "max"),
        lambda lm: exact_law_with_remasking(lm, 3, "max"),
    ),
}


def assert_frequencies(lm, tokens, law):
    """Every text's frequency lies within 4.5 standard errors of its exact probability, and
    chi-square within its own.

    The rarest texts count as one, so that every cell expects at least 25: below that a standard
    error says little.
    """
    n, texts = len(tokens), sorted(lm.texts(), key=lambda t: law[t])
    assert abs(sum(law.values()) - 1) < 1e-9
    found = Counter(map(tuple, tokens.tolist()))
    rare = 1 + int(np.searchsorted(np.cumsum([law[t] for t in texts]) * n, 25))
    cells = [texts[:rare]] + [[t] for t in texts[rare:]]
    p = np.array([sum(law[t] for t in cell) for cell in cells])
    counts = np.array([sum(found[t] for t in cell) for cell in cells])
    assert counts.sum() == n and len(cells) > 0.6 * len(texts)
    z = (counts / n - p) / np.sqrt(p * (1 - p) / n)
    assert np.abs(z).max() < 4.5, list(zip(cells, z.round(2), strict=True))
    df = len(cells) - 1
    assert ((counts - n * p) ** 2 / (n * p)).sum() < df + 4.5 * math.sqrt(2 * df)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_texts_follow_the_exact_law_of_their_rule(table_lm, rng, name):
    """Exact law: 20 000 texts of 3 tokens against the enumerated probability of all 27."""
    rule, law = DISTRIBUTIONS[name]
    lm = table_lm()
    rollout = denoise(lm, lm.prompts(20_000), 3, rule, temperature=1.0, generator=rng(11))
    assert_frequencies(lm, rollout.tokens, law(lm))


def test_the_rules_laws_are_told_apart(table_lm):
    """The test above can fail: laws of different rules differ by far more than its bounds (total
    variation)."""
    lm = table_lm()
    laws = {name: law(lm) for name, (_, law) in DISTRIBUTIONS.items()}
    for a, b in itertools.combinations(
        [
            "random",
            "left to right",
            "confidence",
            "entropy",
            "one step",
            "threshold",
            "remasking, latest",
        ],
        2,
    ):
        distance = sum(abs(laws[a][t] - laws[b][t]) for t in lm.texts()) / 2
        assert distance > 0.03, (a, b, distance)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_confidence_is_taken_at_temperature_one(table_lm, rng, temperature):
    """Exact law at other temperatures: candidates are drawn from softmax(l / T), confidence stays
    softmax(l)."""
    lm = table_lm(scale=0.7)
    rollout = denoise(
        lm, lm.prompts(20_000), 3, Schedule(3), temperature=temperature, generator=rng(12)
    )
    assert_frequencies(lm, rollout.tokens, exact_law(lm, by_score(CONFIDENCE, 3), temperature))


@pytest.mark.parametrize("order, score", [("confidence", CONFIDENCE), ("entropy", ENTROPY)])
def test_confidence_may_be_that_of_the_sampled_distribution(table_lm, rng, order, score):
    """Exact law at temperature 0.4, the order by the tempered distribution (MDPO, DiffuCoder): not
    the law of the plain one."""
    lm = table_lm(scale=0.7)
    rollout = denoise(
        lm,
        lm.prompts(20_000),
        3,
        Schedule(3, order),
        temperature=0.4,
        confidence="sampled",
        generator=rng(12),
    )
    law = exact_law(lm, by_score(score, 3), 0.4, sampled=True)
    assert_frequencies(lm, rollout.tokens, law)
    plain = exact_law(lm, by_score(score, 3), 0.4)
    assert sum(abs(law[t] - plain[t]) for t in lm.texts()) / 2 > 0.05


def test_what_the_rule_sees_by_hand(table_lm, rng):
    """Probabilities 1/2, 1/4, 1/4 at temperature 1/2: squared, 4/6, 1/6, 1/6; with top_k 1 one
    token is certain. At temperature 0 nothing is sampled from, so both confidences are plain."""
    lm = table_lm(length=1)
    lm.table[:, :, :3] = torch.tensor([0.5, 0.25, 0.25]).log()
    third = math.log(2 / 3)
    for settings, logprob, entropy in (
        ({"temperature": 0.5}, math.log(1 / 2), 1.5 * math.log(2)),
        ({"temperature": 0.5, "confidence": "sampled"}, third, -2 / 3 * third + math.log(6) / 3),
        ({"temperature": 0.5, "top_k": 1, "confidence": "sampled"}, 0.0, 0.0),
        ({"temperature": 0.0, "top_k": 1, "confidence": "sampled"}, math.log(1 / 2), None),
    ):
        r = denoise(lm, lm.prompts(50), 1, Schedule(1), generator=rng(1), **settings)
        likeliest = r.tokens == 0
        assert likeliest.any()
        assert r.logprob[likeliest].tolist() == pytest.approx([logprob] * int(likeliest.sum()))
        if entropy is not None:
            assert r.entropy.flatten().tolist() == pytest.approx([entropy] * 50, abs=1e-6)


def test_blocks_follow_the_exact_law(table_lm, rng):
    """Exact law of two blocks of two tokens, confidence order inside a block."""
    lm = table_lm(length=4, seed=5, scale=0.8)
    rollout = denoise(
        lm, lm.prompts(20_000), 4, Schedule(4), block_length=2, temperature=1.0, generator=rng(13)
    )
    assert_frequencies(lm, rollout.tokens, exact_law(lm, by_score(CONFIDENCE, 2), block=2))


def test_draw_is_exactly_its_softmax(rng):
    """Gumbel-max alone: 30 000 draws within 4.5 standard errors of the softmax, the tail of 1e-4
    included."""
    n, p = 30_000, torch.tensor([0.5, 0.3, 0.15, 0.0489, 0.001, 0.0001])
    got = draw(p.log().expand(n, 6), rng(3)).bincount(minlength=6) / n
    assert ((got - p).abs() < 4.5 * (p * (1 - p) / n).sqrt()).all()


def test_filters_renormalise(rng):
    """top_k leaves the k likeliest, top_p the smallest set that holds p, each renormalised; top_k
    comes first."""
    n, p = 20_000, torch.tensor([0.1, 0.45, 0.15, 0.3])
    for arguments, kept in (
        ({"top_k": 2}, [1, 3]),
        ({"top_p": 0.7}, [1, 3]),
        ({"top_p": 0.76}, [1, 2, 3]),
        ({"top_k": 2, "top_p": 0.55}, [1]),
    ):
        logits = filtered(p.log().expand(n, 4), Decoding(**arguments))
        got = draw(logits, rng(4)).bincount(minlength=4) / n
        want = torch.zeros(4)
        want[kept] = p[kept] / p[kept].sum()
        assert (got[want == 0] == 0).all()
        assert ((got - want).abs() <= 4.5 * (want * (1 - want) / n).sqrt()).all(), arguments


@pytest.mark.parametrize(
    "top_p, kept, dropped",
    [
        (0.99, [0, 1], [0]),  # 0.95 + 0.045 crosses 0.99: AGRPO's release samples one token only
        (0.9, [0], [0]),  # the likeliest crosses by itself, and stays
        (0.996, [0, 1, 2], [0, 1]),
        (1.0, [0, 1, 2, 3], [0, 1, 2, 3]),
    ],
)
def test_both_conventions_of_top_p_by_hand(top_p, kept, dropped):
    """The token whose share crosses top_p stays or goes; the likeliest always stays."""
    logits = torch.tensor([[0.95, 0.045, 0.004, 0.001]]).log()
    for crossing, left in (("kept", kept), ("dropped", dropped)):
        got = filtered(logits, Decoding(top_p=top_p, top_p_crossing=crossing))
        assert got[0].isfinite().nonzero().flatten().tolist() == left


# ---------------------------------------------------------------- a naive twin


def naive_denoise(
    stock, tokenizer, prompt, length, block, order, steps=None, tau=None, anchor=None
):
    """LLaDA's sampler from its description: one row, full logits of the whole canvas, plain loops,
    temperature 0."""
    mask = tokenizer.mask_token_id
    canvas = list(anchor) if anchor is not None else [mask] * length
    unmask_step, n_forwards = [-1] * length, 0
    for b in range(length // block):
        inside = range(b * block, (b + 1) * block)
        start, step = sum(canvas[i] == mask for i in inside), 0
        while any(canvas[i] == mask for i in inside):
            ids = torch.tensor([prompt + canvas])
            with torch.no_grad():
                logits = stock(
                    ids, attention_mask=torch.zeros(1, 1, ids.shape[1], ids.shape[1])
                ).logits[0]
            logits[:, mask] = float("-inf")
            told = {}
            for i in inside:
                if canvas[i] == mask:
                    p = logits[len(prompt) + i].softmax(-1)
                    top2 = p.sort(descending=True).values[:2].tolist()
                    told[i] = {
                        "token": int(p.argmax()),
                        "confidence": float(p.max()),
                        "margin": top2[0] - top2[1],
                        "entropy": -sum(q * math.log(q) for q in p.tolist() if q > 0),
                        "left_to_right": -i,
                    }
            if tau is not None:
                surest = max(told, key=lambda i: told[i]["confidence"])
                chosen = [i for i in told if told[i]["confidence"] >= tau or i == surest]
            else:
                per_block = steps // (length // block)
                n = start // per_block + (step < start % per_block)
                sign = -1 if order == "entropy" else 1
                chosen = sorted(told, key=lambda i: -sign * told[i][order])[:n]
            for i in chosen:
                canvas[i], unmask_step[i] = told[i]["token"], n_forwards
            step, n_forwards = step + 1, n_forwards + 1
    return canvas, unmask_step, n_forwards


@pytest.fixture(scope="module")
def stock(lm):
    model = LlamaForCausalLM(lm.backbone.config).eval()
    model.load_state_dict(lm.backbone.state_dict())
    return model


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize(
    "length, block, steps", [(12, 12, 12), (12, 4, 6), (10, 5, 4), (9, 9, 4), (8, 1, 8)]
)
@pytest.mark.parametrize("order", ["confidence", "left_to_right", "entropy", "margin", "threshold"])
def test_same_as_the_naive_sampler(lm, stock, order, length, block, steps, anchored):
    """Greedy: a batch of prompts of unequal length gives what the naive one-row sampler gives, step
    by step."""
    anchor = torch.full((4, length), lm.mask_id)
    if anchored:
        anchor[0, -2:], anchor[1, 0], anchor[2, 1::2] = 40, 41, 42
    rule = Threshold(0.35) if order == "threshold" else Schedule(steps, order)
    rollout = denoise(lm, PROMPTS, length, rule, block, anchor=anchor if anchored else None)
    for i, prompt in enumerate(PROMPTS):
        ids = encode_prompts(lm.tokenizer, [prompt])[0][0].tolist()
        canvas, unmask_step, n_forwards = naive_denoise(
            stock,
            lm.tokenizer,
            ids,
            length,
            block,
            order,
            steps,
            rule.tau if order == "threshold" else None,
            anchor[i].tolist(),
        )
        assert rollout.tokens[i].tolist() == canvas
        assert rollout.unmask_step[i].tolist() == unmask_step
        assert int(rollout.n_forwards[i]) == n_forwards


def test_the_model_of_these_tests_is_not_trivial(lm):
    """The greedy texts above are worth comparing: many different tokens, and thresholds that
    sometimes hold."""
    rollout = denoise(lm, PROMPTS, 12, Threshold(0.35))
    assert len(rollout.tokens.unique()) > 12
    assert 1 < int(rollout.n_forwards.min()) and int(rollout.n_forwards.max()) < 12
    assert len(rollout.n_forwards.unique()) > 1


@pytest.mark.parametrize("rule", GREEDY_RULES, ids=repr)
def test_a_row_does_not_depend_on_its_batch(lm, rule):
    """Alone, or among 15 rows with longer prompts: same tokens, steps and forwards,
    log-probabilities to 1e-5."""
    prompts = ["7-2"] + ["1234567890+-"[: 4 + i % 8] + str(i) for i in range(15)]
    alone = denoise(lm, prompts[:1], 12, rule, block_length=6)
    batch = denoise(lm, prompts, 12, rule, block_length=6)
    assert batch.prompt.shape[1] > alone.prompt.shape[1]
    for name in ("tokens", "unmask_step", "n_forwards"):
        assert torch.equal(getattr(batch, name)[:1], getattr(alone, name)), name
    for name in ("logprob", "entropy"):
        torch.testing.assert_close(
            getattr(batch, name)[:1], getattr(alone, name), rtol=1e-5, atol=1e-5
        )


# ---------------------------------------------------------------- the record


def real_tokens(ids, mask):
    return tuple(ids[mask].tolist())


@pytest.mark.parametrize("rule", GREEDY_RULES + RANDOM_RULES, ids=repr)
@pytest.mark.parametrize("block", [12, 6])
def test_canvas_at_is_what_the_model_saw(lm, spy, rng, rule, block):
    """The canvas rebuilt for each step of each row equals the one that was passed to the model,
    remasking included."""
    watched = spy(lm)
    anchor = torch.full((4, 12), lm.mask_id)
    anchor[1, 3], anchor[2, 8:] = 50, 51
    rollout = denoise(
        watched, PROMPTS, 12, rule, block, temperature=1.0, anchor=anchor, generator=rng(5)
    )
    prompts = [real_tokens(i, m) for i, m in zip(rollout.prompt, rollout.prompt_mask, strict=True)]
    steps = [0] * 4
    for ids, mask, where in watched.calls:
        for row_ids, row_mask, row_where in zip(ids, mask, where, strict=True):
            seen = real_tokens(row_ids[:-12], row_mask[:-12])
            i = prompts.index(seen)
            canvas = rollout.canvas_at(steps[i])[i]
            assert torch.equal(canvas, row_ids[-12:]), (i, steps[i])
            assert not row_where[:-12].any() and (canvas[row_where[-12:]] == lm.mask_id).all()
            steps[i] += 1
    assert steps == rollout.n_forwards.tolist()
    assert torch.equal(rollout.canvas_at(rollout.n_forwards), rollout.tokens)
    per_row = rollout.canvas_at(torch.tensor([0, 1, 2, 1]))
    assert all(torch.equal(per_row[i], rollout.canvas_at(t)[i]) for i, t in enumerate([0, 1, 2, 1]))
    some = rollout.select(torch.tensor([2, 0]))
    assert torch.equal(some.canvas_at(1), rollout.canvas_at(1)[[2, 0]])


@pytest.mark.parametrize("rule", GREEDY_RULES + RANDOM_RULES, ids=repr)
def test_recorded_numbers_are_those_of_the_visited_canvas(lm, rng, rule):
    """logprob and entropy are at temperature 1 and unfiltered, on the canvas of the step that
    revealed the token."""
    rollout = denoise(lm, PROMPTS, 12, rule, temperature=0.7, top_p=0.95, generator=rng(6))
    found = torch.zeros(4, 12, dtype=torch.bool)
    for t in range(int(rollout.n_forwards.max())):
        canvas, now = rollout.canvas_at(t), rollout.unmask_step == t
        assert (canvas[now] == lm.mask_id).all()
        seen = torch.cat([rollout.prompt_mask, torch.ones_like(now)], 1)
        where = torch.cat([torch.zeros_like(rollout.prompt_mask), now], 1)
        with torch.no_grad():
            logp = lm(torch.cat([rollout.prompt, canvas], 1), seen, where).log_softmax(-1)
        entropy = -(logp.exp() * logp).nan_to_num(0).sum(-1)
        got = logp.gather(-1, rollout.tokens[now][:, None])[:, 0]
        torch.testing.assert_close(rollout.logprob[now], got, rtol=1e-5, atol=2e-5)
        torch.testing.assert_close(rollout.entropy[now], entropy, rtol=1e-5, atol=2e-5)
        found |= now
    assert found.all()


def test_anchors_never_change(lm, rng):
    """Given tokens stand in the result, have unmask step -1 and no log-probability; a full canvas
    costs no forward."""
    anchor = torch.full((4, 8), lm.mask_id)
    anchor[0, 5:], anchor[1, ::2], anchor[2] = 60, 61, 62
    untouched = anchor.clone()
    rollout = denoise(lm, PROMPTS, 8, Schedule(8), temperature=1.0, anchor=anchor, generator=rng(7))
    given = anchor != lm.mask_id
    assert torch.equal(anchor, untouched)
    assert torch.equal(rollout.tokens[given], anchor[given])
    assert (rollout.unmask_step[given] == -1).all() and (rollout.logprob[given] == 0).all()
    assert (rollout.unmask_step[~given] >= 0).all() and not (rollout.tokens == lm.mask_id).any()
    assert rollout.n_forwards.tolist() == [5, 4, 0, 8]


# ---------------------------------------------------------------- end of sequence


def stoppable(canvas, mask_id, eos_id):
    """Is everything before the first end-of-sequence token written?"""
    row = canvas.tolist()
    return eos_id in row and mask_id not in row[: row.index(eos_id)]


@pytest.mark.parametrize("order", ["confidence", "left_to_right", "random"])
def test_stop_ends_a_row_as_soon_as_its_text_is_complete(lm, biased, rng, order):
    """With "stop" a row ends at the first step after which all before its end-of-sequence is
    written; the rest is filled."""
    model = biased(lm, {lm.eos_id: 6.0})
    prompts = PROMPTS * 4
    stop = denoise(
        model, prompts, 12, Schedule(12, order), temperature=1.0, eos="stop", generator=rng(8)
    )
    filled = stop.unmask_step == stop.n_forwards[:, None]
    assert (
        filled.any()
        and (stop.tokens[filled] == lm.eos_id).all()
        and (stop.logprob[filled] == 0).all()
    )
    assert int(stop.n_forwards.sum()) < 12 * 16
    assert (
        stop.n_forwards == 12 - filled.sum(1)
    ).all()  # one token a forward, and none for the filled ones
    for i in range(16):
        for t in range(1, int(stop.n_forwards[i])):
            assert not stoppable(stop.canvas_at(t)[i], lm.mask_id, lm.eos_id), (i, t)
        if filled[i].any():
            end = stop.tokens[i].tolist().index(lm.eos_id)
            assert not filled[i, : end + 1].any()
            assert stoppable(stop.canvas_at(stop.n_forwards)[i], lm.mask_id, lm.eos_id)


def test_stop_and_free_agree_up_to_the_end(lm, biased):
    """Greedy, left to right: "stop" saves forwards and writes the same text up to its
    end-of-sequence."""
    model = biased(lm, {lm.eos_id: 4.0})
    free, stop = (
        denoise(model, PROMPTS, 12, Schedule(12, "left_to_right"), eos=eos)
        for eos in ("free", "stop")
    )
    assert (free.n_forwards == 12).all() and int(stop.n_forwards.sum()) < 48
    assert torch.equal(free.until_eos, stop.until_eos)
    assert torch.equal(free.tokens[free.until_eos], stop.tokens[stop.until_eos])


def test_forbid_writes_no_end_of_sequence_and_free_does(lm, biased, rng):
    """However likely it is."""
    model = biased(lm, {lm.eos_id: 30.0})
    for temperature in (0.0, 1.0):
        free, forbid = (
            denoise(
                model, PROMPTS, 8, Schedule(4), temperature=temperature, eos=eos, generator=rng(9)
            )
            for eos in ("free", "forbid")
        )
        assert (free.tokens == lm.eos_id).all() and not (forbid.tokens == lm.eos_id).any()
        assert not (forbid.tokens == lm.mask_id).any() and forbid.logprob.isfinite().all()


def test_a_block_of_ends_ends_a_row(table_lm):
    """Blocks of two: the first text ends after a whole block of ends, one end is not enough, and
    what follows costs no pass."""
    lm = table_lm(length=4, eos=2)

    def rows(ends):
        """Greedy texts of a model that writes an end at these positions and token 1 elsewhere."""
        lm.table[:, :, :3] = 0.0
        lm.table[:, :, 1] = 5.0
        for i in ends:
            lm.table[:, i, 2] = 9.0
        return denoise(lm, lm.prompts(2), 4, Schedule(4), block_length=2, eos="block")

    whole = rows([0, 1])
    assert whole.tokens[0].tolist() == [2, 2, 2, 2]
    assert whole.n_forwards.tolist() == [2, 2]
    assert whole.unmask_step[0].tolist() == [0, 1, 2, 2]  # the step after the last
    assert (whole.logprob[:, 2:] == 0).all()
    half = rows([1, 2])
    assert half.tokens[0].tolist() == [1, 2, 2, 1] and half.n_forwards.tolist() == [4, 4]
    last = rows([2, 3])
    assert last.tokens[0].tolist() == [1, 1, 2, 2] and last.n_forwards.tolist() == [4, 4]


def test_until_eos_counts_the_first_one():
    """True up to and including the first end-of-sequence; everywhere without one."""
    from dllm_rl_lite.sampler import Rollout

    tokens = torch.tensor([[5, 1, 5, 1], [5, 5, 5, 5], [1, 1, 1, 1]])
    blank = torch.zeros(3, 4)
    rollout = Rollout(
        tokens, tokens > 0, tokens, tokens, blank, blank, torch.ones(3), mask_id=2, eos_id=1
    )
    assert rollout.until_eos.tolist() == [
        [True, True, False, False],
        [True] * 4,
        [True, False, False, False],
    ]


# ---------------------------------------------------------------- chance


def test_chance_comes_from_the_generator_alone(lm, rng):
    """Equal seeds give equal rollouts, others differ, and no global generator is read or moved."""
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed + 77) if seed == 2 else None
        before = (torch.get_rng_state(), *before[1:])
        runs.append(denoise(lm, PROMPTS, 8, Gate(0.3), temperature=1.0, generator=rng(seed)))
        assert torch.equal(before[0], torch.get_rng_state())
    assert random.getstate() == before[1] and (np.random.get_state()[1] == before[2]).all()
    for name in ("tokens", "unmask_step", "logprob", "entropy", "n_forwards"):
        assert torch.equal(getattr(runs[0], name), getattr(runs[1], name)), name
    assert not torch.equal(runs[0].tokens, runs[2].tokens)


def test_top_k_of_one_is_greedy(lm, rng):
    """At any temperature."""
    greedy = denoise(lm, PROMPTS, 8, Schedule(4))
    drawn = denoise(lm, PROMPTS, 8, Schedule(4), temperature=3.0, top_k=1, generator=rng(1))
    assert torch.equal(greedy.tokens, drawn.tokens) and torch.equal(
        greedy.unmask_step, drawn.unmask_step
    )


@pytest.mark.parametrize("top_k, top_p", [(0, 0.6), (5, 1.0)])
def test_filtered_tokens_stay_inside_the_filter(lm, rng, top_k, top_p):
    """Every token lies in the nucleus (or the top k) of the tempered law on the canvas it was drawn
    from."""
    prompts = PROMPTS * 6
    rollout = denoise(
        lm, prompts, 8, Schedule(8), temperature=1.5, top_k=top_k, top_p=top_p, generator=rng(2)
    )
    outside = denoise(lm, prompts, 8, Schedule(8), temperature=1.5, generator=rng(2))
    broken = []
    for r in (rollout, outside):
        bad = 0
        for t in range(8):
            now = r.unmask_step == t
            seen = torch.cat([r.prompt_mask, torch.ones_like(now)], 1)
            where = torch.cat([torch.zeros_like(r.prompt_mask), now], 1)
            with torch.no_grad():
                p = (lm(torch.cat([r.prompt, r.canvas_at(t)], 1), seen, where) / 1.5).softmax(-1)
            own = p.gather(-1, r.tokens[now][:, None])
            above = p > own * (1 + 1e-5)
            bad += (
                int((above.sum(-1) >= top_k).sum())
                if top_k
                else int(((p * above).sum(-1) >= top_p + 1e-5).sum())
            )
        broken.append(bad)
    assert broken[0] == 0 and broken[1] > 0


# ---------------------------------------------------------------- errors

NO_COLUMNS = (torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, 0, dtype=torch.bool))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"length": 60}, r"prompt of 9 tokens \+ completion of 60 must fit in 1..64"),
        ({"length": 0}, "length must be a whole number of at least 1, got 0"),
        ({"length": 8.0}, "length must be a whole number of at least 1, got 8.0"),
        ({"length": None}, "length must be a whole number of at least 1, got None"),
        ({"block_length": 5}, "block_length 5 must divide length 8"),
        ({"block_length": 0}, "block_length 0 must divide"),
        (
            {"block_length": 2, "rule": Schedule(6)},
            "steps 6 must be a multiple of the number of blocks, 4",
        ),
        ({"block_length": 4.0}, "block_length must be whole numbers, got torch.float32"),
        ({"rule": Schedule(16)}, "steps must be at most 8, the tokens of the canvas.*got 16"),
        ({"rule": RunningConfidence(10_000)}, "steps must be at most 8, .*got 10000"),
        ({"temperature": -1.0}, "temperature must be a number from 0 to 100.0, got -1.0"),
        ({"temperature": float("nan")}, "temperature must be a number from 0 to 100.0, got nan"),
        ({"temperature": float("inf")}, "temperature must be a number from 0 to 100.0, got inf"),
        ({"temperature": 1e30}, r"temperature must be a number from 0 to 100.0, got 1e\+30"),
        ({"temperature": 1e-9}, "temperature must be 0 .* or at least 0.001, got 1e-09"),
        ({"temperature": "hot"}, "temperature must be a number from 0 to 100.0, got 'hot'"),
        ({"temperature": 1.0}, "pass generator="),
        ({"rule": Schedule(4, "random")}, "pass generator="),
        ({"rule": Gate()}, "pass generator="),
        ({"eos": "halt"}, "unknown eos policy 'halt'.*free.*stop.*forbid"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.5}, "top_p must be a number from 0 to 1, got 1.5"),
        ({"top_p": float("nan")}, "top_p must be a number from 0 to 1, got nan"),
        ({"top_k": -1}, "top_k must be a whole number of at least 0, got -1"),
        ({"top_k": 2.5}, "top_k must be a whole number of at least 0, got 2.5"),
        ({"top_p_crossing": "half"}, "unknown top_p_crossing 'half'.*kept.*dropped"),
        ({"confidence": "high"}, "unknown confidence 'high'.*plain.*sampled"),
        ({"cache": "triple"}, "unknown cache 'triple'"),
        ({"cache": "dual", "rule": RunningConfidence(8)}, "cache 'dual' keeps.*re-masks nothing"),
        ({"cache": "prefix", "rule": RunningConfidence(8)}, "cache 'prefix' keeps"),
        ({"cache": "dual", "block_length": 4, "record": True}, "'dual' computes one block"),
        ({"record": "all"}, "unknown record 'all'"),
        ({"anchor": torch.zeros(1, 8)}, "anchor must be int64 of shape .1, 8., got torch.float32"),
        ({"anchor": torch.zeros(2, 8, dtype=torch.long)}, "anchor must be int64 of shape .1, 8."),
        ({"prompts": []}, "no prompts"),
        ({"prompts": "1+2"}, "prompts must be a list of texts, or .ids, mask., got str"),
        ({"prompts": NO_COLUMNS}, r"neither N nor P zero, got torch.int64 \(1, 0\) and \(1, 0\)"),
        ({"prompts": (torch.zeros(1, 2), torch.ones(1, 2))}, "int64 ids.*got torch.float32"),
    ],
)
def test_bad_arguments_name_the_value(lm, change, message):
    """Each error says what was wrong before any forward pass."""
    arguments = {"prompts": ["6-4+7-1"], "length": 8, "rule": Schedule(8), **change}
    with pytest.raises(ValueError, match=message):
        denoise(lm, **arguments)


def test_a_guided_rollout_checks_its_arguments(lm):
    """What `denoise` refuses, and a `repredict` that is not a bool: any text would count as yes."""
    anchor = torch.full((1, 8), lm.mask_id)
    for prompts, more, message in (
        (["1+2"], {"repredict": "no"}, "repredict must be True or False, got 'no'"),
        (["1+2"], {"temperature": float("nan")}, "temperature must be a number"),
        (["1+2"], {"guided_block": 2.5}, "block_length must be whole numbers"),
        (NO_COLUMNS, {}, "neither N nor P zero"),
    ):
        with pytest.raises(ValueError, match=message):
            guided_denoise(lm, prompts, anchor, Schedule(8), Schedule(8), **more)


class Broken(Rule):
    """A user's rule with a fault."""

    def __init__(self, fault):
        self.fault = fault
        self.remasks = fault == "takes back"

    def __repr__(self):
        return f"Broken({self.fault})"

    def reveal(self, seen):
        if self.fault == "none in row 1":
            return seen.active & (torch.arange(len(seen.active)) != 1)[:, None]
        if self.fault == "everything":
            return torch.ones_like(seen.active)
        if self.fault == "numbers":
            return seen.active.float()
        return seen.active & (self.fault == "takes back")

    def update(self, running, logprob, written):
        return running

    def remask(self, running, seen):
        return top(-seen.logprob, seen.active, seen.active.sum(1))


@pytest.mark.parametrize(
    "fault, message",
    [
        ("none", r"Broken\(none\) reveals no token at a pass, so it would never end"),
        ("none in row 1", r"Broken\(none in row 1\) reveals no token at a pass"),
        ("everything", r"Broken\(everything\) reveals a position that is not active"),
        ("numbers", r"Broken\(numbers\) must reveal by bool of shape \(2, 4\), got torch.float32"),
        ("takes back", r"Broken\(takes back\) left blanks after 4 passes"),
    ],
)
def test_a_rule_that_would_never_end_is_named(lm, fault, message):
    """A pass must reveal something of every row, where it may; what is revealed must last."""
    anchor = torch.full((2, 4), lm.mask_id)
    if fault == "everything":
        anchor[0, 2] = 9
    with pytest.raises(ValueError, match=message):
        denoise(lm, ["1+2", "9"], 4, Broken(fault), anchor=anchor)


def test_a_record_predicts_the_whole_canvas(lm, rng):
    """With blocks too: every masked position of a step is filled in, as the model says there, while
    only the block is written; the texts are those without a record."""
    settings = {"block_length": 4, "temperature": 0.0}
    plain = denoise(lm, PROMPTS, 8, Schedule(4), **settings)
    for record in (True, "likeliest"):
        r = denoise(lm, PROMPTS, 8, Schedule(4), record=record, **settings)
        assert torch.equal(r.tokens, plain.tokens)
        assert (r.predicted != lm.mask_id).all()
        canvas = r.canvas_at(1)
        masked = canvas == lm.mask_id
        assert masked[:, 4:].all()
        seen = torch.cat([r.prompt_mask, torch.ones_like(masked)], 1)
        where = torch.cat([torch.zeros_like(r.prompt_mask), masked], 1)
        with torch.no_grad():
            logp = lm(torch.cat([r.prompt, canvas], 1), seen, where).log_softmax(-1)
        assert torch.equal(r.predicted[1][masked], logp.argmax(-1))
        torch.testing.assert_close(r.predicted_logprob[1][masked], logp.amax(-1))
        cached = denoise(lm, PROMPTS, 8, Schedule(4), record=record, cache="prefix", **settings)
        assert (cached.predicted != lm.mask_id).all()
