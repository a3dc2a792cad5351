"""What an untrusted worker is put into, layer by layer, and which of the layers this machine gives."""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
from functools import cache
from typing import Any

from course_lib.grader import readable

LINUX = sys.platform == "linux"
if LINUX:
    import resource

    from course_lib.grader import kernel, landlock, namespaces, seccomp

LEVELS = ("none", "limits", "landlock", "namespaces", "uid")
MAX_FILES, MAX_THREADS = 256, 256  # at a time
FIRST_UID, SLOTS = 0x70000000, 64  # spare user ids: 64 for each of 65536 fork servers
_probing = threading.Lock()


class Confinement:
    """The layers that are on: entered once by the fork server, then applied by each of its workers to itself.

    The fork server calls `separate`, fills its memory with what the workers need, and calls `enter`.

    Args of the constructor:
        layers: names from `LEVELS`.
    """

    def __init__(self, layers: tuple[str, ...]) -> None:
        self.layers = layers
        self.filtered = False
        self._first_uid = FIRST_UID + os.getpid() % 65536 * SLOTS
        self._used = self._own_processes = 0
        self._rules: landlock.Rules | None = None
        self._filter = b""

    def separate(self) -> None:
        """With namespaces the caller goes on as a child of itself. Pages that it has by then stay shared, and small.

        Raises:
            OSError: a layer that this machine does not give.
        """
        if "namespaces" in self.layers:
            namespaces.separate()

    def enter(self) -> None:
        """Prepare the fork server.

        Raises:
            OSError: a layer that this machine does not give.
        """
        self._used = _address_space()
        paths = readable.readable()
        if "namespaces" in self.layers:
            self._own_processes = namespaces.enter(paths)
        else:
            os.chdir("/")
        if "landlock" in self.layers:
            self._rules = landlock.prepare(paths)
        if "limits" in self.layers:
            self._filter = seccomp.prepare(files="namespaces" in self.layers)
            kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)

    @property
    def inherited(self) -> list[int]:
        """File descriptors that the fork server needs for its workers."""
        rules = self._rules.fds if self._rules else ()
        return [*rules, *([self._own_processes] if self._own_processes else [])]

    def fork(self) -> int:
        """Fork a worker; 0 in the worker.

        Raises:
            OSError: no process can be made.
        """
        return namespaces.fork(self._own_processes) if self._own_processes else kernel.fork()

    def confine(self, slot: int, memory: int, cpu_seconds: int, keep: int) -> None:
        """Give up, in a worker, whatever it does not need.

        Args:
            slot: number of the worker among those that run now.
            memory: bytes that it may use.
            cpu_seconds: processor time that it may use.
            keep: the one file descriptor beside the standard streams that stays open.

        Raises:
            OSError: a layer cannot be applied.
        """
        os.setsid()
        private = "namespaces" in self.layers
        uid = self._first_uid + slot % SLOTS if "uid" in self.layers else os.getuid()
        if private:
            namespaces.mount_temporary(uid)
        if "uid" in self.layers:
            _become(uid)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if self.layers:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            kernel.drop_capabilities()
        if "landlock" in self.layers:
            landlock.restrict(self._rules, [os.devnull, *([namespaces.TEMPORARY] if private else [])])
        os.closerange(3, keep)
        os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
        if "limits" in self.layers:
            self._limit(memory, cpu_seconds, namespaces.TEMPORARY_BYTES if private else 0)
            self.filtered = self._install_filter()

    def _limit(self, memory: int, cpu_seconds: int, file_bytes: int) -> None:
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        limits = {
            resource.RLIMIT_AS: self._used + memory,
            resource.RLIMIT_CPU: cpu_seconds,
            resource.RLIMIT_FSIZE: file_bytes,  # without a file system of its own it cannot write at all
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: MAX_FILES,
            resource.RLIMIT_MSGQUEUE: 0,
            resource.RLIMIT_MEMLOCK: 0,
        }
        if "uid" in self.layers:  # counted for each user; that of the grader may have many other processes
            limits[resource.RLIMIT_NPROC] = MAX_THREADS
        for kind, most in limits.items():
            hard = resource.getrlimit(kind)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (most, most))

    def _install_filter(self) -> bool:
        try:
            seccomp.install(self._filter, os.getpid())
        except OSError:
            return False
        return True

    def clean_up(self, alive: set[int]) -> None:
        """Kill, in the fork server, what workers left behind; `alive` are the workers that still run."""
        if "namespaces" in self.layers:
            return  # all others died with the first process of their namespace
        while orphans := _children() - alive:
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
            for pid in orphans:
                os.waitpid(pid, 0)


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _address_space() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _children() -> set[int]:
    """Living and dead children of this process."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            return {int(pid) for pid in children.read().split()}
    except FileNotFoundError:  # a kernel without this list
        return {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == os.getpid()}


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def hide_memory() -> int:
    """Let no process of the same user read this one's memory; returns what `show_memory` puts back."""
    before = kernel.prctl(kernel.PR_GET_DUMPABLE)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    return before


def show_memory(before: int) -> None:
    """Put back what `hide_memory` changed."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, min(before, 1))


def quieten(keep: set[int]) -> None:
    """Nothing to read, nowhere to write, nothing inherited but these file descriptors."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    first = 3
    for fd in sorted(keep):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def probe() -> dict[str, Any]:
    """Which layers hold on this machine, each tried on a canary process, once; threads that ask wait for it.

    Returns:
        For each layer True or False, "reasons" for those that do not hold, and "details": the platform, the version
        of Landlock, and whether system calls are filtered, which the layer "limits" does where it can.
    """
    with _probing:
        return _probed()


@cache
def _probed() -> dict[str, Any]:
    from course_lib.grader import canary

    details = {"platform": f"{platform.system()} {platform.release()} {platform.machine()}"}
    if not LINUX:
        reason = "only Linux has it, and grading needs Linux"
        return {**dict.fromkeys(LEVELS[1:], False), "reasons": dict.fromkeys(LEVELS[1:], reason), "details": details}
    return canary.try_all(details)


def layers_of(level: str) -> tuple[str, ...]:
    """The layers that are on at a level, as far as this machine gives them; "best" stands for all.

    Raises:
        ValueError: an unknown level.
    """
    if level not in (*LEVELS, "best"):
        raise ValueError(f"isolation must be 'best' or one of {', '.join(LEVELS)}; got {level!r}")
    if level == "none":
        return ()
    wanted = LEVELS[1:] if level == "best" else LEVELS[1 : LEVELS.index(level) + 1]
    found = probe()
    return tuple(layer for layer in wanted if found[layer])
