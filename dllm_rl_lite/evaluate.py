"""How good is it? Accuracy with an interval, forward passes, speed; saved generations that can be scored again."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from .rules import Rule, Schedule
from .sampler import denoise
from .tasks import Task, load_task
from .tasks.task import Example, score
from .tokenizer import decode


@dataclass(frozen=True)
class Report:
    """An evaluation. Accuracy counts a problem as solved where the task's own reward is 1."""

    task: str
    split: str
    n: int
    temperature: float
    rule: str
    accuracy: float
    low: float  # 95 % Wilson interval
    high: float
    habit_share: float  # share of the wrong answers that show the task's habit and no other mistake
    mean_forwards: float  # forward passes a problem
    seconds: float
    tokens_per_second: float
    generations: list[dict]  # prompt, completion, reward, forwards, answer and columns of each problem

    def __str__(self) -> str:
        return (f"{self.task} {self.split}: {100 * self.accuracy:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}] "
                f"of {self.n}, {self.mean_forwards:.1f} forward passes a problem, {self.seconds:.1f} s")

    def save(self, path: str | os.PathLike) -> None:
        """Write one json line per problem; `rescore(path)` reads them back."""
        lines = [json.dumps({"task": self.task, **g}) for g in self.generations]
        Path(path).write_text("\n".join(lines) + "\n")

    def summary(self) -> dict:
        """Everything but the generations."""
        return {k: v for k, v in asdict(self).items() if k != "generations"}


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion; stays inside [0, 1] and is honest at 0 and n."""
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"need 0 <= right <= n and n >= 1, got {right} of {n}")
    centre = (right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(right * (n - right) / n + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def evaluate(lm, task: Task | str, rule: Rule | None = None, n: int = 256, seed: int = 0, split: str = "test",
             temperature: float = 0.0, block_length: int | None = None, batch: int = 128, eos: str = "free") -> Report:
    """Solve n problems of a split and report.

    Args:
        lm: a model; task: a `Task` or its name. rule: default two tokens a forward pass, surest first.
        n: problems (the same for equal n, seed and split); temperature: 0 is greedy; above it, `seed` drives the noise.
        batch: problems at a time; results do not depend on it at temperature 0.
    """
    task = load_task(task) if isinstance(task, str) else task
    rule = rule or Schedule(task.length // 2)
    examples = task.sample(n, split, seed)
    generator = torch.Generator().manual_seed(seed)
    start, texts, forwards = time.perf_counter(), [], []
    for i in range(0, n, batch):
        prompts = [e.prompt for e in examples[i:i + batch]]
        rollout = denoise(lm, prompts, task.length, rule, block_length, temperature, eos=eos, generator=generator)
        texts += decode(lm.tokenizer, rollout.tokens)
        forwards += rollout.n_forwards.tolist()
    seconds = time.perf_counter() - start
    rewards = task.score(examples, texts)
    low, high = wilson(sum(r == 1 for r in rewards), n)
    wrong = [task.shows_habit(e, t) for e, t, r in zip(examples, texts, rewards, strict=True) if r < 1]
    rows = [{"prompt": e.prompt, "completion": t, "reward": r, "forwards": f, "answer": e.answer, "columns": e.columns}
            for e, t, r, f in zip(examples, texts, rewards, forwards, strict=True)]
    return Report(task.name, split, n, temperature, repr(rule), sum(r == 1 for r in rewards) / n, low, high,
                  sum(wrong) / max(len(wrong), 1), sum(forwards) / n, seconds, n * task.length / seconds, rows)


def rescore(path: str | os.PathLike, reward=None) -> list[float]:
    """Score saved generations again, offline, with the task's reward or another one of TRL's signature.

    Raises FileNotFoundError for a missing file, ValueError naming the line for a malformed row.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no saved generations at {path}: write them with Report.save")
    examples, texts, names = [], [], set()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            examples.append(Example(row["prompt"], row["answer"], row["columns"]))
            texts.append(row["completion"])
            names.add(row["task"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} line {number} is not a saved generation ({type(error).__name__}: {error})") from error
    if len(names) != 1:
        raise ValueError(f"{path} must hold one task, found {sorted(names)}")
    return score(reward or load_task(names.pop()).reward, examples, texts)
