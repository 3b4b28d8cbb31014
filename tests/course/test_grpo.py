"""The checks of *GRPO, piece by piece*: right answers say right, likely mistakes are named, and
nothing ever raises."""

import pytest
import torch
from dllm_rl_course.grpo import exercise_1, exercise_2, exercise_3
from exercise import said


@pytest.mark.parametrize(
    "answer, words",
    [
        ((0.75, 1.0, 1.5, 0.0), "right"),
        ([0.75, 1, 1.4997, 0], "right"),
        ((1, 0.75, 1.5, 0), "swapped"),
        ((-0.25, -1 / 3, -0.5, 0), "wrong sibling"),
        ((1, 1, 1.5, 0), "the right one included"),
        ((0.5, 1, 1.5, 0), "mean of all four"),
        ((0.75, 0.5625, 1.5, 0), "not (G - 1) / G"),
        ((0.75, 0.75, 1.5, 0), "other three"),
        ((0.75, 1, 3**0.5, 0), "G below the line"),
        ((0.75, 1, 2, 0), "not leave-one-out"),
        ((0.75, 1, 3, 0), "square root"),
        ((0.75, 1, 1.2, 0), "standard deviation"),
        ((0.75, 1, 1.5, float("nan")), "teaches anything"),
        ((0.75, 1, 1.5, 1), "teaches anything"),
        ((0.75, 1, 1.5), "four numbers"),
        (0.75, "four numbers"),
    ],
)
def test_credit(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


@pytest.mark.parametrize(
    "function",
    [
        lambda step, mu, ga: ((step - 1) % (mu * ga)) // ga,
        lambda step, mu, ga: (step - 1) // ga % mu,
        lambda step, mu, ga: torch.tensor((step - 1) // ga % mu),
    ],
)
def test_seed_index_right(capsys, function):
    assert said(capsys, exercise_2, function).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda s, mu, ga: s % mu, "published line"),
        (lambda s, mu, ga: (s - 1) % mu, "still counts micro-batches"),
        (lambda s, mu, ga: s // ga % mu, "one ahead"),
        (lambda s, mu, ga: (s - 1) % ga, "chunk of the rollouts"),
        (lambda s, mu, ga: (s - 1) // ga, "never returns"),
        (lambda s, mu, ga: (s - 1) // mu % mu, "swapped"),
        (lambda s, mu, ga: (s - 1) / ga % mu, "whole number"),
        (lambda s, mu, ga: 0, "must give 0, 0, 1, 1"),
        (lambda s, mu, ga: None if s > 1 else 0, "returns None"),
        (3, "the function itself"),
    ],
)
def test_seed_index_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_2, function)


def kl3(p, r):
    return (r - p).exp() - (r - p) - 1


@pytest.mark.parametrize(
    "function",
    [
        lambda p, o, r: (p - o).exp() * (p - r),
        lambda p, o, r: (p - o).exp() * kl3(p, r),
        lambda p, o, r: (p - o).exp().detach() * (p - r) ** 2 / 2,
        lambda p, o, r: (
            (p - o).exp() * (p - r).detach()
        ),  # the score-function form of the same gradient
    ],
)
def test_kl_loss_right(capsys, function):
    """There is more than one right loss: the gradient decides, not the formula."""
    assert said(capsys, exercise_3, function).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda p, o, r: p - r, "mean gradient is zero"),
        (lambda p, o, r: kl3(p, r), "other divergence"),
        (lambda p, o, r: (p - r) ** 2 / 2, "drawn by an older one"),
        (lambda p, o, r: (p - o).exp().detach() * kl3(p, r), "k3 keeps the gradient"),
        (lambda p, o, r: (p - o).exp().detach() * (p - r), "k1 stays zero"),
        (lambda p, o, r: (p - o).exp() * (p - r) ** 2 / 2, "k2's mean"),
        (lambda p, o, r: -(p - o).exp() * (p - r), "the sign"),
        (lambda p, o, r: -(p - o).exp() * kl3(p, r), "the sign"),
        (lambda p, o, r: (p - r).detach(), "detached"),
        (lambda p, o, r: (p - o) * (p - r).detach(), "older one"),
        (lambda p, o, r: (2 * (p - o)).exp().detach() * (p - r) ** 2 / 2, "at a distance"),
        (lambda p, o, r: (o - p).exp() * (p - r) ** 3, "is not that of KL"),
        (lambda p, o, r: (p - r).sum(), "one number a token"),
        (0.3, "the function itself"),
    ],
)
def test_kl_loss_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_3, function)
