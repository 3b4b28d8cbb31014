"""The checks of *Masked diffusion in one page*: right answers say right, likely mistakes are
named, and nothing ever raises."""

import itertools
import math

import pytest
import torch
from dllm_rl_course import masked_diffusion as checks
from exercise import said

FLOOR = 0.5 * (-0.8 * math.log(0.8) - 0.2 * math.log(0.2)) / 10


@pytest.mark.parametrize(
    "answer, words",
    [
        (FLOOR, "right"),
        (torch.tensor(FLOOR), "right"),
        (round(FLOOR, 4), "right"),
        (FLOOR / math.log(2), "bits"),
        (10 * FLOOR, "divide by L"),
        (20 * FLOOR, "only half"),
        (2 * FLOOR, "only half"),
        (0, "not even a perfect model"),
        (-0.05 * math.log(0.8), "-log(0.8)"),
        (0.1, "entropy of one minus"),
    ],
)
def test_the_lowest_loss(capsys, answer, words):
    assert words in said(capsys, checks.exercise_1, answer)


def draw(n, length, generator):
    m = torch.randint(1, length + 1, (n, 1), generator=generator)
    rank = torch.rand(n, length, generator=generator).argsort(1).argsort(1)
    return rank < m, length / m[:, 0]


def weighted(factor):
    def wrong(n, length, generator):
        masked, _ = draw(n, length, generator)
        return masked, factor(masked.sum(1), length)

    return wrong


def by_time(n, length, generator):
    t = torch.rand(n, 1, generator=generator)
    return torch.rand(n, length, generator=generator) < t, 1 / t[:, 0]


def from_the_left(n, length, generator):
    m = torch.randint(1, length + 1, (n, 1), generator=generator)
    return torch.arange(length) < m, length / m[:, 0]


def all_rows_alike(n, length, generator):
    m = torch.randint(1, length + 1, (n, 1), generator=generator)
    return torch.randperm(length, generator=generator) < m, length / m[:, 0]


def never_all(n, length, generator):
    m = torch.randint(1, length, (n, 1), generator=generator)
    return torch.rand(n, length, generator=generator).argsort(1).argsort(1) < m, length / m[:, 0]


def one_argsort(n, length, generator):
    """Fine: a random permutation and its inverse have the same law."""
    m = torch.randint(1, length + 1, (n, 1), generator=generator)
    return torch.rand(n, length, generator=generator).argsort(1) < m, length / m


@pytest.mark.parametrize(
    "answer, words",
    [
        (draw, "right"),
        (one_argsort, "right"),
        (lambda *a: tuple(v.tolist() for v in draw(*a)), "right"),
        (by_time, "without a blank"),
        (from_the_left, "each set of m positions"),
        (all_rows_alike, "each set of m positions"),
        (never_all, "uniform over 1..L"),
        (weighted(lambda m, length: torch.ones(len(m))), "a weight of 1"),
        (weighted(lambda m, length: 1 / m), "nats a token"),
        (weighted(lambda m, length: m / length), "add up to L"),
        (weighted(lambda m, length: 1 / torch.rand(len(m))), "no t"),
        (lambda *a: draw(*a)[0], "return a pair"),
        (lambda *a: (draw(*a)[0].float(), draw(*a)[1]), "return a pair"),
        (lambda *a: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_masks_by_count(capsys, answer, words):
    assert words in said(capsys, checks.exercise_2, answer)


def log_paths(table):
    length = table.shape[1]
    return torch.stack(
        [
            sum(table[sum(1 << j for j in order[:k]), i] for k, i in enumerate(order))
            for order in itertools.permutations(range(length))
        ]
    )


def by_sets(table):
    length = table.shape[1]
    reach = torch.full((2**length,), -math.inf, dtype=table.dtype)
    reach[0] = 0.0
    for b in range(2**length):
        blanks = [i for i in range(length) if not b >> i & 1]
        for i in blanks:
            step = reach[b] - math.log(len(blanks)) + table[b, i]
            reach[b | 1 << i] = torch.logaddexp(reach[b | 1 << i], step)
    return reach[-1]


def no_shares(table):
    return by_sets(table) + math.log(math.factorial(table.shape[1]))


@pytest.mark.parametrize(
    "answer, words",
    [
        (by_sets, "right"),
        (lambda t: log_paths(t).exp().mean().log().item(), "right"),
        (lambda t: log_paths(t).mean(), "average of the logarithms"),
        (lambda t: -log_paths(t).mean(), "average loss"),
        (no_shares, "sum over orders"),
        (lambda t: log_paths(t)[0], "one order"),
        (lambda t: -by_sets(t), "the sign"),
        (lambda t: by_sets(t).exp(), "return its logarithm"),
        (lambda t: t.sum(), "not a number"),
        (lambda t: log_paths(t).max(), "1 / (L - k)"),
        (lambda t: t[99], "IndexError"),
    ],
)
def test_random_order_logprob(capsys, answer, words):
    assert words in said(capsys, checks.exercise_3, answer)
