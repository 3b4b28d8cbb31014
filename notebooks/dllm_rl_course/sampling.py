"""The exercises of *Sampling is a policy*: unmasking rules."""

from __future__ import annotations

import torch

from .verdict import differs, judge, result_of, tensor_differs


def exercise_1(answer) -> None:
    """Share of a minority truth (0.3) that two tied positions spell: (confidence, random,
    temperature 0)."""

    def at(i: int, *values: float) -> bool:
        return any(not differs(answer[i], v, 2e-3) for v in values)

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers: (confidence, random, temperature 0)",
            ),
            (
                lambda: any(not 0 <= float(v) <= 1 for v in answer),
                "shares lie between 0 and 1: write 0.25, not 25",
            ),
            (
                lambda: not at(2, 0),
                "at temperature 0 every position proposes its likeliest token, so the minority is "
                "never written",
            ),
            (
                lambda: at(0, 0.3) and at(1, 0.09),
                "the two orders are swapped: which of them looks at the drawn candidates?",
            ),
            (
                lambda: at(1, 0.09),
                "in random order the first revealed position decides the other one: one draw, not "
                "two",
            ),
            (
                lambda: not at(1, 0.3),
                "random order does not look at the candidates, so it leaves the shares as they are",
            ),
            (
                lambda: at(0, 0.3),
                "0.3 is the model's own share; confidence order compares two draws and keeps the "
                "surer one",
            ),
            (
                lambda: at(0, 0.51),
                "one position with the truth is not enough: the other one's candidate is surer, "
                "and wins",
            ),
            (
                lambda: at(0, 0.42, 0.21),
                "where the two candidates disagree, the surer one is revealed, and that is the "
                "habit",
            ),
            (
                lambda: at(0, 0.49),
                "0.49 is the chance that both positions propose the habit; ask for the truth",
            ),
            (
                lambda: not at(0, 0.09),
                "the truth is written only if both positions propose it in the same forward pass",
            ),
        ],
    )


def exercise_2(threshold_reveal) -> None:
    """threshold_reveal(confidence (n, L), active (n, L) bool, tau) -> (n, L) bool, as
    `sampler.Threshold` reveals."""
    generator = torch.Generator().manual_seed(2)
    # twentieths that all differ within a row: no ties, and tau itself occurs
    c = torch.stack([(torch.randperm(19, generator=generator)[:8] + 1) / 20 for _ in range(64)])
    active = torch.rand(64, 8, generator=generator) < 0.6
    active[0], active[1] = False, True
    tau = float(c[1].median())
    surest = _highest(c, active)
    wanted = (active & (c >= tau)) | surest

    def got() -> torch.Tensor:
        return torch.as_tensor(threshold_reveal(c.clone(), active.clone(), tau)).cpu()

    judge(
        "exercise 2",
        result_of(threshold_reveal, c.clone(), active.clone(), tau),
        [
            (
                lambda: not callable(threshold_reveal),
                "pass the function itself, not what it returns",
            ),
            (lambda: got() is None, "it returns None"),
            (lambda: got().dtype != torch.bool, "return a tensor of bools"),
            (lambda: got().shape != c.shape, "return one bool a position: the shape of confidence"),
            (
                lambda: torch.equal(got(), (c >= tau) | _highest(c, torch.ones_like(active))),
                "it reveals positions that are not active: they are written already, or wait in a "
                "later block",
            ),
            (
                lambda: torch.equal(got(), active & (c >= tau)),
                "a row whose candidates are all below tau reveals nothing and would never end: "
                "add its surest one",
            ),
            (
                lambda: (
                    torch.equal(got(), (active & (c >= tau)) | _highest(c, torch.ones_like(active)))
                    or torch.equal(
                        got(), active & ((c >= tau) | _highest(c, torch.ones_like(active)))
                    )
                ),
                "the surest position is sought among all positions: seek it among the active ones",
            ),
            (
                lambda: torch.equal(got(), (active & (c > tau)) | surest),
                "a candidate exactly at tau is revealed too: >=, not >",
            ),
            (
                lambda: torch.equal(got(), surest),
                "it reveals the surest one only: also every other one with confidence >= tau",
            ),
            (lambda: bool((got() & ~active).any()), "it reveals positions that are not active"),
            (
                lambda: not torch.equal(got(), wanted),
                "it differs from the package's Threshold; reveal what is active and >= tau, or "
                "the surest active one",
            ),
        ],
    )


