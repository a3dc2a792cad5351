"""One job's dialogue with its worker, and what is concluded from it. Nothing that the worker says is taken on trust."""

from __future__ import annotations

import signal
import socket
from dataclasses import dataclass
from time import monotonic

from course_lib.grader.frames import Frames, TimeIsUp, send_frame
from course_lib.grader.messages import LIMITS, Job, Note, job_header, read_note
from course_lib.grader.wire import WireError, names_of
from course_lib.grading.run import Failure, Outcome

GRACE = 1.0  # seconds beyond a limit before the grader's own clock stops a worker, which should have stopped itself
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
    """

    state: str
    outcomes: tuple[tuple[Outcome, Outcome], ...] = ()
    message: str = ""
    seconds: float = 0.0


class NoWorker(OSError):
    """There is no worker, and the job is not to blame."""


class Conversation:
    """One job's dialogue with its worker; `left` becomes True when the worker has closed the stream."""

    def __init__(self, job: Job, stream: socket.socket) -> None:
        self._job, self._stream = job, stream
        self._outcomes: list[Outcome] = []
        self._confined = self._ready = self.left = False
        self._state, self._message = "", ""
        self._bytes_left = MAX_REPLY

    def hold(self) -> None:
        """Until the worker has said all, or breaks the rules, or takes too long."""
        try:
            self._talk()
        except TimeIsUp:
            self._stop_clock()
        except WireError:
            self._state, self._message, self.left = "crashed", "What came back was no answer.", True
        except OSError:
            self.left = True

    def _talk(self) -> None:
        deadline = monotonic() + FORK_SECONDS
        self._stream.settimeout(FORK_SECONDS)
        send_frame(self._stream, job_header(self._job))
        frames = Frames(self._stream)
        names = [names_of(case) for case in self._job.cases]
        n_outcomes = 2 * len(names)
        while len(self._outcomes) < n_outcomes and not self._state:
            frame = frames.next(min(LIMITS.max_bytes, self._bytes_left), deadline)
            if frame is None:
                self.left = True
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

    def reply(self, exit_code: int, by_itself: bool) -> Reply:
        """What came of it, now that it is known how the worker ended, and whether it did so without being killed."""
        if not self._confined:
            raise NoWorker(f"a worker ended before its job began, with status {exit_code}")
        pairs = tuple(zip(self._outcomes[::2], self._outcomes[1::2], strict=False))
        if self._ran_out_of_memory() or (by_itself and exit_code == -signal.SIGKILL):  # by the kernel
            return Reply("oom", pairs, "The memory did not suffice.")
        if self._state:
            return Reply(self._state, pairs, self._message)
        if len(pairs) == len(self._job.cases) and self._ready:
            return Reply("ok", pairs)
        return Reply("crashed", pairs, f"The process ended by itself, with status {exit_code}.")

    def _ran_out_of_memory(self) -> bool:
        failures = [outcome.failure for outcome in self._outcomes if outcome.failure]
        texts = [self._message, *(f"{failure.kind}: {failure.message}" for failure in failures)]
        return any(text.startswith("MemoryError") or any(one in text for one in _OUT_OF_MEMORY) for text in texts)
