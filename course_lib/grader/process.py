"""The fork server's process, as the grader sees it: begun, asked for workers, ended.

It loads torch, which takes seconds. Nothing here does, so a command can begin it first and load torch meanwhile.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from course_lib.grader.forkserver import CASES, START
from course_lib.grader.frames import framed
from course_lib.grader.isolation import layers_of

if TYPE_CHECKING:
    from course_lib.grader.messages import Job

START_SECONDS = 120.0  # to import everything
END_SECONDS = 2.0  # to be gone after its socket is closed
_HERE = Path(__file__).resolve().parents[2]
_PROGRAM = (  # an interrupt from the keyboard goes to all; the grader decides what becomes of it
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    f"sys.path.insert(0, {str(_HERE)!r}); from course_lib.grader.forkserver import main; main()"
)
_ENVIRONMENT = {  # all that a worker sees of it
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "HOME": "/nonexistent",
    "USER": "learner",  # the same in every run, and some libraries fail where nobody has a name
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "COURSE_STATIC": "1",
    "TORCHDYNAMO_DISABLE": "1",  # `@torch.compile` leaves a function as it is: a worker may start no compiler
    "TORCHINDUCTOR_CACHE_DIR": "/",  # of that compiler, which makes the folder on import, and may not make any
    # A fork copies the table of all pages of the server. With huge pages that table is a third as long to copy.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "PYTHONMALLOC": "malloc",
}


class NoWorker(OSError):
    """There is no worker, and the job is not to blame."""


class ServerProcess:
    """The process of a fork server, and the socket on which it is asked for workers.

    Args of the constructor:
        layers: of isolation, for the workers.
    """

    def __init__(self, layers: tuple[str, ...]) -> None:
        self._sending, self._is_ready = threading.Lock(), False
        self._cases: dict[str, tuple[bytes, ...]] = {}  # those that the fork server has, by the name of the answer
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.set_inheritable(True)
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), json.dumps(layers)],
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def wait(self) -> None:
        """Wait until it takes requests.

        Raises:
            NoWorker: it does not start; it is closed then.
        """
        self._control.settimeout(START_SECONDS)
        with suppress(OSError):
            self._is_ready = self._control.recv(len(b"ready")) == b"ready"
        if not self._is_ready:
            self.close()
            raise NoWorker("the fork server does not start")

    def start_worker(self, jobs: Sequence[Job]) -> tuple[socket.socket, socket.socket]:
        """A new worker, which has the cases of these jobs: the stream to it, and the socket that tells of its end."""
        pairs = socket.socketpair(), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with pairs[0][1] as stream, pairs[1][1] as status, self._sending:
            for job in jobs:
                if self._cases.get(job.function) is not job.cases:
                    self._send_cases(job)
            socket.send_fds(self._control, [START], [stream.fileno(), status.fileno()])
        return pairs[0][0], pairs[1][0]

    def _send_cases(self, job: Job) -> None:
        with open(os.memfd_create("cases"), "w+b") as file:
            file.write(b"".join(map(framed, job.cases)))
            file.flush()
            socket.send_fds(self._control, [CASES + job.function.encode()], [file.fileno()])
        self._cases[job.function] = job.cases

    def close(self) -> None:
        """End it, and with it all of its workers. One that is not ready does not listen, and is killed."""
        self._control.close()
        if not self._is_ready:
            self._popen.kill()
        try:
            self._popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


_begun: dict[str, Future[ServerProcess]] = {}  # by the level of isolation; at most one, and nobody's yet


@contextmanager
def begun(level: str) -> Iterator[None]:
    """Start, meanwhile, the process that `ready_process` gives next for a level; unused, it ends with the context.

    Args:
        level: of `isolation.LEVELS`, or "best".
    """
    with ThreadPoolExecutor(1) as pool:
        _begun[level] = pool.submit(lambda: ServerProcess(layers_of(level)))
        try:
            yield
        finally:
            if (unused := _begun.pop(level, None)) is not None:
                with suppress(Exception):  # it could not be started, which concerns nobody now
                    unused.result().close()


def ready_process(level: str) -> ServerProcess:
    """A process that takes requests: the one that was begun for this level, or a new one.

    Raises:
        NoWorker: it does not start.
        OSError: no process can be made.
    """
    if (early := _begun.pop(level, None)) is not None:
        with suppress(Exception):  # a new one is tried, and tells what is wrong
            process = early.result()
            process.wait()
            return process
    process = ServerProcess(layers_of(level))
    process.wait()
    return process
