"""The laws of each method: its loss and gradient against formulas written out, and the flags where
paper and code differ."""

import math
from dataclasses import replace

import pytest
import torch
from updates import (
    ADVANTAGE,
    OTHERS,
    PROMPTS,
    UPDATED_APART,
    SavedBytes,
    advantage_of,
    assert_same,
    direct_gradient,
    gradient_of,
    largest,
    numbers,
    scored_by,
)

from dllm_rl_lite import objectives
from dllm_rl_lite.estimators import chosen_steps, estimate
from dllm_rl_lite.methods import METHODS, Numbers
from dllm_rl_lite.models import decode
from dllm_rl_lite.sampler import RunningConfidence, Schedule, denoise, fill_canvas
from dllm_rl_lite.tasks import Example
from dllm_rl_lite.training import (
    UpdateBatch,
    accumulate_gradients,
    mask_seeds,
    score_views,
    scored_by_any,
    verify,
)
from dllm_rl_lite.training.scoring import batch_divisors

TEXTS = [name for name, m in OTHERS.items() if m.objective.level != "view"]
N, L = 5, 6


@pytest.fixture(scope="module")
def scores():
    """(logp, old, ref, advantage, scored) of five texts of six tokens, the last ones not scored in
    some."""
    g = torch.Generator().manual_seed(3)
    logp, old, ref = (-torch.rand(N, L, generator=g, dtype=torch.float64) for _ in range(3))
    scored = torch.arange(L) < torch.tensor([6, 4, 6, 1, 3])[:, None]
    return (
        logp * scored,
        old * scored,
        ref * scored,
        torch.randn(N, 1, generator=g, dtype=torch.float64),
        scored,
    )


def losses_of(name, logp, old, ref, advantage, scored, clip, kl, **loss):
    return METHODS[name].objective.losses(
        logp, old, ref, advantage, scored, clip=clip, kl=kl, **loss
    )


def slope(loss, logp):
    leaf = logp.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf).sum(), leaf)[0]


# ---------------------------------------------------------------- losses of texts, by formula


@pytest.mark.parametrize("per_token", ["inside", "outside"])
@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_gdpos_two_normalisations(scores, per_token, kl):
    """min(r A, clip(r) A) row by row, with 1/m in the exponent or outside, and a mean k3 where
    asked for."""
    logp, old, ref, advantage, scored = scores
    got = losses_of("gdpo", logp, old, ref, advantage, scored, 0.2, kl, per_token=per_token)
    for i in range(N):
        m, d, a = int(scored[i].sum()), float((logp[i] - old[i]).sum()), float(advantage[i])
        r = math.exp(d / m) if per_token == "inside" else math.exp(d)
        loss = -min(r * a, min(max(r, 0.8), 1.2) * a) / (1 if per_token == "inside" else m)
        gap = (ref[i] - logp[i])[scored[i]]
        loss += kl * float((gap.exp() - gap - 1).mean())
        assert got[i, 0].item() == pytest.approx(loss, rel=1e-12)


def test_gdpos_normalisations_agree_once_and_then_differ(scores):
    """Same gradient where new is old; elsewhere the ratio inside is the m-th root of the one
    outside."""
    _, old, ref, advantage, scored = scores

    def at(logp, per_token):
        return slope(
            lambda x: losses_of(
                "gdpo", x, old, ref, advantage, scored, 0.2, 0.0, per_token=per_token
            ),
            logp,
        )

    torch.testing.assert_close(at(old, "inside"), at(old, "outside"))
    moved = old + 0.05 * scored
    inside, outside = at(moved, "inside"), at(moved, "outside")
    m = scored.sum(1, keepdim=True)
    down = (advantage < 0)[:, 0]  # punished texts that rose are never clipped
    rows = down & scored.all(1)
    assert rows.any()
    torch.testing.assert_close(
        (outside / inside)[rows], torch.exp(0.05 * (m - 1).double()).expand(N, L)[rows]
    )
    up = (advantage > 0)[:, 0]
    assert (inside[up].abs().sum(1) > 0).all()  # 0.05 nats a token are within the range of 0.2
    assert (outside[up & (m[:, 0] >= 4)] == 0).all()  # 0.2 nats a text are not: ln 1.2 = 0.18


