"""Problems and their verifiers: tiny generated families (tiny/), published benchmarks (published/).
`load_task` is the way in; a new task is one file and one line of table.py.
"""

from .benchmark import Benchmark
from .hints import hint_canvas, hinted, remember_groups, resumed, seeded
from .refine import refine_best
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
    "hint_canvas",
    "hinted",
    "load_task",
    "refine_best",
    "remember_groups",
    "resumed",
    "rewards_of",
    "seeded",
    "split_of",
]
