"""Equal actions on equal canvases, merged: the exact gradient of the visited path for few passes.

An action is a token written at a position of a canvas. Siblings that took the same action on the
same canvas hand back the same gradient, each times its own advantage. The advantages of a group
sum to about zero, so what many siblings did alike mostly cancels: what is left are the canvases on
which they parted. As far as we know this is not published.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..models import distinct_rows
from ..sampler import Rollout
from .views import View, stack


def merge_equal_actions(
    rollout: Rollout, views: list[View], coefficient: Tensor
) -> tuple[Rollout, View]:
    """One view in which each different action on each different canvas stands once.

    For any model, sum of coefficient * weight * log-probability over the scored tokens of all
    views, and its gradient, are those of the merged view, whose coefficients are all 1.

    Args:
        rollout: N rows of L tokens.
        views: of these rows, plain actions: without targets of their own, or an emphasis.
        coefficient: (N, 1) or (N, L) float32, what a token's log-probability is multiplied by
            beside the view's weight.
    Returns:
        M rows of the rollout, one beside each row of the view: they give it its prompt. The view's
        targets are the actions, its weights the summed coefficients. Actions whose sum is zero are
        left out. A canvas with several actions at one position has several rows, which the model
        computes once.
    """
    for view in views:
        if view.target is not None or view.emphasis is not None:
            raise ValueError(
                "only views that score the tokens of the rollout can be merged: these have targets "
                "of their own"
            )
    every = stack(views)
    n, length = rollout.tokens.shape
    owner = torch.arange(n, device=rollout.tokens.device).repeat(len(views))
    weight = every.weight * coefficient.expand(n, length).repeat(len(views), 1)
    first, canvas = distinct_rows(every.tokens, rollout.prompt_mask[owner])

    row, position = every.scored.nonzero().unbind(1)
    action = torch.stack([canvas[row], position, rollout.tokens[owner[row], position]], 1)
    kind, number = action.unique(dim=0, return_inverse=True)
    # In double precision, so that what cancels is zero, or as good as that.
    total = torch.zeros(len(kind), dtype=torch.float64, device=weight.device)
    total = total.index_add(0, number, weight[row, position].double())
    size = torch.zeros_like(total).index_add(0, number, weight[row, position].double().abs())
    live = total.abs() > 1e-6 * size
    kind, total = kind[live], total[live]

    # The actions of a canvas at one position stand in rows 0, 1, ... of that canvas.
    place = kind[:, 0] * length + kind[:, 1]
    begins = torch.searchsorted(place, place)
    layer = torch.arange(len(place), device=place.device) - begins
    key = torch.stack([kind[:, 0], layer], 1)
    rows, slot = key.unique(dim=0, return_inverse=True)
    source = first[rows[:, 0]]
    scored = torch.zeros(len(rows), length, dtype=torch.bool, device=weight.device)
    scored[slot, kind[:, 1]] = True
    summed = torch.zeros(len(rows), length, device=weight.device)
    summed[slot, kind[:, 1]] = total.float()
    target = torch.zeros(len(rows), length, dtype=torch.long, device=weight.device)
    target[slot, kind[:, 1]] = kind[:, 2]
    merged = View(every.tokens[source], scored, summed, target)
    return rollout.select(owner[source]), merged
