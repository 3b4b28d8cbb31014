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
from .models import MaskedDiffusionLM, decode, encode_prompts, load_lm
from .names import lookup
from .processes import gather, own_part, process_count
from .sampler import ORDERS, Decoding, Rule, Schedule, Threshold, fill_canvas
from .seeds import generator
from .tasks import Benchmark, Example, Task, load_task


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
    lm: MaskedDiffusionLM,
    task: Task | Benchmark | str,
    decoding: Decoding | Rule | None = None,
    n: int = 256,
    seed: int = 0,
    split: str = "test",
    *,
    samples: int = 1,
    batch: int = 128,
    save: str | os.PathLike | None = None,
    checkpoint_rule: str = "",
    say: Callable[[str], None] | None = None,
) -> Report:
    """Solve n problems of a split and report. Processes that share a run share the batches; all of
    them get the report.

    Args:
        lm: the model.
        task: a task, a benchmark, or the name of one.
        decoding: how texts are written; a rule alone is greedy decoding by it. What is left open:
            the task's own length, two tokens per forward pass, the surest first.
        n: problems (the same for equal n, seed and split; a benchmark takes 0 for all of them, in
            file order).
        seed: chooses the problems, and all noise.
        split: "train", "validation" or "test".
        samples: texts per problem.
        batch: texts at a time; results do not depend on it if decoding is greedy. Otherwise each
            batch has its own generator, derived from `seed` and its first item, so a resumed
            evaluation gives the same texts.
        save: a json-lines file that grows batch by batch; called again with the same arguments, the
            evaluation goes on where it stopped. One process only.
        checkpoint_rule: for the card: how this checkpoint was chosen.
        say: gets a line per batch.
    Raises:
        ValueError: for arguments that cannot be, or a `save` file that holds another evaluation
            (naming what differs).
    """
    if isinstance(task, str):
        task = load_task(task)
    if isinstance(decoding, Rule):
        decoding = Decoding(rule=decoding)
    decoding = (decoding or Decoding()).for_canvas(task.length)
    check_samples(samples, decoding)
    if save and process_count() > 1:
        raise ValueError(
            "several processes cannot save one evaluation: evaluate the checkpoint with one"
        )
    examples = task.sample(n, split, seed)
    settings = card_settings(decoding, samples, batch, checkpoint_rule)
    made = protocol(lm, task, examples, split, seed, settings)
    jobs = list(itertools.product(range(len(examples)), range(samples)))
    rows = _claim(Path(save), made, batch, len(jobs)) if save else []
    for start in own_part(range(len(rows), len(jobs), batch)):
        picked = jobs[start : start + batch]
        noise = generator(seed, start, "evaluate", lm.device)
        prefill = "" if split == "train" else task.prefill  # d1 trains without
        new = solve(lm, task, [examples[i] for i, _ in picked], decoding, noise, prefill)
        for row, (item, sample) in zip(new, picked, strict=True):
            rows.append({"task": task.name, "item": item, "sample": sample, **row})
        if save:
            with open(save, "a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows[start:])
        if say:
            right = 100 * statistics.fmean(row["reward"] == 1 for row in rows)
            say(f"{len(rows)} of {len(jobs)} texts, {right:.1f} % right so far")
    return report(task, examples, gather(rows), made)


def check_samples(samples: int, decoding: Decoding) -> None:
    """Raise ValueError for a number of samples that cannot be, or that would all be one text."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if samples > 1 and not decoding.random:
        raise ValueError(
            f"{samples} samples at temperature 0 are {samples} times the same text: raise the "
            "temperature or ask for one sample"
        )


def card_settings(decoding: Decoding, samples: int, batch: int, checkpoint_rule: str) -> dict:
    """How texts were written, for the card. What the first cards did not have is only named if it
    is used, so that they can still be compared with new ones."""
    settings = {
        "rule": repr(decoding.rule),
        "length": decoding.length,
        "block_length": decoding.block_length or None,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "eos": decoding.eos,
        "samples": samples,
    }
    if decoding.top_k:
        settings["top_k"] = decoding.top_k
    if decoding.cache:
        settings["cache"] = decoding.cache
    settings["batch"] = batch if decoding.random else "any"
    settings["checkpoint_rule"] = checkpoint_rule or "not stated"
    return settings


def solve(
    lm: MaskedDiffusionLM,
    task: Task | Benchmark,
    examples: list[Example],
    decoding: Decoding,
    generator: torch.Generator,
    prefill: str,
) -> list[dict]:
    """The saved row of each example: its text, reward, passes and seconds."""
    start = time.perf_counter()
    prompts = encode_prompts(lm.tokenizer, [example.prompt for example in examples], prefill)
    rollout = fill_canvas(lm, prompts, decoding, generator=generator)
    texts = decode(lm.tokenizer, rollout.tokens)
    seconds = (time.perf_counter() - start) / len(examples)
    rewards = task.solved(examples, texts)
    rows = []
    for i, example in enumerate(examples):
        rows.append(
            {
                "prompt": example.prompt,
                "completion": texts[i],
                "reward": rewards[i],
                "forwards": int(rollout.n_forwards[i]),
                "seconds": round(seconds, 5),
                "answer": example.answer,
                "columns": example.columns,
            }
        )
    return rows


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


def report(task: Task | Benchmark, examples: list[Example], rows: list[dict], made: dict) -> Report:
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
    decoding = Decoding(
        rule=rule,
        length=a.length,
        block_length=a.block_length,
        temperature=a.temperature,
        top_p=a.top_p,
        eos=a.eos,
        cache=a.cache,
    )
    return evaluate(
        lm,
        task,
        decoding,
        a.problems,
        a.seed,
        a.split,
        samples=a.samples,
        batch=a.batch,
        save=a.save,
        checkpoint_rule=a.checkpoint_rule,
        say=print,
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
