"""Calls a learner's function on one case and brings back what happened: a value, or where and how it failed."""

from __future__ import annotations

import ast
import dis
import inspect
import linecache
import random
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

import torch

from course_lib.grading import trees, values
from course_lib.grading.limit import Limit
from course_lib.grading.spec import SECONDS

MAX_MESSAGE = 500
_DOES_NOTHING = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
_LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_GENERATED = ("<frozen", "<string>", "<@beartype")  # Python's own start, dataclass methods, checked functions
_LIBRARIES = tuple(
    {str(Path(__file__).parents[1])} | {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
)


@dataclass(frozen=True)
class Failure:
    """How a call failed.

    Attributes:
        attempted: False for a stub that nobody has filled in.
        kind: name of the exception's type.
        message: its text, cut at 500 characters.
        line_number: the line of the learner's own code, or None when the call did not get there.
        line: the source of that line, or empty.
        limit: seconds, when the call took longer than that; else None.
        loop: "for" or "while", when a call that took too long stood in such a loop; else empty.
    """

    attempted: bool
    kind: str = ""
    message: str = ""
    line_number: int | None = None
    line: str = ""
    limit: float | int | None = None
    loop: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one call gave: a value or a failure, and the names of the inputs that it changed."""

    value: Any = None
    failure: Failure | None = None
    mutated: tuple[str, ...] = ()


def run(
    function: Callable[..., Any], inputs: Mapping[str, Any], seed: int = 0, seconds: float | int = SECONDS
) -> Outcome:
    """Call the function on copies of the inputs, by position. What it prints goes through.

    `seed` sets the global generators of torch, random and numpy for the call; two calls with different seeds
    show whether an answer depends on them. All global state is put back afterwards.
    `seconds` limits the call where `Limit.call` can: in the main thread, between two steps of Python.

    Raises:
        KeyboardInterrupt: the only exception that is not turned into a `Failure`.
    """
    with standard_state():
        return run_here(function, inputs, seed, seconds)


def run_here(
    function: Callable[..., Any], inputs: Mapping[str, Any], seed: int, seconds: float | int, spare: float = 0.0
) -> Outcome:
    """As `run`, in a process that nobody needs afterwards: the global state stays as the function leaves it.

    Putting it back costs more time than most answers take. `spare` is that of `Limit`.
    """
    _set_defaults(True, torch.float32, torch.device("cpu"))
    given = {name: values.clone(value) for name, value in inputs.items()}
    limit = Limit(seconds, spare)
    seed_everything(seed)
    try:
        value = limit.call(function, given.values())
        value = value if limit.expired else values.clone(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, and whatever a learner's code raises
        return Outcome(failure=_too_slow(limit) if limit.expired else failure_of(error))
    if limit.expired:
        return Outcome(failure=_too_slow(limit))
    if value is None and (_does_nothing(function) or _has_placeholder(function)):
        return Outcome(failure=Failure(attempted=False))
    mutated = tuple(name for name, value in inputs.items() if not values.same(value, given[name]))
    return Outcome(value=value, mutated=mutated)


@contextmanager
def standard_state() -> Iterator[None]:
    """Torch's own defaults for grad mode, dtype and device inside; all of them and the generators put back after."""
    numpy = sys.modules.get("numpy")
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state = numpy.random.get_state() if numpy else None
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    grad, dtype, device = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device()
    try:
        _set_defaults(True, torch.float32, torch.device("cpu"))
        yield
    finally:
        _set_defaults(grad, dtype, device)
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        if numpy:
            numpy.random.set_state(numpy_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)


def _set_defaults(grad: bool, dtype: torch.dtype, device: torch.device) -> None:
    torch.set_grad_enabled(grad)
    torch.set_default_dtype(dtype)
    torch.set_default_device(None if device.type == "cpu" else device)  # None, as it is at the start: no slow detour


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch, random and, where it is loaded, numpy."""
    torch.default_generator.manual_seed(seed)  # torch.manual_seed also writes down the call stack, for each device
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)


def failure_of(error: BaseException) -> Failure:
    """How a call failed, with the deepest line of code that is neither a library's nor ours."""
    frames = list(_frames(error.__traceback__))
    own = next((entry for entry in reversed(frames) if _is_the_learners(entry[0].f_code)), None)
    stub = isinstance(error, NotImplementedError) and own is not None and own == frames[-1] and _raises_itself(*own)
    number = own[1] if own else None
    line = linecache.getline(own[0].f_code.co_filename, own[1]).strip() if own else ""
    return Failure(not stub, type(error).__name__, _text_of(error), number, line[:MAX_MESSAGE])


def _frames(traceback: TracebackType | None) -> Iterator[tuple[FrameType, int, int]]:
    """The frames from the call inwards, each with its line and its last instruction."""
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno, traceback.tb_lasti
        traceback = traceback.tb_next


def _is_the_learners(code: CodeType) -> bool:
    return not code.co_filename.startswith(_GENERATED + _LIBRARIES)


def _too_slow(limit: Limit) -> Failure:
    own = [(code, number) for code, number in limit.stack if _is_the_learners(code)]
    number = own[0][1] if own else None
    line = linecache.getline(own[0][0].co_filename, number).strip() if own else ""
    loop = next((found for place in own if (found := _loop_around(*place))), "")
    return Failure(True, line_number=number, line=line[:MAX_MESSAGE], limit=limit.seconds, loop=loop)


def _loop_around(code: CodeType, line_number: int) -> str:
    """ "for" or "while": the innermost loop around a line; empty where there is none, or no source."""
    try:
        lines, first = inspect.getsourcelines(code)
        tree = trees.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return ""
    place = line_number - max(first, 1) + 1
    loops = [node for node in ast.walk(tree) if isinstance(node, _LOOPS) and node.lineno <= place <= node.end_lineno]
    if not loops:
        return ""
    return "while" if isinstance(max(loops, key=lambda node: node.lineno), ast.While) else "for"


def _raises_itself(frame: FrameType, _line: int, last: int) -> bool:
    """True for `raise ...`; torch raises NotImplementedError too, out of a call, and that is a mistake, not a stub."""
    return dis.opname[frame.f_code.co_code[last]] == "RAISE_VARARGS"


def _does_nothing(function: Callable[..., Any]) -> bool:
    """True for a body of `...`, `pass` or a docstring alone."""
    code = getattr(function, "__code__", None)
    return code is not None and {step.opname for step in dis.get_instructions(code)} <= _DOES_NOTHING


def _has_placeholder(function: Callable[..., Any]) -> bool:
    """True when `...` or `pass` still stands after given lines, and nothing is returned; needs the source."""
    try:
        tree = trees.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    returns = any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(tree))
    body = tree.body[0].body if isinstance(tree.body[0], ast.FunctionDef) else []
    return not returns and any(isinstance(step, ast.Pass) or ast.unparse(step) == "..." for step in body)


def _text_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = "(the exception's text cannot be read)"
    printable = "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")
    return printable if len(printable) <= MAX_MESSAGE else printable[: MAX_MESSAGE - 3] + "..."
