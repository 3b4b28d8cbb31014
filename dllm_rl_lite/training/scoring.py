"""What an update learns from: its views, drawn, and their log-probabilities under the old and the
reference policy.

What the loss is divided by is computed here, of the whole batch, so that micro-batches change
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ..estimators import View, estimate, merge_equal_actions, stack, token_logprobs
from ..methods import Method, Numbers
from ..models import MaskedDiffusionLM, Passes, add_passes, count_passes
from ..objectives import divisors
from ..processes import own_part
from ..sampler import Rollout


@dataclass(frozen=True)
class UpdateBatch:
    """A batch to learn from: views with the old and reference log-probabilities taken before the
    first update."""

    rollout: Rollout
    # (N,), (N, T) where credit differs by step (views then have one), or (N, L) where it does by
    # token
    advantage: Tensor
    views: list[View]
    # (N, L), one per view; or a single one, the estimates summed over the views
    old: list[Tensor | None]  # None: the current policy is the old one
    ref: list[Tensor | None]  # None: no KL penalty
    row_sizes: Tensor  # (N, 1) float32: what the losses of each row are divided by
    normaliser: float  # what the sum over all rows of the batch is then divided by
    passes: Passes = field(default_factory=Passes)  # that scoring took
    fresh: bool = False  # is the policy still the old one, although `old` was scored?


def mask_seeds(inner_updates: int, published: bool) -> list[list[int]]:
    """Which of the masks 0..mu - 1 each inner update uses, for each chunk of the rows.

    Args:
        inner_updates: mu.
        published: False: update i uses mask i, for all rows. True: as in the releases of d1 and
            DiffuCoder, whose rows come in two micro-batches (gradient accumulation 2) and whose
            counter, already incremented, counts micro-batches instead of updates: chunk c of update
            i uses mask (2 i + c + 1) mod mu. With mu = 2 each chunk then sees one mask only, with
            mu = 12 six of twelve.
    Returns:
        for each update one mask for all rows, or one for each of two chunks.
    """
    if not published:
        return [[i] for i in range(inner_updates)]
    counters = torch.arange(1, 2 * inner_updates + 1) % inner_updates
    return counters.view(inner_updates, 2).tolist()


def score_views(
    lm: MaskedDiffusionLM,
    reference: MaskedDiffusionLM | None,
    method: Method,
    numbers: Numbers,
    rollout: Rollout,
    advantage: Tensor,
    generator: torch.Generator | list[torch.Generator],
    fresh: bool = False,
    micro_batch: int = 0,
) -> UpdateBatch:
    """Draw the views of one update, and score them under the old (current) and the reference
    policy, without gradient.

    With one inner update the old policy is the current one, so its pass is saved. Without a KL
    penalty rows of zero credit cannot move the policy, so they are left out (where siblings are
    compared, groups of them); what the loss is divided by still counts them. A loss of pairs takes
    the rows that have an advantage, two by two.

    Args:
        lm: the current policy.
        reference: the policy that the penalty pulls to; may be None without a penalty.
        method: the recipe of the views, and the objective.
        rollout: N rows.
        advantage: (N,), (N, T) by step or (N, L) by token, float32.
        generator: draws the views; several draw those of as many equal chunks of the rows.
        fresh: is the update the first on these rollouts?
        micro_batch: rows that are scored at a time, 0: all.
    Raises:
        ValueError: if no token is scored.
    """
    if isinstance(generator, torch.Generator):
        generator = [generator]
    if not len(advantage):  # the method kept no row
        none = advantage.new_zeros(0, 1)
        return UpdateBatch(
            rollout, advantage, views=[], old=[], ref=[], row_sizes=none, normaliser=1
        )
    with count_passes(lm) as drawing:
        views = draw_views(lm, method, numbers, rollout, advantage, generator, micro_batch)
    row_sizes, normaliser = batch_divisors(method, numbers, losses_of_tokens(method, views))
    rows = own_part(rows_to_score(method, numbers, advantage)).flatten()
    rollout = rollout.select(rows)
    views = [v.select(rows) for v in views]
    if method.merged and numbers.kl == 0 and len(rows):
        shares = advantage[rows].view(len(rows), -1) / row_sizes[rows]
        return merged_batch(rollout, views, shares, normaliser)

    objective = method.objective
    entries = len(views) if objective.level == "view" else 1
    old: list = [None] * entries
    ref: list = [None] * entries
    with count_passes(lm, reference) as passes:
        if len(rows) and numbers.inner_updates > 1 and objective.uses_old:
            old = view_logprobs(lm, method, numbers, rollout, views, micro_batch)
        if len(rows) and objective.uses_reference(numbers.kl):
            ref = view_logprobs(reference, method, numbers, rollout, views, micro_batch)
    return UpdateBatch(
        rollout=rollout,
        advantage=advantage[rows],
        views=views,
        old=old,
        ref=ref,
        row_sizes=row_sizes[rows],
        normaliser=normaliser,
        passes=add_passes([drawing, passes]),
        fresh=fresh,
    )


def losses_of_tokens(method: Method, views: list[View]) -> Tensor:
    """(N, L): how many losses each token carries; ValueError if there are none."""
    if method.objective.level == "view":
        # A token of weight 0 has no loss: end tokens after the text in `all_steps`.
        losses = torch.stack([v.scored & (v.weight != 0) for v in views]).sum(0)
    else:
        losses = scored_by_any(views)
    if not losses.any():
        raise ValueError(
            f"{method.name}: no token of the batch is scored, so there is nothing to learn from"
        )
    return losses


def rows_to_score(method: Method, numbers: Numbers, advantage: Tensor) -> Tensor:
    """(R, G) indices of the rows that can move the policy, those that are never cut apart in one
    line; ValueError for pairs that would cross groups."""
    objective = method.objective
    rows = torch.arange(len(advantage), device=advantage.device)
    if objective.level == "pair":
        live = (advantage != 0).view(len(advantage), -1).any(1)
        odd = live.view(-1, numbers.group).sum(1) % 2
        if odd.any():
            raise ValueError(
                f"{method.name} compares pairs, so each group needs an even number of rows with an "
                f"advantage: group {int(odd.argmax())} has an odd one"
            )
        rows = rows[live]
    rows = rows.view(-1, objective.rows_together(numbers.group))
    if numbers.kl == 0:
        rows = rows[(advantage[rows] != 0).flatten(1).any(1)]
    return rows


def merged_batch(
    rollout: Rollout, views: list[View], shares: Tensor, normaliser: float
) -> UpdateBatch:
    """A batch in which equal actions on equal canvases stand once. shares: (N, 1) or (N, L), the
    advantages divided by the size of their rows; the merged view's weights hold their sums, so each
    of its rows has advantage and size 1."""
    rows, view = merge_equal_actions(rollout, views, shares)
    ones = torch.ones(len(view.tokens), device=shares.device)
    return UpdateBatch(
        rollout=rows,
        advantage=ones,
        views=[view],
        old=[None],
        ref=[None],
        row_sizes=ones[:, None],
        normaliser=normaliser,
    )


def batch_divisors(method: Method, numbers: Numbers, losses: Tensor) -> tuple[Tensor, float]:
    """What the losses of a batch are divided by: `divisors`, of the method's average.

    With `published_quirks` a token mean is that of the releases, whose trainers average every
    micro-batch by itself, whatever its number of tokens, and then the micro-batches of all devices.
    A micro-batch of d1 is a group; DiffuCoder's, half of one. losses: `losses_of_tokens`.
    """
    average = method.objective.average
    rows = numbers.group
    if numbers.published_quirks and average == "token":
        average = "group"
        rows = numbers.group // method.pieces_of_a_group
    return divisors(losses, average, rows)


def draw_views(
    lm: MaskedDiffusionLM,
    method: Method,
    numbers: Numbers,
    rollout: Rollout,
    advantage: Tensor,
    generators: list[torch.Generator],
    micro_batch: int,
) -> list[View]:
    """The views of all rows; each generator draws those of one of as many equal chunks. A recipe
    that asks for `score` can have views scored under the current policy."""
    score = partial(view_logprobs, lm, method, numbers, micro_batch=micro_batch)
    rows = torch.arange(len(advantage), device=advantage.device)
    parts = []
    for chunk, generator in zip(rows.tensor_split(len(generators)), generators, strict=True):
        known = {
            "rollout": rollout.select(chunk),
            "generator": generator,
            "credit": advantage[chunk],
            "score": score,
        }
        parts.append(method.views(**known, **numbers.views))
    return [stack(list(same)) for same in zip(*parts, strict=True)]


@torch.no_grad()
def view_logprobs(
    model: MaskedDiffusionLM,
    method: Method,
    numbers: Numbers,
    rollout: Rollout,
    views: list[View],
    micro_batch: int,
) -> list[Tensor]:
    """(N, L) of each view, or the one estimate from all; `micro_batch` rows at a time, 0: all."""
    temperature = scoring_temperature(method, numbers)
    n = len(rollout.tokens)
    parts = []
    for rows in torch.arange(n, device=rollout.tokens.device).split(micro_batch or n):
        part = rollout.select(rows)
        seen = [v.select(rows) for v in views]
        if method.objective.level == "view":
            parts.append([token_logprobs(model, part, v, temperature) for v in seen])
        else:
            parts.append([estimate(model, part, seen, temperature)])
    return [torch.cat(same) for same in zip(*parts, strict=True)]


def scoring_temperature(method: Method, numbers: Numbers) -> float:
    """The temperature under which views are scored."""
    if method.tempered:
        return numbers.temperature
    return 1.0


def scored_by_any(views: list[View]) -> Tensor:
    """(N, L) bool: the tokens that at least one view scores."""
    return torch.stack([v.scored for v in views]).any(0)
