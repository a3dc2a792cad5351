"""Grading on a Dask cluster: real scheduler and workers, some of which die; rows as on one machine."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import pytest
import torch
from dask_cluster import SOON, dask_cluster
from grader_cluster_tasks import grade

from course_lib.grader import cluster
from course_lib.grader.batches import BATCH_BYTES, Parcel, batch_size, batches, run_batches
from course_lib.grader.cluster import ClusterError, grade_on_cluster, workers
from course_lib.grader.grade import Options, grade_folder, known_exercises

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.timeout(3 * SOON)


def parcels(count, data=b"x"):
    return [Parcel(f"{number:03}", f"student {number}", "", data) for number in range(count)]


def wait_for(condition):
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


# Batches


def test_batches_hold_every_parcel_once_and_are_not_too_large():
    sent = [*parcels(30), Parcel("big", "", "", b"x" * (BATCH_BYTES + 1)), *parcels(3)]
    made = list(batches(sent, 12))
    assert [parcel for batch in made for parcel in batch] == sent
    assert [len(batch) for batch in made] == [12, 12, 6, 1, 3]
    assert [len(batch) for batch in batches(parcels(5, b"x" * (BATCH_BYTES // 2)), 9)] == [2, 2, 1]
    assert list(batches([], 5)) == []


@pytest.mark.parametrize(("count", "threads", "size"), [(5000, 8, 25), (100, 2, 13), (3, 4, 1), (1, 1, 1)])
def test_small_classes_are_spread(count, threads, size):
    assert batch_size(count, threads) == size


# A cluster that is made up: it gives a batch up when one of its parcels kills


class Mortal(ThreadPoolExecutor):
    """Fails as Dask does, and notes what it was given."""

    def __init__(self):
        super().__init__(1)
        self.given = []

    def submit(self, function, batch):
        from distributed.scheduler import KilledWorker

        self.given.append([parcel.name for parcel in batch])
        if any(parcel.data == b"kill" for parcel in batch):
            future = Future()
            future.set_exception(KilledWorker("task", None, 3))
            return future
        return super().submit(function, batch)


def test_only_the_parcel_that_kills_is_without_a_row():
    pytest.importorskip("distributed")
    sent = parcels(16)
    sent[5] = Parcel("bad", "", "", b"kill")
    with Mortal() as executor:
        found = dict(run_batches(batches(sent, 8), executor, grade, 2))
    assert {parcel.name: row for parcel, row in found.items()} == {
        parcel.name: None if parcel.name == "bad" else f"row of {parcel.name}" for parcel in sent
    }
    assert executor.given[-1] == ["bad"] and executor.given.count(["bad"]) == 2  # once more, when all others are done


def test_a_batch_is_asked_for_when_there_is_room():
    asked = []

    def lazily():
        for batch in batches(parcels(20), 2):
            asked.append(batch)
            yield batch

    pytest.importorskip("distributed")
    with Mortal() as executor:
        rows = run_batches(lazily(), executor, grade, 3)
        next(rows)
        assert len(asked) == 3
        assert len(list(rows)) == 19


def test_what_the_task_raises_is_raised_here():
    pytest.importorskip("distributed")
    with Mortal() as executor, pytest.raises(ValueError, match="no such exercise"):
        list(run_batches([(Parcel("a", "", "", b"fail"),)], executor, grade, 2))


# Real ones


@pytest.fixture
def dask(tmp_path):
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    environment["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = "1"  # the default, 3, takes longer to lose patience
    with dask_cluster(tmp_path, os.environ | environment) as address:
        yield address


def test_the_batch_of_a_worker_that_dies_is_repeated_and_one_that_kills_is_told(dask, tmp_path):
    sent = [*parcels(9), Parcel("held", "", "", f"wait {tmp_path}".encode()), Parcel("bad", "", "", b"kill")]

    def kill():
        wait_for((tmp_path / "held").exists)
        os.kill(int((tmp_path / "held").read_text()), signal.SIGKILL)  # its nanny starts another one
        (tmp_path / "go").touch()

    thread = Thread(target=kill)
    with workers(dask) as (executor, _):
        thread.start()
        found = dict(run_batches(batches(sent, 2), executor, grade, 4))
    thread.join()
    assert {parcel.name for parcel in found} == {parcel.name for parcel in sent}
    assert [parcel.name for parcel, row in found.items() if row is None] == ["bad"]
    assert all(row == f"row of {parcel.name}" for parcel, row in found.items() if row)


def test_no_scheduler_is_one_sentence():
    pytest.importorskip("distributed")
    import dask as settings

    with (
        settings.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ClusterError, match="--scheduler must be a Dask scheduler with workers; got tcp://127.0.0.1:9"),
        workers("tcp://127.0.0.1:9"),
    ):
        pass


def test_without_distributed_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ClusterError, match=r'--scheduler needs the package "distributed": pip install'),
        workers("tcp://x:1"),
    ):
        pass


# A class, graded there


def test_a_class_is_graded_as_on_one_machine_also_when_a_worker_dies(dask, tmp_path):
    from distributed import Client

    folder = tmp_path / "class"
    folder.mkdir()
    for number in range(12):
        answer = "pattern.mean()" if number % 2 else "pattern.diagonal(-1, -2, -1).mean((0, -1))"
        code = f"def previous_token_score(pattern):\n    return {answer}  # {number}\n"
        (folder / f"student{number:02}.py").write_text(code)
    (folder / "broken.ipynb").write_bytes(b"{")
    options = Options(seed=3, exercises=("3.1", "3.2"), parallel=1)
    killed = []

    def kill_one(row, done, total):
        if not killed:
            with Client(dask) as client:
                killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    summary = grade_on_cluster(folder, tmp_path / "there", options, dask, kill_one)
    assert killed and summary.rows == 13
    grade_folder(folder, tmp_path / "here", options)
    for name in ("results.jsonl", "results.csv", "results.xml"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    states = [json.loads(line)["exercises"][0]["state"] for line in (tmp_path / "here" / "results.jsonl").open()]
    assert [states.count(state) for state in ("ok", "wrong", "invalid_notebook")] == [6, 6, 1]
    again = grade_on_cluster(folder, tmp_path / "there", options, dask)
    assert again.reused == 13


def test_workers_that_differ_or_give_too_little_are_refused(monkeypatch):
    like = cluster.Worker("another", torch.__version__, ())
    with pytest.raises(ClusterError, match="all workers must have the same package"):
        cluster.grade_batch(Options(seed=1), like, ())


def test_a_submission_that_kills_workers_becomes_a_grader_error():
    nobody = cluster._NoServer(("limits",))
    answer = Parcel("a.py", "a", "", b"def previous_token_score(pattern):\n    return 1\n")
    row = cluster._record(answer, known_exercises(), nobody, Options(seed=1, exercises=("3.1",)))["row"]
    assert row["state"] == "grader_error" and row["score"] is None
    assert "workers of the cluster died" in row["exercises"][0]["message"]
