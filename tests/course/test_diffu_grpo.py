"""The checks of *diffu-GRPO*: right answers say right, likely mistakes are named, and nothing ever
raises."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from dllm_rl_course.diffu_grpo import exercise_1, exercise_2, exercise_3
from exercise import said

from dllm_rl_lite.estimators import View, one_step

SEEDS = itertools.count()


@pytest.mark.parametrize(
    "answer, words",
    [
        ((14, 10, 164), "right"),
        ([14.0, 10.0, 164.0], "right"),
        ((6, 10, 164), "denoising steps count"),
        ((10, 10, 164), "old and reference"),
        ((12, 10, 164), "mask of its own"),
        ((14, 10, 142), "mask of its own"),
        ((13, 10, 164), "the first"),
        ((14, 11, 164), "is saved"),
        ((14, 9, 164), "of its own, at mu = 1"),
        ((14, 14, 164), "the second"),
        ((14, 10, 163), "the third"),
        ((14, 10), "three numbers"),
        (14, "three numbers"),
    ],
)
def test_cost(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


def shared(rollout, generator, group, p, rows=None, padding=False, keep=False):
    """The right answer, and with the other arguments a wrong one."""
    (view,) = one_step(rollout, generator, 0.0)
    n, width = rollout.prompt.shape
    draws = torch.rand((n // group, width), generator=generator).repeat_interleave(group, 0)
    if rows == "own":
        draws = torch.rand((n, width), generator=generator)
    if rows == "one":
        draws = draws[:1].expand(n, width)
    hidden = (draws >= p) if keep else (draws < p)
    hidden = hidden if padding else hidden & rollout.prompt_mask
    prompt = torch.where(hidden, rollout.mask_id, rollout.prompt)
    return [replace(view, tokens=torch.cat([prompt, view.tokens[:, width:]], 1))]


def changed(**wrong):
    """The right answer with fields of the view replaced by functions of (view, rollout)."""

    def function(rollout, generator, group, p):
        (view,) = shared(rollout, generator, group, p)
        return [replace(view, **{k: f(view, rollout) for k, f in wrong.items()})]

    return function


def unmasked(v, r):
    return torch.cat([v.tokens[:, : r.prompt.shape[1]], r.tokens], 1)


def given_too(v, r):
    return torch.cat([v.tokens[:, : r.prompt.shape[1]], torch.full_like(r.tokens, r.mask_id)], 1)


def other_words(v, r):
    prompt = v.tokens[:, : r.prompt.shape[1]]
    wrong = torch.where((prompt != r.mask_id) & r.prompt_mask, prompt + 1, prompt)
    return torch.cat([wrong, v.tokens[:, prompt.shape[1] :]], 1)


def test_shared_mask_right(capsys):
    assert said(capsys, exercise_2, shared).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda r, g, k, p: one_step(r, g, p), "siblings still hide"),
        (lambda r, g, k, p: shared(r, g, k, p, rows="own"), "siblings still hide"),
        (lambda r, g, k, p: shared(r, g, k, p, rows="one"), "whole batch"),
        (lambda r, g, k, p: shared(r, g, k, p, padding=True), "padding"),
        (lambda r, g, k, p: shared(r, g, k, p, keep=True), "keeps a token"),
        (lambda r, g, k, p: shared(r, g, k, p / 3), "each on its own"),
        (lambda r, g, k, p: shared(r, g, k, 0.3), "with chance 0"),
        (lambda r, g, k, p: one_step(r, g, 0.0), "no prompt token"),
        (lambda r, g, k, p: shared(r, torch.Generator().manual_seed(0), k, p), "another generator"),
        (
            lambda r, g, k, p: shared(r, torch.Generator().manual_seed(next(SEEDS)), k, p),
            "equal generators",
        ),
        (lambda r, g, k, p: shared(r, g, k, p)[0], "a list with one View"),
        (lambda r, g, k, p: shared(r, g, k, p) * 2, "a list with one View"),
        (changed(tokens=unmasked), "whole completion"),
        (changed(tokens=given_too), "given (anchored)"),
        (changed(tokens=lambda v, r: v.tokens[:, 1:]), "side by side"),
        (changed(tokens=other_words), "stay what they are"),
        (changed(scored=lambda v, r: r.sampled), "after the first end"),
        (changed(scored=lambda v, r: v.scored & False), "up to and"),
        (changed(weight=lambda v, r: 2 * v.weight), "weight 1"),
        (3, "the function itself"),
        (lambda r, g, k, p: [View(r.prompt, r.sampled, r.logprob)], "side by side"),
    ],
)
def test_shared_mask_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_2, function)


def error(joint, weight=None):
    q = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    e = torch.where(joint > 0, q.log() - joint.log(), 0.0)
    return ((joint if weight is None else weight(joint, q)) * e).sum()


@pytest.mark.parametrize(
    "function",
    [
        error,
        lambda j: error(j).item(),
        lambda j: error(j)[None],
        lambda j: (
            torch.special.entr(j).sum()
            - torch.special.entr(j.sum(0)).sum()
            - torch.special.entr(j.sum(1)).sum()
        ),
    ],
)
def test_one_step_error_right(capsys, function):
    assert said(capsys, exercise_3, function).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda j: -error(j), "the sign"),
        (lambda j: error(j) / math.log(2), "bits"),
        (lambda j: error(j, lambda a, q: q), "only what the estimate believes"),
        (lambda j: error(j, lambda a, q: torch.ones_like(a)), "weigh each"),
        (lambda j: error(j, lambda a, q: torch.full_like(a, 1 / a.numel())), "weigh each"),
        (lambda j: (j * (j.sum(1, keepdim=True) * j.sum(0)).log()).sum(), "mean estimate"),
        (lambda j: 0.0, "independent"),
        (lambda j: (j * (j.sum(1, keepdim=True).log() - j.log())).nansum(), "row or column"),
        (
            lambda j: (j * ((j.sum(1, keepdim=True) * j.sum(0)).log() - j.log())).sum(),
            "0 times log 0",
        ),
        (lambda j: j, "one number"),
        (0.3, "the function itself"),
    ],
)
def test_one_step_error_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_3, function)