def test_gdsds_gradient_inside_and_outside_the_clamp(scores):
    """-2 (psi A - d / L) / L on every scored token while |d| is within the clamp, exactly zero
    beyond it, either way."""
    _, old, ref, advantage, scored = scores
    psi, clip = 1.7, 0.3
    for shift, inside in ((0.0, True), (0.02, True), (-0.02, True), (1.0, False), (-1.0, False)):
        logp = old + shift * scored.double()
        d = shift * scored.sum(1, keepdim=True).double()
        got = slope(
            lambda x: losses_of("gdsd", x, old, None, advantage, scored, clip, 0.0, psi=psi),
            logp,
        )
        wanted = -2 * (psi * advantage - d / L) / L * scored if inside else torch.zeros_like(got)
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="clip must be in"):
        losses_of("gdsd", old, old, None, advantage, scored, 1.0, 0.0)


def test_gdsds_loss_by_the_card():
    """A = (1, -1/2, -1/2), psi = 10, two pairs: the mean over texts of (psi A)^2 is 50, summed over
    two pairs 100."""
    a = torch.tensor([[1.0], [-0.5], [-0.5]])
    logp = -torch.rand(3, 256, generator=torch.Generator().manual_seed(0))
    scored = torch.ones(3, 256, dtype=torch.bool)
    loss = losses_of("gdsd", logp, logp, None, a, scored, 4e-4, 0.0, psi=10.0)
    assert 2 * loss.mean().item() == pytest.approx(100.0, abs=1e-3)
    moved = losses_of("gdsd", logp - 1, logp, None, a, scored, 4e-4, 0.0, psi=10.0)
    assert (loss - moved).abs().max() < 1e-3  # |d| / L <= 1.6e-6


def test_gdsds_penalty_is_k2_of_whole_texts(scores):
    """kl (l - l_ref)^2 / (2 L), its gradient kl (l - l_ref) / L on every scored token."""
    logp, old, ref, advantage, scored = scores
    got = slope(lambda x: losses_of("gdsd", x, old, ref, 0 * advantage, scored, 1e-9, 0.7), logp)
    gap = ((logp - ref) * scored).sum(1, keepdim=True)
    torch.testing.assert_close(got, 0.7 * gap / L * scored, rtol=1e-6, atol=1e-9)


def test_wd1_is_a_weighted_likelihood(scores):
    """Minus credit times log-probability, whatever the old policy and the clip; k3 where a penalty
    is asked for."""
    logp, old, ref, advantage, scored = scores
    loss = losses_of("wd1", logp, old, None, advantage, scored, 0.1, 0.0)
    torch.testing.assert_close(loss, -advantage * logp)
    with_kl = losses_of("wd1", logp, old, ref, advantage, scored, 0.1, 0.5)
    torch.testing.assert_close(with_kl - loss, 0.5 * objectives.k3(logp, ref))


# ---------------------------------------------------------------- two phases


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("kl", [0.0, 0.1])
def test_two_phases_give_the_gradient_of_one_graph(policy, later, reference, batch, name, kl):
    """Estimate, slope, view by view: the same gradient as one graph over all views, at any distance
    from the old policy."""
    n = numbers(name, kl=kl, inner_updates=2)
    scored = scored_by(name, policy, batch, n, reference if kl else None)
    (old,), (ref,), method = scored.old, scored.ref, METHODS[name]
    now = estimate(later, scored.rollout, scored.views)
    losses = method.objective.losses(
        now,
        old,
        ref,
        scored.advantage[:, None],
        scored_by_any(scored.views),
        clip=n.clip,
        kl=n.kl,
        rollout=scored.rollout,
        group=n.group,
        **n.loss,
    )
    losses = losses / scored.row_sizes
    wanted = direct_gradient(later, losses.sum() / scored.normaliser)
    gradient, stats = gradient_of(later, name, n, scored)
    assert_same(gradient, wanted, 1e-5)
    assert stats["loss"] == pytest.approx(
        losses.sum().item() / scored.normaliser, rel=1e-4, abs=1e-6
    )


