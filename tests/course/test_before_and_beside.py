"""The checks of *Before and beside reinforcement*: right answers, and each named mistake."""

import math

import pytest
import torch
from dllm_rl_course.before_and_beside import exercise_1, exercise_2, exercise_3
from exercise import said

from dllm_rl_lite.objectives import preference


@pytest.mark.parametrize(
    "answer, words",
    [
        ((0.05, 0.025, 0.075), "right"),
        ((0.5, 0.25, 0.75), "beta is a factor, too"),
        ((0.1, 0.05, 0.15), "not -1"),
        ((0.2, 0.025, 0.075), "beta * sigmoid(0)"),
        ((0.05, 0.075, 0.025), "told apart already"),
        ((0.05, 0.05, 0.05), "sigmoid(-ln 3)"),
        ((0.05, 0.025, 0.025), "sigmoid(ln 3)"),
        ((0.05, 0.025), "three numbers"),
        (0.05, "three numbers"),
    ],
)
def test_what_is_left_of_a_pairs_gradient(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


@pytest.mark.parametrize(
    "margin, factor", [(0.0, 0.05), (math.log(3), 0.025), (-math.log(3), 0.075)]
)
def test_the_right_factors_are_the_packages(margin, factor):
    log_ratio = torch.tensor([[margin / 2], [-margin / 2]], dtype=torch.float64) / 0.1
    log_ratio.requires_grad_()
    advantage = torch.tensor([[1.0], [-1.0]])
    preference(log_ratio, advantage, torch.ones(2, 1), beta=0.1).sum().backward()
    assert log_ratio.grad.flatten().tolist() == pytest.approx([-factor, factor])


def weighted(own, given):
    def weights(advantage, beta, lam):
        rollouts = len(advantage) - 1
        factor = torch.full_like(advantage, own(lam))
        factor[-1] = given(rollouts, beta, lam)
        return factor * advantage

    return weights


def plus(lam):
    return 1 + lam


RIGHT = weighted(plus, lambda n, beta, lam: n * beta + lam)


@pytest.mark.parametrize(
    "weights, words",
    [
        (RIGHT, "right"),
        (weighted(lambda lam: 1, lambda n, beta, lam: n * beta), "without the regulariser"),
        (weighted(plus, lambda n, beta, lam: beta + lam), "times the number of rollouts"),
        (weighted(plus, lambda n, beta, lam: n * beta), "add up to"),
        (weighted(plus, lambda n, beta, lam: n * beta - lam), "sum to 0"),
        (weighted(plus, lambda n, beta, lam: (n + 1) * beta + lam), "is no rollout"),
        (weighted(lambda lam: 2, lambda n, beta, lam: n * beta + lam), "wanted: (1 + lam) A_i"),
        (lambda advantage, beta, lam: advantage[:-1], "one weight a text"),
        (3, "the function itself"),
    ],
)
def test_weights_of_a_text(capsys, weights, words):
    assert words in said(capsys, exercise_2, weights)


def test_the_right_weights_are_the_objectives():
    """The number of rollouts times mean A_i l_i + beta A_y l_y + lam mean A_i (l_i - l_y)."""
    generator = torch.Generator().manual_seed(0)
    advantage, likelihood = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    advantage = advantage - advantage.mean()
    own, told = likelihood[:-1], likelihood[-1]
    objective = (
        (advantage[:-1] * own).mean()
        + 0.5 * advantage[-1] * told
        + 0.6 * (advantage[:-1] * (own - told)).mean()
    )
    torch.testing.assert_close((RIGHT(advantage, 0.5, 0.6) * likelihood).sum(), 4 * objective)


@pytest.mark.parametrize(
    "consensus, words",
    [
        (lambda s: (s.sum(0) - s.diagonal()) / (len(s) - 1), "right"),
        (lambda s: s.mean(0), "own prompt is asked"),
        (lambda s: s.diagonal(), "own prompt alone"),
        (lambda s: (s.sum(1) - s.diagonal()) / (len(s) - 1), "texts are columns"),
        (lambda s: (s.sum(0) - s.diagonal()) / len(s), "not K"),
        (lambda s: s.sum(0) - s.diagonal(), "not the sum"),
        (lambda s: s.amax(0), "wanted: the sum of column j"),
        (lambda s: s, "one number a text"),
        (3, "the function itself"),
    ],
)
def test_consensus_of_a_table(capsys, consensus, words):
    assert words in said(capsys, exercise_3, consensus)
