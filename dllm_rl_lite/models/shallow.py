"""A model with some of its layers left out, which drafts what the whole one then checks."""

from __future__ import annotations

from torch import Tensor, nn

from .lm import MaskedDiffusionLM


class ShallowLM:
    """The same weights, fewer layers: asked like the model itself, cheaper, and less often right.

    Args:
        lm: the model, which is as it was after each call.
        layers: numbers of the layers that are kept, in 0..layers - 1, increasing.
    Raises:
        ValueError: if no layer is kept, or one that the model does not have.
    Source: after FractalLLM (EMNLP 2025 Findings), whose drafts come from compressed copies of some
        layers. There drafted positions have untrained embeddings; here they are masks, which the
        model is trained on.
    """

    def __init__(self, lm: MaskedDiffusionLM, layers: list[int]):
        last = len(lm.backbone.model.layers) - 1
        if not layers or list(layers) != sorted(set(layers) & set(range(last + 1))):
            raise ValueError(f"layers must increase within 0..{last}, got {layers!r}")
        self.lm = lm
        self.layers = list(layers)

    def __call__(self, ids: Tensor, attention_mask: Tensor, where: Tensor) -> Tensor:
        """As `MaskedDiffusionLM.forward` does it, without a cache."""
        network = self.lm.backbone.model
        whole = network.layers
        network.layers = nn.ModuleList([whole[number] for number in self.layers])
        try:
            return self.lm(ids, attention_mask, where)
        finally:
            network.layers = whole