@pytest.mark.parametrize("name", TEXTS)
def test_a_fresh_batch_saves_the_first_phase(policy, spy, batch, name):
    """Before the first update the old estimates are the new ones: same gradient, one forward pass a
    view less."""
    n = numbers(name, inner_updates=2)
    scored = scored_by(name, policy, batch, n)
    a, slow = gradient_of(policy, name, n, scored)
    watched = spy(policy)
    b, fast = gradient_of(watched, name, n, replace(scored, fresh=True))
    assert_same(dict(zip(a, b.values(), strict=True)), a, 1e-6)
    assert slow["forwards"] - fast["forwards"] == len(scored.views) * len(scored.advantage)
    assert fast["forwards"] == sum(len(ids) for ids, _, _ in watched.calls)


@pytest.mark.parametrize("name", UPDATED_APART)
@pytest.mark.parametrize("kl, mu", [(0.0, 1), (0.1, 1), (0.0, 2), (0.1, 2)])
def test_forward_passes_are_counted(policy, reference, spy, batch, name, kl, mu):
    """What a batch reports is what the models were asked for, row by row."""
    n = numbers(name, kl=kl, inner_updates=mu)
    lm, ref = spy(policy), spy(reference)
    g = torch.Generator().manual_seed(2)
    credit = (
        ADVANTAGE
        if METHODS[name].rewarded != "every step"
        else ADVANTAGE[:, None].expand(6, 4).contiguous()
    )
    scored = score_views(lm, ref if kl else None, METHODS[name], n, batch, credit, g)
    _, stats = gradient_of(lm, name, n, scored)
    assert scored.passes.asked + stats["forwards"] == sum(
        len(ids) for ids, _, _ in lm.calls + ref.calls
    )


