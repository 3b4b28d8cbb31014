"""How good is it? Accuracy with an interval, forward passes, speed, pass@k; every text saved,
resumed, scored again. From a shell:

    python -m dllm_rl_lite.evaluate run MODEL TASK save=FILE [name=value ...]
    python -m dllm_rl_lite.evaluate rescore FILE [name=value ...]
    python -m dllm_rl_lite.evaluate compare FILE FILE [name=value ...]
"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from .evaluation import Report, differences, paired_comparison, rescored
from .evaluation.cards import card_settings, format_card, make_card
from .evaluation.report import make_report
from .evaluation.saved import append_rows, finished_rows
from .files import locked
from .models import MaskedDiffusionLM, decode, encode_prompts, load_lm, prompt_lengths
from .models.cache import CACHES
from .names import lookup
from .processes import gather, own_part, process_count
from .sampler import ORDERS, Decoding, Rule, Schedule, Threshold, fill_canvas
from .sampler.decoding import EOS_POLICIES
from .seeds import generator
from .tasks import SPLITS, Example, Task, load_task
from .values import check_value, describe_options, option, read_values, read_words, split_arguments


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
    skip_long: bool = False,
    say: Callable[[str], None] | None = None,
) -> Report:
    """Solve n problems of a split and report. Processes that share a run share the batches; all of
    them get the report.

    Args:
        lm: the model.
        task: also by its name.
        decoding: how texts are written; a rule alone is greedy decoding by it. What is left open:
            the task's own length, two tokens per forward pass, the surest first.
        n: problems (the same for equal n, seed and split; a benchmark takes 0 for all of them, in
            file order).
        seed: chooses the problems, and all noise; 0 or more.
        split: of the task.
        samples: texts per problem.
        batch: texts at a time; results do not depend on it if decoding is greedy. Otherwise each
            batch has its own generator, derived from `seed` and its first item, so a resumed
            evaluation gives the same texts.
        save: a json-lines file that grows batch by batch; called again with the same arguments, the
            evaluation goes on where it stopped. One process only, which locks it. A file without a
            finished text is begun anew, whatever was asked before.
        checkpoint_rule: for the card: how this checkpoint was chosen.
        skip_long: leave out the problems whose prompts do not fit the model beside the canvas, and
            count them in the report; otherwise they are an error. All are measured before the first
            forward pass.
        say: gets a line per batch.
    Raises:
        ValueError: for arguments that cannot be, prompts that do not fit, or a `save` file that is
            in use or holds another evaluation (naming what differs).
        RuntimeError: if a text cannot be saved.
    """
    if isinstance(task, str):
        task = load_task(task)
    if isinstance(decoding, Rule):
        decoding = Decoding(rule=decoding)
    decoding = (decoding or Decoding()).for_canvas(task.length)
    check_numbers(n=n, seed=seed, samples=samples, batch=batch)
    check_settings(decoding, samples, save)
    prefill = "" if split == "train" else task.prefill  # d1 trains without
    asked = task.sample(n, split, seed)
    examples = keep_fitting(lm, asked, prefill, decoding.length, skip_long)
    settings = card_settings(decoding, samples, batch, checkpoint_rule)
    if len(examples) < len(asked):
        settings["left_out"] = len(asked) - len(examples)
    made = make_card(lm, task, examples, split, seed, settings)
    jobs = list(itertools.product(range(len(examples)), range(samples)))
    rows = []
    lock = contextlib.nullcontext()
    if save is not None:
        lock = locked(Path(f"{save}.lock"), str(save))
    with lock:
        if save is not None:
            rows = finished_rows(Path(save), made, jobs, batch)
        for start in own_part(range(len(rows), len(jobs), batch)):
            picked = jobs[start : start + batch]
            noise = generator(seed, start, "evaluate", lm.device)
            new = solve(lm, task, [examples[i] for i, _ in picked], decoding, noise, prefill)
            for row, (item, sample) in zip(new, picked, strict=True):
                rows.append({"task": task.name, "item": item, "sample": sample, **row})
            if save is not None:
                append_rows(Path(save), rows[start:])
            if say:
                right = 100 * statistics.fmean(row["reward"] == 1 for row in rows)
                say(f"{len(rows)} of {len(jobs)} texts, {right:.1f} % right so far")
    return make_report(task, examples, gather(rows), made)


def check_numbers(**numbers: int) -> None:
    """Raise ValueError for a number of an evaluation that is not whole or too small."""
    for name, value in numbers.items():
        least = 1 if name in ("samples", "batch") else 0
        check_value(name, value, int, option(least=least).metadata)


def check_settings(decoding: Decoding, samples: int, save: str | os.PathLike | None) -> None:
    """Raise ValueError for settings that would have no effect, or no file of its own to save to."""
    if decoding.temperature == 0 and (decoding.top_p < 1 or decoding.top_k):
        raise ValueError(
            f"top_p {decoding.top_p} and top_k {decoding.top_k} have no effect at temperature 0: "
            "raise the temperature, or set top_p=1 and top_k=0"
        )
    if samples > 1 and not decoding.random:
        raise ValueError(
            f"{samples} samples at temperature 0 are {samples} times the same text: raise the "
            "temperature or ask for one sample"
        )
    if save is not None and (not str(save) or Path(save).is_dir()):
        raise ValueError(f"save must name a file, or be None, got {str(save)!r}")
    if save is not None and process_count() > 1:
        raise ValueError(
            "several processes cannot save one evaluation: evaluate the checkpoint with one"
        )


def keep_fitting(
    lm: MaskedDiffusionLM, examples: list[Example], prefill: str, length: int, skip_long: bool
) -> list[Example]:
    """The problems whose prompts fit the model beside the canvas: all of them, unless `skip_long`
    allows to leave some out."""
    room = lm.max_length - length
    lengths = prompt_lengths(lm.tokenizer, [example.prompt for example in examples], prefill)
    fitting = [e for e, tokens in zip(examples, lengths, strict=True) if tokens <= room]
    if len(fitting) == len(examples) or (fitting and skip_long):
        return fitting
    raise ValueError(
        f"{len(examples) - len(fitting)} of {len(examples)} problems do not fit: a canvas of "
        f"{length} leaves {max(room, 0)} of the model's {lm.max_length} tokens, and the longest "
        f"prompt has {max(lengths)}; set a shorter length, or skip_long=true to leave them out"
    )


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


@dataclass(frozen=True)
class ScoringOptions:
    """What `evaluate rescore FILE` and `evaluate compare FILE FILE` can be told."""

    task: str = option("", "the task of files that do not name it, such as d1's")
    published_quirks: bool = option(False, "count as the releases do, mistakes included")


@dataclass(frozen=True)
class RunOptions:
    """What `evaluate run MODEL TASK` can be told."""

    save: str = option("", "the json-lines file of the texts; it must be given")
    data: str = option("", "file, folder or hub id of the task's rows; empty: the task's own")
    adapters: str = option("", "folder of LoRA adapters")
    split: str = option("test", "split of the task", choices=tuple(SPLITS))
    problems: int = option(0, "how many; 0: all of a benchmark", least=0)
    seed: int = option(0, "seeds problems and noise", least=0)
    shots: int = option(0, "worked examples in the prompt", least=0)
    length: int = option(0, "canvas, tokens; 0: the task's own", least=0)
    steps: int = option(0, "forward passes of the schedule; 0: half the length", least=0)
    order: str = option("confidence", "order of the schedule", choices=ORDERS)
    threshold: float = option(
        0.0, "instead of a schedule, reveal all that is surer; 0: off", least=0, most=1
    )
    block_length: int = option(0, "tokens per block; 0: one block", least=0)
    temperature: float = option(0.0, "0: greedy", least=0, most=100)
    top_p: float = option(1.0, "1: off", above=0, most=1)
    samples: int = option(1, "texts per problem", least=1)
    eos: str = option("free", "what may end a text early", choices=EOS_POLICIES)
    batch: int = option(16, "texts at a time", least=1)
    skip_long: bool = option(False, "leave out problems whose prompts do not fit, and count them")
    device: str = option("cpu", "cpu, cuda, ...")
    dtype: str = option("float32", "or bfloat16")
    cache: str = option("", "faster, from another distribution", choices=CACHES)
    checkpoint_rule: str = option("not stated", "how this checkpoint was chosen, for the card")
    published_quirks: bool = option(False, "count as the releases do, mistakes included")


def _run(options: RunOptions, model: str, task_name: str) -> str:
    """Evaluate a model on a task; the same command again goes on where it stopped."""
    if not options.save:
        raise ValueError("give save=FILE, the json-lines file of the texts")
    task = load_task(
        task_name,
        data=options.data or None,
        shots=options.shots,
        published_quirks=options.published_quirks,
    )
    lm = load_lm(model, options.device, options.dtype, adapters=options.adapters or None)
    length = options.length or task.length
    if not options.threshold:
        rule = Schedule(options.steps or max(1, length // 2), options.order)
    elif not options.steps and options.order == "confidence":
        rule = Threshold(options.threshold)
    else:
        raise ValueError("threshold takes the place of a schedule: leave out steps and order")
    decoding = Decoding(
        rule=rule,
        length=options.length,
        block_length=options.block_length,
        temperature=options.temperature,
        top_p=options.top_p,
        eos=options.eos,
        cache=options.cache,
    )
    report = evaluate(
        lm,
        task,
        decoding,
        n=options.problems,
        seed=options.seed,
        split=options.split,
        samples=options.samples,
        batch=options.batch,
        save=options.save,
        checkpoint_rule=options.checkpoint_rule,
        skip_long=options.skip_long,
        say=print,
    )
    return report.describe()


def _rescore(options: ScoringOptions, path: str) -> str:
    """Score saved texts again, offline: this project's files, or d1's."""
    return str(rescored(path, options.task, options.published_quirks or None))


def _compare(options: ScoringOptions, first_path: str, second_path: str) -> str:
    """Two runs on the same problems, with a paired interval."""
    first = rescored(first_path, options.task, options.published_quirks or None)
    second = rescored(second_path, options.task, options.published_quirks or None)
    lines = [f"first   {first_path}\n        {first}", f"second  {second_path}\n        {second}"]
    changed = differences(first.card, second.card)
    if changed:
        both = {name: f"{one} -> {other}" for name, (one, other) in changed.items()}
        lines += ["their cards differ in:", format_card(both)]
    lines.append(str(paired_comparison(first.rewards_by_problem(), second.rewards_by_problem())))
    return "\n".join(lines)


# command -> what it runs, its options, and how many names it takes
COMMANDS = {
    "run": (_run, RunOptions, 2),
    "rescore": (_rescore, ScoringOptions, 1),
    "compare": (_compare, ScoringOptions, 2),
}


def main() -> None:
    """The command line."""
    try:
        names, words = split_arguments(sys.argv[1:], most=3)
        if not names or "--help" in words:
            print(__doc__)
            for command, (function, schema, _) in COMMANDS.items():
                print(f"{command}: {function.__doc__}\n{describe_options(schema)}\n")
            return
        function, schema, wanted = lookup("command", names[0], COMMANDS)
        if len(names) != wanted + 1:
            raise ValueError(f"{names[0]} takes {wanted} names before name=value, got {names[1:]}")
        options = schema(**read_values(schema, read_words(schema, words)))
        print(function(options, *names[1:]))
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nstopped; finished texts are saved, run the same command to go on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
