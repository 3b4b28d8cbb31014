"""A sampler head, falling depth and a causal model: `python benchmarks/heads.py` (five minutes on
one core) makes notebooks/results/heads.csv; run again, it goes on where it stopped.

It trains a head on the frozen model, the model at random depth with three seeds, and a small causal
model from nothing, each in less than a minute, and writes test problems of `chain2`. `right` is the
share of right answers. `valid` is the share of texts without a mistake but the habit: half of the
demonstrations have it, so a model that has learnt them well writes only valid texts. `apart` is the
total variation of two tokens from the distribution of one token per pass, enumerated, on average
over problems. Nothing here is timed.
"""

import argparse
import random
from pathlib import Path

import pandas as pd
import torch
from dllm_rl_course.causal import trained_net, write
from dllm_rl_course.falling_depth import SkippingLM, depths, random_depth
from dllm_rl_course.sampler_head import (
    SamplerHead,
    denoise_with_head,
    pair_distributions,
    total_variation,
    trained_head,
)
from result_tables import record

from dllm_rl_lite.models import MaskedDiffusionLM, decode, encode_prompts, load_lm
from dllm_rl_lite.sampler import Schedule, denoise
from dllm_rl_lite.tasks import Example, Task, load_task
from dllm_rl_lite.training.base_model import encode_completions

OUT = Path(__file__).parents[1] / "notebooks" / "results" / "heads.csv"
KEY = ("part", "model", "task", "seed", "temperature", "passes", "least")
TASK = "chain2"
SEEDS = {"head": [0, 1, 2], "depth": [0, 1, 2], "causal": [0]}
PROBLEMS = {"chain1": 19, "chain2": 128}  # of the test split, which has 19 and 196
TOGETHER = 4  # tokens in a pass of the head
ROWS = 16  # texts in a batch
ROLLOUTS = 80  # batches of texts to train a head on
TUNING = 400  # optimiser steps at random depth
STEPS = 800  # optimiser steps of the causal model
LAYERS = 5
# (passes, smallest depth): falling depth, and fewer passes of all layers.
DEPTHS = ((8, 5), (8, 4), (8, 3), (8, 2), (6, 5), (5, 5), (4, 5))
# Places of chain2's canvas, a+b=c,c+d=e<answer>e</answer>: two that must agree, and what else is
# blank. They are enumerated on so many problems.
PAIRED = 16
PAIRS = {"result and copy": ((4, 6), (10, 12)), "result and answer": ((10, 12), ())}


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    made.add_argument("--seeds", type=int, nargs="*", help="of all parts, in place of SEEDS")
    made.add_argument("--out", default=str(OUT), help="the table")
    return made.parse_args(arguments)


def scores(tokenizer, task: Task, examples: list[Example], tokens: torch.Tensor) -> dict:
    """The shares of right and of valid texts."""
    texts = decode(tokenizer, tokens)
    valid = 0
    for example, text in zip(examples, texts, strict=True):
        right = task.demonstrate(example, random.Random(0), 0.0)
        valid += text == right or task.shows_habit(example, text)
    solved = sum(task.solved(examples, texts))
    return {
        "problems": len(texts),
        "right": solved / len(texts),
        "valid": valid / len(texts),
    }


def row_of(part: str, model: str, seed: int, **measured) -> dict:
    plain = {"task": TASK, "temperature": 0.0, "passes": 0, "least": LAYERS}
    return {"part": part, "model": model, "seed": seed} | plain | measured


def head_rows(lm: MaskedDiffusionLM, seed: int) -> list[dict]:
    """One token per pass, four per pass, and four per pass with a head; and pairs of tokens."""
    task = load_task(TASK)
    examples = task.sample(PROBLEMS[TASK], "test", 0)
    prompts = encode_prompts(lm.tokenizer, [example.prompt for example in examples])
    few = task.length // TOGETHER
    new = SamplerHead(lm)
    head, losses = trained_head(lm, TASK, few, ROLLOUTS, seed, ROWS)
    rows = []
    for temperature in (0.0, 1.0):
        for name, used, passes in (
            ("plain", new, task.length),
            ("plain", new, few),
            ("head", head, few),
        ):
            generator = torch.Generator().manual_seed(seed)
            tokens = denoise_with_head(
                lm, used, prompts, task.length, passes, temperature, generator
            )
            found = scores(lm.tokenizer, task, examples, tokens)
            found |= {"temperature": temperature, "passes": passes}
            found["layer_passes"] = LAYERS * passes
            rows.append(row_of("head", name, seed, **found))
    rows[-1]["loss_first"] = sum(losses[:5]) / 5
    rows[-1]["loss_last"] = sum(losses[-5:]) / 5
    return rows + pair_rows(lm, head, task, examples, seed)


