"""Landlock: a process allows itself a list of files and folders, and can never reach any other again.

Needs Linux 5.13 and no special right. Later versions add TCP ports, and signals and sockets of other processes.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from course_lib.grader import kernel

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1
_WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # version: how many of the rights on files it knows
_TCP, _SCOPES = 0b11, 0b11  # bind and connect; signals and abstract sockets
FIRST_WITH_TCP, FIRST_WITH_SCOPES = 4, 6


def version() -> int:
    """The version of Landlock in this kernel; 0 where there is none."""
    try:
        return kernel.syscall("landlock", _CREATE, None, 0, _ASK_VERSION)
    except OSError:
        return 0


def open_paths(paths: Iterable[tuple[str, bool]]) -> list[tuple[int, int]]:
    """Rules for `restrict`: (file descriptor, rights) of what may be read; a False allows only to list a folder."""
    return [
        (os.open(path, os.O_PATH | os.O_CLOEXEC), _READ_DIR | (_READ_FILE if whole else 0)) for path, whole in paths
    ]


def restrict(rules: Iterable[tuple[int, int]], writable: Iterable[str]) -> None:
    """Allow this process what the rules say, and everything in the writable folders and devices; nothing else.

    The process must have given up new privileges before.

    Raises:
        OSError: no Landlock, or a path that does not exist.
    """
    known = version()
    every = (1 << _RIGHTS.get(known, _RIGHTS[5])) - 1
    ruleset = _make_ruleset(known, every)
    for fd, rights in rules:
        folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        _add(ruleset, fd, rights if folder else rights & ~_READ_DIR)
    for path in writable:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        on_a_file = (_READ_FILE | _WRITE_FILE | _TRUNCATE) & every
        _add(ruleset, fd, every if stat.S_ISDIR(os.fstat(fd).st_mode) else on_a_file)
        os.close(fd)
    kernel.syscall("landlock", _RESTRICT, ruleset, 0)
    os.close(ruleset)


def _make_ruleset(known: int, every: int) -> int:
    fields = [every]
    if known >= FIRST_WITH_TCP:
        fields.append(_TCP)
    if known >= FIRST_WITH_SCOPES:
        fields.append(_SCOPES)
    attributes = struct.pack(f"{len(fields)}Q", *fields)
    return kernel.syscall("landlock", _CREATE, ctypes.create_string_buffer(attributes), len(attributes), 0)


def _add(ruleset: int, fd: int, rights: int) -> None:
    rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, fd))
    kernel.syscall("landlock", _ADD, ruleset, _PATH_BENEATH, rule, 0)
