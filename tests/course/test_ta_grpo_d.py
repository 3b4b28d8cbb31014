"""The checks of *TA-GRPO-d*: right answers say right, likely mistakes are named, and nothing ever
raises."""

from math import comb

import pytest
import torch
from dllm_rl_course.ta_grpo_d import exercise_1, exercise_2, exercise_3
from exercise import said

CREDIT, SAFE = 0.75 * 0.3125, 8**0.5 / 7


@pytest.mark.parametrize(
    "answer, words",
    [
        ((-1.5, CREDIT, SAFE), "right"),
        ([-1.5, 0.234, 0.404], "right"),
        (torch.tensor([-1.5, CREDIT, SAFE]).tolist(), "right"),
        ((1.5, CREDIT, SAFE), "z is negative"),
        ((-(3**0.5), CREDIT, SAFE), "G - 1 = 3"),
        ((-0.75, CREDIT, SAFE), "that is A"),
        ((-1.2, CREDIT, SAFE), "areas 1, 1, 1, 0"),
        ((-1.5, -0.3125, SAFE), "that is the factor"),
        ((-1.5, 0.375, SAFE), "*after* the pass"),
        ((-1.5, -0.75 * (1 - 1.5 / 8), SAFE), "not the share written"),
        ((-1.5, -CREDIT, SAFE), "sign of the product"),
        ((-1.5, 0.3125, SAFE), "mean of all four"),
        ((-1.5, 1.0, SAFE), "A (1 + z m)"),
        ((-1.5, CREDIT, 2 / 3), "a group of four"),
        ((-1.5, CREDIT, 1 / SAFE), "its inverse"),
        ((-1.5, CREDIT, 1 / 7), "not G - 1"),
        ((-1.5, CREDIT, 1.0), "m below 1"),
        ((-1.5, CREDIT), "three numbers"),
        (-1.5, "three numbers"),
    ],
)
def test_lone_failure(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


def equals(area, final, *, unbiased=True, divide=True, everybody=False, only_right=False, sign=1.0):
    """Speed among equals as a loop, with switches for what goes wrong."""
    out = torch.zeros_like(area)
    for b in range(len(area)):
        for g in range(area.shape[1]):
            peers = area[b] if everybody else area[b][final[b] == final[b, g]]
            if (
                len(peers) > 1
                and peers.max() > peers.min()
                and not (only_right and final[b, g] == 0)
            ):
                out[b, g] = (
                    sign
                    * (area[b, g] - peers.mean())
                    / (peers.std(unbiased=unbiased) if divide else 1)
                )
    return out


def by_mask(area, final):
    same = (final[:, :, None] == final[:, None, :]).to(area.dtype)
    n = same.sum(2)
    mean = (same * area[:, None]).sum(2) / n
    spread = ((same * (area[:, None] - mean[..., None]) ** 2).sum(2) / (n - 1).clamp(min=1)).sqrt()
    return (area - mean) / (spread + 1e-9)


@pytest.mark.parametrize("function", [equals, by_mask, lambda a, f: equals(a, f).float()])
def test_speed_among_equals_right(capsys, function):
    assert said(capsys, exercise_3, function).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda a, f: equals(a, f, everybody=True), "among all siblings"),
        (lambda a, f: equals(a, f, divide=False), "divide by"),
        (lambda a, f: equals(a, f, unbiased=False), "count - 1"),
        (lambda a, f: equals(a, f, only_right=True), "among themselves"),
        (lambda a, f: equals(a, f, sign=-1.0), "sign is wrong"),
        (lambda a, f: equals(a, f) / (equals(a, f) != 0), "not numbers"),
        (lambda a, f: equals(a, f) + 1, "must give 1.16"),
        (lambda a, f: equals(a, f) + 1 / (f - f), "infinite"),
        (lambda a, f: equals(a, f)[0], "the shape of area"),
        (1.0, "the function itself"),
    ],
)
def test_speed_among_equals_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_3, function)


def passes(n, c, tau=0.7, kappa=0.5, *, top_up=True):
    """Bottom up; without top-up a pass in which nobody passes is lost."""
    p, out = (max(c - tau, 0) / (1 - tau)) ** kappa, [0.0]
    for m in range(1, n + 1):
        chance = [comb(m, k) * p**k * (1 - p) ** (m - k) for k in range(m + 1)]
        later = sum(chance[k] * out[m - k] for k in range(1, m + 1))
        out.append(1 + later + chance[0] * out[m - 1] if top_up else (1 + later) / (1 - chance[0]))
    return out[n]


def top_down(n, c, tau=0.7, kappa=0.5):
    p = (max(c - tau, 0) / (1 - tau)) ** kappa
    known = {0: 0.0}

    def mean(m):
        if m not in known:
            known[m] = 1 + sum(
                comb(m, k) * p**k * (1 - p) ** (m - k) * mean(m - max(k, 1)) for k in range(m + 1)
            )
        return known[m]

    return mean(n)


@pytest.mark.parametrize("function", [passes, top_down, lambda *a: torch.tensor(passes(*a))])
def test_expected_passes_right(capsys, function):
    assert said(capsys, exercise_2, function).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda n, c, *a: passes(n, c) + (n == 0), "E(0) = 0"),
        (lambda n, c, *a: passes(n, c, top_up=False), "waits until somebody passes"),
        (lambda n, c, *a: passes(n, c) + 0.5 * (n > 0), "one blank takes one pass"),
        (lambda n, c, *a: passes(n, c) if c > 0.7 else 1 / 0, "ZeroDivisionError"),
        (lambda n, c, *a: passes(n, c) if c > 0.7 else 1, "4 blanks at c = 0.6 take 4 passes"),
        (lambda n, c, *a: passes(n, c, 0.7, 1.0), "kappa = 0.5"),
        (
            lambda n, c, *a: 1 + (n - 1) * (1 - ((c - 0.7) / 0.3) ** 0.5) if n and c > 0.7 else n,
            "*both* pass",
        ),
        (lambda n, c, *a: n, "2 blanks at c = 0.9"),
        (lambda n, c, *a: passes(n, c), "not used"),
        (lambda n, c, *a: None if n == 16 else 1, "returns None"),
        (2.0, "the function itself"),
    ],
)
def test_expected_passes_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_2, function)
