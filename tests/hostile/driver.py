"""Grades a written corpus in a process of its own, and tells what the grader did to that process.

`python -m tests.hostile.driver SETTINGS.json` writes the facts beside the settings. It is a process of its own, so
that an attack that reaches the grader reaches neither pytest nor anything else that the test can fence off.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import torch

from course_lib.grader import grade
from course_lib.grader.messages import Job
from course_lib.grader.server import Reply, Server
from course_lib.grading.run import Outcome

SUBREAPER = 36  # of prctl: orphans of whatever is started below come to this process, so that they can be counted


def shorten(setup_seconds: float, memory: int) -> None:
    """Short limits for the cells of every job of this process, so that a class of loops ends soon."""
    Job.__init__.__defaults__ = (setup_seconds, memory)


def state_of_process() -> dict[str, object]:
    """What a grader must leave as it was, as plain values."""
    handlers = {number: repr(signal.getsignal(number)) for number in signal.valid_signals()}
    umask = os.umask(0)
    os.umask(umask)
    return {
        "environment": dict(os.environ),
        "path": list(sys.path),
        "folder": os.getcwd(),
        "umask": umask,
        "handlers": handlers,
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "recursion": sys.getrecursionlimit(),
        "torch": [str(torch.get_default_dtype()), str(torch.get_default_device()), torch.get_num_threads()],
        "gradients": torch.is_grad_enabled(),
        "torch_generator": hashlib.sha256(bytes(torch.get_rng_state().tolist())).hexdigest(),
        "python_generator": hashlib.sha256(repr(random.getstate()).encode()).hexdigest(),
        "dumpable": open("/proc/self/status", encoding="ascii").read().partition("NoNewPrivs:")[2].split()[0],
        "streams": [sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
    }


def changes(before: dict[str, object], after: dict[str, object]) -> dict[str, list]:
    """What is not as it was."""
    return {name: [str(before[name])[:300], str(after[name])[:300]] for name in before if before[name] != after[name]}


def processes_left(fenced: bool, patience: float = 3.0) -> list[str]:
    """Names of processes that the grader left: all others in a fence, else descendants of this one."""
    deadline = time.monotonic() + patience
    while True:
        left = _others() if fenced else _descendants()
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _others() -> list[str]:
    mine = {1, os.getpid(), os.getppid()}
    return [_name(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid not in mine]


def _descendants() -> list[str]:
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(pid)] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found: set[int] = set()
    while new := {pid for pid, parent in parents.items() if parent in found | {os.getpid()}} - found:
        found |= new
    return [_name(pid) for pid in found]


def _name(pid: int) -> str:
    try:
        return f"{pid} {Path(f'/proc/{pid}/stat').read_text().split()[2]} " + Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return f"{pid} (gone)"


def megabytes() -> float:
    """Resident memory of this process now, without what the allocator keeps after a bomb and will use again."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _n_calls(pair: tuple[Outcome, Outcome]) -> int:
    """Each case is called twice, but for one whose first call took too long, which stands for both."""
    return 1 if pair[0].failure and pair[0].failure.limit is not None else 2


class Timed(Server):
    """Notes by how many seconds each job exceeded the time that its cells and the calls which it finished may take."""

    beyond: ClassVar[list[float]] = []
    began = threading.local()  # when this thread got a place for a worker

    def run(self, job: Job) -> Reply:
        reply = super().run(job)
        allowed = job.setup_seconds + job.seconds * max(1, sum(map(_n_calls, reply.outcomes)))
        self.beyond.append(round(reply.seconds - allowed, 2))
        return reply

    def run_together(self, jobs: Sequence[Job]) -> Iterator[Reply]:
        replies = list(super().run_together(jobs))
        begun = jobs[: len(replies) + 1]
        allowed = sum(job.setup_seconds + job.seconds * 2 * len(job.cases) for job in begun)
        self.beyond.append(round(time.monotonic() - self.began.at - allowed, 2))
        return iter(replies)

    def _living(self):
        self.began.at = time.monotonic()
        return super()._living()


def run(settings: dict, results: str) -> dict:
    """Grade once into this folder; the facts of the run."""
    memory: list[float] = []
    options = grade.Options(
        seed=0,
        exercises=tuple(settings["exercises"]),
        parallel=settings["parallel"],
        isolation=settings["level"],
    )
    started = time.monotonic()
    summary = grade.grade_folder(
        Path(settings["submissions"]),
        Path(results),
        options,
        on_row=lambda _row, _done, _all: memory.append(round(megabytes(), 1)),
        make_server=Timed,
    )
    found = {"memory": memory, "isolation": list(summary.isolation), "beyond": sorted(Timed.beyond)}
    return {"seconds": time.monotonic() - started} | found


def main() -> None:
    """Follow the settings and write the facts."""
    place = Path(sys.argv[1])
    settings = json.loads(place.read_text())
    if not settings["fenced"]:
        import ctypes

        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    shorten(settings["setup_seconds"], settings["memory"])
    torch.rand(3), random.random()
    before = state_of_process()
    facts = run(settings, settings["results"])
    for number in range(1, settings["runs"]):
        run(settings, f"{settings['results']}_{number}")
    facts |= {"left": processes_left(settings["fenced"]), "changed": changes(before, state_of_process())}
    place.with_name("facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
