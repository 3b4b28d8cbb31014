"""The exercises of *Coupled masks*: weights of coupled masks, the slope of a clipped ratio,
views whose weights sum to one."""

from __future__ import annotations

import torch

from dllm_rl_lite.estimators import View
from dllm_rl_lite.objectives import clipped_ratio
from dllm_rl_lite.sampler import Rollout

from .verdict import attempt, differs, judge, raised, result_of, tensor_differs


def exercise_1(answer) -> None:
    """t = 0.2: a token's summed weight (in the first mask, in the complement), and its chance to be
    missed if uncoupled."""

    def at(i: int, value: float) -> bool:
        return not differs(answer[i], value, 6e-3)

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers: (weight in the first mask, weight in the complement, chance "
                "to be missed)",
            ),
            (
                lambda: at(0, 1.125) and at(1, 3),
                "the first two are swapped: the first mask is the rare one, so it weighs more",
            ),
            (
                lambda: at(0, 2.5) or at(1, 0.625),
                "every token is also scored in the fully masked copy, with weight 1/2",
            ),
            (lambda: at(0, 5.5) or at(1, 1.75), "the half stands before both terms: 1/2 (1 + 1/t)"),
            (lambda: at(0, 6) or at(1, 2.25), "take the half of the sum: 1/2 (1 + 1/t)"),
            (
                lambda: at(0, 1.5) or at(1, 1.5),
                "3/2 is the mean over masks; a token gets one of two weights, never this one",
            ),
            (lambda: not at(0, 3), "in the first mask: 1/2 from the full copy, and 1/2 times 1/t"),
            (
                lambda: not at(1, 1.125),
                "in the complement: 1/2 from the full copy, and 1/2 times 1/(1 - t)",
            ),
            (
                lambda: at(2, 0),
                "0 is the coupled pair's; here the second mask is drawn anew, at rate 1 - t",
            ),
            (lambda: at(2, 0.04) or at(2, 0.64), "the second mask has another rate: 1 - t"),
            (lambda: at(2, 0.32), "that is missed or scored twice; missed alone is half of it"),
            (lambda: at(2, 0.68), "that is the chance to be scored exactly once"),
            (
                lambda: not at(2, 0.16),
                "missed by the first: 1 - t; by the second, of rate 1 - t: t; independent, so "
                "multiply",
            ),
        ],
    )


def _slope_cases() -> list[tuple]:
    """Estimates, old estimates, advantages (column) and epsilon: inside and outside the range, on
    both sides."""
    g = torch.Generator().manual_seed(8)
    cases = []
    for clip in (0.5, 0.2):
        phi, old = torch.randn(2, 6, 9, generator=g, dtype=torch.float64)
        cases.append(
            (
                0.5 * phi,
                0.5 * old,
                torch.tensor([[1.0], [-0.5], [0.3], [-1.0], [0.0], [2.0]]).double(),
                clip,
            )
        )
    return cases


def exercise_2(slope) -> None:
    """slope(phi, old, advantage, clip) -> (N, L): the derivative of the clipped-ratio loss in each
    token's estimate."""
    cases = _slope_cases()
    outcome = attempt(lambda: [slope(p.clone(), o.clone(), a.clone(), c) for p, o, a, c in cases])

    def wanted(p, o, a, c):
        leaf = p.clone().requires_grad_()
        return torch.autograd.grad(clipped_ratio(leaf - o, a, c).sum(), leaf)[0]

    def follows(rule) -> bool:
        return all(
            not tensor_differs(got, rule(*case), 1e-9)
            for got, case in zip(outcome, cases, strict=True)
        )

    def inside(p, o, c):
        ratio = (p - o).exp()
        return (ratio >= 1 - c) & (ratio <= 1 + c)

    judge(
        "exercise 2",
        result_of(slope, *cases[0]),
        [
            (lambda: not callable(slope), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(v is None for v in outcome), "for some numbers it returns None"),
            (
                lambda: any(
                    torch.as_tensor(v).shape != case[0].shape
                    for v, case in zip(outcome, cases, strict=True)
                ),
                "return one number per token, of the shape of phi",
            ),
            (
                lambda: follows(lambda p, o, a, c: clipped_ratio(p - o, a, c)),
                "that is the loss; ask for its derivative in phi",
            ),
            (
                lambda: follows(lambda p, o, a, c: -wanted(p, o, a, c)),
                "the sign: a good text has slope < 0",
            ),
            (
                lambda: follows(lambda p, o, a, c: -a * (p - o).exp()),
                "nothing is clipped: where it is, the slope is 0",
            ),
            (
                lambda: follows(lambda p, o, a, c: (-a).expand_as(p)),
                "that is REINFORCE's, the slope at ratio 1",
            ),
            (
                lambda: follows(lambda p, o, a, c: -a * (p - o).exp() * inside(p, o, c)),
                "both sides are cut: a token that moved the wrong way keeps its slope, so that it "
                "can come back",
            ),
            (
                lambda: follows(lambda p, o, a, c: wanted(p, o, a, c) / (p - o).exp()),
                "the derivative of the ratio exp(phi - old) is the ratio itself: multiply by it",
            ),
            (
                lambda: follows(lambda p, o, a, c: -a * (p - o).exp().clamp(1 - c, 1 + c)),
                "a clipped ratio is constant: its slope is 0, not the bound",
            ),
            (
                lambda: not follows(wanted),
                "compare with autograd on clipped_ratio: slope -ratio A, but 0 where ratio > 1 + "
                "clip and A > 0, "
                "or ratio < 1 - clip and A < 0",
            ),
        ],
    )


