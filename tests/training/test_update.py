"""One update's gradient: against direct formulas, and unchanged by how the batch is cut, ordered or
thinned."""

import copy
from dataclasses import replace

import pytest
import torch
from updates import (
    ADVANTAGE,
    OTHERS,
    RUN_APART,
    UPDATED_APART,
    SavedBytes,
    advantage_of,
    assert_same,
    compares_siblings,
    credit_of,
    direct_gradient,
    every_step,
    gradient_of,
    largest,
    numbers,
    scored_by,
)

from dllm_rl_lite.estimators import all_steps, estimate, last_scored_step, token_logprobs
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.objectives import AVERAGES, token_weights
from dllm_rl_lite.training import (
    TrainConfig,
    UpdateBatch,
    accumulate_gradients,
    prepare,
    score_views,
    scored_by_any,
)

ALL = pytest.mark.parametrize("name", UPDATED_APART)
# GRPO's relatives are cut in one way, as some may hold whole groups only (test_parts.py).
CUTS = [(name, 3) for name in UPDATED_APART] + [
    (name, size) for name in RUN_APART for size in (1, 4)
]
BOTH = pytest.mark.parametrize("name", ["diffu-grpo", "agrpo"])


@pytest.fixture(scope="module")
def rollout(batch):
    return batch


# ---------------------------------------------------------------- invariances


@pytest.mark.parametrize("name, micro_batch", CUTS)
@pytest.mark.parametrize("kl", [0.0, 0.04])
def test_micro_batches_change_nothing(policy, later, reference, rollout, name, kl, micro_batch):
    """The gradient and the log of a batch cut in pieces are those of the whole."""
    n = numbers(name, kl=kl, inner_updates=2)
    scored = scored_by(name, policy, rollout, n, reference if kl else None)
    whole, stats = gradient_of(later, name, n, scored)
    parts, stats_of_parts = gradient_of(later, name, n, scored, micro_batch)
    assert_same(parts, whole, 1e-5)  # of the largest entry; ratios of whole texts amplify round-off
    # Equal rows that come in different parts are computed twice; a part that scores nothing is not
    # computed at all.
    unscored = sum(int((~view.scored.any(1)).sum()) for view in scored.views)
    assert stats_of_parts.pop("computed") >= stats.pop("computed") - unscored
    asked = stats.pop("forwards")
    assert asked - unscored <= stats_of_parts.pop("forwards") <= asked
    assert stats_of_parts == pytest.approx(stats, rel=1e-4, abs=1e-6)
    assert (stats["ratio_spread"] > 1e-3) == METHODS[name].objective.uses_old and (
        stats["kl"] > 0
    ) == (kl > 0)


