"""TrainConfig: the validated settings of one run, from Python, YAML files or the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..methods import METHODS, Numbers
from ..models import SHIPPED
from ..names import lookup
from ..rewards import published
from ..tasks import SPLITS, TASKS, GeneratedTask, Task, load_task
from ..values import check_options, check_values, option, read_file, read_values


@dataclass(frozen=True)
class TrainConfig:
    """One run. The same configuration with the same `run_dir` resumes where it stopped."""

    method: str = option("agrpo", "a key of METHODS")
    model: str = option("tiny", "what load_lm takes: tiny, tiny-writers, a folder or a hub id")
    task: str = option("chain2", "what load_task takes: chain2, sudoku4, gsm8k, ...")
    data: str = option("", "a benchmark's file, folder or hub id; empty: its own hub id")
    shots: int = option(0, "worked examples in the prompts of a benchmark", least=0)
    length: int = option(0, "completion canvas, tokens; 0: the task's own", least=0)
    max_prompt: int = option(0, "leave out longer prompts, tokens; 0: all must fit", least=0)
    run_dir: str = option("runs/train", "everything the run writes goes here")
    steps: int = option(52, "rollout batches", least=1)
    seed: int = option(0, "seeds problems, rollouts and views", least=0)
    preset: str = option(
        "auto",
        "numbers to start from: tiny, paper, or auto (by the model)",
        choices=("auto", "tiny", "paper"),
    )
    numbers: dict = option({}, "overrides of the method's numbers, such as numbers.lr=1e-4")
    forwards: int = option(
        0, "stop after this many forward passes of one row; 0: no limit", least=0
    )
    computed: int = option(
        0, "the same, of passes computed: equal rows of a pass count once; 0: no limit", least=0
    )
    eval_every: int = option(10, "steps between evaluations; 0: only before and after", least=0)
    eval_problems: int = option(128, "held-out problems per evaluation; 0: all of them", least=0)
    eval_split: str = option(
        "validation", "the split that evaluations during training use", choices=tuple(SPLITS)
    )
    checkpoint_every: int = option(10, "steps between checkpoints; one more at the end", least=1)
    rollout_batch: int = option(0, "rows per rollout call, whole groups; 0: all", least=0)
    micro_batch: int = option(0, "rows per forward-backward pass; 0: all", least=0)
    device: str = option("cpu", "auto: a GPU if there is one", choices=("cpu", "auto"))
    tensorboard: bool = option(False, "also write TensorBoard files (the tensorboard extra)")
    dtype: str = option(
        "float32",
        "dtype of the weights; bfloat16 with LoRA (adapters stay float32) or shard",
        choices=("float32", "bfloat16"),
    )
    lora_targets: str = option(
        "",
        "all, or published (models/adapters.py); empty: every weight is trained",
        choices=("", "all", "published"),
    )
    lora_r: int = option(128, "rank of the adapters", least=1)
    lora_alpha: float = option(64.0, "their scale is lora_alpha / lora_r", above=0, most=1e4)
    lora_dropout: float = option(
        0.0, "0.05 in d1's family; with it no ratio starts at exactly 1", least=0, most=0.9
    )
    gradient_checkpointing: bool = option(False, "less memory for one more forward pass")
    quantize: str = option("", "4bit: the frozen base, on a GPU", choices=("", "4bit"))
    shard: bool = option(False, "split weights, gradients and optimiser over processes (FSDP)")
    cache: str = option(
        "",
        "prefix or dual: key-value cache in rollouts, whose distribution it changes slightly",
        choices=("", "prefix", "dual"),
    )

    def __post_init__(self):
        check_options(self)
        check_values(Numbers, self.numbers, kind="number")
        lookup("method", self.method, METHODS)
        if self.shard and (self.lora_targets or self.quantize):
            raise ValueError(
                "shard splits weights that are trained, and lora_targets or quantize freezes them: "
                "set shard to false"
            )
        low_precision = self.quantize or (self.dtype != "float32" and not self.shard)
        if low_precision and not self.lora_targets:
            raise ValueError(
                f"dtype {self.dtype!r}, quantize {self.quantize!r}: such weights cannot take a "
                "small update; set lora_targets, or shard (which keeps a float32 copy), or train "
                "float32 weights"
            )
        group = self.resolved().group
        check_whole_groups("rollout_batch", self.rollout_batch, group)
        together = METHODS[self.method].objective.rows_together(group)
        check_whole_groups("micro_batch", self.micro_batch, together)
        self.load_task()  # unknown names and bad numbers end here

    def resolved(self) -> Numbers:
        """The method's numbers for this run, overrides applied."""
        return METHODS[self.method].numbers(preset(self.model, self.preset), **self.numbers)

    def load_task(self) -> Task:
        """What this run trains on; `published_quirks` is also a benchmark's, which then scores as
        the releases do."""
        quirks = self.resolved().published_quirks and (bool(self.data) or self.task not in TASKS)
        if quirks and self.method == published.TIMED:
            quirks = published.TIMED  # its release scores in its own way
        task = load_task(self.task, self.data or None, self.shots, quirks)
        if isinstance(task, GeneratedTask):
            if not self.eval_problems:
                raise ValueError(
                    f"eval_problems must be at least 1: {self.task!r} is generated and has no end"
                )
            most = task.most_in(self.eval_split)
            if self.eval_problems > most:
                raise ValueError(
                    f"eval_problems must be at most {most:.0f}, what the {self.eval_split} split "
                    f"of {self.task!r} can hold, got {self.eval_problems}"
                )
        return replace(task, length=self.length) if self.length else task


