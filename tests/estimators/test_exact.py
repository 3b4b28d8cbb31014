"""exact.py: sums to one, agrees with brute force, with the sampler's frequencies, and with
calculus."""

import itertools
import math

import pytest
import torch

from dllm_rl_lite.estimators import (
    TextDistribution,
    all_steps,
    exact_elbo,
    exact_logprob,
    expected_reward,
    optimal_policy,
    text_distribution,
    token_logprobs,
)
from dllm_rl_lite.models import encode_prompts
from dllm_rl_lite.sampler import (
    Factor,
    Gate,
    Rollout,
    RuleInput,
    RunningConfidence,
    Schedule,
    Threshold,
    denoise,
    top,
)

PROMPT = torch.zeros(1, dtype=torch.long)  # a table model does not look at it
ORDERS = ("confidence", "random", "entropy", "margin", "left_to_right")
DECODERS = [
    (Schedule(steps, order), block)
    for order in ORDERS
    for steps, block in ((4, None), (2, None), (3, None), (4, 2))
]
DECODERS += [
    (Schedule(1), None),
    (Threshold(0.5), None),
    (Threshold(0.5), 2),
    (Gate(0.3), None),
    (Gate(0.3, 2.0), 2),
    (Gate(0.3, 0.5, 2), None),
    (Gate(0.2, 1.0, 3), None),
    (Gate(0.3, 0.5, 3), 2),
]


@pytest.fixture(scope="module")
def table(table_lm):
    """Four tokens, three letters, in float64."""
    lm = table_lm(length=4, seed=2, scale=1.5)
    lm.table = lm.table.double()
    return lm


@pytest.fixture(scope="module")
def table32(table_lm):
    """The same model in float32, which is what the sampler takes."""
    return table_lm(length=4, seed=2, scale=1.5)


def distribution_of(lm, rule, block=None, **settings):
    return text_distribution(lm, PROMPT, [torch.arange(3)] * lm.length, rule, block, **settings)


# ---------------------------------------------------------------- brute force


def brute_force(lm, rule, block, temperature=1.0):
    """Text -> probability, trying every tuple of candidates on every canvas that comes up."""
    size = block or lm.length
    distribution = {}
    # (canvas, block start, step in it, masked at its start)
    level = {((lm.mask_id,) * lm.length, -1, 0, 0): 1.0}
    while level:
        following = {}
        for (canvas, start, step, at_start), p in level.items():
            if lm.mask_id not in canvas:
                distribution[canvas] = distribution.get(canvas, 0.0) + p
                continue
            first = canvas.index(lm.mask_id) // size * size
            active = [i for i in range(first, first + size) if canvas[i] == lm.mask_id]
            if first != start:
                start, step, at_start = first, 0, len(active)
            logits = lm.logits(canvas)
            draw = (logits / temperature).softmax(-1)
            confidence = logits.log_softmax(-1)
            for drawn in itertools.product(range(3), repeat=len(active)):
                token = dict(zip(active, drawn, strict=True))
                q = math.prod(float(draw[i, v]) for i, v in token.items())
                for chosen, chance in answers(
                    rule, lm, logits, confidence, active, token, step, at_start, size
                ):
                    after = (
                        tuple(token[i] if i in chosen else c for i, c in enumerate(canvas)),
                        start,
                        step + 1,
                        at_start,
                    )
                    following[after] = following.get(after, 0.0) + p * q * chance
        level = following
    return distribution


