"""A verdict in words: plain text for a terminal, HTML for a notebook, both from the same list of points."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from course_lib.grading import values
from course_lib.grading.examine import ERROR, NOT_ATTEMPTED, PASSED, TOO_SLOW, WRONG, Trial, Verdict
from course_lib.grading.picture import picture
from course_lib.grading.words import index_in_words, inline_html, number

# Blue, vermilion, orange, purple and grey differ for every kind of colour vision; sign and word say the same.
_LOOKS = {
    PASSED: ("✓", "#0072b2"),
    WRONG: ("✗", "#d55e00"),
    ERROR: ("!", "#e69f00"),
    TOO_SLOW: ("…", "#cc79a7"),
    NOT_ATTEMPTED: ("○", "#888888"),
}


_FASTER = {
    "while": "Most likely this `while` loop never ends: print what its condition looks at, in every round.",
    "for": "Look at this loop: one tensor operation on the whole axis can do what it does place by place.",
    "": "Call your function on a smaller input and time its parts: one of them repeats work that one operation can do.",
}


@dataclass(frozen=True)
class Report:
    """What `check` shows.

    Attributes:
        state: "not attempted", "wrong", "error", "too slow" or "passed".
        points: pairs (label, sentence) in reading order: case, expected, yours, why, next.
        drawing: HTML of the picture, or empty; it stands before the last point.
        inputs: copies of what the failing case is made of, by name, to try by hand.
    """

    headline: str
    state: str
    points: tuple[tuple[str, str], ...]
    drawing: str
    inputs: dict[str, Any]

    def __repr__(self) -> str:
        sign = _LOOKS[self.state][0]
        width = max((len(label) for label, _ in self.points), default=0)
        lines = [f"{label:<{width}}  {text}".replace("\n", "\n" + " " * (width + 2)) for label, text in self.points]
        return "\n".join([f"{sign} {self.headline}", *lines])

    def _repr_html_(self) -> str:
        sign, colour = _LOOKS[self.state]
        before, last = (self.points[:-1], self.points[-1:]) if self.drawing else (self.points, ())
        return (
            f'<div class="course-report" style="border-left:4px solid {colour};'
            'padding:.1em 0 .1em 1em;margin:.5em 0;color:inherit">'
            f'<p style="margin:.3em 0"><strong>{sign} {inline_html(self.headline)}</strong></p>'
            f"{_table(before)}{self.drawing}{_table(last)}</div>"
        )


def _table(points: tuple[tuple[str, str], ...]) -> str:
    rows = (
        f'<div style="margin:.3em 0"><strong>{inline_html(label)}:</strong> '
        f'<span style="white-space:pre-wrap">{inline_html(text)}</span></div>'
        for label, text in points
    )
    return "".join(rows)


def make_report(verdict: Verdict) -> Report:
    """The report on a verdict."""
    exercise, trial = verdict.exercise, verdict.failing
    headline = f"Exercise {exercise.id}, {exercise.title}: {verdict.state}"
    shown = trial if verdict.state in (WRONG, ERROR, TOO_SLOW) else None
    drawing = _draw(verdict, shown) if shown and verdict.state == WRONG else ""
    case = {**shown.case.inputs, **shown.case.held_out} if shown else {}
    inputs = {name: values.clone(value) for name, value in case.items()}
    return Report(headline, verdict.state, tuple(_points(verdict, shown)), drawing, inputs)


def findings(verdict: Verdict) -> tuple[tuple[str, str], ...]:
    """What was found, as pairs (label, sentence), without advice that needs the notebook at hand."""
    trial = verdict.failing if verdict.state in (WRONG, ERROR, TOO_SLOW) else None
    return tuple(_findings(verdict, trial))


def _points(verdict: Verdict, trial: Trial | None) -> Iterator[tuple[str, str]]:
    yield from _findings(verdict, trial)
    yield "Next", _next_step(verdict, trial)


def _findings(verdict: Verdict, trial: Trial | None) -> Iterator[tuple[str, str]]:
    if verdict.misuse:
        yield "Problem", verdict.misuse
    if verdict.state == PASSED:
        yield "Checked", f"{len(verdict.trials)} cases, seed {verdict.seed}."
    if trial:
        yield "Case", _case(verdict, trial)
        yield from _failure(trial) if trial.failure else _difference(verdict, trial)
    if verdict.diagnosis:
        yield "Why", verdict.diagnosis.sentence
    for note in trial.notes if trial else ():
        yield "Also" if trial.differs else "Why", note


def _case(verdict: Verdict, trial: Trial) -> str:
    inputs = ", ".join(f"`{name}`: {_input(value)}" for name, value in trial.case.inputs.items())
    listed = f" ({inputs})" if inputs else ""
    return f"{trial.number} of {verdict.n_cases}: {trial.case.description}{listed}; seed {verdict.seed}."


def _input(value: Any) -> str:
    return repr(value) if type(value) in (bool, int, float, str) else values.describe(value)


def _failure(trial: Trial) -> Iterator[tuple[str, str]]:
    failure = trial.failure
    if trial.too_slow:
        yield from _slowness(trial)
        return
    where = "before your code ran" if failure.line_number is None else f"in line {failure.line_number} of your code"
    line = f": `{failure.line}`" if failure.line else ""
    yield "Error", f"{failure.kind} {where}{line}"
    if failure.message:
        yield "Message", failure.message
    if failure.kind == "SystemExit":
        yield "Why", "Your code ends the program (`exit`, `quit` or `sys.exit`). Use `return`."


def _slowness(trial: Trial) -> Iterator[tuple[str, str]]:
    failure, needed = trial.failure, trial.reference_seconds
    measured = f" The course's own answer takes {_duration(needed)} on this case and this machine." if needed else ""
    yield "Too slow", f"One call may take {number(failure.limit)} s, and yours takes longer.{measured}"
    if failure.line_number is not None:
        line = f": `{failure.line}`" if failure.line else ""
        yield "Line", f"Your code stood in line {failure.line_number}{line}"


def _duration(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 0.5 else f"{number(float(f'{1000 * seconds:.2g}'))} ms"


def _difference(verdict: Verdict, trial: Trial) -> Iterator[tuple[str, str]]:
    measure, comparison = verdict.exercise.measure, trial.comparison
    what = f"{measure.name}: " if measure else ""
    if trial.problem:
        yield "Yours", trial.problem
    elif comparison.equal:
        yield "Yours", "The numbers are right."
    else:
        expected, got = trial.compared
        yield "Expected", f"{what}{_kind(trial.expected, expected)}"
        yield "Yours", f"{what}{_kind(trial.got, got)}. {_numbers(verdict, trial)}"
        if measure and measure.summary:
            yield "In short", measure.summary(expected, got)


def _kind(returned: Any, compared: Any) -> str:
    """A number is described as a number, although it is compared as a tensor."""
    return values.describe(returned) if type(returned) in (int, float) else values.describe(compared)


def _numbers(verdict: Verdict, trial: Trial) -> str:
    comparison, (expected, got), axes = trial.comparison, trial.compared, verdict.exercise.axes
    wanted, came = (_at(tensor, comparison.first_bad) for tensor in (expected, got))
    if expected.numel() == 1:
        return f"Expected {wanted}, yours {came}."
    counted = (
        f"{comparison.n_bad} of {expected.numel()} entries {'is' if comparison.n_bad == 1 else 'are'} wrong. "
        f"The first is {index_in_words(comparison.first_bad, axes)}: expected {wanted}, yours {came}."
    )
    labels = not (expected.is_floating_point() or expected.is_complex())
    if labels or math.isinf(comparison.worst_error):  # the distance of two labels, or from NaN, means nothing
        return counted
    worst = index_in_words(comparison.worst, axes)
    return f"{counted} The largest error is {number(comparison.worst_error)}, at {worst}."


def _at(tensor: Any, index: tuple[int, ...]) -> str:
    value = tensor[index].item()
    return str(value) if isinstance(value, bool | complex) else number(value)


def _draw(verdict: Verdict, trial: Trial) -> str:
    if trial.compared is None or trial.compared[0].ndim == 0 or any(side.is_complex() for side in trial.compared):
        return ""
    bad = trial.comparison.bad if trial.comparison else None
    return picture(*trial.compared, bad=bad, axes=verdict.exercise.axes) if trial.differs else ""


def _next_step(verdict: Verdict, trial: Trial | None) -> str:
    ask = f'`hint("{verdict.exercise.id}")`'
    if verdict.state == PASSED:
        return verdict.exercise.next_step
    if verdict.state == NOT_ATTEMPTED:
        return f"Write your answer into the function, then run its cell and this one. {ask} gives a nudge."
    if trial is None:
        return "Hand in the function and run the cell again."
    if trial.too_slow:
        return _FASTER[trial.failure.loop]
    keep = "`report = check(...)` keeps the inputs of this case in `report.inputs`"
    if trial.failure:
        return f"Print what goes into that line, shapes first; {keep}."
    names_it = verdict.diagnosis and verdict.diagnosis.names_a_change
    if names_it or (trial.notes and not trial.differs):
        return "Change that one thing, then run both cells again."
    return f"Try the case by hand: {keep}. Or ask for {ask}."
