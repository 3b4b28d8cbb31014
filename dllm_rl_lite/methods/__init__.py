"""Each method as one record: its answers as parts, and its numbers, one file per family.
`METHODS` is the table, `CORE` the part of it that the course is about; a new record goes beside its
nearest relative.
"""

from .budget_family import BUDGETS
from .grpo_family import FAMILY
from .method import REWARDED, Method
from .newer import NEWER
from .numbers import REMASKING, Numbers
from .objective import Objective
from .parts import Part, part
from .path_family import PATHS
from .problem_family import PROBLEMS
from .stage_family import STAGES
from .table import CORE, METHODS

__all__ = [
    "BUDGETS",
    "CORE",
    "FAMILY",
    "METHODS",
    "Method",
    "NEWER",
    "Numbers",
    "Objective",
    "PATHS",
    "PROBLEMS",
    "Part",
    "REMASKING",
    "REWARDED",
    "STAGES",
    "part",
]
