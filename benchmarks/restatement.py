"""The usual implementation of rollouts and updates, restated plainly, for `speed.py` to hold ours
against.

Written fresh, as the released family of d1 does it (d1's `diffu_grpo_trainer.py`, LLaDA's
`generate.py`; wd1, SPG, TA-GRPO-d, AG-GRPO): logits of the whole vocabulary over prompt and
completion at every pass, Gumbel noise and softmax in float64 over all of them, a Python loop over
rows for the tokens to reveal, all views of an update in one graph.

Different from the releases, so that outputs can be compared: the mask token is never an output; the
step at which each token appeared is returned; views come from outside; adapters have no dropout. d1
draws its noise in the model's precision (LLaDA and AGRPO in float64, as here) and empties the CUDA
cache before every pass, which is left out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dllm_rl_lite.estimators import View
from dllm_rl_lite.methods import Method, Numbers
from dllm_rl_lite.models import ReferencePolicy, adapters_off
from dllm_rl_lite.sampler import Rollout

TEXT_LOSSES, TOKEN_LOSSES = ("gdpo",), ("diffu-grpo", "ag-grpo")


def full_logits(model, ids: Tensor) -> Tensor:
    """(N, S, V) logits of every position, in the model's precision; the mask token's is -inf.
    Padding is not looked for."""
    if isinstance(model, ReferencePolicy):
        with adapters_off(model.lm):
            return full_logits(model.lm, ids)
    logits = model.backbone(ids, use_cache=False).logits
    with torch.no_grad():
        logits[..., model.mask_id] = float("-inf")
    return logits


def uniform_noise(x: Tensor, end: int, vocabulary: int) -> Tensor:
    """(N, S, V) float64 of the exponential law, as -log of uniform numbers, from the global
    generator."""
    return -torch.log(torch.rand(*x.shape, vocabulary, dtype=torch.float64, device=x.device))


@torch.no_grad()
def generate(
    lm,
    prompt: Tensor,
    length: int,
    steps: int,
    block_length: int,
    temperature: float = 0.0,
    noise: Callable[[Tensor, int, int], Tensor] = uniform_noise,
) -> tuple[Tensor, Tensor]:
    """LLaDA's semi-autoregressive sampler with low-confidence remasking.

    Args:
        prompt: (N, P) int64, no padding. length: L, a multiple of block_length. steps: a multiple
            of the number of blocks.
        temperature: 0 takes the likeliest token. noise: (canvas (N, P + L), end of the block, V) ->
            (N, P + L, V) float64, draws of the exponential law.
    Returns:
        tokens and the step that revealed each, (N, L) int64 both.
    """
    n, start = prompt.shape
    x = torch.full((n, start + length), lm.mask_id, device=prompt.device)
    x[:, :start] = prompt
    revealed_at = torch.full_like(x, -1)
    blocks = length // block_length
    per_block = steps // blocks
    for block in range(blocks):
        first, end = start + block * block_length, start + (block + 1) * block_length
        masked = (x[:, first:end] == lm.mask_id).sum(1, keepdim=True)
        counts = masked // per_block + (
            torch.arange(per_block, device=x.device) < masked % per_block
        )
        for step in range(per_block):
            logits = full_logits(lm, x)
            scores = logits
            if temperature > 0:
                scores = logits.double().exp() / noise(x, end, logits.shape[-1]) ** temperature
            candidate = scores.argmax(-1)
            confidence = logits.double().softmax(-1).gather(-1, candidate[..., None])[..., 0]
            confidence[:, end:] = float("-inf")
            confidence = torch.where(x == lm.mask_id, confidence, float("-inf"))
            chosen = torch.zeros_like(x, dtype=torch.bool)
            for row in range(n):
                _, index = confidence[row].topk(int(counts[row, step]))
                chosen[row, index] = True
            x[chosen] = candidate[chosen]
            revealed_at[chosen] = block * per_block + step
    return x[:, start:], revealed_at[:, start:]


def logprobs(model, rollout: Rollout, view: View) -> Tensor:
    """(N, L) float32 nats of every completion token under a view: log-softmax of the whole
    completion's logits."""
    logits = full_logits(model, view.tokens)[:, -rollout.tokens.shape[1] :]
    return logits.float().log_softmax(-1).gather(-1, rollout.tokens[..., None])[..., 0]


