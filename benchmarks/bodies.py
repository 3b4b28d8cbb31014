"""Other bodies, measured: `python benchmarks/bodies.py` (eight minutes on one free core) makes
notebooks/results/bodies.csv, row by row; run again, it goes on where it stopped. No weights are
kept.

Each model starts from the shipped one and learns for 300 steps of 16 right completions of `chain1`
and `chain2`. For padding these have some of their lines of working only: the answer alone in 45 of
100, otherwise one or both lines, so that the length of a text is uncertain. For the other bodies
they have all lines. All texts are of test problems of `chain2`.

padding      end padding: end-of-sequence tokens to the last position; rainbow: one of them, then a
             cycle of seven padding tokens; "all lines": texts with all their lines. Canvas 24 in
             training; 24, 48 and 96 here, greedily, the surest two tokens a pass. `first_end` is
             the mean position of the first end token, the canvas if there is none; `low` and
             `high` are its quartiles; `tokens` the mean number of tokens before the first end or
             padding token, `bare` the share of texts without working, `right` of right answers
             before the first end token.
insertion    no canvas: the likeliest insertion, until stopping is likelier.
any-subset   one sequence of twice the length for all conditionals; `calls` of a text of 16 tokens,
             left to right and greedily, without drafts (setting 1) and with up to 4 a round.
soft masks   the shipped model at temperature 1, eight texts a problem, the blanks leaning towards
             what the last pass said by a share a (setting): `right` is pass@1, `pass8` pass@8.

Predictions, written before the first run (after a look at canvas 24 with end padding and seed 99,
which chose the 45 of 100):

1. By exact probabilities a perfect model with end padding writes the answer alone: at the first
   pass an end at position 8 has 0.725, the "=" of a line 0.55. With the cycle the "=" is surest.
   So at each canvas the first end of `end` comes at least two tokens before that of `rainbow`.
2. From canvas 24 to 96 the first end of `end` moves forward; that of `rainbow` moves by less than
   two tokens.
3. `rainbow` has more right answers at each canvas, at 96 by ten points or more.
4. The insertion model is right in no more than 60 of 100 texts (it unlearns the habit, but these
   are few steps for another body), and most texts have 14 tokens.
5. With drafts the any-subset model needs at most 11 calls for 16 tokens, of the same text.
6. Soft masks with a = 0.1 change pass@1 and pass@8 by less than their intervals; with a = 0.5 both
   fall: the model has never seen such blanks.

Written after seed 0 of "end padding" and "rainbow", before the first run with all lines:

7. Then the prompt tells the length, so at canvas 24 neither ends early (first end from 13 to 15).
   Larger canvases were never seen: at 48 `rainbow` stays within two tokens of that, and
   `end padding` does not; at 96 `end padding` has its first end before position 5, and `rainbow`
   keeps the longer text.

A first try with 150 steps of 32 texts, seed 0, was thrown away: the cycle was not learnt (right at
canvas 24: 9 % with the cycle, 22 % with end tokens; at 96 no end token at all). End padding already
had its first end at 8.8, 2.9 and 0.3. The number of texts stayed, the steps doubled, and `tokens`
was added; the predictions stayed.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from dllm_rl_course import any_subset, insertion
from dllm_rl_course.bodies import train_body
from dllm_rl_course.padding import add_padding_tokens, cut, first_end
from dllm_rl_course.soft_masks import SoftMaskLM
from result_tables import record

from dllm_rl_lite.models import MaskedDiffusionLM, decode, encode_prompts, load_lm
from dllm_rl_lite.objectives import diffusion_loss
from dllm_rl_lite.sampler import Schedule, denoise
from dllm_rl_lite.tasks import Example, load_task
from dllm_rl_lite.training.base_model import encode_completions

OUT = Path(__file__).parents[1] / "notebooks" / "results" / "bodies.csv"
KEY = ("body", "seed", "setting")
STEPS = 300
CANVASES = (24, 48, 96)
COLOURS = 7
AHEAD = (1, 4)
SHARES = (0.0, 0.1, 0.5)
SAMPLES = 8
TASK = load_task("chain2")


def right_of(examples: list[Example], texts: list[str]) -> float:
    """The share of texts with the right answer."""
    rewards = TASK.rewards_of(examples, texts)
    return sum(rewards) / len(rewards)


def masked_loss_of(lm: MaskedDiffusionLM, cycle: list[int]) -> Callable:
    """The loss of a masked diffusion model on canvases of 24 tokens."""

    def loss(prompts, texts, generator):
        completion = encode_completions(lm.tokenizer, texts, CANVASES[0], cycle)
        return diffusion_loss(lm, *encode_prompts(lm.tokenizer, prompts), completion, generator)

    return loss


def padding(
    colours: int, varied: bool, seed: int, examples: list[Example], steps: int
) -> list[dict]:
    """Train with so many padding tokens; a row for each canvas. Varied: some texts have fewer
    lines."""
    lm = load_lm("tiny")
    cycle = add_padding_tokens(lm, colours, seed)
    train_body(lm, masked_loss_of(lm, cycle), steps, seed=seed, varied=varied)
    prompts = [example.prompt for example in examples]
    not_text = torch.tensor([lm.eos_id, *cycle])
    rows = []
    for length in CANVASES:
        tokens = denoise(lm, prompts, length, Schedule(length // 2)).tokens
        texts = decode(lm.tokenizer, cut(tokens, lm.eos_id))
        ends = first_end(tokens, lm.eos_id).double()
        row = {"setting": length, "right": right_of(examples, texts)}
        row |= {"first_end": float(ends.mean())}
        written = (torch.isin(tokens, not_text).cumsum(1) == 0).sum(1)
        row |= {"tokens": float(written.double().mean())}
        row |= {"low": float(ends.quantile(0.25)), "high": float(ends.quantile(0.75))}
        row |= {"bare": sum("=" not in text for text in texts) / len(texts)}
        rows.append(row)
    return rows


def token_ids(lm: MaskedDiffusionLM, texts: list[str]) -> list[list[int]]:
    return lm.tokenizer(texts, add_special_tokens=False)["input_ids"]


def prompt_rows(lm: MaskedDiffusionLM, prompts: list[str]) -> list[torch.Tensor]:
    """The tokens of each prompt, without padding."""
    ids, mask = encode_prompts(lm.tokenizer, prompts)
    return [row[real] for row, real in zip(ids, mask, strict=True)]


def inserting(seed: int, examples: list[Example], steps: int) -> list[dict]:
    """Train an insertion model; one row."""
    lm = load_lm("tiny")

    def loss(prompts, texts, generator):
        return insertion.insertion_loss(
            lm, prompt_rows(lm, prompts), token_ids(lm, texts), generator
        )

    train_body(lm, loss, steps, seed=seed, varied=False)
    prompts = prompt_rows(lm, [example.prompt for example in examples])
    written = insertion.insert_all(lm, prompts, most=32)
    ends = torch.tensor([len(tokens) for tokens in written]).double()
    texts = [decode(lm.tokenizer, torch.tensor([tokens or [lm.eos_id]]))[0] for tokens in written]
    row = {"setting": 0, "right": right_of(examples, texts), "tokens": float(ends.mean())}
    row |= {"low": float(ends.quantile(0.25)), "high": float(ends.quantile(0.75))}
    row |= {"bare": sum("=" not in text for text in texts) / len(texts)}
    return [row]


def greedy(lm: MaskedDiffusionLM, prompt: torch.Tensor) -> Callable:
    """The `predict` of `write_in_order` at temperature 0."""
    mask = torch.ones_like(prompt[None]).bool()

    def predict(tokens, rank):
        logits = any_subset.subset_logits(lm, prompt[None], mask, tokens[None], rank[None])[0]
        return torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).double()

    return predict


def any_order(seed: int, examples: list[Example], steps: int) -> list[dict]:
    """Train an any-subset model; a row for each number of drafts."""
    lm = load_lm("tiny")

    def loss(prompts, texts, generator):
        completion = encode_completions(lm.tokenizer, texts, TASK.length)
        ids, mask = encode_prompts(lm.tokenizer, prompts)
        return any_subset.subset_loss(lm, ids, mask, completion, generator)

    train_body(lm, loss, steps, seed=seed, varied=False)
    prompts = prompt_rows(lm, [example.prompt for example in examples])
    rank = torch.arange(TASK.length)
    rows = []
    for ahead in AHEAD:
        with torch.no_grad():
            written = [
                any_subset.write_in_order(
                    greedy(lm, prompt), rank, ahead, partial(torch.argmax, dim=0), lm.mask_id
                )
                for prompt in prompts
            ]
        tokens = torch.stack([tokens for tokens, _ in written])
        texts = decode(lm.tokenizer, tokens)
        calls = sum(calls for _, calls in written) / len(written)
        if ahead == 1:
            plain = tokens
        same = int((tokens == plain).all(1).sum())
        row = {"setting": ahead, "right": right_of(examples, texts), "calls": calls, "same": same}
        rows.append(row)
    return rows


def soft(share: float, seed: int, examples: list[Example]) -> list[dict]:
    """The shipped model with soft masks; one row."""
    lm = load_lm("tiny")
    generator = torch.Generator().manual_seed(seed)
    blurred = SoftMaskLM(lm, share, generator)
    repeated = [example for example in examples for _ in range(SAMPLES)]
    prompts = [example.prompt for example in repeated]
    rule = Schedule(TASK.length)
    rollout = denoise(blurred, prompts, TASK.length, rule, temperature=1.0, generator=generator)
    rewards = TASK.rewards_of(repeated, decode(lm.tokenizer, rollout.tokens))
    by_problem = torch.tensor(rewards).view(-1, SAMPLES)
    solved = by_problem.amax(1).mean()
    return [{"setting": share, "right": float(by_problem.mean()), "pass8": float(solved)}]


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--bodies", nargs="*", default=["padding", "insertion", "any-subset", "soft"])
    made.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    made.add_argument("--problems", type=int, default=32, help="of chain2's test split")
    made.add_argument("--steps", type=int, default=STEPS)
    made.add_argument("--out", default=str(OUT), help="the table")
    return made.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    o = options(arguments)
    examples = TASK.sample(o.problems, "test", 0)
    runs = []
    for seed in o.seeds:
        if "padding" in o.bodies:
            for name, colours in (("end padding", 0), ("rainbow", COLOURS)):
                common = {"seed": seed, "examples": examples, "steps": o.steps}
                runs.append((name, seed, partial(padding, colours, True, **common)))
                name = f"{name}, all lines"
                runs.append((name, seed, partial(padding, colours, False, **common)))
        if "insertion" in o.bodies:
            runs.append(("insertion", seed, partial(inserting, seed, examples, o.steps)))
        if "any-subset" in o.bodies:
            runs.append(("any-subset", seed, partial(any_order, seed, examples, o.steps)))
        if "soft" in o.bodies:
            for share in SHARES:
                runs.append((f"soft {share}", seed, partial(soft, share, seed, examples)))
    out = Path(o.out)
    known = set()
    if out.is_file():
        known = set(pd.read_csv(out)[["body", "seed"]].itertuples(index=False, name=None))
    for body, seed, run in runs:
        if (body, seed) in known:
            continue
        rows = run()
        for row in rows:
            print(body, seed, row, flush=True)
        about = {"body": body, "seed": seed, "problems": o.problems}
        record([about | row for row in rows], out, KEY)


if __name__ == "__main__":
    main()
