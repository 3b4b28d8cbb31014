"""TrainConfig: everything that one run is told, checked; read from YAML files and from the command
line."""

from __future__ import annotations

import argparse
import inspect
import json
import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import yaml

from ..methods import METHODS, Numbers
from ..names import lookup, unknown
from ..processes import ALONE, Team
from ..tasks import TASKS, Benchmark, Task, load_task
from ..values import cast, merged
from .checkpoint import complete_checkpoints

CHOICES = {
    "device": ("cpu", "auto"),
    "dtype": ("float32", "bfloat16"),
    "lora_targets": ("", "all", "published"),
    "quantize": ("", "4bit"),
    "cache": ("", "prefix", "dual"),
}
LAUNCH = {
    "processes": 1,
    "dry_run": False,
}  # what a YAML file says besides the configuration: how to start it
NOTEBOOK = {"test_problems": 0, "test_split": "test"}  # parameters that only 20_train.ipynb knows
# What may change when a run goes on: how long it is, and what only decides memory (rollout_batch:
# also which noise is drawn), or what is saved and shown.
MAY_CHANGE_ON_RESUME = (
    "steps",
    "forwards",
    "rollout_batch",
    "micro_batch",
    "gradient_checkpointing",
    "shard",
    "checkpoint_every",
    "tensorboard",
)


