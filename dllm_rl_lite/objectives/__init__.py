"""How advantages become a loss: ratios, surrogates, penalties and averages, and the denoising loss
of pretraining. A new surrogate goes to clips.py if it sees single tokens, to segments.py if those
of a denoising step or an item, to regression.py if a whole group, to preferences.py if a pair. An
argument that is not what a docstring says it may be is a ValueError.
"""

from .averages import AVERAGES, divisors, token_weights
from .clips import (
    capped_weight,
    clip_higher,
    probability_bounds,
    probability_clip,
    shaped_where_given,
    soft_gate,
)
from .denoising import diffusion_loss, masked_loss
from .penalties import k1, k2, k3, mean_k3, mixed_divergence, text_k2
from .preferences import preference, win_rate_regression
from .ratios import mean_log_ratio, text_log_ratio, token_log_ratio
from .regression import group_regression
from .segments import (
    entropy_clip,
    guarded_ratio,
    item_log_ratio,
    item_of_position,
    own_segments,
    segment_mean,
    standardised_steps,
    step_log_ratio,
    step_uncertainty,
)
from .surrogates import clipped_ratio, clipped_text_ratio, self_distillation, weighted_likelihood
