"""A small causal model, for three statements that hold only for autoregressive models.

It is the tiny network with its attention left causal: a position sees itself and what stands before
it. So nothing that is written later changes its state, and states can be kept, shared and left out.
In a diffusion model every position sees the whole canvas, and none of this is exact.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaForCausalLM

from dllm_rl_lite.models import encode_prompts, new_tiny_lm
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.training.base_model import demonstrations, encode_completions

from .falling_depth import kept


def causal_net(seed: int = 0) -> LlamaForCausalLM:
    """An untrained network of 3 layers and 64 hidden units that sees only what stands before."""
    lm = new_tiny_lm(hidden=64, layers=3, feed_forward=192, seed=seed)
    for layer in lm.backbone.model.layers:
        layer.self_attn.is_causal = True  # `MaskedDiffusionLM` has switched it off
    return lm.backbone.eval()


def trained_net(
    tokenizer, tasks: Sequence[str], steps: int, seed: int = 0, rows: int = 32, lr: float = 3e-3
) -> tuple[LlamaForCausalLM, list[float]]:
    """A causal network that has learnt to continue the prompts of some tasks from nothing, half of
    the demonstrations with the habit.

    Args:
        tokenizer: of the tiny world.
        tasks: names; the prompts of each have one length.
        steps: optimiser steps, each on `rows` texts of every task.
        seed: of the weights and the demonstrations.
        rows: texts.
        lr: AdamW's learning rate at the start; it falls to 0 in a straight line.
    Returns:
        the network, and the loss of each step in nats per token of a completion.
    """
    net = causal_net(seed).train()
    rng = random.Random(seed)
    problems = [load_task(name) for name in tasks]
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    losses = []
    for _ in range(steps):
        total = 0.0
        for task in problems:
            prompts, texts = demonstrations(task, rows, 0.5, rng)
            ids = encode_prompts(tokenizer, prompts)[0]
            completion = encode_completions(tokenizer, texts, task.length)
            total += next_token_loss(net, ids, completion) / len(problems)
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(total.item())
    return net.eval(), losses


def next_token_loss(net: LlamaForCausalLM, ids: Tensor, completion: Tensor) -> Tensor:
    """Cross-entropy of completions (N, L) after prompts (N, P) without padding, in nats per
    token."""
    text = torch.cat([ids, completion], 1)
    logits = net(text[:, :-1], use_cache=False).logits[:, ids.shape[1] - 1 :]
    return nn.functional.cross_entropy(logits.flatten(0, 1), completion.flatten())


@torch.no_grad()
def write(net: LlamaForCausalLM, ids: Tensor, length: int) -> Tensor:
    """(N, L) the likeliest tokens after prompts (N, P) without padding, one after the other; every
    position is computed once."""
    cache = DynamicCache()
    tokens = []
    new = ids
    for _ in range(length):
        logits = net(new, past_key_values=cache, use_cache=True).logits
        new = logits[:, -1:].argmax(-1)
        tokens.append(new)
    return torch.cat(tokens, 1)


@torch.no_grad()
def prompt_states(net: LlamaForCausalLM, ids: Tensor, completion: Tensor) -> Tensor:
    """(N, P, H) states of a prompt (1, P) in front of each of the completions (N, L)."""
    text = torch.cat([ids.expand(len(completion), -1), completion], 1)
    return net.model(text, use_cache=False).last_hidden_state[:, : ids.shape[1]]


@torch.no_grad()
def logits_with_shared_prompt(net: LlamaForCausalLM, ids: Tensor, completion: Tensor) -> Tensor:
    """(N, L, V) logits after each token of the completions (N, L); the prompt (1, P) is computed
    once for all of them."""
    cache = DynamicCache()
    net(ids, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(len(completion))
    return net(completion, past_key_values=cache, use_cache=True).logits


class GatedLoRA(nn.Module):
    """y = W x + gate * B A x: an adapter that acts only at positions where the gate is 1.

    Args:
        base: the linear map W.
        r: rank.
        gate: (N, S, 1) float, shared by all adapters of a model; its values may be changed.
    Source: multi-token prediction (arXiv 2507.11851), where the gate is open at mask tokens.
    """

    def __init__(self, base: nn.Linear, r: int, gate: Tensor):
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, r, bias=False)
        self.up = nn.Linear(r, base.out_features, bias=False)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.gate * self.up(self.down(x))


def add_gated_adapters(net: LlamaForCausalLM, gate: Tensor, r: int = 4, seed: int = 0) -> None:
    """Put random gated adapters on the value and feed-forward maps of every layer, in place."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in net.model.layers:
            layer.self_attn.v_proj = GatedLoRA(layer.self_attn.v_proj, r, gate)
            layer.mlp.down_proj = GatedLoRA(layer.mlp.down_proj, r, gate)


@torch.no_grad()
def exit_at_once(net: LlamaForCausalLM, ids: Tensor, depth: Sequence[int]) -> Tensor:
    """(N, S, V) logits of texts (N, S) whose position s computes `depth[s]` layers, in one pass.

    The depth must not rise, so the positions that compute a layer are the first ones, and each of
    them finds what it attends to.
    """
    if list(depth) != sorted(depth, reverse=True):
        raise ValueError(f"depth must not rise from one position to the next, got {depth!r}")
    hidden, turn = embedded(net, ids, 0)
    for number, layer in enumerate(net.model.layers):
        count = sum(number in kept(d, len(net.model.layers)) for d in depth)
        if count == 0:
            continue
        here = tuple(part[:, :count] for part in turn)
        computed = layer(hidden[:, :count], position_embeddings=here)
        hidden = torch.cat([computed, hidden[:, count:]], 1)
    return net.lm_head(net.model.norm(hidden))


@torch.no_grad()
def exit_one_by_one(net: LlamaForCausalLM, ids: Tensor, depth: Sequence[int]) -> Tensor:
    """The same, one position after the other: each is computed once, and its keys and values are
    kept."""
    cache = DynamicCache()
    logits = []
    for position, layers in enumerate(depth):
        hidden, turn = embedded(net, ids[:, position : position + 1], position)
        for number in kept(layers, len(net.model.layers)):
            layer = net.model.layers[number]
            hidden = layer(hidden, position_embeddings=turn, past_key_values=cache)
        logits.append(net.lm_head(net.model.norm(hidden)))
    return torch.cat(logits, 1)


def embedded(net: LlamaForCausalLM, ids: Tensor, first: int) -> tuple[Tensor, tuple]:
    """(N, S, H) embeddings, and the rotations of S positions from `first` on."""
    hidden = net.model.embed_tokens(ids)
    position = torch.arange(first, first + ids.shape[1])[None]
    return hidden, net.model.rotary_emb(hidden, position_ids=position)
