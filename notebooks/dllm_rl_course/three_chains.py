"""Fine-tuning on the spot; and a base model for the task `three_chains`, which the shipped one
cannot write."""

from __future__ import annotations

from functools import partial

import torch

from dllm_rl_lite.models import MaskedDiffusionLM, load_lm
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.training.base_model import PretrainConfig, lr_at, train_step

NAME = "three_chains"
LR = 1e-3


def teach(lm: MaskedDiffusionLM, task: str, steps: int, seed: int = 0, rows: int = 32) -> None:
    """Train a model in place on demonstrations of a task, half of them with the habit (a minus is
    worked as a plus).

    Args:
        lm: the model.
        task: its name.
        steps: optimiser steps, two or more, about a third of a second each on one core.
        seed: of the demonstrations and their masks.
        rows: demonstrations per step.
    """
    rates = ((0, LR / 30), (min(30, steps // 2), LR), (steps, 0.0))
    config = PretrainConfig(
        steps=steps, lr=rates, seed=seed, rows={task: rows}, habits=((0, 0.5, {}),)
    )
    optimizer = torch.optim.AdamW(lm.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(lr_at, config=config))
    tasks = {task: load_task(task)}
    lm.train()
    for step in range(steps):
        train_step(lm, optimizer, config, tasks, step)
        schedule.step()
    lm.eval()


def taught(steps: int, seed: int = 0, rows: int = 32) -> MaskedDiffusionLM:
    """The shipped model after some steps of `teach` on `three_chains`."""
    lm = load_lm("tiny")
    teach(lm, NAME, steps, seed, rows)
    return lm
