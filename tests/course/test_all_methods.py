"""The checks of *All methods, same budget*: right answers, each named mistake, nothing yet,
garbage."""

import pytest
import torch
from dllm_rl_course.all_methods import _price, exercise_1, exercise_2, exercise_3
from exercise import said
from updates import ADVANTAGE, gradient_of, numbers

from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.training import score_views


@pytest.mark.parametrize("mu", [1, 2])
@pytest.mark.parametrize("kl", [0.0, 0.1])
@pytest.mark.parametrize("name", ["diffu-grpo", "gdsd"])
def test_the_price_is_what_the_package_counts(policy, reference, batch, name, kl, mu):
    """Old, reference, first phase and views of a row over all inner updates; views that score none
    of it are free."""
    n, method, spent, views = numbers(name, kl=kl, inner_updates=mu, clip=0.9), METHODS[name], 0, 0
    for i in range(mu):
        g = torch.Generator().manual_seed(i)
        scored = score_views(policy, reference, method, n, batch, ADVANTAGE + 1, g, fresh=i == 0)
        _, stats = gradient_of(policy, name, n, scored)
        views, spent = len(scored.views), spent + scored.passes.asked + stats["forwards"]
        spent += sum(int((~v.scored.any(1)).sum()) for v in scored.views)
    assert spent == 6 * _price(0, views, mu, kl > 0, method.objective.level != "view")


def at_budget(rows, budget):
    known = [
        (r["forwards"], r["eval_accuracy"]) for r in rows if r["eval_accuracy"] not in (None, "")
    ]
    for (x0, y0), (x1, y1) in zip(known, known[1:], strict=False):
        if x0 <= budget <= x1:
            return y0 + (y1 - y0) * (budget - x0) / (x1 - x0)
    raise ValueError(f"no evaluation at {budget}")


def known(rows):
    return [
        (r["forwards"], r["eval_accuracy"]) for r in rows if r["eval_accuracy"] not in (None, "")
    ]


@pytest.mark.parametrize(
    "answer, word",
    [
        (24.84, "right"),
        (24.8, "right"),
        (11.3, "1.96"),
        (43.0, "one run"),
        (20.3, "n - 1"),
        (14.3, "square root"),
        (49.7, "half of it"),
        (7, "divided by sqrt(3)"),
        (None, "todo"),
    ],
)
def test_ex_15_1(capsys, answer, word):
    """An interval over three seeds."""
    assert word in said(capsys, exercise_1, answer)


@pytest.mark.parametrize(
    "price, word",
    [
        (_price, "right"),
        (3, "the function itself"),
        (None, "todo"),
        (lambda *a: None, "todo"),
        (lambda s, v, m, k, x: _price(s, v, m, k, x) - s, "own steps are missing"),
        (lambda s, v, m, k, x: s + m * v, "old and reference"),
        (
            lambda s, v, m, k, x: s + m * v * (2 + k) + x * v * (m - 1 + (k and m == 1)),
            "no pass for it",
        ),
        (
            lambda s, v, m, k, x: s + m * v * (1 + (m > 1)) + x * v * (m - 1 + (k and m == 1)),
            "reference's score",
        ),
        (lambda s, v, m, k, x: s + m * v * (1 + (m > 1) + k), "once more"),
        (lambda s, v, m, k, x: s + m * v * (1 + (m > 1) + k) + x * v * m, "already"),
        (lambda s, v, m, k, x: s + m * v * (1 + (m > 1) + k) + x * v * (m - 1), "single update"),
        (lambda s, v, m, k, x: 7, "= 14"),
        (lambda s: s, "TypeError"),
    ],
)
def test_ex_15_2(capsys, price, word):
    """Forward passes of a batch."""
    assert word in said(capsys, exercise_3, price)


@pytest.mark.parametrize(
    "function, word",
    [
        (at_budget, "right"),
        (3, "the function itself"),
        (None, "todo"),
        (lambda rows, b: None, "todo"),
        (lambda rows, b: sum(r["eval_accuracy"] for r in rows), "leave them out"),
        (lambda rows, b: [y for x, y in known(rows) if x <= b][-1], "last evaluation before"),
        (lambda rows, b: [y for x, y in known(rows) if x >= b][0], "had not got there"),
        (lambda rows, b: known(rows)[-1][1], "end of the run"),
        (
            lambda rows, b: max(
                [y for x, y in known(rows) if x <= b] + [at_budget(rows, min(b, 40))]
            ),
            "best so far",
        ),
        (lambda rows, b: 0.5, "straight line"),
        (lambda rows, b: at_budget(rows, min(b, 40)), "do not guess"),
    ],
)
def test_ex_15_3(capsys, function, word):
    """Accuracy at an equal budget."""
    assert word in said(capsys, exercise_2, function)
