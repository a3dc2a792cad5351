"""Submissions in batches for the workers of a cluster, and what to do with a batch that kills them.

A batch whose worker dies is repeated by the cluster. One that keeps killing workers is cut in halves; what is left
of it is tried once more with nothing beside it, so that nobody pays for a neighbour.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import NamedTuple

BATCH = 25  # submissions; fewer where the class is small
BATCH_BYTES = 16 << 20


class Parcel(NamedTuple):
    """A submission on its way to a worker: plain texts and bytes.

    Attributes:
        problem: why there are no bytes.
        before: the record of an earlier run for the same bytes, as JSON, or empty.
    """

    name: str
    student: str
    assignment: str
    data: bytes
    problem: str = ""
    before: str = ""


Batch = tuple[Parcel, ...]
Grade = Callable[[Batch], list[str]]


def batches(parcels: Iterable[Parcel], size: int) -> Iterator[Batch]:
    """Parcels in groups of at most `size`, and of at most 16 MiB unless one alone is larger."""
    group, weight = [], 0
    for parcel in parcels:
        if group and (len(group) == size or weight + len(parcel.data) > BATCH_BYTES):
            yield tuple(group)
            group, weight = [], 0
        group.append(parcel)
        weight += len(parcel.data)
    if group:
        yield tuple(group)


def batch_size(count: int, threads: int) -> int:
    """Four batches for each thread of the cluster, of 25 submissions at most."""
    return max(1, min(BATCH, math.ceil(count / (4 * threads))))


def run_batches(
    todo: Iterable[Batch], executor: Executor, grade: Grade, width: int
) -> Iterator[tuple[Parcel, str | None]]:
    """(parcel, its record as JSON text) as they are finished; None for a parcel that kills every worker.

    Args:
        todo: is asked for a batch when there is room for one, so that not all lie in memory.
        executor: whose futures fail with `KilledWorker` when a batch has cost several workers.
        grade: makes the records of a batch, in order.
        width: how many batches are with the cluster at a time.

    Raises:
        Exception: what `grade` raised.
    """
    new, halves, alone, running = iter(todo), deque(), [], {}
    while True:
        while len(running) < width and (batch := halves.popleft() if halves else next(new, None)):
            running[executor.submit(grade, batch)] = batch
        if not running:
            break
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            batch = running.pop(future)
            if not _killed(future):
                yield from zip(batch, future.result(), strict=True)
            elif len(batch) > 1:
                halves += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
            else:
                alone.append(batch)
    for batch in alone:
        future = executor.submit(grade, batch)
        wait([future])
        yield batch[0], None if _killed(future) else future.result()[0]


def _killed(future: Future) -> bool:
    """True when the batch was given up because workers died on it."""
    from distributed.scheduler import KilledWorker

    return not future.cancelled() and isinstance(future.exception(), KilledWorker)
