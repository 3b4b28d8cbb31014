"""Train the tiny base model from nothing: one masked diffusion LM for four tasks, with the habits
that RL will unlearn.

`python -m dllm_rl_lite.training.base_model FOLDER` makes the shipped model again. The record of the
run that made it is notebooks/results/pretrain.json and pretrain.csv.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..files import write_atomically
from ..models import MaskedDiffusionLM, encode_prompts, new_tiny_lm
from ..objectives import diffusion_loss
from ..tasks import Task, load_task, split_of
from .checkpoint import complete_checkpoints, load_checkpoint, save_checkpoint, write_log
from .run_dir import own_run_dir


@dataclass(frozen=True)
class PretrainConfig:
    """The recipe of the shipped model."""

    steps: int = 3200  # optimiser steps
    # AdamW's learning rate: straight lines between (step, rate). Two decays were broken off, at
    # 1800 and 2600, when the habits were set anew; each time the rate was warmed up again. This is
    # what the shipped model was trained with.
    lr: tuple = (
        (0, 2e-5),
        (99, 2e-3),
        (1500, 2e-3),
        (1799, 8.04e-4),
        (1800, 2e-3),
        (2100, 2e-3),
        (2599, 3.367e-4),
        (2600, 1.2e-3),
        (3200, 0.0),
    )
    weight_decay: float = 0.02
    seed: int = 0
    rows: dict = field(  # texts per step, by task
        default_factory=lambda: {
            "chain1": 48,
            "chain2": 16,
            "chain": 32,
            "chain4": 24,
            "sudoku4": 40,
            "countdown": 40,
            "python": 32,
        }
    )
    # Share of the habit in the demonstrations: from a step on, of every task, but for those named.
    habits: tuple = (
        (0, 0.6, {}),
        (1800, 0.5, {"sudoku4": 0.6, "python": 0.35}),
        (2600, 0.5, {"chain4": 0.85, "sudoku4": 0.6, "python": 0.35}),
    )

    def habit(self, task: str, step: int) -> float:
        """The share of the habit in the demonstrations of a task at a step."""
        _, share, named = [stage for stage in self.habits if stage[0] <= step][-1]
        return named.get(task, share)


def demonstrations(
    task: Task, n: int, habit_share: float, rng: random.Random
) -> tuple[list[str], list[str]]:
    """n prompts of the training split and one demonstrated completion each."""
    examples = []
    while len(examples) < n:
        example = task.make(rng)
        if split_of(task.key(example)) == "train":
            examples.append(example)
    return [e.prompt for e in examples], [task.demonstrate(e, rng, habit_share) for e in examples]


def encode_completions(
    tokenizer, completions: list[str], length: int, cycle: Sequence[int] = ()
) -> Tensor:
    """Tokenise, and fill up to (N, length).

    Args:
        tokenizer: as the model's.
        completions: N texts.
        length: tokens of the canvas.
        cycle: what follows the first end-of-sequence token, over and over, beginning anew after
            each text (Rainbow Padding, arXiv 2510.03680); empty: end-of-sequence tokens, as in
            LLaDA's fine-tuning.
    Raises:
        ValueError: for a completion that does not fit.
    """
    rows = tokenizer(completions, add_special_tokens=False)["input_ids"]
    longest = max(len(r) for r in rows)
    if longest > length:
        raise ValueError(f"a completion of {longest} tokens does not fit a canvas of {length}")
    tail = [tokenizer.eos_token_id]
    repeated = itertools.cycle(cycle or tail)
    tail += itertools.islice(repeated, length)
    return torch.tensor([(r + tail)[:length] for r in rows])


def lr_at(step: int, config: PretrainConfig) -> float:
    """The learning rate of a step, read off the straight lines of `config.lr`."""
    for (start, low), (end, high) in itertools.pairwise(config.lr):
        if start <= step <= end:
            return low + (high - low) * (step - start) / (end - start)
    raise ValueError(f"lr says nothing about step {step}: its points end at {config.lr[-1][0]}")


def train_step(
    lm: MaskedDiffusionLM,
    optimizer: torch.optim.Optimizer,
    config: PretrainConfig,
    tasks: dict[str, Task],
    step: int,
) -> dict[str, float]:
    """One optimiser step on a batch of every task; all chance comes from (seed, step)."""
    rng = random.Random(f"{config.seed}/{step}")
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    total = sum(config.rows.values())
    losses = {}
    for name, n in config.rows.items():
        prompts, completions = demonstrations(tasks[name], n, config.habit(name, step), rng)
        prompt, mask = encode_prompts(lm.tokenizer, prompts)
        completion = encode_completions(lm.tokenizer, completions, tasks[name].length)
        loss = diffusion_loss(lm, prompt, mask, completion, generator)
        (loss * n / total).backward()
        losses[name] = loss.item()
    if not all(math.isfinite(loss) for loss in losses.values()):
        raise FloatingPointError(
            f"pretraining step {step}: loss {losses} is not finite; "
            f"lower lr ({lr_at(step, config)})"
        )
    torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return losses


def pretrain(
    config: PretrainConfig, out: Path, log_every: int = 50, checkpoint_every: int = 200
) -> None:
    """Train the base model and write it, with a record of the run, to a folder.

    The same call goes on from the last checkpoint.

    Args:
        config: the recipe.
        out: the folder.
        log_every: optimiser steps per printed line and row of the log.
        checkpoint_every: optimiser steps per checkpoint, a multiple of `log_every`.
    """
    with own_run_dir(out):
        identity = asdict(config)
        del identity["steps"]  # a run may go on for longer
        lm = new_tiny_lm(seed=config.seed).train()
        optimizer = torch.optim.AdamW(
            lm.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(lr_at, config=config))
        tasks = {name: load_task(name) for name in config.rows}
        first = 0
        log = []
        seconds = 0.0
        if saved := complete_checkpoints(out):
            first, log = load_checkpoint(saved[-1], lm, optimizer, schedule, identity)
            seconds = log[-1]["seconds"]
        start = time.perf_counter() - seconds
        for step in range(first, config.steps):
            losses = train_step(lm, optimizer, config, tasks, step)
            schedule.step()
            if (step + 1) % log_every == 0:
                seconds = round(time.perf_counter() - start, 1)
                rounded = {name: round(loss, 4) for name, loss in losses.items()}
                log.append({"step": step + 1, "seconds": seconds} | rounded)
                print(" ".join(f"{name} {value}" for name, value in log[-1].items()), flush=True)
            if (step + 1) % checkpoint_every == 0:
                save_checkpoint(out, step + 1, lm, optimizer, schedule, rows=log, identity=identity)
        lm.eval().save_pretrained(out / "model")
        write_log(out / "pretrain.csv", log)
        record = {
            "config": asdict(config),
            "seconds": seconds,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "parameters": sum(p.numel() for p in lm.parameters()),
        }
        write_atomically(out / "pretrain.json", json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the model, its record and its checkpoints")
    pretrain(PretrainConfig(), parser.parse_args().folder)
