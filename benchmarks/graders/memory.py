"""Memory of a process and of everything that it started, while it runs."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

PERIOD = 0.25  # seconds
KEPT = 60  # figures in the record, evenly spread over the run


class Watch:
    """Watches a process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def until(self, child: subprocess.Popen) -> dict[str, object]:
        """Wait for its end; megabytes of the grader itself and, with its workers, of all together, along the run."""
        own, together = [], []
        while child.poll() is None:
            sizes = {pid: resident(pid) for pid in family(self.pid)}
            own.append(round(sizes.get(self.pid, 0.0)))
            together.append(round(sum(sizes.values())))
            time.sleep(PERIOD)
        step = max(1, len(own) // KEPT)
        return {"megabytes": own[:-1:step] or own, "peak megabytes": max(own), "peak with workers": max(together)}


def family(pid: int) -> set[int]:
    """The process and its descendants."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while new := {child for child, parent in parents.items() if parent in found} - found:
        found |= new
    return found


def resident(pid: int) -> float:
    """Megabytes that belong to the process, shared pages in their share; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)