def test_memory_of_a_loss_of_texts_is_that_of_one_view(policy, batch):
    """Sixteen views keep no more for backward than two."""

    def peak(views):
        n = numbers("gdsd", views={"n": views // 2, "weighting": "half"})
        scored, saved = (
            scored_by("gdsd", policy, batch, n, advantage=ADVANTAGE + 0.01),
            SavedBytes(),
        )
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda kept: kept.tensor):
            accumulate_gradients(policy, METHODS["gdsd"], n, scored, torch.Tensor.backward)
        policy.zero_grad()
        return saved.peak

    assert peak(16) < 1.2 * peak(2)


@pytest.mark.parametrize("name", OTHERS)
def test_permuting_a_group_changes_nothing(policy, later, batch, name):
    """Siblings in another order, their views with them: the gradient stays (all of it: advantage,
    weights, loss)."""
    n, method = numbers(name, inner_updates=2), METHODS[name]
    # Nobody is average, nor beats half of the siblings, so no row is left out.
    rewards = torch.tensor([[1.0, 0, 0], [0.2, 1, 1]])
    if method.rewarded == "every step":
        rewards = rewards[..., None] * torch.tensor([0.0, 1, 0.3, 1])
    order = torch.tensor([2, 0, 1])
    rows = torch.cat([order, order + 3])
    before = advantage_of(method, n, rewards, batch, policy.tokenizer)
    a = scored_by(name, policy, batch, n, advantage=before)
    credit = advantage_of(method, n, rewards[:, order], batch.select(rows), policy.tokenizer)
    torch.testing.assert_close(credit, before[rows])
    if method.merged:  # no rows of siblings are left that could be permuted
        again = scored_by(name, policy, batch.select(rows), n, advantage=credit)
        assert_same(gradient_of(later, name, n, again)[0], gradient_of(later, name, n, a)[0], 1e-5)
        return
    assert len(a.advantage) == 6  # no row was left out
    b = UpdateBatch(
        a.rollout.select(rows),
        a.advantage[rows],
        [v.select(rows) for v in a.views],
        [None if o is None else o[rows] for o in a.old],
        [None] * len(a.ref),
        a.row_sizes[rows],
        a.normaliser,
    )
    assert_same(gradient_of(later, name, n, b)[0], gradient_of(later, name, n, a)[0], 1e-5)


# ---------------------------------------------------------------- steps with credit of their own


def test_predictions_are_recorded(policy, batch):
    """Each step's prediction: written tokens as they stood, masked ones as filled then; the last is
    the text."""
    assert batch.predicted.shape == (4, 6, 8) and torch.equal(batch.predicted[-1], batch.tokens)
    for t in range(4):
        canvas = batch.canvas_at(t)
        written = canvas != batch.mask_id
        assert torch.equal(batch.predicted[t][written], canvas[written])
        assert (batch.predicted[t] != batch.mask_id).all()
        now = batch.unmask_step == t
        assert torch.equal(batch.predicted[t][now], batch.tokens[now])
        assert torch.equal(batch.predicted_logprob[t][now], batch.logprob[now])
        assert (batch.predicted_logprob[t][written] == 0).all()
    assert denoise(policy, PROMPTS[:1], 8, Schedule(4)).predicted is None
    part = batch.select(torch.tensor([4, 1]))
    assert torch.equal(part.predicted, batch.predicted[:, [4, 1]])


def test_chosen_steps_are_those_of_largest_credit(batch):
    """The k largest absolute credits, all m tokens masked there scored as predicted, weight conf /
    m; the credit counts L / m times."""
    credit = torch.tensor([0.1, -0.9, 0.5, 0.2]).expand(6, 4).clone()
    credit[0] = torch.tensor([0.0, 0.3, 0.3, -2])
    views = chosen_steps(batch, None, credit, k=2)
    assert torch.stack([v.step for v in views]).T.tolist() == [[3, 1]] + [[1, 2]] * 5
    for view in views:
        for i in range(6):
            t = int(view.step[i])
            masked = batch.canvas_at(t)[i] == batch.mask_id
            assert torch.equal(view.scored[i], masked)
            assert torch.equal(view.target[i][masked], batch.predicted[t, i][masked])
            weight = batch.predicted_logprob[t, i].exp() / int(masked.sum())
            torch.testing.assert_close(view.weight[i], weight * masked)
            assert view.emphasis[i].item() == pytest.approx(8 / int(masked.sum()))
    plain = chosen_steps(batch, None, credit, k=9, confident=False)
    assert len(plain) == 4 and plain[0].weight[plain[0].scored].min() >= 1 / 8
    with pytest.raises(ValueError, match="record=True"):
        chosen_steps(replace(batch, predicted=None), None, credit)
    with pytest.raises(ValueError, match="k must be at least 1"):
        chosen_steps(batch, None, credit, k=0)


@pytest.mark.parametrize("kl, push", [(0.0, 1.0), (0.3, 1.0), (0.3, 0.0)])
def test_mdpo_is_its_formula(policy, reference, batch, kl, push):
    """One update: the mean over rows of the sum over the chosen steps of the mean over masked
    tokens of conf (-A_t L / m log p + kl k2). Without credit (push 0) no L / m is left."""
    n = numbers("mdpo", kl=kl, views={"k": 2, "confident": True})
    credit = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))
    scored = scored_by("mdpo", policy, batch, n, reference if kl else None, advantage=credit)
    scored = replace(scored, advantage=push * credit)
    total = 0.0
    for i in range(6):
        for t in credit[i].abs().topk(2).indices.tolist():
            canvas = batch.canvas_at(t)[i : i + 1]
            where = canvas == batch.mask_id
            ids = torch.cat([batch.prompt[i : i + 1], canvas], 1)
            seen = torch.cat([batch.prompt_mask[i : i + 1], torch.ones_like(where)], 1)
            asked = torch.cat([torch.zeros_like(batch.prompt_mask[i : i + 1]), where], 1)
            target = batch.predicted[t, i][where[0]][:, None]
            logp = policy(ids, seen, asked).log_softmax(-1).gather(1, target)[:, 0]
            with torch.no_grad():
                ref = reference(ids, seen, asked).log_softmax(-1).gather(1, target)[:, 0]
            conf = batch.predicted_logprob[t, i][where[0]].exp()
            m = int(where.sum())
            token = -push * credit[i, t] * 8 / m * logp + kl * (logp - ref) ** 2 / 2
            total = total + (conf * token).sum() / m
    assert_same(gradient_of(policy, "mdpo", n, scored)[0], direct_gradient(policy, total / 6), 1e-5)


def test_mdpos_penalty_does_not_depend_on_the_masked_share(policy, reference, batch):
    """With zero credit the gradient is that of the penalty alone, whatever L / m multiplies the
    credit by; with credit it is not."""
    n = numbers("mdpo", kl=0.3, views={"k": 2, "confident": True})

    def gradient(credit, factor):
        s = scored_by("mdpo", policy, batch, n, reference, advantage=credit)
        views = [replace(v, emphasis=factor * v.emphasis) for v in s.views]
        return gradient_of(policy, "mdpo", n, replace(s, views=views))[0]

    none = torch.zeros(6, 4)
    assert_same(gradient(none, 16.0), gradient(none, 1.0), 0.0)
    some = none + 0.1
    far = gradient(some, 16.0)["lm.backbone.lm_head.weight"]
    near = gradient(some, 1.0)["lm.backbone.lm_head.weight"]
    assert (far - near).abs().max() > 1e-3


