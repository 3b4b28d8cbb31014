"""The checks of *How likely is an answer?*: right answers, named mistakes, and nothing raises."""

import pytest
import torch
from dllm_rl_course import likelihood as checks
from exercise import said

from dllm_rl_lite.estimators import complement_pairs, masked_view, random_masks, random_subset


def chances(m, n, rounding=round):
    found = [0.0] * m
    for k in range(1, m + 1):
        for j in range(n):
            found[(rounding(k + j * m / n) - 1) % m] += 1 / (m * n)
    return found


def antithetic(rollout, generator, total=1, scale=2, allowed=None, fixed=False):
    allowed = rollout.sampled if allowed is None else allowed
    m = allowed.sum(1)
    u = torch.rand(len(m), generator=generator) * (0 if fixed else 1)
    count = (u * m).long() + 1
    views = []
    for c in (count, m + total - count):
        hidden = random_subset(allowed, c, generator)
        views.append(masked_view(rollout, hidden, hidden, (m / (scale * c.clamp(min=1)))[:, None]))
    return views


RIGHT = [
    (checks.exercise_1, (1.5, 0.91, 0.5)),
    (checks.exercise_2, chances),
    (checks.exercise_3, antithetic),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers(capsys, check, answer):
    assert said(capsys, check, answer) == f"{check.__name__.replace('_', ' ')}: right"


@pytest.mark.parametrize(("check", "_"), RIGHT)
def test_todo_and_garbage(capsys, check, _):
    assert "todo" in said(capsys, check, None)
    assert "todo" in said(capsys, check, lambda *a: None) or check is checks.exercise_1
    for answer in (3, "x", (), lambda: 1, lambda *a: 1 / 0, [None] * 3, lambda *a: [1]):
        assert "not yet" in said(capsys, check, answer)


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (checks.exercise_1, (2, 0.91, 0.5), "and halve"),
        (checks.exercise_1, (1, 0.91, 0.5), "that is 2, not 1"),
        (checks.exercise_1, (1.5, 1, 0.5), "below t"),
        (checks.exercise_1, (1.5, 8.21, 0.5), "one token's"),
        (checks.exercise_1, (1.5, 0.91, 1), "with weight 1/2"),
        (checks.exercise_1, (1.5, 0.8, 1), "floor(9 t) / 9"),
        (checks.exercise_2, lambda m, n: [1 / m] * m, "equal chances"),
        (checks.exercise_2, lambda m, n: chances(m, n, lambda v: int(v + 0.5)), "equal chances"),
        (checks.exercise_2, lambda m, n: [1.0] * m, "sum to 1"),
        (checks.exercise_2, lambda m, n: [1.0], "m numbers"),
        (checks.exercise_2, lambda m, n: [1.0] + [0.0] * (m - 1), "count over all k"),
        (checks.exercise_2, chances(9, 2), "the function itself"),
        (checks.exercise_3, lambda r, g: antithetic(r, g, scale=1), "twice the ELBO"),
        (checks.exercise_3, lambda r, g: antithetic(r, g, total=0), "sum to m + 1"),
        (checks.exercise_3, lambda r, g: antithetic(r, g)[:1], "return two views"),
        (
            checks.exercise_3,
            lambda r, g: antithetic(r, g, allowed=torch.ones_like(r.sampled)),
            "a given token is masked",
        ),
        (checks.exercise_3, lambda r, g: antithetic(r, g, fixed=True), "anew for each row"),
        (checks.exercise_3, lambda r, g: complement_pairs(r, g), "sum to m + 1"),
        (checks.exercise_3, lambda r, g: random_masks(r, g, 2), "sum to m + 1"),
        (checks.exercise_3, lambda r, g: antithetic(r, g, scale=3), "is not the ELBO"),
    ],
)
def test_named_mistakes(capsys, check, answer, words):
    assert words in said(capsys, check, answer)
