"""Likelihood estimators as recipes for masked views: which masked copies of a finished text score
its tokens?

A recipe returns `View`s; `token_logprobs` turns any view into log-probabilities. The same views
serve the new, the old and the reference policy, so the noise of the masks cancels in every ratio.
The sum over views of weight times log-probability estimates log p(text), unless a card says
otherwise. Given (anchored) tokens are never masked nor scored. All chance comes from the generator
passed in.

"Error" in a card names the truth it is held against: the log-likelihood of the random-order
decoder, its lower bound (ELBO), or the path that was taken; `exact.py` computes all three.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ..sampler import Rollout, top
from .steps import all_steps, visited_steps
from .views import View, masked_view


def random_subset(allowed: Tensor, count: Tensor, generator: torch.Generator) -> Tensor:
    """Random positions of each row, every such set equally likely.

    Args:
        allowed: (N, L) bool, the positions to choose from.
        count: (N,) int64, how many; all allowed ones if there are fewer.
        generator: draws them.
    Returns:
        (N, L) bool.
    """
    return top(_uniform(allowed.shape, generator, allowed.device), allowed, count)


def _uniform(
    shape: int | Sequence[int], generator: torch.Generator, device: torch.device
) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).to(device)


def one_step(
    rollout: Rollout, generator: torch.Generator, p_mask_prompt: float = 0.15
) -> list[View]:
    """diffu-GRPO's likelihood: the whole completion masked at once, one forward pass.

    Args:
        rollout: N rows.
        generator: draws the prompt masks, a new draw at every call.
        p_mask_prompt: chance in [0, 1] that a prompt token (template included, padding not) is
            masked; 0: none.
    Returns:
        one view; it scores every sampled token up to and including the first end-of-sequence token,
        weight 1.
    Raises:
        ValueError: if p_mask_prompt is not in [0, 1].
    Source: d1 (arXiv 2504.12216). The released code also masks padding and lets it be attended to;
    here it is neither.
    Error: biased for every decoder that takes more than one step (each token is scored as if it saw
    no other), exact for one that reveals all tokens in one step with p_mask_prompt = 0:
    `tests/estimators/test_estimators.py`.
    """
    if not 0 <= p_mask_prompt <= 1:
        raise ValueError(f"p_mask_prompt must be in [0, 1], got {p_mask_prompt}")
    noise = _uniform(rollout.prompt.shape, generator, rollout.prompt.device)
    hidden = (noise < p_mask_prompt) & rollout.prompt_mask
    prompt = torch.where(hidden, rollout.mask_id, rollout.prompt)
    canvas = torch.where(rollout.sampled, rollout.mask_id, rollout.tokens)
    scored = rollout.until_eos & rollout.sampled
    return [View(torch.cat([prompt, canvas], 1), scored, scored.float())]


COUNTS = ("stratified", "llada", "bernoulli")


def random_masks(
    rollout: Rollout, generator: torch.Generator, n: int = 1, counts: str = "stratified"
) -> list[View]:
    """The ELBO by Monte Carlo: n random masks of every sampled token, the end-of-sequence tail
    included.

    Args:
        rollout: N rows.
        generator: draws the masks.
        n: >= 1, views, so forward passes.
        counts: how many of a row's m tokens are masked. "stratified": x = 1..m, spread evenly over
            the n views from a random start, weight m / x; "llada": the same with the rounding of
            LLaDA's released likelihood; "bernoulli": each token with chance t, weight 1 / t, t
            uniform on [0.001, 1] (the training loss of LLaDA).
    Returns:
        n views; every masked token is scored, with its weight divided by n.
    Raises:
        ValueError: if n < 1 or the counts are unknown.
    Source: LLaDA (arXiv 2502.09992), eq. 3, and `get_log_likelihood`; MDLM.
    Error: unbiased for the ELBO, so biased downwards for log p(text). Noise falls as 1/sqrt(n);
    "bernoulli" is noisier: 1/t, and a random count. "llada" is biased for the ELBO if m j / n is a
    half: halves round to even, so some counts come up twice as often and some never:
    `tests/estimators/test_elbo_estimators.py`.
    """
    if n < 1 or counts not in COUNTS:
        raise ValueError(f"need n >= 1 and counts one of {COUNTS}, got {n} and {counts!r}")
    device = rollout.tokens.device
    allowed = rollout.sampled
    m = allowed.sum(1)
    start = _uniform(m.shape, generator, device)
    views = []
    for j in range(n):
        if counts == "bernoulli":
            t = 1e-3 + (1 - 1e-3) * _uniform(m.shape, generator, device)
            hidden = _uniform(allowed.shape, generator, device) < t[:, None]
            hidden &= allowed
            weight = 1 / (n * t)
        else:
            if counts == "llada":
                x = ((start * m).floor() + 1 + j * m / n).round().long()
                x = (x - 1) % m.clamp(min=1) + 1
            else:
                x = (((start + j / n) % 1) * m).long() + 1
            hidden = random_subset(allowed, x, generator)
            weight = m / (n * x)
        views.append(masked_view(rollout, hidden, hidden, weight[:, None]))
    return views


def coupled(
    rollout: Rollout, generator: torch.Generator, low: float = 0.2, high: float = 0.8
) -> list[View]:
    """DiffuCoder's likelihood: the fully masked canvas, a random mask at rate t, and that mask's
    complement.

    A token's estimate is half of log p (fully masked) + log p (in the copy that masks it) / its
    rate: t or 1 - t.

    Args:
        rollout: N rows.
        generator: draws one t for the whole batch, and the masks.
        low: > 0, the least t.
        high: < 1, the greatest t.
    Returns:
        three views; tokens after the first end-of-sequence are masked like the others but not
        scored.
    Raises:
        ValueError: unless 0 < low <= high < 1.
    Source: DiffuCoder (arXiv 2506.20639), eq. 13 with lambda = 1, and its released code (t in [0.2,
    0.8]).
    Error: not a log-probability: a token's weights sum to 3/2 on average (3 at most), so it is too
    negative by about half and ratios are sharper than those of `one_step`. The pair masks every
    token exactly once, which two independent masks do not:
    `tests/estimators/test_elbo_estimators.py`.
    """
    if not 0 < low <= high < 1:
        raise ValueError(f"need 0 < low <= high < 1, got {low} and {high}")
    device = rollout.tokens.device
    allowed = rollout.sampled
    t = low + (high - low) * float(_uniform(1, generator, device))
    first = _uniform(allowed.shape, generator, device) < t
    scored = rollout.until_eos & allowed
    return [
        masked_view(rollout, allowed, scored, 0.5),
        masked_view(rollout, allowed & first, scored & first, 0.5 / t),
        masked_view(rollout, allowed & ~first, scored & ~first, 0.5 / (1 - t)),
    ]


NODES = {  # name -> [(t, weight)] on [0, 1]
    1: [(0.5, 1.0)],
    2: [(0.5 - 3**-0.5 / 2, 0.5), (0.5 + 3**-0.5 / 2, 0.5)],
    3: [(0.5 - 0.15**0.5, 5 / 18), (0.5, 8 / 18), (0.5 + 0.15**0.5, 5 / 18)],
    "simpson": [(0.1, 1 / 6), (0.5, 4 / 6), (1.0, 1 / 6)],
}


def quadrature(
    rollout: Rollout,
    generator: torch.Generator,
    nodes: int | str = 3,
    n: int = 1,
    nominal: bool = True,
) -> list[View]:
    """GDPO's likelihood: the ELBO's integral over t by quadrature, an exact number of masked tokens
    at each node.

    Args:
        rollout: N rows.
        generator: draws the masks.
        nodes: 1, 2 or 3 Gauss-Legendre nodes, or "simpson" (t = 0.1, 0.5, 1).
        n: >= 1, independent masks per node.
        nominal: weigh by 1/t of the node, as published; False: by 1 / the share really masked.
    Returns:
        nodes x n views; of the m tokens up to the first end-of-sequence, floor(t m), at least 1,
        are masked and scored. Later tokens stay as they are.
    Raises:
        ValueError: if n < 1 or the nodes are unknown.
    Source: GDPO (arXiv 2510.08554), semi-deterministic Monte Carlo.
    Error: biased for the ELBO by the quadrature (none while the integrand, of degree m - 1 in t,
    has degree <= 2 nodes - 1; "simpson" as published is exact for constants only) and by the floor,
    towards too high: fewer tokens are masked than the node asks for, and nominal weights count them
    short (at m = 9 three nodes' weights sum to 8.2, not 9). No noise from t, only from the masks:
    `tests/estimators/test_elbo_estimators.py`.
    """
    if nodes not in NODES or n < 1:
        raise ValueError(f"nodes must be one of {list(NODES)} and n >= 1, got {nodes!r} and {n}")
    allowed = rollout.sampled & rollout.until_eos
    m = allowed.sum(1)
    views = []
    for t, w in NODES[nodes]:
        count = (t * m + 1e-9).long().clamp(min=1)
        share = torch.full_like(m, t, dtype=torch.float64) if nominal else count / m
        for _ in range(n):
            hidden = random_subset(allowed, count, generator)
            views.append(masked_view(rollout, hidden, hidden, (w / (n * share))[:, None]))
    return views


def complement_pairs(
    rollout: Rollout, generator: torch.Generator, n: int = 1, weighting: str = "half"
) -> list[View]:
    """GDSD's likelihood: n pairs of a random mask and its complement, the counts spread evenly over
    the batch's rows.

    Args:
        rollout: N rows.
        generator: draws the masks.
        n: >= 1, pairs, so 2 n forward passes.
        weighting: "half": each token's log-probability, from the copy that masks it, counts 1/2
            (the paper's main runs); "elbo": it counts (m + 1) / (2 x) with x of m tokens masked
            (the weights of its TLC variant).
    Returns:
        2 n views over all sampled tokens, the end-of-sequence tail included; counts run from 0 to
        m.
    Raises:
        ValueError: if n < 1 or the weighting is unknown.
    Source: GDSD (arXiv 2605.29398). The release rounds the evenly spread counts, here they are
    exactly uniform.
    Error: "elbo" is unbiased for the ELBO. "half" is half of a mean over masks of the texts'
    cross-entropy, so roughly half a log-probability: a scale that the method's step size absorbs.
    Each token is scored exactly once per pair: `tests/estimators/test_elbo_estimators.py`.
    """
    if n < 1 or weighting not in ("half", "elbo"):
        raise ValueError(f"need n >= 1 and weighting 'half' or 'elbo', got {n} and {weighting!r}")
    device = rollout.tokens.device
    allowed = rollout.sampled
    m = allowed.sum(1)
    row = torch.arange(len(m), device=device) / max(len(m), 1)
    views = []
    for _ in range(n):
        x = (((_uniform(1, generator, device) + row) % 1) * (m + 1)).long()
        first = random_subset(allowed, x, generator)
        for hidden in (first, allowed & ~first):
            weight = torch.full_like(row, 0.5)
            if weighting == "elbo":
                weight = (m + 1) / (2 * hidden.sum(1).clamp(min=1))
            views.append(masked_view(rollout, hidden, hidden, (weight / n)[:, None]))
    return views


def left_to_right(rollout: Rollout, generator: torch.Generator | None = None) -> list[View]:
    """JustGRPO's likelihood: the text as a left-to-right decoder would write it, one view per
    position.

    View j hides everything from position j on and scores token j.

    Args:
        rollout: N rows.
        generator: not used.
    Returns:
        views up to the last row's first end-of-sequence token, weight 1.
    Source: JustGRPO.
    Error: exact for the left-to-right decoder with one token per step; for another decoder it is
    one path of many: `tests/estimators/test_elbo_estimators.py`.
    """
    scored = rollout.until_eos & rollout.sampled
    position = torch.arange(scored.shape[1], device=scored.device)
    views = []
    for j in scored.any(0).nonzero()[:, 0]:
        hidden = rollout.sampled & (position >= j)
        views.append(masked_view(rollout, hidden, scored & (position == j), 1.0))
    return views


# What `benchmarks/estimators.py` and two chapters compare: (rollout, generator) -> views.
# Names that differ in a last number are one series of the figure. To place a new estimator in it,
# add the function here.
ESTIMATORS: dict[str, Callable[[Rollout, torch.Generator], list[View]]] = {
    "one_step": one_step,
    "one_step whole_prompt": partial(one_step, p_mask_prompt=0.0),
    "random_masks 1": partial(random_masks, n=1),
    "random_masks 2": partial(random_masks, n=2),
    "random_masks 4": partial(random_masks, n=4),
    "random_masks 8": partial(random_masks, n=8),
    "random_masks bernoulli 1": partial(random_masks, n=1, counts="bernoulli"),
    "random_masks bernoulli 2": partial(random_masks, n=2, counts="bernoulli"),
    "random_masks bernoulli 4": partial(random_masks, n=4, counts="bernoulli"),
    "random_masks bernoulli 8": partial(random_masks, n=8, counts="bernoulli"),
    "coupled": coupled,
    "quadrature 1": partial(quadrature, nodes=1),
    "quadrature 2": partial(quadrature, nodes=2),
    "quadrature 3": partial(quadrature, nodes=3),
    "quadrature simpson": partial(quadrature, nodes="simpson"),
    "quadrature shares 3": partial(quadrature, nodes=3, nominal=False),
    "complement_pairs half": complement_pairs,
    "complement_pairs elbo 1": partial(complement_pairs, n=1, weighting="elbo"),
    "complement_pairs elbo 2": partial(complement_pairs, n=2, weighting="elbo"),
    "complement_pairs elbo 4": partial(complement_pairs, n=4, weighting="elbo"),
    "visited_steps 1": partial(visited_steps, k=1),
    "visited_steps 2": partial(visited_steps, k=2),
    "visited_steps 4": partial(visited_steps, k=4),
    "visited_steps 8": partial(visited_steps, k=8),
    "visited_steps entropy 1": partial(visited_steps, k=1, law="entropy"),
    "visited_steps entropy 2": partial(visited_steps, k=2, law="entropy"),
    "visited_steps entropy 4": partial(visited_steps, k=4, law="entropy"),
    "visited_steps entropy 8": partial(visited_steps, k=8, law="entropy"),
    "all_steps": lambda rollout, generator: all_steps(rollout),
    "left_to_right": left_to_right,
}


def one_step_with_answer(
    rollout: Rollout, generator: torch.Generator, p_mask_prompt: float = 0.15, told: bool = False
) -> list[View]:
    """`one_step`, or with `told` an ablation of AG-GRPO: guided reasoning is scored with the true
    answer in view.

    Args:
        rollout, generator, p_mask_prompt: as for `one_step`, which this is for told=False.
        told: score each part under the context it was drawn from: a guided row's reasoning with its
            anchor on the canvas, its answer (and everything of an answer-free row) without.
    Returns:
        one view, or two that share the prompt's masks.
    Raises:
        ValueError: as `one_step`.
    Source: our choice of ablation; the release never shows the anchor to the likelihood.
    """
    (view,) = one_step(rollout, generator, p_mask_prompt)
    if not told or not rollout.guided.any():
        return [view]
    answer = rollout.anchor != rollout.mask_id
    prompt, canvas = view.tokens.split([rollout.prompt.shape[1], answer.shape[1]], 1)
    shown = torch.cat([prompt, torch.where(answer, rollout.anchor, canvas)], 1)
    reasoning = view.scored & ~answer
    rest = view.scored & answer
    return [View(shown, reasoning, reasoning.float()), View(view.tokens, rest, rest.float())]