def test_mdpo_weighs_by_the_probability_it_drew_with(policy):
    """At temperature 0.4 the release's confidence is the tempered probability, for the order and
    for the loss: both presets ask for it."""
    for preset in ("tiny", "paper"):
        assert METHODS["mdpo"].numbers(preset).decoding(8).confidence == "sampled"
    decoding = METHODS["mdpo"].numbers("tiny", temperature=0.4).decoding(8)
    g = torch.Generator().manual_seed(3)
    r = fill_canvas(policy, PROMPTS, decoding, generator=g, record=True)
    (view,) = chosen_steps(r, None, torch.tensor([[1.0, 0, 0, 0]]).expand(6, 4), k=1)
    where = torch.cat([torch.zeros_like(r.prompt_mask), view.scored], 1)
    seen = torch.cat([r.prompt_mask, torch.ones_like(view.scored)], 1)
    with torch.no_grad():
        p = (policy(view.tokens, seen, where) / 0.4).softmax(-1)
    drawn = p.gather(1, view.target[view.scored][:, None])[:, 0]
    torch.testing.assert_close(view.weight[view.scored], drawn / 8)
    assert (drawn < 0.99).any()


def test_steps_of_several_blocks_are_predicted_and_scored_whole(policy):
    """A step of the first block scores the blanks of the second as well, as the release does: 8
    tokens of 8, then 6."""
    g = torch.Generator().manual_seed(3)
    r = denoise(
        policy,
        PROMPTS,
        8,
        Schedule(4),
        block_length=4,
        temperature=1.0,
        generator=g,
        record=True,
    )
    for step, m in ((0, 8), (1, 6), (2, 4)):
        credit = torch.zeros(6, 4)
        credit[:, step] = 1
        (view,) = chosen_steps(r, None, credit, k=1)
        assert view.scored.sum(1).tolist() == [m] * 6
        assert (view.target[view.scored] != policy.mask_id).all()


@pytest.mark.parametrize("keep", ["latest", "max"])
def test_remasking_leaves_the_prompt_and_ends(policy, keep):
    """RCR with anchors and blocks: given tokens stay, the row ends after its steps, and predictions
    complete the text."""
    g = torch.Generator().manual_seed(4)
    anchor = torch.full((4, 8), policy.mask_id)
    anchor[:, 5] = 9
    r = denoise(
        policy,
        PROMPTS[:4],
        8,
        RunningConfidence(4, keep),
        block_length=4,
        temperature=1.0,
        anchor=anchor,
        generator=g,
        record=True,
    )
    assert (
        (r.tokens != policy.mask_id).all()
        and (r.tokens[:, 5] == 9).all()
        and (r.n_forwards <= 4).all()
    )
    assert (r.history[:, :, 5] == 9).all() and (r.predicted[:, :, 5] == 9).all()
    assert torch.equal(r.predicted[-1], r.tokens)


def test_only_changed_texts_are_verified(lm):
    """Rewards of every step: a text equal to that of the step before is not scored again, and keeps
    its reward."""
    task_examples = [Example(p, "3") for p in ("1+2", "2+1", "4-1")]
    r = denoise(lm, [e.prompt for e in task_examples], 8, Schedule(4), record=True)
    calls = []

    def reward(prompts, completions, answer):
        calls.append(list(zip(prompts, completions, strict=True)))
        return [float(len(c)) for c in completions]

    got = verify(reward, task_examples, r, lm.tokenizer, "every step")
    texts = [decode(lm.tokenizer, tokens) for tokens in r.predicted]
    assert got.tolist() == [[float(len(texts[t][i])) for t in range(4)] for i in range(3)]
    changed = sum(t == 0 or texts[t][i] != texts[t - 1][i] for t in range(4) for i in range(3))
    assert sum(map(len, calls)) == changed
    assert verify(reward, task_examples, r, lm.tokenizer).tolist() == got[:, -1].tolist()
    with pytest.raises(ValueError, match="record=True"):
        verify(reward, task_examples, replace(r, predicted=None), lm.tokenizer, "every step")
    with pytest.raises(ValueError, match="unknown rewarded"):
        verify(reward, task_examples, r, lm.tokenizer, "some")


