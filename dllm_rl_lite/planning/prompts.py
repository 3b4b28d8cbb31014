"""Do the prompts and the anchored answers fit the model? Measured before its weights are loaded."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..models import prompt_lengths
from ..models.checkpoints import load_tokenizer, read_config, resolve_model
from ..tasks import Benchmark, Example, Task
from ..training import TrainConfig
from .memory import empty_model

SAMPLE = 256  # problems of a generated task that are measured


@dataclass(frozen=True)
class Prompts:
    """The problems that a run trains on, and what to say of them."""

    task: Task  # without the problems that are left out
    note: str  # human-readable


def check_prompts(config: TrainConfig) -> Prompts:
    """Measure the prompts that a run trains on, and leave out what its configuration says; measure
    those of its evaluations.

    Raises:
        ValueError: if the model, its tokenizer or the data cannot be read, or if prompts or
            anchored answers do not fit.
    """
    folder = resolve_model(config.model)
    kind, values = read_config(folder)
    tokenizer = load_tokenizer(folder, kind, values)
    task = config.load_task()
    room = empty_model(config.model).max_length - task.length
    prompts = measure_prompts(task, tokenizer, room, config.max_prompt)
    if isinstance(task, Benchmark) and not config.max_prompt:  # with it, evaluations skip them too
        measure_prompts(task, tokenizer, room, split=config.eval_split)
    guide = config.resolved().guide
    if guide.get("rows") and isinstance(task, Benchmark):
        prompts = fit_answers(prompts, tokenizer, guide)
    return prompts


def measure_prompts(
    task: Task, tokenizer, room: int, max_prompt: int = 0, split: str = "train"
) -> Prompts:
    """Count the tokens of a split's prompts, and leave out the problems of a benchmark that are too
    long. Of a generated task a seeded sample is counted, and nothing can be left out.

    Args:
        task: what is trained on.
        tokenizer: encodes prompts as for rollouts, chat template included.
        room: tokens that the model leaves to a prompt, `lm.max_length - task.length`.
        max_prompt: tokens; a benchmark's problems with longer prompts are left out of this split
            (not of others). 0: every prompt has to fit.
        split: of the task.
    Raises:
        ValueError: if prompts do not fit and may not be left out, or none is left; it names how
            many, the longest, and the fixes.
    """
    if room < 1:
        raise ValueError(
            f"a completion of {task.length} tokens leaves no room for a prompt: the model holds "
            f"{task.length + room} tokens; set a shorter length"
        )
    fixed = isinstance(task, Benchmark)
    rng = random.Random(0)
    examples = task.read(split) if fixed else [task.make(rng) for _ in range(SAMPLE)]
    prefill = "" if split == "train" else task.prefill  # as evaluations have it
    lengths = prompt_lengths(tokenizer, [e.prompt for e in examples], prefill)
    limit = min(max_prompt or room, room)
    fitting = [n for n in lengths if n <= limit]
    too_long = len(lengths) - len(fitting)
    longest = max(lengths)
    counted = f"{too_long} of {len(lengths)} problems have prompts of more than {limit} tokens"
    if not fitting or (too_long and not (fixed and max_prompt)):
        fixes = []
        if fitting and fixed:
            fixes.append(f"max_prompt={room} to leave such problems out")
        if limit < longest <= room:
            fixes.append(f"max_prompt to 0 or at least {longest}")
        if room < longest < room + task.length:
            fixes.append(f"a length of at most {room + task.length - longest}")
        worst = examples[lengths.index(longest)]
        raise ValueError(
            f"{task.name}: {counted} (a length of {task.length} leaves {room} of the model's "
            f"{room + task.length}; the longest, of {longest}, ends "
            f"{worst.prompt.strip()[-60:]!r}): set {' or '.join(fixes) or 'a larger model'}"
        )
    note = f"prompts of {statistics.fmean(fitting):.0f} tokens on average, {max(fitting)} at most"
    if too_long:
        kept = [e for e, n in zip(examples, lengths, strict=True) if n <= limit]
        task = keep_only(task, split, kept)
        note = f"{counted} (longest {longest}) and are left out; {note}"
    return Prompts(task, note)


def fit_answers(prompts: Prompts, tokenizer, guide: dict) -> Prompts:
    """Leave out a benchmark's training problems whose anchored answer (a whole program, say) leaves
    no token to reason with.

    Args:
        prompts: as `measure_prompts` gives them.
        tokenizer: of the model.
        guide: `Numbers.guide`.
    Raises:
        ValueError: if no problem is left.
    """
    task, column, margin = prompts.task, guide["column"], guide["margin"]
    if isinstance(margin, str):
        return prompts  # refused where it is used, with the numbers that the releases took
    examples = task.read("train")
    texts = []
    for example in examples:
        answer = example.columns.get(column, "") if column else example.answer
        texts.append(f"<answer>{answer}</answer>")
    lengths = [len(ids) + margin for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    kept = [e for e, n in zip(examples, lengths, strict=True) if n < task.length]
    if not kept:
        raise ValueError(
            f"{task.name}: no anchored answer fits a canvas of {task.length} tokens (the shortest "
            f"takes {min(lengths)}): set a longer length, or guide rows to 0"
        )
    if len(kept) == len(examples):
        return prompts
    note = (
        f"{len(examples) - len(kept)} of {len(examples)} answers leave no token to reason with "
        f"and are left out; {prompts.note}"
    )
    return Prompts(keep_only(task, "train", kept), note)


def keep_only(task: Benchmark, split: str, kept: list[Example]) -> Benchmark:
    """The benchmark whose split holds `kept` alone; other splits stay as they are."""
    read: Callable[[str], list[Example]] = task.read
    return replace(task, read=lambda asked: list(kept) if asked == split else read(asked))
