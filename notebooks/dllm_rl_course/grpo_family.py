"""The exercises of *The GRPO family, one change at a time*: where a token loses its gradient, a
gate on one side, credit beside a virtual best text."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .verdict import attempt, differs, judge, raised, result_of, tensor_differs


def exercise_1(answer) -> None:
    """A token of old probability 0.1 in a good text: the largest ratio that has a gradient under
    (clip, clip-higher, DCPO, CISPO)."""
    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 4,
                "give four numbers: (clip, clip-higher, DCPO, CISPO); float('inf') for no bound",
            ),
            (
                lambda: not differs(answer[0], 0.8),
                "0.8 bounds bad texts; a good one loses its gradient above",
            ),
            (lambda: differs(answer[0], 1.2, 5e-3), "clip: 1 + 0.2"),
            (lambda: differs(answer[1], 1.28, 5e-3), "clip-higher: 1 + 0.28"),
            (
                lambda: not differs(answer[2], 3, 5e-3),
                "DCPO: you solved (ratio - 1) p = 0.2; the left side is (ratio - 1) ratio p",
            ),
            (
                lambda: not differs(answer[2], 0.5, 5e-3),
                "DCPO: 0.5 is the lower bound, which is for bad texts",
            ),
            (
                lambda: differs(answer[2], 2, 5e-3),
                "DCPO: solve (ratio - 1) ratio 0.1 = 0.2 for the ratio",
            ),
            (
                lambda: not differs(answer[3], 5),
                "CISPO: at 5 the weight stops growing, but the gradient does not stop",
            ),
            (
                lambda: float(answer[3]) != math.inf,
                "CISPO: the bounded ratio is only a weight; at which ratio is it zero?",
            ),
        ],
    )


def _strength(loss: Callable, log_ratio: Tensor, advantage: Tensor, tau: float) -> Tensor:
    """Minus the slope of a loss in the log-ratio, over the advantage."""
    leaf = log_ratio.clone().requires_grad_()
    losses = torch.as_tensor(loss(leaf, advantage.clone(), tau))
    if losses.shape != leaf.shape or not losses.requires_grad:
        return torch.zeros_like(log_ratio)
    return -torch.autograd.grad(losses.sum(), leaf)[0] / advantage


def exercise_2(gate) -> None:
    """gate(log_ratio, advantage, tau) -> loss per token: SAPO's gate where a token moved in the
    wanted direction, no bound where it did not."""
    ratio = torch.linspace(0.21, 4.1, 40, dtype=torch.float64).repeat(2, 1)
    log_ratio = ratio.log()
    advantage = torch.tensor([[1.5], [-0.7]], dtype=torch.float64).expand_as(ratio)
    wanted_side = (ratio - 1) * advantage > 0
    taus = (1.0, 3.0)
    first = attempt(gate, log_ratio.clone(), advantage.clone(), 1.0) if callable(gate) else None

    def faded(tau: float) -> Tensor:
        s = (tau * (ratio - 1)).sigmoid()
        return ratio * 4 * s * (1 - s)

    def follows(rule: Callable[[float], Tensor]) -> bool:
        found = {tau: _strength(gate, log_ratio, advantage, tau) for tau in taus}
        return all(not tensor_differs(found[tau], rule(tau), 1e-6) for tau in taus)

    judge(
        "exercise 2",
        result_of(gate, log_ratio.clone(), advantage.clone(), 1.0),
        [
            (lambda: not callable(gate), "pass the function itself, not what it returns"),
            (lambda: raised(first), ""),
            (
                lambda: torch.as_tensor(first).shape != ratio.shape,
                "return one loss a token: the shape of log_ratio",
            ),
            (
                lambda: not _strength(gate, log_ratio, advantage, 1.0).any(),
                "no gradient reaches log_ratio: is something detached?",
            ),
            (
                lambda: follows(lambda tau: -torch.where(wanted_side, faded(tau), ratio)),
                "the sign: a loss is minimised, and good texts must become likelier",
            ),
            (
                lambda: follows(faded),
                "that is SAPO: it damps mistakes too. Where the token moved the wrong way, leave "
                "the ratio as it is",
            ),
            (
                lambda: follows(lambda tau: torch.where(wanted_side, ratio, faded(tau))),
                "the sides are swapped: fade where (ratio - 1) A is above 0",
            ),
            (
                lambda: follows(lambda tau: torch.where(ratio > 1, faded(tau), ratio)),
                "for a bad text the wanted direction is down: look at the sign of the advantage",
            ),
            (
                lambda: follows(lambda tau: torch.where(wanted_side, faded(tau) * tau / 4, ratio)),
                "the factor 4 / tau is missing: at ratio 1 the slope must be minus the advantage",
            ),
            (
                lambda: follows(lambda tau: torch.where(wanted_side, faded(1.0), ratio)),
                "tau is not used",
            ),
            (
                lambda: follows(lambda tau: torch.where(wanted_side, 0.0, ratio)),
                "that is a hard clip at ratio 1: let the gradient fade as SAPO's does",
            ),
            (
                lambda: not follows(lambda tau: torch.where(wanted_side, faded(tau), ratio)),
                "wanted: minus the slope over A is ratio 4 s (1 - s), s = sigmoid(tau (ratio - "
                "1)), where (ratio - 1) A is above 0, and the ratio elsewhere",
            ),
        ],
    )


def exercise_3(credit) -> None:
    """credit(rewards, best), (B, G) and a number -> (B, G): the z-score beside one virtual text of
    reward `best`."""
    rewards = torch.tensor(
        [[1.0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0], [0.2, 0.4, 0.4, 1], [1, 1, 1, 1]],
        dtype=torch.float64,
    )
    bests = (1.0, 2.0)
    outcome = None
    if callable(credit):
        outcome = attempt(lambda: [credit(rewards.clone(), best) for best in bests])
    eps = 1e-6

    def scored(best: float, mean_of_all: bool = True, spread_of_all: bool = True, below=1):
        virtual = torch.cat([rewards, rewards.new_full((len(rewards), 1), best)], 1)
        centre = (virtual if mean_of_all else rewards).mean(1, keepdim=True)
        spread = (virtual if spread_of_all else rewards).std(1, keepdim=True, correction=below)
        return (rewards - centre) / (spread + eps)

    def follows(rule: Callable[[float], Tensor], rows=slice(None)) -> bool:
        return all(
            not tensor_differs(torch.as_tensor(got)[rows], rule(best)[rows], 2e-3)
            for got, best in zip(outcome, bests, strict=True)
        )

    not_all_equal = slice(0, 4, 2)
    judge(
        "exercise 3",
        result_of(credit, rewards.clone(), 1.0),
        [
            (lambda: not callable(credit), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(v is None for v in outcome), "for some rewards it returns None"),
            (
                lambda: torch.as_tensor(outcome[0]).shape == (5, 5),
                "the virtual text gets no credit: leave its column out",
            ),
            (
                lambda: any(torch.as_tensor(v).shape != rewards.shape for v in outcome),
                "return one number a text: the shape of rewards",
            ),
            (
                lambda: bool(torch.as_tensor(outcome[0]).isnan().any()),
                "where all are right the deviation is 0: put a small number beside it",
            ),
            (
                lambda: follows(lambda best: scored(best, False, False), not_all_equal),
                "that is GRPO's z-score: the virtual text is not among the siblings",
            ),
            (
                lambda: follows(lambda best: scored(best, True, False), not_all_equal),
                "the virtual text is in the mean, but not in the standard deviation",
            ),
            (
                lambda: follows(lambda best: scored(best, False, True), not_all_equal),
                "the virtual text is in the standard deviation, but not in the mean",
            ),
            (
                lambda: follows(lambda best: scored(best, below=0)),
                "the standard deviation of G + 1 rewards has G below the line",
            ),
            (
                lambda: follows(lambda best: scored(1.0)),
                "best is not used: the largest reward need not be 1",
            ),
            (
                lambda: not follows(scored),
                "four wrong texts and best = 1 must give -1 / sqrt(5) = -0.447 each",
            ),
        ],
    )