def answers(rule, lm, logits, confidence, active, token, step, at_start, size):
    """[(positions, chance)] that the rule reveals for these candidates, by the sampler's own rule
    where it can be asked."""
    n = lm.length
    blocks = n // size
    mask = torch.zeros(1, n, dtype=torch.bool)
    mask[0, active] = True
    conf = torch.zeros(1, n)
    for i, v in token.items():
        conf[0, i] = confidence[i, v]
    if isinstance(rule, Gate):
        p = {i: float(rule.chance(confidence[i, token[i]])) for i in active}
        for bits in itertools.product((True, False), repeat=len(active)):
            through = [i for i, b in zip(active, bits, strict=True) if b]
            chance = math.prod(p[i] if i in through else 1 - p[i] for i in active)
            rest = mask.clone()
            rest[0, through] = False
            missing = max(rule.n_min - len(through), 0)
            extra = top(conf, rest, torch.tensor([missing]))[0].nonzero()[:, 0]
            yield {*through, *extra.tolist()}, chance
        return
    if isinstance(rule, Schedule) and rule.order == "random":
        steps = rule.steps // blocks
        count = at_start // steps + (step < at_start % steps)
        for chosen in itertools.combinations(active, count):
            yield set(chosen), 1 / math.comb(len(active), count)
        return
    logp = logits.float().log_softmax(-1)
    top2 = logp.exp().topk(2, -1).values
    ones = torch.ones(1, dtype=torch.long)
    seen = RuleInput(
        active=mask,
        logprob=conf,
        entropy=torch.special.entr(logp.exp()).sum(-1)[None],
        margin=(top2[:, 0] - top2[:, 1])[None],
        step_in_block=ones * step,
        masked_at_start=ones * at_start,
        n_blocks=blocks,
        generator=None,
    )
    yield set(rule.reveal(seen)[0].nonzero()[:, 0].tolist()), 1.0


@pytest.mark.parametrize(("rule", "block"), DECODERS, ids=repr)
def test_every_decoder_sums_to_one_and_equals_brute_force(table, rule, block):
    """Over all 81 texts: the sum to 1e-12, each probability to 1e-12 of trying every candidate."""
    distribution = distribution_of(table, rule, block)
    assert abs(float(distribution.prob.sum()) - 1) < 1e-12
    want = brute_force(table, rule, block)
    assert len(distribution.texts) == 81 and sum(p > 0 for p in want.values()) >= 10
    for text, p in zip(distribution.texts.tolist(), distribution.prob.tolist(), strict=True):
        assert p == pytest.approx(want.get(tuple(text), 0.0), abs=1e-12)


@pytest.mark.parametrize(
    "rule", [Schedule(4), Schedule(2), Schedule(4, "random"), Gate(0.3)], ids=repr
)
def test_temperature(table, table32, rule):
    """Candidates are drawn at the temperature, confidence stays at temperature 1; at 0 the greedy
    text has it all."""
    distribution = distribution_of(table, rule, temperature=0.6)
    want = brute_force(table, rule, None, 0.6)
    for text, p in zip(distribution.texts.tolist(), distribution.prob.tolist(), strict=True):
        assert p == pytest.approx(want.get(tuple(text), 0.0), rel=0, abs=1e-12)
    if not rule.random:
        greedy = denoise(table32, table.prompts(1), 4, rule).tokens[0]
        best = distribution_of(table, rule, temperature=0.0)
        assert float(best.prob[(best.texts == greedy).all(1)]) == 1.0


@pytest.mark.parametrize(("rule", "block"), DECODERS, ids=repr)
def test_the_sampler_writes_texts_this_often(table32, rng, rule, block):
    """20 000 rollouts: Pearson's statistic of the 81 frequencies within 4.5 standard deviations of
    its mean."""
    distribution = distribution_of(table32, rule, block)
    n = 20000
    tokens = denoise(
        table32, table32.prompts(n), 4, rule, block, temperature=1.0, generator=rng(3)
    ).tokens
    count = torch.bincount((tokens * torch.tensor([27, 9, 3, 1])).sum(1), minlength=81)
    expected = n * distribution.prob.detach()
    common = expected > 5  # the rest is pooled into one cell
    observed = torch.cat([count[common], count[~common].sum()[None]]).double()
    expected = torch.cat([expected[common], expected[~common].sum()[None]])
    kept = expected > 0
    statistic = float(((observed - expected)[kept] ** 2 / expected[kept]).sum())
    cells = int(kept.sum()) - 1
    assert cells >= 5 and observed[~kept].sum() == 0
    assert abs(statistic - cells) < 4.5 * (2 * cells) ** 0.5


