"""What the shipped base model can do, task by task: `python benchmarks/base_accuracy.py` (a few
minutes).

Writes notebooks/results/base_accuracy.json: held-out accuracy with 95 % Wilson intervals, greedy
and at the course's rollout settings, the share of wrong answers that show the task's habit, and how
often a group of 8 rollouts is mixed.
"""

import json
from pathlib import Path

import torch

from dllm_rl_lite.evaluate import evaluate
from dllm_rl_lite.evaluation import wilson
from dllm_rl_lite.models import decode, load_lm
from dllm_rl_lite.sampler import Decoding, Schedule, denoise
from dllm_rl_lite.tasks import load_task, rewards_of

OUT = Path(__file__).parents[1] / "notebooks" / "results" / "base_accuracy.json"
TASKS = {
    "chain2": 128,
    "chain": 256,
    "chain4": 256,
    "sudoku4": 256,
    "countdown": 56,
    "python": 128,
}  # problems
GROUPS, GROUP, TEMPERATURE = 48, 8, 1.0


def groups(lm, name: str) -> dict:
    """Shares of groups of 8 rollouts that are mixed, all wrong, all right; and the accuracy of all
    rollouts."""
    task = load_task(name)
    examples = [e for e in task.sample(GROUPS, "test", 1) for _ in range(GROUP)]
    generator = torch.Generator().manual_seed(1)
    texts = []
    for i in range(0, len(examples), 128):
        rollout = denoise(
            lm,
            [e.prompt for e in examples[i : i + 128]],
            task.length,
            Schedule(task.length // 2),
            temperature=TEMPERATURE,
            generator=generator,
        )
        texts += decode(lm.tokenizer, rollout.tokens)
    rewards = torch.tensor(rewards_of(task.reward, examples, texts)).view(GROUPS, GROUP)
    wrong, right = int((rewards.sum(1) == 0).sum()), int((rewards.sum(1) == GROUP).sum())
    mixed = GROUPS - wrong - right
    return {
        "groups": GROUPS,
        "all_wrong": wrong / GROUPS,
        "all_right": right / GROUPS,
        "mixed": mixed / GROUPS,
        "mixed_interval": wilson(mixed, GROUPS),
    }


def main() -> None:
    lm = load_lm("tiny")
    record = {}
    for name, n in TASKS.items():
        rows = {}
        for label, temperature in (("greedy", 0.0), ("rollout", TEMPERATURE)):
            report = evaluate(lm, name, Decoding(temperature=temperature), n=n)
            rows[label] = {k: v for k, v in report.summary().items() if "second" not in k}
            print(
                label,
                report,
                f"habit in {100 * report.habit_share:.0f} % of the errors",
                flush=True,
            )
        record[name] = rows | groups(lm, name)
        print(
            f"  groups: mixed {record[name]['mixed']:.2f}, "
            f"all wrong {record[name]['all_wrong']:.2f}",
            flush=True,
        )
    OUT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
