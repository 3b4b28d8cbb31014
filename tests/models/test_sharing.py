"""Each different row once: the same logits, rollouts and gradients from fewer computed rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from updates import OTHERS, gradient_of, numbers, scored_by

from dllm_rl_lite.models import (
    MaskedDiffusionLM,
    add_adapters,
    count_passes,
    distinct_rows,
    load_lm,
)
from dllm_rl_lite.models.adapters import training_mode
from dllm_rl_lite.models.sharing import asked_of_any
from dllm_rl_lite.sampler import Gate, RunningConfidence, Schedule, Threshold, denoise
from dllm_rl_lite.tasks import load_task


@pytest.fixture
def apart(monkeypatch):
    """A function that switches sharing off for the rest of a test."""
    return lambda: monkeypatch.setattr(MaskedDiffusionLM, "shares_rows", False)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), min_size=1, max_size=12
    )
)
def test_different_rows_are_found_and_put_back(rows):
    """Their number, their order, and every column, by a set of Python tuples."""
    ids = torch.tensor([row[:2] for row in rows])
    mask = torch.tensor([row[2:] for row in rows])
    first, kind = distinct_rows(ids, mask)
    assert len(first) == len(set(rows))
    assert first.tolist() == sorted(first.tolist()), "in the order of the rows"
    assert first.tolist() == [rows.index(rows[i]) for i in first.tolist()], "the first of its kind"
    assert torch.equal(ids[first][kind], ids) and torch.equal(mask[first][kind], mask)


@given(st.integers(0, 10_000))
def test_each_row_finds_the_positions_that_it_asked_for(seed):
    g = torch.Generator().manual_seed(seed)
    kind = torch.randint(3, (6,), generator=g)
    where = torch.rand(6, 5, generator=g) < 0.4
    union, pick = asked_of_any(where, kind, 3)
    numbered = union.nonzero()[pick]  # (kind, position) of each asked position
    row, position = where.nonzero().unbind(1)
    assert torch.equal(numbered, torch.stack([kind[row], position], 1))
    assert int(union.sum()) == len(numbered.unique(dim=0)), "nothing is asked in vain"


RULES = {
    **{order: Schedule(4, order) for order in ("confidence", "random", "entropy", "margin")},
    "left to right": Schedule(4, "left_to_right"),
    "gate": Gate(0.5, 0.5),
    "threshold": Threshold(0.6),
    "remasking": RunningConfidence(4),
}


@pytest.mark.parametrize("eos", ["free", "stop", "forbid"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_rollouts_are_the_same(policy, apart, rule, eos):
    """Groups of three, in two orders of the batch: tokens, steps and log-probabilities."""
    prompts = [prompt for prompt in ("1+2", "23+4", "1+2") for _ in range(3)]
    lm = policy.lm

    def written(texts):
        generator = torch.Generator().manual_seed(5)
        with count_passes(lm) as spent:
            rollout = denoise(
                lm, texts, 8, rule, temperature=0.8, generator=generator, eos=eos, record=True
            )
        return rollout, spent

    shared = [written(prompts), written(prompts[::-1])]
    apart()
    for (rollout, spent), texts in zip(shared, (prompts, prompts[::-1]), strict=True):
        plain, asked = written(texts)
        assert torch.equal(rollout.tokens, plain.tokens)
        assert torch.equal(rollout.unmask_step, plain.unmask_step)
        torch.testing.assert_close(rollout.logprob, plain.logprob, rtol=0, atol=2e-6)
        torch.testing.assert_close(rollout.entropy, plain.entropy, rtol=0, atol=2e-6)
        assert torch.equal(rollout.predicted, plain.predicted)
        assert asked.computed == asked.asked == spent.asked == int(rollout.n_forwards.sum())
        assert spent.computed < spent.asked, "the first canvas of a group is one"


def test_the_network_sees_each_different_canvas_once(lm):
    """Rows that reach the embedding, counted at every pass of a rollout."""
    seen = []
    hook = lm.backbone.model.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    generator = torch.Generator().manual_seed(1)
    with count_passes(lm) as spent:
        rollout = denoise(lm, ["1+2"] * 6, 8, Schedule(4), temperature=0.7, generator=generator)
    hook.remove()
    different = []
    for step, ids in enumerate(seen):
        assert len(ids.unique(dim=0)) == len(ids)
        different.append(len(rollout.canvas_at(step).unique(dim=0)))
    assert [len(ids) for ids in seen] == different and different[0] == 1
    assert spent.computed == sum(different) and spent.asked == 24
    assert spent.tokens == spent.computed * seen[0].shape[1]
    assert not lm._forward_pre_hooks


def test_a_model_that_is_its_own_reference_is_counted_once(lm):
    with count_passes(lm, lm, None) as spent:
        denoise(lm, ["1+2"], 8, Schedule(4))
    assert spent.asked == spent.computed == 4


@pytest.mark.parametrize("name", OTHERS)
def test_gradients_and_logs_are_the_same(policy, reference, apart, name):
    """One group on one prompt, some completions alike; with a penalty and two inner updates."""
    n = numbers(name, kl=0.04, inner_updates=2)
    generator = torch.Generator().manual_seed(2)
    rollout = denoise(
        policy, ["1+2"] * 6, 8, Schedule(4), temperature=0.3, generator=generator, record=True
    )
    found = []
    for switch in (lambda: None, apart):
        switch()
        scored = scored_by(name, policy, rollout, n, reference)
        found.append(gradient_of(policy, name, n, scored))
    (shared, stats), (plain, stats_of_plain) = found
    for parameter, gradient in plain.items():
        size = max(float(gradient.abs().max()), 1.0)
        torch.testing.assert_close(shared[parameter], gradient, rtol=0, atol=1e-5 * size)
    assert stats.pop("computed") <= stats_of_plain.pop("computed") == stats_of_plain["forwards"]
    assert stats == pytest.approx(stats_of_plain, rel=1e-4, abs=1e-6)


@settings(max_examples=20)
@given(st.permutations(range(6)), st.integers(1, 4))
def test_padding_tells_rows_apart(lm, order, width):
    """Equal ids of which one's first tokens are padding are different rows."""
    ids = torch.full((6, 8), 7)
    mask = torch.ones(6, 8, dtype=torch.bool)
    mask[::2, :width] = False
    mask = mask[torch.tensor(order)]
    where = torch.zeros_like(mask)
    where[:, -1] = True
    with torch.no_grad(), count_passes(lm) as spent:
        logits = lm(ids, mask, where)
        alone = torch.cat([lm(ids[i : i + 1], mask[i : i + 1], where[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(logits, alone, rtol=0, atol=1e-5)
    assert spent.computed == 2 + 6


def test_dropout_keeps_equal_rows_apart(new_lm):
    """Each row of a training pass drops units of its own."""
    lm = add_adapters(new_lm(4), "all", r=4, dropout=0.5, seed=0)
    for name, weight in lm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))
    ids = torch.full((4, 6), 7)
    mask = torch.ones(4, 6, dtype=torch.bool)
    with torch.no_grad(), count_passes(lm) as spent:
        with training_mode(lm, 0):
            trained = lm(ids, mask, mask).view(4, 6, -1)
        used = lm(ids, mask, mask).view(4, 6, -1)
    assert spent.computed == 4 + 1
    assert not torch.equal(trained[0], trained[1]) and torch.equal(used[0], used[1])


def test_siblings_of_the_shipped_model_share_most_of_their_canvases():
    """The measured share that the module names, of 16 prompts and groups of 8."""
    lm, task = load_lm("tiny"), load_task("chain2")
    prompts = [e.prompt for e in task.sample(16, "train", 0) for _ in range(8)]
    generator = torch.Generator().manual_seed(0)
    with count_passes(lm) as spent:
        denoise(lm, prompts, task.length, Schedule(8), temperature=1.0, generator=generator)
    assert spent.asked == 1024 and 0.10 < spent.computed / spent.asked < 0.20
