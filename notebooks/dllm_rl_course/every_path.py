"""The exercises of *Every path, counted*: counting the paths of a text."""

from __future__ import annotations

import itertools
import math

import torch

from .verdict import differs, judge, result_of


def exercise_1(answer) -> None:
    """(orders of 6 blanks, canvases forwarded for them, probability of a two-letter text in random
    order)."""

    def p(*values: float) -> bool:
        return any(not differs(answer[2], v, 1e-4) for v in values)

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers: (orders, canvases, probability)",
            ),
            (
                lambda: float(answer[0]) in (63, 64) and float(answer[1]) == 720,
                "orders and canvases are swapped",
            ),
            (
                lambda: differs(answer[0], 720),
                "orders: six choices for the first token, five for the second, and so on",
            ),
            (
                lambda: float(answer[1]) == 64,
                "the finished canvas has no blank left: there is nothing to ask the model",
            ),
            (
                lambda: differs(answer[1], 63),
                "canvases: each position is written or blank, and at least one is blank",
            ),
            (
                lambda: p(0.58),
                "that is the sum over both orders; each order comes up with probability 1/2 only",
            ),
            (
                lambda: p(0.1, 0.05),
                "0.5 x 0.2 writes both letters in one step: the second must be asked again after "
                "the first",
            ),
            (
                lambda: p(0.4, 0.18, 0.2, 0.09),
                "that is one order only: there are two ways to write the text",
            ),
            (
                lambda: p(0.72, 0.36),
                "0.8 and 0.9 are asked in different orders: they never belong to one path",
            ),
            (lambda: p(29), "give a probability, not a percentage: 0.25, not 25"),
            (
                lambda: not p(0.29),
                "for each order: first letter times second letter given the first; then the mean "
                "of the two",
            ),
        ],
    )


def exercise_2(elbo_by_subsets) -> None:
    """elbo_by_subsets(logq (2^n, n) float64) -> the mean over all orders of the sum of the
    log-probabilities."""
    logq = _random_laws(4, 3)
    wanted = _elbo(logq, lambda m, u: 1 / (m * math.comb(m + u, u)))

    def is_(value: float) -> bool:
        return not differs(elbo_by_subsets(logq.clone()), value, 1e-6)

    judge(
        "exercise 2",
        result_of(elbo_by_subsets, logq.clone()),
        [
            (
                lambda: not callable(elbo_by_subsets),
                "pass the function itself, not what it returns",
            ),
            (
                lambda: torch.as_tensor(elbo_by_subsets(logq.clone())).numel() != 1,
                "return one number",
            ),
            (
                lambda: is_(_few_steps(logq, [1] * 4)),
                "this is log p, the logarithm of a mean; the ELBO is the mean of the logarithms",
            ),
            (
                lambda: is_(-wanted),
                "the sign is turned: an ELBO is a log-probability, so not above 0",
            ),
            (
                lambda: is_(wanted / 4),
                "this is per token: do not divide by n, an order's score is the sum over its n "
                "tokens",
            ),
            (
                lambda: is_(_elbo(logq, lambda m, u: 1 / math.comb(m + u, u))),
                "all blanks of a canvas are counted in full: an order writes one of them there, "
                "each with chance 1 / (number of "
                "blanks)",
            ),
            (
                lambda: is_(_elbo(logq, lambda m, u: 1 / m)),
                "every canvas is counted as if all orders came by: of size |U| there are C(n, "
                "|U|), each order meets one of them",
            ),
            (
                lambda: is_(_elbo(logq, lambda m, u: 1 / 2 ** (m + u))),
                "all canvases are weighted alike: an order meets one of each size, not one of all "
                "2^n",
            ),
            (
                lambda: is_(_elbo(logq, lambda m, u: 1 / math.comb(m + u, m) / (m + u))),
                "the next token is one of the blanks, n - |U| of them, not one of n",
            ),
            (
                lambda: is_(0.0),
                "this reads the written positions: bit i of U is 1 where position i is written",
            ),
            (
                lambda: not is_(wanted),
                "the weight of (U, i) is the chance that a random order goes from U to U + i",
            ),
            (
                lambda: differs(elbo_by_subsets(logq[:2, :1].clone()), float(logq[0, 0]), 1e-6),
                "with a single position the ELBO is its log-probability on the empty canvas",
            ),
        ],
    )


