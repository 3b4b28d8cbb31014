"""Rollouts and updates, ours and the usual implementation's, in one run: `python
benchmarks/speed.py rollouts --model mid`.

`rollouts`: one group in confidence order, at each temperature. `updates`: one update of diffu-GRPO,
of AG-GRPO, and of GDPO with 1, 3 and 6 views: old and reference scores where the recipe has them,
then the gradient, without the optimiser's step. The other side is `restatement.py`. Outputs are
compared first, and a difference ends the run; then both take turns. notebooks/results/speed.csv
gets the median of the repeats, the smallest and the largest, and the same of each pair's ratio.

Models: `tiny` is the shipped one; `mid`, `body` and `8b` have LLaDA's architecture and random
weights, `8b` in bfloat16 with adapters. The head is most of the arithmetic of `mid`, and below 10 %
of that of `body` and `8b`. Arithmetic is counted (matrix products and attention); its share is of
the rate of a large matrix product in the same run. Peak memory is beyond the weights and their
gradient: on a GPU the allocator's, on a CPU the resident memory of a fresh process that runs one
side once (Linux only).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from result_tables import record
from speed_cases import SHAPES, UPDATES, Rollouts, Update, build, cases

from dllm_rl_lite.names import lookup

OUT = Path(__file__).parents[1] / "notebooks" / "results" / "speed.csv"
QUARTER = dict(prompt=50, length=64, block=8)  # a quarter of what the releases train at
SIZES = {
    "tiny": QUARTER,
    "mid": QUARTER,
    "body": QUARTER,
    "8b": dict(prompt=200, length=256, block=32),
}
KEY = (
    "what",
    "case",
    "model",
    "device",
    "dtype",
    "adapters",
    "rows",
    "prompt",
    "length",
    "block",
    "tokens_per_step",
    "micro_batch",
)
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, sizes filled in. Raises ValueError for an unknown update."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("what", choices=("rollouts", "updates"))
    p.add_argument("--model", default="tiny", choices=SHAPES)
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of the weights (bfloat16 for 8b, else float32)",
    )
    p.add_argument(
        "--adapters", action="store_true", help="updates train LoRA adapters (8b always)"
    )
    p.add_argument("--rows", type=int, default=6, help="of the group")
    for name in ("prompt", "length", "block"):
        p.add_argument(f"--{name}", type=int, help="tokens")
    p.add_argument("--tokens-per-step", type=int, default=2)
    p.add_argument("--temperatures", type=float, nargs="*", default=[0.0, 0.9])
    p.add_argument("--updates", nargs="*", help="among " + ", ".join(UPDATES))
    p.add_argument(
        "--micro-batch", type=int, default=0, help="rows of one backward pass of ours; 0: all"
    )
    p.add_argument("--repeats", type=int, default=3, help="pairs")
    p.add_argument("--threads", type=int, default=torch.get_num_threads())
    p.add_argument(
        "--quick", action="store_true", help="smallest sizes, one pair, no memory, nothing recorded"
    )
    p.add_argument(
        "--peak", help="of one side of one case, given as 'CASE/SIDE': print it and stop"
    )
    o = p.parse_args(arguments)
    sizes = dict(rows=3, prompt=6, length=8, block=4, repeats=1) if o.quick else {}
    for name, value in (SIZES[o.model] | sizes).items():
        setattr(o, name, value if name in sizes or getattr(o, name) is None else getattr(o, name))
    o.dtype = o.dtype or ("bfloat16" if o.model == "8b" else "float32")
    o.adapters = o.what == "updates" and (o.adapters or o.model == "8b" or o.dtype == "bfloat16")
    o.micro_batch = o.micro_batch if o.what == "updates" else 0
    if o.updates is None:  # at 8B a view in one graph takes about 20 GB
        o.updates = [name for name in UPDATES if o.model != "8b" or name != "gdpo 6 views"]
    for name in o.updates:
        lookup("update", name, UPDATES)
    return o


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(f: Callable, device: str) -> tuple[float, object]:
    """Seconds, and what the function returns."""
    synchronise(device)
    start = time.perf_counter()
    result = f()
    synchronise(device)
    return time.perf_counter() - start, result


def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product, the best of seven."""
    n = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / min(timed(lambda: a @ b, device)[0] for _ in range(7))


def peak_bytes(case: Rollouts | Update, side: str, device: str) -> int:
    """Largest memory of one run of one side beyond what is held before it: weights, reference,
    gradient, texts."""
    if device == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        getattr(case, side)()
        synchronise(device)
        return torch.cuda.max_memory_allocated() - held
    CLEAR.write_text("5")  # the largest resident size starts again from the present one
    held = resident("VmRSS")
    getattr(case, side)()
    return resident("VmHWM") - held