@ALL
def test_old_and_reference_scores_do_not_depend_on_the_micro_batch(
    policy, reference, rollout, name
):
    """Nor does what is left of the rows: the same views, drawn from the same generator, scored some
    rows at a time."""
    n, advantage = (
        numbers(name, kl=0.04, inner_updates=2),
        torch.tensor([0.5, -0.5, 0.25, -0.25, 0.5, -0.5]),
    )
    if METHODS[name].rewarded == "every step":
        advantage = advantage[:, None].expand(-1, int(rollout.n_forwards.max())).contiguous()
    whole, parts = (
        score_views(
            policy,
            reference,
            METHODS[name],
            n,
            rollout,
            advantage,
            torch.Generator().manual_seed(3),
            micro_batch=size,
        )
        for size in (0, 4)
    )
    assert len(whole.ref) == len(parts.ref) > 0 and whole.passes.asked == parts.passes.asked > 0
    for mine, theirs in zip([*whole.old, *whole.ref], [*parts.old, *parts.ref], strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@ALL
def test_permuting_the_rows_changes_nothing(policy, later, reference, rollout, name):
    """The same rows in another order, views and all, have the same gradient."""
    n = numbers(name, kl=0.04, inner_updates=2)
    s = scored_by(name, policy, rollout, n, reference)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    if compares_siblings(name):
        order = torch.tensor([4, 3, 5, 2, 0, 1])
    shuffled = UpdateBatch(
        s.rollout.select(order),
        s.advantage[order],
        [v.select(order) for v in s.views],
        [None if o is None else o[order] for o in s.old],
        [r[order] for r in s.ref],
        s.row_sizes[order],
        s.normaliser,
    )
    assert_same(gradient_of(later, name, n, shuffled)[0], gradient_of(later, name, n, s)[0], 2e-6)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("mu", [1, 2])
def test_equal_rewards_give_no_gradient(policy, later, rollout, name, mu):
    """A batch of dead groups: every row is left out, the loss and the gradient are exactly zero.
    Where credit compares with the best reward, it is a batch of groups that are all right."""
    n = numbers(name, inner_updates=mu)
    method = METHODS[name]
    reward = method.numbers("tiny").credit.get("best", 0.3)
    rewards = torch.full((2, 3) if method.rewarded != "every step" else (2, 3, 4), reward)
    advantage = advantage_of(method, n, rewards, rollout, policy.tokenizer)
    scored = scored_by(name, policy, rollout, n, advantage=advantage)
    gradient, stats = gradient_of(later, name, n, scored)
    assert len(scored.advantage) == 0 and largest(gradient) == 0
    assert stats == {
        "loss": 0.0,
        "clip_fraction": 0.0,
        "ratio_spread": 0.0,
        "kl": 0.0,
        "forwards": 0,
        "computed": 0,
    }


@BOTH
def test_rows_without_credit_may_be_left_out(policy, later, rollout, name):
    """Dropping them changes neither gradient nor loss: the same as a direct sum over all rows,
    theirs included."""
    n, method = numbers(name, inner_updates=2), METHODS[name]
    advantage = torch.tensor([0.0, -0.9, 0.0, 0.5, 0.0, 0.4])
    scored = scored_by(name, policy, rollout, n, advantage=advantage)
    assert len(scored.advantage) == 3
    views = method.views(rollout=rollout, generator=torch.Generator().manual_seed(2), **n.views)
    total = 0.0
    for view in views:
        with torch.no_grad():
            old = token_logprobs(policy, rollout, view)
        losses = method.objective.losses(
            token_logprobs(later, rollout, view),
            old,
            None,
            advantage[:, None],
            view.scored,
            clip=n.clip,
            kl=0.0,
        )
        total = total + (losses * view.weight).sum()
    norm = sum(float(v.scored.sum()) for v in views) if name == "diffu-grpo" else 6.0
    assert scored.normaliser == norm
    gradient, stats = gradient_of(later, name, n, scored)
    assert_same(gradient, direct_gradient(later, total / norm), 2e-6)
    assert stats["loss"] == pytest.approx(total.item() / norm, rel=1e-5)


@ALL
def test_with_a_penalty_rows_without_credit_stay(policy, later, reference, rollout, name):
    """The KL penalty pulls on every row, so none is left out, and equal rewards still give a
    gradient."""
    n = numbers(name, kl=0.04)
    scored = scored_by(
        name, policy, rollout, n, reference, advantage=torch.zeros_like(credit_of(name))
    )
    assert len(scored.advantage) == 6 and all(o is None for o in scored.old)
    gradient, stats = gradient_of(later, name, n, scored)
    assert largest(gradient) > 1e-4 and stats["kl"] > 0
    assert stats["loss"] > 0


@ALL
def test_at_the_reference_the_penalty_has_no_gradient(policy, rollout, name):
    """k3 and its slope are zero where the policy is the reference: the very first update is the one
    without penalty."""
    with_kl, without = numbers(name, kl=0.5), numbers(name)
    a, stats = gradient_of(policy, name, with_kl, scored_by(name, policy, rollout, with_kl, policy))
    b, _ = gradient_of(policy, name, without, scored_by(name, policy, rollout, without))
    assert_same(a, b, 2e-6)
    assert stats["kl"] == pytest.approx(0, abs=1e-7)


# ---------------------------------------------------------------- ratios


@ALL
@pytest.mark.parametrize("kl", [0.0, 0.04])
@pytest.mark.parametrize("mu", [1, 3])
def test_the_ratio_is_one_before_the_first_update(policy, reference, rollout, name, kl, mu):
    """Old scores equal the current ones, whether they were stored (mu > 1) or not (mu = 1, with and
    without penalty)."""
    n = numbers(name, kl=kl, inner_updates=mu)
    scored = scored_by(name, policy, rollout, n, reference if kl else None)
    assert all((o is None) == (mu == 1 or not METHODS[name].objective.uses_old) for o in scored.old)
    texts = METHODS[name].objective.level != "view"
    for view, old in zip([None] if texts else scored.views, scored.old, strict=True):
        if old is not None:
            with torch.no_grad():
                assert torch.equal(
                    old,
                    estimate(policy, scored.rollout, scored.views)
                    if texts
                    else token_logprobs(policy, scored.rollout, view),
                )
            assert not old.requires_grad
    _, stats = gradient_of(policy, name, n, scored)
    assert stats["clip_fraction"] == 0 and stats["ratio_spread"] < 1e-6


@BOTH
def test_the_first_gradient_is_reinforces(policy, rollout, name):
    """At ratio 1: minus the weighted sum of credit times the gradient of log-probability, whatever
    the clip range."""
    for mu, clip in ((1, 0.2), (2, 0.2), (2, 0.01)):
        n = numbers(name, inner_updates=mu, clip=clip)
        scored = scored_by(name, policy, rollout, n)
        views = METHODS[name].views(
            rollout=rollout, generator=torch.Generator().manual_seed(2), **n.views
        )
        reinforce = -sum(
            (v.weight * ADVANTAGE[:, None] * token_logprobs(policy, rollout, v)).sum()
            for v in views
        )
        assert_same(
            gradient_of(policy, name, n, scored)[0],
            direct_gradient(policy, reinforce / scored.normaliser),
            2e-6,
        )


def test_logged_numbers_by_hand(policy, later, reference, rollout):
    """clip_fraction, ratio_spread and kl are means over the scored tokens, computed here one by
    one."""
    n = numbers("diffu-grpo", kl=0.04, inner_updates=2, clip=0.1)
    scored = scored_by("diffu-grpo", policy, rollout, n, reference)
    _, stats = gradient_of(later, "diffu-grpo", n, scored)
    (view,) = scored.views
    with torch.no_grad():
        new, old, ref = (
            token_logprobs(m, rollout, view)[view.scored].double()
            for m in (later, policy, reference)
        )
    ratios = [float(r) for r in (new - old).exp()]
    outside = [r < 0.9 or r > 1.1 for r in ratios]
    assert 0 < sum(outside) < len(outside)
    mean = sum(ratios) / len(ratios)
    assert stats["clip_fraction"] == pytest.approx(sum(outside) / len(outside), abs=1e-6)
    assert stats["ratio_spread"] == pytest.approx(
        (sum((r - mean) ** 2 for r in ratios) / len(ratios)) ** 0.5, rel=1e-4
    )
    assert stats["kl"] == pytest.approx(
        float(((ref - new).exp() - (ref - new) - 1).mean()), rel=1e-4
    )


# ---------------------------------------------------------------- averages


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", ["diffu-grpo", "coupled-grpo", "agrpo"])
@pytest.mark.parametrize("micro_batch", [0, 2])
def test_every_average_trains(policy, later, rollout, name, average, micro_batch):
    """The gradient is that of the losses under the weights that the chapter on GRPO teaches,
    however the batch is cut, rows without credit left out."""
    n = numbers(name, inner_updates=2, group=3)
    method = METHODS[name]
    method = replace(method, objective=replace(method.objective, average=average))
    if name == "agrpo":  # each token in the view of its step
        method = replace(method, views=all_steps)
    scored = scored_by(name, policy, rollout, n, method=method)
    views = method.views(rollout=rollout, generator=torch.Generator().manual_seed(2), **n.views)
    with torch.no_grad():
        old = estimate(policy, rollout, views)
    tokens = torch.stack([v.weight != 0 for v in views]).any(0)
    assert (name == "agrpo") == bool((scored_by_any(views) & ~tokens).any())
    losses = method.objective.losses(
        estimate(later, rollout, views), old, None, ADVANTAGE[:, None], tokens, clip=n.clip, kl=0.0
    )
    loss = (token_weights(tokens, average, 3) * losses).sum()
    gradient, stats = gradient_of(later, name, n, scored, micro_batch, method=method)
    assert len(scored.advantage) == 5
    assert_same(gradient, direct_gradient(later, loss), 1e-5)
    assert stats["loss"] == pytest.approx(loss.item(), rel=1e-4, abs=1e-6)


# ---------------------------------------------------------------- direct formulas


def row_logprobs(model, prompt, canvas):
    """(L, V) log-probabilities of one row from the stock backbone: no padding, explicit zero mask,
    mask token forbidden."""
    ids = torch.tensor([prompt + canvas])
    logits = model.lm.backbone(
        ids, attention_mask=torch.zeros(1, 1, ids.shape[1], ids.shape[1])
    ).logits[0]
    logits = logits[-len(canvas) :] + model.bias
    kept = torch.arange(logits.shape[-1]) != model.mask_id
    return logits.where(kept, torch.tensor(float("-inf"))).log_softmax(-1)


def token_terms(
    model, old_model, ref_model, prompt, canvas, tokens, positions, credit, clip, kl, weighted
):
    """Sum of the token losses at `positions` of one canvas, written out."""
    total = 0.0
    logp = row_logprobs(model, prompt, canvas)
    with torch.no_grad():
        old, ref = row_logprobs(old_model, prompt, canvas), row_logprobs(ref_model, prompt, canvas)
    for j in positions:
        o = tokens[j]
        ratio = (logp[j, o] - old[j, o]).exp()
        d = ref[j, o] - logp[j, o]
        penalty = d.exp() - d - 1
        surrogate = torch.min(ratio * credit, ratio.clamp(1 - clip, 1 + clip) * credit)
        total = total - surrogate + kl * penalty * (ratio if weighted else 1)
    return total


def rows_of(rollout):
    for i in range(len(rollout.tokens)):
        yield i, rollout.prompt[i][rollout.prompt_mask[i]].tolist(), rollout.tokens[i].tolist()


@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_agrpo_over_all_steps_is_its_formula(policy, later, reference, rollout, kl):
    """(1/N) sum_i (1/T_i) sum_t sum_j of the clipped ratio (and weighted k3), in plain loops: loss,
    gradient."""
    n = numbers("agrpo", kl=kl, inner_updates=2)
    method = replace(METHODS["agrpo"], views=every_step)
    scored = scored_by("agrpo", policy, rollout, n, reference if kl else None, method=method)
    gradient, stats = gradient_of(later, "agrpo", n, scored, method=method)
    total, lengths = 0.0, set()
    for i, prompt, tokens in rows_of(rollout):
        steps = rollout.unmask_step[i].tolist()
        last = 1 + max(
            [s for s, o in zip(steps, tokens, strict=True) if o != rollout.eos_id], default=0
        )
        lengths.add(last)
        for t in range(last):
            canvas = [rollout.mask_id if s >= t else o for s, o in zip(steps, tokens, strict=True)]
            written = [j for j in range(8) if steps[j] == t]
            total = (
                total
                + token_terms(
                    later,
                    policy,
                    reference,
                    prompt,
                    canvas,
                    tokens,
                    written,
                    float(ADVANTAGE[i]),
                    n.clip,
                    kl,
                    True,
                )
                / last
            )
    loss = total / 6
    assert len(lengths) > 1 and stats["clip_fraction"] > 0
    assert stats["loss"] == pytest.approx(loss.item(), rel=1e-4, abs=1e-5)
    assert_same(gradient, direct_gradient(later, loss), 1e-5)


def test_agrpos_own_views_cover_all_steps_of_a_single_row(policy, later, rollout):
    """The record's own recipe, with k = T views of one row: the formula's loss, without noise."""
    row = rollout.select(last_scored_step(rollout).argmax()[None])
    steps = int(last_scored_step(row)[0])
    assert steps == 4
    n = numbers("agrpo", inner_updates=2, views={"k": steps})
    scored = scored_by("agrpo", policy, row, n, advantage=torch.tensor([0.7]))
    gradient, _ = gradient_of(later, "agrpo", n, scored)
    _, prompt, tokens = next(rows_of(row))
    when = row.unmask_step[0].tolist()
    total = sum(
        token_terms(
            later,
            policy,
            policy,
            prompt,
            row.canvas_at(t)[0].tolist(),
            tokens,
            [j for j in range(8) if when[j] == t],
            0.7,
            n.clip,
            0.0,
            True,
        )
        for t in range(steps)
    )
    assert_same(gradient, direct_gradient(later, total / steps), 1e-5)


@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_diffu_grpo_is_its_token_mean(policy, later, reference, rollout, kl):
    """Sum over rows and tokens up to end-of-sequence, divided by their number in the whole batch:
    loss and gradient."""
    n = numbers("diffu-grpo", kl=kl, inner_updates=2, views={"p_mask_prompt": 0.4})
    scored = scored_by("diffu-grpo", policy, rollout, n, reference if kl else None)
    gradient, stats = gradient_of(later, "diffu-grpo", n, scored)
    (view,) = METHODS["diffu-grpo"].views(
        rollout=rollout, generator=torch.Generator().manual_seed(2), **n.views
    )
    assert (view.tokens[:, :-8] == rollout.mask_id).any()
    total, count = 0.0, 0
    for i, _, tokens in rows_of(rollout):
        prompt = view.tokens[i, :-8][rollout.prompt_mask[i]].tolist()
        end = tokens.index(rollout.eos_id) + 1 if rollout.eos_id in tokens else 8
        total = total + token_terms(
            later,
            policy,
            reference,
            prompt,
            [rollout.mask_id] * 8,
            tokens,
            range(end),
            float(ADVANTAGE[i]),
            n.clip,
            kl,
            False,
        )
        count += end
    assert count < 48 and scored.normaliser == count and stats["clip_fraction"] > 0
    assert stats["loss"] == pytest.approx((total / count).item(), rel=1e-4, abs=1e-5)
    assert_same(gradient, direct_gradient(later, total / count), 1e-5)


def test_scores_are_tempered_where_the_method_says_so(policy, rollout):
    """AGRPO scores under the rollouts' temperature, diffu-GRPO at 1."""
    for name, temperature in (("agrpo", 0.5), ("diffu-grpo", 1.0)):
        n = numbers(name, inner_updates=2, temperature=0.5)
        scored = scored_by(name, policy, rollout, n)
        view, old = scored.views[0], scored.old[0]
        with torch.no_grad():
            want, other = (
                token_logprobs(policy, scored.rollout, view, t)
                for t in (temperature, 1.5 - temperature)
            )
        assert torch.equal(old, want) and not torch.allclose(old, other)
        _, stats = gradient_of(policy, name, n, scored)
        assert stats["ratio_spread"] < 1e-6


# ---------------------------------------------------------------- the run's own start


def test_adams_betas_are_the_methods():
    """MDPO trained with PyTorch's 0.999, all others with 0.99; either can be overridden."""
    assert {name for name, m in METHODS.items() if m.paper.adam_beta2 == 0.999} == {"mdpo"}
    for given, betas in (({}, (0.9, 0.99)), ({"adam_beta2": 0.999}, (0.9, 0.999))):
        config = TrainConfig(method="mdpo", numbers=given)
        assert prepare(config, config.load_task()).optimizer.defaults["betas"] == betas


def test_remasking_and_a_cache_are_refused_before_the_first_step():
    """Also where one block is the whole canvas."""
    config = TrainConfig(method="mdpo", cache="dual", numbers={"order": "rcr"})
    with pytest.raises(ValueError, match="cache 'dual' keeps .*RunningConfidence"):
        prepare(config, config.load_task())


# ---------------------------------------------------------------- memory and errors


@BOTH
@pytest.mark.parametrize("micro_batch, pieces", [(0, 1), (2, 3), (1, 6)])
def test_one_backward_per_view_and_micro_batch(policy, spy, rollout, name, micro_batch, pieces):
    """Every forward pass is followed by its own backward before the next: memory does not grow with
    the views."""
    views = {"k": 5} if name == "agrpo" else {}
    n = numbers(name, views=views)
    scored = scored_by(name, policy, rollout, n, advantage=torch.tensor([1.0, -1, 1, -1, 1, -1]))
    watched, events = spy(policy), []

    def backward(loss):
        events.append(len(watched.calls))
        loss.backward()
        with pytest.raises(RuntimeError):  # its graph is gone
            loss.backward()

    policy.zero_grad()
    accumulate_gradients(watched, METHODS[name], n, scored, backward, micro_batch)
    policy.zero_grad()
    assert len(scored.views) == (5 if name == "agrpo" else 1)
    assert events == list(range(1, len(scored.views) * pieces + 1))
    assert all(len(ids) == 6 // pieces for ids, _, _ in watched.calls)


@ALL
def test_gradients_are_added_up(policy, rollout, name):
    """Two calls without clearing give twice the gradient."""
    n = numbers(name)
    scored = scored_by(name, policy, rollout, n)
    once, _ = gradient_of(policy, name, n, scored)
    for _ in range(2):
        accumulate_gradients(policy, METHODS[name], n, scored, torch.Tensor.backward)
    twice = {k: p.grad.clone() for k, p in policy.named_parameters()}
    policy.zero_grad()
    assert_same(twice, {k: 2 * v for k, v in once.items()}, 2e-6)


@ALL
def test_a_loss_that_is_not_finite_stops(policy, rollout, name):
    """A broken model, or credit that is infinite: FloatingPointError that names the method, before
    any backward."""
    n, called = numbers(name), []
    broken = copy.deepcopy(policy)
    with torch.no_grad():
        broken.lm.backbone.lm_head.weight[7] = float("nan")
    scored = scored_by(name, policy, rollout, n)
    with pytest.raises(FloatingPointError, match=f"{name}: the loss is nan"):
        accumulate_gradients(broken, METHODS[name], n, scored, called.append)
    infinite = replace(scored, advantage=torch.full_like(scored.advantage, float("inf")))
    with pytest.raises(FloatingPointError, match=f"{name}: the loss is"):
        accumulate_gradients(policy, METHODS[name], n, infinite, called.append)
    assert called == []


@ALL
def test_nothing_to_learn_from_is_an_error(policy, rollout, name):
    """A batch of anchored tokens only has nothing to score."""
    anchored = replace(rollout, unmask_step=torch.full_like(rollout.unmask_step, -1))
    with pytest.raises(ValueError, match=f"{name}: no token of the batch is scored"):
        scored_by(name, policy, anchored, numbers(name))


@ALL
def test_scoring_leaves_no_trace(policy, reference, rollout, name):
    """Old and reference scores need no gradient and put none on the models; equal seeds give equal
    views."""
    n = numbers(name, kl=0.1, inner_updates=2)
    policy.zero_grad()
    a, b = (scored_by(name, policy, rollout, n, reference) for _ in range(2))
    assert not any(t.requires_grad for t in a.old + a.ref if t is not None)
    assert all(p.grad is None for p in policy.parameters())
    assert all(torch.equal(x.tokens, y.tokens) for x, y in zip(a.views, b.views, strict=True))


# ---------------------------------------------------------------- memory


def test_memory_is_flat_in_the_number_of_views(policy, rollout):
    """What is kept for backward at the worst moment: the same for 2 and for 16 views, and half for
    half the rows; the sum of all views with one backward keeps eight times as much."""

    def peak(k, micro_batch=0, at_once=False):
        n = numbers("agrpo", views={"k": k, "stratified": True})
        scored, saved = (
            scored_by("agrpo", policy, rollout, n, advantage=ADVANTAGE + 0.01),
            SavedBytes(),
        )
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda kept: kept.tensor):
            if at_once:
                estimate(policy, scored.rollout, scored.views).sum().backward()
            else:
                accumulate_gradients(
                    policy, METHODS["agrpo"], n, scored, torch.Tensor.backward, micro_batch
                )
        policy.zero_grad()
        return saved.peak

    two, sixteen = peak(2), peak(16)
    assert two > 1e5
    assert sixteen == pytest.approx(
        two, rel=0.02
    )  # views differ a little in how many tokens they score
    assert peak(16, micro_batch=3) < 0.6 * sixteen
    assert peak(16, at_once=True) > 7 * peak(2, at_once=True) > 7 * 1.9 * two
