"""From a submission to a row: read it, run its answers in workers, judge what comes back.

Whatever a file holds, there is a row. A fault of the grader is tried twice and then told as one, never as a zero.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from course_lib.grader.folder import Submission
from course_lib.grader.given import package_hash, specification
from course_lib.grader.notebook import Notebook
from course_lib.grader.reading import InvalidNotebook
from course_lib.grader.server import Job, Reply
from course_lib.grader.similar import borrowed, print_of
from course_lib.grader.states import counted, ids_in_order
from course_lib.grader.submission import Answers, answers_of, other_readings, read_notebook, second_try
from course_lib.grader.verdicts import Entry, Task, entry, entry_if_right, entry_of, plain, task_of
from course_lib.grading.spec import Exercise

STATES = ("ok", "partial", "unattempted", "error", "timeout", "oom", "crashed", "invalid_notebook", "grader_error")
_NOT_RIGHT = ("wrong", "error", "unattempted", "timeout")  # perhaps for want of a statement that was left out
_WORST_FIRST = ("crashed", "oom", "timeout", "error")
Row = dict[str, Any]
Record = dict[str, Any]  # a row, and what decides whether it still holds


@runtime_checkable
class Workers(Protocol):
    """What does the work: a `server.Server`, or something that stands for one."""

    layers: tuple[str, ...]

    def run(self, job: Job) -> Reply:
        """Run the answer of a job on its cases."""
        ...

    def run_together(self, jobs: Sequence[Job]) -> Iterator[Reply]:
        """The same for several of one submission, one after the other; ends before one that cannot be finished."""
        ...


def cores() -> int:
    """Processor cores that this process may use; so many workers at a time leave each slow answer one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Options:
    """How to grade.

    Attributes:
        seed: draws the inputs; the same seed and submissions give the same results.
        exercises: ids of those that count; none: all of each chapter that a submission names.
        isolation: a level of `isolation.LEVELS`, or "best".
        require: the level below which nothing is graded.
        parallel: how many workers run at a time.
        shard: (i, n) grades the i-th of n shares of the submissions.
    """

    seed: int
    exercises: tuple[str, ...] = ()
    isolation: str = "best"
    require: str = "none"
    parallel: int = field(default_factory=cores)
    shard: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if self.parallel < 1:
            raise ValueError(f"parallel must be at least 1, got {self.parallel}")
        if not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"shard must be i of n with 1 <= i <= n, got {self.shard[0]} of {self.shard[1]}")


def grade_submission(
    submission: Submission, exercises: Mapping[str, Exercise], server: Workers, options: Options
) -> Row:
    """The row of a submission. Never raises because of what is in it.

    Args:
        submission: from `find_submissions`.
        exercises: all exercises of the course, by id.
        server: running.
        options: how to grade.
    """
    return grade_record(submission, exercises, server, options)["row"]


def grade_record(
    submission: Submission,
    exercises: Mapping[str, Exercise],
    server: Workers,
    options: Options,
    earlier: Callable[[str], Record | None] = lambda _sha256: None,
) -> Record:
    """As `grade_submission`, with what tells later whether the row still holds.

    Args:
        submission, exercises, server, options: as there.
        earlier: the record of an earlier run for a file with this SHA-256, whose entries are taken where they hold.
    """
    problem = ""
    for _ in range(2):
        try:
            return _Grading(submission, exercises, server, options).record(earlier)
        except Exception as error:
            problem = f"The grader failed: {type(error).__name__}: {error}"
    row = _row(submission, server, options, state="grader_error", score=None, problems=[plain(problem)])
    return {"row": row, "keys": {}, "prints": {}, "basis": ""}


def basis_of(exercises: Mapping[str, Exercise], options: Options) -> str:
    """A hash of what decides which exercises count, and of this package."""
    known = [(exercise_id, exercise.reference.__name__) for exercise_id, exercise in exercises.items()]
    return hashlib.sha256(repr((package_hash(), known, options.exercises)).encode()).hexdigest()[:16]


