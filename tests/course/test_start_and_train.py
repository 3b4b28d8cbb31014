"""The checks of *Start here* and *Train*: right answers are called right, likely mistakes are
named, nothing ever raises."""

import pytest
import torch
from dllm_rl_course import start_here, train

from dllm_rl_lite.evaluation import wilson


def shuffled(rewards, generator):
    return rewards.gather(1, torch.rand(rewards.shape, generator=generator).argsort(1))


def habit(prompt):
    return sum(int(c) for c in prompt if c.isdigit()) % 10


RIGHT = [
    (start_here.exercise_1, wilson(0, 10)[1]),
    (start_here.exercise_2, 2398),
    (start_here.exercise_3, habit),
    (train.exercise_1, -5 / 6),
    (train.exercise_2, lambda p, G: p**G + (1 - p) ** G),
    (train.exercise_3, shuffled),
]
WRONG = [
    (start_here.exercise_1, 0.0, "no proof of zero"),
    (start_here.exercise_1, wilson(0, 10), "upper end"),
    (start_here.exercise_2, 2401, "Wilson"),
    (start_here.exercise_2, 596, "in all"),
    (start_here.exercise_3, lambda p: 21, "last digit"),
    (start_here.exercise_3, lambda p: 3, "right answer"),
    (train.exercise_1, 5 / 6, "the sign"),
    (train.exercise_1, -1, "failure included"),
    (train.exercise_2, lambda p, G: p**G, "all wrong is dead too"),
    (train.exercise_2, lambda p, G: 1 - p**G - (1 - p) ** G, "mixed"),
    (train.exercise_3, lambda r, g: r, "order did not change"),
    (train.exercise_3, lambda r, g: r * 0, "lost or repeated"),
    (
        train.exercise_3,
        lambda r, g: r.flatten()[torch.randperm(r.numel(), generator=g)].view_as(r),
        "not across groups",
    ),
    (
        train.exercise_3,
        lambda r, g: r[:, torch.randperm(r.shape[1], generator=g)],
        "permutation of its own",
    ),
    (
        train.exercise_3,
        lambda r, g: shuffled(r, torch.Generator().manual_seed(torch.seed() % 9999)),
        "from the generator",
    ),
]


@pytest.mark.parametrize("check, answer", RIGHT)
def test_right_answers_are_right(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.rstrip().endswith(": right")


@pytest.mark.parametrize("check, answer, hint", WRONG)
def test_likely_mistakes_are_named(check, answer, hint, capsys):
    check(answer)
    out = capsys.readouterr().out
    assert "not yet" in out and hint in out
