"""The memory estimate against what autograd really saves, what runs really take, and what guards
say when it is too much."""

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
from dllm_rl_lite.models.adapters import checkpoint_gradients, count_parameters, training_mode
from dllm_rl_lite.planning import guard_memory, out_of_memory
from dllm_rl_lite.planning.guards import available_memory, container_rooms, halves, lowered
from dllm_rl_lite.planning.memory import GIB, estimate_memory, measure, model_shape, saved_bytes
from dllm_rl_lite.training import TrainConfig

KINDS = {
    "llama": (LlamaForCausalLM, LlamaConfig, 4),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, 2),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, 2),
}


def build(kind, layers=3, vocabulary=512, hidden=128):
    module, config, heads = KINDS[kind]
    return MaskedDiffusionLM(
        module(
            config(
                vocab_size=vocabulary,
                hidden_size=hidden,
                intermediate_size=3 * hidden,
                num_hidden_layers=layers,
                num_attention_heads=4,
                num_key_value_heads=heads,
                head_dim=hidden // 4,
                max_position_embeddings=256,
            )
        ),
        build_tokenizer(),
    ).eval()


def saved(kind, layers, c: TrainConfig) -> float:
    """Bytes a token that autograd keeps of one forward pass of the layers, parameters not
    counted."""
    lm = build(kind, layers)
    lm.backbone.to(getattr(torch, c.dtype))
    if c.lora_targets:
        add_adapters(lm, c.lora_targets, c.lora_r, dropout=c.lora_dropout)
    if c.gradient_checkpointing:
        checkpoint_gradients(lm)
    ids, known, kept = (
        torch.full((4, 64), 9),
        {p.untyped_storage().data_ptr() for p in lm.parameters()},
        [],
    )
    watch = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
    with lm.precision(), training_mode(lm, 0), watch:
        output = lm.backbone.model(ids, use_cache=False)
    sizes = {s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in kept)}
    assert output is not None
    lower = c.lora_targets and c.dtype == "bfloat16" and not c.gradient_checkpointing
    copies = 2 * count_parameters(lm)[0] if lower else 0  # of adapters, in bfloat16: counted apart
    return (sum(size for place, size in sizes.items() if place not in known) - copies) / ids.numel()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lora_targets": "all"},
        {"lora_targets": "all", "lora_dropout": 0.1},
        {"lora_targets": "all", "dtype": "bfloat16"},
        {"lora_targets": "all", "dtype": "bfloat16", "lora_dropout": 0.1},
        {"gradient_checkpointing": True},
        {"lora_targets": "all", "dtype": "bfloat16", "gradient_checkpointing": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_saves_what_the_formula_says(kind, changes):
    c = TrainConfig(lora_r=8, **changes)
    layer = saved(kind, 3, c) - saved(kind, 2, c)
    shape = model_shape(build(kind))
    wanted = (
        getattr(torch, c.dtype).itemsize * shape.hidden
        if c.gradient_checkpointing
        else saved_bytes(shape, c)
    )
    assert layer == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", ["all", "published"])
def test_parameters_are_counted_as_the_loaded_model_has_them(kind, targets):
    lm = build(kind)
    shape = model_shape(lm)
    assert shape.parameters == count_parameters(lm)[1]
    add_adapters(lm, targets, r=8)
    assert (
        shape.adapters(targets, 8),
        shape.parameters + shape.adapters(targets, 8),
    ) == count_parameters(lm)
    assert model_shape(lm) == shape, "adapters are no part of the shape"


def test_the_shape_of_a_name_is_that_of_the_model_loaded_by_it():
    assert model_shape("tiny") == model_shape(load_lm("tiny"))
    assert model_shape("tiny").parameters == count_parameters(load_lm("tiny"))[1]


def test_an_8b_model_is_known_from_its_config_alone(tmp_path):
    c = run_8b(tmp_path, micro_batch=6, rollout_batch=48)
    shape = model_shape(c.model)
    assert shape.parameters == 8_015_581_184
    assert (shape.adapters("published", 128), shape.adapters("all", 128)) == (
        167_772_160,
        335_544_320,
    )
    memory = estimate_memory(shape, c, 200)
    assert (
        memory.weights == 2 * 8_015_581_184 + 4 * 167_772_160
        and memory.optimizer == 8 * 167_772_160
    )
    assert memory.reference == 0, "adapters off are the reference"
    packed = estimate_memory(shape, replace(c, quantize="4bit"), 200)
    assert packed.weights / GIB == pytest.approx(
        0.5 * shape.inside / GIB + 2 * shape.outside / GIB + 0.625, rel=0.05
    )


def test_every_weight_trained_costs_sixteen_bytes_and_a_reference_four_more():
    shape, n = model_shape("tiny"), model_shape("tiny").parameters
    alone = estimate_memory(shape, TrainConfig(method="agrpo"), 20)
    assert alone.weights + alone.optimizer + alone.gradients == 16 * n and alone.reference == 0
    assert estimate_memory(shape, TrainConfig(method="diffu-grpo"), 20).reference == 4 * n
    split = estimate_memory(
        shape, TrainConfig(method="agrpo", shard=True, dtype="bfloat16"), 20, processes=4
    )
    assert split.weights == n * (1 + 2) and split.optimizer == 2 * n and split.loading == 4 * n


@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([16, 32, 64]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_fewer_rows_never_need_more(micro, fewer, rollout, keep):
    shape = model_shape("tiny")
    c = TrainConfig(
        method="diffu-grpo", micro_batch=micro, rollout_batch=rollout, gradient_checkpointing=keep
    )
    w = estimate_memory(shape, c, 20).workload
    smaller = replace(
        w, config=replace(c, micro_batch=min(fewer, micro), rollout_batch=rollout // 2)
    )
    assert measure(smaller).total <= measure(w).total


# Each run in a fork of one process that has imported everything: its own peak beyond where it
# began.
MEASURE = """
import json, os, resource, sys
import psutil, torch
from dllm_rl_lite import train as module
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig
torch.set_num_threads(1)

def reward(completions, **columns):
    return [float(i % 2) for i in range(len(completions))]

def measured(config, limit):
    before = psutil.Process().memory_info()
    if limit:
        module.guard_memory = lambda needed, free: None  # or the run would not begin
        resource.setrlimit(resource.RLIMIT_AS, (before.vms + limit, before.vms + limit))
    try:
        train(config, reward, say=lambda line: None)
    except RuntimeError as error:
        return str(error)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before.rss

for number, (values, limit) in enumerate(json.loads(sys.stdin.read())):
    if (child := os.fork()) == 0:
        result = measured(TrainConfig(**values, run_dir=f"{sys.argv[1]}/{number}"), limit)
        print(json.dumps([number, result]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
MIB = 2**20
N = {"prompts": 4, "group": 8, "tokens_per_step": 48, "kl": 0.0, "inner_updates": 1}
RUNS = {
    "all rows": {},
    "few rows": {"micro_batch": 4, "rollout_batch": 8},
    "checkpointed": {"gradient_checkpointing": True, "rollout_batch": 8},
    "adapters": {"micro_batch": 16, "lora_targets": "all", "lora_r": 16},
    "reference": {"micro_batch": 4, "numbers": {**N, "kl": 0.04, "inner_updates": 2}},
    "wide": {"model": "wide", "micro_batch": 16, "rollout_batch": 8},
    "wide, filtered": {
        "model": "wide",
        "micro_batch": 4,
        "rollout_batch": 8,
        "numbers": {**N, "prompts": 1, "top_p": 0.9},
    },
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(configuration, bytes that the run really took) by name; what the run said that could not get
    enough."""
    folder = tmp_path_factory.mktemp("models")
    for name, sizes in (("deep", (5, 2048, 192)), ("wide", (1, 16384, 64))):
        build("llama", *sizes).save_pretrained(folder / name)
    base = {
        "method": "diffu-grpo",
        "task": "chain2",
        "length": 96,
        "steps": 1,
        "eval_every": 0,
        "eval_problems": 1,
        "preset": "tiny",
        "numbers": N,
    }
    values = [
        {**base, **run, "model": str(folder / run.get("model", "deep"))} for run in RUNS.values()
    ]
    jobs = [
        *((v, 0) for v in values),
        (values[0], 350 * MIB),
        ({**values[5], "rollout_batch": 0}, 350 * MIB),
    ]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder)],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        # One arena: the limit is of addresses, and every thread that loads weights reserves some.
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MALLOC_MMAP_THRESHOLD_": str(MIB),
            "MALLOC_ARENA_MAX": "1",
        },
    )
    results = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    assert len(results) == len(jobs), done.stderr[-2000:]
    runs = {
        name: (TrainConfig(**v), results[i])
        for i, (name, v) in enumerate(zip(RUNS, values, strict=True))
    }
    return runs, [results[i] for i in range(len(values), len(jobs))]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_takes_what_was_estimated(measured, name):
    c, took = measured[0][name]
    wanted = estimate_memory(model_shape(c.model), c, 7)
    print(
        f"{name}: measured {took / MIB:.0f} MiB, estimated {wanted.total / MIB:.0f} MiB, "
        f"in {wanted.largest}"
    )
    assert wanted.total > 60 * MIB, "too small to tell from what libraries take"
    assert 0.7 < wanted.total / took < 1.4