def _made_up(rows: int) -> Rollout:
    """Rows of seven tokens: the second was given, the sixth ends the text."""
    tokens, steps = torch.tensor([10, 11, 12, 13, 14, 1, 16]), torch.tensor([0, -1, 1, 2, 3, 4, 5])
    blank = torch.zeros(rows, 7)
    return Rollout(
        torch.full((rows, 2), 50),
        torch.ones(rows, 2, dtype=torch.bool),
        tokens.expand(rows, -1),
        steps.expand(rows, -1),
        blank,
        blank,
        torch.full((rows,), 6),
        2,
        1,
    )


def exercise_3(calibrated) -> None:
    """calibrated(rollout, generator) -> three views, masks as in `coupled`, each scored token's
    weights summing to 1."""
    rollout = _made_up(400)
    free, scored = rollout.sampled, rollout.sampled & rollout.until_eos

    def drawn(seed: int = 8):
        return calibrated(rollout, torch.Generator().manual_seed(seed))

    outcome = attempt(drawn) if callable(calibrated) else None

    def masked(view: View) -> torch.Tensor:
        return view.tokens[:, -7:] == rollout.mask_id

    def total(views) -> torch.Tensor:
        return sum(v.weight * v.scored for v in views)

    judge(
        "exercise 3",
        outcome if callable(calibrated) else calibrated,
        [
            (lambda: not callable(calibrated), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (
                lambda: (
                    not isinstance(outcome, list) or not all(isinstance(v, View) for v in outcome)
                ),
                "return a list of views; masked_view makes one",
            ),
            (
                lambda: len(outcome) != 3,
                "return three views: everything masked, a mask, its complement",
            ),
            (
                lambda: any(bool(masked(v)[:, 1].any()) for v in outcome),
                "a given token is masked: use rollout.sampled",
            ),
            (
                lambda: any(bool((v.scored & ~masked(v)).any()) for v in outcome),
                "a view scores a token that it shows: the model would see the answer",
            ),
            (
                lambda: bool((masked(outcome[0]) != free).any()),
                "the first view masks every sampled token",
            ),
            (
                lambda: bool(
                    (masked(outcome[1]).int() + masked(outcome[2]).int() != free.int()).any()
                ),
                "the second and third view must be complements: every sampled token masked in "
                "exactly one of them",
            ),
            (
                lambda: torch.equal(masked(drawn(9)[1]), masked(outcome[1])),
                "the mask must be drawn anew, from the generator",
            ),
            (
                lambda: any(bool(v.scored[:, 6].any()) for v in outcome),
                "a token after the end of the text is scored",
            ),
            (
                lambda: (
                    bool((outcome[0].scored != scored).any())
                    or bool((outcome[1].scored | outcome[2].scored != scored).any())
                ),
                "a token of the text is not scored",
            ),
            (
                lambda: any(bool((v.weight[v.scored] <= 0).any()) for v in outcome),
                "all weights must be above 0",
            ),
            (
                lambda: not tensor_differs(total(outcome), 2.0 * scored, 1e-5),
                "the weights sum to 2: where is the half?",
            ),
            (
                lambda: (
                    float(total(outcome).sum()) > 1.2 * float(scored.sum())
                    and bool((outcome[0].weight[scored] == 0.5).all())
                ),
                "1/t and 1/(1 - t) are the published weights, 3/2 on average: each token's own "
                "must sum to 1",
            ),
            (
                lambda: tensor_differs(total(outcome), 1.0 * scored, 1e-5),
                "each scored token's weights must sum to 1: its weight in the full copy plus that "
                "in the copy that masks it",
            ),
        ],
    )
