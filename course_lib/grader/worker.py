"""The untrusted side, job by job: runs a learner's cells, calls the answer on every case, and sends what came out.

Whatever happens here, the grader believes nothing but that these are the values which a submission gave.
"""

from __future__ import annotations
import __future__

import ast
import asyncio
import inspect
import json
import linecache
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, ModuleType
from typing import Any

from course_lib.grader import messages
from course_lib.grader.frames import Frames, send_frame
from course_lib.grading import values
from course_lib.grading.run import failure_of, run_here, seed_everything

MAX_JOB = 1 << 30
SPARE = 0.8  # seconds of a call in which others have the processor: they do not count


class _Broken(Exception):
    """A cell failed, or there is no function to call."""


def serve(stream: socket.socket, frames: Frames, cases: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Do one job after the other, until the grader closes the stream.

    Args:
        stream: to the grader.
        frames: of the same stream.
        cases: by the name of an answer the inputs by name, which this process has inherited.
    """
    while job := frames.next(MAX_JOB):
        fields = json.loads(job)
        work(stream, fields, cases[fields["function"]])


def work(stream: socket.socket, fields: dict[str, Any], cases: Sequence[dict[str, Any]]) -> None:
    """Do a job, and send what comes of it as soon as it is there.

    Args:
        stream: to the grader.
        fields: of the job.
        cases: its inputs by name.
    """
    try:
        answer = _run_cells(fields["cells"], fields["function"])
    except _Broken as error:
        send_frame(stream, messages.broken(str(error)))
        return
    send_frame(stream, messages.ready())
    taken: list[object] = []
    for case in cases:
        for seed in (1, 2):
            outcome = run_here(answer, case, seed, fields["seconds"], SPARE)
            send_frame(stream, messages.finished(outcome))
            taken = [] if taken else _take_places()  # in the second call of each case
            if outcome.failure and outcome.failure.limit is not None:
                return  # nobody waits for the others


def _nothing(*_args: Any, **_options: Any) -> None:
    """Show nothing: nobody looks."""


class _Passed:
    """What `check` and the like give here, where no verdict is made."""

    state = "passed"


def _pass(*_args: Any, **_options: Any) -> _Passed:
    return _Passed()


def replace_checks() -> None:
    """From now on `check`, `hint`, `solution` and `progress` of this process look at nothing, and a check passes.

    An answer may need code that calls them, and a worker may not read what they look at.
    """
    from course_lib import grading

    for module in (grading, grading.notebook, grading.overview):
        for name in ("check", "hint", "solution", "progress"):
            if hasattr(module, name):
                setattr(module, name, _pass)


class _Shell:
    """What `get_ipython` gives: each of its methods does nothing."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return _nothing


def _take_places() -> list[object]:
    """Objects of many sizes, where the last call had its own: in the next one most addresses in memory are others.

    A result that depends on them then changes from call to call, and is told as that; else from run to run.
    """
    small = [object() for _ in range(100)]  # as many as malloc and Python keep free and more
    return [*small, *map(float, range(100)), *map(bytes, 4 * [*range(0, 512, 16)])]


def _run_cells(cells: list[str], function: str) -> Callable[..., Any]:
    seed_everything(0)  # what cells draw stays the same from run to run
    main = ModuleType("__main__")
    sys.modules["__main__"] = main  # where dataclasses and the like look for the module of a class
    vars(main).update(display=_nothing, get_ipython=_Shell)  # which a notebook defines for every cell
    for number, cell in enumerate(cells, start=1):
        name, code = f"<cell {number}>", cell.removeprefix(messages.FUTURE)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | (__future__.annotations.compiler_flag if code != cell else 0)
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            _execute(compile(code, name, "exec", flags, dont_inherit=True), vars(main))
        except BaseException as error:  # SystemExit, and whatever else a learner's cell raises
            raise _Broken(_what_failed(error)) from None
    answer = vars(main).get(function)
    if answer is None:
        raise _Broken(f"The cells define no function `{function}`.")
    if not callable(answer):
        raise _Broken(f"`{function}` is {values.describe(answer)}; wanted is a function.")
    return answer


def _execute(code: CodeType, namespace: dict[str, Any]) -> None:
    """Run a cell; one that awaits something, as notebooks may, is waited for."""
    waiting = eval(code, namespace)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(waiting)


def _what_failed(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    failure = failure_of(error)
    where = f" (line {failure.line_number}: {failure.line})" if failure.line_number else ""
    return f"{failure.kind}: {failure.message}{where}"
