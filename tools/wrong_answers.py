"""Wrong answers that fit any exercise: its own answer with one general mistake.

The tests hand each of them in and look at the state; `feedback_table.py` counts whether the report says what was done.
Whether a mistake changes anything in an exercise is decided by comparing with the answer, never by a list:
a symmetric matrix is its own transpose, and a built head may do the same with other weights.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.grading import Case, Exercise, compare, values
from course_lib.grading.diagnose import measured
from course_lib.grading.examine import ERROR, TOO_SLOW, WRONG
from course_lib.grading.run import standard_state

Answer = Callable[..., Any]


@dataclass(frozen=True)
class WrongAnswer:
    """One general mistake.

    Attributes:
        words: a regular expression that a report contains which says what was done.
        make: `make(exercise, cases)` gives the answer with the mistake.
        state: what an answer gets in which the mistake changes something.
        seconds: the time limit under which it is tried; None keeps the exercise's own.
    """

    name: str
    words: str
    make: Callable[[Exercise, Sequence[Case]], Answer]
    state: str = WRONG
    seconds: float | None = None


# --- changes of a right result ----------------------------------------------------------------------------------


def over_parts(change: Callable[[Tensor], Any]) -> Callable[[Any], Any]:
    """Apply a change to a tensor or a number, to each member of a tuple, to each weight of a model."""

    def changed(result: Any) -> Any:
        if isinstance(result, nn.Module):
            return _with_weights(result, change)
        if type(result) in (tuple, list):
            return type(result)(changed(part) for part in result)
        if isinstance(result, Tensor):
            return change(result.detach())
        if type(result) in (int, float):
            value = change(torch.tensor(result, dtype=None if type(result) is int else torch.float64))
            plain = isinstance(value, Tensor) and value.ndim == 0 and value.dtype != torch.float16
            return value.item() if plain else value
        return result

    return changed


def _with_weights(model: nn.Module, change: Callable[[Tensor], Any]) -> nn.Module:
    model = copy.deepcopy(model)
    for name, weight in list(model.named_parameters()):
        owner, _, last = name.rpartition(".")
        value = change(weight.detach().clone())
        if not isinstance(value, Tensor):
            return value  # no model can hold it, so it comes in place of the model
        setattr(model.get_submodule(owner), last, nn.Parameter(value, requires_grad=False))
    return model


def swap_last_axes(value: Tensor) -> Tensor:
    return value.mT.contiguous() if value.ndim > 1 else value


def shift(value: Tensor) -> Tensor:
    return value.roll(1, -1) if value.ndim else value


def negate(value: Tensor) -> Tensor:
    return ~value if value.dtype == torch.bool else -value


def add_constant(value: Tensor) -> Tensor:
    return value + (0.75 if value.is_floating_point() else 1)


def drop_axis(value: Tensor) -> Tensor:
    return value[0] if value.ndim and len(value) else value


def reverse(axis: int) -> Callable[[Tensor], Tensor]:
    return lambda value: value.flip(axis) if value.ndim else value


def in_floats(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda value: change(value if value.is_floating_point() else value.float())


def as_list(value: Tensor) -> list:
    return list(value) if value.ndim else [value]


def as_plain_list(value: Tensor) -> list:
    return value.tolist() if value.ndim else [value.item()]


def as_array(value: Tensor) -> Any:
    return value.numpy()


def first_number(value: Tensor) -> Any:
    return value.flatten()[0].item() if value.numel() else value


def add_noise(value: Tensor) -> Tensor:
    if value.is_floating_point():
        return value + torch.rand(value.shape) * (1 + value.abs())
    return value + torch.randint(1, 1000, value.shape)


# --- ways to make an answer out of them --------------------------------------------------------------------------


def result_of(change: Callable[[Any], Any]) -> Callable[[Exercise, Sequence[Case]], Answer]:
    """The answer whose result is changed."""

    def make(exercise: Exercise, cases: Sequence[Case]) -> Answer:
        return lambda *inputs: change(exercise.reference(*inputs))

    return make


def parts(change: Callable[[Tensor], Any]) -> Callable[[Exercise, Sequence[Case]], Answer]:
    """The answer with every tensor of its result changed."""
    return result_of(over_parts(change))


def changes_its_inputs(exercise: Exercise, cases: Sequence[Case]) -> Answer:
    def answer(*inputs: Any) -> Any:
        result = values.clone(exercise.reference(*inputs))
        for tensor in _tensors(inputs):
            tensor.logical_not_() if tensor.dtype == torch.bool else tensor.add_(1)
        return result

    return answer


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value.detach()
    elif isinstance(value, nn.Module):
        yield from (weight.detach() for weight in value.parameters())
    elif isinstance(value, dict | tuple | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def only_like_the_first_case(otherwise: Callable[[Any], Any]) -> Callable[[Exercise, Sequence[Case]], Answer]:
    """Right where all shapes and numbers are those of the first case, the one a learner tries by hand."""

    def make(exercise: Exercise, cases: Sequence[Case]) -> Answer:
        known = _sizes(tuple(cases[0].inputs.values()))

        def answer(*inputs: Any) -> Any:
            result = exercise.reference(*inputs)
            return result if _sizes(inputs) == known else otherwise(result)

        return answer

    return make


def _sizes(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, nn.Module):
        return _sizes(tuple(value.parameters()))
    if type(value) in (tuple, list):
        return tuple(_sizes(part) for part in value)
    return len(value) if isinstance(value, dict | str) else value


zeros = over_parts(torch.zeros_like)


def misfit(result: Any) -> Any:
    return torch.zeros(3) + torch.zeros(4)


def never_ends(*inputs: Any) -> None:
    while True:
        pass


def always(action: Callable[[], Any]) -> Callable[[Exercise, Sequence[Case]], Answer]:
    return lambda exercise, cases: lambda *inputs: action()


_NO_MODEL = r".*; wanted is an? [A-Z]"  # where a model is wanted, there is nothing to convert

WRONG_ANSWERS: tuple[WrongAnswer, ...] = (
    # right numbers in the wrong places
    WrongAnswer("transposed", r"transposed|opposite order", parts(swap_last_axes)),
    WrongAnswer("shifted by one", r"one place too (late|early) along", parts(shift)),
    WrongAnswer("last axis reversed", r"run backwards along|another order along", parts(reverse(-1))),
    WrongAnswer("batch order reversed", r"run backwards along|another order along", parts(reverse(0))),
    WrongAnswer(
        "an axis too many", r"ax[ie]s (of size 1 )?too many|`\.item\(\)` takes", parts(lambda value: value[None])
    ),
    WrongAnswer("an axis too few", r"ax[ie]s too few|axis (of size 1 )?is missing", parts(drop_axis)),
    # wrong numbers in the right places
    WrongAnswer("times 2.5", r"\d times what is wanted|off by (one|its own) factor", parts(lambda value: 2.5 * value)),
    WrongAnswer("negative", r"wrong sign|one minus", parts(negate)),
    WrongAnswer("plus a constant", r"by the same amount", parts(add_constant)),
    WrongAnswer("exp", r"\bexp of what is wanted", parts(in_floats(torch.exp))),
    WrongAnswer("logarithm", r"the logarithm of what is wanted", parts(in_floats(torch.log))),
    WrongAnswer("NaN", r"NaN in it", parts(lambda value: value * float("nan"))),
    # wrong kinds
    WrongAnswer("whole numbers", r"dtype int64; wanted is|fractions are cut off", parts(lambda value: value.long())),
    WrongAnswer("bool", r"dtype bool; wanted is|is a bool; wanted is", parts(lambda value: value > 0)),
    WrongAnswer("float16", r"float16; wanted is", parts(lambda value: value.half())),
    WrongAnswer("list of tensors", rf"`torch\.stack`|`\[0\]` takes|is a list {_NO_MODEL}", parts(as_list)),
    WrongAnswer("list of numbers", rf"`torch\.tensor`|`\[0\]` takes|is a list {_NO_MODEL}", parts(as_plain_list)),
    WrongAnswer("numpy array", rf"`torch\.from_numpy|`\.item\(\)` takes|is a numpy {_NO_MODEL}", parts(as_array)),
    WrongAnswer("one number", r"is an? (float|int|bool); wanted is", parts(first_number)),
    WrongAnswer("nothing returned", r"forget `return`", result_of(lambda result: None)),
    WrongAnswer("text", r"is a str; wanted is", result_of(str)),
    WrongAnswer("a thousand results", r"of 1000", result_of(lambda result: (0.5,) * 1000)),
    # wrong manners
    WrongAnswer("changes its inputs", r"changes its input", changes_its_inputs),
    WrongAnswer("depends on chance", r"gives different results", parts(add_noise)),
    WrongAnswer("zeros but in the first case", r"Right on case", only_like_the_first_case(zeros)),
    WrongAnswer("raises but in the first case", r"Right on case", only_like_the_first_case(misfit), ERROR),
    WrongAnswer("raises", r"ZeroDivisionError in line \d+ of your code: `", always(lambda: 1 / 0), ERROR),
    WrongAnswer("no such key", r"KeyError in line \d+ of your code: `", always(lambda: {}["pattern"]), ERROR),
    WrongAnswer("ends the program", r"ends the program", always(lambda: sys.exit(1)), ERROR),
    WrongAnswer("takes no argument", r"before your code ran", lambda exercise, cases: lambda: None, ERROR),
    WrongAnswer("never ends", r"One call may take", lambda exercise, cases: never_ends, TOO_SLOW, 0.05),
)


# --- does it change anything? -------------------------------------------------------------------------------------


def is_wrong(exercise: Exercise, answer: Answer, cases: Sequence[Case]) -> bool:
    """True when the answer raises, changes an input, or gives in any of two calls what is not the right result.

    It waits for the answer: not to be asked of one that never ends.
    """
    with standard_state(), torch.no_grad():
        return any(_fails(exercise, answer, case) for case in cases)


def _fails(exercise: Exercise, answer: Answer, case: Case) -> bool:
    inputs = list(case.inputs.values())
    expected = exercise.reference(*values.clone(inputs))
    for _ in range(2):
        given = values.clone(inputs)
        try:
            got = values.clone(answer(*given))
        except (Exception, SystemExit):
            return True
        if not values.same(inputs, given) or not _equal(exercise, case, expected, got):
            return True
    return False


def _equal(exercise: Exercise, case: Case, expected: Any, got: Any) -> bool:
    if values.mismatch(expected, got):
        return False
    try:
        sides = [measured(exercise, side, case) for side in (expected, values.trusted(expected, got))]
    except Exception:  # the measure cannot use it
        return False
    return compare.compare(*sides, exercise.tolerance).equal
