"""How rewards become advantages: among siblings, by denoising step, by unmasking time, and
shaped by what else is known of the texts.
Each function takes a tensor of rewards and returns one of advantages.
"""

from .group import (
    BASELINES,
    check_rewards,
    exponential_weights,
    group_mean,
    guided_mean,
    leave_one_out,
    siblings,
    z_score,
)
from .shaping import (
    FADES,
    answer_entropy,
    entropy_scaled,
    sharpened,
    virtual_best,
    win_rate,
)
from .steps import step_credit
from .timing import FORMS, area_under_rewards, speed_score, timed_credit, unmasking_weight

__all__ = [
    "BASELINES",
    "FADES",
    "FORMS",
    "answer_entropy",
    "area_under_rewards",
    "check_rewards",
    "entropy_scaled",
    "exponential_weights",
    "group_mean",
    "guided_mean",
    "leave_one_out",
    "sharpened",
    "siblings",
    "speed_score",
    "step_credit",
    "timed_credit",
    "unmasking_weight",
    "virtual_best",
    "win_rate",
    "z_score",
]
