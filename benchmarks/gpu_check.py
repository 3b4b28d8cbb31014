"""What only a GPU can show, checked on one: `python benchmarks/gpu_check.py`.

Each check prints "pass" or "FAIL" with its numbers, and a failure does not stop those after it.
notebooks/results/gpu.json keeps them, with the card and the versions. The large model has
LLaDA-8B's shape, names and files, and random weights. Its run is `notebooks/configs/one_gpu.yaml`
on generated word problems, with fewer forward passes, and rewards that alternate within a group.
Some 25 GB of disk and of memory are needed, and an 80 GB card; `--small` takes a small model, also
on a CPU.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from speed_cases import SHAPES, random_llama
from torch import Tensor

from dllm_rl_lite.evaluate import evaluate
from dllm_rl_lite.files import write_atomically
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.models import MaskedDiffusionLM, add_adapters, build_tokenizer, load_lm
from dllm_rl_lite.models.families import FAMILIES, original_name
from dllm_rl_lite.names import lookup
from dllm_rl_lite.planning import plan
from dllm_rl_lite.planning.memory import known_memory
from dllm_rl_lite.sampler import Rollout, Schedule, denoise
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.train import train
from dllm_rl_lite.training import (
    TrainConfig,
    accumulate_gradients,
    complete_checkpoints,
    read_config,
    score_views,
)

ROOT = Path(__file__).parents[1]
OUT = ROOT / "notebooks" / "results" / "gpu.json"
SHAPES["small"] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
SMALL_RUN = {"length": 16, "rollout_batch": 4, "micro_batch": 2, "eval_problems": 1}
SMALL_NUMBERS = {"prompts": 2, "group": 2, "block_length": 8, "tokens_per_step": 4}
SMALL_NUMBERS |= {"views": {"k": 2}}
SUITE = ("tests/models", "tests/sampler", "tests/estimators")
PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "pandas")


def require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


# --- the shipped model: the same on both devices


def agreement(o: argparse.Namespace, found: dict) -> None:
    """Greedy texts, accuracy, log-probabilities and the gradients of two methods, CPU and GPU."""
    task = load_task("chain2")
    prompts = [example.prompt for example in task.sample(8 if o.small else 32, "validation")]
    cpu, gpu = load_lm("tiny"), load_lm("tiny", o.device)
    rollout = denoise(cpu, prompts, task.length, Schedule(8))
    for cache in ("", "dual"):
        here = denoise(cpu, prompts, task.length, Schedule(8), 8, cache=cache)
        there = to_device(denoise(gpu, prompts, task.length, Schedule(8), 8, cache=cache), "cpu")
        found["same_tokens" + cache] = share(here.tokens == there.tokens)
        found["same_steps" + cache] = share(here.unmask_step == there.unmask_step)
        found["nats" + cache] = float((here.logprob - there.logprob).abs().max())
    decoding = METHODS["agrpo"].numbers("tiny").test_decoding(task.length)
    problems = 16 if o.small else 128
    reports = [evaluate(lm, task, decoding, problems) for lm in (cpu, gpu)]
    found["accuracy_cpu"], found["accuracy_gpu"] = (report.accuracy for report in reports)
    for name in ("agrpo", "gdpo"):
        found[f"gradient_{name}"] = apart(
            gradient(gpu, name, rollout), gradient(cpu, name, rollout)
        )
    exact = gradient(adapted("cpu", "float32"), "agrpo", rollout)
    for device in ("cpu", o.device):
        rounded = gradient(adapted(device, "bfloat16"), "agrpo", rollout)
        found[f"gradient_bfloat16_{device}"] = apart(rounded, exact)
    require(found["same_tokens"] == 1 and found["same_tokensdual"] == 1, "tokens differ")
    # Two tokens that are equally sure may come in either order.
    require(min(found["same_steps"], found["same_stepsdual"]) > 0.98, "steps differ")
    require(max(found["nats"], found["natsdual"]) < 1e-3, "log-probabilities differ")
    require(abs(found["accuracy_cpu"] - found["accuracy_gpu"]) < 0.01, "accuracies differ")
    require(max(found["gradient_agrpo"], found["gradient_gdpo"]) < 1e-4, "gradients differ")
    require(found[f"gradient_bfloat16_{o.device}"] < 0.1, "bfloat16 is too far from float32")


def adapted(device: str, dtype: str) -> MaskedDiffusionLM:
    """The shipped model with adapters, whose numbers are the same wherever it is."""
    lm = add_adapters(load_lm("tiny", device, dtype), "all", r=8, alpha=8)
    for i, p in enumerate(p for p in lm.parameters() if p.requires_grad):
        p.data.copy_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    return lm


def gradient(lm: MaskedDiffusionLM, method: str, rollout: Rollout) -> Tensor:
    """What one update of a method adds to the parameters: views, old scores and gradient; chance
    is drawn on the CPU."""
    recipe = METHODS[method]
    numbers = recipe.numbers("tiny", group=8)
    credit = torch.where(torch.arange(len(rollout.tokens)) % 3 == 0, 2 / 3, -1 / 3)
    noise = torch.Generator().manual_seed(0)
    batch = score_views(load_lm("tiny"), load_lm("tiny"), recipe, numbers, rollout, credit, noise)
    accumulate_gradients(lm, recipe, numbers, to_device(batch, lm.device), Tensor.backward)
    parts = [p.grad.flatten().double().cpu() for p in lm.parameters() if p.grad is not None]
    lm.zero_grad()
    return torch.cat(parts)


def share(same: Tensor) -> float:
    return float(same.float().mean())


def apart(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


def to_device(thing, device):
    """A record, its lists and the records in them, tensors on the device."""
    if isinstance(thing, Tensor):
        return thing.to(device)
    if isinstance(thing, list):
        return [to_device(part, device) for part in thing]
    if hasattr(thing, "__dataclass_fields__"):
        moved = {name: to_device(value, device) for name, value in vars(thing).items()}
        return type(thing)(**moved)
    return thing


def quickstart(o: argparse.Namespace, found: dict) -> None:
    """The quickstart's run: it learns on the GPU as on the CPU."""
    config = TrainConfig(device="auto", run_dir=str(o.work / "quick"), steps=2 if o.small else 52)
    start = time.perf_counter()
    rows = train(config, say=o.say).rows
    found["seconds"] = time.perf_counter() - start
    found["accuracy_before"], found["accuracy_after"] = (rows[i]["eval_accuracy"] for i in (0, -1))
    if not o.small:
        require(found["accuracy_after"] > found["accuracy_before"] + 0.15, "it learns too little")


