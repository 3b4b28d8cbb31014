"""Fine-tuning and then reinforcement: `python benchmarks/two_stages.py` (15 minutes on two cores)
makes notebooks/results/two_stages.csv, recipe by recipe; run again, it goes on where it stopped.

Every recipe has the same passes computed on `chain2` as a run of stage "stages" of `compare.py`,
whose tuned learning rates it takes, with the same seeds. So `sft` alone and `grpo` alone are there:

  ton                 one stage, as there
  sft 20, then grpo   20 batches of fine-tuning (a twentieth of the passes), then `grpo`
  sft 80, then grpo   80 batches (a fifth)
  ton 80, then grpo   the same after thought dropout
  ton 80              its first stage alone, at a fifth of the passes: what `grpo` started from;
                      and the texts of 48 groups of eight siblings (`mixed`: groups of both formats)

For each trained model one row per task and way of writing: `accuracy` over 180 test problems (19 of
`chain1`: it has no more), `bare`, the share of texts without working, and the accuracy of either
kind. The texts are greedy, or sampled at temperature 1 (both two tokens a pass, the surest first),
or sampled from left to right, one token a pass, which gives the distribution that was learnt. All
were trained on `chain2` alone, so `chain1` is easier and `chain4` harder than what they know. The
curve of each training run is in two_stages_curves.csv. Nothing here is timed.

Written down before the first run. A difference holds if the paired 95 % interval over five seeds
leaves out 0 in its direction.

1. `sft 20, then grpo` is ahead of `grpo` alone by 0 to 15 points: it starts at about 48 % and not
   at 31 %, for a twentieth of the passes.
2. `sft 80, then grpo` is ahead of `grpo` alone by at least 20 points, and behind `sft` alone by at
   least 5: a pass of fine-tuning teaches more than a pass of reinforcement until the end.
3. `ton` alone: sampled texts on `chain2` are bare in 40 to 60 of 100, whatever the seed. Greedy
   texts are bare in more than 80 of 100 for the seeds that end below 30 %, and in fewer than 20 for
   the one at 89 %. So the lottery is one of greedy decoding.
4. Worked texts of `ton` are right in at least 85 of 100 on `chain2`, bare ones in at most 40.
5. `ton` alone does not tell easy from hard problems: sampled, its share of bare texts on `chain1`,
   `chain2` and `chain4` differs by less than 15 points.
6. `ton 80, then grpo`: reward is paid mostly for worked texts, so bare ones fall below 10 of 100 on
   `chain2`, sampled, and the spread between seeds falls below 15 points. On `chain1`, where a bare
   answer is as easy, they fall less.

Written after seed 0, whose sampled texts were bare in 88 of 100 and, if worked, right in only 14
(3 and 4 are wrong for it); texts from left to right were added then, and everything run again:

7. From left to right, texts of `ton` are bare in 40 to 60 of 100 on `chain2`, for every seed, and
   worked ones are right in at least 85. The cause is the order: the surest tokens are decided
   first, those are end tokens of bare texts or of none, and two tokens a pass may disagree about
   it (the chapter *Other bodies* has the same for padding).
"""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from compare import EVAL_EVERY, tuned
from result_tables import record
from studies import BUDGET, SEEDS

from dllm_rl_lite.evaluate import evaluate
from dllm_rl_lite.evaluation import Report
from dllm_rl_lite.models import MaskedDiffusionLM
from dllm_rl_lite.sampler import Decoding, Schedule
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig, complete_checkpoints

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "notebooks" / "results"
KEY = ("recipe", "seed", "task", "texts")
TASK = "chain2"
TESTED = {"chain1": 19, "chain2": 180, "chain4": 180}  # problems of the test split
TEXTS = ("greedy", "sampled", "left to right")
GROUPS_OF = "ton 80"  # the recipe whose groups are looked at: what the `grpo` after it learns from
GROUPS = 48
SIBLINGS = 8


@dataclass(frozen=True)
class Stage:
    """One training run of a recipe; batches 0: until the passes of the recipe are spent."""

    method: str
    batches: int = 0


RECIPES = {
    "ton": [Stage("ton")],
    "sft 20, then grpo": [Stage("sft", 20), Stage("grpo")],
    "sft 80, then grpo": [Stage("sft", 80), Stage("grpo")],
    "ton 80, then grpo": [Stage("ton", 80), Stage("grpo")],
    "ton 80": [Stage("ton", 80)],
}


