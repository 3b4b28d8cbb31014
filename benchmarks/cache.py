"""What a key-value cache changes: `python benchmarks/cache.py` (half an hour on one core) makes
notebooks/results/cache.csv; what is measured again replaces its rows.

For each task, block length and cache: texts are drawn with the cache at temperature 1, two tokens a
pass, and at every state that they visit the model is asked with the cache and without (`replay`). A
row holds

* kl: KL(exact || cached) of the law of a revealed token, nats: mean with its 95 % interval over
  texts, and the worst token;
* token_differs, choice_differs: shares of revealed tokens whose likeliest token differs, and of
  passes in which the surest positions differ;
* clipped: share of tokens whose ratio exact / cached is outside 0.8 .. 1.2 before the first update;
  log_ratio, worst_ratio: mean and largest |log ratio| of a whole text, nats; effective: the
  effective sample size of the texts, weighted by their ratios, as a share of them (1: the two laws
  are one);
* accuracy_plain, difference: greedy without the cache, and the difference with it on the same
  problems, with its 95 % interval;
* computed: tokens computed, as a share of those without a cache.

Another model: `--model FOLDER --task gsm8k --data FOLDER --length 256 --blocks 32 --texts 32
--problems 128`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from result_tables import record
from torch import Tensor

from dllm_rl_lite.evaluation import paired_comparison, t_interval
from dllm_rl_lite.models import decode, encode_prompts, load_lm
from dllm_rl_lite.models.cache import BlockCache
from dllm_rl_lite.sampler import Schedule, denoise, top
from dllm_rl_lite.tasks import load_task

OUT = Path(__file__).parents[1] / "notebooks" / "results" / "cache.csv"
# Tokens of a block; the last of each: one block.
BLOCKS = {"chain": (4, 8, 12, 24), "sudoku4": (4, 10, 20), "countdown": (4, 14, 28)}
KEY = ("model", "task", "block_length", "cache")
HELD_OUT = {"countdown": 56}  # problems, of a task with fewer than asked for


@dataclass(frozen=True)
class Step:
    """What the model and a cache say of one step of a rollout, at the K masked positions of each
    row's block."""

    row: Tensor  # (n,) int64, the rows that took this step
    where: Tensor  # (n, P + L) bool, the K positions
    begins: Tensor  # (n,) bool, the rows that begin a block: there the cache is written, and exact
    exact: Tensor  # (K, V) float32 logits without a cache
    cached: Tensor  # (K, V) float32 logits with it


@torch.no_grad()
def replay(lm, rollout, kind: str, block_length: int | None = None) -> Iterator[Step]:
    """Ask the model, with a cache and without, about every state that a rollout visited: how far
    apart are the two laws?

    Args:
        lm: a `MaskedDiffusionLM`.
        rollout: of one call of `denoise` with this `block_length`, drawn with the cache or without.
        kind: "prefix" or "dual".
    Yields:
        the `Step`s, in order.
    """
    cache = BlockCache(kind)
    width, length = rollout.prompt.shape[1], rollout.tokens.shape[1]
    size = block_length or length
    block_of = torch.arange(length, device=rollout.tokens.device) // size
    before = torch.full_like(rollout.n_forwards, -1)
    for step in range(int(rollout.n_forwards.max())):
        row = (rollout.n_forwards > step).nonzero()[:, 0]
        prompt, real = rollout.prompt[row], rollout.prompt_mask[row]
        canvas = rollout.canvas_at(step)[row]
        masked = canvas == rollout.mask_id
        block = masked.long().argmax(1) // size
        where = torch.cat([torch.zeros_like(real), masked & (block_of == block[:, None])], 1)
        asked = torch.cat([prompt, canvas], 1), torch.cat([real, torch.ones_like(masked)], 1), where
        start = width + block * size
        yield Step(
            row,
            where,
            block > before[row],
            lm(*asked),
            cache.logits(lm, *asked, row, start, start + size),
        )
        before[row] = block


def counted(lm, run):
    """What `run()` gives, and how many tokens the model computed."""
    tokens = []
    hook = lm.backbone.model.embed_tokens.register_forward_hook(
        lambda module, ids, out: tokens.append(out[..., 0].numel())
    )
    try:
        return run(), sum(tokens)
    finally:
        hook.remove()


