"""A folder of submissions to a folder of results: workers in parallel, resumed after an interrupt, in shares."""

from __future__ import annotations

import gc
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Any

import torch

from course_lib.grader.folder import Submission, find_all
from course_lib.grader.given import known_exercises, package_hash, specification
from course_lib.grader.isolation import LEVELS
from course_lib.grader.results import Records, write_part, write_records
from course_lib.grader.rows import STATES, Options, Record, Row, grade_record, grade_submission
from course_lib.grader.server import Server
from course_lib.grader.states import listed
from course_lib.grader.store import Store, locked, naming
from course_lib.grader.verdicts import task_of
from course_lib.grader.zips import closing_zips
from course_lib.grading.spec import Exercise

__all__ = [
    "STATES",
    "NoSubmission",
    "Options",
    "Run",
    "Summary",
    "TooLittleIsolation",
    "check_isolation",
    "grade_folder",
    "grade_submission",
    "known_exercises",
]

GARBAGE = 20_000  # new objects before Python looks for cycles among them
OnRow = Callable[[Row, int, int], None]


class NoSubmission(ValueError):
    """There is nothing to grade; earlier results are left as they are."""


class TooLittleIsolation(Exception):
    """This machine gives less isolation than was required; nothing was run."""


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        results: the file that was written.
        rows: how many submissions there are.
        reused: how many rows an earlier run had finished.
        states: how many rows stand how.
        ignored: names of files that are no submissions.
        isolation: the layers that were on.
        seconds: how long it took.
    """

    results: Path
    rows: int
    reused: int
    states: dict[str, int]
    ignored: tuple[str, ...]
    isolation: tuple[str, ...]
    seconds: float


def grade_folder(
    path: Path,
    out: Path,
    options: Options,
    on_row: OnRow | None = None,
    make_server: Callable[..., AbstractContextManager[Any]] = Server,
) -> Summary:
    """Grade what lies in a folder, or go on where an earlier call was stopped.

    Args:
        path: the submissions.
        out: the folder for the results.
        options: how to grade.
        on_row: is told of each finished row: the row, how many are finished, how many there are.
        make_server: makes the server, from a level of isolation and a number of workers.

    Raises:
        NoSubmission: the folder holds none.
        ValueError: no such folder, `out` is that folder or holds it, or an exercise that does not exist.
        InUse: another grader writes into this folder now.
        TooLittleIsolation: `options.require` is not met.
    """
    exercises = known_exercises()
    unknown = sorted(set(options.exercises) - set(exercises))
    if unknown:
        raise ValueError(f"exercises must be some of {', '.join(exercises)}; got {', '.join(unknown)}")
    with (
        Run(path, out, options, exercises) as run,
        _one_thread(),
        _little_garbage(),
        _prepared([exercises[one] for one in options.exercises], options.seed),
        make_server(options.isolation, options.parallel) as server,
        closing_zips(),
    ):
        check_isolation(server.layers, options.require)
        gc.freeze()  # what is there now stays; to look through it again and again takes a tenth of the time

        def work(submission: Submission) -> tuple[Record, float]:
            started = perf_counter()
            return grade_record(submission, exercises, server, options, run.earlier), perf_counter() - started

        for record, seconds in _finished(work, run.submissions, options.parallel + 1):  # one reads while others wait
            run.add(record, seconds)
            if on_row is not None:
                on_row(record["row"], run.n_done, len(run.submissions))
        return run.finish(tuple(server.layers))


@contextmanager
def _one_thread() -> Iterator[None]:
    """What the grader computes is small: more threads of torch would wait for the processors that workers use."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _little_garbage() -> Iterator[None]:
    """Syntax trees are many objects without cycles: fewer looks for some save about a tenth here."""
    before = gc.get_threshold()
    gc.set_threshold(GARBAGE, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def _prepared(exercises: Iterable[Exercise], seed: int) -> Iterator[None]:
    """Draw the cases of these exercises and call their references, meanwhile: a fork server takes seconds to start."""

    def prepare() -> None:
        for exercise in exercises:
            with suppress(Exception):  # it is told with the first submission that has an answer
                task_of(exercise, seed)
                specification(exercise)

    thread = Thread(target=prepare)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def check_isolation(layers: Iterable[str], require: str) -> None:
    """Refuse to go on with too little isolation.

    Raises:
        ValueError: an unknown level.
        TooLittleIsolation: a layer up to the required level is missing.
    """
    if require not in LEVELS:
        raise ValueError(f"the required isolation must be one of {', '.join(LEVELS)}; got {require!r}")
    missing = [layer for layer in LEVELS[1 : LEVELS.index(require) + 1] if layer not in layers]
    if missing:
        there = ", ".join(layers) or "none"
        raise TooLittleIsolation(
            f"{require} is required, but {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing here; "
            f"there is: {there}. `course probe` says why"
        )


def _finished(work: Callable[[Any], Any], items: Iterable[Any], threads: int) -> Iterator[Any]:
    """Results as they come; after an interrupt nobody waits for what is under way."""
    pool = ThreadPoolExecutor(threads)
    running: set[Future[Any]] = set()
    try:
        for item in items:
            running.add(pool.submit(work, item))
            if len(running) >= 2 * threads:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Run:
    """The results of a class while they are made: a context that holds the lock, and knows what is finished.

    Args of the constructor:
        path: the submissions.
        out: the folder for the results; it is made if it is not there.
        options: how to grade.
        exercises: all exercises of the course, by id.

    Attributes:
        submissions: those of this shard.
        n_done: how many of them have their row.
    """

    def __init__(self, path: Path, out: Path, options: Options, exercises: Mapping[str, Exercise]) -> None:
        self._started = perf_counter()
        found = find_all(path, leave_out=out)
        if not found.submissions:
            there = f"only {listed(found.ignored)}" if found.ignored else "nothing"
            raise NoSubmission(f"there must be at least one .ipynb, .py or .zip in {path}, and there is {there}")
        self.out, self.options, self.exercises, self.ignored = out, options, exercises, found.ignored
        self._class = hashlib.sha256(json.dumps([one.name for one in found.submissions]).encode()).hexdigest()[:16]
        self.submissions = tuple(one for one in found.submissions if _share(one.name, options.shard))
        self.n_done = self._n_reused = 0
        self._places: dict[str, tuple[int, int]] = {}  # of this run's records, by name

    def __enter__(self) -> Run:
        self.out.mkdir(parents=True, exist_ok=True)
        suffix = "" if self.options.shard[1] == 1 else "-{}-of-{}".format(*self.options.shard)
        with ExitStack() as stack:
            stack.enter_context(locked(self.out / f".lock{suffix}"))
            self._store = stack.enter_context(Store(self.out / f"journal{suffix}.jsonl"))
            self._timings = stack.enter_context(open(self.out / f"timings{suffix}.jsonl", "a", encoding="utf-8"))
            self._by_content, self._by_name = {}, {}
            for place, record in self._store.places():
                self._by_content[record["row"]["sha256"]] = self._by_name[record["row"]["submission"]] = place
            self._close = stack.pop_all().close
        return self

    def __exit__(self, *_error: object) -> None:
        with naming(self._timings.name):  # what is not written yet is written now
            self._close()

    def earlier(self, sha256: str) -> Record | None:
        """The newest record of a file with this content."""
        place = self._by_content.get(sha256)
        return None if place is None else self._store.read(place)

    def add(self, record: Record, seconds: float) -> None:
        """Keep a record; when this returns, it is on the disk."""
        name, place = record["row"]["submission"], self._by_name.get(record["row"]["submission"])
        if place is not None and self._store.read(place) == record:
            self._n_reused += 1
        else:
            place = self._store.add(record)
            with naming(self._timings.name):
                print(json.dumps({"submission": name, "seconds": round(seconds, 4)}), file=self._timings)
        self._by_content[record["row"]["sha256"]] = self._places[name] = place
        self.n_done += 1

    def finish(self, layers: tuple[str, ...]) -> Summary:
        """Write the results of all submissions, which must have been added."""
        records = Records(sorted(self._places), lambda name: self._store.read(self._places[name]))
        if self.options.shard[1] == 1:
            results = write_records(records, self.out, self.exercises)
        else:
            results = write_part(records, self.out, self._header())
        states = Counter(record["row"]["state"] for record in records)
        return Summary(
            results,
            len(self._places),
            self._n_reused,
            dict(sorted(states.items())),
            self.ignored,
            layers,
            perf_counter() - self._started,
        )

    def _header(self) -> dict[str, Any]:
        return {
            "shard": list(self.options.shard),
            "seed": self.options.seed,
            "exercises": list(self.options.exercises),
            "package": package_hash(),
            "class": self._class,
        }


def _share(name: str, shard: tuple[int, int]) -> bool:
    """True when a submission belongs to a shard; a submission that comes later changes nothing for the others."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % shard[1] == shard[0] - 1
