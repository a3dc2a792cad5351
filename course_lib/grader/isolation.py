"""What an untrusted worker is put into, layer by layer, and which of the layers this machine gives."""

from __future__ import annotations

import os
import resource
import signal

LEVELS = ("none", "limits", "landlock", "namespaces", "uid")


class Confinement:
    """The layers that are on: entered once by the fork server, then applied by each of its workers to itself.

    Args of the constructor:
        layers: names from `LEVELS`.
    """

    def __init__(self, layers: tuple[str, ...]) -> None:
        self.layers = layers

    def enter(self) -> None:
        """Prepare the fork server; may put it into namespaces of its own."""

    def fork(self) -> int:
        """Fork a worker; 0 in the worker.

        Raises:
            OSError: no process can be made.
        """
        return os.fork()

    def confine(self, slot: int, memory: int, cpu_seconds: int, keep: int) -> None:
        """Give up, in a worker, whatever it does not need.

        Args:
            slot: number of the worker among those that run now.
            memory: bytes that it may use.
            cpu_seconds: processor time that it may use.
            keep: the one file descriptor beside the standard streams that stays open.
        """
        os.closerange(3, keep)
        os.closerange(keep + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        os.setsid()
        if "limits" in self.layers:
            with open("/proc/self/statm") as statm:
                used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (used + memory,) * 2)
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds,) * 2)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def clean_up(self, alive: set[int]) -> None:
        """Kill, in the fork server, what a worker left behind; `alive` are the workers that still run."""


def quieten(keep: int) -> None:
    """Nothing to read, nowhere to write, nothing inherited but one file descriptor."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, keep)
    os.closerange(keep + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def probe() -> dict[str, bool | dict[str, str]]:
    """Which layers hold on this machine, each tried on a canary process; and why not, for those that do not."""
    return {"limits": True, "landlock": False, "namespaces": False, "uid": False, "reasons": {}}


def layers_of(level: str) -> tuple[str, ...]:
    """The layers that are on at a level, as far as this machine gives them; "best" stands for all.

    Raises:
        ValueError: an unknown level.
    """
    if level not in (*LEVELS, "best"):
        raise ValueError(f"isolation must be 'best' or one of {', '.join(LEVELS)}; got {level!r}")
    wanted = LEVELS if level == "best" else LEVELS[: LEVELS.index(level) + 1]
    found = probe()
    return tuple(layer for layer in wanted if found.get(layer) is True)
