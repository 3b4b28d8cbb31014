"""A torch that was built without its distributed package trains and evaluates alone."""

import subprocess
import sys

# What such a torch has: `torch.distributed` without its functions and without its parts.
HIDE = """
import os, sys, torch, torch.distributed as dist
dist.is_available = lambda: False
for name in ("is_initialized", "get_rank", "get_world_size", "init_process_group", "barrier"):
    delattr(dist, name)
for name in ("fsdp", "tensor", "device_mesh"):
    sys.modules["torch.distributed." + name] = None
"""
USE = """
from dllm_rl_lite.evaluate import evaluate
from dllm_rl_lite.processes import init_processes, shard
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig
numbers = {"prompts": 1, "group": 2}
config = TrainConfig(task="chain2", steps=1, eval_problems=2, run_dir=sys.argv[1], numbers=numbers)
lm = train(config, say=lambda line: None).lm
print(evaluate(lm, "chain2", n=2).n, "evaluated")
os.environ["WORLD_SIZE"] = "2"
for split in (init_processes, lambda: shard(lm, lm.device, torch.float32)):
    try:
        split()
    except ValueError as error:
        print(error)
"""


def test_alone_nothing_of_it_is_needed(tmp_path):
    words = [sys.executable, "-c", HIDE + USE, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    needed = "this torch has no distributed package: start one process, shard=false"
    assert done.stdout.splitlines() == ["2 evaluated", needed, needed], done.stderr
