"""Exact decoding in fewer calls: `python benchmarks/drafts.py` (ten minutes on one core) makes
notebooks/results/drafts.csv; what is measured again replaces its rows.

For each task, source of drafts and number of canvases: 200 problems are written greedily, the
surest token first, and compared with `denoise`, one token per pass: `same` is the number of equal
texts in a batch, `same_alone` of those that are written on their own. Calls and rows are those of
one text, on average; `draft_calls` are those of the model with fewer layers. Nothing here is timed.
"""

import argparse
from pathlib import Path

import torch
from result_tables import record

from dllm_rl_lite.models import ShallowLM, encode_prompts, load_lm
from dllm_rl_lite.sampler import Schedule, denoise, denoise_with_drafts
from dllm_rl_lite.tasks import TASKS, load_task

OUT = Path(__file__).parents[1] / "notebooks" / "results" / "drafts.csv"
KEY = ("task", "draft", "ahead")
LAYERS = {"layers 0, 2, 4": [0, 2, 4], "layers 0, 1, 3, 4": [0, 1, 3, 4]}
HELD_OUT = {"countdown": 56}  # problems, of a task with fewer than asked for


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--tasks", nargs="*", default=list(TASKS))
    made.add_argument("--problems", type=int, default=200)
    made.add_argument("--ahead", type=int, nargs="*", default=[2, 4, 8], help="canvases of a text")
    made.add_argument("--alone", type=int, default=4, help="the one that is also written alone")
    made.add_argument("--out", default=str(OUT), help="the table")
    return made.parse_args(arguments)


def measured(lm, task: str, o: argparse.Namespace) -> list[dict]:
    """The rows of one task."""
    problems = load_task(task)
    examples = problems.sample(min(o.problems, HELD_OUT.get(task, o.problems)), "test", 0)
    ids, mask = encode_prompts(lm.tokenizer, [example.prompt for example in examples])
    plain = denoise(lm, (ids, mask), problems.length, Schedule(problems.length)).tokens
    drafts = {"pass": "pass", "last": "last"}
    for name, layers in LAYERS.items():
        drafts[name] = ShallowLM(lm, layers)
    rows = []
    for name, draft in drafts.items():
        for ahead in o.ahead:
            found = denoise_with_drafts(lm, (ids, mask), problems.length, draft, ahead)
            same_alone = ""
            if ahead == o.alone:
                same_alone = 0
                for row in range(len(ids)):
                    real = mask[row]
                    prompt = (ids[row][real][None], real[real][None])
                    alone = denoise_with_drafts(lm, prompt, problems.length, draft, ahead)
                    same_alone += int(torch.equal(alone.rollout.tokens[0], plain[row]))
            rows.append(
                {
                    "task": task,
                    "draft": name,
                    "ahead": ahead,
                    "problems": len(ids),
                    "same": int((found.rollout.tokens == plain).all(1).sum()),
                    "same_alone": same_alone,
                    "plain_calls": problems.length,
                    "calls": float(found.calls.float().mean()),
                    "rows": float(found.rows.float().mean()),
                    "draft_calls": float(found.draft_calls.float().mean()),
                    "accepted": float(found.accepted.sum() / len(ids)),
                }
            )
    return rows


def main(arguments: list[str] | None = None) -> None:
    o = options(arguments)
    lm = load_lm("tiny")
    for task in o.tasks:
        rows = measured(lm, task, o)
        for row in rows:
            print(
                f"{task}, drafts from {row['draft']}, {row['ahead']} canvases: "
                f"{row['calls']:.1f} calls of {row['plain_calls']}, {row['rows']:.1f} rows, "
                f"{row['same']} of {row['problems']} texts are the same",
                flush=True,
            )
        record(rows, Path(o.out), KEY)


if __name__ == "__main__":
    main()
