"""From what a worker sent back to an exercise's entry in a row: `examine`'s own judgement, in the grader's process.

What came back is plain values, but anybody may have chosen them. Nothing random or timed goes into an entry.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import takewhile
from typing import Any

from course_lib.grader import wire
from course_lib.grader.server import Job, Reply
from course_lib.grading import values
from course_lib.grading.diagnose import GENERAL, trusted_call
from course_lib.grading.examine import (
    CHANGES,
    ERROR,
    NOT_ATTEMPTED,
    PASSED,
    TOO_SLOW,
    WRONG,
    Trial,
    Verdict,
    Wanted,
    conclude,
    judge,
    wanted_of,
)
from course_lib.grading.report import findings
from course_lib.grading.run import Failure, Outcome, standard_state
from course_lib.grading.spec import Case, Exercise

MAX_TEXT = 2000
MAX_KEPT = 200  # entries for each exercise; one has some thousand bytes at most
SECOND_SECONDS = 10.0  # for the cells of a second try, which may train something that no answer needs
_STATES = {PASSED: "ok", WRONG: "wrong", ERROR: "error", TOO_SLOW: "timeout", NOT_ATTEMPTED: "unattempted"}
_ENDS = {
    "oom": "The code asked for more memory than it may use.",
    "crashed": "The process in which the code ran ended before it had answered.",
}
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{4,}")
_judging = threading.Lock()  # judging sets and puts back global state of torch
Entry = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """An exercise as it is put in one run: its cases, what the reference makes of them, and the cases as bytes.

    What the mutants make of the cases is computed when a wrong answer is first compared with them, and kept. So are
    the last entries: in a class many answers give the same values to the last bit, be they right or wrong.
    """

    exercise: Exercise
    seed: int
    cases: tuple[Case, ...]
    wanted: tuple[Wanted, ...]
    payloads: tuple[bytes, ...]
    _known: dict[tuple[Any, int], tuple[Any, Exception | None]] = field(default_factory=dict, repr=False, compare=False)
    _entries: dict[bytes, Entry] = field(default_factory=dict, repr=False, compare=False)

    def known_entry(self, reply: Reply) -> Entry | None:
        """The entry of an answer that gave the same; None where there was none of late."""
        found = self._entries.get(reply.digest)
        return found and dict(found)

    def remember(self, reply: Reply, found: Entry) -> Entry:
        """Keep the entry, for answers that will give the same, and return it."""
        if reply.digest:
            self._entries[reply.digest] = dict(found)
            if len(self._entries) > MAX_KEPT:
                del self._entries[next(iter(self._entries))]
        return found

    def call(self, function: Any, case: Case) -> Any:
        """`trusted_call`, which runs a function once on a case of this task; an error is kept too."""
        key = function, id(case)
        if key not in self._known:
            try:
                self._known[key] = trusted_call(function, case), None
            except Exception as error:
                self._known[key] = None, error.with_traceback(None)
        value, error = self._known[key]
        if error is not None:
            raise error
        return value

    def job(self, cells: tuple[str, ...]) -> Job:
        """The work for a worker: no expected value is in it."""
        return Job(cells, self.exercise.reference.__name__, self.payloads, float(self.exercise.seconds))

    def second_job(self, cells: tuple[str, ...]) -> Job:
        """The same with other cells, which may take less time."""
        job = self.job(cells)
        return replace(job, setup_seconds=min(job.setup_seconds, SECOND_SECONDS))


def task_of(exercise: Exercise, seed: int) -> Task:
    """The exercise as it is put in the run of this seed; all submissions of a run get the same cases."""
    with _judging:
        return _task(exercise, seed)


@lru_cache(maxsize=256)
def _task(exercise: Exercise, run_seed: int) -> Task:
    seed = seed_of(run_seed, exercise.id)
    with standard_state():
        cases = tuple(exercise.draw(seed))
        wanted = tuple(wanted_of(exercise, case) for case in cases)
    payloads = tuple(wire.encode(dict(case.inputs)) for case in cases)
    return Task(exercise, seed, cases, wanted, payloads)


def seed_of(run_seed: int, exercise_id: str) -> int:
    """The seed that draws the cases of an exercise in the run of `run_seed`."""
    return int.from_bytes(hashlib.sha256(f"{run_seed}\0{exercise_id}".encode()).digest()[:4], "big")


def entry(exercise: Exercise, state: str, message: str = "", mutant: str = "", case: str = "") -> Entry:
    """How an exercise stands in a row; it has all its points or none."""
    points = exercise.difficulty if state == "ok" else 0
    return {
        "id": exercise.id,
        "title": exercise.title,
        "state": state,
        "points": None if state == "grader_error" else points,
        "max_points": exercise.difficulty,
        "mutant": mutant,
        "message": plain(message),
        "case": case,
    }


def plain(text: str) -> str:
    """Text without addresses of memory, control codes and half characters, cut at 2,000 characters."""
    text = "".join(letter for letter in text if letter.isprintable() or letter == "\n")
    text = _ADDRESS.sub("0x...", text)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def entry_of(task: Task, reply: Reply) -> Entry:
    """Judge what a worker sent back."""
    if not reply.outcomes and reply.state in ("error", "timeout"):
        return entry(task.exercise, reply.state, f"The code up to the answer could not be run. {reply.message}")
    with _judging:
        return task.known_entry(reply) or task.remember(reply, _judged(task, reply))


def entry_if_right(task: Task, reply: Reply) -> Entry | None:
    """The entry of an answer that is right in every case; None for any other, whose mistake nobody looks for here."""
    if reply.state != "ok":
        return None
    with _judging:
        known = task.known_entry(reply)
        if known is None and (found := _judged(task, reply, only_if_right=True)):
            return task.remember(reply, found)
    return known if known and known["state"] == "ok" else None


def _judged(task: Task, reply: Reply, only_if_right: bool = False) -> Entry | None:
    with standard_state():
        trials = _trials(task, reply)
        if only_if_right:
            trials = list(takewhile(lambda trial: trial.passed, trials))
            if len(trials) < len(task.cases):
                return None
        verdict = conclude(task.exercise, tuple(trials), task.seed, len(task.cases), task.call)
    return _in_words(verdict, reply)


def _trials(task: Task, reply: Reply) -> Iterator[Trial]:
    """The finished cases, judged, and one more where the worker ended before the last."""
    given = zip(task.cases, task.wanted, reply.outcomes, strict=False)
    finished = 0
    for finished, (case, wanted, (first, second)) in enumerate(given, start=1):
        trial = judge(task.exercise, case, finished, first, second, wanted)
        yield _steady(trial, first, second)
        if trial.too_slow:
            return
    if finished < len(task.cases):
        seconds = float(task.exercise.seconds)
        timeout = Failure(True, limit=seconds)
        kind = reply.state if reply.state in _ENDS else "crashed"
        failure = timeout if reply.state == "timeout" else Failure(True, kind=kind)
        yield Trial(task.cases[finished], finished + 1, failure=failure)


def _steady(trial: Trial, first: Outcome, second: Outcome) -> Trial:
    """A trial without what differs from call to call, which would differ from run to run."""
    failure = trial.failure
    if failure is not None:
        if trial.too_slow:
            return replace(trial, failure=Failure(True, limit=failure.limit))
        if first.failure != second.failure:
            return replace(trial, failure=replace(failure, message=""))
        return trial
    unlike = trial.problem and values.describe(first.value) != values.describe(second.value)
    if not unlike and CHANGES not in trial.notes:
        return trial
    return replace(trial, got=None, problem=CHANGES, notes=(), compared=None, comparison=None)


def _in_words(verdict: Verdict, reply: Reply) -> Entry:
    trial, diagnosis = verdict.failing, verdict.diagnosis
    state, points = _STATES[verdict.state], list(findings(verdict))
    if state == "error" and (trial.failure.kind in _ENDS or reply.state == "oom"):
        state = "oom" if reply.state == "oom" else "crashed"
        points = [*points[:1], ("Ended", _ENDS[state])]
    message = "\n".join(f"{label}: {sentence}" for label, sentence in points)
    case = trial.case.description if trial is not None and state not in ("ok", "unattempted") else ""
    mutant = diagnosis.name if diagnosis is not None and diagnosis.name != GENERAL else ""
    return entry(verdict.exercise, state, message, mutant, case)