def scores(model, method: Method, rollout: Rollout, views: list[View]) -> list[Tensor]:
    """What the loss compares between policies: (N, L) of each view, or for a loss of texts their
    (N, L) weighted sum."""
    each = [logprobs(model, rollout, view) for view in views]
    return (
        [sum(v.weight * logp for v, logp in zip(views, each, strict=True))]
        if method.name in TEXT_LOSSES
        else each
    )


def old_and_reference(
    lm, reference, method: Method, numbers: Numbers, rollout: Rollout, views: list[View]
):
    """`scores` of the old (present) and the reference policy, without gradient; None where the
    numbers need none."""
    with torch.no_grad():
        old = scores(lm, method, rollout, views) if numbers.inner_updates > 1 else None
        return old, scores(reference, method, rollout, views) if numbers.kl > 0 else None


def accumulate(
    lm,
    method: Method,
    numbers: Numbers,
    rollout: Rollout,
    views: list[View],
    advantage: Tensor,
    old: list[Tensor] | None,
    ref: list[Tensor] | None,
) -> float:
    """Add the gradient of the method's loss to the parameters: all views in one graph, one backward
    pass.

    Args:
        method: diffu-grpo, ag-grpo or gdpo. rollout: N rows, no padding. advantage: (N,). old, ref:
            as `old_and_reference` returns them.
    Returns:
        the loss.
    Raises:
        ValueError: for another method, or a prompt with padding.
    """
    if method.name not in TEXT_LOSSES + TOKEN_LOSSES:
        raise ValueError(f"{method.name} is not restated here: one of {TEXT_LOSSES + TOKEN_LOSSES}")
    if not bool(rollout.prompt_mask.all()):
        raise ValueError("the releases pass no attention mask: give all rows prompts of one length")
    new = scores(lm, method, rollout, views)
    old = [s.detach() for s in new] if old is None else old
    loss = (
        text_loss(new[0], old[0], advantage, views, numbers)
        if method.name in TEXT_LOSSES
        else token_loss(new, old, ref, advantage, views, numbers)
    )
    loss.backward()
    return loss.item()


def token_loss(
    new: list[Tensor],
    old: list[Tensor],
    ref: list[Tensor] | None,
    advantage: Tensor,
    views: list[View],
    numbers: Numbers,
) -> Tensor:
    """diffu-GRPO: clipped ratio of every scored token plus kl times k3, mean over the tokens of the
    batch."""
    total = count = 0.0
    for i, view in enumerate(views):
        ratio, a = (new[i] - old[i]).exp(), advantage[:, None]
        losses = -torch.minimum(ratio * a, ratio.clamp(1 - numbers.clip, 1 + numbers.clip) * a)
        if ref is not None:
            d = ref[i] - new[i]
            losses = losses + numbers.kl * (d.exp() - d - 1)
        total, count = total + (losses * view.scored).sum(), count + view.scored.sum()
    return total / count


def text_loss(
    new: Tensor, old: Tensor, advantage: Tensor, views: list[View], numbers: Numbers
) -> Tensor:
    """GDPO as released: clipped ratio of whole texts, the change in log-likelihood divided by the
    text's length."""
    tokens = torch.stack([v.scored for v in views]).any(0).sum(1).clamp(min=1)
    ratio = ((new - old).sum(1) / tokens).exp()
    return -torch.minimum(
        ratio * advantage, ratio.clamp(1 - numbers.clip, 1 + numbers.clip) * advantage
    ).mean()
