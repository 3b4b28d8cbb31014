"""What a key-value cache saves: `python benchmarks/cache_seconds.py` adds to
notebooks/results/cache_seconds.csv; run again, it goes on where it stopped, and `--again` replaces.

The same rollouts without a cache, with "prefix" and with "dual", in turns, on random models: `mid`,
whose head is most of the arithmetic, and `body`, where it is below 10 % as at 8B. A row holds the
median seconds of a rollout call with the least and the most, and the ratio plain / cached of each
turn likewise. Texts differ between the three, which draw from other distributions; the number of
passes does not. What is computed again: `cache.py`.
"""

import argparse
import statistics
import time
from pathlib import Path

import pandas as pd
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


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--models", nargs="*", default=["mid", "body"], choices=SHAPES)
    made.add_argument("--again", action="store_true", help="also what the table has already")
    for name, default, what in (
        ("device", "cpu", "cpu, cuda, ..."),
        ("dtype", "float32", "or bfloat16"),
        ("rows", 6, "texts"),
        ("prompt", 50, "tokens"),
        ("length", 64, "canvas, tokens"),
        ("block", 8, "tokens"),
        ("passes", 32, "for the whole canvas"),
        ("repeats", 5, "turns"),
        ("out", str(OUT), "the table"),
    ):
        made.add_argument(
            f"--{name}", type=type(default), default=default, help=f"{what} ({default!r})"
        )
    made.set_defaults(adapters=False)
    return made.parse_args(arguments)


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


def setting(o: argparse.Namespace) -> dict:
    """What tells a row from another, but for the cache."""
    return {
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


def is_known(o: argparse.Namespace) -> bool:
    """Does the table have this setting?"""
    if not Path(o.out).is_file():
        return False
    table = pd.read_csv(o.out)
    for name, value in setting(o).items():
        table = table[table[name] == value]
    return len(table) > 0


def measured(o: argparse.Namespace) -> list[dict]:
    """The rows of one model, one for each cache."""
    lm = build(o)
    # The first call of each is not counted: kernels are chosen and memory is taken.
    for cache in CACHES:
        seconds(lm, o, cache)
    turns = []
    for _ in range(o.repeats):
        turns.append({cache: seconds(lm, o, cache) for cache in CACHES})
    rows = []
    for cache in CACHES:
        row = setting(o) | {"cache": cache or "none", "repeats": o.repeats}
        row |= spread("seconds", [turn[cache] for turn in turns])
        row |= spread("ratio", [turn[""] / turn[cache] for turn in turns])
        rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> None:
    o = options(arguments)
    for name in o.models:
        o.model = name
        if is_known(o) and not o.again:
            continue
        rows = measured(o)
        for row in rows:
            print(
                f"{o.model}, {row['cache']}: {row['seconds']:.3g} s "
                f"[{row['seconds_least']:.3g}, {row['seconds_most']:.3g}], {row['ratio']:.2f} "
                f"times as fast [{row['ratio_least']:.2f}, {row['ratio_most']:.2f}]",
                flush=True,
            )
        record(rows, Path(o.out), KEY)


if __name__ == "__main__":
    main()