def test_the_sampler_agrees_on_a_real_model(lm, rng):
    """A network, blocks, an anchor and two free tokens at a time: 4 000 rollouts, each of the 12
    likeliest texts."""
    ids = torch.tensor([5, 30, 21, 28])
    anchor = torch.tensor([lm.mask_id, 37, lm.mask_id, 7])
    n = 4000
    prompts = (ids.expand(n, -1), torch.ones(n, 4, dtype=torch.bool))
    choices = [torch.arange(len(lm.tokenizer))] * 4
    for rule, block in (
        (Schedule(4), 2),
        (Schedule(1), None),
        (Schedule(2), None),
        (Gate(0.1), None),
    ):
        with torch.no_grad():
            distribution = text_distribution(lm, ids, choices, rule, block, anchor=anchor)
        assert abs(float(distribution.prob.sum()) - 1) < 1e-12
        tokens = denoise(
            lm, prompts, 4, rule, block, 1.0, anchor=anchor.expand(n, -1), generator=rng(5)
        ).tokens
        likeliest = distribution.prob.topk(12).indices
        for p, text in zip(
            distribution.prob[likeliest], distribution.texts[likeliest], strict=True
        ):
            share = float((tokens == text).all(1).double().mean())
            assert abs(share - float(p)) < 4.5 * float(p * (1 - p) / n) ** 0.5


# ---------------------------------------------------------------- one text


@pytest.mark.parametrize(
    ("rule", "block"), [d for i, d in enumerate(DECODERS) if i % 4 == 0], ids=repr
)
def test_one_text_is_an_entry_of_the_distribution(table, rule, block):
    """2^4 canvases give what 4^4 gave."""
    distribution = distribution_of(table, rule, block)
    for i in (0, 37, 80):
        got = exact_logprob(table, PROMPT, distribution.texts[i], rule, block).exp()
        assert float(got) == pytest.approx(float(distribution.prob[i]), rel=1e-12, abs=1e-300)


def test_a_network_s_text_is_the_sum_over_all_orders(lm):
    """Five free tokens after a prompt: 120 orders one by one, random order, to float32's
    precision."""
    ids = torch.tensor([30, 21, 28])
    text = torch.tensor([8, 9, 7, 40, 1])
    paths = []
    with torch.no_grad():
        for order in itertools.permutations(range(5)):
            canvas = torch.full((1, 5), lm.mask_id)
            total = 0.0
            for i in order:
                where = torch.zeros(1, 8, dtype=torch.bool)
                where[0, 3 + i] = True
                full = torch.cat([ids[None], canvas], 1)
                total += float(lm(full, full >= 0, where).double().log_softmax(-1)[0, text[i]])
                canvas[0, i] = text[i]
            paths.append(total)
        want = torch.tensor(paths).double()
        assert float(exact_logprob(lm, ids, text, Schedule(5, "random"))) == pytest.approx(
            float(want.logsumexp(0)) - math.log(120), abs=1e-5
        )
        assert float(exact_elbo(lm, ids, text)) == pytest.approx(float(want.mean()), abs=1e-5)
    assert want.std() > 0.1


def test_prompts_may_be_messages(lm):
    """A string is encoded as the sampler encodes it."""
    text = torch.tensor([8, 9])
    ids, _ = encode_prompts(lm.tokenizer, ["1+2"])
    with torch.no_grad():
        message = exact_logprob(lm, "1+2", text, Schedule(2))
        encoded = exact_logprob(lm, ids[0], text, Schedule(2))
    assert float(message) == float(encoded)


# ---------------------------------------------------------------- the lower bound


@pytest.mark.parametrize("block", [None, 2])
def test_the_elbo_is_the_mean_over_orders_and_a_lower_bound(table, block):
    """All 81 texts, all orders that respect the blocks; strictly below log p, equal where there is
    one token."""
    orders = [o for o in itertools.permutations(range(4)) if block is None or set(o[:2]) == {0, 1}]
    gaps = []
    for text in table.texts():
        paths = []
        for order in orders:
            canvas = [table.mask_id] * 4
            total = 0.0
            for i in order:
                total += float(table.logits(tuple(canvas))[i].log_softmax(-1)[text[i]])
                canvas[i] = text[i]
            paths.append(total)
        tokens = torch.tensor(text)
        elbo = float(exact_elbo(table, PROMPT, tokens, block))
        assert elbo == pytest.approx(sum(paths) / len(paths), abs=1e-12)
        gaps.append(
            float(exact_logprob(table, PROMPT, tokens, Schedule(4, "random"), block)) - elbo
        )
    assert min(gaps) > 0 and max(gaps) > 0.05


