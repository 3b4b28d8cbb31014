"""The checks of chapters 00 and 20: right answers are called right, likely mistakes are named,
nothing ever raises."""

import dllm_rl_course as checks
import pytest
import torch

from dllm_rl_lite.evaluation import wilson


def shuffled(rewards, generator):
    return rewards.gather(1, torch.rand(rewards.shape, generator=generator).argsort(1))


def habit(prompt):
    return sum(int(c) for c in prompt if c.isdigit()) % 10


RIGHT = [
    (checks.ex_00_1, wilson(0, 10)[1]),
    (checks.ex_00_2, 2398),
    (checks.ex_00_3, habit),
    (checks.ex_20_1, -5 / 6),
    (checks.ex_20_2, lambda p, G: p**G + (1 - p) ** G),
    (checks.ex_20_3, shuffled),
]
WRONG = [
    (checks.ex_00_1, 0.0, "no proof of zero"),
    (checks.ex_00_1, wilson(0, 10), "upper end"),
    (checks.ex_00_2, 2401, "Wilson"),
    (checks.ex_00_2, 596, "in all"),
    (checks.ex_00_3, lambda p: 21, "last digit"),
    (checks.ex_00_3, lambda p: 3, "right answer"),
    (checks.ex_20_1, 5 / 6, "the sign"),
    (checks.ex_20_1, -1, "failure included"),
    (checks.ex_20_2, lambda p, G: p**G, "all wrong is dead too"),
    (checks.ex_20_2, lambda p, G: 1 - p**G - (1 - p) ** G, "mixed"),
    (checks.ex_20_3, lambda r, g: r, "order did not change"),
    (checks.ex_20_3, lambda r, g: r * 0, "lost or repeated"),
    (
        checks.ex_20_3,
        lambda r, g: r.flatten()[torch.randperm(r.numel(), generator=g)].view_as(r),
        "not across groups",
    ),
    (
        checks.ex_20_3,
        lambda r, g: r[:, torch.randperm(r.shape[1], generator=g)],
        "permutation of its own",
    ),
    (
        checks.ex_20_3,
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