@dataclass(frozen=True)
class TrainConfig:
    """One run. The same configuration with the same `run_dir` resumes where it stopped."""

    method: str = "agrpo"  # a key of METHODS
    model: str = "tiny"  # what load_lm takes
    task: str = "chain2"  # what load_task takes
    data: str = (
        ""  # file, folder or hub id of a benchmark; empty: its own hub id, or a generated task
    )
    shots: int = 0  # worked examples in the prompts of a benchmark
    length: int = 0  # completion canvas, tokens; 0: the task's own
    max_prompt: int = (
        0  # tokens; problems with longer prompts are left out; 0: every prompt has to fit the model
    )
    run_dir: str = "runs/train"  # everything the run writes goes here
    steps: int = 52  # rollout batches
    seed: int = 0  # of problems, rollouts and views
    preset: str = "auto"  # whose numbers to start from: "tiny", "paper", or "auto": tiny for the tiny model, else paper
    numbers: dict = field(default_factory=dict)  # overrides of the method's Numbers, by field name
    forwards: int = 0  # stop once this many forward passes (of one row, rollouts and views) are spent; 0: no limit
    eval_every: int = 10  # steps between evaluations; 0: only before and after
    eval_problems: int = (
        128  # held-out problems an evaluation, at temperature 0; 0: all that a benchmark has
    )
    eval_split: str = (
        "validation"  # of the evaluations while it trains; the last one is the caller's business
    )
    checkpoint_every: int = 10  # steps between checkpoints; one more at the end
    rollout_batch: int = 0  # rows of one rollout call, whole groups, each with its own noise; 0: all rows of a process
    micro_batch: int = 0  # rows of one forward-backward pass; 0: all
    device: str = "cpu"  # "cpu", or "auto": a GPU where there is one
    tensorboard: bool = False  # also write TensorBoard files (needs the tensorboard extra)
    dtype: str = "float32"  # of the weights; "bfloat16" with LoRA (adapters stay float32), or with shard (so does a copy)
    lora_targets: str = (
        ""  # "all", or "published" (models/adapters.py); empty: every weight is trained
    )
    lora_r: int = 128
    lora_alpha: float = 64.0
    lora_dropout: float = 0.0  # 0.05 in d1's family; with it no ratio starts at exactly 1
    gradient_checkpointing: bool = False  # less memory, a forward more
    quantize: str = ""  # "4bit": the frozen base (needs the quantized extra and a GPU)
    shard: bool = False  # every weight trained: split weights, gradients and optimiser over the processes (FSDP)
    cache: str = ""  # "prefix" or "dual": key-value cache in rollouts, which then are drawn from a slightly different law

    def __post_init__(self):
        lookup("method", self.method, METHODS)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be {' or '.join(map(repr, choices))}, got {getattr(self, name)!r}"
                )
        for name, least in (
            ("steps", 1),
            ("eval_problems", 0),
            ("checkpoint_every", 1),
            ("lora_r", 1),
            ("shots", 0),
            ("length", 0),
            ("max_prompt", 0),
            ("rollout_batch", 0),
            ("micro_batch", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.shard and (self.lora_targets or self.quantize):
            raise ValueError(
                "shard splits weights that are trained, and lora_targets or quantize freezes them: set shard "
                "to false"
            )
        if not self.lora_targets and (self.quantize or self.dtype != "float32" and not self.shard):
            raise ValueError(
                f"dtype {self.dtype!r}, quantize {self.quantize!r}: such weights cannot take a small update; "
                "set lora_targets, or shard (which keeps a float32 copy), or train float32 weights"
            )
        group = self.resolved().group
        if self.rollout_batch % group:
            raise ValueError(
                f"rollout_batch must hold whole groups, a multiple of {group}, got {self.rollout_batch}"
            )
        self.load_task()  # unknown names and bad numbers end here

    def resolved(self) -> Numbers:
        """The method's numbers for this run, overrides applied."""
        return METHODS[self.method].numbers(preset(self.model, self.preset), **self.numbers)

    def load_task(self) -> Task:
        """What this run trains on; `published_quirks` is also a benchmark's, which then scores as
        the releases do."""
        quirks = self.resolved().published_quirks and (bool(self.data) or self.task not in TASKS)
        task = load_task(self.task, self.data or None, self.shots, quirks)
        if not self.eval_problems and not isinstance(task, Benchmark):
            raise ValueError(
                f"eval_problems must be at least 1: {self.task!r} is generated and has no end"
            )
        return replace(task, length=self.length) if self.length else task


def check_canvas(numbers: Numbers, length: int) -> None:
    """Raises ValueError where blocks or steps do not fit the canvas."""
    block = numbers.block_length or length
    if length % block:
        raise ValueError(
            f"block_length {block} must divide the canvas length {length}: change the number, or `length`"
        )
    numbers.rule(length).check(length // block)


def preset(model: str, name: str) -> str:
    """Whose numbers a run starts from."""
    return ("tiny" if model == "tiny" else "paper") if name == "auto" else name


def claim(config: TrainConfig, team: Team = ALONE) -> TrainConfig:
    """Make `run_dir` this configuration's own, or check that it already is; returns the
    configuration that runs.

    Only what is `MAY_CHANGE_ON_RESUME` may differ from the run whose checkpoint the folder holds. A
    `rollout_batch` that is left open becomes what the folder says, or with several processes the
    rows of one: so a run that goes on with another number of processes draws the same noise.
    """
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    path, found = run_dir / "config.json", {}
    if path.exists() and complete_checkpoints(
        run_dir
    ):  # without one, nothing of the folder is taken over
        try:
            found = {f.name: f.default for f in fields(config)} | json.loads(
                path.read_text()
            )  # older runs: fewer fields
        except ValueError as error:
            raise ValueError(
                f"{path} is not readable ({error}): delete {run_dir} or choose another"
            ) from error
    numbers, rows = config.resolved(), config.rollout_batch or found.get("rollout_batch", 0)
    if not rows and team.size > 1:
        rows = -(-numbers.prompts // team.size) * numbers.group
    config = replace(config, rollout_batch=rows)
    wanted = asdict(config) | {"run_dir": ""}
    changed = (
        sorted(k for k in wanted if k not in MAY_CHANGE_ON_RESUME and found.get(k) != wanted[k])
        if found
        else []
    )
    if changed:
        both = ", ".join(f"{k} {found.get(k)!r} -> {wanted[k]!r}" for k in changed)
        raise ValueError(
            f"{run_dir} holds another run ({both}): choose another run_dir, or delete it to start afresh"
        )
    team.agree("view of the run folder", found)  # all have read it before one of them writes
    if team.rank == 0:
        new = path.with_suffix(".new")
        new.write_text(json.dumps(wanted, indent=1) + "\n")
        new.replace(path)
    return config


def read_config(path: str | Path | None, given: dict | None = None) -> tuple[TrainConfig, dict]:
    """A configuration from a YAML file of `configs/` and the values that override it, and how to
    start it (`LAUNCH`).

    The same file is a parameter file of 20_train.ipynb; what only the notebook knows is passed
    over. Values are cast to the type of the field, so that `1e-6`, which YAML reads as text, is a
    number.

    Raises ValueError for a missing file, one that does not hold `name: value` lines, an unknown
    name (with the nearest match) or a value of another type.
    """
    values: dict = {}
    if path is not None:
        if not Path(path).is_file():
            raise ValueError(f"no parameter file {path}")
        values = yaml.safe_load(Path(path).read_text()) or {}
        if not isinstance(values, dict):
            raise ValueError(f"{path} must hold `name: value` lines, found {type(values).__name__}")
    values = merged(values, given or {})
    defaults = asdict(TrainConfig()) | LAUNCH | NOTEBOOK
    for name in values:
        if name not in defaults:
            raise ValueError(unknown("parameter", name, defaults))
    values = {
        name: cast(name, value, defaults[name])
        for name, value in values.items()
        if name not in NOTEBOOK
    }
    start = {name: values.pop(name, default) for name, default in LAUNCH.items()}
    if "numbers" in values:
        values["numbers"] = cast_numbers(values)
    return TrainConfig(**values), start


def cast_numbers(values: dict) -> dict:
    """`numbers` of a YAML file, with text that should be a number turned into one."""
    method = lookup("method", values.get("method", TrainConfig.method), METHODS)
    base = asdict(
        method.numbers(
            preset(values.get("model", TrainConfig.model), values.get("preset", TrainConfig.preset))
        )
    )

    def typed(name: str, value, default):
        if isinstance(value, dict) and isinstance(default, dict):
            return {k: typed(f"{name}.{k}", v, default.get(k)) for k, v in value.items()}
        return (
            cast(name, value, default)
            if isinstance(value, str) and isinstance(default, (int, float))
            else value
        )

    return {name: typed(name, value, base.get(name)) for name, value in values["numbers"].items()}


def parser(description: str) -> argparse.ArgumentParser:
    """The command line: a YAML file, and one option per field of `TrainConfig`; `--numbers` takes a
    dictionary."""
    comments = dict(re.findall(r"(?m)^    (\w+): .*?# (.*)$", inspect.getsource(TrainConfig)))
    comments |= {
        "processes": "start as many on this machine",
        "dry_run": "print the plan, and stop",
    }
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "config",
        nargs="?",
        help="a YAML file of parameters, such as notebooks/configs/quickstart.yaml",
    )
    for name, default in (asdict(TrainConfig()) | LAUNCH).items():
        flag = {"nargs": "?", "const": True} if isinstance(default, bool) else {}
        made.add_argument(
            "--" + name.replace("_", "-"),
            default=argparse.SUPPRESS,
            metavar="VALUE",
            **flag,
            help=f"{comments.get(name, '')} ({default!r})".replace("%", "%%"),
        )
    return made


def parse(options: argparse.ArgumentParser) -> dict:
    """What the command line gives, by name; an unknown option ends the program with the nearest
    match."""
    known, rest = options.parse_known_args()
    if rest:
        flags = ["--" + name.replace("_", "-") for name in asdict(TrainConfig()) | LAUNCH]
        options.error(unknown("option", rest[0].partition("=")[0], flags))
    return vars(known)
