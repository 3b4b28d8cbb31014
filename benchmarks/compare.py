"""Every method at equal forward passes: `python benchmarks/compare.py` tunes, trains, tests and
records.

One row per finished run in notebooks/results/compare.csv, its log in
compare_curves.csv. The stages:
  tune    three learning rates, one seed, one task; the best by validation accuracy is used from
          then on
  final   every method on every task, several seeds, tested on held-out problems
  flag    what the forks between paper and released code change, several seeds
  summit  AG-GRPO and TA-GRPO-d where they are at home, five seeds, and how few steps each trained
          model can do with: its test accuracy under several decoders goes to compare_decoders.csv
  merged  merged-path, the exact gradient of the visited path, against agrpo at equal passes
          computed, five seeds
  likelihoods
          the published methods with five seeds at equal passes computed, on one task
  family tune, family
          GRPO's relatives, tuned and then run like that, four updates a batch, passes computed
  rates   GRPO as in stage "family", at the two learning rates that it was not tuned to
  worlds tune, worlds
          AG-GRPO and its control from the base models of `worlds.py`, over how honest guided
          completions are and how many groups are dead; rewarded for right working, at the corners
          also for the answer alone; and what may close the gap where guided completions are not
          honest
  timed tune, timed
          TA-GRPO-d, its ablations and its control on three chains in one completion, with the
          decoders of stage "summit"
  guards  what stops the collapse of ta-agrpo on Sudoku
  paths tune, paths
          relatives of GRPO by path credit and dice, on a longer task, passes computed
  problems tune, problems
          relatives of GRPO by problems, memory and budgets, each on the task of its claim, passes
          computed
  hard problems tune, hard problems, hard problems early
          filters, choice of rows, memory and hints, where most groups are all wrong; "early": with
          a third of the passes
  stages tune, stages
          what comes before and beside reinforcement, passes computed
  newer tune, newer
          d2-StepMerge and SPG, each against itself with one number changed, passes computed
Interrupt it whenever you like: finished runs are not run again, a half-finished one goes on from
its last checkpoint.

The longer runs of the chapters *Start here* and *Train* (train_chain2.json) are made again, as
tables, by
  --stages final --methods agrpo diffu-grpo --tasks chain2 --budget 155000 --results FOLDER
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import torch
from dllm_rl_course.recorded_figures import comparison
from studies import (
    BUDGET,
    COMBINED,
    COMPUTED,
    EVAL_EVERY,
    FAMILY_NUMBERS,
    FAMILY_VARIANT,
    FEWER,
    LEARNING_RATES,
    LISTED,
    MERGED,
    METHODS_RUN,
    NO_CURVES,
    NOT_FLAGGED,
    PROBLEMS,
    PUBLISHED,
    SEEDS,
    SUMMIT,
    TASKS,
    TUNE_SEED,
    TUNE_TASK,
    TUNED_APART,
    TUNED_IN,
    VARIANTS,
)
from worlds import model_and_task

from dllm_rl_lite import show
from dllm_rl_lite.evaluate import evaluate
from dllm_rl_lite.evaluation import Report, read_results, t_interval
from dllm_rl_lite.evaluation.records import KEY, curves, results, summary
from dllm_rl_lite.methods import FAMILY, METHODS, REMASKING
from dllm_rl_lite.models import load_lm
from dllm_rl_lite.names import lookup
from dllm_rl_lite.sampler import Schedule, Threshold
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "notebooks" / "results"
SUMMIT_TASKS = [task for own, _ in SUMMIT for task in own]
DECODED_STAGES = {"summit": SUMMIT_TASKS, "timed": ["three_chains"]}  # and their tasks
DECODERS = (
    "schedule 1",
    "schedule 2",
    "schedule 4",
    *(f"threshold {t:g}" for t in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)),
)
DECODED = ("decoder", "accuracy", "forwards")
COLUMNS = (
    *KEY,
    "steps",
    "forwards",
    "seconds",
    "before",
    "accuracy",
    "low",
    "high",
    "habit_share",
    "reward",
    "computed",  # of the passes; empty in rows that are older than the count
)
LOGGED = (
    "step",
    "reward",
    "dead_groups",
    "clip_fraction",
    "ratio_spread",
    "kl",
    "grad_norm",
    "forwards_rollout",
    "forwards_update",
    "eval_accuracy",
    "eval_low",
    "eval_high",
    "steps_row",
    "reward_free",
    "reward_guided",
    "dead_wrong",
    "dead_free",
    "dead_free_wrong",
    "logprob_free",
    "logprob_guided",
    "computed_rollout",
    "computed_update",
)


@dataclass(frozen=True)
class Job:
    """One run of the table."""

    stage: str
    method: str
    variant: str
    task: str
    seed: int
    lr: float
    budget: int

    @property
    def name(self) -> str:
        """Of the folder that holds the run while it goes on."""
        words = (str(value) for value in vars(self).values())
        return "-".join(word.replace(" ", "_").replace("/", "_") for word in words)


def jobs(
    stage: str,
    methods: list[str],
    tasks: list[str],
    seeds: int,
    budget: int = 0,
    only: list[str] | None = None,
) -> list[Job]:
    """The runs of a stage, seed by seed, so that an interrupted table is still balanced.

    Learning rates come from the finished "tune" rows, of "family" from those of "family tune".
    budget: in place of the stage's own (0).
    only: runs on these tasks; None: on all.
    Raises ValueError for an unknown stage, method or task, or a method that is not tuned yet.
    """
    budget = budget or lookup("stage", stage, BUDGET)
    for method in methods:
        lookup("method", method, METHODS)
    if stage == "tune":
        return tuning_jobs(methods, budget)
    if stage == "family tune":
        return [
            Job(stage, method, FAMILY_VARIANT, TUNE_TASK, TUNE_SEED, lr, budget)
            for lr in LEARNING_RATES
            for method in methods
        ]
    if stage == "rates":
        return [
            Job(stage, "grpo", FAMILY_VARIANT, TUNE_TASK, seed, lr, budget)
            for seed in range(seeds)
            for lr in LEARNING_RATES[:2]
        ]
    if stage in TUNED_IN.values():
        return [
            Job(stage, *label_of(label), task, TUNE_SEED, lr, budget)
            for lr in LEARNING_RATES
            for task, label, _ in LISTED[stage]
            if only is None or task in only
        ]
    best = tuned(RESULTS, TUNED_IN.get(stage, "tune"))
    if "agrpo" in best:
        best |= {method: best["agrpo"] for method in COMBINED}
    found = []
    for seed in range(seeds):
        for task, method, variant in runs_of_a_seed(stage, methods, tasks, seed):
            if only is not None and task not in only:
                continue
            lr = best.get(f"{method}/{variant}", best.get(method))
            lr = best.get(f"{method} on {task}", lr)
            if lr is None:
                raise ValueError(f"{method} has no learning rate yet: run the stage tune first")
            found.append(Job(stage, method, variant, task, seed, lr, budget))
    return found


def methods_of(stage: str) -> list[str]:
    """The methods that a stage runs unless others are asked for."""
    if stage == "final":
        return list(PUBLISHED)
    if stage in ("family tune", "family"):
        return list(FAMILY)
    return list(METHODS_RUN)


def tuning_jobs(methods: list[str], budget: int) -> list[Job]:
    """The runs of the stage "tune"."""
    wanted = [(method, "plain") for method in methods if method not in COMBINED]
    for label in TUNED_APART:
        method, variant = label.split("/")
        if method in methods:
            wanted.append((method, variant))
    return [
        Job("tune", method, variant, TUNE_TASK, TUNE_SEED, lr, budget)
        for lr in LEARNING_RATES
        for method, variant in wanted
    ]


def label_of(text: str) -> tuple[str, str]:
    """method, variant of "method/variant" or "method"."""
    method, _, variant = text.partition("/")
    return method, variant or "plain"


def runs_of_a_seed(
    stage: str, methods: list[str], tasks: list[str], seed: int = 0
) -> list[tuple[str, str, str]]:
    """(task, method, variant) of each run of a stage that is not "tune"."""
    if stage in LISTED:
        return [(task, *label_of(label)) for task, label, seeds in LISTED[stage] if seed < seeds]
    if stage == "merged":
        return [(TUNE_TASK, method, "plain") for method in methods if method in MERGED]
    if stage == "family":
        return [(TUNE_TASK, method, FAMILY_VARIANT) for method in methods]
    if stage == "final":
        return [(task, method, "plain") for task in tasks for method in methods]
    found = []
    if stage == "flag":
        for method in methods:
            for variant in VARIANTS.get(method, ()):
                if variant not in NOT_FLAGGED.get(method, ()):
                    found.append((TUNE_TASK, method, variant))
        return found
    for own, labels in SUMMIT:
        for task in own:
            for label in labels:
                method, _, variant = label.partition("/")
                if task in tasks and method in methods:
                    found.append((task, method, variant or "plain"))
    return found


def tuned(path: Path = RESULTS, stage: str = "tune") -> dict[str, float]:
    """method (or "method/variant"), with " on task" where LISTED has it on several tasks -> best
    learning rate by validation accuracy, the smaller of equals; only of those for which all were
    tried."""
    listed = [label for _, label, _ in LISTED.get(stage, ())]
    tried = {}
    for row in results(path, stage):
        plain = row["variant"] == "plain"
        label = row["method"] if plain else f"{row['method']}/{row['variant']}"
        if listed.count(label) > 1:
            label = f"{label} on {row['task']}"
        tried.setdefault(label, {})[row["lr"]] = row["accuracy"]
    best = {}
    for label, accuracy in tried.items():
        if accuracy.keys() >= set(LEARNING_RATES):
            best[label] = max(sorted(accuracy), key=accuracy.get)  # the first of equals
    return best


def base_decoders(stage: str, path: Path = RESULTS) -> None:
    """Record the base model's accuracy by decoder on the tasks of a stage, once."""
    file = path / "compare_decoders.csv"
    recorded = read_results(file) if file.is_file() else []
    done = {row["task"] for row in recorded if row["method"] == "base"}
    for task in dict.fromkeys(DECODED_STAGES[stage]):
        if task not in done:
            job = Job(stage, "base", "plain", task, 0, 0.0, 0)
            model, name = model_and_task(task)
            rows = [asdict(job) | row for row in decoders(load_lm(model), name)]
            append(file, (*KEY, *DECODED), rows)


