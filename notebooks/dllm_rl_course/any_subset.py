"""Any-subset attention: the conditionals of a whole text, in any order, from one sequence of twice
its length (AS-ARM, arXiv 2504.20456, after XLNet's two streams)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dllm_rl_lite.models import MaskedDiffusionLM
from dllm_rl_lite.sampler.speculate import agreeing


def sees(prompt_mask: Tensor, rank: Tensor) -> Tensor:
    """Who may look at whom.

    The sequence is prompt (P), content (L), queries (L). A content token sees the prompt, itself
    and the content of lower rank; a query stands at the place of a token without knowing it: it
    sees the prompt, itself and the content of lower rank. The prompt sees the prompt.

    Args:
        prompt_mask: (N, P) bool, False on padding.
        rank: (N, L) int64, when each token is written; tokens of equal rank do not see each other.
    Returns:
        (N, P + 2L, P + 2L) bool; row: who looks, column: at whom.
    """
    n, length = rank.shape
    prompt = prompt_mask.shape[1]
    size = prompt + 2 * length
    allowed = torch.zeros(n, size, size, dtype=torch.bool, device=rank.device)
    allowed[:, :, :prompt] = prompt_mask[:, None]
    lower = rank[:, :, None] > rank[:, None, :]
    content = slice(prompt, prompt + length)
    allowed[:, content, content] = lower
    allowed[:, prompt + length :, content] = lower
    return allowed | torch.eye(size, dtype=torch.bool, device=rank.device)


def subset_logits(
    lm: MaskedDiffusionLM, prompt: Tensor, prompt_mask: Tensor, tokens: Tensor, rank: Tensor
) -> Tensor:
    """(N, L, V) float32 logits of each token, given the prompt and the tokens of lower rank: one
    pass.

    Args:
        lm: the stock model; its mask token is the query.
        prompt: (N, P) int64, left-padded.
        prompt_mask: (N, P) bool.
        tokens: (N, L) int64; a token that nobody of higher rank is asked about may be anything.
        rank: (N, L) int64.
    """
    n, length = tokens.shape
    ids = torch.cat([prompt, tokens, torch.full_like(tokens, lm.mask_id)], 1)
    start = prompt_mask.sum(1, keepdim=True)
    place = start + torch.arange(length, device=tokens.device)
    before = (prompt_mask.long().cumsum(1) - 1).clamp(min=0)
    allowed = sees(prompt_mask, rank)[:, None]
    mask = torch.zeros(allowed.shape, dtype=lm.backbone.dtype, device=tokens.device)
    states = lm.backbone.model(
        ids,
        attention_mask=mask.masked_fill(~allowed, torch.finfo(mask.dtype).min),
        position_ids=torch.cat([before, place, place], 1),
        use_cache=False,
    ).last_hidden_state
    return lm.head(states[:, -length:].flatten(0, 1)).view(n, length, -1)


def subset_loss(
    lm: MaskedDiffusionLM,
    prompt: Tensor,
    prompt_mask: Tensor,
    tokens: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """-log p(text) in an order drawn for each row, in nats per token; one pass scores them all."""
    rank = torch.rand(tokens.shape, generator=generator).argsort(1)
    logits = subset_logits(lm, prompt, prompt_mask, tokens, rank)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())


def write_in_order(
    predict: Callable[[Tensor, Tensor], Tensor],
    rank: Tensor,
    ahead: int,
    draw: Callable[[Tensor], Tensor],
    blank: int,
) -> tuple[Tensor, int]:
    """One text, written in a fixed order with drafts that the model accepts or rejects.

    A round is two calls: one drafts the next tokens without seeing each other, the second gives all
    their conditionals at once. A masked diffusion model would need a canvas for each.

    Args:
        predict: tokens (L,), rank (L,) -> (L, V) float64 distributions, each given the tokens of
            lower rank.
        rank: (L,) int64, 0 ... L - 1: when each token is written.
        ahead: the most tokens of a round; 1: no drafts, one call a token.
        draw: picks a token from a (V,) distribution.
        blank: what stands where nothing is written.
    Returns:
        (L,) tokens with the same distribution as one token per call has; the number of calls.
    Source: ASSD (arXiv 2504.20456); the first draft needs no check, both calls say the same of it.
    """
    order = rank.argsort().tolist()
    tokens = torch.full_like(rank, blank)
    known = 0
    calls = 0
    while known < len(order):
        places = order[known : known + ahead]
        guess = predict(tokens, rank.clamp(max=known))
        calls += 1
        drafts = tokens.clone()
        for place in places:
            drafts[place] = draw(guess[place])
        tokens[places[0]] = drafts[places[0]]
        known += 1
        if len(places) == 1:
            continue
        true = predict(drafts, rank)
        calls += 1
        for place in places[1:]:
            draft = drafts[place][None]
            final = agreeing(true[place][None], guess[place][None], draft)
            tokens[place] = draw(final[0])
            known += 1
            if tokens[place] != drafts[place]:
                break
    return tokens, calls
