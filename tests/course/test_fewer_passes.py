"""The checks of *Fewer passes, the same distribution*: right answers say right, likely mistakes are
named."""

import pytest
import torch
from dllm_rl_course.fewer_passes import exercise_1, exercise_2, exercise_3
from exercise import said


@pytest.mark.parametrize(
    "answer, words",
    [
        ((0.5, 0.7, 1.0), "right"),
        ([0.5, 0.7, 1], "right"),
        ((1, 0.7, 1), "cannot always stay"),
        ((0.3, 0.7, 1), "given that the draft is B"),
        ((0.6, 0.7, 1), "min(1, p(B) / p~(B))"),
        ((0.5, 0.5, 1), "drafts A and C come too"),
        ((0.5, 5 / 6, 1), "not equally likely"),
        ((0.5, 0.3, 1), "probability of a rejection"),
        ((0.5, 0.6, 1), "the smaller of its two"),
        ((0.5, 0.7, 0.3), "normalised"),
        ((0.5, 0.7, 0.6), "which letters"),
        ((50, 0.7, 1), "0.25, not 25"),
        ((0.5, 0.7), "three numbers"),
    ],
)
def test_by_hand(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda a, k: sum(a**i for i in range(k)), "right"),
        (lambda a, k: k if a == 1 else (1 - a**k) / (1 - a), "right"),
        (lambda a, k: (1 - a**k) / (1 - a), "divides by zero"),
        (lambda a, k: sum(a**i for i in range(1, k)), "at least one"),
        (lambda a, k: 1 + (k - 1) * a, "all drafts before it"),
        (lambda a, k: sum(a**i for i in range(k + 1)), "k - 1 drafts"),
        (lambda a, k: a**k, "sum over i"),
        (3.36, "the function itself"),
    ],
)
def test_tokens_per_call(capsys, answer, words):
    assert words in said(capsys, exercise_2, answer)


def race(p, q, pick=torch.maximum, least=0.0):
    ratio = pick(p[:, None] / p, q[:, None] / q)
    return float((1 / (ratio.sum(0) - least)).sum())


@pytest.mark.parametrize(
    "answer, words",
    [
        (race, "right"),
        (lambda p, q: torch.minimum(p, q).sum(), "shared noise does less"),
        (lambda p, q: (p * q).sum(), "noise of their own"),
        (lambda p, q: race(p, q, least=1.0), "its own term is 1"),
        (lambda p, q: race(p, q, torch.minimum), "the larger of"),
        (0.7, "the function itself"),
    ],
)
def test_shared_noise(capsys, answer, words):
    assert words in said(capsys, exercise_3, answer)


def test_the_formula_of_shared_noise_is_what_draws_do():
    g = torch.Generator().manual_seed(0)
    p = torch.tensor([0.6, 0.3, 0.1])
    q = torch.tensor([0.2, 0.3, 0.5])
    n = 40_000
    noise = torch.empty(n, 3).exponential_(generator=g)
    found = float(((noise / p).argmin(1) == (noise / q).argmin(1)).float().mean())
    wanted = race(p, q)
    assert abs(found - wanted) < 4 * (wanted * (1 - wanted) / n) ** 0.5
    assert wanted < float(torch.minimum(p, q).sum())