def test_one_token_has_no_gap(table_lm):
    """L = 1: one order, so the bound is the likelihood."""
    lm = table_lm(length=1)
    for v in range(3):
        text = torch.tensor([v])
        assert float(exact_elbo(lm, PROMPT, text)) == float(
            exact_logprob(lm, PROMPT, text, Schedule(1, "random"))
        )


def paths_of(lm, distribution):
    """Every order of every text: (Rollout of 24 x 81 rows, (rows,) path probability 1/24 prod p,
    float64)."""
    # order[k] is revealed at step k
    orders = torch.tensor(list(itertools.permutations(range(lm.length))))
    steps = torch.empty_like(orders).scatter(1, orders, torch.arange(lm.length).expand_as(orders))
    tokens = distribution.texts.repeat_interleave(len(steps), 0)
    unmask = steps.repeat(len(distribution.texts), 1)
    ids, mask = lm.prompts(len(tokens))
    rollout = Rollout(
        prompt=ids,
        prompt_mask=mask,
        tokens=tokens,
        unmask_step=unmask,
        logprob=torch.zeros(tokens.shape),
        entropy=torch.zeros(tokens.shape),
        n_forwards=torch.full((len(tokens),), lm.length),
        mask_id=lm.mask_id,
        eos_id=-1,
    )
    rows = sum(token_logprobs(lm, rollout, v) for v in all_steps(rollout)).sum(1)  # (rows,)
    return rollout, rows


def test_the_visited_path_is_above_and_its_gradient_right(table_lm):
    """Per text: the mean of the path's log-probability over sampled orders is log p + KL(posterior,
    uniform), while the mean of its gradient is the gradient of log p (Fisher's identity).
    Enumerated, no sampling."""
    lm = table_lm(length=4, seed=3, scale=1.5)
    lm.table.requires_grad_()
    text = torch.tensor([2, 0, 1, 1])
    distribution = TextDistribution(text[None], torch.ones(1))
    _, rows = paths_of(lm, distribution)
    posterior = rows.detach().double().softmax(0)
    truth = exact_logprob(lm, PROMPT, text, Schedule(4, "random"))
    kl = float((posterior * (posterior.log() + math.log(24))).sum())
    assert kl > 0.05
    assert float((posterior * rows.detach()).sum()) == pytest.approx(
        float(truth.detach()) + kl, abs=1e-5
    )
    (want,) = torch.autograd.grad(truth, lm.table)
    (got,) = torch.autograd.grad((posterior.float() * rows).sum(), lm.table)
    assert want.abs().max() > 0.05
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize(
    "rule",
    [Schedule(3), Schedule(2), Schedule(3, "random"), Gate(0.2, 0.7), Schedule(3, "entropy")],
    ids=repr,
)
def test_the_gradient_is_the_slope(table_lm, rng, rule):
    """Expected reward against finite differences in float64, along the gradient and along three
    random directions."""
    lm = table_lm(length=3, seed=4)
    lm.table = lm.table.double()
    rewards = torch.rand(27, generator=rng(1)).double()
    start = lm.table.clone().requires_grad_()

    def value(table):
        lm.table = table
        return expected_reward(distribution_of(lm, rule), rewards)

    (gradient,) = torch.autograd.grad(value(start), start)
    gradient = gradient.nan_to_num()  # the mask's own logit is -inf
    assert gradient.norm() > 1e-3
    directions = [gradient / gradient.norm()] + [
        torch.randn(start.shape, generator=rng(i)).double() for i in range(3)
    ]
    for d in directions:
        d = torch.where(start.detach().isinf(), 0.0, d)
        h = 1e-6
        slope = float(value(start.detach() + h * d) - value(start.detach() - h * d)) / (2 * h)
        assert slope == pytest.approx(float((gradient * d).sum()), abs=1e-7)


