"""The texts that the small models of other bodies learn from, and the loop that trains them."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor

from dllm_rl_lite.models import MaskedDiffusionLM
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.training.base_model import demonstrations

TASKS = ("chain1", "chain2")
BARE = 0.45  # share of the texts that are an answer without working


def with_fewer_lines(text: str, rng: random.Random) -> str:
    """The text without some of its first lines of working: without all of them with probability
    BARE, otherwise with 1, 2, ... of them, equally likely."""
    working, answer = text.split("<answer>")
    lines = working.split(",")
    kept = 0 if rng.random() < BARE else rng.randint(1, len(lines))
    return ",".join(lines[len(lines) - kept :]) + "<answer>" + answer


def lessons(n: int, rng: random.Random, varied: bool) -> tuple[list[str], list[str]]:
    """n prompts of each task with a right completion; varied: with all or fewer of its lines."""
    prompts = []
    texts = []
    for name in TASKS:
        more, completions = demonstrations(load_task(name), n, 0.0, rng)
        prompts += more
        texts += completions
    if varied:
        texts = [with_fewer_lines(text, rng) for text in texts]
    return prompts, texts


def train_body(
    lm: MaskedDiffusionLM,
    loss: Callable[[list[str], list[str], torch.Generator], Tensor],
    steps: int,
    *,
    seed: int,
    varied: bool,
    rows: int = 8,
    lr: float = 1e-3,
) -> list[float]:
    """Train a small model on right completions; all chance comes from (seed, step).

    Args:
        lm: the model; it learns.
        loss: prompts, completions, generator -> scalar.
        steps: optimiser steps; the learning rate rises for the first 30 and then falls to 0.
        seed: of the texts and their masks.
        varied: do texts have fewer lines than all?
        rows: texts of each task per step.
        lr: the highest learning rate.
    Returns:
        the loss of each step.
    """
    optimizer = torch.optim.AdamW(lm.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.02)
    losses = []
    lm.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min((step + 1) / 30, 1 - step / steps)
        prompts, texts = lessons(rows, random.Random(f"{seed}/{step}"), varied)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        value = loss(prompts, texts, generator)
        value.backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(value.item())
    lm.eval()
    return losses