def exercise_3(gate_logprob) -> None:
    """gate_logprob(confidence, active, reveal, tau, kappa) -> (n,): the log of P(Gate reveals that
    set)."""
    tau, kappa = 0.6, 0.5
    active = torch.tensor([True, True, False, True])
    reveal = torch.tensor([[b >> i & 1 for i in range(4)] for b in range(16)]).bool()
    reveal = reveal[~(reveal & ~active).any(1)]  # the 8 subsets of three active positions
    active = active.expand_as(reveal)
    c = torch.tensor([0.9, 0.7, 0.95, 0.3]).double().expand_as(reveal)
    p = ((c - tau).clamp(min=0) / (1 - tau)) ** kappa
    chosen, none, alone, some = _gate_terms(p, active, reveal, c)
    wanted = torch.where(alone, chosen + none, chosen) * some
    low = (
        torch.full_like(c, 0.5) + torch.arange(4) / 100
    )  # every candidate below tau: the surest one, surely
    wanted_low = (reveal.sum(1) == 1) & reveal[:, 3]

    def call(confidence: torch.Tensor) -> torch.Tensor:
        value = gate_logprob(confidence.clone(), active.clone(), reveal.clone(), tau, kappa)
        return torch.as_tensor(value).detach().cpu().double()

    def same(candidate: torch.Tensor) -> bool:
        return not tensor_differs(call(c).exp(), candidate, 1e-5)

    linear = _gate_terms((c - tau).clamp(min=0) / (1 - tau), active, reveal, c)
    judge(
        "exercise 3",
        result_of(gate_logprob, c.clone(), active.clone(), reveal.clone(), tau, kappa),
        [
            (lambda: not callable(gate_logprob), "pass the function itself, not what it returns"),
            (lambda: call(c).shape != wanted.shape, "return one number a row, of shape (n,)"),
            (
                lambda: not tensor_differs(call(c), wanted, 1e-5),
                "these are the probabilities: return their logarithm",
            ),
            (
                lambda: same(chosen) or same(chosen * some),
                "where the gate picks none, the surest position is revealed all the same: that "
                "case belongs to its set, and "
                "to no other",
            ),
            (
                lambda: same(torch.where(alone, chosen + none, chosen)),
                "the empty set cannot happen: at least one is revealed",
            ),
            (
                lambda: (
                    same(torch.where(reveal, p, 1.0).prod(1))
                    or same(torch.where(reveal, p, 1.0).prod(1) * some)
                ),
                "the positions that stay masked count as well: each was passed over with "
                "probability 1 - p",
            ),
            (
                lambda: same(torch.where(alone, none, chosen) * some),
                "the surest alone can come about in two ways: the gate picks just it, or picks "
                "none; add the two "
                "probabilities",
            ),
            (
                lambda: same(torch.where(linear[2], linear[0] + linear[1], linear[0]) * some),
                "kappa is missing: raise to it",
            ),
            (
                lambda: same(_all_positions(p, reveal, alone, none, some)),
                "positions that are not active do not take part: leave their 1 - p out",
            ),
            (
                lambda: bool(call(c).isnan().any()),
                "it has not-a-number entries: 0 times log 0; multiply probabilities, then log",
            ),
            (
                lambda: not same(wanted),
                "the probabilities of the sets are not the gate's; over all sets they must sum to "
                "1",
            ),
            (
                lambda: tensor_differs(call(low).exp(), wanted_low.double(), 1e-5),
                "where every candidate is below tau the surest active one is revealed with "
                "probability 1",
            ),
        ],
    )


def _highest(c: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """(n, L) bool: the position of the largest allowed value of each row; none where nothing is
    allowed."""
    best = c.masked_fill(~allowed, float("-inf")).argmax(1, keepdim=True)
    return torch.zeros_like(allowed).scatter(1, best, True) & allowed


def _gate_terms(p: torch.Tensor, active: torch.Tensor, reveal: torch.Tensor, c: torch.Tensor):
    """Of each set: the gate picks exactly it; the gate picks none; is it the surest alone; is it
    not empty."""
    chosen = torch.where(active, torch.where(reveal, p, 1 - p), 1.0).prod(1)
    none = torch.where(active, 1 - p, 1.0).prod(1)
    return chosen, none, (reveal == _highest(c, active)).all(1), reveal.any(1)


def _all_positions(p, reveal, alone, none, some) -> torch.Tensor:
    """The gate's distribution as it looks where inactive positions are counted as passed over."""
    chosen = torch.where(reveal, p, 1 - p).prod(1)
    return torch.where(alone, chosen + (1 - p).prod(1), chosen) * some
