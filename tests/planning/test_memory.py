"""What a run needs at the least against loaded models, what is free, and what runs say that get
less than they need."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from large import run_8b
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from dllm_rl_lite.models import MaskedDiffusionLM, add_adapters, build_tokenizer, load_lm
from dllm_rl_lite.models.adapters import count_parameters
from dllm_rl_lite.planning import (
    check_memory,
    free_memory,
    memory_advice,
    memory_limit,
    rows_per_call,
)
from dllm_rl_lite.planning.memory import (
    available_memory,
    container_rooms,
    known_memory,
    what_to_lower,
)
from dllm_rl_lite.training import TrainConfig, complete_checkpoints

GIB = 2**30
KINDS = {
    "llama": (LlamaForCausalLM, LlamaConfig, 4, False),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, 2, False),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, 2, True),
}


def save(folder, kind="llama", layers=3, vocabulary=512, hidden=128) -> str:
    """A random model of a family in a folder; Qwen3's embedding is tied to its head."""
    module, config, heads, tied = KINDS[kind]
    backbone = module(
        config(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=heads,
            head_dim=hidden // 4,
            max_position_embeddings=256,
            tie_word_embeddings=tied,
        )
    )
    MaskedDiffusionLM(backbone, build_tokenizer()).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("targets", ["", "all", "published"])
@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_counted_as_the_loaded_model_has_them(tmp_path, kind, targets):
    c = TrainConfig(
        model=save(tmp_path, kind), preset="tiny", lora_targets=targets, lora_r=8, dtype="float32"
    )
    lm = load_lm(c.model)
    if targets:
        add_adapters(lm, targets, r=8)
    known = known_memory(c)
    assert (known.trained, known.parameters) == count_parameters(lm)
    assert known.weights == sum(p.nbytes for p in lm.parameters())


def test_an_8b_model_is_known_from_its_config_alone(tmp_path):
    c = run_8b(tmp_path)
    known = known_memory(c)
    assert known.trained == 167_772_160 and known.parameters == 8_015_581_184 + 167_772_160
    assert known_memory(replace(c, lora_targets="all")).trained == 335_544_320
    assert known.weights == 2 * 8_015_581_184 + 4 * 167_772_160
    assert known.optimizer == 8 * 167_772_160 and known.gradients == 4 * 167_772_160
    assert known.reference == 0, "adapters off are the reference"
    packed = known_memory(replace(c, quantize="4bit"))
    outside = 2 * 126464 * 4096 + 65 * 4096  # embedding, head and norms stay as they are
    inside = 8_015_581_184 - outside
    assert packed.weights / GIB == pytest.approx(
        (0.5 * inside + 2 * outside) / GIB + 0.625, rel=0.05
    )


def test_every_weight_trained_costs_sixteen_bytes_and_a_reference_four_more():
    n = count_parameters(load_lm("tiny"))[1]
    alone = known_memory(TrainConfig(method="agrpo"))
    assert alone.total == 16 * n and alone.reference == 0
    assert known_memory(TrainConfig(method="diffu-grpo")).reference == 4 * n
    split = known_memory(TrainConfig(method="agrpo", shard=True, dtype="bfloat16"), processes=4)
    assert split.weights == n * (1 + 2) and split.optimizer == 2 * n and split.gradients == 4 * n


def advised(c: TrainConfig, free: int, processes: int = 1) -> TrainConfig:
    """The run with what the refusal says to set."""
    with pytest.raises(ValueError, match=r"alone need .* per process .* are free: set ") as caught:
        check_memory(c, processes, free)
    advice = str(caught.value).partition(": set ")[2].partition(",")[0]
    changes = dict(word.split("=") for word in advice.split())
    return replace(c, **{k: v == "True" if k == "shard" else v for k, v in changes.items()})


def test_what_cannot_fit_is_refused_with_a_setting_that_fits(tmp_path):
    c = run_8b(tmp_path, lora_targets="", dtype="float32", method="agrpo")
    adapted = advised(c, 30 * GIB)
    assert adapted.lora_targets == "all" and adapted.dtype == "bfloat16" and not adapted.quantize
    check_memory(adapted, 1, 30 * GIB)
    packed = advised(adapted, 15 * GIB)
    assert packed.quantize == "4bit"
    check_memory(packed, 1, 15 * GIB)
    split = replace(c, shard=True, dtype="bfloat16")
    assert not advised(split, 30 * GIB, processes=2).shard
    with pytest.raises(ValueError, match="take a smaller model, more memory, or shard=true"):
        check_memory(packed, 1, 4 * GIB)


