"""The checks of *GDPO*: right answers say right, likely mistakes are named, and nothing ever
raises."""

import math

import pytest
import torch
from dllm_rl_course.gdpo import exercise_1, exercise_2, exercise_3
from exercise import said

from dllm_rl_lite.estimators import NODES, masked_view, quadrature, random_subset

E02, E08 = math.exp(0.02), math.exp(0.8)


@pytest.mark.parametrize(
    "answer, words",
    [
        ((E02, E02, E08, 21), "right"),
        ([1.02, 1.02, 2.226, 21], "right"),
        ((0.02, E02, E08, 21), "log-ratios"),
        ((E02, E02, 0.8, 21), "log-ratios"),
        ((1.2, E02, E08, 21), "exp(0.02)"),
        ((E02, E08, E02, 21), "swapped"),
        ((E02, math.exp(0.0005), E08, 21), "0.02 again"),
        ((E02, 1.1, E08, 21), "mean change"),
        ((E02, E02, E08 / 40, 21), "has none"),
        ((E02, E02, 3.0, 21), "whole text"),
        ((E02, E02, E08, 20.27), "whole:"),
        ((E02, E02, E08, 26), "not exp(0.5)"),
        ((E02, E02, E08, 20), "1.49"),
        ((E02, E02, E08, 40), "smallest m"),
        ((E02, E02, E08), "four numbers"),
        (1.02, "four numbers"),
    ],
)
def test_two_normalisations(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


def slope(change, advantage, m, clip, per_token):
    x = change / m if per_token == "inside" else change
    flat = (x.exp() - 1) * advantage.sign() > clip
    return torch.where(flat, 0.0, -advantage * x.exp() / m)


def by_autograd(change, advantage, m, clip, per_token):
    leaf = change.clone().requires_grad_()
    ratio = (leaf / m if per_token == "inside" else leaf).exp()
    loss = -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return torch.autograd.grad((loss if per_token == "inside" else loss / m).sum(), leaf)[0]


@pytest.mark.parametrize("function", [slope, by_autograd], ids=["formula", "autograd"])
def test_slope_right(capsys, function):
    assert said(capsys, exercise_2, function).endswith("right")


def x_of(d, m, p):
    return d / m if p == "inside" else d


@pytest.mark.parametrize(
    "function, words",
    [
        (
            lambda d, a, m, c, p: slope(d, a, m, c, "outside" if p == "inside" else "inside"),
            "swapped",
        ),
        (lambda d, a, m, c, p: -slope(d, a, m, c, p), "the sign"),
        (lambda d, a, m, c, p: -a * x_of(d, m, p).exp() / m, "clip is missing"),
        (
            lambda d, a, m, c, p: slope(d, a, m, c, p) * ((x_of(d, m, p).exp() - 1).abs() <= c),
            "wanted side",
        ),
        (
            lambda d, a, m, c, p: -a * x_of(d, m, p).exp() / m - slope(d, a, m, c, p),
            "the other one",
        ),
        (lambda d, a, m, c, p: slope(d, a, m, c, p) / x_of(d, m, p).exp(), "ratio is missing"),
        (lambda d, a, m, c, p: slope(d, a, m, c, p) * (m if p == "inside" else 1), "factor 1 / m"),
        (
            lambda d, a, m, c, p: slope(d, a, m, c, p) / (m if p == "inside" else 1),
            "not divided by m again",
        ),
        (
            lambda d, a, m, c, p: slope(d, a, m, c, p) * (m if p == "outside" else 1),
            "loss itself is divided",
        ),
        (lambda d, a, m, c, p: slope(d, a, m, c, p) * m, "inside and outside"),
        (
            lambda d, a, m, c, p: (
                slope(d, a, m, c, p)
                if p == "inside"
                else -a * d.exp() / m * ((d / m).exp().sub(1) * a.sign() <= c)
            ),
            "not exp(d / m)",
        ),
        (lambda d, a, m, c, p: slope(d, a, m, c, p) if p == "inside" else 0 * d, "inside is right"),
        (lambda d, a, m, c, p: None if p == "outside" else slope(d, a, m, c, p), "returns None"),
        (lambda d, a, m, c, p: slope(d, a, m, c, p).sum(), "one number a text"),
        (lambda d, a, m, c, p: d * a, "differentiate"),
        (0.3, "the function itself"),
    ],
)
def test_slope_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_2, function)


def views(rollout, generator, count=None, weight=None, allowed=None):
    allowed = rollout.sampled & rollout.until_eos if allowed is None else allowed(rollout)
    m, found = allowed.sum(1), []
    for t, w in NODES[3]:
        u = torch.rand(len(m), generator=generator)
        c = (t * m + u).long() if count is None else count(t * m, u)
        hidden = random_subset(allowed, c, generator)
        found.append(
            masked_view(rollout, hidden, hidden, w / t if weight is None else weight(w, t, c, m))
        )
    return found


def test_full_weight_right(capsys):
    assert said(capsys, exercise_3, views).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda r, g: quadrature(r, g), "round up at random"),
        (lambda r, g: views(r, g, lambda x, u: x.round().long()), "round up at random"),
        (lambda r, g: views(r, g, lambda x, u: (x + u).long().clamp(min=1)), "at least 1"),
        (lambda r, g: views(r, g, lambda x, u: (x + (u < 0.5)).long()), "the fraction of t m"),
        (
            lambda r, g: views(r, g, lambda x, u: (x + 2 * u - 0.5).long().clamp(min=0)),
            "down or up",
        ),
        (lambda r, g: views(r, g, lambda x, u: (x + 0.9 * u).long()), "not quite t m"),
        (
            lambda r, g: views(r, g, None, lambda w, t, c, m: (w * m / c.clamp(min=1))[:, None]),
            "real shares",
        ),
        (lambda r, g: views(r, g, None, lambda w, t, c, m: w), "w / t of its node"),
        (lambda r, g: views(r, g, allowed=lambda r: r.sampled), "until_eos"),
        (lambda r, g: views(r, g, allowed=lambda r: r.until_eos), "use rollout.sampled"),
        (lambda r, g: views(r, g)[:2], "three views"),
        (3, "the function itself"),
        (
            lambda r, g: [masked_view(r, v.scored, r.sampled, 1.0) for v in views(r, g)],
            "score exactly",
        ),
    ],
)
def test_full_weight_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_3, function)