# ---------------------------------------------------------------- records and quirks


def test_mask_seeds_of_the_releases():
    """Every update its own mask; with the released counter, the sequences that the releases really
    draw."""
    assert mask_seeds(3, False) == [[0], [1], [2]]
    d1 = mask_seeds(12, True)
    assert [c[0] for c in d1] == [1, 3, 5, 7, 9, 11] * 2 and [c[1] for c in d1] == [
        2,
        4,
        6,
        8,
        10,
        0,
    ] * 2
    assert mask_seeds(2, True) == [[1, 0], [1, 0]]


def test_chunks_have_masks_of_their_own(policy, batch):
    """Two generators draw the views of the first and the second half of the rows; equal seeds give
    equal masks."""
    n, method = numbers("diffu-grpo", views={"p_mask_prompt": 0.5}), METHODS["diffu-grpo"]

    def scored(rows, *seeds):
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        return score_views(
            policy, None, method, n, batch.select(rows), ADVANTAGE[rows] + 1, generators
        )

    whole, halves, part = (
        scored(torch.arange(6), 1),
        scored(torch.arange(6), 1, 1),
        scored(torch.arange(3, 6), 1),
    )
    assert torch.equal(halves.views[0].tokens[3:], part.views[0].tokens)
    assert not torch.equal(halves.views[0].tokens, whole.views[0].tokens)


