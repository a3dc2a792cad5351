"""What grader and worker say to each other: limits and jobs one way; the other way how far it is, and what came out.

The grader takes nothing in a message for granted: `read_note` makes plain fields of it or refuses it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from course_lib.grader.wire import Limits, WireError, decode, encode
from course_lib.grading.run import Failure, Outcome

LIMITS = Limits()
FUTURE = "from __future__ import annotations\n"  # in front of a cell; the cell's own lines count from the next one
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
_FIELDS = {
    "attempted": bool,
    "kind": str,
    "message": str,
    "line_number": int | None,
    "line": str,
    "limit": float | int | None,
    "loop": str,
}


@dataclass(frozen=True)
class Job:
    """One exercise of one submission.

    Attributes:
        cells: code to run first, in order: our own set-up, then the learner's cells.
        function: name of the answer.
        cases: what `wire.encode` made of the inputs by name, one for each case; they reach a worker by inheritance.
        seconds: one call may take this long.
        setup_seconds: the cells may take this long.
        memory: bytes that the worker may use.
    """

    cells: tuple[str, ...]
    function: str
    cases: tuple[bytes, ...]
    seconds: float | int
    setup_seconds: float | int = 20.0
    memory: int = 2 << 30


@dataclass(frozen=True)
class Note:
    """One message of a worker: its kind, and an outcome or a text."""

    kind: str
    outcome: Outcome | None = None
    text: str = ""


def worker_limits(jobs: Sequence[Job]) -> bytes:
    """What a worker may use for these jobs: bytes of memory, and processor time, more than the clocks leave it."""
    on_one_thread = sum(job.setup_seconds + 2 * (job.seconds + 1) * len(job.cases) for job in jobs)
    limits = {"memory": max(job.memory for job in jobs), "cpu_seconds": int(4 * on_one_thread) + 10}
    return json.dumps(limits).encode()


def job_header(job: Job) -> bytes:
    """What a worker needs of a job, beside its cases."""
    return json.dumps({"cells": job.cells, "function": job.function, "seconds": job.seconds}).encode()


def confined() -> bytes:
    """The worker has given up its rights; only after this does it run anything of a learner's."""
    return encode({"kind": "confined"})


@cache
def ready() -> bytes:
    """The cells have run, and the answer is a function."""
    return encode({"kind": "ready"})


def broken(text: str) -> bytes:
    """A cell failed, or there is no function."""
    return encode({"kind": "error", "text": text})


def finished(outcome: Outcome) -> bytes:
    """What one call gave."""
    failure = asdict(outcome.failure) if outcome.failure else None
    return encode(
        {"kind": "outcome", "mutated": list(outcome.mutated), "failure": failure, "value": outcome.value},
    )


def read_note(data: bytes, names: Collection[str], seconds: float | int) -> Note:
    """The message, in plain fields.

    Args:
        data: what the worker sent.
        names: of the inputs, which an outcome may call changed.
        seconds: the only limit that a failure may name.

    Raises:
        WireError: it is no such message.
    """
    message = decode(data, LIMITS)
    kind = message.get("kind") if type(message) is dict else None
    if kind in ("confined", "ready") and len(message) == 1:
        return Note(kind)
    if kind == "error" and message.keys() == {"kind", "text"} and type(message["text"]) is str:
        return Note("error", text=without_addresses(message["text"]))
    if kind == "outcome" and message.keys() == {"kind", "mutated", "failure", "value"}:
        return Note("outcome", _outcome(message, names, seconds))
    raise WireError("an unknown message")


def _outcome(message: dict[str, Any], names: Collection[str], seconds: float | int) -> Outcome:
    mutated = message["mutated"]
    if type(mutated) is not list or not all(type(name) is str for name in mutated):
        raise WireError("changed inputs must be a list of names")
    changed = tuple(name for name in names if name in mutated)
    if message["failure"] is None:
        return Outcome(message["value"], None, changed)
    return Outcome(None, _failure(message["failure"], seconds), changed)


def _failure(fields: Any, seconds: float | int) -> Failure:
    if type(fields) is not dict or fields.keys() != _FIELDS.keys():
        raise WireError("a failure must have its own fields")
    if not all(isinstance(fields[name], kind) for name, kind in _FIELDS.items()):
        raise WireError("a field of a failure is of the wrong kind")
    late = fields["limit"] is not None
    loop = fields["loop"] if fields["loop"] in ("for", "while") else ""
    texts = {name: without_addresses(fields[name]) for name in ("kind", "message", "line")}
    return Failure(**{**fields, **texts, "limit": seconds if late else None, "loop": loop})


def without_addresses(text: str) -> str:
    """The text with places in memory left out: they change from run to run."""
    return _ADDRESS.sub("0x...", text)
