"""Falling depth: all layers are the model itself, the depth never rises, layer passes are
counted."""

import pytest
import torch
from dllm_rl_course import falling_depth
from dllm_rl_course.falling_depth import SkippingLM, depths, kept, random_depth
from hypothesis import given
from hypothesis import strategies as st

from dllm_rl_lite.models import ShallowLM, new_tiny_lm
from dllm_rl_lite.sampler import Schedule, denoise

PROMPTS = ["6-4", "1+2", "9+9"]


@given(steps=st.integers(1, 40), layers=st.integers(1, 12), data=st.data())
def test_depth_starts_whole_never_rises_and_ends_at_least(steps, layers, data):
    least = data.draw(st.integers(1, layers))
    found = depths(steps, layers, least)
    assert len(found) == steps and found[0] == layers
    assert found == sorted(found, reverse=True)
    assert steps == 1 or found[-1] == least


@given(layers=st.integers(1, 12), data=st.data())
def test_a_smaller_depth_keeps_a_part_of_a_larger_one(layers, data):
    warm = data.draw(st.integers(1, layers))
    found = [kept(depth, layers, warm) for depth in range(warm, layers + 1)]
    assert [len(numbers) for numbers in found] == list(range(warm, layers + 1))
    assert all(numbers[:warm] == list(range(warm)) for numbers in found)
    for small, large in zip(found, found[1:], strict=False):
        assert set(small) < set(large)
        assert set(large) - set(small) == {layers - len(small) + warm - 1}, "the lowest of the rest"


def test_the_course_skips_lower_middle_layers():
    assert [kept(depth, 5) for depth in (5, 4, 3, 2)] == [
        [0, 1, 2, 3, 4],
        [0, 2, 3, 4],
        [0, 3, 4],
        [0, 4],
    ]


def test_all_layers_are_the_model_to_the_bit(lm):
    plain = denoise(lm, PROMPTS, 8, Schedule(4))
    whole = SkippingLM(lm, depths(4, 2, 2))
    found = denoise(whole, PROMPTS, 8, Schedule(4))
    assert torch.equal(found.tokens, plain.tokens)
    assert torch.equal(found.logprob, plain.logprob)
    assert whole.layer_passes == 4 * 2 * len(PROMPTS)


def test_each_pass_computes_its_layers_and_no_more():
    lm = new_tiny_lm(hidden=16, layers=5, heads=2, feed_forward=16, max_length=32).eval()
    computed = []
    for number, layer in enumerate(lm.backbone.model.layers):
        layer.register_forward_hook(lambda *_, number=number: computed.append(number))
    plan = depths(4, 5, 2)
    falling = SkippingLM(lm, plan)
    denoise(falling, PROMPTS, 8, Schedule(4))
    assert plan == [5, 4, 3, 2]
    assert computed == [0, 1, 2, 3, 4, 0, 2, 3, 4, 0, 3, 4, 0, 4]
    assert falling.layer_passes == 14 * len(PROMPTS)


def test_a_constant_depth_is_the_shallow_model(lm):
    ids = torch.tensor([[9, 10, lm.mask_id]])
    real = torch.ones_like(ids).bool()
    where = ids == lm.mask_id
    found = SkippingLM(lm, [1])(ids, real, where)
    assert torch.equal(found, ShallowLM(lm, [0])(ids, real, where))


def test_impossible_depths():
    with pytest.raises(ValueError, match="least must be in 1..5, got 6"):
        depths(4, 5, 6)
    with pytest.raises(ValueError, match="depth must be in 1..5, got 0"):
        kept(0, 5)


def test_training_draws_depths_down_to_the_least(monkeypatch):
    plans = []

    class Noting(SkippingLM):
        def __call__(self, *arguments):
            before = self.layer_passes
            found = super().__call__(*arguments)
            plans[-1].append((self.layer_passes - before) // 2)
            return found

    tiny = new_tiny_lm(hidden=16, layers=3, heads=2, feed_forward=16, max_length=32)
    monkeypatch.setattr(falling_depth, "load_lm", lambda name: tiny)
    monkeypatch.setattr(falling_depth, "SkippingLM", Noting)
    for least, wanted in ((2, {2, 3}), (3, {3})):
        plans.append([])
        lm = random_depth("chain1", steps=8, least=least, rows=2)
        assert set(plans[-1]) == wanted and len(plans[-1]) == 8
        assert not lm.training