def exercise_3(few_steps_logprob) -> None:
    """few_steps_logprob(logq (2^n, n) float64, steps) -> log p in random order, the tokens spread
    over the steps."""
    logq = _random_laws(5, 4)
    counts = {5: [1] * 5, 3: [2, 2, 1], 2: [3, 2], 1: [5]}

    def got(steps: int):
        return few_steps_logprob(logq.clone(), steps)

    def same(change) -> bool:
        return all(not differs(got(steps), change(steps), 1e-6) for steps in (3, 2))

    judge(
        "exercise 3",
        result_of(few_steps_logprob, logq.clone(), 2),
        [
            (
                lambda: not callable(few_steps_logprob),
                "pass the function itself, not what it returns",
            ),
            (lambda: torch.as_tensor(got(2)).numel() != 1, "return one number"),
            (
                lambda: same(lambda s: math.exp(_few_steps(logq, counts[s]))),
                "this is the probability: return its logarithm",
            ),
            (
                lambda: same(lambda s: _few_steps(logq, counts[5])),
                "this is one token a step: tokens of one step are all asked on the canvas before "
                "it, none sees the others",
            ),
            (
                lambda: same(lambda s: _few_steps(logq, counts[s][::-1])),
                "the remainder comes first: 5 tokens in 2 steps are 3 and then 2",
            ),
            (
                lambda: same(lambda s: _few_steps(logq, counts[s], math.perm)),
                "the positions of one step come as a set, without an order: there are C(m, k) of "
                "them",
            ),
            (
                lambda: same(lambda s: _few_steps(logq, counts[s], lambda m, k: 1)),
                "each set of k blanks comes up with chance 1 / C(m, k): without it the texts do "
                "not sum to 1",
            ),
            (
                lambda: same(lambda s: _few_steps(logq, counts[s], lambda m, k: m**k)),
                "k positions out of m without repetition: C(m, k) sets, not m to the k",
            ),
            (
                lambda: any(differs(got(s), _few_steps(logq, counts[s]), 1e-6) for s in counts),
                "it differs from the exact probability: P(U + R) gains P(U) / C(m, k) times the "
                "product of q over the set R",
            ),
        ],
    )


def _random_laws(n: int, seed: int) -> torch.Tensor:
    """(2^n, n) float64: a log-probability for each blank of each canvas, 0 where written (bit i of
    U is 1)."""
    logq = (
        -3 * torch.rand(2**n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        - 0.05
    )
    written = (torch.arange(2**n)[:, None] >> torch.arange(n)) & 1 == 1
    return logq.masked_fill(written, 0.0)


def _elbo(logq: torch.Tensor, weight) -> float:
    """Sum of weight(number of blanks, number written) times logq over all canvases and their
    blanks."""
    n = logq.shape[1]
    return sum(
        weight(n - U.bit_count(), U.bit_count()) * float(logq[U, i])
        for U in range(2**n)
        for i in range(n)
        if not U >> i & 1
    )


def _few_steps(logq: torch.Tensor, counts: list[int], sets=math.comb) -> float:
    """log p with counts[s] tokens in step s; sets(m, k): by how many sets of k out of m blanks to
    divide."""
    n, p = logq.shape[1], {0: 1.0}
    for k in counts:
        after: dict[int, float] = {}
        for U, before in p.items():
            blanks = [i for i in range(n) if not U >> i & 1]
            for revealed in itertools.combinations(blanks, k):
                step = math.exp(sum(float(logq[U, i]) for i in revealed)) / sets(len(blanks), k)
                V = U | sum(1 << i for i in revealed)
                after[V] = after.get(V, 0.0) + before * step
        p = after
    return math.log(p[2**n - 1])
