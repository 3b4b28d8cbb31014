"""The head in chunks: the same numbers and the same gradient, from less memory."""

import json
import os
import subprocess
import sys

import pytest
import torch

from dllm_rl_lite.estimators import View, one_step, token_logprobs
from dllm_rl_lite.models import encode_prompts
from dllm_rl_lite.sampler import Schedule, denoise

PROMPTS = ["6-4+7-1", "1+2", "f(1)=3", "9"]


@pytest.fixture(scope="module")
def rollout(lm):
    g = torch.Generator().manual_seed(0)
    return denoise(lm, PROMPTS * 2, 8, Schedule(4, "random"), temperature=1.0, generator=g)


def value_and_gradient(lm, rollout, view, temperature, head_chunk):
    values = token_logprobs(lm, rollout, view, temperature, head_chunk=head_chunk)
    slope = torch.randn(values.shape, generator=torch.Generator().manual_seed(1))
    gradient = torch.autograd.grad((values * slope).sum(), list(lm.parameters()))
    return values.detach(), torch.cat([part.flatten() for part in gradient])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("head_chunk", [1, 5, 64, 1000])
def test_value_and_gradient_are_those_of_the_whole_head(lm, rollout, rng, head_chunk, temperature):
    """Eight rows of which some are equal, so that the body is computed once for them."""
    (view,) = one_step(rollout, rng(0))
    value, gradient = value_and_gradient(lm, rollout, view, temperature, 0)
    mine, slope = value_and_gradient(lm, rollout, view, temperature, head_chunk)
    torch.testing.assert_close(mine, value, rtol=0, atol=1e-5)
    assert float((slope - gradient).norm()) < 1e-6 * float(gradient.norm())


def test_without_a_gradient_and_with_nothing_scored(lm, rollout, rng):
    (view,) = one_step(rollout, rng(0))
    with torch.no_grad():
        whole = token_logprobs(lm, rollout, view)
        chunked = token_logprobs(lm, rollout, view, head_chunk=3)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-5)
    none = torch.zeros_like(view.scored)
    empty = View(view.tokens, none, none.float())
    assert not token_logprobs(lm, rollout, empty, head_chunk=3).any()


def test_the_head_of_the_states_is_the_models_logits(lm):
    ids, mask = encode_prompts(lm.tokenizer, [*PROMPTS, *PROMPTS])
    states = lm(ids, mask, mask, states=True)
    assert states.shape == (int(mask.sum()), 32)
    torch.testing.assert_close(lm.head(states), lm(ids, mask, mask), rtol=0, atol=1e-5)


MEMORY = """
import json, torch
from dataclasses import replace
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
from dllm_rl_lite.estimators import View, token_logprobs
from dllm_rl_lite.models import MaskedDiffusionLM, build_tokenizer
from dllm_rl_lite.sampler import Decoding, Schedule
from dllm_rl_lite.sampler.blank import blank_rollout

torch.set_num_threads(1)
shape = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1)
config = LlamaConfig(vocab_size=20000, num_key_value_heads=1, **shape)
lm = MaskedDiffusionLM(LlamaForCausalLM(config), build_tokenizer())
prompts = torch.full((8, 1), 10), torch.ones(8, 1).bool()
hidden = torch.ones(8, 128).bool()
decoding = Decoding(rule=Schedule(1), length=128)
rollout = blank_rollout(lm, prompts, decoding, torch.tensor(128), None, None)
rollout = replace(rollout, tokens=torch.full((8, 128), 20))
tokens = torch.full((8, 129), lm.mask_id)
tokens[:, 0] = torch.arange(10, 18)
view = View(tokens, hidden, hidden.float())
peaks = []
for chunk in (16, 256, 1024):
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    token_logprobs(lm, rollout, view, head_chunk=chunk).sum().backward()
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in status if line.startswith("VmHWM")]
    peaks.append(1024 * int(peak))
print(json.dumps(peaks))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts the peak of a process")
def test_peak_memory_falls_with_the_chunk():
    """In a process of its own, from the smallest chunk up: each raises the peak by at least what
    its logits are larger than the last one's."""
    command = [sys.executable, "-c", MEMORY]
    # What is freed goes back at once: no peak hides in memory that is held for later use.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    child = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert not child.returncode, child.stderr[-2000:]
    small, middle, whole = json.loads(child.stdout.splitlines()[-1])
    a_token = 4 * 20000  # bytes of its logits
    assert middle - small > (256 - 16) * a_token
    assert whole - middle > (1024 - 256) * a_token
