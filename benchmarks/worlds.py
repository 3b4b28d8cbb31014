"""Base models with known writers, and what answer-guided rollouts find in them: honesty and death.

`python benchmarks/worlds.py` makes every base model of the stages "worlds" (in runs/worlds, each in
about a minute after a first one that all start from) and records what was measured before any
training in notebooks/results/worlds.csv. Finished models and rows are not made again.

A world is a task and the shares of its three writers. The careful writer works all of it right, the
careless one has the habit, the cheat has the habit too and ends in the true answer. If guided
rollouts draw from the posterior, the share of rewarded guided completions with right working, h, is
careful / (careful + cheats), and a group of G free completions is all wrong with probability
(1 - careful)^G.
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
from studies import GAP, LOW_HONESTY, VARIANTS, WORLDS

from dllm_rl_lite.evaluation import read_results, wilson
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.models import MaskedDiffusionLM, decode, load_lm
from dllm_rl_lite.tasks import GeneratedTask, load_task
from dllm_rl_lite.tasks.tiny import chain, sudoku4_worked
from dllm_rl_lite.training.base_model import PretrainConfig, lr_at, train_step
from dllm_rl_lite.training.experience import repeated, roll_out

ROOT = Path(__file__).parents[1]
BASES = ROOT / "runs" / "worlds"
RESULTS = ROOT / "notebooks" / "results"
GROUPS = 180  # problems that a world is measured on, four free and four guided completions each
WRITERS = {
    "writers": chain.demonstrate_as_writer,
    "sudoku4_worked": sudoku4_worked.demonstrate_as_writer,
}


@dataclass(frozen=True)
class World:
    """A task and the shares of its writers, 0..1; the rest of the demonstrations is careless."""

    task: str
    careful: float
    cheats: float

    @property
    def name(self) -> str:
        """What stands in the column "task" of compare.csv."""
        return f"{self.task} {100 * self.careful:.0f}/{100 * self.cheats:.0f}"


@dataclass(frozen=True)
class Lessons:
    """How a base model is made: all writers in equal shares; then the careless one in a third, the
    others as in the world; at last, shortly, all as in the world.

    A rare writer is learnt without the first lessons, but not how an answer tells who wrote it; and
    the last lesson, if long, makes the model forget it.
    """

    rows: int  # demonstrations per step
    first: int  # steps with equal shares
    second: int = 150  # steps with the careless writer in a third
    third: int = 50  # steps with the world's shares
    lr: float = 1e-3
    later_lr: float = 3e-4
    pool: int = 4000  # different problems


LESSONS = {
    "writers": Lessons(rows=128, first=600),
    "sudoku4_worked": Lessons(rows=64, first=1200),
    "three_chains": Lessons(rows=64, first=300),
}
HABIT_SHARE = 0.5  # in the demonstrations of a task without writers


def parse_world(name: str) -> World:
    """The world of a name such as "writers 5/20" (careful 5 %, cheats 20 %)."""
    task, shares = name.rsplit(" ", 1)
    careful, cheats = shares.split("/")
    return World(task, int(careful) / 100, int(cheats) / 100)


def model_and_task(label: str) -> tuple[str, str]:
    """What a run of this label (the column "task" of compare.csv) starts from, for `load_lm`, and
    the name of its task.

    "writers_answer 5/20" starts from the model of "writers 5/20".
    """
    name = label.split(" ")[0]
    if " " in label:
        return str(base_of(parse_world(label.replace("_answer", "")), BASES)), name
    if name in LESSONS:
        return str(common_base(name, BASES)), name
    return "tiny", name


def demonstrating(task: GeneratedTask, careful: float, cheats: float, pool: int) -> GeneratedTask:
    """The task with these writers, and problems from a pool (making a puzzle takes longer than
    learning from it)."""
    rng = random.Random(0)
    problems = []
    while len(problems) < pool:
        problems.append(task.make(rng))
    others = careful + cheats
    write = partial(WRITERS[task.name], careless=1 - others, cheats=cheats / others)
    return replace(
        task,
        make=lambda rng: rng.choice(problems),
        demonstrate=lambda example, rng, habit_share: write(example, rng),
    )


def teach(lm: MaskedDiffusionLM, task: GeneratedTask, rows: int, steps: int, lr: float) -> None:
    """Train a model on demonstrations: a short warm-up, then straight down to zero."""
    warmup = min(30, steps // 2)
    rates = ((0, lr / 30), (warmup, lr), (steps, 0.0))
    config = PretrainConfig(
        steps=steps, lr=rates, rows={task.name: rows}, habits=((0, HABIT_SHARE, {}),)
    )
    optimizer = torch.optim.AdamW(lm.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(lr_at, config=config))
    lm.train()
    for step in range(steps):
        train_step(lm, optimizer, config, {task.name: task}, step)
        schedule.step()
    lm.eval()


def common_base(name: str, folder: Path) -> Path:
    """The folder of the model that a task's worlds start from, which is made unless it is there:
    its writers in equal shares, or half of the demonstrations with the habit."""
    common = folder / name
    if not (common / "config.json").is_file():
        lessons = LESSONS[name]
        task = load_task(name)
        if name in WRITERS:
            task = demonstrating(task, 1 / 3, 1 / 3, lessons.pool)
        lm = load_lm("tiny")
        teach(lm, task, lessons.rows, lessons.first, lessons.lr)
        save(lm, common)
    return common


def base_of(world: World, folder: Path) -> Path:
    """The folder of a world's base model, which is made unless it is there."""
    lessons = LESSONS[world.task]
    own = folder / folder_name(world)
    if not (own / "config.json").is_file():
        others = world.careful + world.cheats
        third = World(world.task, 2 / 3 * world.careful / others, 2 / 3 * world.cheats / others)
        before = folder / f"{folder_name(third)}_before"
        if not (before / "config.json").is_file():
            teach_world(third, common_base(world.task, folder), before, lessons.second)
        teach_world(world, before, own, lessons.third)
    return own


def folder_name(world: World) -> str:
    """The world's name without signs that folders cannot have."""
    return world.name.replace(" ", "_").replace("/", "_")


def teach_world(world: World, start: Path, folder: Path, steps: int) -> None:
    """Train the model of one folder on a world's demonstrations, and write it to another."""
    lessons = LESSONS[world.task]
    lm = load_lm(start)
    task = demonstrating(load_task(world.task), world.careful, world.cheats, lessons.pool)
    teach(lm, task, lessons.rows, steps, lessons.later_lr)
    save(lm, folder)


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
    rollout = roll_out(lm, task, method, numbers, examples, generator)
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
    """Record each world's shares before training, and what the variants change where guided
    completions are least honest; recorded ones are not measured again."""
    recorded = read_results(path) if path.is_file() else []
    done = {(row["world"], row["variant"]) for row in recorded}
    wanted = [(name, "plain") for name in worlds] + [(LOW_HONESTY, variant) for variant in GAP]
    for name, variant in wanted:
        if (name, variant) not in done:
            world = parse_world(name)
            numbers = VARIANTS["ag-grpo"][variant]
            found = honesty(base_of(world, BASES), world.task, **numbers)
            row = {"world": name, "variant": variant} | asdict(world) | found
            record([row], path, ("world", "variant"))
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    measure(WORLDS)
