"""From a function to a verdict: every case run twice, judged, and the failing ones diagnosed together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from torch import Tensor

from course_lib.grading import compare, values
from course_lib.grading.compare import Comparison
from course_lib.grading.diagnose import Call, Diagnosis, Difference, add_cases, diagnose, measured, trusted_call
from course_lib.grading.output import first_lines, silence
from course_lib.grading.run import Failure, Outcome, run, standard_state
from course_lib.grading.spec import Case, Exercise

SEED = 0
SEED_INPUT = "seed"  # an input of this name decides what is drawn
CHANGES = "Called twice with the same input, your function gives different results."
MAX_SHOWN = 2**20  # entries of a result of another shape than wanted, beyond which nobody looks for a reason
STATES = ("not attempted", "wrong", "error", "too slow", "passed")
NOT_ATTEMPTED, WRONG, ERROR, TOO_SLOW, PASSED = STATES


@dataclass(frozen=True)
class Wanted:
    """What the reference gives on a case: its result, and what is compared of it."""

    value: Any
    measured: Any


@dataclass(frozen=True)
class Trial:
    """One case, judged.

    Attributes:
        number: which case, from 1.
        expected: what the reference returned.
        got: what the learner's function returned.
        failure: set when it did not return.
        problem: a sentence when the kind of the result is wrong, so that no numbers could be compared.
        notes: sentences on changed inputs and on results that change from call to call.
        compared: the tensors (expected, got) that were compared, measured ones included.
        comparison: how they differ.
        reference_seconds: how long the reference took on this case, measured when the learner's function was too slow.
    """

    case: Case
    number: int
    expected: Any = None
    got: Any = None
    failure: Failure | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()
    compared: tuple[Tensor, Tensor] | None = None
    comparison: Comparison | None = None
    reference_seconds: float | None = None

    @property
    def passed(self) -> bool:
        """True when nothing is wrong with this case."""
        return self.comparison is not None and self.comparison.equal and not self.notes

    @property
    def differs(self) -> bool:
        """True when the result itself is wrong, in kind or in numbers."""
        return self.failure is None and (self.comparison is None or not self.comparison.equal)

    @property
    def too_slow(self) -> bool:
        """True when the call took longer than the exercise allows."""
        return self.failure is not None and self.failure.limit is not None


@dataclass(frozen=True)
class Verdict:
    """The state of an answer, with what the report needs to explain it.

    Attributes:
        trials: the cases that were run; none after one that took too long.
        misuse: a sentence when what was handed in is no function, so that nothing was run.
        n_cases: how many cases there are.
    """

    exercise: Exercise
    state: str
    seed: int
    trials: tuple[Trial, ...] = ()
    diagnosis: Diagnosis | None = None
    misuse: str = ""
    n_cases: int = 0

    @property
    def failing(self) -> Trial | None:
        """The first case that did not pass."""
        return next((trial for trial in self.trials if not trial.passed), None)


def examine(exercise: Exercise, answer: Any, seed: int = SEED) -> Verdict:
    """Run the answer on every case and say how it stands.

    Args:
        exercise: the specification.
        answer: the learner's function, or whatever was handed in instead.
        seed: draws the cases; the same seed gives the same cases.

    Raises:
        KeyboardInterrupt: passed through from the learner's code.
    """
    if answer is None or answer is ...:
        return Verdict(exercise, NOT_ATTEMPTED, seed)
    if not callable(answer):
        return Verdict(exercise, WRONG, seed, misuse=_misuse(exercise, answer))
    with standard_state():
        cases = exercise.draw(seed)
        with first_lines():
            trials = tuple(_until_too_slow(exercise, answer, cases))
        return conclude(exercise, trials, seed, len(cases))


def conclude(
    exercise: Exercise, trials: tuple[Trial, ...], seed: int, n_cases: int, call: Call = trusted_call
) -> Verdict:
    """The state and the diagnosis of judged cases. Runs our own code only.

    Args:
        exercise: the specification.
        trials: the cases that were run, in order, at least one.
        seed: which drew the cases.
        n_cases: how many cases there are.
        call: as for `diagnose`.
    """
    state = _state(trials)
    differing = [_difference(trial) for trial in trials if trial.differs]
    passed = [trial.case for trial in trials if trial.passed]
    diagnosis = diagnose(exercise, differing, passed, call) if state == WRONG and differing else None
    if state == ERROR or (state == WRONG and differing):
        diagnosis = add_cases(diagnosis, [(trial.case, trial.passed) for trial in trials])
    return Verdict(exercise, state, seed, trials, diagnosis, n_cases=n_cases)


def wanted_of(exercise: Exercise, case: Case) -> Wanted:
    """Run the reference on a case, and the exercise's measure on what it returns."""
    value = trusted_call(exercise.reference, case)
    return Wanted(value, measured(exercise, value, case))


