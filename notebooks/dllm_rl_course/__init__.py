"""The checks of the exercises, one file per chapter.

Each prints `todo`, `right`, or the likely mistake, and never raises.
"""

from .ag_grpo import ex_12_1, ex_12_2, ex_12_3
from .all_methods import ex_15_1, ex_15_2, ex_15_3
from .coupled_grpo import ex_08_1, ex_08_2, ex_08_3
from .diffu_grpo import ex_07_1, ex_07_2, ex_07_3
from .evaluate import ex_21_1, ex_21_2, ex_21_3
from .every_path import ex_03_1, ex_03_2, ex_03_3
from .gdpo import ex_09_1, ex_09_2, ex_09_3
from .grpo import ex_06_1, ex_06_2, ex_06_3
from .likelihood import ex_04_1, ex_04_2, ex_04_3
from .masked_diffusion import ex_01_1, ex_01_2, ex_01_3
from .policy_gradient import ex_05_1, ex_05_2, ex_05_3
from .sampling import ex_02_1, ex_02_2, ex_02_3
from .start_and_train import ex_00_1, ex_00_2, ex_00_3, ex_20_1, ex_20_2, ex_20_3
from .steps_as_actions import ex_11_1, ex_11_2, ex_11_3
from .ta_grpo_d import ex_13_1, ex_13_2, ex_13_3
from .without_ratios import ex_10_1, ex_10_2, ex_10_3

__all__ = [
    "ex_00_1",
    "ex_00_2",
    "ex_00_3",
    "ex_01_1",
    "ex_01_2",
    "ex_01_3",
    "ex_02_1",
    "ex_02_2",
    "ex_02_3",
    "ex_03_1",
    "ex_03_2",
    "ex_03_3",
    "ex_04_1",
    "ex_04_2",
    "ex_04_3",
    "ex_05_1",
    "ex_05_2",
    "ex_05_3",
    "ex_06_1",
    "ex_06_2",
    "ex_06_3",
    "ex_07_1",
    "ex_07_2",
    "ex_07_3",
    "ex_08_1",
    "ex_08_2",
    "ex_08_3",
    "ex_09_1",
    "ex_09_2",
    "ex_09_3",
    "ex_10_1",
    "ex_10_2",
    "ex_10_3",
    "ex_11_1",
    "ex_11_2",
    "ex_11_3",
    "ex_12_1",
    "ex_12_2",
    "ex_12_3",
    "ex_13_1",
    "ex_13_2",
    "ex_13_3",
    "ex_15_1",
    "ex_15_2",
    "ex_15_3",
    "ex_20_1",
    "ex_20_2",
    "ex_20_3",
    "ex_21_1",
    "ex_21_2",
    "ex_21_3",
]
