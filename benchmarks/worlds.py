"""Base models of writers, and what answer-guided rollouts find in them: honesty and death.

`python benchmarks/worlds.py` makes every base model of the stage "worlds" (in runs/worlds, ten
minutes each for the first lessons of a task) and records what was measured before any training in
notebooks/results/worlds.csv. Finished models and rows are not made again.

Two writers show the task: a careful one, and a careless one who has the habit throughout. In the
first lessons they come in equal shares, and the model learns to infer from an answer who wrote it.
In the second the careful one is rare. The rarer he is, the more groups of free completions are
dead; the longer these lessons, the more the model forgets the inference, and the fewer completions
that are guided by the true answer have right working. Without first lessons hardly any has.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from result_tables import record
from studies import BACKWARDS, GAP, LOW_HONESTY, SUDOKU, VARIANTS, WORLDS

from dllm_rl_lite.evaluation import read_results, wilson
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.models import SHIPPED, MaskedDiffusionLM, decode, load_lm
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.training.base_model import PretrainConfig, lr_at, train_step
from dllm_rl_lite.training.calls import Source
from dllm_rl_lite.training.rollouts import repeated, roll_out

ROOT = Path(__file__).parents[1]
BASES = ROOT / "runs" / "worlds"
RESULTS = ROOT / "notebooks" / "results"
GROUPS = 180  # problems that a world is measured on, four free and four guided completions each


FIRST = {"writers": 600, "sudoku4_worked": 2400, "three_chains": 300}  # steps, by task
FIRST_LR = {"writers": 1e-3, "sudoku4_worked": 1.5e-3, "three_chains": 1e-3}
ROWS = {"writers": 128, "sudoku4_worked": 64, "three_chains": 64}  # demonstrations a step
SECOND_LR = 3e-4
EQUAL = 0.5
SHIPPED_WORLD = "writers 4/60"
POOL = 4000  # different problems


@dataclass(frozen=True)
class World:
    """A task, the share of the careful writer in the second lessons (0..1), their steps, and
    whether they are the only ones."""

    task: str
    careful: float
    steps: int
    alone: bool = False

    @property
    def name(self) -> str:
        """What stands in the column "task" of compare.csv."""
        alone = " alone" if self.alone else ""
        return f"{self.task} {100 * self.careful:.0f}/{self.steps}{alone}"


def parse_world(name: str) -> World:
    """The world of a name such as "writers 4/60" (careful 4 %, 60 steps after the first lessons) or
    "writers 4/400 alone" (no first lessons)."""
    task, numbers, *alone = name.split(" ")
    careful, steps = numbers.split("/")
    return World(task, int(careful) / 100, int(steps), bool(alone))


def model_and_task(label: str) -> tuple[str, str]:
    """What a run of this label (the column "task" of compare.csv) starts from, for `load_lm`, and
    the name of its task.

    "writers_answer 4/60" starts from the model of "writers 4/60".
    """
    name = label.split(" ")[0]
    if " " in label:
        return str(base_of(parse_world(label.replace("_answer", "")), BASES)), name
    if name in FIRST:
        return str(common_base(name, BASES)), name
    return "tiny", name


def teach(
    lm: MaskedDiffusionLM, name: str, habit_share: float, steps: int, lr: float, seed: int = 0
) -> None:
    """Train a model on demonstrations of a task: a short warm-up, then straight down to zero."""
    task = load_task(name)
    draw = random.Random(seed)
    problems = [task.make(draw) for _ in range(POOL)]  # to make a puzzle takes long
    task = replace(task, make=lambda rng: rng.choice(problems))
    warmup = min(30, steps // 2)
    config = PretrainConfig(
        steps=steps,
        lr=((0, lr / 30), (warmup, lr), (steps, 0.0)),
        rows={name: ROWS[name]},
        habits=((0, habit_share, {}),),
        seed=seed,
    )
    optimizer = torch.optim.AdamW(lm.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(lr_at, config=config))
    lm.train()
    for step in range(steps):
        train_step(lm, optimizer, config, {name: task}, step)
        schedule.step()
    lm.eval()


def common_base(name: str, folder: Path) -> Path:
    """The folder of the model after the first lessons, which is made unless it is there."""
    common = folder / name
    if not (common / "config.json").is_file():
        lm = load_lm("tiny")
        teach(lm, name, EQUAL, FIRST[name], FIRST_LR[name])
        save(lm, common)
    return common


def base_of(world: World, folder: Path) -> Path:
    """The folder of a world's base model, which is made unless it is there."""
    own = folder / world.name.replace(" ", "_").replace("/", "_")
    if not (own / "config.json").is_file():
        lm = load_lm("tiny" if world.alone else common_base(world.task, folder))
        teach(lm, world.task, 1 - world.careful, world.steps, SECOND_LR, seed=1)
        save(lm, own)
    return own


