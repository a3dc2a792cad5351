"""Runs jobs in workers of a warm fork server. The grader's own clock decides, and everything left is killed."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from time import monotonic
from types import TracebackType

from course_lib.grader import isolation as isolation_module
from course_lib.grader.conversation import Conversation, Line, Reply
from course_lib.grader.messages import LIMITS, Job
from course_lib.grader.process import NoWorker, ServerProcess, ready_process

__all__ = ["Job", "Reply", "Server"]

LEAVE_SECONDS = 0.3  # for a worker that closed its stream to be gone by itself
END_SECONDS = 2.0  # for a killed worker to be gone


class Server:
    """A fork server and the jobs that run in it. Use it in a `with` statement; many threads may ask it at a time.

    Args of the constructor:
        isolation: a level of `isolation.LEVELS`, or "best"; what this machine does not give is left out.
        parallel: how many workers there may be at a time.

    Attributes:
        layers: the layers of isolation that are on.
    """

    def __init__(self, isolation: str = "best", parallel: int = 1) -> None:
        if not 1 <= parallel <= isolation_module.SLOTS:
            raise ValueError(f"parallel must be 1 to {isolation_module.SLOTS}, got {parallel}")
        self._level, self._slots = isolation, threading.BoundedSemaphore(parallel)
        self.layers: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._process: ServerProcess | None = None
        self._was_dumpable: int | None = None
        self._problem = ""

    def __enter__(self) -> Server:
        if not isolation_module.LINUX:
            raise OSError(f"grading needs Linux, which {sys.platform} is not: use a Linux machine or a container")
        self.layers = isolation_module.layers_of(self._level)
        self._process = ready_process(self._level)
        self._was_dumpable = isolation_module.hide_memory() if self.layers else None
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None
        if self._was_dumpable is not None:
            isolation_module.show_memory(self._was_dumpable)

    def run(self, job: Job) -> Reply:
        """Do a job in a worker of its own; blocks until nothing of it is left. Never raises because of the job."""
        with self._slots:
            started = monotonic()
            reply = self._try(job, self._living()) or self._try(job, self._living())
            reply = reply or Reply("grader_error", (), self._problem[: LIMITS.max_text])
            return replace(reply, seconds=monotonic() - started)

    def run_together(self, jobs: Sequence[Job]) -> Iterator[Reply]:
        """Do jobs one after the other in one worker, which saves a fork for each.

        What one of them does to the process, the next ones find so. A value that is right stays right; a reply that
        is not may be the fault of an earlier job.

        Yields:
            What came of each job, "ok" or "error", as it comes. It ends before a job that stopped the worker or took
            too long. Never raises because of a job.
        """
        with self._slots:
            process = self._living()
            try:
                yield from _run_together(jobs, process)
            except OSError:
                self._replace(process)

    def _try(self, job: Job, process: ServerProcess) -> Reply | None:
        """One try; None, and a new fork server, where that one was at fault."""
        try:
            return _run(job, process)
        except OSError as error:
            self._problem = str(error)
        self._replace(process)
        return None

    def _living(self) -> ServerProcess:
        with self._lock:
            if self._process is None:
                raise ValueError("the server is not running: use it in a `with` statement")
            return self._process

    def _replace(self, dead: ServerProcess) -> None:
        with self._lock, contextlib.suppress(OSError):  # whoever asks next meets it again
            if self._process is dead:
                dead.close()
                self._process = ready_process(self._level)


def _run(job: Job, process: ServerProcess) -> Reply:
    """One try."""
    stream, status = process.start_worker([job])
    with stream, status:
        line = Line(stream, [job])
        line.give(job)
        conversation = Conversation(job, line)
        conversation.hold()
        code = _end_within(status, LEAVE_SECONDS) if conversation.left else None
        by_itself = code is not None
        if not by_itself:
            code = _kill(status)
        return conversation.reply(code, by_itself)


def _run_together(jobs: Sequence[Job], process: ServerProcess) -> Iterator[Reply]:
    stream, status = process.start_worker(jobs)
    with stream, status:
        try:
            line, ahead = Line(stream, jobs), iter(jobs)
            for job in islice(ahead, 2):  # it does the second while the reply to the first is judged, and so on
                line.give(job)
            for job in jobs:
                conversation = Conversation(job, line)
                conversation.hold()
                if not conversation.ended_well:
                    return
                for following in islice(ahead, 1):
                    line.give(following)
                yield conversation.reply()
        finally:
            _kill(status)


def _kill(status: socket.socket) -> int:
    """End a worker, whatever it still does; its exit status."""
    status.shutdown(socket.SHUT_WR)
    code = _end_within(status, END_SECONDS)
    if code is None:
        raise NoWorker("a worker does not end")
    return code


def _end_within(status: socket.socket, seconds: float) -> int | None:
    """The exit status of a worker when it, and all that it started, is gone; None when it is still there."""
    status.settimeout(seconds)
    try:
        news = status.recv(1024)
    except TimeoutError:
        return None
    if not news:
        raise NoWorker("the fork server ended")
    fields = json.loads(news)
    if "exit" not in fields:
        raise NoWorker(fields["failed"])
    return fields["exit"]
