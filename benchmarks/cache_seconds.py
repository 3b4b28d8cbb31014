"""What a key-value cache saves: `python benchmarks/cache_seconds.py` adds to
notebooks/results/cache_seconds.csv.

The same rollouts without a cache, with "prefix" and with "dual", in turns, on a random model of one
of `speed_cases.SHAPES`. A row holds the median seconds of a rollout call with the least and the
most, and the ratio plain / cached of each turn likewise. Texts differ between the three (another
law); the number of passes does not. What is computed again: `cache.py`.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from result_tables import record
from speed_cases import SHAPES, build, prompts

from dllm_rl_lite.models.cache import CACHES
from dllm_rl_lite.sampler import Schedule, denoise

OUT = Path(__file__).parents[1] / "notebooks" / "results" / "cache_seconds.csv"
KEY = (
    "model",
    "device",
    "dtype",
    "threads",
    "rows",
    "prompt",
    "length",
    "block_length",
    "passes",
    "cache",
)


def options() -> argparse.Namespace:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default, what in (
        ("model", "mid", f"one of {', '.join(SHAPES)}"),
        ("device", "cpu", "cpu, cuda, ..."),
        ("dtype", "float32", "or bfloat16"),
        ("rows", 6, "texts"),
        ("prompt", 128, "tokens"),
        ("length", 256, "canvas, tokens"),
        ("block", 32, "tokens"),
        ("passes", 128, "for the whole canvas"),
        ("repeats", 5, "turns"),
        ("out", str(OUT), "the table"),
    ):
        made.add_argument(
            f"--{name}", type=type(default), default=default, help=f"{what} ({default!r})"
        )
    made.set_defaults(adapters=False)
    return made.parse_args()


def seconds(lm, o: argparse.Namespace, cache: str) -> float:
    """Of one rollout call."""
    wait = torch.cuda.synchronize if o.device.startswith("cuda") else lambda: None
    wait()
    start = time.perf_counter()
    denoise(
        lm,
        prompts(lm, o),
        o.length,
        Schedule(o.passes),
        o.block,
        1.0,
        cache=cache,
        generator=torch.Generator(lm.device).manual_seed(2),
    )
    wait()
    return time.perf_counter() - start


def spread(name: str, values: list[float]) -> dict[str, float]:
    return {
        name: statistics.median(values),
        f"{name}_least": min(values),
        f"{name}_most": max(values),
    }


def main() -> None:
    o = options()
    lm = build(o)
    # The first call of each is not counted: kernels are chosen and memory is taken.
    for cache in CACHES:
        seconds(lm, o, cache)
    turns = [{cache: seconds(lm, o, cache) for cache in CACHES} for _ in range(o.repeats)]
    setting = {
        "model": o.model,
        "device": torch.cuda.get_device_name() if o.device.startswith("cuda") else "cpu",
        "dtype": o.dtype,
        "threads": torch.get_num_threads(),
        "rows": o.rows,
        "prompt": o.prompt,
        "length": o.length,
        "block_length": o.block,
        "passes": o.passes,
    }
    rows = [
        setting
        | {"cache": cache or "none", "repeats": o.repeats}
        | spread("seconds", [t[cache] for t in turns])
        | spread("ratio", [t[""] / t[cache] for t in turns])
        for cache in CACHES
    ]
    for row in rows:
        print(
            f"{row['cache']}: {row['seconds']:.3g} s "
            f"[{row['seconds_least']:.3g}, {row['seconds_most']:.3g}], "
            f"{row['ratio']:.2f} times as fast [{row['ratio_least']:.2f}, {row['ratio_most']:.2f}]"
        )
    record(rows, Path(o.out), KEY)


if __name__ == "__main__":
    main()
