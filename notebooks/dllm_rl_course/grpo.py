"""The exercises of *GRPO, piece by piece*: credit, the mask-seed index, a penalty with the
right gradient."""

from __future__ import annotations

import torch

from .verdict import attempt, differs, judge, raised, result_of, tensor_differs


def exercise_1(answer) -> None:
    """Rewards (1, 0, 0, 0): the right sibling's (group_mean, leave_one_out, z_score), and anyone's
    z_score if all are 1."""

    def at(i: int, *values: float) -> bool:
        return any(not differs(answer[i], v, 5e-3) for v in values)

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 4,
                "give four numbers: (group_mean, leave_one_out, z_score, z_score in the dead "
                "group)",
            ),
            (
                lambda: at(0, -0.25) or at(1, -1 / 3) or at(2, -0.5),
                "that is a wrong sibling's: ask for the right one's",
            ),
            (
                lambda: at(0, 1) and at(1, 0.75),
                "the first two are swapped: whose mean contains the sibling's own reward?",
            ),
            (lambda: at(0, 1), "group_mean subtracts the mean of all four, the right one included"),
            (lambda: not at(0, 0.75), "group_mean: 1 minus the mean of all four"),
            (
                lambda: at(1, 9 / 16),
                "leave-one-out is G / (G - 1) times group_mean, not (G - 1) / G",
            ),
            (lambda: not at(1, 1), "leave-one-out: 1 minus the mean of the other three"),
            (
                lambda: at(2, 3**0.5),
                "that is with G below the line: the standard deviation here has G - 1 = 3",
            ),
            (lambda: at(2, 2), "z_score divides group_mean by the spread, not leave-one-out"),
            (lambda: at(2, 3), "you divided by the variance; take its square root"),
            (
                lambda: not at(2, 1.5),
                "z_score: 0.75 divided by the standard deviation, sqrt((0.75^2 + 3 * 0.25^2) / 3)",
            ),
            (
                lambda: differs(answer[3], 0, 1e-9),
                "in a dead group reward minus mean is exactly 0, and 0 / (0 + eps) is 0: no "
                "sibling teaches anything",
            ),
        ],
    )


