"""What the training loop is made of: configuration, experience, gradient, checkpoint, several
processes. The loop itself is `dllm_rl_lite.train`.
"""

from .checkpoint import complete_checkpoints
from .config import TrainConfig, read_config
from .experience import collect, credit
from .launcher import launch
from .result import TrainResult, finished
from .scoring import UpdateBatch, mask_seeds, score_views, scored_by_any
from .step import Run, collect_step, prepare, update_policy
from .update import accumulate_gradients
from .verifier import verify
