"""How rewards become advantages: among siblings, by denoising step, by unmasking time, along the
path, by token, against earlier texts, and shaped by what else is known of the texts.
Most functions take a tensor of rewards and return one of advantages; selection.py says which groups
and rows are learnt from. An argument that is not what a docstring says it may be is a ValueError.
"""

from .budgets import budget_of, cheaper_right, is_worked, rare_format, within_budget
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
from .history import above_the_past, pool_statistics, smooth_score, track, weigh_tasks
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
from .selection import mixed, mixed_by_task, spread_out, widest, widest_groups, widest_rows
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