def save(lm: MaskedDiffusionLM, folder: Path) -> None:
    """Write a model so that its folder is either complete or not there."""
    unfinished = folder.with_name(folder.name + ".unfinished")
    lm.save_pretrained(unfinished)
    unfinished.rename(folder)


@torch.no_grad()
def honesty(model: Path, task_name: str, groups: int = GROUPS, **numbers) -> dict[str, float]:
    """What half-guided groups of eight hold before any training.

    Args:
        model: a folder.
        task_name: of a task that reads the working; its twin NAME_answer reads the answer alone.
        groups: problems of the training split.
        numbers: other numbers of `ag-grpo`.
    Returns:
        shares: free_right, free_honest of free completions, dead (groups of four free completions
        of which none is honest), guided_right of guided completions, and h with its 95 % interval,
        honest among the rewarded guided ones (right answers).
    """
    lm = load_lm(model)
    task = load_task(task_name)
    method = METHODS["ag-grpo"]
    numbers = method.numbers("tiny", **numbers)
    problems = task.sample(groups, "train", seed=1)
    examples = repeated(problems, numbers)
    generator = torch.Generator().manual_seed(1)
    rollout = roll_out(Source(lm, task, task.reward, method, numbers), examples, generator)
    texts = decode(lm.tokenizer, rollout.tokens)
    free = numbers.group - numbers.guide["rows"]
    shape = (groups, numbers.group)
    honest = torch.tensor(task.rewards_of(examples, texts)).view(shape)
    by_answer = load_task(f"{task_name}_answer")
    right = torch.tensor(by_answer.rewards_of(examples, texts)).view(shape)
    rewarded = int(right[:, free:].sum())
    honest_guided = int(honest[:, free:].sum())
    low, high = wilson(honest_guided, rewarded)
    return {
        "free_right": right[:, :free].mean().item(),
        "free_honest": honest[:, :free].mean().item(),
        "dead": (honest[:, :free].amax(1) == 0).float().mean().item(),
        "guided_right": right[:, free:].mean().item(),
        "h": honest_guided / max(rewarded, 1),
        "h_low": low,
        "h_high": high,
    }


def measure(worlds: Iterable[str], path: Path = RESULTS / "worlds.csv") -> None:
    """Record each world's shares before training, what the variants change where guided completions
    are least honest, and what writing backwards changes in more worlds; recorded ones are not
    measured again."""
    recorded = read_results(path) if path.is_file() else []
    done = {(row["world"], row["variant"]) for row in recorded}
    wanted = [(name, "plain") for name in worlds]
    wanted += [(LOW_HONESTY, variant) for variant in GAP]
    wanted += [(name, "backwards") for name in BACKWARDS]
    for name, variant in wanted:
        if (name, variant) not in done:
            world = parse_world(name)
            numbers = VARIANTS["ag-grpo"][variant]
            found = honesty(base_of(world, BASES), world.task, **numbers)
            row = {"world": name, "variant": variant} | asdict(world) | found
            record([row], path, ("world", "variant"))
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)


def ship() -> None:
    """Write the model of one world into the package, in half precision, as `tiny-writers`."""
    load_lm(base_of(parse_world(SHIPPED_WORLD), BASES)).half().save_pretrained(
        SHIPPED["tiny-writers"]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ship", action="store_true", help="also write the package's tiny-writers")
    arguments = parser.parse_args()
    measure((*WORLDS, *SUDOKU))
    if arguments.ship:
        ship()