def resident(field: str) -> int:
    """Bytes, as Linux counts them for this process."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def peaks(case: Rollouts | Update, o: argparse.Namespace, arguments: list[str]) -> dict[str, float]:
    """Peak memory of both sides, MB; on a CPU each in a process of its own, for freed memory may
    stay resident."""
    if o.quick:
        return {}
    if o.device == "cuda":
        return {side: peak_bytes(case, side, "cuda") / 1e6 for side in ("ours", "theirs")}
    found = {}
    for side in ("ours", "theirs"):
        command = [sys.executable, __file__, *arguments, "--peak", f"{case.name}/{side}"]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode:
            raise RuntimeError(
                f"the process that measures {case.name}/{side} failed:\n{child.stderr[-2000:]}"
            )
        found[side] = json.loads(child.stdout.splitlines()[-1]) / 1e6
    return found


def spread(name: str, values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {name: statistics.median(values), f"{name}_min": min(values), f"{name}_max": max(values)}


def measure(
    case: Rollouts | Update, o: argparse.Namespace, rate: float, arguments: list[str]
) -> dict:
    """One row of the table: the outputs compared, then both sides in turns."""
    check = case.check()  # also warms up
    taken, passes = {"ours": [], "theirs": []}, {}
    for _ in range(o.repeats):
        for side, times in taken.items():
            took, passes[side] = timed(getattr(case, side), o.device)
            times.append(took)
    memory = peaks(case, o, arguments)
    row = {"what": o.what, "case": case.name} | {k: getattr(o, k) for k in KEY[2:]}
    row |= spread("ratio", [b / a for a, b in zip(taken["ours"], taken["theirs"], strict=True)])
    row["memory_ratio"] = memory["ours"] / memory["theirs"] if memory else ""
    for side, times in taken.items():
        row |= spread(f"seconds_{side}", times)
        row[f"tokens_per_second_{side}"] = o.rows * o.length / statistics.median(times)
        row[f"forwards_{side}"] = passes[side]
        row[f"teraflop_{side}"] = check.flops[side] / 1e12
        row[f"matmul_share_{side}"] = check.flops[side] / statistics.median(times) / rate
        row[f"peak_mb_{side}"] = memory.get(side, "")
    row |= {
        "matmul_gigaflops": rate / 1e9,
        "difference": check.difference,
        "same_tokens": check.same_tokens,
    }
    card = torch.cuda.get_device_name() if o.device == "cuda" else ""
    row |= {"repeats": o.repeats, "threads": o.threads, "torch": torch.__version__}
    return row | {"card": card}


def describe(row: dict) -> str:
    """One line for a person."""
    memory = ""
    if row["memory_ratio"] != "":
        memory = (
            f"; peak {row['peak_mb_ours']:.0f} against {row['peak_mb_theirs']:.0f} MB "
            f"({row['memory_ratio']:.2f})"
        )
    return (
        f"{row['what']} {row['model']}, {row['case']}: {row['seconds_ours']:.3g} against "
        f"{row['seconds_theirs']:.3g} s, "
        f"ratio {row['ratio']:.2f} [{row['ratio_min']:.2f}, {row['ratio_max']:.2f}], "
        f"{row['tokens_per_second_ours']:.3g} tokens/s, "
        f"{100 * row['matmul_share_ours']:.0f} % of the matmul rate "
        f"against {100 * row['matmul_share_theirs']:.0f} %{memory}; "
        f"outputs differ by {row['difference']:.1e}, "
        f"{100 * row['same_tokens']:.1f} % of the tokens are the same"
    )


def main(arguments: list[str] | None = None) -> list[dict]:
    """Run the command line; returns the rows."""
    arguments = sys.argv[1:] if arguments is None else arguments
    o = options(arguments)
    torch.set_num_threads(o.threads)
    lm, rows = build(o), []
    if o.peak:
        name, side = o.peak.rsplit("/", 1)
        (case,) = (c for c in cases(lm, o) if c.name == name)
        print(peak_bytes(case, side, o.device))
        return []
    rate = matmul_rate(o.device, lm.backbone.dtype)
    for case in cases(lm, o):
        rows.append(measure(case, o, rate, arguments))
        print(describe(rows[-1]), flush=True)
        if not o.quick:
            record(rows[-1:], OUT, KEY)
    return rows


if __name__ == "__main__":
    main()
