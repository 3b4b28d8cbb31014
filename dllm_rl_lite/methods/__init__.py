"""Each method as one record: its five answers and their numbers, one file per family.
`METHODS` is the table; a new record goes beside its nearest relative.
"""

from .method import REWARDED, Method
from .numbers import REMASKING, Numbers
from .table import METHODS

__all__ = [
    "METHODS",
    "Method",
    "Numbers",
    "REMASKING",
    "REWARDED",
]
