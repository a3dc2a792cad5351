"""An exercise whose own functions compute each thing once: for tables and tests that hand in many wrong answers.

The answer, the mutants, the cases and the measure are functions of what goes in, so their results can be kept.
What a learner hands in is never kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.grading import Case, Exercise, load, values


@cache
def remembered(exercise_id: str) -> Exercise:
    """The course's exercise of this id, one for the whole process."""
    return remembering(load.find(exercise_id))


def remembering(exercise: Exercise) -> Exercise:
    """The same exercise with a memory of its own."""
    measure = exercise.measure
    if measure is not None:
        kept = {name: _kept(getattr(measure, name)) for name in ("function", "fingerprint") if getattr(measure, name)}
        measure = replace(measure, **kept)
    return replace(
        exercise,
        reference=_kept(exercise.reference),
        cases=_kept_cases(exercise.cases),
        mutants=[replace(mutant, function=_kept(mutant.function)) for mutant in exercise.mutants],
        measure=measure,
    )


def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with a memory; what it returns is a copy, and what it raises is raised again."""
    memory: dict[Any, tuple[bool, Any]] = {}

    @wraps(function)
    def kept(*inputs: Any) -> Any:
        key = _key(inputs)
        if key not in memory:
            try:
                memory[key] = True, values.clone(function(*inputs))
            except Exception as error:
                memory[key] = False, error
        returned, value = memory[key]
        if not returned:
            raise value
        return values.clone(value)

    return kept


def _kept_cases(cases: Callable[[torch.Generator], Any]) -> Callable[[torch.Generator], list[Case]]:
    memory: dict[int, list[Case]] = {}

    def kept(generator: torch.Generator) -> list[Case]:
        seed = generator.initial_seed()
        if seed not in memory:
            memory[seed] = list(cases(generator))
        return memory[seed]

    return kept


def _key(value: Any) -> Any:
    """Equal for inputs that are equal bit for bit."""
    if isinstance(value, Tensor):
        content = value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
        return str(value.dtype), tuple(value.shape), content
    if isinstance(value, nn.Module):
        return type(value), repr(getattr(value, "config", None)), _key(value.state_dict())
    if isinstance(value, dict):
        return tuple((name, _key(part)) for name, part in value.items())
    if isinstance(value, tuple | list):
        return type(value), tuple(_key(part) for part in value)
    return type(value), repr(value)
