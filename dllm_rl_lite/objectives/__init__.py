"""How advantages become a loss: ratios, surrogates, penalties and averages, and the denoising loss
of pretraining. A new surrogate goes to surrogates.py.
"""

from .averages import AVERAGES, divisors, token_weights
from .denoising import diffusion_loss, masked_loss
from .penalties import k1, k2, k3, mean_k3, text_k2
from .ratios import mean_log_ratio, text_log_ratio, token_log_ratio
from .surrogates import clipped_ratio, clipped_text_ratio, self_distillation, weighted_likelihood

__all__ = [
    "AVERAGES",
    "clipped_ratio",
    "clipped_text_ratio",
    "diffusion_loss",
    "divisors",
    "k1",
    "k2",
    "k3",
    "masked_loss",
    "mean_k3",
    "mean_log_ratio",
    "self_distillation",
    "text_k2",
    "text_log_ratio",
    "token_log_ratio",
    "token_weights",
    "weighted_likelihood",
]
