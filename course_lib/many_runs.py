"""Many independent runs at once, by worker processes of this machine or by those of a Dask cluster."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import Any

import torch
from tqdm.auto import tqdm

from course_lib.config import check_counts
from course_lib.data_parallel import under_torchrun
from course_lib.runtime import static


def run_all(function: Callable, arguments: Iterable[tuple], executor: Executor) -> list[Any]:
    """Results of `function(*each)` for each of `arguments`, in their order, by the workers of `executor`.

    Example: `with local_workers(2) as executor: histories = run_all(run_one, [(2, 0), (2, 1)], executor)`.
    A function that calls `train.train` with a folder of its own for every run makes a series that can be interrupted:
    called again it loads the finished runs and goes on with the others.
    Under `torchrun` all processes work on each run together, one run after another, and `executor` is not used.

    Args:
        function: defined in a module that the workers can import. What it takes and returns is copied.
        arguments: one tuple a run.
        executor: from `local_workers` or `dask_workers`, or any other.

    Raises:
        RuntimeError: runs failed; says which, and why. All others are finished.
    """
    arguments = list(arguments)
    if under_torchrun():
        return [function(*each) for each in arguments]
    futures = [executor.submit(_call, pickle.dumps((function, each))) for each in arguments]
    with tqdm(total=len(futures), unit="run", disable=static(), leave=False) as bar:
        for _ in as_completed(futures):
            bar.update()
    errors = [(each, _error(future)) for each, future in zip(arguments, futures, strict=True) if _error(future)]
    if errors:
        reasons = "\n".join(f"  {each}: {error!r}" for each, error in errors)
        raise RuntimeError(f"{len(errors)} of {len(futures)} runs failed:\n{reasons}") from errors[0][1]
    return [pickle.loads(future.result()) for future in futures]


def _call(job: bytes) -> bytes:
    """In a worker. Bytes, since tensors sent to another process as they are would be shared with it, not copied."""
    function, each = pickle.loads(job)
    return pickle.dumps(function(*each))


def _error(future: Future) -> BaseException | None:
    return CancelledError("the cluster gave it up") if future.cancelled() else future.exception()


@contextmanager
def local_workers(count: int) -> Iterator[Executor]:
    """Worker processes of this machine; they share the threads that PyTorch would use here.

    An error or interrupt inside the `with` block stops the workers in the middle of what they do. A worker that dies,
    for want of memory say, stops the others too.

    Args:
        count: how many runs go on at a time. A script that uses them needs `if __name__ == "__main__":`.

    Raises:
        ValueError: a count below 1.
    """
    check_counts(count=count)
    threads = max(1, torch.get_num_threads() // count)
    others = set(active_children())
    with ProcessPoolExecutor(count, get_context("spawn"), _set_up_worker, (threads,)) as pool:
        try:
            yield pool
        except BaseException:
            for worker in set(active_children()) - others:
                worker.terminate()
            raise


def _set_up_worker(threads: int) -> None:
    """In a new worker: its share of the threads, no bars of its own, and no life without its parent."""
    torch.set_num_threads(threads)
    os.environ["COURSE_STATIC"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt from the keyboard goes to all; the parent handles it
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)


@contextmanager
def dask_workers(address: str) -> Iterator[Executor]:
    """The workers of a Dask cluster; a run whose worker dies is given to another one.

    An error or interrupt inside the `with` block restarts the workers that are busy with runs of this block, within
    seconds; they need the nanny that `dask worker` gives them by default.
    The cluster decides on the threads: start a worker for one run at a time with `dask worker ADDRESS --nthreads 1`,
    where `course_lib` and the function can be imported. A run that moves to another machine goes on from its
    checkpoint if both see the same folder, else from its start.

    Args:
        address: that of the scheduler, such as `tcp://HOST:8786`.
    """
    from distributed import Client  # not installed with the course: pip install "distributed"

    with Client(address) as client:
        executor = client.get_executor(pure=False)
        try:
            yield executor
        except BaseException:
            ours = set(client.futures)
            busy = [worker for worker, keys in client.processing().items() if ours & set(keys)]
            executor.shutdown(wait=False)  # takes back what no worker has begun
            client.restart_workers(busy)  # a thread cannot be stopped; its process can
            raise
