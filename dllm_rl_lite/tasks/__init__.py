"""Problems and their verifiers: tiny generated families (tiny/), published benchmarks (published/).
`load_task` is the way in; a new task is one file and one line of table.py.
"""

from .benchmark import Benchmark
from .table import BENCHMARKS, TASKS, load_task
from .task import SPLITS, Example, GeneratedTask, Task, demonstration, rewards_of, split_of

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Example",
    "GeneratedTask",
    "SPLITS",
    "TASKS",
    "Task",
    "demonstration",
    "load_task",
    "rewards_of",
    "split_of",
]
