"""The exercises of *Before and beside reinforcement*: what is left of a pair's gradient, GRAO as
one weight a text, and the consensus of several prompts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .verdict import attempt, differs, judge, raised, result_of, tensor_differs


def exercise_1(answer) -> None:
    """The factor on the gradient of the right text's log-probability in DPO's loss with beta 0.1:
    (at the reference, at a margin of ln 3, at a margin of -ln 3)."""
    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers: (at the reference, margin ln 3, margin -ln 3)",
            ),
            (
                lambda: not differs(answer[0], 0.5, 1e-4),
                "the margin is beta times a difference of log-ratios: beta is a factor, too",
            ),
            (
                lambda: not differs(answer[0], 0.1, 1e-4),
                "the slope of -log sigmoid at 0 is -1/2, not -1",
            ),
            (lambda: differs(answer[0], 0.05, 1e-4), "at the reference: beta * sigmoid(0)"),
            (
                lambda: not differs(answer[1], 0.075, 1e-4),
                "a margin above 0 means that the pair is told apart already: less is left of it",
            ),
            (
                lambda: differs(answer[1], 0.025, 1e-4),
                "beta * sigmoid(-margin), and sigmoid(-ln 3) is 1 / (1 + 3)",
            ),
            (
                lambda: differs(answer[2], 0.075, 1e-4),
                "beta * sigmoid(-margin), and sigmoid(ln 3) is 3 / (3 + 1)",
            ),
        ],
    )


def _groups() -> list[tuple[Tensor, float, float]]:
    """Advantages (G,) that sum to 0, beta and lam."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for group, beta, lam in ((3, 0.5, 0.6), (4, 0.3, 0.0), (8, 0.0, 1.2)):
        advantage = torch.randn(group, generator=generator, dtype=torch.float64)
        found.append((advantage - advantage.mean(), beta, lam))
    return found


def _weights(advantage: Tensor, own: float, given: float) -> Tensor:
    return torch.cat([own * advantage[:-1], given * advantage[-1:]])


def exercise_2(grao_weights) -> None:
    """grao_weights(advantage, beta, lam), (G,) with the given text last -> (G,) weights, whose sum
    of weight times l is the number of rollouts times GRAO's objective."""
    groups = _groups()
    outcome = None
    if callable(grao_weights):
        outcome = attempt(lambda: [grao_weights(a.clone(), b, lam) for a, b, lam in groups])

    def follows(own: Callable[..., float], given: Callable[..., float]) -> bool:
        for found, (advantage, beta, lam) in zip(outcome, groups, strict=True):
            rollouts = len(advantage) - 1
            wanted = _weights(advantage, own(rollouts, beta, lam), given(rollouts, beta, lam))
            if tensor_differs(found, wanted):
                return False
        return True

    def right_own(rollouts: int, beta: float, lam: float) -> float:
        return 1 + lam

    def right_given(rollouts: int, beta: float, lam: float) -> float:
        return rollouts * beta + lam

    judge(
        "exercise 2",
        result_of(grao_weights, groups[0][0].clone(), *groups[0][1:]),
        [
            (lambda: not callable(grao_weights), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(found is None for found in outcome), "for some groups it returns None"),
            (
                lambda: any(
                    torch.as_tensor(found).shape != advantage.shape
                    for found, (advantage, _, _) in zip(outcome, groups, strict=True)
                ),
                "return one weight a text: (G,)",
            ),
            (
                lambda: follows(lambda n, beta, lam: 1, lambda n, beta, lam: n * beta),
                "without the regulariser; its A_i l_i belongs to the rollouts, its -A_i l_y to the "
                "given text",
            ),
            (
                lambda: follows(right_own, lambda n, beta, lam: beta + lam),
                "the means are over the rollouts, the imitation is not: times the number of "
                "rollouts it is larger",
            ),
            (
                lambda: follows(right_own, lambda n, beta, lam: n * beta),
                "what does the regulariser's -A_i l_y add up to, over all rollouts?",
            ),
            (
                lambda: follows(right_own, lambda n, beta, lam: n * beta - lam),
                "the advantages of the whole group sum to 0: those of the rollouts to -A_y",
            ),
            (
                lambda: follows(right_own, lambda n, beta, lam: (n + 1) * beta + lam),
                "the given text is no rollout: count G - 1 of them",
            ),
            (
                lambda: not follows(right_own, right_given),
                "wanted: (1 + lam) A_i for rollouts, (R beta + lam) A_y for the given text",
            ),
        ],
    )


def exercise_3(consensus_of) -> None:
    """consensus_of(scores), (K, K): scores[k, j] is how likely text j is under prompt k, and text j
    was written under prompt j -> (K,), its mean under the other prompts."""
    generator = torch.Generator().manual_seed(0)
    tables = [torch.randn(k, k, generator=generator, dtype=torch.float64) for k in (2, 3, 4)]
    outcome = None
    if callable(consensus_of):
        outcome = attempt(lambda: [consensus_of(scores.clone()) for scores in tables])

    def follows(rule: Callable[[Tensor], Tensor]) -> bool:
        return all(
            not tensor_differs(found, rule(scores))
            for found, scores in zip(outcome, tables, strict=True)
        )

    judge(
        "exercise 3",
        result_of(consensus_of, tables[0].clone()),
        [
            (lambda: not callable(consensus_of), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(found is None for found in outcome), "for some tables it returns None"),
            (
                lambda: any(
                    torch.as_tensor(found).shape != scores[0].shape
                    for found, scores in zip(outcome, tables, strict=True)
                ),
                "return one number a text: (K,)",
            ),
            (
                lambda: follows(lambda s: s.mean(0)),
                "a text's own prompt is asked: it was drawn there, so it is always likely",
            ),
            (lambda: follows(torch.diagonal), "that is the text under its own prompt alone"),
            (
                lambda: follows(lambda s: (s.sum(1) - s.diagonal()) / (len(s) - 1)),
                "texts are columns: average over the prompts, axis 0",
            ),
            (
                lambda: follows(lambda s: (s.sum(0) - s.diagonal()) / len(s)),
                "K - 1 other prompts were asked, not K",
            ),
            (
                lambda: follows(lambda s: s.sum(0) - s.diagonal()),
                "the mean over the other prompts, not the sum",
            ),
            (
                lambda: not follows(lambda s: (s.sum(0) - s.diagonal()) / (len(s) - 1)),
                "wanted: the sum of column j without entry (j, j), over K - 1",
            ),
        ],
    )
