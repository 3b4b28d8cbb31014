"""The checks of *Policy gradient from nothing*: right answers say right, likely mistakes are
named, and nothing ever raises."""

import pytest
import torch
from dllm_rl_course import policy_gradient as checks
from exercise import said


@pytest.mark.parametrize(
    "answer, words",
    [
        ((0.12, -0.24, 0.12), "right"),
        ([0.12, -0.24, 0.12], "right"),
        ((-0.12, 0.24, -0.12), "flipped"),
        ((0.2, -0.8, 1.2), "advantages"),
        ((0.6, 0.0, 0.2), "baseline is missing"),
        ((0, -0.3, 0.1), "plain mean"),
        ((0.24, 0, 0.18), "three entries"),
        ((1, 2, 3), "sum to zero"),
        ((0.1, -0.2, 0.1), "what is J"),
        ((0.12, -0.24), "three numbers"),
        (0.12, "three numbers"),
    ],
)
def test_slopes_by_hand(capsys, answer, words):
    assert words in said(capsys, checks.exercise_1, answer)


def loo(r, dim=1):
    return r - (r.sum(dim, keepdim=True) - r) / (r.shape[dim] - 1)


def test_loss_right(capsys):
    assert said(capsys, checks.exercise_2, lambda logp, r: -(loo(r) * logp).mean()).endswith(
        "right"
    )
    ratio = said(
        capsys, checks.exercise_2, lambda logp, r: -(loo(r) * (logp - logp.detach()).exp()).mean()
    )
    assert ratio.endswith("right")  # another loss with the same gradient


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda p, r: (loo(r) * p).mean(), "the sign"),
        (lambda p, r: -((r - r.mean(1, keepdim=True)) * p).mean(), "includes the rollout itself"),
        (lambda p, r: -(r * p).mean(), "no baseline"),
        (lambda p, r: -(loo(r) * p).sum(), "sum over rollouts"),
        (lambda p, r: -(loo(r) * p).sum(1).mean(), "B * G"),
        (lambda p, r: -(loo(r) * p).sum(0).mean(), "B * G"),
        (lambda p, r: -(loo(r, 0) * p).mean(), "dimension 1"),
        (lambda p, r: -((r - r.mean(0)) * p).mean(), "dimension 1"),
        (lambda p, r: -((r - r.mean()) * p).mean(), "whole batch"),
        (
            lambda p, r: -((r - r.mean(1, keepdim=True)) / r.std(1, keepdim=True) * p).mean(),
            "spread",
        ),
        (lambda p, r: -((r - loo(r)) * p).mean(), "baseline alone"),
        (lambda p, r: -(loo(r) * p.exp()).mean(), "its gradient is not"),
        (lambda p, r: -(loo(r) * p.detach()).mean(), "no gradient"),
        (lambda p, r: -(loo(r) * p).mean().item(), "return a tensor"),
        (lambda p, r: -(loo(r) * p), "one number"),
        (lambda p, r: -(r.copy_(loo(r)) * p).mean(), "changes the rewards"),
        ("text", "the function itself"),
    ],
)
def test_loss_mistakes(capsys, function, words):
    assert words in said(capsys, checks.exercise_2, function)


def enumerated(alpha, beta, rho, sigma):
    """Both slopes by autograd over the four pairs of candidates."""
    b = torch.tensor(beta, dtype=torch.float64, requires_grad=True)

    def total(chance_of_b):
        J = 0.0
        for a_right in (True, False):
            for b_right in (True, False):
                mine = alpha if a_right else 1 - alpha
                other = chance_of_b if b_right else 1 - chance_of_b  # not scored where b loses
                scored = b if b_right else 1 - b
                if mine > (beta if b_right else 1 - beta):
                    J = J + mine * other * rho * a_right
                else:
                    J = J + mine * scored * sigma * b_right
        return J

    (exact,) = torch.autograd.grad(total(b), b)
    (tokens,) = torch.autograd.grad(total(b.detach()), b, allow_unused=True)
    return exact, 0.0 if tokens is None else tokens


def test_toy_right(capsys):
    assert said(capsys, checks.exercise_3, enumerated).endswith("right")
    assert said(capsys, checks.exercise_3, checks.toy_slopes).endswith("right")


def test_the_toy_has_a_case_that_points_downhill():
    exact, tokens = checks.toy_slopes(0.6, 0.8, 1.0, 0.1)
    assert exact < 0 < tokens


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda *c: checks.toy_slopes(*c)[::-1], "swapped"),
        (lambda *c: (checks.toy_slopes(*c)[0],) * 2, "hold fixed"),
        (lambda *c: (checks.toy_slopes(*c)[1],) * 2, "also decides"),
        (lambda a, b, r, s: (s / 2, s / 2), "random order"),
        (lambda *c: [-v for v in checks.toy_slopes(*c)], "the sign"),
        (lambda *c: [v * c[1] for v in checks.toy_slopes(*c)], "multiply by beta"),
        (lambda *c: (checks.toy_slopes(*c)[0], 0.0), "not zero"),
        (lambda *c: (checks.toy_slopes(*c)[0], 0.3), "the exact slope is right"),
        (lambda *c: (0.3, checks.toy_slopes(*c)[1]), "tokens alone is right"),
        (lambda *c: (0.3, 0.2), "four pairs"),
        (lambda *c: checks.toy_slopes(*c)[:1], "two numbers"),
        ("text", "the function itself"),
    ],
)
def test_toy_mistakes(capsys, function, words):
    assert words in said(capsys, checks.exercise_3, function)
