"""The key-value cache: exact where nothing is stale, equal to an independent re-statement
elsewhere, counted, contained."""

import copy
import itertools

import cache as benchmark
import pytest
import torch
from cache import replay
from checkpoints import CONFIGS, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.models import encode_prompts, load_lm
from dllm_rl_lite.models.adapters import checkpoint_gradients
from dllm_rl_lite.models.cache import BlockCache
from dllm_rl_lite.sampler import (
    Gate,
    RunningConfidence,
    Schedule,
    Threshold,
    answer_anchor,
    denoise,
    guided_denoise,
)
from dllm_rl_lite.tasks import load_task

PROMPTS = ["6-4+7-1", "1+2", "f(1)=3 f(2)=5", "9"]
KINDS = ("prefix", "dual")
LENGTH, BLOCK = 12, 4


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def published(request, tmp_path_factory):
    """A tiny LLaDA, Dream (shifted, two key-value heads for four) or Qwen3 (likewise, normalised
    keys), two layers each, sure enough of some tokens that rows fall out of step."""
    lm = load_lm(write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)[0])
    with torch.no_grad():
        lm.backbone.lm_head.weight.mul_(4)
    return lm


@pytest.fixture(scope="module")
def shallow(lm):
    """The first layer alone: keys and values depend on their own token and its place, on nothing
    else."""
    one = copy.deepcopy(lm)
    one.backbone.config.num_hidden_layers = 1
    del one.backbone.model.layers[1:]
    return one


class Ending:
    """A model that ends many texts early."""

    def __init__(self, lm):
        self.lm = lm

    def __getattr__(self, name):
        return getattr(self.lm, name)

    def __call__(self, *asked):
        logits = self.lm(*asked)
        logits[:, self.lm.eos_id] += 3
        return logits


def close(got, want):
    kept = torch.isfinite(want)
    assert torch.equal(kept, torch.isfinite(got))
    return torch.allclose(got[kept], want[kept], rtol=1e-4, atol=1e-4)


def rollout_of(lm, rng, seed=0, **more):
    return denoise(
        lm,
        PROMPTS,
        LENGTH,
        **(
            {
                "rule": Gate(0.3, 0.5),
                "block_length": BLOCK,
                "temperature": 1.0,
                "generator": rng(seed),
            }
            | more
        ),
    )


# ---------------------------------------------------------------- exact laws


@pytest.mark.parametrize("kind", KINDS)
def test_the_pass_that_writes_is_the_plain_pass(published, rng, kind):
    """And only that one: later passes of a block follow another law. Padded prompts, rows out of
    step."""
    stale = []
    for step in replay(published, rollout_of(published, rng), kind, BLOCK):
        fresh = step.begins[step.where.nonzero()[:, 0]]
        assert close(step.cached[fresh], step.exact[fresh])
        stale += [] if fresh.all() else [close(step.cached[~fresh], step.exact[~fresh])]
    assert stale and not any(stale), "with two layers what is kept grows stale"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps, block", [(3, 4), (1, 12), (12, 1)])
def test_one_pass_a_block_is_the_rollout_without_a_cache(published, rng, kind, steps, block):
    """Every pass then writes anew: same noise, same text."""
    plain, cached = (
        rollout_of(published, rng, rule=Schedule(steps, "random"), block_length=block, cache=c)
        for c in ("", kind)
    )
    assert torch.equal(plain.tokens, cached.tokens) and torch.equal(
        plain.unmask_step, cached.unmask_step
    )
    torch.testing.assert_close(plain.logprob, cached.logprob, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "rule", [Schedule(6, "random"), Schedule(9), Threshold(0.4), Gate(0.3, 0.5)], ids=str
)
def test_with_one_layer_nothing_grows_stale(shallow, lm, rng, kind, rule):
    """Both caches are exact there; the same rollouts of two layers are not."""
    plain, cached = (rollout_of(shallow, rng, rule=rule, cache=c) for c in ("", kind))
    assert torch.equal(plain.tokens, cached.tokens) and torch.equal(
        plain.unmask_step, cached.unmask_step
    )
    torch.testing.assert_close(plain.entropy, cached.entropy, rtol=1e-4, atol=1e-4)
    deep = [rollout_of(lm, rng, rule=rule, cache=c) for c in ("", kind)]
    assert not torch.allclose(deep[0].entropy, deep[1].entropy, rtol=1e-3, atol=1e-3)


