"""Runs generated code where it can do no harm, and judges it where it cannot lie; inside/ is what
runs behind the walls. `run_programs` is the way in, `gaps` says what a level does not stop.
"""

from .runner import LEVELS, Limits, Outcome, Program, best_level, gaps, run_programs, walls
