"""A real Dask cluster on this machine: a scheduler and two workers, each a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

SOON = 120  # seconds; only a failing test waits so long


@contextmanager
def dask_cluster(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Give the address of a scheduler with two workers, each in a session of its own, as on a machine of its own.

    Args:
        folder: where they keep their files, and what they say: dask.log.
        environment: their environment variables.

    Raises:
        TimeoutError: the scheduler did not start.
    """
    utils = pytest.importorskip("distributed.utils")
    file = folder / "scheduler.json"
    here = ["--scheduler-file", file, "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    scheduler, worker = ["scheduler", "--port", "0", *here], ["worker", "--nthreads", "1", *here]
    with open(folder / "dask.log", "w") as output:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "dask", *map(str, words)],
                env=environment | {"DASK_TEMPORARY_DIRECTORY": str(folder)},
                cwd=folder,
                stderr=output,
                start_new_session=True,
            )
            for words in (scheduler, worker, worker)
        ]
    try:
        yield utils.json_load_robust(file, timeout=SOON)["address"]  # waits for a whole file
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
