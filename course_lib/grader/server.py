"""Runs jobs in workers of a warm fork server. The grader's own clock decides, and everything left is killed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType

from course_lib.grader import isolation
from course_lib.grader.forkserver import START
from course_lib.grader.frames import TimeIsUp, read_frame, send_frame
from course_lib.grader.messages import LIMITS, Job, Note, job_header, read_note
from course_lib.grader.wire import WireError, names_of
from course_lib.grading.run import Failure, Outcome

__all__ = ["Job", "Reply", "Server"]

GRACE = 1.0  # seconds beyond a limit before the grader's own clock stops a worker, which should have stopped itself
START_SECONDS = 120.0  # for the fork server to import everything
FORK_SECONDS = 20.0  # for a worker to be there and confined, before any clock of the job runs
END_SECONDS = 2.0  # for a killed worker to be gone
MAX_REPLY = 2 * LIMITS.max_bytes
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "bad_alloc")


@dataclass(frozen=True)
class Reply:
    """What came of a job.

    Attributes:
        state: "ok", "timeout", "oom", "crashed", "error" (a cell failed) or "grader_error".
        outcomes: two for each case that was finished; a call that took too long is one, with a `Failure.limit`.
        message: for a learner or, after "grader_error", for us; at most 500 characters.
        seconds: how long it took.
    """

    state: str
    outcomes: tuple[tuple[Outcome, Outcome], ...] = ()
    message: str = ""
    seconds: float = 0.0


class _ServerDied(Exception):
    """The fork server is gone, or does not answer."""


class Server:
    """A fork server and the jobs that run in it. Use it in a `with` statement; `run` may be called by many threads.

    Args of the constructor:
        isolation: a level of `isolation.LEVELS`, or "best"; what this machine does not give is left out.
        parallel: how many jobs may run at a time.

    Attributes:
        layers: the layers of isolation that are on.
    """

    def __init__(self, isolation: str = "best", parallel: int = 1) -> None:
        if parallel < 1:
            raise ValueError(f"parallel must be at least 1, got {parallel}")
        self._level, self._slots = isolation, threading.BoundedSemaphore(parallel)
        self.layers: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._was_dumpable: int | None = None

    def __enter__(self) -> Server:
        if not isolation.LINUX:
            raise OSError(f"grading needs Linux, which {sys.platform} is not: use a Linux machine or a container")
        self.layers = isolation.layers_of(self._level)
        self._process = _Process(self.layers)
        self._was_dumpable = isolation.hide_memory() if self.layers else None
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None
        if self._was_dumpable is not None:
            isolation.show_memory(self._was_dumpable)

    def run(self, job: Job) -> Reply:
        """Do a job; blocks until it is done and nothing of it is left. Never raises because of the job."""
        with self._slots:
            started, problem = monotonic(), ""
            for _ in range(2):
                process = self._living()
                try:
                    reply = _run(job, process)
                except (_ServerDied, OSError) as error:
                    problem = f"{type(error).__name__}: {error}"
                    self._replace(process)
                else:
                    return Reply(reply.state, reply.outcomes, reply.message, monotonic() - started)
            return Reply("grader_error", (), problem[: LIMITS.max_text], monotonic() - started)

    def _living(self) -> _Process:
        with self._lock:
            if self._process is None:
                raise ValueError("the server is not running: use it in a `with` statement")
            return self._process

    def _replace(self, dead: _Process) -> None:
        with self._lock:
            if self._process is dead:
                dead.close()
                self._process = _Process(self.layers)


class _Process:
    """The fork server's process, and the socket on which it is asked for workers."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.set_inheritable(True)
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), json.dumps(layers)],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._control.settimeout(START_SECONDS)
        if self._control.recv(len(b"ready")) != b"ready":
            self.close()
            raise _ServerDied("the fork server does not start")

    def start_worker(self) -> tuple[socket.socket, socket.socket]:
        """A new worker: the stream to it, and the socket that tells of its end."""
        pairs = socket.socketpair(), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with pairs[0][1] as stream, pairs[1][1] as status:
            socket.send_fds(self._control, [START], [stream.fileno(), status.fileno()])
        return pairs[0][0], pairs[1][0]

    def close(self) -> None:
        """End it, and with it all of its workers."""
        self._control.close()
        try:
            self._popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


_HERE = Path(__file__).resolve().parents[2]
_PROGRAM = f"import sys; sys.path.insert(0, {str(_HERE)!r}); from course_lib.grader.forkserver import main; main()"