def share_right(report: Report) -> dict[str, float]:
    """The share of right completions with its 95 % interval; where a completion holds several
    answers (three_chains), the share of right answers."""
    if report.mean_reward == report.accuracy:
        return {"accuracy": report.accuracy, "low": report.low, "high": report.high}
    mean, half = t_interval([row["reward"] for row in report.generations])
    return {"accuracy": mean, "low": mean - half, "high": mean + half}


@cache
def base_accuracy(label: str, split: str) -> float:
    """Of the model that runs of this label start from."""
    model, _ = model_and_task(label)
    task = tested_task(label)
    return evaluate(load_lm(model), task, n=FEWER.get(task, PROBLEMS), split=split).mean_reward


def tested_task(label: str) -> str:
    """The task of the test: where the working can be read, it is, whatever was rewarded."""
    return label.split(" ")[0].removesuffix("_answer")


def decoders(lm, task: str) -> list[dict]:
    """Greedy test accuracy and mean forward passes a problem, under fixed schedules (tokens a step)
    and thresholds."""
    found = []
    for name in DECODERS:
        kind, value = name.split()
        if kind == "threshold":
            rule = Threshold(float(value))
        else:
            rule = Schedule(load_task(task).length // int(value))
        report = evaluate(lm, task, rule, FEWER.get(task, PROBLEMS))
        found.append(
            {"decoder": name, "accuracy": report.mean_reward, "forwards": report.mean_forwards}
        )
    return found


def run_job(job: Job, threads: int, folder: Path) -> tuple[dict, list[dict], list[dict]]:
    """Train and test one run in a folder: its row of the table, the rows of its log, in stage
    "summit" those by decoder."""
    torch.set_num_threads(threads)
    split = "validation" if "tune" in job.stage else "test"
    changes = {}
    if job.variant == FAMILY_VARIANT:
        changes = FAMILY_NUMBERS
    elif job.variant != "plain":
        changes = VARIANTS[job.method][job.variant]
    model, task = model_and_task(job.task)
    eval_every = EVAL_EVERY.get(job.method, 3)
    eval_problems = min(FEWER.get(task, PROBLEMS), 128)
    if job.stage in NO_CURVES:
        eval_every = 0
        eval_problems = 1
    config = TrainConfig(
        method=job.method,
        model=model,
        preset="tiny",
        task=task,
        run_dir=str(folder),
        seed=job.seed,
        steps=1000,
        numbers={**changes, "lr": job.lr},
        **{"computed" if job.stage in COMPUTED else "forwards": job.budget},
        eval_every=eval_every,
        eval_problems=eval_problems,
        checkpoint_every=10,
    )
    start = time.perf_counter()
    result = train(config, say=lambda line: None)
    numbers = config.resolved()
    rule = None  # surest first, whatever order it was trained in
    if numbers.order in REMASKING:
        rule = numbers.rule(load_task(task).length)
    tested = tested_task(job.task)
    report = evaluate(result.lm, tested, rule, FEWER.get(tested, PROBLEMS), split=split)
    log = [{k: r.get(k) for k in LOGGED} for r in result.rows]
    row = asdict(job) | {
        "steps": log[-1]["step"],
        "forwards": spent(log, "forwards"),
        "seconds": round(time.perf_counter() - start, 1),
        "before": base_accuracy(job.task, split),
        **share_right(report),
        "habit_share": report.habit_share,
        "reward": log[-1]["reward"],
        "computed": spent(log, "computed"),
    }
    by_decoder = decoders(result.lm, job.task) if job.stage in DECODED_STAGES else []
    shutil.rmtree(folder)  # all that is kept of it is in the tables
    return (
        row,
        [asdict(job) | entry for entry in log],
        [asdict(job) | entry for entry in by_decoder],
    )


def spent(log: list[dict], count: str) -> int:
    """All passes of a run, "forwards" asked for or "computed"."""
    return sum((r[f"{count}_rollout"] or 0) + (r[f"{count}_update"] or 0) for r in log)


def append(path: Path, columns: tuple[str, ...], rows: list[dict]) -> None:
    """Add rows at the end of a table, flushed to disk; the header comes with the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rounded = [{name: _six_digits(row[name]) for name in columns} for row in rows]
    table = pd.DataFrame(rounded, dtype=object)  # object: integers stay so beside empty cells
    with open(path, "a", newline="") as file:
        table.to_csv(file, header=file.tell() == 0, index=False, lineterminator="\r\n")
        file.flush()
        os.fsync(file.fileno())


def _six_digits(value: object) -> object:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def finish(
    todo: list[Job], workers: int, path: Path = RESULTS, runs: Path = ROOT / "runs" / "compare"
) -> Iterator[dict]:
    """Run the jobs that are not recorded yet, each in a folder of `runs`, record each as it ends,
    and yield its row."""
    done = {tuple(r[k] for k in KEY) for r in results(path)}
    todo = [j for j in todo if tuple(asdict(j)[k] for k in KEY) not in done]
    for task in dict.fromkeys(job.task for job in todo):
        model_and_task(task)  # makes a base model that is not there, before the workers ask for it
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        running = [pool.submit(run_job, job, threads, runs / job.name) for job in todo]
        try:
            for future in as_completed(running):
                row, log, by_decoder = future.result()
                if by_decoder:
                    append(path / "compare_decoders.csv", (*KEY, *DECODED), by_decoder)
                append(path / "compare_curves.csv", (*KEY, *LOGGED), log)
                append(path / "compare.csv", COLUMNS, [row])
                yield row
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def draw(folder: Path = ROOT / "notebooks" / "figures", path: Path = RESULTS) -> Path | None:
    """Write compare.png: the finished runs of stage "final" as `comparison` draws them; None
    where there are none."""
    rows = summary(results(path, "final"))
    if not rows:
        return None
    show.style()
    logs = {r["task"]: curves(path, task=r["task"]) for r in rows}
    comparison(rows, logs).savefig(folder / "compare.png", dpi=100)
    return folder / "compare.png"


def describe(row: dict) -> str:
    """One line for a person."""
    run = f"{row['method']} {row['variant']} {row['task']} seed {row['seed']} lr {row['lr']:g}"
    return (
        f"{run}: {100 * row['before']:.1f} -> {100 * row['accuracy']:.1f} % "
        f"in {row['steps']} steps, {row['forwards']} forward passes, {row['computed']} computed, "
        f"{row['seconds']:.0f} s"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", nargs="+", default=list(BUDGET), help="default: all")
    parser.add_argument("--methods", nargs="+", help="default: those of the table")
    parser.add_argument("--tasks", nargs="+", help="only runs on these; default: the table's own")
    parser.add_argument("--seeds", type=int, default=0, help=f"default by stage: {SEEDS}")
    parser.add_argument(
        "--budget", type=int, default=0, help=f"forward passes a run; default by stage: {BUDGET}"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="runs at a time; the cores are shared out among them"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the tables; default: the course's"
    )
    a = parser.parse_args()
    try:
        for stage in a.stages:
            tasks = a.tasks or (SUMMIT_TASKS if stage == "summit" else TASKS)
            methods = a.methods or methods_of(stage)
            seeds = a.seeds or SEEDS.get(stage, 1)
            todo = jobs(stage, methods, tasks, seeds, a.budget, only=a.tasks)
            start = time.perf_counter()
            n = 0
            if stage in DECODED_STAGES:
                base_decoders(stage, a.results)
            for n, row in enumerate(finish(todo, a.workers, a.results), 1):
                print(f"{stage} {n} of at most {len(todo)}:", describe(row), flush=True)
            print(f"{stage}: {n} runs in {time.perf_counter() - start:.0f} s", flush=True)
        if rows := summary(results(a.results, "final")):
            print(show.table(rows))
        if rows and a.results == RESULTS:
            print(f"drawn in {draw()}")
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "\nstopped; finished runs are recorded, run the same command to go on\n")


if __name__ == "__main__":
    main()