# --- LLaDA-8B's shape


def checkpoint(o: argparse.Namespace, found: dict) -> None:
    """Write random weights as LLaDA's files are laid out, and word problems."""
    start = time.perf_counter()
    o.model.mkdir(parents=True)
    backbone = random_llama(SHAPES[o.shape], o.device, torch.bfloat16).backbone
    config, family = backbone.config, FAMILIES["llada"]
    values = {theirs: getattr(config, ours, 5e5) for ours, theirs in family.fields.items()}
    values |= {name: allowed[0] for name, allowed in family.only.items()}
    values |= {"model_type": "llada", "vocab_size": config.vocab_size}
    # the tiny tokenizer's
    values |= {"mask_token_id": 2, "eos_token_id": 1, "pad_token_id": 1}
    (o.model / "config.json").write_text(json.dumps(values))
    build_tokenizer().save_pretrained(o.model)
    weights = {original_name("llada", k): w for k, w in backbone.state_dict().items()}
    places = {k: f"model-{i % 6 + 1:05d}-of-00006.safetensors" for i, k in enumerate(weights)}
    for name in sorted(set(places.values())):
        shard = {k: w.cpu() for k, w in weights.items() if places[k] == name}
        save_file(shard, o.model / name, metadata={"format": "pt"})
    index = json.dumps({"weight_map": places})
    (o.model / "model.safetensors.index.json").write_text(index)
    found["parameters"] = sum(w.numel() for w in weights.values())
    found["seconds"] = time.perf_counter() - start
    problem = "Ann has {} red apples and buys {} green ones at the market. How many has she now?"
    lines = []
    for a in range(20, 40):
        for b in range(20, 40):
            row = {"question": problem.format(a, b), "answer": f"{a}+{b} #### {a + b}"}
            lines.append(json.dumps(row) + "\n")
    o.data.mkdir(parents=True)
    for split in ("train", "test"):
        (o.data / f"{split}.jsonl").write_text("".join(lines))


def loading(o: argparse.Namespace, found: dict) -> None:
    """Seconds and memory of load_lm, and the speed of one forward pass."""
    before = allocated(o)
    start = time.perf_counter()
    lm = load_lm(o.model, o.device, "bfloat16")
    found["seconds"] = time.perf_counter() - start
    found["gib"] = (allocated(o) - before) / 2**30
    ids = torch.randint(10, 100, (8, 456), device=o.device)
    where = torch.zeros_like(ids, dtype=torch.bool)
    where[:, -32:] = True
    taken = []
    with torch.no_grad():
        for _ in range(4):
            start = time.perf_counter()
            logits = lm(ids, torch.ones_like(where), where)
            require(not bool(logits.isnan().any()), "logits are not numbers")
            taken.append(time.perf_counter() - start)
    found["seconds_of_a_pass_of_3648_tokens"] = min(taken)
    known = known_memory(run_8b(o)).weights - 4 * known_memory(run_8b(o)).trained
    found["gib_planned"] = known / 2**30
    if o.device == "cuda":
        require(close(found["gib"], found["gib_planned"], 0.05), "the weights take other memory")


