"""How rewards become advantages: among siblings, by denoising step, by unmasking time, along the
path, by token, and shaped by what else is known of the texts.
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
from .paths import (
    WEIGHTS,
    depth_score,
    mean_of,
    path_leave_one_out,
    same_canvas,
    same_dice,
    segment_difference,
    serial_decay,
    subgroup_mean,
    temporal_difference,
)
from .shaping import (
    FADES,
    answer_entropy,
    entropy_scaled,
    sharpened,
    virtual_best,
    win_rate,
)
from .stages import critical_share, critical_weights, extremes, imitation_weights, ones
from .steps import step_credit
from .timing import FORMS, area_under_rewards, speed_score, timed_credit, unmasking_weight
from .tokens import (
    branch_credit,
    conflict_weighted,
    item_score,
    prediction_spread,
    spread_weighted,
)

__all__ = [
    "BASELINES",
    "FADES",
    "FORMS",
    "WEIGHTS",
    "answer_entropy",
    "area_under_rewards",
    "branch_credit",
    "check_rewards",
    "conflict_weighted",
    "critical_share",
    "critical_weights",
    "depth_score",
    "entropy_scaled",
    "exponential_weights",
    "extremes",
    "group_mean",
    "guided_mean",
    "imitation_weights",
    "item_score",
    "leave_one_out",
    "mean_of",
    "ones",
    "path_leave_one_out",
    "prediction_spread",
    "same_canvas",
    "same_dice",
    "segment_difference",
    "serial_decay",
    "sharpened",
    "siblings",
    "speed_score",
    "spread_weighted",
    "step_credit",
    "subgroup_mean",
    "temporal_difference",
    "timed_credit",
    "unmasking_weight",
    "virtual_best",
    "win_rate",
    "z_score",
]
