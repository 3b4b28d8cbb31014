"""Problems and their verifiers: tiny generated families (tiny/), published benchmarks (published/).
`load_task` is the way in; a new task is one file and one line of table.py.
"""

from .benchmark import Benchmark
from .draws import chance_remembered, pooled, uncertain
from .table import BENCHMARKS, TASKS, load_task
from .task import SPLITS, Example, GeneratedTask, Task, rewards_of, split_of

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Example",
    "GeneratedTask",
    "SPLITS",
    "TASKS",
    "Task",
    "chance_remembered",
    "load_task",
    "pooled",
    "rewards_of",
    "split_of",
    "uncertain",
]