def _environment() -> dict[str, str]:
    """All that a worker sees of the environment."""
    fixed = {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "COURSE_STATIC": "1",
    }
    return fixed


def _run(job: Job, process: _Process) -> Reply:
    """One try."""
    stream, status = process.start_worker()
    with stream, status:
        conversation = _Conversation(job, stream)
        conversation.hold()
        status.shutdown(socket.SHUT_WR)  # whatever it still does, it is killed now
        exit_code = _await_end(status)
        return conversation.reply(exit_code)


def _await_end(status: socket.socket) -> int:
    """Wait until a killed worker, and all that it started, is gone."""
    status.settimeout(END_SECONDS)
    try:
        news = status.recv(1024)
    except TimeoutError:
        raise _ServerDied("a worker does not end") from None
    if not news:
        raise _ServerDied("the fork server ended")
    fields = json.loads(news)
    if "exit" not in fields:
        raise _ServerDied(fields["failed"])
    return fields["exit"]


class _Conversation:
    """One job's dialogue with its worker."""

    def __init__(self, job: Job, stream: socket.socket) -> None:
        self._job, self._stream = job, stream
        self._outcomes: list[Outcome] = []
        self._confined = self._ready = False
        self._state, self._message = "", ""
        self._bytes_left = MAX_REPLY

    def hold(self) -> None:
        """Until the worker has said all, or breaks the rules, or takes too long."""
        try:
            self._talk()
        except TimeIsUp:
            self._stop_clock()
        except WireError:
            self._state, self._message = "crashed", "What came back was no answer."
        except OSError:
            self._state = ""

    def _talk(self) -> None:
        deadline = monotonic() + FORK_SECONDS
        self._stream.settimeout(FORK_SECONDS)
        send_frame(self._stream, job_header(self._job))
        for case in self._job.cases:
            send_frame(self._stream, case)
        names = [names_of(case) for case in self._job.cases]
        n_outcomes = 2 * len(names)
        while len(self._outcomes) < n_outcomes and not self._state:
            frame = read_frame(self._stream, min(LIMITS.max_bytes, self._bytes_left), deadline)
            if frame is None:
                return
            self._bytes_left -= len(frame)
            self._take(read_note(frame, names[len(self._outcomes) // 2], self._job.seconds))
            deadline = monotonic() + GRACE + (self._job.seconds if self._ready else self._job.setup_seconds)

    def _take(self, note: Note) -> None:
        if note.kind == "confined" and not self._confined:
            self._confined = True
        elif note.kind == "error" and self._confined and not self._ready:
            self._state, self._message = "error", note.text
        elif note.kind == "ready" and self._confined and not self._ready:
            self._ready = True
        elif note.kind == "outcome" and self._ready:
            self._add(note.outcome)
        else:
            raise WireError("a message out of turn")

    def _add(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        if outcome.failure is not None and outcome.failure.limit is not None:
            self._too_slow()

    def _stop_clock(self) -> None:
        if not self._confined:
            return
        if self._ready:
            self._outcomes.append(Outcome(failure=Failure(True, limit=self._job.seconds)))
            self._too_slow()
        else:
            self._state = "timeout"
            self._message = f"The cells took longer than {self._job.setup_seconds:g} seconds."

    def _too_slow(self) -> None:
        """As in the notebook, the failing call stands for both calls of its case."""
        if len(self._outcomes) % 2:
            self._outcomes.append(self._outcomes[-1])
        else:
            self._outcomes[-2] = self._outcomes[-1]
        self._state, self._message = "timeout", f"A call took longer than {self._job.seconds:g} seconds."

    def reply(self, exit_code: int) -> Reply:
        """What came of it, now that it is known how the worker ended."""
        if not self._confined:
            raise _ServerDied(f"a worker ended before its job began, with status {exit_code}")
        pairs = tuple(zip(self._outcomes[::2], self._outcomes[1::2], strict=False))
        if any(_is_memory(outcome.failure) for outcome in self._outcomes):
            return Reply("oom", pairs, "The memory did not suffice.")
        if self._state:
            return Reply(self._state, pairs, self._message)
        if len(pairs) == len(self._job.cases) and self._ready:
            return Reply("ok", pairs)
        return Reply("crashed", pairs, f"The process ended by itself, with status {exit_code}.")


def _is_memory(failure: Failure | None) -> bool:
    if failure is None:
        return False
    return failure.kind == "MemoryError" or any(text in failure.message for text in _OUT_OF_MEMORY)
