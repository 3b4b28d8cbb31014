"""How good is it? Accuracy with an interval, forward passes, speed, pass@k; every text saved,
resumed, scored again. From a shell:

    python -m dllm_rl_lite.evaluate run MODEL TASK save=FILE [name=value ...]
    python -m dllm_rl_lite.evaluate rescore FILE [name=value ...]
    python -m dllm_rl_lite.evaluate compare FILE FILE [name=value ...]
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from yaml import YAMLError

from .evaluation import accuracy_interval, compare, differences, pass_at, read_run, rescored
from .evaluation.cards import card, protocol
from .evaluation.rescoring import mean_scores
from .models import decode, encode_prompts, load_lm
from .names import lookup
from .processes import ALONE, Team
from .sampler import ORDERS, Rule, Schedule, Threshold, denoise
from .seeds import generator
from .tasks import Benchmark, Example, Task, load_task
from .values import describe_options, option, read_values, read_words, split_arguments


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

    def of(self, task: Task | Benchmark) -> Decoder:
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
    task: Task | Benchmark | str,
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
        lm: a model; task: a `Task`, a `Benchmark` or the name of one.
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
    split: str = option("test", "split of the task")
    problems: int = option(0, "how many; 0: all of a benchmark")
    seed: int = option(0, "seeds problems and noise")
    shots: int = option(0, "worked examples in the prompt")
    length: int = option(0, "canvas, tokens; 0: the task's own")
    steps: int = option(0, "forward passes of the schedule; 0: half the length")
    order: str = option("confidence", f"order of the schedule: {', '.join(ORDERS)}")
    threshold: float = option(0.0, "instead of a schedule, reveal all that is surer; 0: off")
    block_length: int = option(0, "tokens per block; 0: one block")
    temperature: float = option(0.0, "0: greedy")
    top_p: float = option(1.0, "1: off")
    samples: int = option(1, "texts per problem")
    eos: str = option("free", "free, stop or forbid")
    batch: int = option(16, "texts at a time")
    device: str = option("cpu", "cpu, cuda, ...")
    dtype: str = option("float32", "or bfloat16")
    cache: str = option("", "prefix or dual: faster, from another distribution")
    checkpoint_rule: str = option("not stated", "how this checkpoint was chosen, for the card")
    published_quirks: bool = option(False, "count as the releases do, mistakes included")


def _run(options: RunOptions, model: str, task_name: str) -> str:
    """Evaluate a model on a task; the same command again goes on where it stopped."""
    if not options.save:
        raise ValueError("give save=FILE, the json-lines file of the texts")
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    dtype = lookup("dtype", options.dtype, dtypes)
    task = load_task(
        task_name,
        data=options.data or None,
        shots=options.shots,
        published_quirks=options.published_quirks,
    )
    lm = load_lm(model, options.device, dtype, adapters=options.adapters or None)
    length = options.length or task.length
    rule = Schedule(options.steps or length // 2, options.order)
    if options.threshold:
        rule = Threshold(options.threshold)
    report = evaluate(
        lm,
        task,
        rule,
        n=options.problems,
        seed=options.seed,
        split=options.split,
        temperature=options.temperature,
        block_length=options.block_length or None,
        batch=options.batch,
        eos=options.eos,
        length=options.length,
        samples=options.samples,
        top_p=options.top_p,
        save=options.save,
        checkpoint_rule=options.checkpoint_rule,
        say=print,
        cache=options.cache,
    )
    return report.card()


def _rescore(options: ScoringOptions, path: str) -> str:
    """Score saved texts again, offline: this project's files, or d1's."""
    return str(rescored(path, options.task, options.published_quirks or None))


def _compare(options: ScoringOptions, first_path: str, second_path: str) -> str:
    """Two runs on the same problems, with a paired interval."""
    first = rescored(first_path, options.task, options.published_quirks or None)
    second = rescored(second_path, options.task, options.published_quirks or None)
    lines = [f"first   {first_path}\n        {first}", f"second  {second_path}\n        {second}"]
    changed = differences(first.protocol, second.protocol)
    if changed:
        both = {name: f"{one} -> {other}" for name, (one, other) in changed.items()}
        lines += ["their cards differ in:", card(both)]
    lines.append(str(compare(first.scores(), second.scores())))
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
    except (ValueError, RuntimeError, FileNotFoundError, YAMLError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nstopped; finished texts are saved, run the same command to go on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
