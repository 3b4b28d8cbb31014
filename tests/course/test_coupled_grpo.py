"""The checks of *Coupled masks*: right answers say right, likely mistakes are named, and
nothing ever raises."""

from dataclasses import replace

import pytest
import torch
from dllm_rl_course.coupled_grpo import exercise_1, exercise_2, exercise_3
from exercise import said

from dllm_rl_lite.estimators import complement_pairs, coupled, masked_view, one_step, random_masks
from dllm_rl_lite.objectives import clipped_ratio


@pytest.mark.parametrize(
    "answer, words",
    [
        ((3, 1.125, 0.16), "right"),
        ([3.0, 9 / 8, 0.16], "right"),
        ((1.125, 3, 0.16), "swapped"),
        ((2.5, 0.625, 0.16), "fully masked copy"),
        ((5.5, 1.75, 0.16), "before both"),
        ((6, 2.25, 0.16), "half of the sum"),
        ((1.5, 1.5, 0.16), "mean over masks"),
        ((4, 1.125, 0.16), "1/t"),
        ((3, 1, 0.16), "1/(1 - t)"),
        ((3, 1.125, 0), "drawn anew"),
        ((3, 1.125, 0.64), "another rate"),
        ((3, 1.125, 0.32), "half of it"),
        ((3, 1.125, 0.68), "exactly once"),
        ((3, 1.125, 0.5), "multiply"),
        ((3, 1.125), "three numbers"),
        (3, "three numbers"),
        ((3, 1.125, float("nan")), "multiply"),
    ],
)
def test_weights(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


def by_autograd(phi, old, advantage, clip):
    leaf = phi.requires_grad_()
    return torch.autograd.grad(clipped_ratio(leaf - old, advantage, clip).sum(), leaf)[0]


def by_hand(phi, old, advantage, clip):
    ratio = (phi - old).exp()
    flat = torch.where(advantage > 0, ratio > 1 + clip, ratio < 1 - clip)
    return -ratio * advantage * ~flat


def ratio_of(p, o):
    return (p - o).exp()


@pytest.mark.parametrize("function", [by_autograd, by_hand])
def test_slope_right(capsys, function):
    assert said(capsys, exercise_2, function).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda p, o, a, c: clipped_ratio(p - o, a, c), "that is the loss"),
        (lambda p, o, a, c: -by_hand(p, o, a, c), "the sign"),
        (lambda p, o, a, c: -a * ratio_of(p, o), "nothing is clipped"),
        (lambda p, o, a, c: -a.expand_as(p), "REINFORCE"),
        (
            lambda p, o, a, c: -a * ratio_of(p, o) * ((ratio_of(p, o) - 1).abs() <= c),
            "both sides are cut",
        ),
        (lambda p, o, a, c: by_hand(p, o, a, c) / ratio_of(p, o), "the ratio itself"),
        (lambda p, o, a, c: -a * ratio_of(p, o).clamp(1 - c, 1 + c), "not the bound"),
        (lambda p, o, a, c: p, "compare with autograd"),
        (lambda p, o, a, c: a, "the shape of phi"),
        (0.5, "the function itself"),
        (lambda p, o, a, c: None if c == 0.2 else p, "returns None"),
    ],
)
def test_slope_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_2, function)


def halves(rollout, generator, share=0.5, t=0.5):
    """The right answer: `share` from the full copy, the rest from the copy that masks the token."""
    free = rollout.sampled
    first = torch.rand(free.shape, generator=generator) < t
    scored = free & rollout.until_eos
    return [
        masked_view(rollout, free, scored, share),
        masked_view(rollout, free & first, scored & first, 1 - share),
        masked_view(rollout, free & ~first, scored & ~first, 1 - share),
    ]


@pytest.mark.parametrize(
    "function", [halves, lambda r, g: halves(r, g, 0.2), lambda r, g: halves(r, g, 0.5, 0.3)]
)
def test_calibrated_right(capsys, function):
    assert said(capsys, exercise_3, function).endswith("right")


def only_one_mask(rollout, generator):
    views = halves(rollout, generator)
    return [views[0], views[1], views[1]]


def scores_what_it_shows(rollout, generator):
    views = halves(rollout, generator)
    return [views[0], views[1], replace(views[2], scored=views[0].scored)]


@pytest.mark.parametrize(
    "function, words",
    [
        (coupled, "published weights"),
        (lambda r, g: halves(r, g, 0.0), "above 0"),
        (lambda r, g: [*halves(r, g)[:1], *complement_pairs(r, g)], "after the end"),
        (lambda r, g: complement_pairs(r, g), "three views"),
        (lambda r, g: one_step(r, g), "three views"),
        (lambda r, g: random_masks(r, g, n=3), "the first view masks every"),
        (only_one_mask, "must be complements"),
        (scores_what_it_shows, "that it shows"),
        (lambda r, g: halves(r, torch.Generator().manual_seed(0)), "drawn anew"),
        (lambda r, g: [replace(v, weight=2 * v.weight) for v in halves(r, g)], "sum to 2"),
        (lambda r, g: [replace(v, weight=1.5 * v.weight) for v in halves(r, g)], "must sum to 1"),
        (lambda r, g: [replace(v, weight=0.3 * v.weight) for v in halves(r, g)], "must sum to 1"),
        (lambda r, g: tuple(halves(r, g)), "a list of views"),
        (3, "the function itself"),
        (
            lambda r, g: [
                replace(v, scored=v.scored & (torch.arange(7) > 0)) for v in halves(r, g)
            ],
            "is not scored",
        ),
        (lambda r, g: halves(replace(r, unmask_step=r.unmask_step.abs()), g), "a given token"),
    ],
)
def test_calibrated_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_3, function)