def judge(
    exercise: Exercise, case: Case, number: int, first: Outcome, second: Outcome, wanted: Wanted | None = None
) -> Trial:
    """Judge two outcomes of the same case. Runs the reference, never the learner's code.

    Args:
        exercise: the specification.
        case: what the learner's function was called on.
        number: which case, from 1.
        first, second: what the two calls gave.
        wanted: what `wanted_of` gives, by who judges many answers; None computes it.
    """
    failure = first.failure or second.failure
    if failure is not None:
        return Trial(case, number, failure=failure)
    wanted = wanted or wanted_of(exercise, case)
    expected, got = wanted.value, first.value
    notes = tuple(f"Your function changes its input `{name}`: work on a copy of it." for name in first.mutated)
    problem = values.mismatch(expected, got, parts=exercise.returns)
    if problem:
        return Trial(case, number, expected, got, None, problem, notes, _raw_pair(exercise, expected, got))
    try:
        seen = measured(exercise, values.trusted(expected, got), case)
        comparison = compare.compare(wanted.measured, seen, exercise.tolerance)
        pair = (compare.as_tensor(wanted.measured), compare.as_tensor(seen))
    except Exception as error:  # of the right kind, and still of no use: a number of 400 digits
        problem = f"The check could not use your result. {type(error).__name__}: {error}"
        return Trial(case, number, expected, got, None, problem, notes)
    if not _repeats(exercise, case, expected, seen, got, second.value):
        notes += (CHANGES,)
    return Trial(case, number, expected, got, None, comparison.mismatch, notes, pair, comparison)


def _repeats(exercise: Exercise, case: Case, expected: Any, seen: Any, got: Any, again: Any) -> bool:
    if values.mismatch(expected, again):
        return False
    if values.same(got, again):
        return True  # and so is whatever is measured of it
    if SEED_INPUT in case.inputs:
        return False  # equal properties are not enough where the seed is given
    try:
        then = measured(exercise, values.trusted(expected, again), case)
        return compare.equal(seen, then, exercise.tolerance)
    except Exception:  # the first result could be used, this one cannot
        return False


def _raw_pair(exercise: Exercise, expected: Any, got: Any) -> tuple[Tensor, Tensor] | None:
    """What can still be shown of a result of the wrong kind."""
    dense = values.is_dense(expected) and values.is_dense(got)
    comparable = exercise.measure is None and dense and got.numel() <= MAX_SHOWN
    return (compare.as_tensor(expected), compare.as_tensor(got)) if comparable else None


def _seconds_of_reference(exercise: Exercise, case: Case) -> float:
    """The shorter of two calls: the first one may still have to load something."""
    times = []
    for _ in range(2):
        started = perf_counter()
        trusted_call(exercise.reference, case)
        times.append(perf_counter() - started)
    return min(times)


def _until_too_slow(exercise: Exercise, answer: Callable[..., Any], cases: list[Case]) -> Iterator[Trial]:
    """The cases in order, up to the first that takes too long: nobody waits for the others."""
    for number, case in enumerate(cases, start=1):
        trial = _try(exercise, answer, case, number)
        yield trial
        if trial.too_slow:
            return


def _try(exercise: Exercise, answer: Callable[..., Any], case: Case, number: int) -> Trial:
    first = run(answer, case.inputs, seed=1, seconds=exercise.seconds)
    if first.failure and first.failure.limit is not None:
        trial = judge(exercise, case, number, first, first)
        return replace(trial, reference_seconds=_seconds_of_reference(exercise, case))
    with silence():  # what it prints was seen once already
        second = run(answer, case.inputs, seed=2, seconds=exercise.seconds)
    trial = judge(exercise, case, number, first, second)
    return replace(trial, reference_seconds=_seconds_of_reference(exercise, case)) if trial.too_slow else trial


def _state(trials: tuple[Trial, ...]) -> str:
    if all(trial.failure and not trial.failure.attempted for trial in trials):
        return NOT_ATTEMPTED
    failing = next((trial for trial in trials if not trial.passed), None)
    if failing is None:
        return PASSED
    if failing.too_slow:
        return TOO_SLOW
    return ERROR if failing.failure else WRONG


def _difference(trial: Trial) -> Difference:
    expected, got = trial.compared or (None, None)
    return Difference(trial.case, trial.got, expected, got)


def _misuse(exercise: Exercise, answer: Any) -> str:
    name = getattr(exercise.reference, "__name__", "your_function")
    return (
        f'`check` wants the function itself, without parentheses: `check("{exercise.id}", {name})`. '
        f"What came is {values.describe(answer)}."
    )
