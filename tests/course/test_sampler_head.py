"""The sampler head: a new one is the plain sampler, its passes are counted, its distributions are
exact, and training brings them nearer to one token per pass."""

import pytest
import torch
from dllm_rl_course.sampler_head import (
    SamplerHead,
    denoise_with_head,
    head_loss,
    pair_distributions,
    passes,
    total_variation,
    trained_head,
)

from dllm_rl_lite.estimators import text_distribution
from dllm_rl_lite.models import encode_prompts
from dllm_rl_lite.sampler import Schedule, denoise

PROMPTS = ["6-4", "1+2", "9+9"]


@pytest.fixture
def prompts(lm):
    return encode_prompts(lm.tokenizer, PROMPTS)


def moved(lm, seed=0):
    """A head that is no longer the plain sampler."""
    head = SamplerHead(lm, width=16)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.last.weight.normal_(0.0, 0.5, generator=generator)
    return head


@pytest.mark.parametrize("steps", [2, 4, 8])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_new_head_is_the_plain_sampler(lm, prompts, rng, steps, temperature):
    head = SamplerHead(lm)
    plain = denoise(
        lm, prompts, 8, Schedule(steps, "entropy"), temperature=temperature, generator=rng()
    )
    headed = denoise_with_head(lm, head, prompts, 8, steps, temperature, rng())
    assert torch.equal(headed, plain.tokens)


def test_a_new_head_keeps_every_bit_of_a_state(lm):
    states, before, embedded = torch.randn(3, 20, lm.backbone.config.hidden_size)
    head = SamplerHead(lm)
    assert torch.equal(lm.head(head(states, before, embedded)), lm.head(states))
    other = moved(lm)(states, before, embedded)
    assert not torch.equal(other, states)


def test_with_one_token_per_pass_a_head_has_nothing_to_do(lm, prompts, rng):
    plain = denoise(lm, prompts, 8, Schedule(8, "entropy"), temperature=1.0, generator=rng())
    headed = denoise_with_head(lm, moved(lm), prompts, 8, 8, 1.0, rng())
    assert torch.equal(headed, plain.tokens)


def test_a_pass_fills_its_share_and_asks_the_model_once(lm, spy, prompts):
    watched = spy(lm)
    watched.forward = lambda *arguments, **kw: (watched.calls.append(0), lm(*arguments, **kw))[1]
    found = list(passes(watched, moved(lm), prompts, 8, 2))
    assert len(found) == len(watched.calls) == 2
    for number, now in enumerate(found):
        assert int((now.canvas != lm.mask_id).sum()) == 4 * number * len(PROMPTS)
        assert bool((now.canvas.gather(1, now.place) == lm.mask_id).all())
    assert torch.equal(found[0].after(4), found[1].canvas)


def test_steps_must_divide_the_length(lm, prompts):
    with pytest.raises(ValueError, match="steps must divide the length 8, got 3"):
        next(passes(lm, SamplerHead(lm), prompts, 8, 3))


@pytest.mark.parametrize("pair, order", [((0, 2), "left_to_right"), ((2, 0), "right_to_left")])
def test_pairs_are_the_decoders_own_distributions(lm, pair, order):
    """One token per pass, and both in one, as the package enumerates them."""
    prompts = encode_prompts(lm.tokenizer, PROMPTS[:1])
    canvas = torch.tensor([[lm.mask_id, 20, lm.mask_id]])
    found = pair_distributions(lm, moved(lm), prompts, canvas, pair)
    vocabulary = torch.arange(len(lm.tokenizer))
    choices = [vocabulary, torch.tensor([20]), vocabulary]
    for name, steps in (("sequential", 2), ("plain", 1)):
        exact = text_distribution(
            lm, PROMPTS[0], choices, Schedule(steps, order), anchor=canvas[0], limit=2**15
        )
        first, second = exact.texts[:, pair[0]], exact.texts[:, pair[1]]
        assert torch.allclose(found[name][first, second], exact.prob, atol=1e-6)
    for distribution in found.values():
        assert float(distribution.sum()) == pytest.approx(1, abs=1e-9)


def test_a_pass_draws_pairs_from_the_heads_distribution(lm, rng):
    n = 4000
    prompt = encode_prompts(lm.tokenizer, PROMPTS[:1])
    head = moved(lm)
    many = tuple(part.expand(n, -1) for part in prompt)
    now = next(passes(lm, head, many, 2, 1, 1.0, rng()))
    pair = now.place[0].tolist()
    wanted = pair_distributions(lm, head, prompt, now.canvas[:1], pair)["head"]
    found = torch.zeros_like(wanted)
    found.index_put_(tuple(now.token.T), torch.ones(n).double() / n, accumulate=True)
    error = (wanted * (1 - wanted) / n).sqrt()
    assert bool(((found - wanted).abs() <= 5 * error + 1 / n).all())


def test_the_loss_is_zero_where_head_and_model_agree(lm, prompts):
    """A canvas whose predictions do not depend on each other: the model is told to see nothing."""

    class Blind:
        def __getattr__(self, name):
            return getattr(lm, name)

        def __call__(self, ids, attention_mask, where, states=False):
            return lm(torch.full_like(ids, 9), attention_mask, where, states=states)

    now = next(passes(Blind(), SamplerHead(lm), prompts, 4, 1))
    assert head_loss(Blind(), SamplerHead(lm), prompts, now).item() == pytest.approx(0, abs=1e-6)
    assert head_loss(Blind(), moved(lm), prompts, now).item() > 0.01


def test_training_lowers_the_loss_and_leaves_the_model(new_lm):
    lm = new_lm(seed=3)
    weights = [p.clone() for p in lm.parameters()]
    losses = trained_head(lm, "chain1", 2, 16, rows=4)[1]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    assert all(torch.equal(*pair) for pair in zip(weights, lm.parameters(), strict=True))
    assert all(p.grad is None for p in lm.parameters())
    assert trained_head(lm, "chain1", 2, 1, rows=4)[1] == losses[:1]


def test_total_variation():
    p = torch.tensor([0.5, 0.5, 0.0])
    assert total_variation(p, p) == 0
    assert total_variation(p, torch.tensor([0.0, 0.5, 0.5])) == 0.5
