"""Before the first step: does it fit, and what will it cost?
The dry run is `plan`; the guards end a run early with what to lower.
"""

from .dry_run import plan
from .guards import Survey, guard_memory, out_of_memory, survey

__all__ = [
    "Survey",
    "guard_memory",
    "out_of_memory",
    "plan",
    "survey",
]
