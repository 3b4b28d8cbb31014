"""A router that learns by trying: some of its choices are changed, and what that does to the loss
is its reward (in the style of MoE-ERL; of the paper only the abstract was found)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Experts(nn.Module):
    """Several feed-forward networks in the place of one; each token goes to one of them.

    Args:
        mlp: the feed-forward network of a layer, the first expert.
        width: of its input.
        count: E experts.
        noise: standard deviation of what is added to the weights of the other experts; 0: copies.
        generator: draws it, and the router.
    """

    def __init__(
        self, mlp: nn.Module, width: int, count: int, noise: float, generator: torch.Generator
    ):
        super().__init__()
        self.experts = nn.ModuleList([mlp] + [copy.deepcopy(mlp) for _ in range(count - 1)])
        self.router = nn.Linear(width, count, bias=False)
        with torch.no_grad():
            self.router.weight.normal_(0, 0.02, generator=generator)
            for expert in self.experts[1:]:
                for weight in expert.parameters():
                    weight += noise * torch.randn(weight.shape, generator=generator)
        self.given: Tensor | None = None  # (N, S) the experts to use; None: the router's choice
        self.route: Tensor | None = None  # (N, S) the experts of the last pass
        self.log_router: Tensor | None = None  # (N, S, E) of the last pass

    def forward(self, x: Tensor) -> Tensor:
        self.log_router = self.router(x).log_softmax(-1)
        self.route = self.log_router.argmax(-1) if self.given is None else self.given
        written = torch.stack([expert(x) for expert in self.experts], -2)  # (N, S, E, H)
        at = self.route[..., None, None].expand(*x.shape[:2], 1, x.shape[2])
        return written.gather(2, at)[:, :, 0]


def changed(route: Tensor, count: int, share: float, generator: torch.Generator) -> Tensor:
    """The routes, a share of which is replaced by another of the experts, drawn evenly."""
    other = torch.randint(1, count, route.shape, generator=generator)
    moved = torch.rand(route.shape, generator=generator) < share
    return torch.where(moved, (route + other) % count, route)


def router_loss(
    experts: Experts, loss: Callable[[], Tensor], share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What the router learns from: - advantage * log router(changed choice).

    Args:
        experts: in the model that `loss` asks, with each row computed (`shares_rows = False`).
        loss: the (N,) losses of the same rows and masks at each call.
        share: alpha, of the choices that are changed, 0..1.
        generator: draws them.
    Returns:
        scalar, whose gradient is 0 if nothing is changed; and the (N,) advantages: by how much the
        changed choices lower the loss.
    """
    with torch.no_grad():
        before = loss()
        chosen = experts.route
        experts.given = changed(chosen, len(experts.experts), share, generator)
    after = loss()
    advantage = (before - after).detach()
    score = experts.log_router.gather(-1, experts.given[..., None])[..., 0]
    moved = experts.given != chosen
    experts.given = None
    return -(advantage[:, None] * score * moved).sum() / len(advantage), advantage
