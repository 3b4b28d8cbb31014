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
from pathlib import Path

import torch

from .evaluation import Report, differences, paired_comparison, read_run, rescored
from .evaluation.cards import format_card, make_card
from .evaluation.report import make_report, saved_lines
from .files import write_atomically
from .models import MaskedDiffusionLM, decode, encode_prompts, load_lm
from .names import lookup
from .processes import gather, own_part, process_count
from .sampler import ORDERS, Decoding, Rule, Schedule, Threshold, fill_canvas
from .seeds import generator
from .tasks import Example, Task, load_task


def evaluate(
    lm: MaskedDiffusionLM,
    task: Task | str,
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
    made = make_card(lm, task, examples, split, seed, settings)
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
    return make_report(task, examples, gather(rows), made)


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
    task: Task,
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
        write_atomically(path, saved_lines(made, []))
        return []
    found, rows = read_run(path, cut_off=True)
    if changed := differences(found, made):
        both = ", ".join(f"{k} {a!r} -> {b!r}" for k, (a, b) in changed.items())
        raise ValueError(
            f"{path} holds another evaluation ({both}): "
            "choose another file, or delete it to start afresh"
        )
    rows = rows if len(rows) == wanted else rows[: len(rows) // batch * batch]
    write_atomically(path, saved_lines(found, rows))
    return rows


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
    ).describe()


def _rescore(a: argparse.Namespace) -> str:
    return str(rescored(a.file, a.task, a.published_quirks or None))


def _compare(a: argparse.Namespace) -> str:
    first, second = (
        rescored(path, a.task, a.published_quirks or None) for path in (a.first, a.second)
    )
    lines = [f"first   {a.first}\n        {first}", f"second  {a.second}\n        {second}"]
    if changed := differences(first.card, second.card):
        lines += [
            "their cards differ in:",
            format_card({k: f"{x} -> {y}" for k, (x, y) in changed.items()}),
        ]
    return "\n".join(
        [*lines, str(paired_comparison(first.rewards_by_problem(), second.rewards_by_problem()))]
    )


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
