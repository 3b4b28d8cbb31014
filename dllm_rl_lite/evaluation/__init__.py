"""How sure is a number, and how is it made again? Intervals, records, saved texts, the protocol
card. The evaluation itself is `dllm_rl_lite.evaluate`.
"""

from .cards import differences
from .intervals import (
    Comparison,
    accuracy_interval,
    paired_comparison,
    pass_at,
    pass_at_k,
    t_interval,
    wilson,
)
from .records import read_log, read_results
from .report import Report
from .rescoring import rescore, rescored
from .saved import read_run
