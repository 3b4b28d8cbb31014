"""Blanks that lean towards what they may become: soft masks (after SofT-GRPO, arXiv 2511.06411,
whose soft tokens are those of a left-to-right model's reasoning)."""

from __future__ import annotations

import torch
from torch import Tensor

from dllm_rl_lite.models import MaskedDiffusionLM


class SoftMaskLM:
    """A model whose blanks carry over what the last pass said of them.

    The embedding of a blank is (1 - share) E[mask] + share sum_k w_k E[k], over the five tokens of
    highest log p + g, w = softmax((log p + g) / T). The noise g is Gumbel, the same that draws the
    tokens of that pass: so the heaviest of the five is the token that would have been revealed. At
    the first pass of a text nothing is known, and blanks are plain masks.

    Give it to `denoise` in place of the model, for one rollout, with the same generator, above
    temperature 0 and with a rule by which all rows finish together.

    Args:
        lm: the model.
        share: a, in 0..1; 0: plain masks.
        generator: the one that `denoise` draws tokens with.
        sharpness: T, above 0.
        most: how many tokens a blank leans towards.
    Error (bias): the shipped model has never seen a soft mask.
    """

    def __init__(
        self,
        lm: MaskedDiffusionLM,
        share: float,
        generator: torch.Generator,
        sharpness: float = 0.1,
        most: int = 5,
    ):
        if not 0 <= share <= 1:
            raise ValueError(f"share must be in 0..1, got {share!r}")
        self.lm = lm
        self.share = share
        self.generator = generator
        self.sharpness = sharpness
        self.most = most
        self.lean: Tensor | None = None  # (N, S, H) what blanks lean towards
        self.known: Tensor | None = None  # (N, S) where the last pass said something

    def __getattr__(self, name: str):
        return getattr(self.lm, name)

    def __call__(self, ids: Tensor, attention_mask: Tensor, where: Tensor) -> Tensor:
        """As `MaskedDiffusionLM.forward`, each row computed."""
        logits = self.lm.head(self._states(ids, attention_mask.bool(), where))
        score = logits + self._noise(logits)
        best, token = score.topk(self.most, -1)
        weight = (best / self.sharpness).softmax(-1)
        embedded = self.lm.backbone.model.embed_tokens(token)
        self.lean = embedded.new_zeros(*ids.shape, embedded.shape[-1])
        self.lean[where] = (weight[..., None] * embedded).sum(1)
        self.known = where
        return logits

    def _states(self, ids: Tensor, real: Tensor, where: Tensor) -> Tensor:
        embedded = self.lm.backbone.model.embed_tokens(ids)
        if self.known is not None and self.share:
            soft = (self.known & (ids == self.lm.mask_id))[..., None]
            mixed = (1 - self.share) * embedded + self.share * self.lean
            embedded = torch.where(soft, mixed, embedded)
        arguments = self.lm._attention(real, None)
        hidden = self.lm.backbone.model(inputs_embeds=embedded, use_cache=False, **arguments)
        return hidden.last_hidden_state[where]

    def _noise(self, logits: Tensor) -> Tensor:
        """(K, V) Gumbel: what `denoise` will draw next from the generator."""
        ahead = self.generator.clone_state()
        noise = torch.empty(logits.shape).exponential_(generator=ahead)
        return -noise.clamp(min=torch.finfo(torch.float32).tiny).log()