def exercise_2(seed_index) -> None:
    """seed_index(step, mu, ga) -> int, step = 1, 2, 3, ...: the inner update that this micro-batch
    belongs to."""
    cases = [(mu, ga) for mu in (1, 2, 3, 12) for ga in (1, 2, 3, 4)]
    steps = [(s, mu, ga) for mu, ga in cases for s in range(1, 2 * mu * ga + 1)]
    outcome = attempt(lambda: [seed_index(*s) for s in steps]) if callable(seed_index) else None

    def follows(rule) -> bool:
        return all(float(got) == rule(*s) for got, s in zip(outcome, steps, strict=True))

    judge(
        "exercise 2",
        result_of(seed_index, 1, 2, 2),
        [
            (lambda: not callable(seed_index), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(v is None for v in outcome), "for some steps it returns None"),
            (
                lambda: follows(lambda s, mu, ga: s % mu),
                "that is the published line: it counts micro-batches as if they were inner updates",
            ),
            (
                lambda: follows(lambda s, mu, ga: (s - 1) % mu),
                "the shift by one is undone, but it still counts micro-batches: ga of them make "
                "one inner update",
            ),
            (
                lambda: follows(lambda s, mu, ga: s // ga % mu),
                "the last micro-batch of each update is one ahead: the counter has already been "
                "incremented",
            ),
            (
                lambda: follows(lambda s, mu, ga: (s - 1) % ga),
                "that is the chunk of the rollouts, 0..ga - 1; ask for the inner update, 0..mu - 1",
            ),
            (
                lambda: follows(lambda s, mu, ga: (s - 1) // ga),
                "it never returns to 0: after mu updates there are new rollouts, with seeds of "
                "their own",
            ),
            (
                lambda: (
                    follows(lambda s, mu, ga: (s - 1) // mu % ga)
                    or follows(lambda s, mu, ga: (s - 1) // mu % mu)
                ),
                "mu and ga are swapped: the inner update changes after every ga micro-batches",
            ),
            (
                lambda: (
                    not all(
                        float(v) == int(v) and 0 <= v < mu
                        for v, (_, mu, _) in zip(outcome, steps, strict=True)
                    )
                ),
                "the index must be a whole number in 0..mu - 1",
            ),
            (
                lambda: not follows(lambda s, mu, ga: (s - 1) // ga % mu),
                "with ga = 2, mu = 3 the steps 1, 2, 3, ... must give 0, 0, 1, 1, 2, 2, 0, 0, ...",
            ),
        ],
    )


def exercise_3(kl_loss) -> None:
    """kl_loss(logp, old, ref) per token: mean gradient over tokens from `old` is that of KL(policy
    || ref), anywhere."""
    generator = torch.Generator().manual_seed(6)
    logits, old, ref = torch.randn(3, 5, generator=generator, dtype=torch.float64).log_softmax(-1)

    def gradient(loss, at: torch.Tensor, under: torch.Tensor) -> torch.Tensor:
        leaf = at.clone().requires_grad_()
        logp = leaf.log_softmax(-1)
        total = (under.exp() * loss(logp, under.detach().clone(), ref.clone())).sum()
        return torch.autograd.grad(total, leaf)[0] if total.requires_grad else torch.zeros_like(at)

    def matches(loss, *wheres) -> bool:
        return all(
            not tensor_differs(gradient(kl_loss, a, u), gradient(loss, a, u), 1e-9)
            for a, u in wheres
        )

    def truth(p, o, r):
        return (p - o).exp() * (p - r)

    on, off = (
        (logits, logits),
        (logits, old),
    )  # tokens drawn from the policy itself, or from an older one
    outcome = (
        attempt(kl_loss, logits.clone(), old.clone(), ref.clone()) if callable(kl_loss) else None
    )
    judge(
        "exercise 3",
        outcome if callable(kl_loss) else kl_loss,
        [
            (lambda: not callable(kl_loss), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (
                lambda: torch.as_tensor(outcome).shape != logits.shape,
                "return one number a token, of the shape of logp",
            ),
            (
                lambda: not gradient(kl_loss, *on).any() and not gradient(kl_loss, *off).any(),
                "no gradient reaches logp: is something detached?",
            ),
            (
                lambda: matches(lambda p, o, r: p - r, on, off),
                "k1 as a loss: over tokens of the policy its mean gradient is zero. Something "
                "must be weighted by the ratio",
            ),
            (
                lambda: matches(lambda p, o, r: (r - p).exp() - (r - p), on, off),
                "k3 as a loss has the gradient of the other divergence, KL(ref || policy)",
            ),
            (
                lambda: matches(lambda p, o, r: (p - r) ** 2 / 2, on, off),
                "k2 is right while old is the policy itself; these tokens were drawn by an older "
                "one, so weight by the ratio",
            ),
            (
                lambda: matches(
                    lambda p, o, r: (p - o).exp().detach() * ((r - p).exp() - (r - p)), on, off
                ),
                "with the ratio detached, k3 keeps the gradient of KL(ref || policy): let "
                "gradient flow through the ratio",
            ),
            (
                lambda: matches(lambda p, o, r: (p - o).exp().detach() * (p - r), on, off),
                "with the ratio detached, the mean gradient of k1 stays zero: let gradient flow "
                "through the ratio",
            ),
            (
                lambda: matches(lambda p, o, r: (p - o).exp() * (p - r) ** 2 / 2, on, off),
                "the ratio times k2, both with gradient: that is the gradient of k2's mean, which "
                "is not the divergence",
            ),
            (
                lambda: (
                    matches(lambda p, o, r: (p - o).exp() * (r - p), on, off)
                    or matches(lambda p, o, r: -(p - o).exp() * ((r - p).exp() - (r - p)), on, off)
                ),
                "the sign: a loss is minimised, and the divergence must shrink",
            ),
            (
                lambda: matches(truth, on) and not matches(truth, off),
                "right while old is the policy itself, wrong at a distance: weight by the ratio "
                "exp(logp - old), once",
            ),
            (
                lambda: not matches(truth, on, off),
                "the mean gradient over all tokens is not that of KL(policy || ref); enumerate a "
                "small vocabulary and compare",
            ),
        ],
    )
