"""The parameter files: what they say is what was published, the notebook and the shell both take
them, and each trains."""

import csv
import json
import math
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.run import declared, parameters
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig, read_config
from dllm_rl_lite.training.config import NOTEBOOK, Parameters

ROOT = Path(__file__).parents[2]
BOOK, CONFIGS = ROOT / "notebooks" / "20_train.ipynb", ROOT / "notebooks" / "configs"
FILES = sorted(p.stem for p in CONFIGS.glob("*.yaml"))
LAUNCHERS = [name for name in FILES if name.startswith("accelerate_")]
OURS = ["eight_gpus", "one_gpu", "quickstart"]  # not published
RECIPES = [name for name in FILES if name not in (*LAUNCHERS, *OURS)]
TRAINED = [name for name in FILES if name not in LAUNCHERS]

# Written down from the sources a second time, apart from the files and from `methods/`.
# The yaml that d1, AG-GRPO, TA-GRPO-d (LLaDA) and wd1 share, line by line: slurm_scripts/train.yaml
# of d1 and TA-GRPO-d, configs/*.yaml of AG-GRPO, wd1/train.yaml; temperature is the default of
# DiffuGRPOConfig.
D1 = {
    "length": 256,
    "max_prompt": 200,
    "seed": 42,
    "lora_targets": "published",
    "lora_r": 128,
    "lora_alpha": 64.0,
    "lora_dropout": 0.05,
    "gradient_checkpointing": False,
    "dtype": "bfloat16",
    "micro_batch": 6,
    "numbers.group": 6,
    "numbers.inner_updates": 12,
    "numbers.clip": 0.5,
    "numbers.kl": 0.04,
    "numbers.lr": 3e-6,
    "numbers.weight_decay": 0.1,
    "numbers.grad_clip": 0.2,
    "numbers.warmup": 0,
    "numbers.temperature": 0.9,
    "numbers.tokens_per_step": 256 // 128,
    "numbers.block_length": 32,
    "numbers.order": "confidence",
    "numbers.views.p_mask_prompt": 0.15,
    "model": "GSAI-ML/LLaDA-8B-Instruct",
}
AG = D1 | {
    "method": "ag-grpo",
    "processes": 1,
    "checkpoint_every": round(500 / 12),
    "numbers.guide.rows": 3,
    "numbers.guide.block_length": 0,
    "numbers.guide.answer_steps": 16,
    "numbers.guide.repredict": True,
    "numbers.views.told": False,
    "numbers.credit.baseline": "shared",
    "numbers.tokens_per_step": 256 // 64,
}
TA = D1 | {
    "method": "ta-grpo-d",
    "processes": 1,
    "checkpoint_every": round(500 / 12),
    "numbers.top_p": 0.95,
    "numbers.gate.tau": 0.7,
    "numbers.gate.kappa": 0.5,
    "numbers.gate.n_min": 1,
    "numbers.gate.test_tau": 0.8,
    "numbers.tokens.delta": 1.0,
    "numbers.tokens.form": "factor",
    "numbers.tokens.clamp": False,
    "numbers.verify.fill": False,
}
WHOLE = {
    "max_prompt": 0
}  # a deliberate difference: d1's Sudoku prompt is longer than the 200 tokens that it is cut to
CODE = {
    "max_prompt": 512,
    "task": "kodcode",
    "test_split": "validation",
}  # another: the system message counts here
PUBLISHED = {
    "d1_gsm8k": D1
    | {
        "method": "diffu-grpo",
        "task": "gsm8k",
        "processes": 8,
        "checkpoint_every": round(100 / 12),
    },
    "wd1_gsm8k": D1
    | {
        "method": "wd1",
        "task": "gsm8k",
        "processes": 4,
        "checkpoint_every": round(500 / 12),
        "numbers.kl": 0.0,
        "numbers.credit.psi": 1.0,
        "numbers.credit.negative": True,
    },
    "ag_grpo_gsm8k": AG
    | {"task": "gsm8k", "numbers.guide.margin": 2},  # margins: its docs/reproducibility.md
    "ag_grpo_math": AG | {"task": "math500", "numbers.guide.margin": 4},
    "ag_grpo_sudoku": AG | WHOLE | {"task": "sudoku4", "numbers.guide.margin": 4},
    "ag_grpo_kodcode": AG
    | CODE
    | {"numbers.guide.margin": 10, "numbers.kl": 0.1, "numbers.tokens_per_step": 256 // 128},
    "ta_grpo_d_countdown": TA | {"task": "countdown", "data": "Jiayi-Pan/Countdown-Tasks-3to4"},
    "ta_grpo_d_sudoku": TA | WHOLE | {"task": "sudoku4"},
    "ta_grpo_d_math": TA
    | {"task": "math500", "numbers.tokens.delta": 0.5},  # MATH_CODE_DELTA of its run.sh
    "ta_grpo_d_code": TA | CODE | {"numbers.tokens.delta": 0.5},
    # train.yaml and accelerate.yaml of AGRPO
    "agrpo_gsm8k": {
        "method": "agrpo",
        "task": "gsm8k",
        "length": 384,
        "seed": 333,
        "lora_targets": "all",
        "lora_r": 64,
        "lora_alpha": 64.0,
        "lora_dropout": 0.0,
        "dtype": "bfloat16",
        "micro_batch": 8,
        "processes": 8,
        "checkpoint_every": 15,
        "numbers.group": 8,
        "numbers.inner_updates": 1,
        "numbers.clip": 0.2,
        "numbers.kl": 0.0,
        "numbers.lr": 5e-6,
        "numbers.weight_decay": 0.01,
        "numbers.grad_clip": 1.0,
        "numbers.temperature": 0.6,
        "numbers.top_k": 150,
        "numbers.top_p": 0.99,
        "numbers.tokens_per_step": 384 // 128,
        "numbers.block_length": 12,
        "numbers.order": "random",
        "numbers.warmup": math.ceil(0.01 * 2336),
        "numbers.views.k": 24,
        "numbers.views.stratified": True,
        "numbers.views.law": "entropy",
    },
    # The example of NeMo-RL's research/gdpo (pull request 3550); what it does not say is d1's.
    "gdpo_gsm8k": D1
    | {
        "method": "gdpo",
        "task": "gsm8k",
        "processes": 8,
        "numbers.kl": 0.0,
        "numbers.lr": 3e-7,
        "numbers.views.nodes": 3,
        "numbers.views.n": 1,
        "numbers.views.nominal": True,
        "numbers.loss.per_token": "inside",
        "numbers.views.p_mask_prompt": None,
    },
    # scripts/run_gdsd_llada_gsm8k.sh over scripts/train_gdsd.yaml, with 8 GPUs
    "gdsd_gsm8k": {
        "method": "gdsd",
        "task": "gsm8k",
        "length": 256,
        "max_prompt": 400,
        "seed": 42,
        "lora_targets": "published",
        "lora_r": 128,
        "lora_alpha": 64.0,
        "lora_dropout": 0.05,
        "dtype": "bfloat16",
        "micro_batch": 10,
        "processes": 8,
        "numbers.group": 16,
        "numbers.inner_updates": 8,
        "numbers.clip": 4e-4,
        "numbers.kl": 1e-3,
        "numbers.lr": 3e-6,
        "numbers.weight_decay": 0.01,
        "numbers.grad_clip": 0.2,
        "numbers.temperature": 1.0,
        "numbers.tokens_per_step": 1,
        "numbers.warmup": math.ceil(0.001 * 374 * 8),
        "numbers.views.n": 2,
        "numbers.views.weighting": "half",
        "numbers.loss.psi": 10.0,
    },
    # recipes/config_coupled_code.yaml; temperature: the paper's
    "coupled_grpo_code": CODE
    | {
        "method": "coupled-grpo",
        "length": 256,
        "seed": 42,
        "dtype": "bfloat16",
        "micro_batch": 5,
        "rollout_batch": 10,
        "processes": 8,
        "gradient_checkpointing": True,
        "lora_targets": "",
        "numbers.group": 10,
        "numbers.inner_updates": 2,
        "numbers.clip": 0.5,
        "numbers.kl": 0.01,
        "numbers.lr": 1e-6,
        "numbers.weight_decay": 0.1,
        "numbers.grad_clip": 0.2,
        "numbers.temperature": 1.2,
        "numbers.top_p": 0.95,
        "numbers.tokens_per_step": 1,
        "numbers.block_length": 0,
        "numbers.order": "entropy",
        "numbers.views.low": 0.2,
        "numbers.views.high": 0.8,
    },
    # the command in MDPO's README, with 8 GPUs
    "mdpo_math": {
        "method": "mdpo",
        "length": 512,
        "max_prompt": 320,
        "seed": 42,
        "dtype": "bfloat16",
        "processes": 8,
        "lora_targets": "",
        "numbers.group": 8,
        "numbers.inner_updates": 1,
        "numbers.kl": 0.02,
        "numbers.lr": 7e-7,
        "numbers.temperature": 0.4,
        "numbers.tokens_per_step": 512 // 128,
        "numbers.block_length": 0,
        "numbers.views.k": 8,
    },
}
# GPUs, rows a GPU, gradient accumulation, siblings: what one update of the release sees
BATCH = {
    "d1_gsm8k": (8, 6, 2, 6),
    "wd1_gsm8k": (4, 6, 2, 6),
    "gdpo_gsm8k": (8, 6, 2, 6),
    "agrpo_gsm8k": (8, 8, 2, 8),
    "gdsd_gsm8k": (8, 10, 4, 16),
    "coupled_grpo_code": (8, 5, 2, 10),
    "mdpo_math": (8, 1, 16, 8),
    **{name: (1, 6, 2, 6) for name in RECIPES if name.startswith(("ag_grpo", "ta_grpo"))},
}
# Optimiser steps of a run: max_steps of AG-GRPO and TA-GRPO-d, the authors of d1 (issue 25) and
# GDPO; epochs of 7 473.
UPDATES = {
    "d1_gsm8k": 7700,
    "gdpo_gsm8k": 3500,
    "ag_grpo_kodcode": 2000,
    "agrpo_gsm8k": math.ceil(5 * 7473 / 16),
    "gdsd_gsm8k": math.ceil(7473 / 20) * 8,
    **{f"ag_grpo_{task}": 4000 for task in ("gsm8k", "math", "sudoku")},
    **{name: 5000 for name in RECIPES if name.startswith("ta_grpo")},
}
# Where a recipe's numbers are not its method's `paper` preset, which is the main experiment of the
# paper or d1's.
NOT_THE_PRESET = {
    "agrpo_gsm8k": {"warmup"},
    "ag_grpo_math": {"guide.margin"},
    "ag_grpo_sudoku": {"guide.margin"},
    "ag_grpo_kodcode": {"guide.margin", "kl", "tokens_per_step"},
    "ta_grpo_d_math": {"tokens.delta"},
    "ta_grpo_d_code": {"tokens.delta"},
    "gdsd_gsm8k": {
        "prompts",
        "group",
        "warmup",
        "tokens_per_step",
        "views.n",
        "loss.psi",
    },
}


def raw(name) -> dict:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


def flat(values: dict, prefix: str = "") -> dict:
    """Nested dictionaries as one, names joined by dots."""
    found = {}
    for name, value in values.items():
        found |= (
            flat(value, f"{prefix}{name}.")
            if isinstance(value, dict) and value
            else {prefix + name: value}
        )
    return found


def everything(name) -> dict:
    """All that a file decides: the configuration, its resolved numbers, how it is started, and the
    notebook's own."""
    config, start = read_config(CONFIGS / f"{name}.yaml")
    own = {k: v for k, v in raw(name).items() if k in NOTEBOOK}
    return flat({**asdict(config), "numbers": asdict(config.resolved()), **start, **own})


def test_the_issues_recipes_are_there():
    wanted = {
        "d1_gsm8k",
        "agrpo_gsm8k",
        *(f"ag_grpo_{task}" for task in ("gsm8k", "math", "sudoku", "kodcode")),
        *(f"ta_grpo_d_{task}" for task in ("countdown", "sudoku", "math", "code")),
    }
    assert wanted <= set(RECIPES) == set(PUBLISHED) == set(BATCH)
    assert set(OURS) < set(FILES) and len(LAUNCHERS) == 2


@pytest.mark.parametrize("name", TRAINED)
def test_the_shell_and_the_notebook_take_it(name):
    path = CONFIGS / f"{name}.yaml"
    config, start = read_config(path)
    given = parameters(BOOK, path, [])
    assert set(given) == set(raw(name))
    kept = {k: v for k, v in given.items() if k not in NOTEBOOK}
    assert read_config(None, kept) == (config, start), "the notebook would run something else"


def test_the_notebook_has_the_configurations_parameters():
    """Same names, same defaults. Its own are a new folder, and the method and steps of the tiny
    world, where scoring every visited step costs little."""
    defaults = declared(BOOK)
    own = {"run_dir": "", "method": "merged-path", "steps": 120}
    assert defaults == asdict(Parameters()) | own
    assert list(defaults) == list(asdict(Parameters()))


def test_the_quickstart_is_the_notebooks_defaults():
    assert raw("quickstart") == {k: v for k, v in declared(BOOK).items() if k != "run_dir"}


@pytest.mark.parametrize("name", FILES)
def test_every_value_says_where_it_is_from(name):
    text = (CONFIGS / f"{name}.yaml").read_text()
    lines = [x for x in text.splitlines() if not x.startswith("#")]
    assert all(len(x) <= 125 for x in text.splitlines()) and "TODO" not in text
    for line in lines:
        if not re.fullmatch(r" *\w+:", line):  # the head of a nested part
            assert re.fullmatch(
                r" *\w+: \S.*  # (release|paper|d1|ours|accelerate)(: .+)?", line
            ), line
    if name in RECIPES:
        head = text[: text.index("\nmethod:")]
        assert re.search(r'(?m)^# "release": [\w-]+/\w', head), (
            "the repository and the file that `release` stands for"
        )


@pytest.mark.parametrize("name", RECIPES)
def test_what_it_says_is_what_was_published(name):
    found = everything(name)
    assert {k: found.get(k) for k in PUBLISHED[name]} == PUBLISHED[name]
    gpus, rows, accumulation, group = BATCH[name]
    assert (
        found["processes"] == gpus
        and found["numbers.prompts"] * group == gpus * rows * accumulation
    )
    if name in UPDATES:
        assert found["steps"] == math.ceil(UPDATES[name] / found["numbers.inner_updates"])


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_the_preset_but_where_listed(name):
    config, _ = read_config(CONFIGS / f"{name}.yaml")
    mine, preset = (
        flat(asdict(n)) for n in (config.resolved(), METHODS[config.method].numbers("paper"))
    )
    assert {k for k in mine if mine[k] != preset[k]} == NOT_THE_PRESET.get(name, set())


@pytest.mark.parametrize("name", TRAINED)
def test_every_process_has_whole_groups_to_write(name):
    found = everything(name)
    rows = found["numbers.prompts"] * found["numbers.group"]
    assert (
        found["processes"] <= found["numbers.prompts"]
        and rows % (found["rollout_batch"] or rows) == 0
    )


SMALL = {
    "gsm8k": "chain1",
    "math500": "chain1",
    "kodcode": "python",
}  # a generated task in a benchmark's place


def scaled_down(name, run_dir) -> TrainConfig:
    """A file's own method, numbers and adapters, on the tiny model: two prompts, a short canvas,
    two inner updates."""
    values = {
        k: v
        for k, v in raw(name).items()
        if k in ("method", "preset", "lora_targets", "lora_dropout", "micro_batch")
    }
    own, task = raw(name)["numbers"], raw(name)["task"]
    numbers = own | {
        "prompts": 2,
        "block_length": 0,
        "inner_updates": min(own["inner_updates"], 2),
        "tokens_per_step": 1,
        "top_k": 0,
        "warmup": 0,
    }
    if "guide" in own:
        numbers["guide"] = own["guide"] | {"margin": 1, "answer_steps": 4}
    return TrainConfig(
        **values,
        task=SMALL.get(task, task),
        numbers=numbers,
        run_dir=str(run_dir),
        steps=1,
        eval_problems=2,
        rollout_batch=own["group"],
        lora_r=4,
    )


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "quickstart"])
def test_it_trains(tmp_path, name):
    """The reward is a coin, so that every group has something to say: what is tested is that the
    numbers fit together."""
    result = train(
        scaled_down(name, tmp_path),
        lambda prompts, completions, **_: [i % 2 for i in range(len(completions))],
        say=lambda line: None,
    )
    row = result.rows[-1]
    assert row["step"] == 1 and row["grad_norm"] > 0 and row["dead_groups"] == 0


