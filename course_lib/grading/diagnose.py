"""Why an answer is wrong: an author's mutant whose outputs it equals, else a general explanation, else nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from course_lib.grading import compare, properties, transforms, values
from course_lib.grading.cases import explain_cases
from course_lib.grading.evidence import Evidence, make_evidence
from course_lib.grading.parts import explain_parts
from course_lib.grading.run import standard_state
from course_lib.grading.spec import Case, Exercise, Mutant

GENERAL = "general"
Call = Callable[[Any, Case], Any]  # how one of our own functions is called on a case: `trusted_call`


@dataclass(frozen=True)
class Diagnosis:
    """A sentence for the learner; `name` is the mutant's, or "general".

    Attributes:
        names_a_change: False where the sentence says only where the answer is wrong, and not what to change.
    """

    name: str
    sentence: str
    names_a_change: bool = True


@dataclass(frozen=True)
class Difference:
    """One case: the returned value as it came, and the two tensors that were compared, where there are any."""

    case: Case
    got: Any
    expected_tensor: Tensor | None
    got_tensor: Tensor | None


def trusted_call(function: Any, case: Case) -> Any:
    """The reference or a mutant on a case: our own code, on copies, with the global state put back."""
    with standard_state(), torch.no_grad():
        return values.clone(function(*(values.clone(value) for value in case.inputs.values())))


def measured(exercise: Exercise, result: Any, case: Case, fingerprint: bool = False) -> Any:
    """What is compared: the result itself, or what the exercise's measure makes of it."""
    measure = exercise.measure
    if measure is None:
        return result
    function = measure.fingerprint if fingerprint and measure.fingerprint else measure.function
    given = {name: values.clone(value) for name, value in {**case.inputs, **case.held_out}.items()}
    with standard_state(), torch.no_grad():
        return function(result, given)


def diagnose(
    exercise: Exercise, differences: Sequence[Difference], passed: Sequence[Case] = (), call: Call = trusted_call
) -> Diagnosis | None:
    """The explanation that holds in every failing case, or None.

    Args:
        exercise: its mutants are tried first, in their order.
        differences: the failing cases, at least one.
        passed: the cases in which the answer is right. So must be the mutant that explains the others.
        call: `trusted_call`, or one that remembers results, for who diagnoses many answers.
    """
    for mutant in exercise.mutants:
        if _explains(exercise, mutant, differences, passed, call):
            return Diagnosis(mutant.name, mutant.sentence)
    sentence = _general(exercise, differences, call)
    return Diagnosis(GENERAL, sentence, not properties.is_emptiness(sentence)) if sentence else None


def add_cases(found: Diagnosis | None, judged: Sequence[tuple[Case, bool]]) -> Diagnosis | None:
    """Say which cases pass, where an answer is right on some only and nothing better explains the others.

    Args:
        found: what `diagnose` has found in the failing cases; None also for an answer that raises.
        judged: (case, passed) for every case, in order.
    """
    if found is not None and (found.name != GENERAL or not properties.is_emptiness(found.sentence)):
        return found
    sentence = explain_cases(judged)
    if not sentence:
        return found
    return Diagnosis(GENERAL, f"{sentence} {found.sentence}" if found else sentence, names_a_change=False)


def _explains(
    exercise: Exercise, mutant: Mutant, differences: Sequence[Difference], passed: Sequence[Case], call: Call
) -> bool:
    """True when the mutant gives the learner's result, or does the same with it, and is right where the learner is."""
    try:
        return all(
            _agree(exercise, one.case, call(mutant.function, one.case), one.got, fingerprint=True)
            for one in differences
        ) and all(
            _agree(exercise, case, call(exercise.reference, case), call(mutant.function, case)) for case in passed
        )
    except Exception:  # a mutant may not fit every case, and need not
        return False


def _agree(exercise: Exercise, case: Case, wanted: Any, got: Any, fingerprint: bool = False) -> bool:
    """True when two results are of one kind, and what is compared of them is equal."""
    if values.mismatch(wanted, got):
        return False
    sides = (wanted, values.trusted(wanted, got))
    return compare.equal(*(measured(exercise, side, case, fingerprint) for side in sides), exercise.tolerance)


def _general(exercise: Exercise, differences: Sequence[Difference], call: Call) -> str:
    """What is wrong in the compared tensors; for a built thing, also in the returned ones beside the course's own.

    Many built things are right, so the course's own is looked at only where a transform explains all of the
    difference. A factor says little there, so it comes last.
    """
    compared = [(difference.expected_tensor, difference.got_tensor) for difference in differences]
    evidence = make_evidence(compared, exercise.tolerance, exercise.axes)
    parts = _explain_parts(exercise, differences, call)
    built = " ".join(f"Compare {which} with the course's own answer. {sentence}" for sentence, which in parts.items())
    if not all(transforms.is_scale(sentence) for sentence in parts):
        return built
    return (_explain(evidence) if evidence else "") or built


def _explain(evidence: Evidence) -> str:
    if evidence.fits(lambda expected: expected):
        return "The numbers are right, only their dtype is not."
    finders = (
        transforms.find_logarithm,
        properties.find_emptiness,
        transforms.find_transform,
        properties.find_property,
    )
    return next((sentence for finder in finders if (sentence := finder(evidence))), "")


def _explain_parts(exercise: Exercise, differences: Sequence[Difference], call: Call) -> dict[str, str]:
    if exercise.measure is None:
        return {}
    pairs = [(call(exercise.reference, difference.case), difference.got) for difference in differences]
    return explain_parts(pairs, exercise.returns)
