"""How good is it? Accuracy with an interval, forward passes, speed, pass@k; every text saved,
resumed, scored again.

`python -m dllm_rl_lite.evaluate --help` evaluates, scores saved texts again, and compares two runs,
from a shell.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from .evaluation import accuracy_interval, compare, differences, pass_at, read_run, rescored
from .evaluation.cards import card, protocol
from .evaluation.rescoring import mean_scores
from .models import decode, encode_prompts, load_lm
from .names import lookup
from .processes import ALONE, Team
from .sampler import ORDERS, Rule, Schedule, Threshold, denoise
from .seeds import generator
from .tasks import Example, Task, load_task


@dataclass(frozen=True)
class Decoder:
    """How texts are drawn in an evaluation."""

    rule: Rule | None = None  # None: two tokens a forward pass, surest first
    length: int = 0  # completion canvas, tokens; 0: the task's own
    block_length: int | None = None  # tokens of a semi-autoregressive block; None: one block
    temperature: float = 0.0  # 0: greedy
    top_p: float = 1.0  # 1: off
    eos: str = "free"  # see `denoise`
    samples: int = 1  # texts a problem
    cache: str = ""  # "prefix" or "dual": faster, and another law (`models/cache.py`)

    def __post_init__(self):
        if self.samples < 1 or self.length < 0:
            raise ValueError(
                f"need samples >= 1 and length >= 0 (0: the task's own), got {self.samples} and {self.length}"
            )
        if self.samples > 1 and self.temperature == 0 and not (self.rule and self.rule.random):
            raise ValueError(
                f"{self.samples} samples at temperature 0 are {self.samples} times the same text: raise the "
                "temperature or ask for one sample"
            )

    def of(self, task: Task) -> Decoder:
        """With the task's own length and the default rule filled in."""
        length = self.length or task.length
        return replace(self, length=length, rule=self.rule or Schedule(max(1, length // 2)))


@dataclass(frozen=True)
class Report:
    """An evaluation. Accuracy counts a text as right where the task's rule gives 1."""

    task: str
    split: str
    n: int  # problems
    temperature: float
    rule: str
    accuracy: float
    # 95 % interval over problems: Wilson's, or Student's t where a problem has several texts
    low: float
    high: float
    habit_share: float  # share of the wrong answers that show the task's habit and no other mistake
    mean_forwards: float  # forward passes a text
    seconds: float
    tokens_per_second: float
    generations: list[
        dict
    ]  # prompt, completion, reward, forwards, answer, columns, item and sample of each text
    # mean of the rule's value, problems weighed as the benchmark does (Sudoku: blank cells)
    score: float = 0.0
    samples: int = 1  # texts a problem
    pass_at: dict[int, tuple[float, float, float]] = field(
        default_factory=dict
    )  # k -> (pass@k, low, high)
    protocol: dict = field(default_factory=dict)  # what has to be known to make this number again

    def __str__(self) -> str:
        return (
            f"{self.task} {self.split}: {100 * self.accuracy:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}] "
            f"of {self.n}, {self.mean_forwards:.1f} forward passes a problem, {self.seconds:.1f} s"
        )

    def card(self) -> str:
        """The number and its protocol card, for people."""
        passes = "".join(
            f"\n  pass@{k}: {100 * m:.1f} % [{100 * a:.1f}, {100 * b:.1f}]"
            for k, (m, a, b) in self.pass_at.items()
            if k > 1
        )
        return f"{self}{passes}\n{card(self.protocol)}"

    def save(self, path: str | os.PathLike) -> None:
        """Write the protocol card and one json line per text; `rescore(path)` reads them back."""
        lines = [
            json.dumps({"protocol": self.protocol}),
            *(json.dumps(g) for g in self.generations),
        ]
        Path(path).write_text("\n".join(lines) + "\n")

    def summary(self) -> dict:
        """Everything but the generations."""
        return {
            k: v for k, v in asdict(replace(self, generations=[])).items() if k != "generations"
        }

    def scores(self) -> dict[str, float]:
        """problem -> mean score of its texts, for `evaluation.compare`; a problem is its prompt and
        its answer."""
        return mean_scores(self.generations)


def evaluate(
    lm,
    task: Task | str,
    rule: Rule | None = None,
    n: int = 256,
    seed: int = 0,
    split: str = "test",
    temperature: float = 0.0,
    block_length: int | None = None,
    batch: int = 128,
    eos: str = "free",
    length: int = 0,
    samples: int = 1,
    top_p: float = 1.0,
    save: str | os.PathLike | None = None,
    checkpoint_rule: str = "",
    say: Callable[[str], None] | None = None,
    team: Team = ALONE,
    cache: str = "",
) -> Report:
    """Solve n problems of a split and report.

    Args:
        lm: a model; task: a `Task` or the name of one.
        rule, length, block_length, temperature, top_p, eos, samples, cache: the `Decoder`'s; by
            default two tokens a forward pass, surest first, greedy, one text a problem, no cache.
        n: problems (the same for equal n, seed and split; a benchmark takes 0 for all of them, in
            file order).
        batch: texts at a time; results do not depend on it at temperature 0. Above, each batch has
            its own generator, derived from `seed` and its first item, so a resumed evaluation gives
            the same texts.
        team: processes that share the batches; all get the report. It saves nothing.
        save: a json-lines file that grows batch by batch; called again with the same arguments, the
            evaluation goes on where it stopped. checkpoint_rule: for the card, how this checkpoint
            was chosen. say: a line per batch.
    Raises:
        ValueError: for arguments that cannot be, or a `save` file that holds another evaluation
            (naming what differs).
    """
    task = load_task(task) if isinstance(task, str) else task
    decoder = Decoder(rule, length, block_length, temperature, top_p, eos, samples, cache).of(task)
    examples = task.sample(n, split, seed)
    chance = temperature > 0 or decoder.rule.random
    settings = asdict(replace(decoder, rule=None)) | {
        "rule": repr(decoder.rule),
        "batch": batch if chance else "any",
        "checkpoint_rule": checkpoint_rule or "not stated",
    }
    settings = {
        k: v for k, v in settings.items() if k != "cache" or v
    }  # cards from before there was one stay as they are
    made = protocol(lm, task, examples, split, seed, settings)
    jobs = list(itertools.product(range(len(examples)), range(samples)))
    if save and team.size > 1:
        raise ValueError(
            "several processes cannot save one evaluation: evaluate the checkpoint with one"
        )
    rows = _claim(Path(save), made, batch, len(jobs)) if save else []
    for start in team.share(range(len(rows), len(jobs), batch)):
        picked = jobs[start : start + batch]
        prefill = (
            "" if split == "train" else task.prefill
        )  # prompts to train on leave it to the model
        rows += _batch(
            lm,
            task,
            prefill,
            decoder,
            [examples[i] for i, _ in picked],
            picked,
            generator(seed, start, "evaluate", lm.device),
        )
        if save:
            with open(save, "a") as file:
                file.writelines(json.dumps(r) + "\n" for r in rows[start:])
        if say:
            right = 100 * statistics.fmean(r["reward"] == 1 for r in rows)
            say(f"{len(rows)} of {len(jobs)} texts, {right:.1f} % right so far")
    return report(task, examples, team.gather(rows), made)


def _batch(
    lm,
    task,
    prefill: str,
    decoder: Decoder,
    examples: list[Example],
    jobs: list[tuple[int, int]],
    noise,
) -> list[dict]:
    """The saved rows of one batch: texts, their scores, passes and seconds."""
    start = time.perf_counter()
    prompts = encode_prompts(lm.tokenizer, [e.prompt for e in examples], prefill)
    rollout = denoise(
        lm,
        prompts,
        decoder.length,
        decoder.rule,
        decoder.block_length,
        decoder.temperature,
        top_p=decoder.top_p,
        eos=decoder.eos,
        generator=noise,
        cache=decoder.cache,
    )
    texts = decode(lm.tokenizer, rollout.tokens)
    seconds = (time.perf_counter() - start) / len(jobs)
    rewards = task.solved(examples, texts)
    return [
        {
            "task": task.name,
            "item": i,
            "sample": s,
            "prompt": e.prompt,
            "completion": t,
            "reward": r,
            "forwards": f,
            "seconds": round(seconds, 5),
            "answer": e.answer,
            "columns": e.columns,
        }
        for (i, s), e, t, r, f in zip(
            jobs, examples, texts, rewards, rollout.n_forwards.tolist(), strict=True
        )
    ]


def _claim(path: Path, made: dict, batch: int, wanted: int) -> list[dict]:
    """The finished rows of a save file, or a new file that holds the card. A last batch that was
    cut off is dropped."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"protocol": made}) + "\n")
        return []
    found, rows = read_run(path, cut_off=True)
    if changed := differences(found, made):
        both = ", ".join(f"{k} {a!r} -> {b!r}" for k, (a, b) in changed.items())
        raise ValueError(
            f"{path} holds another evaluation ({both}): choose another file, or delete it to start afresh"
        )
    rows = rows if len(rows) == wanted else rows[: len(rows) // batch * batch]
    new = path.with_suffix(".new")
    new.write_text("".join(json.dumps(r) + "\n" for r in [{"protocol": found}, *rows]))
    new.replace(path)
    return rows


def report(task: Task, examples: list[Example], rows: list[dict], made: dict) -> Report:
    """A `Report` of saved or fresh rows; examples[row["item"]] is what a row answers."""
    samples = made.get("samples", 1)
    right = [0] * len(examples)
    for row in rows:
        right[row["item"]] += row["reward"] == 1
    accuracy, low, high = accuracy_interval(right, samples)
    weights = [task.weigh(examples[r["item"]]) for r in rows]
    wrong = [
        task.shows_habit(examples[r["item"]], r["completion"]) for r in rows if r["reward"] < 1
    ]
    seconds = sum(r.get("seconds", 0.0) for r in rows)
    ks = [k for k in (1, 2, 4, 8, 16, 32, 64, 128) if k <= samples and samples > 1]
    return Report(
        task.name,
        made.get("split", ""),
        len(examples),
        made.get("temperature", 0.0),
        made.get("rule", ""),
        accuracy,
        low,
        high,
        sum(wrong) / max(len(wrong), 1),
        statistics.fmean(r.get("forwards", 0) for r in rows),
        seconds,
        len(rows) * made.get("length", 0) / seconds if seconds else 0.0,
        rows,
        sum(w * r["reward"] for w, r in zip(weights, rows, strict=True)) / (sum(weights) or 1.0),
        samples,
        {k: pass_at(right, samples, k) for k in ks},
        made,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="evaluate a model on a task; the same command again goes on where it stopped",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    run.add_argument("model", help="tiny, a folder, or a hub id such as GSAI-ML/LLaDA-8B-Instruct")
    run.add_argument("task", help="a name of load_task, such as gsm8k")
    run.add_argument("--save", required=True, help="the json-lines file of the texts")
    for name, default, what in (
        ("data", "", "file, folder or hub id of the task's rows; default: the task's own"),
        ("adapters", "", "folder of LoRA adapters"),
        ("split", "test", "of the task"),
        ("problems", 0, "how many; 0: all of a benchmark"),
        ("seed", 0, "of problems and noise"),
        ("shots", 0, "worked examples in the prompt"),
        ("length", 0, "canvas, tokens; 0: the task's own"),
        ("steps", 0, "forward passes of the schedule; 0: half the length"),
        ("order", "confidence", f"of the schedule: {', '.join(ORDERS)}"),
        ("threshold", 0.0, "reveal all that is surer than this, in place of a schedule; 0: off"),
        ("block-length", 0, "tokens of a block; 0: one block"),
        ("temperature", 0.0, "0: greedy"),
        ("top-p", 1.0, "1: off"),
        ("samples", 1, "texts a problem"),
        ("eos", "free", "free, stop or forbid"),
        ("batch", 16, "texts at a time"),
        ("device", "cpu", "cpu, cuda, ..."),
        ("dtype", "float32", "or bfloat16"),
        ("cache", "", "prefix or dual: faster, and another law (benchmarks/cache.py)"),
        ("checkpoint-rule", "not stated", "how this checkpoint was chosen, for the protocol card"),
    ):
        run.add_argument(f"--{name}", type=type(default), default=default, help=what)
    again = commands.add_parser(
        "rescore", help="score saved texts again, offline: this project's files, or d1's"
    )
    again.add_argument("file")
    pair = commands.add_parser(
        "compare", help="two runs on the same problems, with a paired interval"
    )
    pair.add_argument("first")
    pair.add_argument("second")
    for one in (again, pair):
        one.add_argument("--task", default="", help="of files that do not name it, such as d1's")
    for one in (run, again, pair):
        one.add_argument(
            "--published-quirks",
            action="store_true",
            help="count as the releases do, mistakes included",
        )
    return parser


def _run(a: argparse.Namespace) -> str:
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    task = load_task(
        a.task, data=a.data or None, shots=a.shots, published_quirks=a.published_quirks
    )
    lm = load_lm(a.model, a.device, lookup("dtype", a.dtype, dtypes), adapters=a.adapters or None)
    rule = (
        Threshold(a.threshold)
        if a.threshold
        else Schedule(a.steps or (a.length or task.length) // 2, a.order)
    )
    return evaluate(
        lm,
        task,
        rule,
        a.problems,
        a.seed,
        a.split,
        a.temperature,
        a.block_length or None,
        a.batch,
        a.eos,
        a.length,
        a.samples,
        a.top_p,
        a.save,
        a.checkpoint_rule,
        print,
        cache=a.cache,
    ).card()


def _rescore(a: argparse.Namespace) -> str:
    return str(rescored(a.file, a.task, a.published_quirks or None))


def _compare(a: argparse.Namespace) -> str:
    first, second = (
        rescored(path, a.task, a.published_quirks or None) for path in (a.first, a.second)
    )
    lines = [f"first   {a.first}\n        {first}", f"second  {a.second}\n        {second}"]
    if changed := differences(first.protocol, second.protocol):
        lines += [
            "their cards differ in:",
            card({k: f"{x} -> {y}" for k, (x, y) in changed.items()}),
        ]
    return "\n".join([*lines, str(compare(first.scores(), second.scores()))])


COMMANDS = {"run": _run, "rescore": _rescore, "compare": _compare}


def main() -> None:
    """The command line."""
    parser = _parser()
    a = parser.parse_args()
    try:
        print(COMMANDS[a.command](a))
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        parser.exit(1, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "\nstopped; finished texts are saved, run the same command to go on\n")


if __name__ == "__main__":
    main()
