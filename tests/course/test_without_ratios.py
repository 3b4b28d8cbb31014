"""The checks of *Without ratios*: right answers say right, likely mistakes are named, and
nothing ever raises."""

import math

import pytest
import torch
from dllm_rl_course.without_ratios import exercise_1, exercise_2, exercise_3
from exercise import said

GOOD = (0.5, 0.1, 0.4, -2 / 15, 0.0)


@pytest.mark.parametrize(
    "at, words",
    [
        ({}, "right"),
        ({3: -0.133}, "right"),
        ({0: 0.1, 1: 0.5}, "swapped"),
        ({0: 1 / 6}, "a wrong text's weight"),
        ({1: 0.3}, "a wrong text's weight"),
        ({0: 3**0.75}, "exp(psi A)"),
        ({0: 3}, "exp(psi r)"),
        ({0: math.e / (math.e + 3)}, "exp(psi) is 3"),
        ({0: 0.7}, "3, 1, 1, 1"),
        ({1: 0.2}, "1/3, 1, 1, 1"),
        ({2: -0.4}, "the sign"),
        ({3: 2 / 15}, "the sign"),
        ({2: 0.5}, "without punishment"),
        ({2: 0.45}, "w+ - w-"),
        ({3: -0.4}, "together"),
        ({3: -0.1}, "1/6 - 3/10"),
        ({4: 0.25}, "w+ of a dead group"),
        ({4: 1}, "exactly 0"),
        ({4: float("nan")}, "exactly 0"),
    ],
)
def test_weights(capsys, at, words):
    answer = tuple(at.get(i, v) for i, v in enumerate(GOOD))
    assert words in said(capsys, exercise_1, answer)
    assert words in said(capsys, exercise_1, list(answer))


def test_weights_shape(capsys):
    for answer in (GOOD[:4], 0.5):
        assert "five numbers" in said(capsys, exercise_1, answer)


def bounds(clip):
    return math.log(1 - clip), math.log(1 + clip)


def inside(d, clip):
    return (d > bounds(clip)[0]) & (d < bounds(clip)[1])


def slope(d, A, psi, clip, length):
    return -2 * (psi * A - d / length) / length * inside(d, clip)


def by_autograd(d, A, psi, clip, length):
    leaf = d.clone().requires_grad_()
    loss = (leaf.clamp(*bounds(clip)) / length - psi * A) ** 2
    return torch.autograd.grad(loss.sum(), leaf)[0]


@pytest.mark.parametrize("function", [slope, by_autograd, lambda *a: slope(*a).float()])
def test_slope_right(capsys, function):
    assert said(capsys, exercise_2, function).endswith("right")


def pessimistic(d, A, psi, clip, length):
    gone = torch.where(A > 0, d > bounds(clip)[1], d < bounds(clip)[0])
    return -2 * (psi * A - d / length) / length * ~gone


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda d, A, psi, clip, length: -2 * (psi * A - d / length) / length, "without the clamp"),
        (
            lambda d, A, psi, clip, length: (
                -2 * (psi * A - d.clamp(*bounds(clip)) / length) / length
            ),
            "chain rule",
        ),
        (pessimistic, "pessimistic"),
        (lambda *a: -slope(*a), "the sign"),
        (lambda *a: slope(*a) * a[4], "one 1 / L"),
        (lambda *a: slope(*a) / 2, "the 2 of the square"),
        (lambda d, A, psi, clip, length: -2 * psi * A / length * inside(d, clip), "slope at d = 0"),
        (
            lambda d, A, psi, clip, length: -2 * (psi * A - d / length) / length * (d.abs() < clip),
            "ln(1 - clip)",
        ),
        (lambda *a: slope(*a) * 3, "differentiate"),
        (lambda *a: slope(*a).sum(), "one number for each"),
        (0.3, "the function itself"),
    ],
)
def test_slope_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_2, function)


def of_sign(good, bad):
    return lambda p, o, c: torch.where(c > 0, good(p, o, c), bad(p, o, c))


def likelihood(p, o, c):
    return -c * p


def ratio(p, o, c):
    return -c * (p - o).exp()


def clipped(p, o, c):
    return -torch.minimum((p - o).exp() * c, (p - o).exp().clamp(0.5, 1.5) * c)


@pytest.mark.parametrize(
    "function",
    [
        of_sign(likelihood, ratio),
        of_sign(likelihood, clipped),
        of_sign(ratio, ratio),
        clipped,
        lambda p, o, c: -c * p * torch.where(c > 0, 1.0, (p.detach() - o).exp().clamp(max=1)),
        of_sign(likelihood, lambda p, o, c: -c * p.clamp(min=o - 0.5)),
    ],
)
def test_bounded_right(capsys, function):
    """Several losses qualify: the gradient decides, not the formula."""
    assert said(capsys, exercise_3, function).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (likelihood, "wd1's own loss"),
        (lambda p, o, c: c * p, "the sign"),
        (lambda p, o, c: -c * p.detach(), "detached"),
        (lambda p, o, c: -c.clamp(min=0) * p, "positive-only"),
        (lambda p, o, c: -2 * c * (p - o).exp(), "must be wd1's"),
        (of_sign(likelihood, lambda p, o, c: -c * ((p - o) / 9).exp() * 9), "still pushed"),
        (of_sign(lambda p, o, c: -c * p.clamp(min=o - 1), ratio), "no push back up"),
        (
            of_sign(likelihood, lambda p, o, c: -c * (p - o) - c * (p - o) ** 2 * 4),
            "far from old|still pushed",
        ),
        (lambda p, o, c: (-c * p).sum(), "one number a token"),
        (0.3, "the function itself"),
        (
            of_sign(
                likelihood,
                lambda p, o, c: -c * ((p - o).exp() + 9 * (p - o) ** 2 * (3 * (p - o)).exp()),
            ),
            "pushed up again",
        ),
        (of_sign(likelihood, lambda p, o, c: -c * (p - o) / (1 + (p - o) / 20).sqrt()), "finite"),
    ],
)
def test_bounded_mistakes(capsys, function, words):
    verdict = said(capsys, exercise_3, function)
    assert any(w in verdict for w in words.split("|")), verdict