def test_a_run_that_fits_to_the_byte_passes():
    c = TrainConfig()
    check_memory(c, 1, known_memory(c).total)
    with pytest.raises(ValueError):
        check_memory(c, 1, known_memory(c).total - 1)


@pytest.mark.parametrize(
    "error, known",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (MemoryError(), True),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: "
                "you tried to allocate 99 bytes"
            ),
            True,
        ),
        (RuntimeError("the reward function f raised OutOfMemoryError: CUDA out of memory"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("out of memory"), False),
        (FloatingPointError("nan"), False),
    ],
)
def test_only_a_lack_of_memory_is_called_one(tmp_path, error, known):
    c = run_8b(tmp_path, micro_batch=8, rollout_batch=48)
    with pytest.raises(Exception) as caught, memory_advice(c, "rollouts"):
        raise error
    if known:
        assert str(caught.value) == "out of memory in the rollouts: set rollout_batch=24 (now 48)"
        assert caught.value.__cause__ is error
    else:
        assert caught.value is error


@pytest.mark.parametrize(
    "changes, phase, advice",
    [
        ({"micro_batch": 8}, "update", r"set micro_batch=4 \(now 8\)"),
        ({}, "update", r"set micro_batch=48 \(now all 96 rows\)"),
        ({"micro_batch": 1}, "update", "set gradient_checkpointing=true"),
        (
            {"micro_batch": 1, "gradient_checkpointing": True},
            "update",
            "micro_batch is as small as it can be; set a shorter",
        ),
        ({"rollout_batch": 6}, "rollouts", "rollout_batch is as small as it can be"),
        ({"rollout_batch": 18}, "rollouts", r"set rollout_batch=6 \(now 18\)"),
        ({"rollout_batch": 18}, "evaluation", r"set rollout_batch=6 \(now 18\)"),
    ],
)
def test_the_advice_is_half_of_what_is_set_in_whole_groups(tmp_path, changes, phase, advice):
    said = what_to_lower(run_8b(tmp_path, **changes), phase)
    assert re.match(advice, said), said