def train_recipe(
    stages: list[Stage], seed: int, budget: int, folder: Path
) -> tuple[MaskedDiffusionLM, list[dict]]:
    """The model that the stages leave, each from the weights of the one before it, and its curve:
    a row per evaluation, with the passes that all stages have computed by then."""
    rates = tuned(stage="stages tune")
    model = "tiny"
    spent = 0
    curve = []
    for number, stage in enumerate(stages, 1):
        run_dir = folder / str(number)
        config = TrainConfig(
            method=stage.method,
            model=model,
            preset="tiny",
            task=TASK,
            run_dir=str(run_dir),
            seed=seed,
            steps=stage.batches or 1000,
            computed=budget - spent,
            numbers={"lr": rates[stage.method]},
            eval_every=EVAL_EVERY.get(stage.method, 3),
        )
        result = train(config, say=lambda line: None)
        for row in result.rows:
            spent += row.get("computed_rollout") or 0
            spent += row.get("computed_update") or 0
            if row.get("eval_accuracy") is not None:
                curve.append(
                    {
                        "stage": number,
                        "method": stage.method,
                        "batch": row["step"],
                        "computed": spent,
                        "accuracy": row["eval_accuracy"],
                    }
                )
        model = str(complete_checkpoints(run_dir)[-1] / "model")
    return result.lm, curve


def shares(lm: MaskedDiffusionLM, task: str, texts: str) -> dict:
    """How many texts are right, how many have no working, and how many of either kind are right."""
    rule = None
    if texts == "left to right":
        rule = Schedule(load_task(task).length, order="left_to_right")
    decoding = Decoding(rule=rule, temperature=0.0 if texts == "greedy" else 1.0)
    return formats(evaluate(lm, task, decoding, TESTED[task]))


def group_shares(lm: MaskedDiffusionLM) -> dict:
    """The same of sampled siblings; `mixed` is the share of groups that hold both formats."""
    report = evaluate(lm, TASK, Decoding(temperature=1.0), GROUPS, samples=SIBLINGS)
    bare = [row["completion"].startswith("<answer>") for row in report.generations]
    groups = [sum(bare[i : i + SIBLINGS]) for i in range(0, len(bare), SIBLINGS)]
    mixed = sum(0 < count < SIBLINGS for count in groups) / len(groups)
    return formats(report) | {"mixed": mixed}


def formats(report: Report) -> dict:
    """Of the texts of an evaluation."""
    written = pd.DataFrame(report.generations)
    bare = written["completion"].str.startswith("<answer>")
    right = written["reward"] == 1
    return {
        "problems": len(written),
        "accuracy": right.mean(),
        "bare": bare.mean(),
        "right_bare": right[bare].mean(),
        "right_worked": right[~bare].mean(),
    }


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    made.add_argument("--seeds", type=int, default=SEEDS["stages"])
    made.add_argument("--budget", type=int, default=BUDGET["stages"], help="passes computed")
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of the tables")
    made.add_argument("--runs", type=Path, default=ROOT / "runs" / "two_stages")
    return made.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    o = options(arguments)
    o.results.mkdir(parents=True, exist_ok=True)
    table = o.results / "two_stages.csv"
    known = set()
    if table.is_file():
        known = set(pd.read_csv(table)[["recipe", "seed"]].itertuples(index=False, name=None))
    for seed in range(o.seeds):
        for recipe in o.recipes:
            if (recipe, seed) in known:
                continue
            run = {"recipe": recipe, "seed": seed}
            folder = o.runs / f"{recipe.replace(', ', '_').replace(' ', '_')}-{seed}"
            lm, curve = train_recipe(RECIPES[recipe], seed, o.budget, folder)
            rows = [
                run | {"task": task, "texts": texts} | shares(lm, task, texts)
                for task in TESTED
                for texts in TEXTS
            ]
            if recipe == GROUPS_OF:
                rows.append(run | {"task": TASK, "texts": "groups"} | group_shares(lm))
            record(
                [run | point for point in curve],
                o.results / "two_stages_curves.csv",
                ("recipe", "seed", "stage", "batch"),
            )
            record(rows, table, KEY)
            shutil.rmtree(folder)
            (own,) = [row for row in rows if (row["task"], row["texts"]) == (TASK, "greedy")]
            print(
                f"{recipe}, seed {seed}: {100 * own['accuracy']:.1f} % right, "
                f"{100 * own['bare']:.0f} % without working, {curve[-1]['computed']} passes",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
