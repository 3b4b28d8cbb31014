"""Problems and their verifiers: tiny generated families (tiny/), published benchmarks (published/).
`load_task` is the way in; a new task is one file and one line of table.py.
"""

from .benchmark import Benchmark
from .draws import chance_remembered, in_other_orders, pooled, uncertain
from .mixture import Mixture, by_task, mixture_task, task_counts, task_shares
from .table import BENCHMARKS, TASKS, load_task
from .task import SPLITS, Example, GeneratedTask, Task, demonstration, rewards_of, split_of

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Example",
    "GeneratedTask",
    "Mixture",
    "SPLITS",
    "TASKS",
    "Task",
    "by_task",
    "chance_remembered",
    "demonstration",
    "in_other_orders",
    "load_task",
    "mixture_task",
    "pooled",
    "rewards_of",
    "split_of",
    "task_counts",
    "task_shares",
    "uncertain",
]
