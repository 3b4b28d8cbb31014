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
        ((0.25, 0.6, 0.1), "those are the probabilities"),
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


def spread(p, last):
    return (torch.arange(p.shape[1]) < last[:, None]) / last[:, None].double()


@pytest.mark.parametrize(
    "function",
    [
        lambda p, last, share: (1 - share) * p + share * spread(p, last),
        lambda p, last, share: torch.lerp(p, spread(p, last), share),
    ],
)
def test_defended_right(capsys, function):
    assert said(capsys, exercise_2, function).endswith("right")


def lifted(p, last, share):
    return torch.maximum(p, share * spread(p, last))


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda p, last, s: s * p + (1 - s) * spread(p, last), "the other way"),
        (lambda p, last, s: (1 - s) * p + s / p.shape[1], "must keep probability 0"),
        (lambda p, last, s: p + s * spread(p, last), "sum to 1 + share"),
        (lifted, "mix instead"),
        (
            lambda p, last, s: lifted(p, last, s) / lifted(p, last, s).sum(1, keepdim=True),
            "below share / T_i",
        ),
        (lambda p, last, s: p, "not used"),
        (lambda p, last, s: spread(p, last), "must have probability"),
        (lambda p, last, s: p[:, 0], "the same shape"),
        (lambda p, last, s: p / 0, "not numbers"),
        (lambda p, last, s: None if s == 1 else p, "returns None"),
        (0.1, "the function itself"),
    ],
)
def test_defended_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_2, function)


def summed(paths, advantages, keep=lambda value: abs(value) >= 1e-9, key=lambda pair: pair):
    """The sum of the advantages of each pair, with switches for what goes wrong."""
    found = {}
    for path, advantage in zip(paths, advantages, strict=True):
        for pair in path:
            found[key(pair)] = found.get(key(pair), 0.0) + advantage
    return {pair: value for pair, value in found.items() if keep(value)}


def averaged(paths, advantages):
    times = summed(paths, [1] * len(paths))
    return {pair: value / times[pair] for pair, value in summed(paths, advantages).items()}


@pytest.mark.parametrize(
    "function, words",
    [
        (summed, "right"),
        (lambda p, a: summed(p, a, keep=lambda value: True), "they cost a pass"),
        (lambda p, a: summed(p, a, keep=lambda value: value != 0), "below 1e-9"),
        (lambda p, a: summed(p, a, key=lambda pair: pair[1]), "the key is the pair"),
        (lambda p, a: summed(p, a, key=lambda pair: pair[0]), "the key is the pair"),
        (averaged, "equal gradients add up"),
        (lambda p, a: {}, "give {('..', 'a'): 0.25}"),
        (lambda p, a: list(summed(p, a)), "a dictionary"),
        (lambda p, a: summed(p, a) if len(p) > 2 else None, "returns None"),
        ({}, "pass the function"),
    ],
)
def test_summed_advantages(capsys, function, words):
    assert words in said(capsys, exercise_3, function)
