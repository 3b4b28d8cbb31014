"""What a refactoring must keep: three training steps of every method and the rollouts of four
decoders, as hashes.

    python benchmarks/behaviour.py --save notebooks/results/behaviour.json      record what the code
    does now python benchmarks/behaviour.py --against notebooks/results/behaviour.json   do it
    again, and name what differs

The last bits of a sum depend on the processor and on the version of torch. On another machine,
first record the commit that you start from. It takes about a minute on one core.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import torch

from dllm_rl_lite.methods import CORE, METHODS
from dllm_rl_lite.models import load_lm
from dllm_rl_lite.sampler import Gate, RunningConfidence, Schedule, Threshold, denoise
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig, complete_checkpoints

SMALL = {"prompts": 4, "group": 4}
ROLLOUT_FIELDS = ("tokens", "unmask_step", "logprob", "entropy", "n_forwards")


def digest(data: bytes) -> str:
    """A short name of some bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


def training_record(method: str, folder: Path) -> dict:
    """Three steps of a method on a chain task: the log without its clock columns, and a hash of the
    final weights."""
    numbers = dict(SMALL)
    task = "chain2"
    if METHODS[method].tiny.guide:
        numbers["guide"] = {"rows": 2}
        task = "chain"
    config = TrainConfig(
        method=method,
        task=task,
        steps=3,
        numbers=numbers,
        eval_problems=16,
        eval_every=2,
        run_dir=str(folder / method),
    )
    train(config, say=lambda line: None)
    last = complete_checkpoints(folder / method)[-1]
    log = []
    for row in json.loads((last / "state.json").read_text())["rows"]:
        log.append({name: value for name, value in row.items() if "second" not in name})
    return {"log": log, "weights": digest((last / "model" / "model.safetensors").read_bytes())}


def decoders() -> dict[str, dict]:
    """Four ways to decode, as arguments of `denoise` beside the model and the prompts."""
    return {
        "schedule": {"rule": Schedule(8), "temperature": 1.0},
        "threshold in blocks": {"rule": Threshold(0.8), "block_length": 8, "eos": "stop"},
        "gate": {"rule": Gate(0.7, 0.5), "temperature": 1.0, "top_p": 0.95},
        "remasking": {"rule": RunningConfidence(8), "temperature": 0.7, "top_k": 8, "record": True},
    }


def rollout_record(settings: dict) -> dict[str, str]:
    """32 rollouts of the tiny model: a hash of each field."""
    lm, task = load_lm("tiny"), load_task("chain2")
    prompts = [example.prompt for example in task.sample(32, "validation", 0)]
    generator = torch.Generator().manual_seed(0)
    rollout = denoise(lm, prompts, task.length, generator=generator, **settings)
    return {name: digest(getattr(rollout, name).numpy().tobytes()) for name in ROLLOUT_FIELDS}


def behaviour() -> dict:
    """The whole record."""
    record: dict = {"torch": torch.__version__, "rollouts": {}, "training": {}}
    for name, settings in decoders().items():
        record["rollouts"][name] = rollout_record(settings)
    with tempfile.TemporaryDirectory() as folder:
        for method in (*CORE, "merged-path"):
            print(method, flush=True)
            record["training"][method] = training_record(method, Path(folder))
    return record


def differences(old, new, path: str = "") -> list[str]:
    """The places where two records differ, each with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in [*old, *(k for k in new if k not in old)]:
            found += differences(old.get(key), new.get(key), f"{path}/{key}")
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        found = []
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            found += differences(a, b, f"{path}/{i}")
        return found
    return [] if old == new else [f"{path}: {old!r} -> {new!r}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--save", type=Path, metavar="FILE", help="write the record")
    choice.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="compare with a record; exit code 1 if they differ",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = behaviour()
    if options.save:
        options.save.write_text(json.dumps(record, indent=1) + "\n")
        print(f"saved {options.save}")
        return
    found = differences(json.loads(options.against.read_text()), json.loads(json.dumps(record)))
    print("\n".join(found) or "the same to the bit")
    parser.exit(1 if found else 0)


if __name__ == "__main__":
    main()