def run_8b(o: argparse.Namespace, numbers: dict | None = None, **changes) -> TrainConfig:
    """The one-GPU recipe on word problems, two steps, 16 forward passes a text."""
    values = {
        "model": str(o.model),
        "data": str(o.data),
        "run_dir": str(o.work / "large"),
        "steps": 2,
        "eval_every": 0,
        "eval_problems": 4,
    }
    few = {"tokens_per_step": 16}
    if o.small:
        values |= SMALL_RUN
        few |= SMALL_NUMBERS
    values |= changes | {"numbers": few | (numbers or {})}
    recipe, _ = read_config(ROOT / "notebooks" / "configs" / "one_gpu.yaml")
    return replace(recipe, **values | {"numbers": recipe.numbers | values["numbers"]})


def alternating(completions: list[str], **columns) -> list[float]:
    """Rewards that leave no group without credit, whatever a random model writes."""
    return [float(i % 2) for i in range(len(completions))]


def planned_and_taken(o: argparse.Namespace, found: dict) -> None:
    """Is what the dry run predicts what two steps of training then take?"""
    config = run_8b(o)
    start = time.perf_counter()
    prediction = plan(config, reward=alternating, say=o.say)
    found["seconds_of_the_dry_run"] = time.perf_counter() - start
    o.say(str(prediction))
    found["plan"] = str(prediction).splitlines()
    reset_peak(o)
    start = time.perf_counter()
    last = train(config, alternating, say=o.say).rows[-1]
    found["seconds_of_the_run"] = time.perf_counter() - start
    for phase, log in (("rollouts", "rollout"), ("update", "update")):
        measured = getattr(prediction, phase)
        found[f"passes_{log}_planned"] = prediction.scale * measured.passes
        found[f"passes_{log}"] = last[f"forwards_{log}"]
        found[f"seconds_{log}_planned"] = prediction.scale * measured.seconds
        found[f"seconds_{log}"] = last[f"seconds_{log}"]
        found[f"gib_{log}_planned"] = prediction.memory(phase) / 2**30
    found["gib_peak_of_the_run"] = peak(o) / 2**30
    for log in ("rollout", "update"):
        same = found[f"passes_{log}"] == found[f"passes_{log}_planned"]
        require(same, f"other passes than planned: {log}")
    if o.device == "cuda":
        for log in ("rollout", "update"):
            near = close(found[f"seconds_{log}"], found[f"seconds_{log}_planned"], 0.25)
            require(near, f"other seconds than planned: {log}")
        most = max(found["gib_rollout_planned"], found["gib_update_planned"])
        require(close(found["gib_peak_of_the_run"], most, 0.15), "other memory than planned")


def recipe(o: argparse.Namespace, found: dict) -> None:
    """The dry run of the one-GPU recipe with all its forward passes."""
    numbers = {} if o.small else {"tokens_per_step": 2}
    prediction = plan(run_8b(o, numbers, steps=400, eval_every=50, eval_problems=128), say=o.say)
    found["plan"] = str(prediction).splitlines()


def out_of_memory(o: argparse.Namespace, found: dict) -> None:
    """All rows in one backward pass do not fit; with checkpointing the same run then goes on."""
    config = run_8b(o, steps=3, micro_batch=0)
    before = complete_checkpoints(Path(config.run_dir))
    require(len(before) == 1, "the two steps before are missing")
    try:
        train(config, alternating, say=o.say)
    except RuntimeError as error:
        found["said"] = str(error).replace(str(o.work), "WORK")
    gc.collect()
    found["gib_held_after"] = allocated(o) / 2**30
    require("out of memory in the update: set micro_batch=" in found.get("said", ""), "no advice")
    require(complete_checkpoints(Path(config.run_dir)) == before, "the checkpoint is lost")
    reset_peak(o)
    config = replace(config, micro_batch=run_8b(o).micro_batch, gradient_checkpointing=True)
    rows = train(config, alternating, say=o.say).rows
    found["seconds_update_checkpointing"] = rows[-1]["seconds_update"]
    found["gib_peak_checkpointing"] = peak(o) / 2**30
    require([row["step"] for row in rows] == [0, 1, 2, 3], "the run did not go on")


