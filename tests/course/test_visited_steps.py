"""The checks of *Visited steps*: right answers say right, likely mistakes are named, and
nothing ever raises."""

import pytest
import torch
from dllm_rl_course.visited_steps import exercise_1, exercise_2, exercise_3
from exercise import said


@pytest.mark.parametrize(
    "answer, words",
    [
        ((2, 5 / 6, 5), "right"),
        ([2.0, 0.833, 5.0], "right"),
        (torch.tensor([2, 5 / 6, 5]).tolist(), "right"),
        ((0.25, 0.6, 0.1), "those are the chances"),
        ((4, 1 / 0.6, 10), "right for one draw"),
        ((1, 1 / 2.4, 2.5), "weight of the release"),
        ((0.5, 1 / 4.8, 1.25), "divided by T"),
        ((8, 2 / 0.6, 20), "below the line"),
        ((2, 5, 5 / 6), "swapped"),
        ((1, 5 / 6, 5), "each of 4 steps"),
        ((2, 1, 5), "share of the entropy is 0.6"),
        ((2, 5 / 6, 4), "share of the entropy is 0.1"),
        ((2, 5 / 6), "three numbers"),
        (2.0, "three numbers"),
    ],
)
def test_weights(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


def gains(
    r, *, before=0.0, own=False, outlook=lambda later, r: later.mean(), at_end=True, gain=1.0
):
    """MDPO's a_t written as a loop, with switches for what goes wrong."""
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


def spread(law, last):
    return (torch.arange(law.shape[1]) < last[:, None]) / last[:, None].double()


@pytest.mark.parametrize(
    "function",
    [
        lambda law, last, share: (1 - share) * law + share * spread(law, last),
        lambda law, last, share: torch.lerp(law, spread(law, last), share),
    ],
)
def test_defended_right(capsys, function):
    assert said(capsys, exercise_3, function).endswith("right")


def lifted(law, last, share):
    return torch.maximum(law, share * spread(law, last))


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda law, last, s: s * law + (1 - s) * spread(law, last), "the other way"),
        (lambda law, last, s: (1 - s) * law + s / law.shape[1], "must keep chance 0"),
        (lambda law, last, s: law + s * spread(law, last), "sum to 1 + share"),
        (lifted, "mix instead"),
        (
            lambda law, last, s: lifted(law, last, s) / lifted(law, last, s).sum(1, keepdim=True),
            "below share / T_i",
        ),
        (lambda law, last, s: law, "not used"),
        (lambda law, last, s: spread(law, last), "must have chance"),
        (lambda law, last, s: law[:, 0], "the same shape"),
        (lambda law, last, s: law / 0, "not numbers"),
        (lambda law, last, s: None if s == 1 else law, "returns None"),
        (0.1, "the function itself"),
    ],
)
def test_defended_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_3, function)