@given(st.integers(1, 40), st.integers(2, 12), st.integers(0, 50), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_advice_that_is_followed_ends_at_one_group_or_row(prompts, group, set_groups, processes):
    c = TrainConfig(rollout_batch=set_groups * group, numbers={"prompts": prompts, "group": group})
    for phase, name, unit in (("rollouts", "rollout_batch", group), ("update", "micro_batch", 1)):
        while found := re.match(rf"set {name}=(\d+)", what_to_lower(c, phase, processes)):
            rows = int(found[1])
            assert rows % unit == 0 and 0 < rows < rows_per_call(c, phase, processes)
            c = replace(c, **{name: rows})
        assert rows_per_call(c, phase, processes) == unit


# Each run in a fork of one process that has imported everything; the last two arguments of a job
# are the bytes that count as free and the limit that the system sets.
RUN = """
import json, os, sys
import psutil, torch
from dllm_rl_lite.models import MaskedDiffusionLM
from dllm_rl_lite.planning import memory
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig
torch.set_num_threads(1)
MaskedDiffusionLM.shares_rows = False  # the most memory that a run may need

def reward(completions, **columns):
    return [float(i % 2) for i in range(len(completions))]

def said(values, free, limit):
    process = psutil.Process()
    if free:
        memory.available_memory = lambda device: free
    if limit:
        most = process.memory_info().vms + limit
        process.rlimit(psutil.RLIMIT_AS, (most, most))
    try:
        return train(TrainConfig(**values), reward, say=lambda line: None).rows[-1]["step"]
    except RuntimeError as error:
        return str(error)

for job in json.loads(sys.stdin.read()):
    if (child := os.fork()) == 0:
        print(json.dumps(said(*job)), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
MIB = 2**20


def test_a_run_whose_memory_ends_says_what_to_lower_and_loses_nothing(tmp_path):
    """Where Linux would kill it, and under a limit of the system; in the update and in the
    rollouts; and the advice goes on from the last checkpoint."""
    deep = save(tmp_path / "deep", "llama", layers=5, vocabulary=2048, hidden=192)
    wide = save(tmp_path / "wide", "llama", layers=1, vocabulary=16384, hidden=64)
    base = {
        "method": "diffu-grpo",
        "model": deep,
        "length": 96,
        "steps": 2,
        "eval_every": 0,
        "eval_problems": 1,
        "checkpoint_every": 1,
        "preset": "tiny",
        "run_dir": str(tmp_path / "deep run"),
        "numbers": {"prompts": 4, "group": 8, "tokens_per_step": 48, "kl": 0.0, "inner_updates": 1},
    }
    few = base | {"micro_batch": 2, "rollout_batch": 8}
    broad = base | {"model": wide, "micro_batch": 2, "run_dir": str(tmp_path / "wide run")}
    jobs = [
        (few | {"steps": 1}, 0, 0),
        (few | {"micro_batch": 0}, 300 * MIB, 0),
        (few | {"micro_batch": 0}, 0, 350 * MIB),
        (few, 300 * MIB, 0),
        (broad, 300 * MIB, 0),
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        # One arena: the system's limit is of addresses, and every thread reserves some.
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MALLOC_MMAP_THRESHOLD_": str(MIB),
            "MALLOC_ARENA_MAX": "1",
        },
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == len(jobs), done.stderr[-2000:]
    first, *stopped, resumed, rollouts = said
    assert first == 1 and resumed == 2
    for message in stopped:
        assert re.match(
            r"step 2 of diffu-grpo on chain2: out of memory in the update: "
            r"set micro_batch=16 \(now all 32 rows\)\nlast good checkpoint: .*step-000001$",
            message,
        ), message
    assert "in the rollouts: set rollout_batch=16 (now all 32 rows)" in rollouts
    assert complete_checkpoints(tmp_path / "deep run")[-1].name == "step-000002"


def test_the_limit_is_lifted_after_the_run():
    psutil = pytest.importorskip("psutil")
    if not hasattr(psutil, "RLIMIT_DATA"):
        pytest.skip("only on Linux")
    before = psutil.Process().rlimit(psutil.RLIMIT_DATA)
    with memory_limit(torch.device("cpu"), 10 * GIB):
        assert 10 * GIB < psutil.Process().rlimit(psutil.RLIMIT_DATA)[0]
    assert psutil.Process().rlimit(psutil.RLIMIT_DATA) == before


def test_the_processes_of_a_machine_share_its_memory(monkeypatch):
    monkeypatch.setattr("dllm_rl_lite.planning.memory.available_memory", lambda device: 24 * GIB)
    assert free_memory(torch.device("cpu"), 8) == 3 * GIB
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # of two machines
    assert free_memory(torch.device("cpu"), 8) == 6 * GIB
    assert free_memory(torch.device("cuda"), 8) == 24 * GIB


def test_memory_that_torch_keeps_of_freed_tensors_is_free(monkeypatch):
    """After a run in the same process 60 GiB may be kept and 16 in use: the next run has the
    rest."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 76 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 16 * GIB)
    assert available_memory(torch.device("cuda")) == 64 * GIB


def test_the_host_gives_what_system_container_and_limits_leave(tmp_path):
    assert 0 < available_memory(torch.device("cpu")) < 2**50
    (tmp_path / "cgroup").write_text("4:memory:/job/mine\n3:cpu:/job\n0::/new/mine\n")
    for path, limit, used, stat in (
        ("memory/job/mine", "1000", "700", "total_inactive_file 50\n"),
        ("memory/job", "5000", "4800", ""),
    ):
        folder = tmp_path / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.limit_in_bytes").write_text(limit)
        (folder / "memory.usage_in_bytes").write_text(used)
        (folder / "memory.stat").write_text(stat)
    for path, limit, used in (("new/mine", "max", "5"), ("new", "900", "100")):
        folder = tmp_path / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(limit + "\n")
        (folder / "memory.current").write_text(used + "\n")
        (folder / "memory.stat").write_text("anon 3\ninactive_file 20\n")
    assert list(container_rooms(tmp_path / "cgroup", tmp_path)) == [350, 200, 820]
    assert list(container_rooms(tmp_path / "none", tmp_path)) == []
