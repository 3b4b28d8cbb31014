"""The checks of *The GRPO family, one change at a time*: right answers, each named mistake."""

import math

import pytest
import torch
from dllm_rl_course.grpo_family import exercise_1, exercise_2, exercise_3
from exercise import said

from dllm_rl_lite.advantages import virtual_best, z_score
from dllm_rl_lite.objectives import clipped_ratio, soft_gate


@pytest.mark.parametrize(
    "answer, words",
    [
        ((1.2, 1.28, 2.0, math.inf), "right"),
        ([1.2, 1.28, 2, float("inf")], "right"),
        ((0.8, 1.28, 2, math.inf), "bounds bad texts"),
        ((1.1, 1.28, 2, math.inf), "1 + 0.2"),
        ((1.2, 1.2, 2, math.inf), "1 + 0.28"),
        ((1.2, 1.28, 3, math.inf), "(ratio - 1) ratio p"),
        ((1.2, 1.28, 0.5, math.inf), "lower bound"),
        ((1.2, 1.28, 1.2, math.inf), "solve"),
        ((1.2, 1.28, 2, 5), "does not stop"),
        ((1.2, 1.28, 2, 1.2), "only a weight"),
        ((1.2, 1.28, 2, float("nan")), "only a weight"),
        ((1.2, 1.28, 2), "four numbers"),
        (1.2, "four numbers"),
    ],
)
def test_where_the_gradient_ends(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


def sapo(log_ratio, advantage, tau):
    return soft_gate(log_ratio, advantage, tau, tau)


def sided(log_ratio, advantage, inside, outside):
    """One loss where a token moved in the wanted direction, another where it did not."""
    moved = (log_ratio.exp() - 1) * advantage > 0
    return torch.where(moved, inside, outside)


def free(log_ratio, advantage):
    return -log_ratio.exp() * advantage


def test_a_gate_on_one_side_is_right(capsys):
    def one_sided(log_ratio, advantage, tau):
        return sided(
            log_ratio, advantage, sapo(log_ratio, advantage, tau), free(log_ratio, advantage)
        )

    def continuous(log_ratio, advantage, tau):
        at_one = 2 / tau * advantage
        return sided(
            log_ratio,
            advantage,
            sapo(log_ratio, advantage, tau) + at_one,
            free(log_ratio, advantage) + advantage,
        )

    assert said(capsys, exercise_2, one_sided).endswith("right")
    assert said(capsys, exercise_2, continuous).endswith("right")


@pytest.mark.parametrize(
    "gate, words",
    [
        (sapo, "that is SAPO"),
        (lambda x, a, tau: sided(x, a, free(x, a), sapo(x, a, tau)), "swapped"),
        (lambda x, a, tau: torch.where(x > 0, sapo(x, a, tau), free(x, a)), "direction is down"),
        (lambda x, a, tau: sided(x, a, sapo(x, a, tau) * tau / 4, free(x, a)), "is missing"),
        (lambda x, a, tau: sided(x, a, sapo(x, a, 1.0), free(x, a)), "tau is not used"),
        (lambda x, a, tau: sided(x, a, torch.zeros_like(x), free(x, a)), "hard clip"),
        (lambda x, a, tau: -sided(x, a, sapo(x, a, tau), free(x, a)), "the sign"),
        (lambda x, a, tau: clipped_ratio(x, a, 0.2), "wanted: minus the slope"),
        (lambda x, a, tau: sapo(x, a, tau).detach(), "detached"),
        (lambda x, a, tau: sapo(x, a, tau).sum(), "one loss a token"),
        (3, "the function itself"),
    ],
)
def test_gates_that_are_not(capsys, gate, words):
    assert words in said(capsys, exercise_2, gate)


def beside_best(rewards, best):
    virtual = torch.full((len(rewards), 1), best, dtype=rewards.dtype)
    return torch.cat([rewards, virtual], 1)


@pytest.mark.parametrize("eps", [1e-8, 1e-6, 1e-4])
def test_a_virtual_best_is_right(capsys, eps):
    answer = said(capsys, exercise_3, lambda r, best: virtual_best(r, best, eps))
    assert answer.endswith("right")


@pytest.mark.parametrize(
    "credit, words",
    [
        (lambda r, best: z_score(beside_best(r, best)), "leave its column out"),
        (lambda r, best: z_score(r), "GRPO's z-score"),
        (
            lambda r, best: (
                (r - beside_best(r, best).mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-6)
            ),
            "not in the standard deviation",
        ),
        (
            lambda r, best: (
                (r - r.mean(1, keepdim=True)) / (beside_best(r, best).std(1, keepdim=True) + 1e-6)
            ),
            "not in the mean",
        ),
        (
            lambda r, best: (
                (r - beside_best(r, best).mean(1, keepdim=True))
                / (beside_best(r, best).std(1, keepdim=True, correction=0) + 1e-6)
            ),
            "has G below the line",
        ),
        (
            lambda r, best: (
                (r - beside_best(r, best).mean(1, keepdim=True))
                / beside_best(r, best).std(1, keepdim=True)
            ),
            "put a small number beside it",
        ),
        (lambda r, best: virtual_best(r, 1.0), "best is not used"),
        (lambda r, best: r - best, "-0.447"),
        (lambda r, best: r[0], "one number a text"),
        (3, "the function itself"),
    ],
)
def test_credits_that_are_not(capsys, credit, words):
    assert words in said(capsys, exercise_3, credit)
