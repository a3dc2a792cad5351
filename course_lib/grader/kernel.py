"""The few calls of the Linux kernel that Python does not offer, by ctypes."""

from __future__ import annotations

import ctypes
import os
import platform

PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_SECCOMP = 1, 3, 4, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 4096, 16384, 1 << 18, 2
MS_NOSUID, MS_NODEV = 2, 4
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID = 1, 2
_LARGE_GAPS, _SMALL_GAPS = [1 << power for power in range(16, 10, -1)], range(1032, 8, -16)  # bytes
_HUGE_PAGE, _MADV_COLLAPSE = 2 << 20, 25
_NO_GAP, _BLOCK_HEAD = 3, 32  # blocks that follow each other without a gap show that there is none left
_NUMBERS = {"x86_64": {"pivot_root": 155, "capset": 126}, "aarch64": {"pivot_root": 41, "capset": 91}}

_CAPABILITIES_OF_THIS_PROCESS = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the version of the interface, and "this"
_NO_CAPABILITY = (ctypes.c_uint32 * 6)()

_libc = ctypes.CDLL(None, use_errno=True)
_fork = ctypes.PyDLL(None, use_errno=True).fork  # keeps the interpreter's lock, which the child must hold
_malloc = _libc.malloc
_malloc.argtypes, _malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
_madvise = _libc.madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(what: str, number: int, *arguments: object) -> int:
    """A system call by number.

    Raises:
        OSError: the kernel refuses; the message begins with `what`.
    """
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *wide), what)


def _number(name: str) -> int:
    machine = platform.machine()
    if machine not in _NUMBERS:
        raise OSError(f"{name}: not known on {machine}")
    return _NUMBERS[machine][name]


def prctl(option: int, value: int = 0, pointer: object = None) -> int:
    """`prctl(2)`. Raises: OSError."""
    third = ctypes.c_ulong(0) if pointer is None else pointer
    zero = ctypes.c_ulong(0)
    return _checked(_libc.prctl(option, ctypes.c_ulong(value), third, zero, zero), f"prctl {option}")


def fork() -> int:
    """`fork(2)` without the hooks that Python runs after it; for a process of one thread. Raises: OSError.

    The hooks renew the locks of threads, of loggers and of all their handlers, and would copy some hundred pages.
    """
    return _checked(_fork(), "fork")


def fill_gaps() -> None:
    """Take the free memory between used blocks, so that what is made from here on lies side by side, in few pages."""
    for size in (*_LARGE_GAPS, *_SMALL_GAPS):
        last, in_a_row = 0, 0
        while in_a_row < _NO_GAP:
            place = _malloc(size)
            in_a_row = in_a_row + 1 if 0 < place - last <= size + _BLOCK_HEAD else 0
            last = place


def heap() -> range:
    """Where the huge pages of this process's heap begin; needs `/proc`."""
    with open("/proc/self/maps") as maps:
        ends = [line.split()[0].split("-") for line in maps if line.endswith("[heap]\n")]
    first, last = (int(end, 16) for end in (ends[0][0], ends[-1][1])) if ends else (0, 0)
    return range(-(-first // _HUGE_PAGE) * _HUGE_PAGE, last - _HUGE_PAGE + 1, _HUGE_PAGE)


def mend_huge_pages(heap: range) -> None:
    """Make one page again of each huge page that was split by writing to it. Needs Linux 6.1; does nothing before."""
    for place in heap:
        _madvise(place, _HUGE_PAGE, _MADV_COLLAPSE)


def unshare(flags: int) -> None:
    """`unshare(2)`. Raises: OSError."""
    _checked(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """`setns(2)`. Raises: OSError."""
    _checked(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """`mount(2)`. Raises: OSError."""
    words = [os.fsencode(word) if word is not None else None for word in (source, target, kind)]
    result = _libc.mount(*words, ctypes.c_ulong(flags), options.encode())
    _checked(result, f"mount {target}")


def make_read_only(target: str) -> None:
    """No writing, and no set-user-id programs, in a mount and in all below it. Raises: OSError."""
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID, 0, 0, 0)
    place = (_AT_FDCWD, os.fsencode(target), _AT_RECURSIVE)
    syscall("mount_setattr", _MOUNT_SETATTR, *place, ctypes.byref(attributes), ctypes.sizeof(attributes))


def pivot_to(folder: str) -> None:
    """Make a mounted folder the root, and let go of the old one. Raises: OSError."""
    os.chdir(folder)
    syscall("pivot_root", _number("pivot_root"), b".", b".")
    _checked(_libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")


def drop_capabilities() -> None:
    """Give up every special right, also those of root. Raises: OSError."""
    syscall("capset", _number("capset"), _CAPABILITIES_OF_THIS_PROCESS, _NO_CAPABILITY)
