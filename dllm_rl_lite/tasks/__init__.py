"""Problems and their verifiers: tiny generated families (tiny/), published benchmarks (published/).
`load_task` is the way in; a new task is one file and one line of table.py.
"""

from .benchmark import Benchmark
from .draws import chance_remembered, in_other_orders, pooled, uncertain
from .hints import hint_canvas, hinted, remember_groups, resumed, seeded
from .mixture import by_task, task_counts, task_shares
from .refine import refine_best
from .table import BENCHMARKS, TASKS, load_task
from .task import SPLITS, Example, GeneratedTask, Task, demonstration, rewards_of, split_of
