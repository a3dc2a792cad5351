"""A process that has imported everything once, and forks workers.

It never holds a learner's code: jobs go from the grader straight to the worker, over a socket that passes through
here unread. Everything a worker inherits is therefore what every worker may know: the libraries, and the inputs of the
exercises, which are decoded once, and not once for each submission.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any

from course_lib.grader import isolation, kernel
from course_lib.grader.isolation import Confinement

PRELOAD = (  # pandas is not: no exercise needs it, and with its fifty libraries each fork and each exit is slower
    *("numpy", "numpy.random", "torch", "torch.nn.functional", "einops", "jaxtyping", "course_lib.grader.worker"),
    *("course_lib.ablation", "course_lib.adapters", "course_lib.attribution", "course_lib.circuits"),
    *("course_lib.composition", "course_lib.data", "course_lib.evaluate", "course_lib.handbuilt", "course_lib.icl"),
    *("course_lib.recorded", "course_lib.scores", "course_lib.sweep"),
)
MAX_MESSAGE = 4096  # bytes
FIRST_MENDING = 128  # forks; by then most exercises have sent their cases
REHEARSALS = 16  # Python 3.11 rewrites a function at its eighth call, and its instructions when they run next
CASES, START = b"cases ", b"start"  # what is asked for; the name of an answer follows the first


@dataclass
class _Worker:
    pid: int
    pidfd: int
    status: socket.socket
    slot: int


class ForkServer:
    """Waits for requests on a control socket, and for the end of workers.

    Args of the constructor:
        control: a message on it asks for a worker and brings two sockets, one for the worker and one for news about it;
            or it brings a file with the cases of an exercise, for the workers to come.
        confinement: what a worker is put into.
        heap: as `kernel.heap` gives it.
    """

    def __init__(self, control: socket.socket, confinement: Confinement, heap: range) -> None:
        self._control, self._confinement, self._heap = control, confinement, heap
        self._forks, self._next_mending = 0, FIRST_MENDING
        self._workers: dict[int, _Worker] = {}  # by both of their file descriptors
        self._cases: dict[str, list[Any]] = {}
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self) -> None:
        """Until the grader closes the control socket."""
        control = self._control.fileno()
        while True:
            ready = [fd for fd, _event in self._poll.poll()]
            if control in ready and not self._listen():
                self._end_all()
                return
            for fd in ready:
                if fd in self._workers:
                    self._attend(fd)

    def _listen(self) -> bool:
        """Do what a message asks for; False at the end of the control socket."""
        message, fds, _flags, _address = socket.recv_fds(self._control, MAX_MESSAGE, 2)
        if message.startswith(CASES):
            self._cases[message[len(CASES) :].decode()] = _read_cases(*fds)
        elif message == START:
            self._start(*fds)
        return bool(message)

    def _start(self, stream_fd: int, status_fd: int) -> None:
        """Fork a worker."""
        stream, status = socket.socket(fileno=stream_fd), socket.socket(fileno=status_fd)
        slot = self._free_slot()
        try:
            pid = self._confinement.fork()
        except OSError as error:
            _say(status, failed=f"no process could be started: {error}")
            return
        if pid == 0:
            _be_worker(stream, self._confinement, slot, self._cases)
        stream.close()
        worker = _Worker(pid, os.pidfd_open(pid), status, slot)
        for fd in (worker.pidfd, status.fileno()):
            self._workers[fd] = worker
            self._poll.register(fd, select.POLLIN)
        self._keep_huge_pages()

    def _keep_huge_pages(self) -> None:
        """What this process writes while workers live splits huge pages: mend them, at ever longer intervals."""
        self._forks += 1
        if self._forks == self._next_mending:
            kernel.mend_huge_pages(self._heap)
            self._next_mending *= 2

    def _free_slot(self) -> int:
        taken = {worker.slot for worker in self._workers.values()}
        return next(slot for slot in range(len(taken) + 1) if slot not in taken)

    def _attend(self, fd: int) -> None:
        worker = self._workers[fd]
        if fd == worker.pidfd:
            self._end(worker)
        else:  # the grader has what it wants, or waits no longer
            self._forget(fd)
            signal.pidfd_send_signal(worker.pidfd, signal.SIGKILL)

    def _end(self, worker: _Worker) -> None:
        """Reap a worker, and everything that it left behind."""
        code = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        for fd in (worker.pidfd, worker.status.fileno()):
            self._forget(fd)
        os.close(worker.pidfd)
        self._confinement.clean_up({other.pid for other in self._workers.values()})
        _say(worker.status, exit=code)

    def _forget(self, fd: int) -> None:
        if self._workers.pop(fd, None):
            self._poll.unregister(fd)

    def _end_all(self) -> None:
        for pid in {worker.pid for worker in self._workers.values()}:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._confinement.clean_up(set())


def _say(status: socket.socket, **news: str | int) -> None:
    """Tell the grader, who may have left."""
    with status:
        try:
            status.send(json.dumps(news).encode())
        except OSError:
            return


def _read_cases(fd: int) -> list[Any]:
    from course_lib.grader.frames import frames_of
    from course_lib.grader.wire import decode

    with open(fd, "rb") as file:
        file.seek(0)
        cases = [decode(frame) for frame in frames_of(file.read())]
    gc.freeze()
    return cases


def _be_worker(stream: socket.socket, confinement: Confinement, slot: int, cases: dict[str, list[Any]]) -> None:
    """In the forked process: do what the grader asks for, and end. Never returns."""
    code = 1
    try:
        from course_lib.grader import messages, worker
        from course_lib.grader.frames import Frames, send_frame

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        frames = Frames(stream)
        confinement.confine(slot, **json.loads(frames.next(MAX_MESSAGE)), keep=stream.fileno())
        send_frame(stream, messages.confined())
        gc.enable()
        worker.serve(stream, frames, cases)
        code = 0
    finally:
        os._exit(code)


def _rehearse() -> None:
    """Do a job some times, so that no worker has to do for itself what happens at the first times only.

    Python rewrites the byte code of functions that are called often. Done here, no worker copies the pages for it.
    """
    import torch

    from course_lib.grader import worker
    from course_lib.grader.wire import decode, encode

    fields = {"cells": ["import torch", "def f(x, n):\n    return (x + n) @ x"], "function": "f", "seconds": 1.0}
    cases = [decode(encode({"x": torch.ones(2, 2), "n": 1}))]
    main_module = sys.modules["__main__"]
    for _ in range(REHEARSALS):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            worker.work(theirs, fields, cases)
    sys.modules["__main__"] = main_module


def main() -> None:
    """Run as a process of its own; the arguments are the control socket and a JSON list of layers."""
    control = socket.socket(fileno=int(sys.argv[1]))
    confinement = Confinement(tuple(json.loads(sys.argv[2])))
    confinement.separate()
    for name in PRELOAD:
        importlib.import_module(name)
    import torch

    from course_lib.grader import worker

    torch.set_num_threads(1)
    worker.replace_checks()
    _rehearse()
    heap = kernel.heap()
    confinement.enter()
    isolation.quieten({control.fileno(), *confinement.inherited})
    gc.collect()
    kernel.fill_gaps()
    gc.freeze()
    gc.disable()
    control.send(b"ready")
    ForkServer(control, confinement, heap).serve()


if __name__ == "__main__":
    main()