def policy_gradients(lm, rule, rewards):
    """(exact gradient, gradient through tokens only, expected gradient of all_steps with
    advantages), by enumeration."""
    lm.table.requires_grad_()
    gradients = []
    for score_order in (True, False):
        distribution = distribution_of(lm, rule, score_order=score_order)
        gradients += torch.autograd.grad(expected_reward(distribution, rewards), lm.table)
    exact, tokens_only = gradients
    distribution = distribution_of(lm, rule)
    rollout, rows = paths_of(lm, distribution)
    with torch.no_grad():
        chance = torch.stack([path_chance(lm, rollout, r, rule) for r in range(len(rows))])
        assert abs(float(chance.sum()) - 1) < 1e-6
    advantage = rewards - float((distribution.prob.detach() * rewards).sum())
    credit = chance * advantage.repeat_interleave(24)
    (scored,) = torch.autograd.grad((credit.float() * rows).sum(), lm.table)
    return exact, tokens_only, scored


def path_chance(lm, rollout, row, rule):
    """Probability of one path: tokens, and at each step the position; by trying every tuple of
    candidates."""
    canvas = [lm.mask_id] * 4
    text = rollout.tokens[row].tolist()
    p = 1.0
    for i in rollout.unmask_step[row].argsort().tolist():
        active = [j for j in range(4) if canvas[j] == lm.mask_id]
        if rule.order == "random":
            p *= float(lm.logits(tuple(canvas))[i].softmax(-1)[text[i]]) / len(active)
        else:
            logp = lm.logits(tuple(canvas)).log_softmax(-1)
            others = [j for j in active if j != i]
            p *= float(logp[i, text[i]].exp()) * sum(
                math.prod(float(logp[j, v].exp()) for j, v in zip(others, drawn, strict=True))
                for drawn in itertools.product(range(3), repeat=len(others))
                if all(
                    (float(logp[j, v]), -j) < (float(logp[i, text[i]]), -i)
                    for j, v in zip(others, drawn, strict=True)
                )
            )
        canvas[i] = text[i]
    return torch.tensor(p, dtype=torch.float64)


def test_all_steps_with_advantages_give_the_exact_policy_gradient_in_random_order(table_lm, rng):
    """In expectation over all 24 x 81 paths, to float32's precision: the position choice does not
    depend on the model."""
    lm = table_lm(length=4, seed=5)
    rewards = torch.rand(81, generator=rng(2)).double()
    exact, tokens_only, scored = policy_gradients(lm, Schedule(4, "random"), rewards)
    assert exact.norm() > 0.01
    torch.testing.assert_close(tokens_only, exact, rtol=0, atol=1e-7)
    torch.testing.assert_close(scored, exact, rtol=0, atol=1e-6)


def test_in_confidence_order_the_position_choice_is_missing(table_lm, rng):
    """The expected gradient of all_steps is the exact one without the position term, and differs
    from the exact one."""
    lm = table_lm(length=4, seed=5)
    rewards = torch.rand(81, generator=rng(2)).double()
    exact, tokens_only, scored = policy_gradients(lm, Schedule(4), rewards)
    # the two differ by the gradient of what the baseline multiplies: the tokens' part of a
    # probability that sums to one
    lm.table.requires_grad_()
    distribution = distribution_of(lm, Schedule(4), score_order=False)
    mean = float((distribution.prob.detach() * rewards).sum())
    (baseline,) = torch.autograd.grad(distribution.prob.sum(), lm.table)
    torch.testing.assert_close(scored, tokens_only - mean * baseline, rtol=0, atol=1e-6)
    cosine = float(torch.nn.functional.cosine_similarity(exact.flatten(), scored.flatten(), dim=0))
    assert baseline.norm() > 0.01 and cosine < 0.97
    assert float((exact - scored).norm() / exact.norm()) > 0.2


# ---------------------------------------------------------------- the optimal policy


