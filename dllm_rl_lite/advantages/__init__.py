"""How rewards become advantages: among siblings, by denoising step, by unmasking time.
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
from .steps import step_credit
from .timing import FORMS, area_under_rewards, speed_score, timed_credit, unmasking_weight

__all__ = [
    "BASELINES",
    "FORMS",
    "area_under_rewards",
    "check_rewards",
    "exponential_weights",
    "group_mean",
    "guided_mean",
    "leave_one_out",
    "siblings",
    "speed_score",
    "step_credit",
    "timed_credit",
    "unmasking_weight",
    "z_score",
]