def pair_rows(
    lm: MaskedDiffusionLM, head: SamplerHead, task: Task, examples: list[Example], seed: int
) -> list[dict]:
    """Total variation of two tokens of one pass from one token per pass, on average over problems
    with a subtraction in the line that is written."""
    rows = []
    for kind, (pair, others) in PAIRS.items():
        apart = {"plain": [], "head": []}
        for example in examples:
            text = task.demonstrate(example, random.Random(0), 0.0)
            canvas = encode_completions(lm.tokenizer, [text], task.length)
            sign = text[pair[0] - 3]
            if sign != "-" or len(apart["head"]) == PAIRED:
                continue
            canvas[0, [*pair, *others]] = lm.mask_id
            prompt = encode_prompts(lm.tokenizer, [example.prompt])
            found = pair_distributions(lm, head, prompt, canvas, pair)
            for name, values in apart.items():
                values.append(total_variation(found[name], found["sequential"]))
        for name, values in apart.items():
            mean = sum(values) / len(values)
            rows.append(row_of(kind, name, seed, temperature=1.0, problems=len(values), apart=mean))
    return rows


def depth_rows(lm: MaskedDiffusionLM, seed: int) -> list[dict]:
    """Falling depth and fewer passes of all layers: the model as it is (the same for every seed, so
    once), and after training at random depth; of that one also the depths the other way round."""
    least = min(depth for _, depth in DEPTHS)
    trained = random_depth(TASK, TUNING, least, seed, ROWS)
    rows = [depth_row(trained, "random depth", seed, *setting) for setting in DEPTHS]
    for passes, least in DEPTHS:
        if least < LAYERS:
            rows.append(depth_row(trained, "random depth", seed, passes, least, rising=True))
    if seed == 0:
        rows += [depth_row(lm, "shipped", seed, *setting) for setting in DEPTHS]
    return rows


def depth_row(
    lm: MaskedDiffusionLM, name: str, seed: int, passes: int, least: int, rising: bool = False
) -> dict:
    task = load_task(TASK)
    examples = task.sample(PROBLEMS[TASK], "test", 0)
    prompts = [example.prompt for example in examples]
    plan = depths(passes, LAYERS, least)
    if rising:
        plan.reverse()
    skipping = SkippingLM(lm, plan)
    tokens = denoise(skipping, prompts, task.length, Schedule(passes)).tokens
    found = scores(lm.tokenizer, task, examples, tokens)
    found["layer_passes"] = skipping.layer_passes / len(prompts)
    part = "rising depth" if rising else "depth"
    return row_of(part, name, seed, passes=passes, least=least, **found)


def causal_rows(lm: MaskedDiffusionLM, seed: int) -> list[dict]:
    """A causal model of three layers, trained from nothing on two tasks."""
    net, losses = trained_net(lm.tokenizer, list(PROBLEMS), STEPS, seed, ROWS)
    rows = []
    for name, n in PROBLEMS.items():
        task = load_task(name)
        examples = task.sample(n, "test", 0)
        ids = encode_prompts(lm.tokenizer, [example.prompt for example in examples])[0]
        found = scores(lm.tokenizer, task, examples, write(net, ids, task.length))
        found |= {"task": name, "passes": task.length, "least": 3}
        found["layer_passes"] = 3 * task.length
        found["loss_first"] = sum(losses[:5]) / 5
        found["loss_last"] = sum(losses[-5:]) / 5
        rows.append(row_of("causal", "causal", seed, **found))
    return rows


PARTS = {"head": head_rows, "depth": depth_rows, "causal": causal_rows}


def main(arguments: list[str] | None = None) -> None:
    o = options(arguments)
    out = Path(o.out)
    known = set()
    if out.is_file():
        known = set(pd.read_csv(out)[["part", "seed"]].itertuples(index=False, name=None))
    lm = load_lm("tiny")
    for part in o.parts:
        for seed in o.seeds or SEEDS[part]:
            if (part, seed) in known:
                continue
            rows = PARTS[part](lm, seed)
            record(rows, out, KEY)
            for row in rows:
                print(" ".join(f"{name} {value}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