def test_the_optimal_policy_is_optimal(table, rng):
    """Its objective is beta log Z, and any mixture with another distribution has less."""
    distribution = distribution_of(table, Schedule(4))
    beta = 0.3
    rewards = (distribution.texts.sum(1) == 4).double()
    best = optimal_policy(distribution, rewards, beta)

    def objective(p):
        kl = (p * (p / distribution.prob).log()).nan_to_num().sum()
        return float((p * rewards).sum() - beta * kl)

    assert abs(float(best.prob.sum()) - 1) < 1e-12
    assert objective(best.prob) == pytest.approx(
        beta * float((distribution.prob * (rewards / beta).exp()).sum().log()), abs=1e-12
    )
    assert objective(distribution.prob) < objective(best.prob)
    for seed in range(10):
        other = torch.rand(81, generator=rng(seed)).double()
        assert objective(0.9 * best.prob + 0.1 * other / other.sum()) < objective(best.prob)
    with pytest.raises(ValueError, match="beta must be above 0"):
        optimal_policy(distribution, rewards, 0.0)


# ---------------------------------------------------------------- refusals


def test_the_cost_is_said_before_it_is_paid(table, spy, capsys, monkeypatch):
    """On request, and unasked where it is large; above the limit nothing is forwarded, and the
    message holds both."""
    counted = spy(table)
    distribution_of(counted, Schedule(4))
    assert capsys.readouterr().out == ""
    with monkeypatch.context() as m:
        m.setattr("dllm_rl_lite.estimators.exact.ANNOUNCE_ABOVE", 100)
        distribution_of(counted, Schedule(4))
        assert "at most 175 canvases" in capsys.readouterr().out
        distribution_of(counted, Schedule(4), verbose=False)
        assert capsys.readouterr().out == ""
    counted.calls.clear()
    distribution_of(counted, Schedule(4, "random"), verbose=True)
    assert "at most 175 canvases of 5 tokens" in capsys.readouterr().out  # 4^4 - 3^4
    assert sum(len(ids) for ids, _, _ in counted.calls) == 175
    counted.calls.clear()
    with pytest.raises(ValueError, match="needs up to 175 canvases, the limit is 100"):
        distribution_of(counted, Schedule(4), limit=100)
    with pytest.raises(ValueError, match="needs up to 15 canvases, the limit is 9"):
        exact_elbo(counted, PROMPT, torch.zeros(4, dtype=torch.long), limit=9)
    assert not counted.calls


@pytest.mark.parametrize(
    ("rule", "block", "cost"),
    [(Schedule(4, "left_to_right"), None, 40), (Schedule(4), 2, 70), (Gate(0.3), 1, 40)],
    ids=repr,
)
def test_blocks_and_fixed_orders_cost_less(table, spy, capsys, rule, block, cost):
    """The stated cost is the number of canvases forwarded."""
    counted = spy(table)
    distribution_of(counted, rule, block, verbose=True)
    assert f"at most {cost} canvases" in capsys.readouterr().out
    assert sum(len(ids) for ids, _, _ in counted.calls) == cost


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rule=Factor()), "no exact distribution for Factor"),
        (dict(rule=RunningConfidence(4)), "no exact distribution for Running"),
        (dict(block_length=3), "block_length 3 must divide the canvas length 4"),
        (dict(rule=Schedule(3), block_length=2), "must be a multiple"),
        (dict(tokens=torch.tensor([0, 1, 3, 1])), "without masks"),
        (dict(tokens=torch.zeros(1, 4).long()), "one finished text"),
        (dict(tokens=torch.zeros(4)), "one finished text"),
        (dict(anchor=torch.tensor([3, 3])), "anchor must be of shape"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_bad_input_is_refused(table, change, message):
    arguments = dict(tokens=torch.tensor([0, 1, 2, 1]), rule=Schedule(4)) | change
    with pytest.raises(ValueError, match=message):
        exact_logprob(table, PROMPT, **arguments)


def test_a_text_against_its_anchor_is_impossible(table):
    """The decoder cannot write it: -inf; and rewards must fit the distribution."""
    anchor = torch.tensor([1, 3, 3, 3])
    text = torch.tensor([0, 1, 2, 1])
    assert float(exact_logprob(table, PROMPT, text, Schedule(4), anchor=anchor)) == -math.inf
    with pytest.raises(ValueError, match="one reward a text"):
        expected_reward(distribution_of(table, Schedule(4)), torch.ones(3))
