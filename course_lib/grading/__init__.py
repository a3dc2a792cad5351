"""Exercises that say what is wrong: specification, comparison, diagnosis, report, and what a learner calls.

One way through the modules: spec <- values, run <- compare <- diagnose <- examine <- report <- notebook <- script.
Running a learner's function (`run`) and judging what came out (`examine.judge`) never call each other,
so that the two can stand in different processes.
"""

from course_lib.grading.load import exercise
from course_lib.grading.notebook import CheckFailed, check, hint, solution
from course_lib.grading.overview import progress
from course_lib.grading.spec import Case, Exercise, Measure, Mutant, Tolerance

__all__ = [
    "Case",
    "CheckFailed",
    "Exercise",
    "Measure",
    "Mutant",
    "Tolerance",
    "check",
    "exercise",
    "hint",
    "progress",
    "solution",
]