# ---------------------------------------------------------------- accelerate launch


def launched(name, run_dir):
    """The log of a run of two processes, started by accelerate with that file, on the CPU; and its
    configuration."""
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.accelerate_cli",
        "launch",
        "--config_file",
        str(CONFIGS / f"{name}.yaml"),
        "--num_processes",
        "2",
        "-m",
        "dllm_rl_lite.train",
        "task=chain1",
        "steps=1",
        "eval_problems=2",
        f"run_dir={run_dir}",
        "rollout_batch=4",
        "numbers={'prompts': 2, 'group': 4}",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    with open(run_dir / "log.csv") as file:
        return list(csv.DictReader(file)), json.loads((run_dir / "config.json").read_text())


@pytest.mark.parametrize("name", LAUNCHERS)
def test_accelerate_reads_it(name):
    found = load_config_from_file(str(CONFIGS / f"{name}.yaml"))  # raises for unknown keys
    assert (found.num_processes, found.num_machines, found.mixed_precision) == (8, 1, "no")
    assert (
        found.distributed_type == {"accelerate_ddp": "MULTI_GPU", "accelerate_fsdp": "FSDP"}[name]
    )


def test_accelerate_starts_the_same_run_whole_or_split(tmp_path):
    alone = train(
        TrainConfig(
            task="chain1",
            steps=1,
            eval_problems=2,
            run_dir=str(tmp_path / "alone"),
            rollout_batch=4,
            numbers={"prompts": 2, "group": 4},
        ),
        say=lambda line: None,
    ).rows
    for name in LAUNCHERS:
        rows, config = launched(name, tmp_path / name)
        assert config["shard"] == (name == "accelerate_fsdp") and len(rows) == 2
        assert float(rows[1]["reward"]) == alone[1]["reward"]
        assert float(rows[1]["grad_norm"]) == pytest.approx(alone[1]["grad_norm"], rel=1e-3)
