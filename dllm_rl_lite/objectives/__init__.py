"""How credit becomes a loss: ratios, surrogates, penalties, averages, and the denoising loss of
pretraining. A new surrogate goes to surrogates.py.
"""

from .averages import AVERAGES, token_weights
from .denoising import diffusion_loss, masked_loss
from .penalties import k1, k2, k3
from .ratios import mean_log_ratio, text_log_ratio, token_log_ratio
from .surrogates import (
    clipped_k2,
    clipped_k3,
    clipped_k3_of_texts,
    clipped_ratio,
    clipped_text_ratio,
    clipped_weighted_k3,
    self_distillation,
    weighted_likelihood,
)

__all__ = [
    "AVERAGES",
    "clipped_k2",
    "clipped_k3",
    "clipped_k3_of_texts",
    "clipped_ratio",
    "clipped_text_ratio",
    "clipped_weighted_k3",
    "diffusion_loss",
    "k1",
    "k2",
    "k3",
    "masked_loss",
    "mean_log_ratio",
    "self_distillation",
    "text_log_ratio",
    "token_log_ratio",
    "token_weights",
    "weighted_likelihood",
]
