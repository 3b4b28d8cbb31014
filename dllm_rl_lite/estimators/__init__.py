"""How likely is a text? Recipes for masked copies of it (views), and the exact truth that they are
held against. A new estimator goes to masks.py, to bounds.py if it weighs texts by the sign of
their credit, or to steps.py where it scores states that the rollout visited.
"""

from .bounds import block_masks, sandwiched
from .exact import (
    TextDistribution,
    exact_elbo,
    exact_eubo,
    exact_logprob,
    expected_reward,
    optimal_policy,
    text_distribution,
)
from .importance import importance_weights
from .masks import (
    ESTIMATORS,
    NODES,
    complement_pairs,
    coupled,
    left_to_right,
    one_step,
    one_step_with_answer,
    quadrature,
    random_masks,
    random_subset,
)
from .merging import merge_equal_actions
from .referee import (
    directions,
    distinct,
    errors,
    estimated_gradient,
    exact_gradient,
    flat_gradient,
    truth,
)
from .steps import (
    STEP_DISTRIBUTIONS,
    all_steps,
    chosen_steps,
    last_scored_step,
    path_segments,
    visited_steps,
)
from .views import View, estimate, masked_view, reweighted, stack, token_logprobs, view_of_step
