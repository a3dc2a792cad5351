"""A filter of system calls: no new processes or programs, no network, no reach into other processes.

Everything that is not listed goes through, so that whatever torch and Python do keeps working.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable, Sequence

from course_lib.grader import kernel

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LAST_KNOWN = 462  # calls of newer kernels do not exist for a worker
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _GREATER, _AT_LEAST, _ANY_BIT, _SKIP, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x05, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENT_AT = 0, 4, 16
_CLONE_THREAD = 0x10000
_FEW = 4  # calls that are looked for one after the other

# Numbers on x86_64 and aarch64; None where an architecture lacks the call.
_PROCESSES = {
    **{"fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281)},
    **{"kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)},
    **{"pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "ptrace": (101, 117)},
    **{"process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440)},
    **{"kcmp": (312, 272), "setpriority": (141, 140), "sched_setscheduler": (144, 119), "ioprio_set": (251, 30)},
    **{"sched_setparam": (142, 118), "sched_setattr": (314, 274), "migrate_pages": (256, 238)},
    **{"move_pages": (279, 239), "process_mrelease": (448, 448)},
}
_NETWORK = {
    **{"socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201)},
    **{"accept": (43, 202), "accept4": (288, 242)},
}
_SHARED_MEMORY = {
    **{"shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semctl": (66, 191)},
    **{"semop": (65, 193), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188)},
    **{"msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181), "memfd_create": (319, 279)},
    "memfd_secret": (447, 447),
}
_MACHINE = {
    **{"mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51)},
    **{"unshare": (272, 97), "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429)},
    **{"fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433)},
    **{"mount_setattr": (442, 442), "bpf": (321, 280), "perf_event_open": (298, 241), "keyctl": (250, 219)},
    **{"add_key": (248, 217), "request_key": (249, 218), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426)},
    **{"io_uring_register": (427, 427), "userfaultfd": (323, 282), "init_module": (175, 105)},
    **{"finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104)},
    **{"kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225)},
    **{"sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170)},
    **{"clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266), "acct": (163, 89)},
    **{"quotactl": (179, 60), "syslog": (103, 116), "iopl": (172, None), "ioperm": (173, None)},
    **{"modify_ldt": (154, None), "personality": (135, 92), "name_to_handle_at": (303, 264)},
    **{"open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "vhangup": (153, 58), "quotactl_fd": (443, 443)},
}
_FILES = {  # for a worker without a file system of its own
    **{"mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "unlink": (87, None), "unlinkat": (263, 35)},
    **{"rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37)},
    **{"symlink": (88, None), "symlinkat": (266, 36), "mknod": (133, None), "mknodat": (259, 33)},
    **{"chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)},
    **{"chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54), "creat": (85, None)},
    **{"truncate": (76, 45), "ftruncate": (77, 46), "utime": (132, None), "utimes": (235, None)},
    **{"utimensat": (280, 88), "futimesat": (261, None), "setxattr": (188, 5), "lsetxattr": (189, 6)},
    **{"fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16)},
}
_CLONE, _CLONE3, _TGKILL = (56, 220), (435, 435), (234, 131)
_SOCKETPAIR = (53, 199)
_STREAM, _MODES = 1, (0, 0x800, 0x80000, 0x80800)  # of a socket, alone and not blocking, closed on exec, or both
_PRCTL, _PRLIMIT, _SET_AFFINITY = (157, 167), (302, 261), (203, 122)


_SOME_PID = 0x7FEDCBA9  # stands in a program for the process that will have it; larger than any number of a process


def prepare(files: bool) -> bytes:
    """The filter for workers, without the number of the process; empty on a processor whose calls are not known.

    Args:
        files: False refuses to make, remove and rename files too.
    """
    machine = platform.machine()
    return make_program(machine, _SOME_PID, files) if machine in _ARCHITECTURES else b""


def install(prepared: bytes, pid: int) -> None:
    """Filter all further calls of this process, for good. It must have given up new privileges before.

    Args:
        prepared: from `prepare`, which takes longer than all the rest.
        pid: of this process, which may still signal and limit itself.

    Raises:
        OSError: the kernel has no such filters, or the processor is another one.
    """
    if not prepared:
        raise OSError("seccomp: not known on this processor")
    program = prepared.replace(struct.pack("I", _SOME_PID), struct.pack("I", pid))
    steps = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(steps))
    kernel.prctl(kernel.PR_SET_SECCOMP, 2, ctypes.create_string_buffer(header, len(header)))


def make_program(machine: str, pid: int, files: bool) -> bytes:
    """The filter in the kernel's byte code.

    Raises:
        OSError: a processor for which the numbers of the calls are not known.
    """
    if machine not in _ARCHITECTURES:
        raise OSError(f"seccomp: not known on {machine}")
    column = list(_ARCHITECTURES).index(machine)
    refused = _PROCESSES | _NETWORK | _SHARED_MEMORY | _MACHINE | ({} if files else _FILES)
    steps = [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_EQUAL, 1, 0, _ARCHITECTURES[machine]), (_RETURN, 0, 0, _KILL)]
    steps += [(_LOAD, 0, 0, _NUMBER_AT), (_GREATER, 0, 1, _LAST_KNOWN), _refuse(errno.ENOSYS)]
    steps += _refuse_all(sorted(numbers[column] for numbers in refused.values() if numbers[column] is not None))
    steps += [(_EQUAL, 0, 1, _CLONE3[column]), _refuse(errno.ENOSYS)]  # the C library then takes `clone`
    steps += _only_with(_CLONE[column], [(_ANY_BIT, _CLONE_THREAD)])
    steps += _only_with(_TGKILL[column], [(_EQUAL, pid)])
    for numbers in (_PRLIMIT, _SET_AFFINITY):
        steps += _only_with(numbers[column], [(_EQUAL, 0), (_EQUAL, pid)])
    # one that sends datagrams could send them to any socket that has a name in the file system
    steps += _only_with(_SOCKETPAIR[column], [(_EQUAL, _STREAM | mode) for mode in _MODES], argument=1)
    steps += _never_with(_PRCTL[column], kernel.PR_SET_PDEATHSIG)
    steps += [(_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _refuse_all(calls: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Refuse these calls. A binary search, since the kernel tries every call there is when a filter is installed."""
    if len(calls) < _FEW:
        return [step for call in calls for step in ((_EQUAL, 0, 1, call), _refuse(errno.EPERM))]
    middle = len(calls) // 2
    lower, upper = _refuse_all(calls[:middle]), _refuse_all(calls[middle:])
    return [(_AT_LEAST, len(lower) + 1, 0, calls[middle]), *lower, (_SKIP, 0, 0, len(upper)), *upper]


def _refuse(number: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, _ERRNO | number)


def _only_with(number: int, tests: Iterable[tuple[int, int]], argument: int = 0) -> list[tuple[int, int, int, int]]:
    """Refuse a call unless an argument, by default its first, passes one of the tests."""
    checks = [step for code, value in tests for step in ((code, 0, 1, value), (_RETURN, 0, 0, _ALLOW))]
    body = [(_LOAD, 0, 0, _ARGUMENT_AT + 8 * argument), *checks, _refuse(errno.EPERM)]
    return [(_EQUAL, 0, len(body), number), *body]


def _never_with(number: int, value: int) -> list[tuple[int, int, int, int]]:
    """Refuse a call whose first argument is this; allow it otherwise."""
    body = [(_LOAD, 0, 0, _ARGUMENT_AT), (_EQUAL, 0, 1, value), _refuse(errno.EPERM), (_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, len(body), number), *body]
