"""Namespaces: a fork server with a root folder of its own, no network, and a world of processes for each worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from course_lib.grader import kernel

TEMPORARY = "/scratch"  # what may be read can lie below /tmp
TEMPORARY_BYTES, TEMPORARY_FILES = 64 << 20, 4096
_SPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
_PLACES = ("/mnt", "/media", "/srv", "/opt", "/run", "/home")  # an empty root is mounted on one of them


def separate() -> None:
    """Go on in namespaces, as a child of this process, which only waits for it. Raises: OSError: it is forbidden."""
    _unshare()
    child = os.fork()
    if child:
        _wait_for(child)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


def enter(paths: Sequence[tuple[str, bool]]) -> int:
    """After `separate`: leave the file system behind.

    Args:
        paths: what can be seen from here on, as `readable.readable` gives it.

    Returns:
        A file descriptor of the server's own namespace of processes, for `fork`.

    Raises:
        OSError: the kernel or its settings forbid it.
    """
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    _change_root(paths)
    return own


def _unshare() -> None:
    uid, gid = os.getuid(), os.getgid()
    try:
        kernel.unshare(_SPACES)
    except PermissionError:
        kernel.unshare(_SPACES | kernel.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _wait_for(child: int) -> None:
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def _change_root(paths: Sequence[tuple[str, bool]]) -> None:
    """An empty root with the readable paths in it, read-only, and a place for temporary files."""
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    root = next(
        place
        for place in _PLACES
        if os.path.isdir(place) and not any(path == place or path.startswith(place + "/") for path, _ in paths)
    )
    kernel.mount("tmpfs", root, "tmpfs", kernel.MS_NOSUID, "size=1m,mode=0755")
    for path, whole in paths:
        _show(root, path, whole)
    os.mkdir(root + TEMPORARY)
    for name in ("/tmp", "/dev/shm"):  # locks of `multiprocessing`, which pools of threads take too, lie in the second
        if not os.path.exists(root + name):
            os.symlink(TEMPORARY, root + name)
    kernel.make_read_only(root)
    kernel.pivot_to(root)


def _show(root: str, path: str, whole: bool) -> None:
    target = root + path
    if os.path.islink(path):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(path), target)
    elif os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
        if whole:
            kernel.mount(path, target, None, kernel.MS_BIND | kernel.MS_REC)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        kernel.mount(path, target, None, kernel.MS_BIND)


def fork(own: int) -> int:
    """Fork the first process of a new namespace of processes: when it dies, all in there die.

    Raises:
        OSError: no process can be made.
    """
    kernel.unshare(kernel.CLONE_NEWPID)
    pid = -1
    try:
        pid = kernel.fork()
    finally:
        if pid:
            kernel.setns(own, kernel.CLONE_NEWPID)
    return pid


def mount_temporary(uid: int) -> None:
    """In a worker: a small file system in memory, for its own files, which vanishes with it. Raises: OSError."""
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)
    options = f"size={TEMPORARY_BYTES},nr_inodes={TEMPORARY_FILES},mode=0700,uid={uid}"
    kernel.mount("tmpfs", TEMPORARY, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    os.chdir(TEMPORARY)
    os.environ["TMPDIR"] = TEMPORARY
