"""Grading on a Dask cluster: submissions travel as bytes in batches, records come back as JSON text.

Each worker process has a server of its own, which shuts in what it runs. No learner's code runs in a process of Dask.
"""

from __future__ import annotations

import atexit
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import NamedTuple

import torch

from course_lib.grader.batches import Batch, Parcel, batch_size, batches, run_batches
from course_lib.grader.folder import Submission
from course_lib.grader.given import package_hash
from course_lib.grader.grade import OnRow, Run, Summary, check_isolation, known_exercises
from course_lib.grader.isolation import layers_of
from course_lib.grader.reading import InvalidNotebook
from course_lib.grader.rows import Options, Record, grade_record, holds
from course_lib.grader.server import Job, Reply, Server
from course_lib.grader.zips import closing_zips
from course_lib.grading.spec import Exercise

START_SECONDS = 60  # for the first worker to be there


class ClusterError(Exception):
    """A cluster that cannot be used; the message says why and what to do."""


@contextmanager
def workers(address: str) -> Iterator[tuple[Executor, int]]:
    """The workers of a Dask cluster, and how many threads they have; an interrupt stops what they do for us.

    Raises:
        ClusterError: no `distributed` here, no scheduler there, or no worker within a minute.
    """
    try:
        from distributed import default_client
    except ImportError:
        raise ClusterError('--scheduler needs the package "distributed": pip install "distributed>=2024.11"') from None
    from course_lib.many_runs import dask_workers

    with ExitStack() as stack:
        try:
            executor = stack.enter_context(dask_workers(address))
            default_client().wait_for_workers(1, timeout=START_SECONDS)
        except (OSError, ValueError) as error:
            raise ClusterError(f"--scheduler must be a Dask scheduler with workers; got {address}: {error}") from None
        yield executor, sum(default_client().nthreads().values())


class Worker(NamedTuple):
    """What must agree on all workers, so that it does not matter where a submission is graded."""

    package: str
    torch: str
    layers: tuple[str, ...]


def introduce(level: str) -> Worker:
    """On a worker: which versions are there, and which layers it has at a level of isolation."""
    return Worker(package_hash(), torch.__version__, layers_of(level))


def grade_batch(options: Options, expected: Worker, batch: Batch) -> list[str]:
    """On a worker: for each submission of a batch its record, and how long it took, as JSON.

    Raises:
        ClusterError: this worker is not like the others.
    """
    with _starting:  # one thread of this process at a time: what is imported and read here serves all of them
        found = introduce(options.isolation)
        for name, mine, theirs in zip(Worker._fields, found, expected, strict=True):
            if mine != theirs:
                raise ClusterError(f"all workers must have the same {name}; one has {mine}, another {theirs}")
        exercises, server = _exercises(found.package), _server(options.isolation)
    return [_timed(parcel, exercises, server, options) for parcel in batch]


def _timed(parcel: Parcel, exercises: Mapping[str, Exercise], server: Server, options: Options) -> str:
    started = perf_counter()
    record = _record(parcel, exercises, server, options)
    return json.dumps([record, perf_counter() - started])


def _record(parcel: Parcel, exercises: Mapping[str, Exercise], server: Server, options: Options) -> Record:
    before = json.loads(parcel.before) if parcel.before else None
    return grade_record(_submission(parcel), exercises, server, options, lambda _sha256: before)


def _submission(parcel: Parcel) -> Submission:
    def read() -> bytes:
        if parcel.problem:
            raise InvalidNotebook(parcel.problem)
        return parcel.data

    return Submission(parcel.name, parcel.student, parcel.assignment, read)


_starting = Lock()


@cache
def _exercises(_package: str) -> dict[str, Exercise]:
    """All exercises, read once for each state of the course's files."""
    return known_exercises()


@cache
def _server(level: str) -> Server:
    """The server of this process; it ends with it."""
    from distributed import get_worker

    server = Server(level, get_worker().state.nthreads)
    server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    return server


class _NoServer(Server):
    """Stands for a server where none is wanted: `layers` as on the workers, and no job can be done."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        super().__init__()
        self.layers = layers

    def run(self, job: Job) -> Reply:
        """No job: what asks for one must be told to a person."""
        return Reply("grader_error", message="workers of the cluster died whenever they graded this submission")

    def run_together(self, jobs: Sequence[Job]) -> Iterator[Reply]:
        """None of them."""
        return iter(())


def grade_on_cluster(path: Path, out: Path, options: Options, address: str, on_row: OnRow | None = None) -> Summary:
    """As `grade.grade_folder`, on the workers of a Dask cluster.

    Args:
        path, out, options, on_row: as there. `options.parallel` is the cluster's business.
        address: of the scheduler.

    Raises:
        ClusterError: the cluster cannot be used, or its workers differ.
        TooLittleIsolation: the workers give less than `options.require`.
        ValueError, InUse: as there.
    """
    exercises = known_exercises()
    with Run(path, out, options, exercises) as run, workers(address) as (executor, threads), closing_zips():
        like = executor.submit(introduce, options.isolation).result()
        if like.package != package_hash():
            raise ClusterError("the workers must have the version of the course that is here; they have another one")
        check_isolation(like.layers, options.require)

        def keep(record: Record, seconds: float = 0.0) -> None:
            run.add(record, seconds)
            if on_row is not None:
                on_row(record["row"], run.n_done, len(run.submissions))

        nobody = _NoServer(like.layers)
        new = _new_parcels(run, exercises, nobody, options, keep)
        todo = batches(new, batch_size(len(run.submissions), threads))
        for parcel, text in run_batches(todo, executor, partial(grade_batch, options, like), 2 * threads):
            keep(*(json.loads(text) if text else (_record(parcel, exercises, nobody, options),)))
        return run.finish(like.layers)


def _new_parcels(
    run: Run, exercises: Mapping[str, Exercise], nobody: _NoServer, options: Options, keep: Callable[[Record], None]
) -> Iterator[Parcel]:
    """What must be graded; the records of an earlier run that still hold are kept on the way."""
    for submission in run.submissions:
        try:
            data, problem = submission.read(), ""
        except InvalidNotebook as reason:
            data, problem = b"", str(reason)
        before = run.earlier(hashlib.sha256(data).hexdigest()) if data else None
        text = json.dumps(before) if before else ""
        parcel = Parcel(submission.name, submission.student, submission.assignment, data, problem, text)
        if before is not None and holds(before, exercises, nobody.layers, options):
            keep(_record(parcel, exercises, nobody, options))
        else:
            yield parcel