def four_bits(o: argparse.Namespace, found: dict) -> None:
    """A step with the frozen base in 4 bits, as one_gpu.yaml advises for 24 GB."""
    changes = {"quantize": "4bit", "steps": 1, "run_dir": str(o.work / "four")}
    changes |= {"micro_batch": 1, "gradient_checkpointing": True, "rollout_batch": 8}
    config = run_8b(o, {"prompts": 1}, **changes)
    known = known_memory(config)
    before = allocated(o)
    start = time.perf_counter()
    lm = load_lm(o.model, o.device, "bfloat16", quantize="4bit")
    found["seconds_of_loading"] = time.perf_counter() - start
    found["gib"] = (allocated(o) - before) / 2**30
    found["gib_planned"] = (known.weights - 4 * known.trained) / 2**30
    del lm
    reset_peak(o)
    last = train(config, alternating, say=o.say).rows[-1]
    found["gib_peak"] = peak(o) / 2**30
    for name in ("seconds_rollout", "seconds_update", "grad_norm"):
        found[name] = last[name]
    require(last["grad_norm"] > 0, "no gradient")
    require(found["gib_peak"] < 22, "24 GB are not enough")
    require(close(found["gib"], found["gib_planned"], 0.05), "the weights take other memory")


def suite(o: argparse.Namespace, found: dict) -> None:
    """The tests of models, sampler and estimators, with the versions that are here."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "8", *SUITE]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    found["failed"] = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    found["last_line"] = lines[-1] if lines else done.stderr[-500:]
    if done.returncode:
        o.say(done.stdout[-3000:])
    require(done.returncode == 0, "tests fail")


def close(a: float, b: float, share: float) -> bool:
    return abs(a - b) <= share * b


def allocated(o: argparse.Namespace) -> int:
    return torch.cuda.memory_allocated() if o.device == "cuda" else 0


def peak(o: argparse.Namespace) -> int:
    return torch.cuda.max_memory_allocated() if o.device == "cuda" else 0


def reset_peak(o: argparse.Namespace) -> None:
    if o.device == "cuda":
        gc.collect()
        torch.cuda.reset_peak_memory_stats()


CHECKS = {
    "agreement": agreement,
    "quickstart": quickstart,
    "checkpoint": checkpoint,
    "loading": loading,
    "recipe": recipe,
    "planned_and_taken": planned_and_taken,
    "out_of_memory": out_of_memory,
    "four_bits": four_bits,
    "suite": suite,
}
NEED_A_GPU = ("out_of_memory", "four_bits")


def main(arguments: list[str] | None = None) -> dict:
    """Run the command line; returns what is recorded."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("checks", nargs="*", help="among " + ", ".join(CHECKS) + "; none: all of them")
    p.add_argument("--device", default="cuda", help="cuda or cpu")
    p.add_argument("--small", action="store_true", help="a small model, few steps")
    p.add_argument("--work", type=Path, help="folder for weights and runs; none: a temporary one")
    p.add_argument("--out", type=Path, default=OUT, help="the record")
    o = p.parse_args(arguments)
    for name in o.checks:
        lookup("check", name, CHECKS)
    o.shape = "small" if o.small else "8b"
    o.say = lambda line: print("   ", line, flush=True)
    record = {"checks": {}}
    if o.out.is_file():
        record = json.loads(o.out.read_text())
    record |= {"date": datetime.date.today().isoformat(), "python": platform.python_version()}
    record["gpu"] = torch.cuda.get_device_name() if o.device == "cuda" else "none"
    for name in PACKAGES:
        if importlib.util.find_spec(name):
            record[name] = importlib.metadata.version(name)
    with tempfile.TemporaryDirectory() as folder:
        o.work = o.work or Path(folder)
        o.model, o.data = o.work / "llada", o.work / "problems"
        for name in o.checks or CHECKS:
            if o.device == "cpu" and name in NEED_A_GPU:
                continue
            record["checks"][name] = checked(name, o)
            o.out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(o.out, json.dumps(record, indent=1) + "\n")
    return record


def checked(name: str, o: argparse.Namespace) -> dict:
    """The numbers of one check, whether it passed, and why not."""
    found = {"passed": False}
    print(f"{name} ...", flush=True)
    try:
        CHECKS[name](o, found)
        found["passed"] = True
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"[:2000]
    for key, value in found.items():
        if isinstance(value, float):
            found[key] = float(f"{value:.4g}")
    gc.collect()
    if o.device == "cuda":
        torch.cuda.empty_cache()
    word = "pass" if found["passed"] else "FAIL"
    print(f"{word} {name}: {json.dumps(found)}", flush=True)
    return found


if __name__ == "__main__":
    failed = [name for name, found in main()["checks"].items() if not found["passed"]]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