def draw(
    lm,
    prompts,
    length: int,
    block: int,
    cache: str,
    batch: int,
    seed: int,
    temperature: float = 1.0,
):
    """Rollouts, two tokens a pass, in batches."""
    return [
        denoise(
            lm,
            tuple(t[i : i + batch] for t in prompts),
            length,
            Schedule(length // 2),
            block,
            temperature,
            generator=torch.Generator().manual_seed(seed + i),
            cache=cache,
        )
        for i in range(0, len(prompts[0]), batch)
    ]


def compare_laws(lm, rollout, kind: str, block: int) -> dict:
    """(N, L) of each token: KL, log of exact / cached, does the likeliest token differ? Of each
    pass of a row: does the choice of positions?"""
    shape = rollout.tokens.shape
    kl, ratio = torch.zeros(shape), torch.zeros(shape)
    differs = torch.zeros(shape, dtype=torch.bool)
    choice = []
    for t, step in enumerate(replay(lm, rollout, kind, block)):
        active = step.where[:, -shape[1] :].cpu()
        laws = [logits.log_softmax(-1).cpu() for logits in (step.exact, step.cached)]
        row, position = active.nonzero().T
        row = step.row.cpu()[row]
        tokens, revealed = (
            x.cpu()[row, position] for x in (rollout.tokens, rollout.unmask_step == t)
        )
        gap = torch.where(laws[0].exp() > 0, laws[0] - laws[1], 0.0)
        exact, cached = (law.gather(-1, tokens[:, None])[:, 0] for law in laws)
        at = row[revealed], position[revealed]
        kl[at] = (laws[0].exp() * gap).sum(-1)[revealed]
        ratio[at] = (exact - cached)[revealed]
        differs[at] = (laws[0].argmax(-1) != laws[1].argmax(-1))[revealed]
        score = [
            torch.zeros(active.shape).masked_scatter(active, law.max(-1).values) for law in laws
        ]
        n = (rollout.unmask_step == t).sum(1).cpu()[step.row.cpu()]
        choice += (top(score[0], active, n) != top(score[1], active, n)).any(1).tolist()
    return {"kl": kl, "ratio": ratio, "differs": differs, "choice": choice}


def measure(lm, task, block: int, kinds: tuple[str, ...], o) -> dict[str, dict]:
    """kind -> the two laws compared, and the tokens computed."""
    prompts = encode_prompts(
        lm.tokenizer, [e.prompt for e in task.sample(o.texts, "train", o.seed)]
    )
    length = o.length or task.length
    found = {}
    _, all_tokens = counted(lm, lambda: draw(lm, prompts, length, block, "", o.batch, o.seed))
    for kind in kinds:
        rollouts, tokens = counted(
            lm, lambda kind=kind: draw(lm, prompts, length, block, kind, o.batch, o.seed)
        )
        laws = [compare_laws(lm, r, kind, block) for r in rollouts]
        kl, ratio, differs = (
            torch.cat([x[name] for x in laws]) for name in ("kl", "ratio", "differs")
        )
        mean, half = t_interval(kl.mean(1).tolist())
        texts = ratio.double().sum(1)
        choice = [c for x in laws for c in x["choice"]]
        weight = (texts - texts.max()).exp()
        found[kind] = {
            "kl": mean,
            "kl_low": mean - half,
            "kl_high": mean + half,
            "kl_worst": float(kl.max()),
            "token_differs": float(differs.double().mean()),
            "choice_differs": sum(choice) / len(choice),
            "clipped": float(((ratio.exp() - 1).abs() > 0.2).double().mean()),
            "log_ratio": float(texts.abs().mean()),
            "worst_ratio": float(texts.abs().max()),
            "effective": float(weight.sum() ** 2 / (weight**2).sum() / len(weight)),
            "computed": tokens / all_tokens,
        }
    return found


def solve(lm, task, examples, block: int, cache: str, o) -> dict[str, float]:
    """problem -> score, greedy."""
    prompts = encode_prompts(lm.tokenizer, [e.prompt for e in examples], task.prefill)
    rollouts = draw(lm, prompts, o.length or task.length, block, cache, o.batch, o.seed, 0.0)
    texts = [t for r in rollouts for t in decode(lm.tokenizer, r.tokens)]
    return {f"{i}": float(s == 1) for i, s in enumerate(task.solved(examples, texts))}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default, what in (
        ("model", "tiny", "tiny, a folder, or a hub id"),
        ("task", "", "one task; default: the three tiny ones"),
        ("data", "", "of a benchmark"),
        ("length", 0, "canvas, tokens; 0: the task's own"),
        ("blocks", "", "block lengths, separated by commas"),
        ("texts", 256, "drawn for the two laws"),
        ("problems", 512, "for accuracy"),
        ("batch", 128, "texts at a time"),
        ("device", "cpu", "cpu, cuda, ..."),
        ("dtype", "float32", "or bfloat16"),
        ("seed", 0, "of problems and noise"),
        ("out", str(OUT), "the table"),
    ):
        made.add_argument(
            f"--{name}", type=type(default), default=default, help=f"{what} ({default!r})"
        )
    return made


def rows_of(lm, name: str, block: int, o) -> list[dict]:
    """The rows of one task and block length."""
    task = load_task(name, o.data or None)
    examples = task.sample(min(o.problems, HELD_OUT.get(name, o.problems)), "test", o.seed)
    # With one block both are the same.
    kinds = ("prefix", "dual") if block < (o.length or task.length) else ("prefix",)
    laws = measure(lm, task, block, kinds, o)
    plain = solve(lm, task, examples, block, "", o)
    rows = []
    for kind in kinds:
        pair = paired_comparison(plain, solve(lm, task, examples, block, kind, o))
        rows.append(
            {"model": o.model, "task": name, "block_length": block, "cache": kind, "texts": o.texts}
            | laws[kind]
            | {
                "problems": pair.n,
                "accuracy_plain": sum(plain.values()) / pair.n,
                "difference": pair.difference,
                "difference_low": pair.low,
                "difference_high": pair.high,
                "p": pair.p,
            }
        )
    return rows


def main() -> None:
    o = parser().parse_args()
    lm = load_lm(o.model, o.device, getattr(torch, o.dtype))
    for name in [o.task] if o.task else BLOCKS:
        for block in [int(b) for b in o.blocks.split(",")] if o.blocks else BLOCKS[name]:
            rows = rows_of(lm, name, block, o)
            record(rows, Path(o.out), KEY)
            print(
                f"{name}, blocks of {block}, {rows[-1]['cache']}: KL {rows[-1]['kl']:.2g} nats, "
                f"{rows[-1]['computed']:.2f} of the tokens computed",
                flush=True,
            )


if __name__ == "__main__":
    main()
