"""The checks of *Every prediction rewarded*: right answers say right, likely mistakes are named,
and nothing ever raises."""

import pytest
import torch
from dllm_rl_course.every_prediction import exercise_1, exercise_2, exercise_3
from exercise import said

from dllm_rl_lite.advantages import step_credit


def test_the_signs_asked_for_are_the_packages():
    credit = step_credit(torch.tensor([[[1.0, 1, 1], [0, 0, 1]]]))
    assert credit[0, 1].sign().tolist() == [-1, 0, 1]


@pytest.mark.parametrize(
    "answer, words",
    [
        ((-1, 0, 1), "right"),
        ([-1.0, 0.0, 1.0], "right"),
        ((1, 0, -1), "the first completion's"),
        ((-1, -1, 0), "compares the rewards"),
        ((0, 0, 1), "step 0"),
        ((-1, 1, 1), "step 1"),
        ((-1, 0, 0), "step 2"),
        ((-0.71, 0, 0.71), "the signs alone"),
        ((-1, 0), "three numbers"),
        (-1, "three numbers"),
    ],
)
def test_signs(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


def gains(
    r, *, before=0.0, own=False, outlook=lambda later, r: later.mean(), at_end=True, gain=1.0
):
    """MDPO's a_s written as a loop, with switches for what goes wrong."""
    out = []
    for t in range(len(r)):
        later = r[t if own else t + 1 :]
        value = gain * (r[t] - (r[t - 1] if t else (r[0] if before is None else before)))
        out.append(value + (outlook(later, r) if len(later) else (r[t] if at_end else 0.0)))
    return torch.stack([torch.as_tensor(x, dtype=torch.float64) for x in out])


def with_cumsum(r):
    t = torch.arange(len(r))
    later = (r.sum() - r.cumsum(0)) / (len(r) - 1 - t).clamp(min=1)
    return torch.diff(r, prepend=r.new_zeros(1)) + torch.where(t < len(r) - 1, later, r)


@pytest.mark.parametrize("function", [gains, with_cumsum, lambda r: with_cumsum(r).tolist()])
def test_step_gain_right(capsys, function):
    assert said(capsys, exercise_2, function).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda r: gains(r) + 1, "takes it out"),
        (lambda r: gains(r) + (torch.arange(len(r)) > 0), "takes it out"),
        (lambda r: gains(r, own=True), "step itself is in it"),
        (lambda r: gains(r, outlook=lambda later, r: later.sum()), "not their sum"),
        (lambda r: gains(r, outlook=lambda later, r: later.sum() / len(r)), "not by T"),
        (lambda r: gains(r, outlook=lambda later, r: 0.0, at_end=False), "the gain alone"),
        (lambda r: gains(r, gain=0.0), "the outlook alone"),
        (lambda r: gains(r, before=None), "there is no prediction"),
        (lambda r: gains(r, at_end=False), "its outlook is its own reward"),
        (lambda r: gains(r, gain=-1.0), "wrong sign"),
        (lambda r: r * 0 + 0.3, "must give 1, 2, 1"),
        (lambda r: r.sum(), "one number a step"),
        (lambda r: None if len(r) == 1 else gains(r), "returns None"),
        (1.0, "the function itself"),
    ],
)
def test_step_gain_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_2, function)


def by_autograd(p, weighted=True):
    """The mean over every token that can be drawn, its weight held fixed."""
    logits = p.log().requires_grad_()
    logp = logits.log_softmax(0)
    weight = p if weighted else 1.0
    (slope,) = torch.autograd.grad((p * weight * logp).sum(), logits)
    return slope


@pytest.mark.parametrize(
    "function, words",
    [
        (by_autograd, "right"),
        (lambda p: p * (p - (p * p).sum()), "right"),
        (lambda p: by_autograd(p, weighted=False), "a constant credit cancels"),
        (lambda p: p, "with respect to the logits"),
        (lambda p: p * (1 - p), "the terms with u != v"),
        (lambda p: p**2 * (1 - p), "drawing v lowers"),
        (lambda p: p**2, "subtract p_u"),
        (lambda p: 2 * by_autograd(p), "half of it"),
        (lambda p: -by_autograd(p), "wrong way round"),
        (lambda p: p + 1, "must give (0.084"),
        (lambda p: p.sum(), "one number a logit"),
        (lambda p: None if len(p) == 1 else by_autograd(p), "returns None"),
        (1.0, "the function itself"),
    ],
)
def test_constant_credit(capsys, function, words):
    assert words in said(capsys, exercise_3, function)
