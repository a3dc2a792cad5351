"""What an exercise is. Plain data: nothing here runs a learner's code or compares anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

N_HINTS = 3
MIN_MUTANTS = 4
SECONDS = 5.0


@dataclass(frozen=True)
class Case:
    """One set of inputs.

    Attributes:
        description: the case in words, as the learner reads it.
        inputs: arguments of the answer by name, passed by position in this order.
        held_out: what only a `Measure` sees, for example the sequences that a built model is tried on.
    """

    description: str
    inputs: Mapping[str, Any]
    held_out: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Mutant:
    """A plausible wrong answer, and the sentence that a learner reads whose answer equals it."""

    name: str
    sentence: str
    function: Callable[..., Any]


@dataclass(frozen=True)
class Tolerance:
    """Numbers count as equal when `|got - expected| <= atol + rtol * |expected|`, in float64."""

    rtol: float
    atol: float

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a finite number of at least 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class Measure:
    """Judges a built thing by what it does, so that differently scaled correct weights pass.

    Attributes:
        name: what is measured, as the learner reads it: "attention pattern".
        function: `function(result, inputs)` gives the tensor to compare; `inputs` holds the case's inputs and held_out.
        summary: `summary(expected, got)` gives one sentence on the two measured tensors, for example an accuracy.
        fingerprint: `fingerprint(result, inputs)` gives a tensor that tells wrong results apart better than
            `function` does. Only the diagnosis uses it; it never decides whether an answer passes.
    """

    name: str
    function: Callable[[Any, dict[str, Any]], Tensor]
    summary: Callable[[Tensor, Tensor], str] | None = None
    fingerprint: Callable[[Any, dict[str, Any]], Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Exercise:
    """The specification that the notebook's `check` and a grader share; each equals only itself.

    Attributes:
        id: chapter and number, "3.1".
        reference: the answer of the solution notebook itself; nothing else says what is right.
        difficulty: 1 (a line or two) to 5.
        minutes: what an able newcomer needs.
        cases: `cases(generator)` draws the cases; the same generator state gives the same cases. Where an input is
            named "seed", an answer must give the very same in both calls, also if a measure would forgive more.
        hints: three, from a nudge to nearly the code.
        next_step: what the answer is used for, shown when it passes.
        measure: None compares the returned values themselves.
        tolerance: None takes the default of the expected dtype (`compare.default_tolerance`).
        axes: names of the axes of the compared tensor.
        returns: names of the parts of a returned tuple.
        seconds: one call of the answer may take this long; a right one should need less than a fifth of it.
    """

    id: str
    title: str
    reference: Callable[..., Any]
    difficulty: int
    minutes: int
    cases: Callable[[torch.Generator], Sequence[Case]]
    mutants: Sequence[Mutant]
    hints: Sequence[str]
    next_step: str
    measure: Measure | None = None
    tolerance: Tolerance | None = None
    axes: Sequence[str] = ()
    returns: Sequence[str] = ()
    seconds: float | int = SECONDS

    def __post_init__(self) -> None:
        for name in ("mutants", "hints", "axes", "returns"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not re.fullmatch(r"\d+\.\d+", self.id):
            raise ValueError(f"id must be chapter and number such as '3.1', got {self.id!r}")
        if self.difficulty not in range(1, 6) or self.minutes < 1:
            raise ValueError(
                f"exercise {self.id}: difficulty must be 1 to 5 and minutes at least 1, "
                f"got {self.difficulty} and {self.minutes}"
            )
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"exercise {self.id}: seconds must be a finite number above 0, got {self.seconds}")
        if len(self.hints) != N_HINTS:
            raise ValueError(f"exercise {self.id}: hints must be {N_HINTS} texts, got {len(self.hints)}")
        names = {mutant.name for mutant in self.mutants}
        if len(names) < len(self.mutants) or len(names) < MIN_MUTANTS:
            raise ValueError(
                f"exercise {self.id}: mutants must be at least {MIN_MUTANTS} with different names, "
                f"got {[mutant.name for mutant in self.mutants]}"
            )

    def draw(self, seed: int) -> list[Case]:
        """The cases of one seed, at least one."""
        cases = list(self.cases(torch.Generator().manual_seed(seed)))
        if not cases:
            raise ValueError(f"exercise {self.id}: cases must give at least one Case, got none")
        return cases
