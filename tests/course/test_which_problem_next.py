"""The checks of *Which problem next?*: right answers, each named mistake; and its picture."""

import pytest
import torch
from dllm_rl_course.which_problem_next import (
    KINDS,
    draw_passes,
    exercise_1,
    exercise_2,
    exercise_3,
    past_credit,
)
from exercise import said

from dllm_rl_lite import advantages


def test_one_bar_for_each_problem():
    kinds = list(KINDS)
    figure = draw_passes({"one": ([3.0, 5.0], kinds[:2]), "two": ([1.0], kinds[2:3])})
    heights = [[bar.get_height() for bar in ax.patches] for ax in figure.axes]
    assert heights == [[3.0, 5.0], [1.0]]


@pytest.mark.parametrize(
    "answer, words",
    [
        ((1.76, 12.9, 2), "right"),
        ([1.756, 12.94, 2.0], "right"),
        ((0.57, 0.077, 0.5), "the chance to be kept"),
        ((1.25, 12.9, 2), "0.9^8"),
        ((1.76, 12.5, 2), "0.99^8"),
        ((1.76, 12.9, 4 / 3), "all right are left out"),
        ((1.76, 12.9, 1), "2 p (1 - p)"),
        ((1.76, 12.9), "three numbers"),
    ],
)
def test_groups_drawn_for_one_kept(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


def mask(rewards, indices):
    return torch.zeros(len(rewards), dtype=torch.bool).index_fill(0, indices, True)


def test_the_packages_rows_are_the_widest(capsys):
    assert said(capsys, exercise_2, lambda r, n: advantages.widest(r[None], n)[0]).endswith("right")


@pytest.mark.parametrize(
    "rule, words",
    [
        (lambda r, n: mask(r, r.topk(n).indices), "highest alone"),
        (lambda r, n: mask(r, (r - r.mean()).abs().topk(n).indices), "far from the mean"),
        (
            lambda r, n: mask(r, torch.cat([r.argsort()[: n - n // 2], r.topk(n // 2).indices])),
            "how many of each",
        ),
        (lambda r, n: mask(r, r.argsort()[:n]), "wanted: for each k"),
        (lambda r, n: mask(r, r.argsort()[: n - 1]), "exactly n"),
        (lambda r, n: r.topk(n).indices, "(G,) bool"),
        (3, "the function itself"),
    ],
)
def test_rows_that_are_not(capsys, rule, words):
    assert words in said(capsys, exercise_2, rule)


@pytest.mark.parametrize(
    "mistake, words",
    [
        ({}, "right"),
        ({"looks_after": True}, "look first"),
        ({"one_memory": True}, "memory of its own"),
        ({"forgets": False}, "multiply both by decay"),
        ({"start": 0.0}, "half of them right"),
        ({"start": 0.9}, "wanted: reward"),
    ],
)
def test_a_baseline_from_the_past(capsys, mistake, words):
    assert words in said(capsys, exercise_3, lambda *a: past_credit(*a, **mistake))
