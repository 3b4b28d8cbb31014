"""The report of an evaluation."""

from __future__ import annotations

import os
import statistics
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..files import write_atomically
from ..tasks import Example, Task
from .cards import format_card
from .intervals import accuracy_interval, pass_at
from .rescoring import left_out, mean_reward, rewards_by_problem
from .saved import saved_lines

PASS_AT = (1, 2, 4, 8, 16, 32, 64, 128)  # the k of pass@k, as far as there are samples


@dataclass(frozen=True)
class Report:
    """An evaluation. Accuracy counts a text as right if the task's rule gives 1."""

    task: str
    split: str
    n: int  # problems
    temperature: float
    rule: str
    accuracy: float
    # 95 % interval over problems: Wilson's, or Student's t if a problem has several texts
    low: float
    high: float
    habit_share: float  # share of the wrong answers that show the task's habit and no other mistake
    mean_forwards: float  # forward passes per text
    seconds: float
    tokens_per_second: float
    # prompt, completion, reward, forwards, answer, columns, item and sample of each text
    generations: list[dict]
    # mean of the rule's value, problems weighed as the benchmark does (Sudoku: blank cells)
    mean_reward: float = 0.0
    samples: int = 1  # texts per problem
    # k -> (pass@k, low, high)
    pass_at: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    card: dict = field(default_factory=dict)  # what has to be known to make this number again

    def __str__(self) -> str:
        return (
            f"{self.task} {self.split}: {_percent(self.accuracy, self.low, self.high)} "
            f"of {self.n}{left_out(self.card)}, {self.mean_forwards:.1f} forward passes a problem, "
            f"{self.seconds:.1f} s"
        )

    def describe(self) -> str:
        """The number and its protocol card, human-readable."""
        lines = [str(self)]
        for k, estimate in self.pass_at.items():
            if k > 1:
                lines.append(f"  pass@{k}: {_percent(*estimate)}")
        return "\n".join([*lines, format_card(self.card)])

    def save(self, path: str | os.PathLike) -> None:
        """Write the protocol card and one json line per text; `rescore(path)` reads them back."""
        write_atomically(Path(path), saved_lines(self.card, self.generations))

    def summary(self) -> dict:
        """Everything but the generations."""
        values = asdict(replace(self, generations=[]))
        del values["generations"]
        return values

    def rewards_by_problem(self) -> dict[str, float]:
        """problem -> mean reward of its texts, for `paired_comparison`; a problem is its prompt and
        its answer."""
        return rewards_by_problem(self.generations)


def _percent(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def make_report(task: Task, examples: list[Example], rows: list[dict], card: dict) -> Report:
    """A `Report` of saved or fresh texts. rows: one per text, as saved; `examples[row["item"]]` is
    its problem."""
    samples = card.get("samples", 1)
    right = [0] * len(examples)
    habits = []  # of each wrong text: does it show the habit?
    for row in rows:
        right[row["item"]] += row["reward"] == 1
        if row["reward"] < 1:
            habits.append(task.shows_habit(examples[row["item"]], row["completion"]))
    accuracy, low, high = accuracy_interval([solved / samples for solved in right])
    seconds = sum(row.get("seconds", 0.0) for row in rows)
    ks = [k for k in PASS_AT if k <= samples] if samples > 1 else []
    return Report(
        task=task.name,
        split=card.get("split", ""),
        n=len(examples),
        temperature=card.get("temperature", 0.0),
        rule=card.get("rule", ""),
        accuracy=accuracy,
        low=low,
        high=high,
        habit_share=sum(habits) / max(len(habits), 1),
        mean_forwards=statistics.fmean(row.get("forwards", 0) for row in rows),
        seconds=seconds,
        tokens_per_second=len(rows) * card.get("length", 0) / seconds if seconds else 0.0,
        generations=rows,
        mean_reward=mean_reward(task, rows),
        samples=samples,
        pass_at={k: pass_at(right, samples, k) for k in ks},
        card=card,
    )
