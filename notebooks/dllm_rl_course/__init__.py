"""The checks of the exercises: a module per chapter, each with `exercise_1`, `exercise_2`, ...

Each prints `todo`, `right`, or the likely mistake, and never raises.
"""
