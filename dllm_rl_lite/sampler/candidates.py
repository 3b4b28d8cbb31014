"""The candidates of one forward pass: a token for every blank, and what a rule may ask of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .decoding import Decoding
from .dice import PassDice


@dataclass
class Candidates:
    """What one pass says of the positions it looked at: (K,) each, or (n, L) once spread out."""

    token: Tensor  # drawn, or the likeliest at temperature 0
    # Of the distribution that `Decoding.confidence` names:
    logprob: Tensor  # nats, of the candidate
    entropy: Tensor  # nats
    margin: Tensor  # probability of the likeliest token minus that of the second
    likeliest: Tensor  # the likeliest token
    highest: Tensor  # nats, its log-probability

    def spread(self, active: Tensor) -> Candidates:
        """The (K,) values at the K active positions of (n, L), zeros elsewhere."""
        spread = {}
        for name, value in vars(self).items():
            zeros = torch.zeros(active.shape, dtype=value.dtype, device=value.device)
            spread[name] = zeros.masked_scatter(active, value)
        return Candidates(**spread)


def candidates_of(
    logits: Tensor,
    decoding: Decoding,
    generator: torch.Generator | None,
    dice: PassDice | None = None,
) -> Candidates:
    """The candidates at K positions, from their (K, V) logits; dice: of these positions, None:
    everybody's own."""
    best = logits.max(-1).indices
    token = best
    if decoding.temperature > 0:
        sampled = filtered(logits / decoding.temperature, decoding)
        token = draw(sampled, generator, dice)
        if decoding.confidence == "sampled":
            logits = sampled
        del sampled
    logp = logits.log_softmax(-1)
    logprob = logp.gather(-1, token[:, None])[:, 0]
    highest = logp.gather(-1, best[:, None])[:, 0]
    p = logp.exp()
    # If V is large, every pass over (K, V) counts, so the rest is in place. 0 * -inf is no number,
    # 0 * the least number is 0.
    entropy = -logp.clamp_(min=torch.finfo(logp.dtype).min).mul_(p).sum(-1)
    first = p.gather(-1, best[:, None])
    margin = first[:, 0] - p.scatter_(-1, best[:, None], 0.0).amax(-1)
    return Candidates(token, logprob, entropy, margin, best, highest)


def filtered(logits: Tensor, decoding: Decoding) -> Tensor:
    """(K, V) logits with -inf where the decoding's `top_k`, and then its `top_p`, leave a token
    out."""
    if decoding.top_k > 0:
        least = logits.topk(min(decoding.top_k, logits.shape[-1]), -1).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if decoding.top_p < 1:
        ordered, index = logits.sort(-1, descending=True)
        p = ordered.softmax(-1)
        share = p.cumsum(-1)
        if decoding.top_p_crossing == "kept":
            left_out = share - p >= decoding.top_p
        else:
            left_out = share > decoding.top_p
            left_out[:, 0] = False
        ordered = ordered.masked_fill(left_out, float("-inf"))
        logits = torch.empty_like(logits).scatter(-1, index, ordered)
    return logits


def draw(logits: Tensor, generator: torch.Generator, dice: PassDice | None = None) -> Tensor:
    """One token per row, exactly from the softmax of its logits: Gumbel-max.

    The noise is -log E with E exponential, float32, drawn on the generator's own device.

    Args:
        logits: (K, V) float32.
        generator: draws the noise.
        dice: whose noise each of the K rows uses; None: its own.
    Returns:
        (K,) int64.
    """
    noise = torch.empty(logits.shape, dtype=torch.float32, device=generator.device)
    noise = noise.exponential_(generator=generator)
    noise = noise.clamp_(min=torch.finfo(torch.float32).tiny).log_().to(logits.device)
    if dice is not None:
        noise = dice.share(noise, neutral=0.0)
    return torch.sub(logits, noise).max(-1).indices