@pytest.mark.parametrize("name, rows_of_a_mean", [("diffu-grpo", 3), ("coupled-grpo", 1)])
def test_the_releases_average_each_micro_batch(policy, batch, name, rows_of_a_mean):
    """With `published_quirks` the gradient is the mean over micro-batches of their token means, as
    the releases' trainers take it; without, the token mean of the whole batch."""
    method = replace(METHODS[name], pieces_of_a_group=3 // rows_of_a_mean)
    views = method.views(rollout=batch, generator=torch.Generator().manual_seed(2))
    tokens = scored_by_any(views)
    assert len({int(m) for m in tokens.view(-1, 3 * 8).sum(1)}) == 2  # groups of unequal length
    whole = estimate(policy, batch, views)
    losses = -(whole - whole.detach()).exp() * ADVANTAGE[:, None] * tokens
    means = [
        losses[rows].sum() / tokens[rows].sum() for rows in torch.arange(6).split(rows_of_a_mean)
    ]
    for quirks, wanted in (
        (True, sum(means) / len(means)),
        (False, losses.sum() / tokens.sum()),
    ):
        n = numbers(name, group=3, published_quirks=quirks)
        scored = scored_by(name, policy, batch, n, method=method)
        gradient, _ = gradient_of(policy, name, n, scored, method=method)
        (slopes,) = (torch.autograd.grad(wanted, list(policy.parameters()), retain_graph=True),)
        names = [k for k, _ in policy.named_parameters()]
        assert_same(gradient, dict(zip(names, slopes, strict=True)), 1e-5)


@pytest.mark.parametrize(
    "name, quirks, weights",
    [
        ("diffu-grpo", False, [1 / 60] * 4),
        ("diffu-grpo", True, [1 / 24, 1 / 24, 1 / 96, 1 / 96]),
        ("ag-grpo", True, [1 / 24, 1 / 24, 1 / 96, 1 / 96]),
        ("ta-grpo-d", True, [1 / 24, 1 / 24, 1 / 96, 1 / 96]),
        ("coupled-grpo", True, [1 / 16, 1 / 32, 1 / 64, 1 / 128]),
        ("agrpo", True, [1 / 4] * 4),
        ("wd1", True, [1 / 2] * 4),
    ],
)
def test_weights_of_two_groups_by_hand(name, quirks, weights):
    """Two groups of 12 and 48 tokens (texts of 4, 8, 16, 32): what a token of each text weighs."""
    n = replace(METHODS[name].tiny, group=2, published_quirks=quirks, guide={})
    losses = torch.arange(32) < torch.tensor([4, 8, 16, 32])[:, None]
    sizes, count = batch_divisors(METHODS[name], n, losses)
    assert (1 / sizes / count).flatten().tolist() == pytest.approx(weights)


def test_gdpo_divides_by_the_whole_text_where_its_release_does(policy, later, batch):
    """|y| counts every token up to end-of-sequence, also those that no node masked: the ratio is
    exp(d / |y|), and the tiny numbers keep the scored tokens only."""
    method = METHODS["gdpo"]
    assert (method.paper.counted, method.tiny.counted) == ("text", "scored")
    views = method.views(rollout=batch, generator=torch.Generator().manual_seed(2))
    sizes = {
        "text": batch.until_eos.sum(1),
        "scored": scored_by_any(views).sum(1),
    }
    assert (sizes["text"] > sizes["scored"]).any()
    with torch.no_grad():
        old = estimate(policy, batch, views).sum(1)
    for counted, size in sizes.items():
        n = numbers("gdpo", inner_updates=2, clip=0.9, counted=counted)
        ratio = ((estimate(later, batch, views).sum(1) - old) / size.clamp(min=1)).exp()
        wanted = direct_gradient(later, -(ratio * ADVANTAGE).mean())
        gradient, stats = gradient_of(later, "gdpo", n, scored_by("gdpo", policy, batch, n))
        assert_same(gradient, wanted, 1e-5)
        spread = ratio[ADVANTAGE != 0].std(unbiased=False).item()
        assert stats["ratio_spread"] == pytest.approx(spread, rel=1e-4)


def test_agrpos_recipe_takes_the_releases_conventions():
    """Top-p drops the token that crosses, a row stops after a block of ends, and the entropies are
    those of the sampled distribution; a gate goes by plain confidence."""
    decoding = METHODS["agrpo"].numbers("paper").decoding(384)
    assert (decoding.top_p_crossing, decoding.eos) == ("dropped", "block")
    assert decoding.confidence == METHODS["coupled-grpo"].numbers("paper").confidence == "sampled"
    for name in ("diffu-grpo", "wd1", "gdsd", "ag-grpo", "ta-grpo-d", "ta-agrpo", "ag-ta-grpo"):
        assert METHODS[name].numbers("paper").confidence == "plain", name


def test_records_are_complete_and_consistent():
    """Every method but the first names a parent; both presets set the same numbers."""
    for name, m in METHODS.items():
        assert m.name == name and (m.parent in METHODS or name == "diffu-grpo")
        tiny, paper = m.numbers("tiny"), m.numbers("paper")
        assert set(tiny.views) == set(paper.views) and set(tiny.loss) == set(paper.loss)
    with pytest.raises(ValueError, match="gdpo: unknown rewarded 'last'"):
        replace(METHODS["gdpo"], rewarded="last")
    with pytest.raises(
        ValueError, match="unknown loss number of gdpo 'per_tokn'; did you mean 'per_token'"
    ):
        METHODS["gdpo"].numbers("tiny", loss={"per_tokn": "inside"})
    with pytest.raises(ValueError, match="got 'rcrr'; did you mean 'rcr'"):
        Numbers(prompts=1, group=2, inner_updates=1, clip=0.2, kl=0.0, lr=1.0, order="rcrr")
    assert METHODS["mdpo"].numbers("tiny", order="rcr-max").rule(8) == RunningConfidence(4, "max")
    for name, overrides, message in (
        ("gdpo", {"counted": "all"}, "counted must be 'scored' or 'text', got 'all'"),
        ("agrpo", {"counted": "text"}, "counted 'text' is for losses of whole texts"),
        (
            "coupled-grpo",
            {"group": 5, "published_quirks": True},
            "group must be a multiple of 2 with published_quirks.*got 5",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            METHODS[name].numbers("tiny", **overrides)


@pytest.mark.parametrize("name", UPDATED_APART)
def test_one_update_with_a_penalty_works(policy, reference, batch, name):
    """mu = 1 with KL, which two releases crash on: a finite gradient that is not zero, and a
    divergence above zero."""
    n = numbers(name, kl=0.1)
    credit = (
        ADVANTAGE
        if METHODS[name].rewarded != "every step"
        else ADVANTAGE[:, None].expand(6, 4).contiguous()
    )
    gradient, stats = gradient_of(
        policy, name, n, scored_by(name, policy, batch, n, reference, advantage=credit)
    )
    assert 0 < largest(gradient) < math.inf and stats["kl"] > 0 and math.isfinite(stats["loss"])
