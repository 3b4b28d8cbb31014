"""Three seeds of each method at equal forward passes: `python benchmarks/three_seeds.py [--task
chain2] [--seeds 3]`.

Each run's log and held-out test accuracy (greedy, before and after) go to
notebooks/results/train_TASK.json. A run that is already recorded with the same settings is not run
again.
"""

import argparse
import io
import json
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from dllm_rl_lite import show
from dllm_rl_lite.evaluate import evaluate
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.models import load_lm
from dllm_rl_lite.sampler import denoise
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig

ROOT = Path(__file__).parents[1]
COLUMNS = (
    "step",
    "reward",
    "dead_groups",
    "dead_wrong",
    "entropy",
    "clip_fraction",
    "ratio_spread",
    "kl",
    "grad_norm",
    "forwards_rollout",
    "forwards_update",
    "seconds_rollout",
    "seconds_reward",
    "seconds_update",
    "seconds_eval",
    "tokens_per_second",
    "eval_accuracy",
    "eval_low",
    "eval_high",
)


def one_run(method: str, task: str, seed: int, steps: int, budget: int, problems: int) -> dict:
    """Train in runs/, evaluate on the test split, return the record."""
    run_dir = ROOT / "runs" / "three_seeds" / f"{task}-{method}-{seed}"
    config = TrainConfig(
        method=method,
        task=task,
        seed=seed,
        steps=steps,
        run_dir=str(run_dir),
        forwards=budget,
        eval_problems=128,
        checkpoint_every=50,
    )
    base = evaluate(load_lm("tiny"), task, n=problems)
    result = train(config)
    after = evaluate(result.lm, task, n=problems)
    print(f"{method} seed {seed}: {base.accuracy:.3f} -> {after}", flush=True)
    if (method, task, seed) == ("agrpo", "chain2", 0):
        picture(load_lm("tiny"), result.lm, task)
    rows = [{k: round(r[k], 5) for k in COLUMNS if r.get(k) is not None} for r in result.rows]
    return {
        "method": method,
        "task": task,
        "seed": seed,
        "numbers": asdict(METHODS[method].tiny),
        "rows": rows,
        "before": base.summary(),
        "after": after.summary(),
    }


def picture(base, trained, task_name: str) -> None:
    """notebooks/figures/before_after.png: one test problem that the base model fails and the
    trained one solves."""
    task, rule = load_task(task_name), METHODS["agrpo"].tiny.rule(load_task(task_name).length)
    pair = [evaluate(lm, task, rule, n=64).generations for lm in (base, trained)]
    prompt = next(b["prompt"] for b, t in zip(*pair, strict=True) if b["reward"] < 1 <= t["reward"])
    images = []
    for lm, when in ((base, "before: wrong"), (trained, "after: right")):
        film = denoise(lm, [prompt], task.length, rule)
        buffer = io.BytesIO()
        show.filmstrip(film, lm.tokenizer, title=f"{when}   {prompt}", max_frames=6).savefig(
            buffer, dpi=110
        )
        images.append(Image.open(buffer))
    both = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), "white")
    for i, image in enumerate(images):
        both.paste(image, (0, i * images[0].height))
    both.save(ROOT / "notebooks" / "figures" / "before_after.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="chain2")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=["agrpo", "diffu-grpo"])
    parser.add_argument("--problems", type=int, default=180, help="test problems, greedy")
    parser.add_argument(
        "--budget",
        type=int,
        default=155_000,
        help="forward passes of one row, rollouts and updates",
    )
    a = parser.parse_args()
    path = ROOT / "notebooks" / "results" / f"train_{a.task}.json"
    record = json.loads(path.read_text()) if path.exists() else []
    for seed in range(a.seeds):
        for method in a.methods:
            numbers = json.loads(json.dumps(asdict(METHODS[method].tiny)))
            done = [
                r
                for r in record
                if (r["method"], r["seed"]) == (method, seed)
                and r["numbers"].items() <= numbers.items()
            ]
            if not done:
                record = [r for r in record if (r["method"], r["seed"]) != (method, seed)]
                record.append(one_run(method, a.task, seed, 1000, a.budget, a.problems))
                path.write_text(
                    json.dumps(sorted(record, key=lambda r: (r["method"], r["seed"])), indent=0)
                    + "\n"
                )


if __name__ == "__main__":
    main()
