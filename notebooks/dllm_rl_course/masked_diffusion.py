"""The exercises of *Masked diffusion in one page*: masking and its loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch

from .verdict import attempt, differs, judge, raised, tensor_differs


def exercise_1(answer) -> None:
    """Warm-up: the lowest loss any model can reach on one-step chains with a habit
    share of 0.8."""
    entropy = -0.8 * math.log(0.8) - 0.2 * math.log(0.2)
    floor, near = 0.5 * entropy / 10, 2e-4

    def is_near(value: float) -> Callable[[], bool]:
        return lambda: not differs(answer, value, near)

    judge(
        "exercise 1",
        answer,
        [
            (
                is_near(0.0),
                "not even a perfect model knows which of two demonstrations it will be shown",
            ),
            (
                is_near(floor / math.log(2)),
                "that is in bits; use the natural logarithm, the loss is in nats",
            ),
            (
                is_near(0.5 * entropy),
                "that is a whole text; the loss counts nats a token, so divide by L = 10",
            ),
            (
                is_near(entropy),
                "that is a whole text with a minus; only half have one, and the loss counts nats "
                "a token",
            ),
            (
                is_near(entropy / 10),
                "only half of the problems have a minus; the others leave nothing to guess",
            ),
            (
                is_near(0.5 * -math.log(0.8) / 10),
                "-log(0.8) is paid for the habit only; average it with the right "
                "workings, which are 2 in 10 and cost -log(0.2)",
            ),
            (
                lambda: differs(answer, floor, near),
                "take the entropy of one minus, in nats, times the minuses a text "
                "holds on average, divided by its 10 tokens",
            ),
        ],
    )


def exercise_2(draw: Callable) -> None:
    """Core: masks by count. `draw(n, length, generator)` -> (masked (n, L) bool, weight
    (n,))."""
    n, length = 6000, 4
    outcome = attempt(draw, n, length, torch.Generator().manual_seed(0))
    if outcome is None:
        return judge("exercise 2", None, [])
    facts = attempt(
        _facts_01_2, outcome, n, length
    )  # None where outcome is not a pair of the right shapes

    def fact(name: str) -> Callable[[], bool]:
        return lambda: raised(facts) or facts[name]

    judge(
        "exercise 2",
        draw,
        [
            (lambda: raised(outcome), ""),
            (
                lambda: facts is None,
                f"return a pair: masked, bool of shape (n, L), and weight of shape (n,); for n = "
                f"{n} "
                f"and L = {length} it was something else",
            ),
            (
                fact("empty"),
                "a canvas without a blank teaches nothing: draw the number of blanks m from 1 to "
                "L first",
            ),
            (fact("counts"), "the number of blanks must be uniform over 1..L; here it is not"),
            (
                fact("places"),
                "given m, each set of m positions must be as likely as any other; are rows masked "
                "alike, or "
                "always from the same end?",
            ),
            (
                fact("no_weight"),
                "a weight of 1 makes a text with many blanks count for more: what does each m owe?",
            ),
            (
                fact("mean"),
                "1/m averages over the blanks, which gives nats a token; the bound is for the "
                "whole text",
            ),
            (
                fact("time"),
                "with m drawn first there is no t: the weight may depend on m and L only",
            ),
            (
                fact("weight"),
                "the weight of a row with m blanks is wrong: its weights must add up to L",
            ),
        ],
    )


def _facts_01_2(outcome, n: int, length: int) -> dict[str, bool] | None:
    """What is wrong with 6000 masks and weights, by name; None where the shapes are."""
    if not isinstance(outcome, (tuple, list)) or len(outcome) != 2:
        return None
    masked, weight = (torch.as_tensor(v).detach().cpu() for v in outcome)
    if masked.shape != (n, length) or masked.dtype != torch.bool or weight.numel() != n:
        return None
    m, weight = masked.sum(1), weight.reshape(n).double()
    wanted, slack = n / length, 6 * math.sqrt(n / length)  # six standard deviations of a count
    counts = torch.bincount(m, minlength=length + 1)[1 : length + 1]
    sets = torch.bincount((masked.long() << torch.arange(length)).sum(1), minlength=2**length)
    sizes = [bin(s).count("1") for s in range(2**length)]
    odd_sets = [
        abs(int(sets[s]) - wanted / math.comb(length, k)) > slack for s, k in enumerate(sizes) if k
    ]
    by_count = [weight[m == k] for k in range(1, length + 1)]
    return {
        "empty": bool((m == 0).any()),
        "counts": bool(((counts - wanted).abs() > slack).any()),
        "places": any(odd_sets),
        "no_weight": not tensor_differs(weight, torch.ones(n)),
        "mean": not tensor_differs(weight * m, torch.ones(n)),
        "time": any(len(w) and bool((w - w[0]).abs().max() > 1e-6) for w in by_count),
        "weight": tensor_differs(weight * m, torch.full((n,), float(length))),
    }


def exercise_3(log_p: Callable) -> None:
    """Stretch: `log_p(table)` of a (2**L, L) float64 table of log-probabilities,
    averaged over orders."""
    length = 5
    table = -3 * torch.rand(
        2**length, length, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    visible = (torch.arange(2**length)[:, None] >> torch.arange(length)) & 1 == 1
    table = table.masked_fill(
        visible, math.nan
    )  # a visible token has no log-probability: using it must show
    paths = []
    for order in itertools.permutations(range(length)):
        before = [sum(1 << i for i in order[:k]) for k in range(length)]
        paths.append(sum(table[s, i].item() for s, i in zip(before, order, strict=True)))
    logs = torch.tensor(paths, dtype=torch.float64)
    truth = logs.logsumexp(0).item() - math.log(len(paths))
    outcome = attempt(log_p, table.clone())
    if outcome is None:
        return judge("exercise 3", None, [])

    def is_near(value: float) -> Callable[[], bool]:
        return lambda: not differs(outcome, value, 1e-9)

    judge(
        "exercise 3",
        log_p,
        [
            (lambda: raised(outcome), ""),
            (
                lambda: math.isnan(float(outcome)),
                "not a number: the table holds nan where a token is already visible; "
                "look only at the blanks of each set",
            ),
            (
                is_near(logs.mean().item()),
                "that is the average of the logarithms, the bound; average the probabilities",
            ),
            (
                is_near(-logs.mean().item()),
                "that is the average loss, the bound; average the probabilities and take the "
                "logarithm of that",
            ),
            (
                is_near(logs.logsumexp(0).item()),
                "that is the sum over orders; each of the L! orders is drawn with "
                "probability 1 / L!",
            ),
            (
                is_near(paths[0]),
                "that is one order, left to right; average the probabilities over all L! of them",
            ),
            (is_near(-truth), "the sign: log p is negative"),
            (is_near(math.exp(truth)), "that is the probability; return its logarithm"),
            (
                lambda: differs(outcome, truth, 1e-9),
                "not the average over orders: from a set with k visible tokens, each "
                "of the L - k blanks is filled next with probability 1 / (L - k)",
            ),
        ],
    )
