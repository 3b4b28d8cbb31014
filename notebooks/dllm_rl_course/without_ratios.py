"""The exercises of *Without ratios*: wd1's weights by hand, GDSD's slope, a punishment that
ends."""

from __future__ import annotations

import torch

from .verdict import attempt, differs, judge, raised, result_of, tensor_differs


def exercise_1(answer) -> None:
    """Rewards (1, 0, 0, 0), psi = ln 3: (w+, w-, credit of the right text, a wrong text's credit, a
    dead group's)."""

    def at(i: int, *values: float) -> bool:
        return any(not differs(answer[i], v, 2e-3) for v in values)

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 5,
                "give five numbers: (w+ of the right text, its w-, its credit, a wrong text's "
                "credit, credit in a dead group)",
            ),
            (
                lambda: at(0, 1 / 10) and at(1, 1 / 2),
                "w+ and w- are swapped: w+ is the softmax of +psi A, highest for the best",
            ),
            (
                lambda: at(0, 1 / 6) or at(1, 3 / 10),
                "that is a wrong text's weight: ask for the right one's",
            ),
            (
                lambda: at(0, 3**0.75),
                "that is exp(psi A), not yet divided by the sum over the group",
            ),
            (lambda: at(0, 3), "that is exp(psi r), not yet divided by the sum over the group"),
            (
                lambda: at(0, 3**0.25 / (3**0.25 + 3), 2.718282 / (2.718282 + 3)),
                "psi is ln 3, so exp(psi) is 3",
            ),
            (
                lambda: not at(0, 1 / 2),
                "w+: shifts change nothing, so use the rewards: 3, 1, 1, 1 divided by their sum",
            ),
            (lambda: not at(1, 1 / 10), "w-: 1/3, 1, 1, 1 divided by their sum"),
            (
                lambda: at(2, -2 / 5) or at(3, 2 / 15),
                "the sign: credit is w+ - w-, above zero where the text was better",
            ),
            (lambda: at(2, 1 / 2), "that is w+ alone, the ablation without punishment"),
            (lambda: not at(2, 2 / 5), "the right text's credit: w+ - w-"),
            (
                lambda: at(3, -2 / 5),
                "that is what the three wrong texts get together: credits of a group sum to zero",
            ),
            (lambda: not at(3, -2 / 15), "a wrong text's credit: 1/6 - 3/10"),
            (lambda: at(4, 1 / 4), "that is w+ of a dead group; w- is the same"),
            (
                lambda: differs(answer[4], 0, 1e-9),
                "in a dead group both softmaxes are uniform: their difference is exactly 0",
            ),
        ],
    )


CASES = [(d, a) for a in (1.0, -0.5) for d in (-2.0, -0.6, -0.45, -0.2, 0.0, 0.3, 0.39, 0.45, 2.0)]
PSI, CLIP, LENGTH = 2.0, 0.5, 4  # clamp at ln 0.5 = -0.693 and ln 1.5 = 0.405


