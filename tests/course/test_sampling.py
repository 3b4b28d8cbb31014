"""The checks of *Sampling is a policy*: right answers say right, likely mistakes are named, and
nothing ever raises."""

import pytest
import torch
from dllm_rl_course import sampling as checks
from exercise import said

from dllm_rl_lite.sampler import Gate, RuleInput, Threshold


def seen(confidence, active, generator=None):
    zeros = torch.zeros(len(confidence), dtype=torch.long)
    return RuleInput(
        active, confidence.float().log(), confidence, confidence, zeros, zeros, 1, generator
    )


@pytest.mark.parametrize(
    "answer, words",
    [
        ((0.09, 0.3, 0.0), "right"),
        ([0.09, 0.3, 0], "right"),
        ((0.3, 0.09, 0), "swapped"),
        ((0.09, 0.3, 0.3), "likeliest"),
        ((0.09, 0.09, 0), "one draw"),
        ((0.3, 0.3, 0), "own share"),
        ((0.51, 0.3, 0), "not enough"),
        ((9, 30, 0), "0.25, not 25"),
        ((0.42, 0.3, 0), "disagree"),
        ((0.49, 0.3, 0), "both positions propose the habit"),
        ((0.2, 0.3, 0), "same forward pass"),
        ((0.09, 0.5, 0), "leaves the shares"),
        ((0.09, 0.3), "three numbers"),
        (0.09, "three numbers"),
    ],
)
def test_shares(capsys, answer, words):
    assert words in said(capsys, checks.exercise_1, answer)


def threshold(confidence, active, tau, passes=lambda c, tau: c >= tau, among=None):
    surest = torch.zeros_like(active)
    allowed = active if among is None else torch.ones_like(active)
    best = confidence.masked_fill(~allowed, -1.0).argmax(1)
    surest[torch.arange(len(best)), best] = True
    return (active & passes(confidence, tau)) | (surest & (active if among is None else allowed))


def test_threshold_right(capsys):
    assert said(capsys, checks.exercise_2, threshold).endswith("right")
    assert said(
        capsys, checks.exercise_2, lambda c, a, tau: Threshold(tau).reveal(seen(c, a))
    ).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda c, a, tau: a & (c >= tau), "never end"),
        (lambda c, a, tau: threshold(c, a, tau, passes=lambda c, tau: c > tau), ">=, not >"),
        (lambda c, a, tau: threshold(c, a, tau, among="all"), "among all positions"),
        (lambda c, a, tau: threshold(c, torch.ones_like(a), tau), "not active"),
        (lambda c, a, tau: threshold(c, a, 2.0), "surest one only"),
        (lambda c, a, tau: threshold(c, a, tau).float(), "bool"),
        (lambda c, a, tau: threshold(c, a, tau)[:, 0], "one bool a position"),
        (lambda c, a, tau: threshold(c, a, tau) & False | a, "differs"),
        (lambda c, a, tau: threshold(c, a, tau).tolist() and 3, "bool"),
        ("text", "the function itself"),
    ],
)
def test_threshold_mistakes(capsys, function, words):
    assert words in said(capsys, checks.exercise_2, function)


def gate(
    c,
    active,
    reveal,
    tau,
    kappa,
    top_up=True,
    empty=True,
    both=True,
    stay=True,
    log=True,
    active_only=True,
):
    p = ((c - tau).clamp(min=0) / (1 - tau)) ** kappa
    left = active if active_only else torch.ones_like(active)
    chosen = torch.where(
        reveal, p, torch.where(left, 1 - p, 1.0) if stay else torch.ones_like(p)
    ).prod(1)
    none = torch.where(left, 1 - p, 1.0).prod(1)
    surest = torch.nn.functional.one_hot(c.masked_fill(~active, -1.0).argmax(1), c.shape[1]).bool()
    alone = (reveal == surest).all(1)
    if top_up:
        chosen = torch.where(alone, chosen + none if both else none, chosen)
    if empty:
        chosen = chosen * reveal.any(1)
    return chosen.log() if log else chosen


def test_gate_right(capsys):
    assert said(capsys, checks.exercise_3, gate).endswith("right")


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"top_up": False}, "picks none"),
        ({"top_up": False, "empty": False}, "picks none"),
        ({"empty": False}, "empty set"),
        ({"both": False}, "two ways"),
        ({"stay": False, "top_up": False}, "stay masked"),
        ({"log": False}, "logarithm"),
        ({"active_only": False}, "not active"),
    ],
)
def test_gate_mistakes(capsys, changed, words):
    assert words in said(capsys, checks.exercise_3, lambda *a: gate(*a, **changed))


def test_gate_without_kappa_is_named(capsys):
    assert "kappa" in said(
        capsys, checks.exercise_3, lambda c, a, r, tau, kappa: gate(c, a, r, tau, 1.0)
    )


def test_gate_solution_is_the_law_of_the_rule():
    """The right answer of exercise 3 against 40 000 draws of the package's rule, within four
    standard errors."""
    c, active = torch.tensor([0.9, 0.7, 0.95, 0.3]), torch.tensor([True, True, False, True])
    n = 40_000
    drawn = Gate(0.6, 0.5).reveal(
        seen(c.expand(n, 4), active.expand(n, 4), torch.Generator().manual_seed(0))
    )
    for i in range(16):
        reveal = torch.tensor([i >> j & 1 for j in range(4)]).bool()
        share = (drawn == reveal).all(1).double().mean()
        if bool((reveal & ~active).any()):
            assert share == 0
        else:
            p = gate(c.double()[None], active[None], reveal[None], 0.6, 0.5).exp()[0]
            assert abs(share - p) <= 4 * (p * (1 - p) / n) ** 0.5 + 1e-12
