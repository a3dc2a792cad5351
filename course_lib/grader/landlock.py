"""Landlock: a process allows itself a list of files and folders, and can never reach any other again.

Needs Linux 5.13 and no special right. Later versions add TCP ports, and signals and sockets of other processes.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Rules:
    """What a process will allow itself, as the kernel wants it.

    Attributes:
        attributes: what is governed at all.
        readable: rules of the paths that may be read.
        fds: their file descriptors, which must stay open.
        every: all rights on files that this kernel knows.
    """

    attributes: bytes
    readable: tuple[bytes, ...]
    fds: tuple[int, ...]
    every: int


def prepare(paths: Iterable[tuple[str, bool]]) -> Rules:
    """Rules for `restrict`: these paths may be read; a False allows only to list a folder."""
    known = version()
    every = (1 << _RIGHTS.get(known, _RIGHTS[5])) - 1
    governed = [every, *([_TCP] if known >= FIRST_WITH_TCP else []), *([_SCOPES] if known >= FIRST_WITH_SCOPES else [])]
    rules = []
    for path, whole in paths:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rules.append((fd, (_READ_FILE if whole else 0) | (_READ_DIR if _is_folder(fd) else 0)))
    return Rules(
        struct.pack(f"{len(governed)}Q", *governed),
        tuple(_rule(fd, rights) for fd, rights in rules),
        tuple(fd for fd, _ in rules),
        every,
    )


def restrict(rules: Rules, writable: Iterable[str]) -> None:
    """Allow this process what the rules say, and everything in the writable folders and devices; nothing else.

    The process must have given up new privileges before.

    Raises:
        OSError: no Landlock, or a path that does not exist.
    """
    ruleset = kernel.syscall("landlock", _CREATE, rules.attributes, len(rules.attributes), 0)
    for rule in rules.readable:
        kernel.syscall("landlock", _ADD, ruleset, _PATH_BENEATH, rule, 0)
    for path in writable:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        on_a_file = (_READ_FILE | _WRITE_FILE | _TRUNCATE) & rules.every
        rule = _rule(fd, rules.every if _is_folder(fd) else on_a_file)
        kernel.syscall("landlock", _ADD, ruleset, _PATH_BENEATH, rule, 0)
        os.close(fd)
    kernel.syscall("landlock", _RESTRICT, ruleset, 0)
    os.close(ruleset)


def _is_folder(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def _rule(fd: int, rights: int) -> bytes:
    return struct.pack("=Qi", rights, fd)
