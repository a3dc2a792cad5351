"""What the workers of a Dask cluster are asked to do in test_grader_cluster.py; they import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def grade(batch):
    """A row for each parcel; its bytes say what happens meanwhile: "wait FOLDER", "kill" or "fail"."""
    return [_one(parcel) for parcel in batch]


def _one(parcel):
    word, _, folder = parcel.data.decode().partition(" ")
    if word == "wait":
        _wait(Path(folder))
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "fail":
        raise ValueError("no such exercise")
    return f"row of {parcel.name}"


def _wait(folder):
    """Tell the test which process this is, and go on when it says so."""
    (folder / "new").write_text(str(os.getpid()))
    (folder / "new").rename(folder / "held")
    while not (folder / "go").exists():
        time.sleep(0.02)
