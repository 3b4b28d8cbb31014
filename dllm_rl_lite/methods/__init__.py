"""Each method as one record: its answers as parts, and its numbers, one file per family.
`METHODS` is the table, `CORE` the part of it that the course is about; a new record goes beside its
nearest relative.
"""

from .method import REWARDED, Method
from .numbers import REMASKING, Numbers
from .objective import Objective
from .parts import Part, part
from .table import BUDGETS, CORE, FAMILY, METHODS, NEWER, PATHS, PROBLEMS, STAGES