def holds(record: Record, exercises: Mapping[str, Exercise], layers: Sequence[str], options: Options) -> bool:
    """True when a row of an earlier run would come out the same today."""
    return (
        _comparable(record, layers, options)
        and record["basis"] == basis_of(exercises, options)
        and all(one in exercises and key == specification(exercises[one]) for one, key in record["keys"].items())
        and all(one["state"] != "grader_error" for one in [record["row"], *record["row"]["exercises"]])
    )


def _comparable(record: Record, layers: Sequence[str], options: Options) -> bool:
    return record["row"]["seed"] == options.seed and record["row"]["isolation"] == list(layers)


class _Fault(Exception):
    """A worker could not be had."""


class _Grading:
    """The grading of one submission."""

    def __init__(
        self, submission: Submission, exercises: Mapping[str, Exercise], server: Workers, options: Options
    ) -> None:
        self.submission, self.exercises, self.server, self.options = submission, exercises, server, options
        self.basis = basis_of(exercises, options)

    def record(self, earlier: Callable[[str], Record | None]) -> Record:
        """Grade, or take what an earlier run found."""
        sha256 = ""
        try:
            data = self.submission.read()
            sha256 = hashlib.sha256(data).hexdigest()
            before = earlier(sha256)
            if before is not None and holds(before, self.exercises, self.server.layers, self.options):
                return {**before, "row": {**before["row"], **_named(self.submission)}}
            return self._graded(sha256, read_notebook(data), before)
        except InvalidNotebook as problem:
            return self._invalid(sha256, str(problem))

    def _invalid(self, sha256: str, problem: str) -> Record:
        chosen = {one: self.exercises[one] for one in ids_in_order(list(self.options.exercises))}
        entries = [entry(exercise, "invalid_notebook", problem) for exercise in chosen.values()]
        keys = {one: specification(exercise) for one, exercise in chosen.items()}
        row = self._row(sha256, "invalid_notebook", entries, keys, problems=[plain(problem)])
        return {"row": row, "keys": keys, "prints": {}, "basis": self.basis}

    def _graded(self, sha256: str, notebook: Notebook, before: Record | None) -> Record:
        ids = ids_in_order(list(self.options.exercises or notebook.names(self.exercises)))
        chosen = {one: self.exercises[one] for one in ids}
        answers = answers_of(notebook, chosen)
        keys = {one: specification(exercise) for one, exercise in chosen.items()}
        known = self._still_good(before, keys)
        known |= self._right_together([chosen[one] for one in answers.found if one not in known], answers)
        entries = [known.get(one) or self._entry(exercise, answers, notebook) for one, exercise in chosen.items()]
        found = {one: print_of(chosen[one], trees) for one, trees in answers.trees.items()}
        row = self._row(
            sha256, state_of(entries), entries, keys, problems=self._problems(answers, ids), skipped=answers.skipped
        )
        prints = {one: list(print_) for one, print_ in found.items() if print_ is not None}
        return {"row": row, "keys": keys, "prints": prints, "basis": self.basis}

    def _still_good(self, before: Record | None, keys: Mapping[str, str]) -> dict[str, Entry]:
        """Entries of an earlier run whose exercises have not changed."""
        if before is None or not _comparable(before, self.server.layers, self.options):
            return {}
        entries = [one for one in before["row"]["exercises"] if before["keys"].get(one["id"]) == keys.get(one["id"])]
        return {one["id"]: one for one in entries if one["state"] not in ("grader_error", "invalid_notebook")}

    def _right_together(self, exercises: Iterable[Exercise], answers: Answers) -> dict[str, Entry]:
        """The entries of answers that are right when one worker gives them all.

        Each of the others gets a worker of its own, so nobody loses a point by what another answer did to the process.
        """
        right: dict[str, Entry] = {}
        with suppress(Exception):  # what goes wrong here goes wrong in `_entry` too, where it is told
            tasks = [task_of(exercise, self.options.seed) for exercise in exercises]
            jobs = [task.job(answers.found[task.exercise.id]) for task in tasks]
            replies = self.server.run_together(jobs) if len(jobs) > 1 else ()
            for reply, task in zip(replies, tasks, strict=False):
                if found := entry_if_right(task, reply):
                    right[task.exercise.id] = found
        return right

    def _entry(self, exercise: Exercise, answers: Answers, notebook: Notebook) -> Entry:
        fault = ""
        for _ in range(2):
            try:
                found = self._found(exercise, answers, notebook)
                return found if found["state"] not in _NOT_RIGHT else self._otherwise(exercise, notebook) or found
            except _Fault as error:
                fault = str(error)
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
        return entry(exercise, "grader_error", f"The grader failed: {fault}")

    def _found(self, exercise: Exercise, answers: Answers, notebook: Notebook) -> Entry:
        """The entry of the answer that was found, or of none."""
        problem = answers.problems.get(exercise.id)
        if problem is None:
            return self._judged(task_of(exercise, self.options.seed), answers.found[exercise.id], notebook)
        state = "unattempted" if exercise.id in answers.unattempted else "error"
        return entry(exercise, state, f"{problem[:1].upper()}{problem[1:]}.")

    def _otherwise(self, exercise: Exercise, notebook: Notebook) -> Entry | None:
        """The entry of something else that may be meant as the answer, if it is right."""
        for cells in other_readings(notebook, exercise, self.exercises):
            task = task_of(exercise, self.options.seed)
            found = entry_of(task, self._run(task.second_job(cells)))
            if found["state"] == "ok":
                return found
        return None

    def _judged(self, task: Task, cells: tuple[str, ...], notebook: Notebook) -> Entry:
        """The entry of an answer; one that is not right is run again as the notebook runs it."""
        reply = self._run(task.job(cells))
        found = entry_of(task, reply)
        if found["state"] not in _NOT_RIGHT:
            return found
        broken = not reply.outcomes and found["state"] != "timeout"
        whole = second_try(notebook, task.exercise, self.exercises, broken)
        second = entry_of(task, self._run(task.second_job(whole))) if whole else found
        return second if second["state"] == "ok" else found

    def _run(self, job: Job) -> Reply:
        reply = self.server.run(job)
        if reply.state == "grader_error":
            raise _Fault(reply.message)
        return reply

    def _problems(self, answers: Answers, ids: Sequence[str]) -> list[str]:
        told = [f"{one}: {problem}" for one, problem in answers.problems.items() if one not in answers.unattempted]
        for one, trees in answers.trees.items():
            if modules := borrowed(self.exercises[one], trees):
                told.append(f"{one}: the answer uses {', '.join(modules)}, which the exercise does not give.")
        if self.options.exercises:
            return told
        if not ids:
            return [*told, "The file names no exercise of the course."]
        chapters = list(dict.fromkeys(one.partition(".")[0] for one in ids))
        noun = counted(len(chapters), "chapter").partition(" ")[2]
        return [*told, f"Graded are all exercises of {noun} {', '.join(chapters)}, which the file names."]

    def _row(self, sha256: str, state: str, entries: list[Entry], keys: Mapping[str, str], **more: Any) -> Row:
        failed = state == "grader_error"
        return _row(
            self.submission,
            self.server,
            self.options,
            sha256=sha256,
            state=state,
            score=None if failed else sum(one["points"] for one in entries),
            max_score=sum(one["max_points"] for one in entries),
            exercises=entries,
            specification=hashlib.sha256(repr(sorted(keys.items())).encode()).hexdigest()[:16],
            **more,
        )


def _named(submission: Submission) -> Row:
    return {"submission": submission.name, "student": submission.student, "assignment": submission.assignment}


def _row(submission: Submission, server: Workers, options: Options, **known: Any) -> Row:
    """A row with everything that is not known yet left empty."""
    empty = {"sha256": "", "score": 0, "max_score": 0, "exercises": [], "problems": [], "similar": []}
    given = {"isolation": list(server.layers), "seed": options.seed, "specification": "", "skipped": ()}
    row = {**_named(submission), **empty, **given, **known}
    return {**row, "skipped": [plain(line) for line in row["skipped"]]}


def state_of(entries: Sequence[Entry]) -> str:
    """The state of a row: "partial" if anything is right but not all, or if all that was tried is merely wrong."""
    states = {one["state"] for one in entries}
    if "grader_error" in states:
        return "grader_error"
    if not states - {"unattempted"}:
        return "unattempted"
    if states == {"ok"}:
        return "ok"
    if "ok" in states:
        return "partial"
    return next((state for state in _WORST_FIRST if state in states), "partial")
