"""Before the first step: do prompts and memory suffice, and what will the run take?
The dry run is `plan`: it measures one small step. The other functions refuse what cannot fit, and
say what to lower when memory has run out.
"""

from .dry_run import plan
from .memory import check_memory, free_memory, memory_advice, memory_limit, rows_per_call
from .prompts import Prompts, check_prompts
