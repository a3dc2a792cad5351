"""What is said to a worker, job by job, and what is concluded from its replies. Nothing of them is taken on trust."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from course_lib.grader.frames import Frames, TimeIsUp, framed, send_frame
from course_lib.grader.messages import LIMITS, Job, Note, job_header, read_note, worker_limits
from course_lib.grader.process import NoWorker
from course_lib.grader.wire import WireError, names_of
from course_lib.grading.run import Failure, Outcome

GRACE = 1.5  # seconds beyond a limit before the grader's own clock stops a worker, which should have stopped itself
FORK_SECONDS = 20.0  # for a worker to be there and confined, before any clock of the job runs
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
        digest: after "ok" a hash of the outcomes as they came; two that are equal mean equal outcomes.
    """

    state: str
    outcomes: tuple[tuple[Outcome, Outcome], ...] = ()
    message: str = ""
    seconds: float = 0.0
    digest: bytes = b""


class Line:
    """The stream to a worker.

    Args of the constructor:
        stream: the grader's end.
        jobs: all that the worker will be given.

    Attributes:
        frames: what comes from the worker.
        confined: True when the worker has said that it has given up its rights.
    """

    def __init__(self, stream: socket.socket, jobs: Sequence[Job]) -> None:
        self._stream, self.frames, self.confined = stream, Frames(stream), False
        self._send(worker_limits(jobs))

    def give(self, job: Job) -> None:
        """The next job."""
        self._send(job_header(job))

    def _send(self, payload: bytes) -> None:
        self._stream.settimeout(FORK_SECONDS)
        try:
            send_frame(self._stream, payload)
        except OSError:  # whoever listens next hears that the line is dead
            with contextlib.suppress(OSError):
                self._stream.shutdown(socket.SHUT_RDWR)


class Conversation:
    """What a worker says of one job; `left` becomes True when it has closed the stream."""

    def __init__(self, job: Job, line: Line) -> None:
        self._job, self._line = job, line
        self._outcomes: list[Outcome] = []
        self._ready = self.left = False
        self._state, self._message = "", ""
        self._bytes_left, self._heard = MAX_REPLY, hashlib.sha256()

    def hold(self) -> None:
        """Listen, until the worker has said all, or breaks the rules, or takes too long."""
        try:
            self._talk()
        except TimeIsUp:
            self._stop_clock()
        except WireError:
            self._state, self._message, self.left = "crashed", "What came back was no answer.", True
        except OSError:
            self.left = True

    def _talk(self) -> None:
        deadline = monotonic() + (self._patience() if self._line.confined else FORK_SECONDS)
        names = [names_of(case) for case in self._job.cases]
        n_outcomes, last = 2 * len(names), b""
        while len(self._outcomes) < n_outcomes and not self._state:
            frame = self._line.frames.next(min(LIMITS.max_bytes, self._bytes_left), deadline)
            if frame is None:
                self.left = True
                return
            self._bytes_left -= len(frame)
            if frame != last or len(self._outcomes) % 2 == 0:  # the second call of a case mostly gives the same again
                last, note = frame, read_note(frame, names[len(self._outcomes) // 2], self._job.seconds)
            self._take(note)
            if note.kind == "outcome":
                self._heard.update(framed(frame))
            deadline = monotonic() + self._patience()

    def _patience(self) -> float:
        """Seconds to wait for the next message."""
        return GRACE + (self._job.seconds if self._ready else self._job.setup_seconds)

    def _take(self, note: Note) -> None:
        if note.kind == "confined" and not self._line.confined:
            self._line.confined = True
        elif note.kind == "error" and self._line.confined and not self._ready:
            self._state, self._message = "error", note.text
        elif note.kind == "ready" and self._line.confined and not self._ready:
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
        if not self._line.confined:
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

    @property
    def ended_well(self) -> bool:
        """True when all was said in time, be it that a cell failed: the worker now waits for its next job."""
        return self._state == "error" or (self._answered and not self._state)

    @property
    def _answered(self) -> bool:
        return self._ready and len(self._outcomes) == 2 * len(self._job.cases)

    def reply(self, exit_code: int | None = None, by_itself: bool = False) -> Reply:
        """What came of it.

        Args:
            exit_code: how the worker ended; None while it waits for its next job.
            by_itself: True when it ended without being killed.

        Raises:
            NoWorker: it never began, which is not the job's fault.
        """
        if not self._line.confined:
            raise NoWorker(f"a worker ended before its job began, with status {exit_code}")
        pairs = tuple(zip(self._outcomes[::2], self._outcomes[1::2], strict=False))
        if self._ran_out_of_memory() or (by_itself and exit_code == -signal.SIGKILL):  # by the kernel
            return Reply("oom", pairs, "The memory did not suffice.")
        if self._state:
            return Reply(self._state, pairs, self._message)
        if self._answered:
            return Reply("ok", pairs, digest=self._heard.digest())
        return Reply("crashed", pairs, f"The process ended by itself, with status {exit_code}.")

    def _ran_out_of_memory(self) -> bool:
        failures = [outcome.failure for outcome in self._outcomes if outcome.failure]
        texts = [self._message, *(f"{failure.kind}: {failure.message}" for failure in failures)]
        return any(text.startswith("MemoryError") or any(one in text for one in _OUT_OF_MEMORY) for text in texts)