def test_a_run_that_the_system_stops_says_what_to_lower(measured):
    update, rollout = measured[1]
    assert re.search(
        r"out of memory in the update.*set micro_batch=16 \(now all 32 rows\)", update
    ), update
    assert re.search(
        r"out of memory in the rollouts.*set rollout_batch=16 \(now all 32 rows\)", rollout
    ), rollout


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
    memory = estimate_memory(model_shape(c.model), c, 200)
    said = out_of_memory(error, memory, "rollouts")
    assert (said is not None) == known
    if known:
        before, after = (
            memory.rollout,
            measure(replace(memory.workload, config=replace(c, rollout_batch=24))).rollout,
        )
        assert f"estimated to need {before / GIB:.1f} GiB" in said
        assert (
            f"set rollout_batch=24 (now 48), which is estimated to need {after / GIB:.1f} GiB"
            in said
        )


@pytest.mark.parametrize(
    "changes, phase, advice",
    [
        ({"micro_batch": 8}, "update", r"set micro_batch=4 \(now 8\)"),
        ({}, "update", r"set micro_batch=48 \(now all 96 rows\)"),
        ({"micro_batch": 1}, "update", "set gradient_checkpointing=true, which"),
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
    c = run_8b(tmp_path, **changes)
    said = out_of_memory(MemoryError(), estimate_memory(model_shape(c.model), c, 200), phase)
    assert re.search(advice, said), said


def test_the_phase_is_read_from_where_the_error_came_through(tmp_path):
    class Full(type(build("llama"))):
        """A model for which memory runs out: with gradient, or without."""

        def __init__(self, when):
            super().__init__(
                **{name: getattr(load_lm("tiny"), name) for name in ("backbone", "tokenizer")}
            )
            self.when = when

        def forward(self, ids, attention_mask, where):
            if torch.is_grad_enabled() == self.when:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(ids, attention_mask, where)

    from dllm_rl_lite.methods import METHODS
    from dllm_rl_lite.tasks import load_task
    from dllm_rl_lite.training import accumulate_gradients, collect, score_views

    c, g, task = (
        TrainConfig(numbers={"prompts": 2, "group": 4}),
        torch.Generator(),
        load_task("chain2"),
    )
    memory, method, n = estimate_memory(model_shape("tiny"), c, 7), METHODS["agrpo"], c.resolved()
    problems = task.sample(2, "train")
    with pytest.raises(torch.OutOfMemoryError) as caught:
        collect(Full(False), task, task.reward, method, n, problems, g)
    assert "out of memory in the rollouts" in out_of_memory(caught.value, memory)
    full = Full(True)
    batch = collect(full, task, task.reward, method, n, problems, g)
    scored = score_views(full, None, method, n, batch.rollout, torch.ones(8), g)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        accumulate_gradients(full, method, n, scored, torch.Tensor.backward)
    assert "out of memory in the update" in out_of_memory(caught.value, memory)


def settings_of(message: str) -> dict:
    """What an error's advice sets."""
    advice = message.splitlines()[0].partition(": set ")[2]
    cast = {"true": True}
    return {
        k: cast.get(v, int(v) if v.isdigit() else v) for k, v in re.findall(r"(\w+)=(\w+)", advice)
    }


@pytest.mark.parametrize("free", [60, 38, 28, 22, 20, 8])
def test_the_first_setting_that_fits_is_named_and_fits(tmp_path, free):
    c = run_8b(
        tmp_path,
        numbers={"prompts": 16, "kl": 0.0, "inner_updates": 1},
        gradient_checkpointing=False,
    )
    shape = model_shape(c.model)
    memory = estimate_memory(shape, c, 200)
    assert memory.total > free * GIB
    with pytest.raises(
        ValueError, match=r"needs about .* GiB a process \(in update\), and .* GiB are free"
    ) as caught:
        guard_memory(memory, free * GIB)
    advice = settings_of(str(caught.value))
    if free == 8:
        assert "nothing that can be lowered here is enough" in str(caught.value) and not advice
        return
    guard_memory(estimate_memory(shape, replace(c, **advice), 200), free * GIB)  # it fits
    if advice.keys() == {"micro_batch"}:  # and a larger one would not
        larger = estimate_memory(shape, replace(c, micro_batch=2 * advice["micro_batch"]), 200)
        with pytest.raises(ValueError):
            guard_memory(larger, free * GIB)
    else:
        smallest = estimate_memory(shape, replace(c, micro_batch=1), 200)
        with pytest.raises(ValueError):  # micro_batch alone would not do
            guard_memory(smallest, free * GIB)


def test_every_weight_trained_is_advised_adapters_or_split_weights(tmp_path):
    c = run_8b(
        tmp_path,
        lora_targets="",
        dtype="float32",
        method="agrpo",
        micro_batch=1,
        rollout_batch=8,
        length=240,
    )
    shape = model_shape(c.model)
    memory = estimate_memory(shape, c, 200)
    with pytest.raises(ValueError) as caught:
        guard_memory(memory, 70 * GIB)
    advice = settings_of(str(caught.value))
    assert advice["lora_targets"] == "all" and advice["gradient_checkpointing"] is True
    guard_memory(estimate_memory(shape, replace(c, **advice), 200), 70 * GIB)
    assert any("shard=true processes=8" in words for words, _ in lowered(memory.workload))


def test_a_run_that_fits_passes():
    memory = estimate_memory(model_shape("tiny"), TrainConfig(), 7)
    guard_memory(memory, memory.total)
    with pytest.raises(ValueError):
        guard_memory(memory, memory.total - 1)


@given(st.integers(1, 500), st.integers(1, 12))
def test_halves_end_at_one_unit(groups, unit):
    found = halves(groups * unit, unit)
    assert found == sorted(found, reverse=True) and all(
        h % unit == 0 and h < groups * unit for h in found
    )
    assert not found if groups == 1 else found[-1] == unit


def test_the_host_gives_what_system_container_and_limits_leave(tmp_path):
    assert 0 < available_memory("cpu") < 2**50
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
