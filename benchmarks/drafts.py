"""Exact decoding in fewer calls: `python benchmarks/drafts.py` (half an hour on one core) makes
notebooks/results/drafts.csv, row by row; run again, it goes on where it stopped.

For each task, source of drafts and number of canvases: 200 test problems are written greedily, the
surest token first, and compared with `denoise`, one token per pass: `same` is the number of equal
texts in a batch, `same_alone` of those that are written on their own. Calls and rows are those of
one text, on average; `draft_calls` are those of the model with fewer layers. Nothing here is timed.

More canvases, as the course shows them: `--tasks chain2 sudoku4 chain4 --ahead 2 8`.
"""

import argparse
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from result_tables import record

from dllm_rl_lite.models import ShallowLM, encode_prompts, load_lm
from dllm_rl_lite.sampler import Schedule, denoise, denoise_with_drafts
from dllm_rl_lite.tasks import TASKS, load_task

OUT = Path(__file__).parents[1] / "notebooks" / "results" / "drafts.csv"
KEY = ("task", "draft", "ahead")
LAYERS = [0, 1, 3, 4]  # of five: more layers left out, and hardly a draft is accepted
# Problems of the test split, of tasks that have fewer than 200.
HELD_OUT = {"chain1": 19, "chain2": 196, "countdown": 58}


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--tasks", nargs="*", default=list(TASKS))
    made.add_argument("--problems", type=int, default=200)
    made.add_argument("--ahead", type=int, nargs="*", default=[4], help="canvases of a text")
    made.add_argument("--alone", type=int, default=4, help="the one that is also written alone")
    made.add_argument("--out", default=str(OUT), help="the table")
    return made.parse_args(arguments)


def measured(lm, prompts: tuple, plain: torch.Tensor, draft, ahead: int, alone: bool) -> dict:
    """Calls and rows of one text, and how many texts are equal to the (N, L) plain ones."""
    ids, mask = prompts
    length = plain.shape[1]
    found = denoise_with_drafts(lm, prompts, length, draft, ahead)
    same_alone = ""
    if alone:
        same_alone = 0
        for row, real in enumerate(mask):
            prompt = (ids[row][real][None], real[real][None])
            written = denoise_with_drafts(lm, prompt, length, draft, ahead)
            same_alone += int(torch.equal(written.rollout.tokens[0], plain[row]))
    return {
        "problems": len(ids),
        "same": int((found.rollout.tokens == plain).all(1).sum()),
        "same_alone": same_alone,
        "plain_calls": length,
        "calls": float(found.calls.float().mean()),
        "rows": float(found.rows.float().mean()),
        "draft_calls": float(found.draft_calls.float().mean()),
        "accepted": float(found.accepted.sum() / len(ids)),
    }


def main(arguments: list[str] | None = None) -> None:
    o = options(arguments)
    lm = load_lm("tiny")
    drafts = {"last": "last", "pass": "pass", "4 of 5 layers": ShallowLM(lm, LAYERS)}
    out = Path(o.out)
    known = set()
    if out.is_file():
        known = set(pd.read_csv(out)[list(KEY)].itertuples(index=False, name=None))
    for task in o.tasks:
        missing = [key for key in product([task], drafts, o.ahead) if key not in known]
        if not missing:
            continue
        problems = load_task(task)
        examples = problems.sample(min(o.problems, HELD_OUT.get(task, o.problems)), "test", 0)
        prompts = encode_prompts(lm.tokenizer, [example.prompt for example in examples])
        plain = denoise(lm, prompts, problems.length, Schedule(problems.length)).tokens
        for _, name, ahead in missing:
            row = {"task": task, "draft": name, "ahead": ahead}
            row |= measured(lm, prompts, plain, drafts[name], ahead, ahead == o.alone)
            print(
                f"{task}, drafts from {name}, {ahead} canvases: {row['calls']:.1f} calls of "
                f"{row['plain_calls']}, {row['rows']:.1f} rows, {row['same']} of "
                f"{row['problems']} texts are the same, alone {row['same_alone']}",
                flush=True,
            )
            record([row], out, KEY)


if __name__ == "__main__":
    main()