def test_with_one_block_prefix_and_dual_keep_the_prompt(lm, rng):
    one, other = (rollout_of(lm, rng, block_length=None, cache=c) for c in KINDS)
    assert torch.equal(one.tokens, other.tokens) and torch.equal(one.logprob, other.logprob)
    two, three = (rollout_of(lm, rng, cache=c) for c in KINDS)
    assert not torch.allclose(two.logprob, three.logprob), "with three blocks they differ"


class Frozen:
    """The cached law again, by other means: every pass computes the whole text, one row at a time,
    but what the key and value projections give outside the range is replaced by what they gave when
    the block began."""

    def __init__(self, lm):
        self.lm, self.kept, self.range = lm, {}, None
        for layer in lm.backbone.model.layers:
            for projection in (layer.self_attn.k_proj, layer.self_attn.v_proj):
                projection.register_forward_hook(self.replace)

    def replace(self, module, inputs, output):
        if self.range is None:
            self.kept[module] = output
            return output
        first, end = self.range
        return torch.cat(
            [self.kept[module][:, :first], output[:, first:end], self.kept[module][:, end:]], 1
        )

    @torch.no_grad()
    def logits(self, ids, mask, where, fresh, first, end):
        self.range = None if fresh else (first, end)
        return self.lm(ids, mask, where)


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_the_cached_law(published, rng, kind):
    """Rows out of step, left padding: each row is the re-statement's, which never saw the
    others."""
    r, width = (
        rollout_of(published, rng, seed=3),
        encode_prompts(published.tokenizer, PROMPTS)[0].shape[1],
    )
    twins, stale = [Frozen(copy.deepcopy(published)) for _ in PROMPTS], 0
    for t, step in enumerate(replay(published, r, kind, BLOCK)):
        owner = step.where.nonzero()[:, 0]
        for i, row in enumerate(step.row.tolist()):
            here = slice(row, row + 1)
            ids, mask = (
                torch.cat([r.prompt, r.canvas_at(t)], 1)[here],
                torch.cat([r.prompt_mask, r.tokens >= 0], 1)[here],
            )
            start = width + int(step.where[i].long().argmax() - width) // BLOCK * BLOCK
            end = ids.shape[1] if kind == "prefix" else start + BLOCK
            want = twins[row].logits(
                ids, mask, step.where[i : i + 1], step.begins[i], start - published.shifted, end
            )
            assert close(step.cached[owner == i], want)
            stale += not step.begins[i]
    assert stale > 8


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_depends_on_its_batch(published, kind):
    """Greedy, rows of different prompts that fall out of step and leave one by one."""
    together = denoise(published, PROMPTS, LENGTH, Threshold(0.5), BLOCK, cache=kind)
    assert len(together.n_forwards.unique()) > 1, "or nothing is tested"
    for i, prompt in enumerate(PROMPTS):
        alone = denoise(published, [prompt], LENGTH, Threshold(0.5), BLOCK, cache=kind)
        assert torch.equal(alone.tokens[0], together.tokens[i])
        assert torch.equal(alone.unmask_step[0], together.unmask_step[i])
        torch.testing.assert_close(alone.logprob[0], together.logprob[i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "kind, tokens", [("", 6 * 18), ("prefix", 3 * 18 + 12 + 8 + 4), ("dual", 3 * 18 + 3 * 4)]
)
def test_tokens_computed(published, kind, tokens):
    """Six passes over 6 + 12 tokens in three blocks of 4; a shifted model also computes the token
    before the block."""
    if published.shifted and kind:
        tokens += 3
    counted = []
    different = torch.arange(30).view(5, 6) % 20 + 5  # equal rows would be computed once
    hook = published.backbone.model.embed_tokens.register_forward_hook(
        lambda m, i, o: counted.append(o[..., 0].numel())
    )
    prompts = (different, different > 0)
    rollout = denoise(published, prompts, LENGTH, Schedule(6), BLOCK, cache=kind)
    hook.remove()
    assert sum(counted) == 5 * tokens and rollout.n_forwards.tolist() == [6] * 5


# ---------------------------------------------------------------- what it composes with


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    blocks=st.sampled_from((1, 2, 3, 6)),
    steps=st.integers(1, 3),
    eos=st.sampled_from(("free", "stop", "forbid")),
    seed=st.integers(0, 99),
)
def test_rollouts_are_whole(lm, kind, blocks, steps, eos, seed):
    """Every position written once, blocks from left to right, records as without a cache."""
    recorded = kind == "prefix" or blocks == 1  # "dual" computes no block but the current one
    cached = denoise(
        Ending(lm),
        PROMPTS,
        LENGTH,
        Schedule(min(steps, LENGTH // blocks) * blocks),
        LENGTH // blocks,
        1.0,
        eos=eos,
        record=recorded,
        generator=torch.Generator().manual_seed(seed),
        cache=kind,
    )
    assert not (cached.tokens == lm.mask_id).any() and cached.sampled.all()
    steps_of = cached.unmask_step.view(-1, blocks, LENGTH // blocks)
    assert bool((steps_of[:, 1:].amin(-1) >= steps_of[:, :-1].amax(-1)).all()), (
        "the end filled in comes last too"
    )
    assert bool((cached.n_forwards <= steps * blocks).all()) and bool((cached.logprob <= 0).all())
    if recorded and eos != "stop":
        assert torch.equal(cached.predicted[-1], cached.tokens)
    assert not cached.logprob.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_guided_rollouts(shallow, lm, rng, kind):
    """Both stages, rows with blocks of their own: exact with one layer, whole with two."""

    def guide(model, cache):
        anchor = answer_anchor(model.tokenizer, [None, "8", None, "11"], 16, 2)
        return guided_denoise(
            model,
            PROMPTS,
            anchor,
            Schedule(8),
            Schedule(16),
            4,
            8,
            temperature=1.0,
            generator=rng(0),
            cache=cache,
        )

    plain, cached = guide(shallow, ""), guide(shallow, kind)
    assert torch.equal(plain.tokens, cached.tokens) and torch.equal(
        plain.unmask_step, cached.unmask_step
    )
    torch.testing.assert_close(plain.entropy, cached.entropy, rtol=1e-4, atol=1e-4)
    assert not (guide(lm, kind).tokens == lm.mask_id).any()


def test_bfloat16(published, rng):
    """Where it is exact in float32, rounding moves a probability by less than 0.05."""
    half = copy.deepcopy(published).to(torch.bfloat16)
    rollout = rollout_of(half, rng, cache="dual")
    assert not (rollout.tokens == half.mask_id).any() and rollout.logprob.dtype == torch.float32
    for step in replay(half, rollout, "dual", BLOCK):
        gap = (step.cached.softmax(-1) - step.exact.softmax(-1))[
            step.begins[step.where.nonzero()[:, 0]]
        ]
        assert not gap.numel() or float(gap.abs().max()) < 0.05


def test_eager_attention(published, rng):
    """The kernel of attention changes nothing: the mask is explicit."""
    eager, rollout = copy.deepcopy(published), rollout_of(published, rng)
    eager.backbone.set_attn_implementation("eager")
    for one, other in zip(
        replay(published, rollout, "dual", BLOCK),
        replay(eager, rollout, "dual", BLOCK),
        strict=True,
    ):
        assert close(one.cached, other.cached) and close(one.exact, other.exact)


def test_what_left_is_let_go(published):
    """Rows, and columns that were padding to all others, leave the memory; no gradient is kept."""
    ids, mask = encode_prompts(published.tokenizer, PROMPTS)
    cut = int((~mask.bool()).sum(1).max())
    text = torch.cat([ids, torch.full((4, LENGTH), published.mask_id)], 1)
    real, row = (
        torch.cat([mask.bool(), torch.ones(4, LENGTH, dtype=torch.bool)], 1),
        torch.arange(4),
    )
    where, start = (
        torch.arange(text.shape[1]).expand(text.shape) >= ids.shape[1],
        torch.full((4,), ids.shape[1]),
    )
    cache, shortest = BlockCache("prefix"), mask.sum(1) == mask.sum(1).min()
    assert cut > 0 and shortest.sum() == 1
    cache.logits(published, text, real, where, row, start, start + BLOCK)
    asked = [t[shortest][:, cut:] for t in (text, real, where)]
    got = cache.logits(
        published, *asked, row[shortest], start[shortest] - cut, start[shortest] - cut + BLOCK
    )
    for tensor in [*cache.keys.values(), *cache.values.values()]:
        assert (
            tensor.shape[0] == 1
            and tensor.shape[2] == text.shape[1] - cut
            and not tensor.requires_grad
        )
    assert len(cache.keys) == 2 and close(got, published(*asked)), (
        "nothing was written since: nothing is stale"
    )


# ---------------------------------------------------------------- the benchmark


def test_the_benchmark_finds_no_difference_where_there_is_none(shallow, lm):
    """One layer: no divergence, every ratio 1. Two layers: both cost something. Tokens counted by
    hand."""
    options = benchmark.parser().parse_args(["--texts", "6", "--batch", "4"])
    none, some = (
        benchmark.measure(model, load_task("chain2"), 4, KINDS, options) for model in (shallow, lm)
    )
    for kind in KINDS:
        exact, stale = none[kind], some[kind]
        assert (
            abs(exact["kl_worst"]) < 1e-5
            and exact["worst_ratio"] < 1e-3
            and exact["effective"] > 0.999
        )
        assert exact["token_differs"] == exact["choice_differs"] == exact["clipped"] == 0
        assert (
            stale["kl_worst"] > 1e-3 and stale["worst_ratio"] > 1e-3 and stale["effective"] < 0.999
        )
        assert stale["kl_low"] <= stale["kl"] <= stale["kl_high"] <= stale["kl_worst"]
        assert exact["computed"] == stale["computed"] < 1
    assert none["dual"]["computed"] == pytest.approx((7 + 16 + 4) / (7 + 16) / 2), (
        "two passes a block: one whole, one of 4"
    )


def test_divergence_and_ratio_by_hand(lm, rng):
    """Each token's KL and ratio, from the two laws of the step that revealed it."""
    rollout = rollout_of(lm, rng, cache="dual")
    found, steps = (
        benchmark.compare_laws(lm, rollout, "dual", BLOCK),
        list(replay(lm, rollout, "dual", BLOCK)),
    )
    width = rollout.prompt.shape[1]
    for row, column in ((0, 0), (1, 5), (2, 11), (3, 6)):
        step = steps[int(rollout.unmask_step[row, column])]
        here = step.where.nonzero().tolist().index([step.row.tolist().index(row), width + column])
        p, q = step.exact[here].double().softmax(-1), step.cached[here].double().softmax(-1)
        token, seen = int(rollout.tokens[row, column]), p > 0
        assert float(found["kl"][row, column]) == pytest.approx(
            float((p * (p / q).log())[seen].sum()), abs=1e-5
        )
        assert float(found["ratio"][row, column]) == pytest.approx(
            float((p[token] / q[token]).log()), abs=1e-4
        )
        assert float(rollout.logprob[row, column]) == pytest.approx(
            float(q[token].log()), abs=1e-4
        ), "drawn from the cached"


# ---------------------------------------------------------------- errors


def test_what_cannot_be_is_named(lm, rng):
    with pytest.raises(ValueError, match="unknown cache 'both': one of"):
        rollout_of(lm, rng, cache="both")
    with pytest.raises(ValueError, match="unknown cache ''"):
        BlockCache("")
    for kind, block in itertools.product(KINDS, (BLOCK, None)):
        with pytest.raises(
            ValueError, match=f"cache '{kind}' keeps .*RunningConfidence.* withdraws"
        ):
            rollout_of(lm, rng, rule=RunningConfidence(6), block_length=block, cache=kind)


def test_a_model_that_keeps_nothing_is_named(lm, rng):
    """Stock layers drop a cache while they checkpoint gradients, which they do in training mode
    only."""
    checkpointed = copy.deepcopy(lm)
    checkpoint_gradients(checkpointed)
    with pytest.raises(RuntimeError, match="call lm.eval"):
        rollout_of(checkpointed.train(), rng, cache="dual")
    plain, again = (
        rollout_of(lm, rng, cache="dual"),
        rollout_of(checkpointed.eval(), rng, cache="dual"),
    )
    assert torch.equal(plain.tokens, again.tokens)