def check_whole_groups(name: str, rows: int, group: int) -> None:
    """Raises ValueError if a number of rows would cut a group."""
    if rows % group:
        raise ValueError(f"{name} must hold whole groups, a multiple of {group}, got {rows}")


def check_canvas(numbers: Numbers, length: int) -> None:
    """Raises ValueError if blocks or steps do not fit the canvas."""
    block = numbers.block_length or length
    if length % block:
        raise ValueError(
            f"block_length {block} must divide the canvas length {length}: "
            "change the number, or `length`"
        )
    numbers.rule(length).check(length // block)


def preset(model: str, name: str) -> str:
    """Whose numbers a run starts from."""
    if name != "auto":
        return name
    return "tiny" if model in SHIPPED else "paper"


@dataclass(frozen=True)
class Parameters(TrainConfig):
    """What a parameter file may say: the run, how it is started, what only 20_train.ipynb knows."""

    processes: int = option(1, "start as many processes on this machine", least=1)
    dry_run: bool = option(False, "print the plan and stop")
    test_problems: int = option(
        180, "of 20_train.ipynb: problems before and after; 0: all", least=0
    )
    test_split: str = option(
        "test", "of 20_train.ipynb: where they come from", choices=tuple(SPLITS)
    )


LAUNCH = ("processes", "dry_run")
NOTEBOOK = ("test_problems", "test_split")


def read_config(path: str | Path | None, given: Mapping | None = None) -> tuple[TrainConfig, dict]:
    """A configuration from a YAML file and from values that override it, and how to start it.

    Args:
        path: a file such as those in `notebooks/configs`, which 20_train.ipynb takes too.
        given: values by name.
    Returns:
        the configuration, and the values of `LAUNCH`.
    Raises:
        ValueError: for a missing file, an unknown name (with the nearest match) or a value of
            another type.
    """
    values = read_values(Parameters, read_file(path), given or {})
    values["numbers"] = read_values(Numbers, values.get("numbers", {}), kind="number")
    start = {name: values.pop(name, getattr(Parameters, name)) for name in LAUNCH}
    for name in NOTEBOOK:
        values.pop(name, None)
    return TrainConfig(**values), start