def exercise_2(slope) -> None:
    """slope(d, A, psi, clip, length) -> tensor like d: derivative of GDSD's loss in the text's
    estimate, without penalty."""
    d, a = (torch.tensor(column, dtype=torch.float64) for column in zip(*CASES, strict=True))
    low, high = torch.tensor([1 - CLIP, 1 + CLIP], dtype=torch.float64).log()
    inside = (d >= low) & (d <= high)
    far = torch.where(a > 0, d > high, d < low)  # moved in the wanted direction
    full = -2 * (PSI * a - d / LENGTH) / LENGTH
    clamped = -2 * (PSI * a - d.clamp(low, high) / LENGTH) / LENGTH
    outcome = (
        attempt(lambda: slope(d.clone(), a.clone(), PSI, CLIP, LENGTH)) if callable(slope) else None
    )

    def is_(wanted) -> bool:
        return not tensor_differs(outcome, wanted, 1e-6)

    judge(
        "exercise 2",
        outcome if callable(slope) else slope,
        [
            (lambda: not callable(slope), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: torch.as_tensor(outcome).shape != d.shape, "return one number for each d"),
            (lambda: is_(full), "that is the slope without the clamp: outside it the loss is flat"),
            (
                lambda: is_(clamped),
                "the clamped d has slope zero outside, so the loss has, too: chain rule through "
                "the clamp",
            ),
            (
                lambda: is_(full * ~far) or is_(clamped * ~far),
                "that is PPO's pessimistic rule, which repairs moves in the wrong direction; this "
                "clamp is flat on both sides",
            ),
            (
                lambda: is_(-full * inside),
                "the sign: the loss falls when a good text becomes likelier",
            ),
            (
                lambda: is_(full * inside * LENGTH),
                "one 1 / L is missing: d / L has the slope 1 / L in the text's estimate",
            ),
            (lambda: is_(full * inside / 2), "the 2 of the square is missing"),
            (
                lambda: is_(-2 * PSI * a / LENGTH * inside),
                "that is the slope at d = 0; the teacher's lead shrinks as d grows",
            ),
            (
                lambda: is_(full * (d.abs() <= CLIP)),
                "the clamp is at ln(1 - clip) and ln(1 + clip), not at -clip and clip",
            ),
            (
                lambda: not is_(full * inside),
                "differentiate (clamp(d) / L - psi A)^2 in d: 2 (d / L - psi A) / L inside, 0 "
                "outside",
            ),
        ],
    )


def exercise_3(loss) -> None:
    """loss(logp, old, credit) per token: wd1's gradient where logp = old, no push left on a
    punished token that is gone."""
    g = torch.Generator().manual_seed(10)
    old = -3 * torch.rand(5, generator=g, dtype=torch.float64) - 0.1
    plus, minus = (s * (0.1 + torch.rand(5, generator=g, dtype=torch.float64)) for s in (1, -1))

    def values(logp, credit):
        return torch.as_tensor(loss(logp, old.clone(), credit.clone()))

    def push(shift: float, credit) -> torch.Tensor:  # minus the gradient in logp: what drives it up
        leaf = (old + shift).requires_grad_()
        total = values(leaf, credit).sum()
        return (
            -torch.autograd.grad(total, leaf)[0] if total.requires_grad else torch.zeros_like(old)
        )

    outcome = attempt(values, old.clone(), minus) if callable(loss) else None
    judge(
        "exercise 3",
        result_of(loss, old.clone(), old.clone(), minus),
        [
            (lambda: not callable(loss), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: outcome.shape != old.shape, "return one number a token, of the shape of logp"),
            (
                lambda: not push(0.0, minus).any() and not push(0.0, plus).any(),
                "no gradient reaches logp: is something detached?",
            ),
            (
                lambda: (
                    not tensor_differs(push(0.0, plus), -plus)
                    and not tensor_differs(push(0.0, minus), -minus)
                ),
                "the sign: good tokens are pushed down here",
            ),
            (
                lambda: bool((push(0.0, minus) == 0).all()),
                "punished tokens are not pushed at all: that is the positive-only ablation",
            ),
            (
                lambda: (
                    tensor_differs(push(0.0, minus), minus) or tensor_differs(push(0.0, plus), plus)
                ),
                "at logp = old the gradient must be wd1's: minus the credit in logp",
            ),
            (
                lambda: not tensor_differs(push(-20.0, minus), minus),
                "that is wd1's own loss: 20 nats further down it pushes as hard",
            ),
            (
                lambda: (
                    not all(
                        torch.isfinite(values(old + s, c)).all()
                        and torch.isfinite(push(s, c)).all()
                        for s in (-50.0, 0.0, 5.0)
                        for c in (plus, minus)
                    )
                ),
                "far from old it is no longer finite",
            ),
            (
                lambda: bool((push(-20.0, minus).abs() > 1e-3).any()),
                "a punished token 20 nats down is still pushed: the gradient must die out as its "
                "probability goes to 0",
            ),
            (
                lambda: bool((push(-5.0, plus) < 1e-6).any()),
                "a good token that fell by 5 nats gets no push back up: the ratio or clip belongs "
                "to punished tokens only",
            ),
            (
                lambda: bool((push(-0.2, minus) > 0).any()),
                "a punished token that fell a little is pushed up again",
            ),
        ],
    )
