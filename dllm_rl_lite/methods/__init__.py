"""Each method as one record: its five answers and their numbers, one file per family.
`METHODS` is the table; a new record goes beside its nearest relative.
"""

from .method import REMASKING, REWARDED, Method, Numbers
from .table import METHODS

__all__ = [
    "METHODS",
    "Method",
    "Numbers",
    "REMASKING",
    "REWARDED",
]
