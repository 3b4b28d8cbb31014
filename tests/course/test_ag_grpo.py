"""The checks of *AG-GRPO*: right answers say right, likely mistakes are named, and nothing ever
raises."""

import re

import pytest
import torch
from dllm_rl_course.ag_grpo import CASES, exercise_1, exercise_2, exercise_3
from exercise import said

from dllm_rl_lite.rewards import extract_answer
from dllm_rl_lite.tasks.tiny.chain import parse, work


@pytest.mark.parametrize(
    "answer, words",
    [
        ((0.375, -0.625, -0.375, 0), "right"),
        ([3 / 8, -5 / 8, -3 / 8, 0.0], "right"),
        ((0.75, -0.25, 0, 0), "mean of the free rows alone"),
        ((0.0, -1.0, -0.75, 0), "against the guided rows' mean"),
        ((-0.625, 0.375, -0.375, 0), "swapped"),
        ((0.5, -0.625, -0.375, 0), "1 minus the mean"),
        ((0.375, -0.5, -0.375, 0), "0 minus the mean"),
        ((0.375, -0.625, 0, 0), "not over the four free"),
        ((0.375, -0.625, 0.375, 0), "the sign"),
        ((0.375, -0.625, -1.5, 0), "the sum over"),
        ((0.375, -0.625, -0.75, 0), "half of that"),
        ((0.375, -0.625, -0.2, 0), "once and -0.625"),
        ((0.375, -0.625, -0.375, 0.375), "their own mean"),
        ((0.375, -0.625, -0.375, 1), "all four guided"),
        ((0.375, -0.625), "four numbers"),
        (0.375, "four numbers"),
    ],
)
def test_credit(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


@pytest.mark.parametrize(
    "function",
    [
        lambda tokens, anchor, mask: torch.where(anchor == mask, tokens, mask),
        lambda tokens, anchor, mask: tokens.masked_fill(anchor != mask, mask),
    ],
)
def test_cut_right(capsys, function):
    assert said(capsys, exercise_2, function).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda t, a, m: a, "stage 1 started from"),
        (lambda t, a, m: torch.where(a == m, m, t), "stage 1 started from"),
        (
            lambda t, a, m: t.masked_fill((a == m) & (a != m).any(1)[:, None], m),
            "the other way round",
        ),
        (lambda t, a, m: t.masked_fill((a != m) & (t != 2), m), "end tokens of the margin"),
        (lambda t, a, m: t.masked_fill((a != m) | (t == 2), m), "the model wrote itself"),
        (lambda t, a, m: t.masked_fill((a != m).any(0), m), "the row's own mask"),
        (lambda t, a, m: t.masked_fill((a != m).any(1)[:, None], m), "reasoning is gone"),
        (lambda t, a, m: t, "still there"),
        (lambda t, a, m: t[:, :5], "keep the shape"),
        (lambda t, a, m: t * 0, "as it was"),
        (torch.zeros(2, 2), "the function itself"),
        (lambda t, a, m: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_cut_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_2, function)


def judged(*, answer=True, own=True, count=True, linked=True, sound=True, modulo=True):
    """A verifier of chains with switches for what it forgets to look at."""

    def one(prompt, right, text):
        start, terms = parse(prompt)
        lines = re.findall(r"(\d)([+-])(\d)=(\d)", text)
        mine = [tuple(map(str, x)) for x in work(start, terms, [True] * len(terms))]
        good = not count or len(lines) == len(mine)
        good &= not own or [(s, b) for _, s, b, _ in lines] == [(s, b) for _, s, b, _ in mine]
        good &= not own or not lines or lines[0][0] == str(start)
        good &= not linked or all(x[3] == y[0] for x, y in zip(lines, lines[1:], strict=False))
        for a, s, b, r in lines:
            value = int(a) + (int(b) if s == "+" else -int(b))
            good &= not sound or (value % 10 if modulo else value) == int(r)
        return float(good and (not answer or extract_answer(text) == right))

    return lambda prompts, completions, answer, **_: [
        one(*x) for x in zip(prompts, answer, completions, strict=True)
    ]


@pytest.mark.parametrize(
    "function", [judged(), lambda p, c, a, **_: [bool(x) for x in judged()(p, c, a)]]
)
def test_honest_right(capsys, function):
    assert said(capsys, exercise_3, function).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (judged(own=False, count=False, linked=False, sound=False), "reads the answer only"),
        (
            judged(own=False, count=False, linked=False, answer=False),
            "right arithmetic are not enough",
        ),
        (judged(modulo=False), "last digit only"),
        (judged(own=False, count=False, linked=False), "no working at all"),
        (
            lambda p, c, a: [
                max(x, float("6+0=6" in t and "9-1" in t))
                for x, t in zip(judged()(p, c, a), c, strict=True)
            ],
            "a line too many",
        ),
        (judged(own=False), "another chain"),
        (judged(answer=False), "answer tags must be right"),
        (
            lambda p, c, a: [
                max(x, float("7-1=6" in t and "9-1" in t))
                for x, t in zip(judged()(p, c, a), c, strict=True)
            ],
            "start from another number",
        ),
        (judged(sound=False), "must earn 1"),
        (lambda p, c, a: [0.0] * len(c), "must earn 1"),
        (lambda p, c, a: [1.0], "one number a completion"),
        (lambda p, c, a: [2.0] * len(c), "0 or 1"),
        (lambda p, c, a: [None] * len(c), "returns None"),
        (1.0, "the function itself"),
        (lambda p, c, a: 1 / 0, "ZeroDivision"),
    ],
)
def test_honest_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_3, function)


def test_the_cases_hold_every_kind():
    honest = judged()(*zip(*[(p, t, a) for p, a, t in CASES], strict=True))
    assert 0 < sum(honest) < len(CASES)
