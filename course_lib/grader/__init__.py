"""Grades notebooks that nobody trusts: a worker process computes values, the grader computes verdicts.

One way through the modules: wire <- messages <- worker <- forkserver <- process <- server, and isolation beside them.
Nothing here is imported by the rest of the library, but by its command line.
"""

from importlib import import_module
from typing import Any

__all__ = ["Job", "Reply", "Server", "probe"]

_HOMES = {"Job": "server", "Reply": "server", "Server": "server", "probe": "isolation"}


def __getattr__(name: str) -> Any:
    """Import on use: the canaries that try out isolation do without torch."""
    if name not in _HOMES:
        raise AttributeError(f"course_lib.grader has no {name!r}")
    return getattr(import_module(f"course_lib.grader.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
