"""The checks of *Every path, counted*: right answers say right, likely mistakes are named, and
nothing ever raises."""

import itertools
import math

import pytest
import torch
from dllm_rl_course.every_path import exercise_1, exercise_2, exercise_3
from exercise import said

from dllm_rl_lite.estimators import exact_elbo, exact_logprob
from dllm_rl_lite.sampler import Schedule


@pytest.mark.parametrize(
    "answer, words",
    [
        ((720, 63, 0.29), "right"),
        ([720, 63, 0.29], "right"),
        ((63, 720, 0.29), "swapped"),
        ((36, 63, 0.29), "six choices"),
        ((720, 64, 0.29), "nothing to ask"),
        ((720, 12, 0.29), "written or blank"),
        ((720, 63, 0.58), "probability 1/2"),
        ((720, 63, 0.1), "asked again"),
        ((720, 63, 0.4), "one order only"),
        ((720, 63, 0.18), "one order only"),
        ((720, 63, 0.72), "different orders"),
        ((720, 63, 29), "0.25, not 25"),
        ((720, 63, 0.5), "the mean of the two"),
        ((720, 63), "three numbers"),
        (720, "three numbers"),
    ],
)
def test_counts(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


def by_subsets(logq, weight=lambda m, u: 1 / (m * math.comb(m + u, u)), blank=0):
    n = logq.shape[1]
    return sum(
        weight(n - U.bit_count(), U.bit_count()) * logq[U, i]
        for U in range(2**n - 1)
        for i in range(n)
        if U >> i & 1 == blank
    )


def few_steps(logq, steps, sets=math.comb, first=True, log=math.log):
    n = logq.shape[1]
    p = {0: 1.0}
    for s in range(steps):
        k = n // steps + ((s if first else steps - 1 - s) < n % steps)
        after = {}
        for U, before in p.items():
            blanks = [i for i in range(n) if not U >> i & 1]
            for R in itertools.combinations(blanks, k):
                V = U | sum(1 << i for i in R)
                after[V] = after.get(V, 0) + before * math.exp(sum(logq[U, i] for i in R)) / sets(
                    len(blanks), k
                )
        p = after
    return log(p[2**n - 1])


def test_elbo_right(capsys):
    assert said(capsys, exercise_2, by_subsets).endswith("right")

    def over_orders(logq):
        n, total = logq.shape[1], 0.0
        orders = list(itertools.permutations(range(n)))
        for order in orders:
            U = 0
            for i in order:
                total, U = total + float(logq[U, i]), U | 1 << i
        return total / len(orders)

    assert said(capsys, exercise_2, over_orders).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda q: few_steps(q, q.shape[1]), "logarithm of a mean"),
        (lambda q: -by_subsets(q), "sign"),
        (lambda q: by_subsets(q) / q.shape[1], "per token"),
        (lambda q: by_subsets(q, lambda m, u: 1 / math.comb(m + u, u)), "counted in full"),
        (lambda q: by_subsets(q, lambda m, u: 1 / m), "all orders came by"),
        (lambda q: by_subsets(q, lambda m, u: 1 / 2 ** (m + u)), "weighted alike"),
        (lambda q: by_subsets(q, lambda m, u: 1 / math.comb(m + u, u) / (m + u)), "not one of n"),
        (lambda q: by_subsets(q, blank=1), "bit i of U"),
        (lambda q: by_subsets(q, lambda m, u: 0.1), "chance that a random order"),
        (lambda q: by_subsets(q) if q.shape[1] > 1 else 0.0, "single position"),
        (lambda q: q[0], "one number"),
        (3.5, "the function itself"),
    ],
)
def test_elbo_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_2, function)


def test_few_steps_right(capsys):
    assert said(capsys, exercise_3, few_steps).endswith("right")
    assert said(capsys, exercise_3, lambda q, s: torch.tensor(few_steps(q, s))).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda q, s: few_steps(q, s, log=float), "its logarithm"),
        (lambda q, s: few_steps(q, q.shape[1]), "one token a step"),
        (lambda q, s: few_steps(q, s, first=False), "remainder comes first"),
        (lambda q, s: few_steps(q, s, sets=math.perm), "without an order"),
        (lambda q, s: few_steps(q, s, sets=lambda m, k: 1), "sum to 1"),
        (lambda q, s: few_steps(q, s, sets=lambda m, k: m**k), "without repetition"),
        (lambda q, s: few_steps(q, s) + 0.1, "differs from the exact probability"),
        (lambda q, s: few_steps(q, 3 if s == 1 else s), "differs from the exact probability"),
        (lambda q, s: q[0], "one number"),
        ("text", "the function itself"),
    ],
)
def test_few_steps_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_3, function)


def test_the_solutions_agree_with_the_package(table_lm):
    """The two right answers, given a model's distributions on all canvases, against `exact`."""
    lm, text = table_lm(4, seed=3), torch.tensor([0, 2, 1, 0])
    logq = torch.zeros(16, 4, dtype=torch.float64)
    for U in range(15):
        canvas = [int(text[i]) if U >> i & 1 else lm.mask_id for i in range(4)]
        law = lm.logits(tuple(canvas)).log_softmax(-1)
        for i in range(4):
            logq[U, i] = 0.0 if U >> i & 1 else law[i, text[i]]
    prompt = torch.zeros(1, dtype=torch.long)
    assert abs(by_subsets(logq) - exact_elbo(lm, prompt, text)) < 1e-10
    for steps in (1, 2, 3, 4):
        assert (
            abs(few_steps(logq, steps) - exact_logprob(lm, prompt, text, Schedule(steps, "random")))
            < 1e-10
        )
