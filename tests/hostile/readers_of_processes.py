"""Code that looks for the expected values in memory: its own, its parent's, and what it inherited."""

import textwrap
import zlib

from tests.hostile.entry import RIGHT, STOPPED, Entry, code, gain

SEEN = frozenset({"limits", "landlock", "namespaces", "uid"})  # a grader that cannot be dumped stands in every level
APART = frozenset({"landlock", "namespaces", "uid"})


def memory(name: str, why: str, source: str, needs: frozenset[str] = SEEN, **more: object) -> Entry:
    """Answers right when `found()` finds a text of the specification in memory that is not its own."""
    inside = textwrap.indent(textwrap.dedent(source).strip(), "    ")
    scan = f"{SCAN}\n# %%\n" if "scan(" in source else ""
    text = f"{RIGHT}\n# %%\n{scan}def found():\n{inside}\n# %%\ndef previous_token_score(pattern): return right(pattern) if found() else right(pattern) - 1"
    return code(f"memory_{name}", why, text, STOPPED, needs=needs, **more)


# Finds a text of the specification without holding it: the start of a sentence, then the checksum of what follows.
START, REST = "Query 0 has no ", "previous token, so a perfect head"
MAPS = """
import os, zlib
def is_there(data):
    at = data.find({start!r})
    while at >= 0:
        rest = data[at + {n_start} : at + {n_start} + {n_rest}]
        if zlib.crc32(rest) == {checksum}: return True
        at = data.find({start!r}, at + 1)
    return False
def scan(pid):
    with open(f'/proc/{{pid}}/maps') as maps, open(f'/proc/{{pid}}/mem', 'rb', 0) as mem:
        for line in maps:
            span, rights = line.split()[:2]
            low, high = (int(part, 16) for part in span.split('-'))
            if not rights.startswith('rw') or high - low > 1 << 28: continue
            try: mem.seek(low); data = mem.read(high - low)
            except (OSError, ValueError, OverflowError): continue
            if data and is_there(data): return True
    return False
"""
SCAN = MAPS.format(start=START.encode(), n_start=len(START), n_rest=len(REST), checksum=zlib.crc32(REST.encode()))
ENTRIES = [
    memory(
        "own",
        "scans its own memory for what the fork server left there",
        """
        return scan('self')
        """,
    ),
    memory(
        "own_gc",
        "asks the collector for exercises, cases and references",
        """
        import gc
        names = {'Exercise', 'Mutant', 'Case', 'Row', 'Submission', 'Job', 'Answers'}
        return any(type(thing).__name__ in names and 'course_lib' in type(thing).__module__ for thing in gc.get_objects())
        """,
    ),
    memory(
        "own_functions",
        "asks the collector for a function of the solution source",
        """
        import gc, types
        return any(isinstance(thing, types.FunctionType) and (thing.__globals__.get('__name__') or '').startswith('solution_source') for thing in gc.get_objects())
        """,
    ),
    memory(
        "own_modules",
        "looks for modules that the specification filled",
        """
        import sys
        load = sys.modules.get('course_lib.grading.load')
        return bool(load and (load._in_this_notebook or load._load.cache_info().currsize))
        """,
    ),
    memory(
        "frames",
        "walks up the frames for anything that is expected",
        """
        import sys
        frame = sys._getframe()
        while frame is not None:
            for name, value in (*frame.f_locals.items(), *frame.f_globals.items()):
                if name in ('expected', 'reference', 'exercise', 'wanted', 'solution', 'mutants', 'verdict'): return True
            frame = frame.f_back
        """,
        SEEN,
    ),
    memory(
        "other_cases",
        "looks in the frames above for the inputs of cases to come",
        """
        import sys
        frame = sys._getframe(2)
        while frame is not None:
            for value in frame.f_locals.values():
                if type(value) in (list, tuple) and len(value) == 4 and all(isinstance(part, bytes) for part in value) : return 'expected' in repr(value)
            frame = frame.f_back
        """,
    ),
    memory(
        "parent",
        "scans its parent's memory through /proc",
        """
        return scan(os.getppid())
        """,
    ),
    memory(
        "everybody",
        "scans the memory of every process that it sees",
        """
        for pid in filter(str.isdigit, os.listdir('/proc')):
            if int(pid) == os.getpid(): continue
            try:
                if scan(pid): return True
            except OSError: pass
        """,
    ),
    memory(
        "ptrace",
        "attaches to its parent as a debugger",
        """
        import ctypes, os
        return ctypes.CDLL(None, use_errno=True).ptrace(16, os.getppid(), 0, 0) == 0
        """,
        wild=True,
    ),
    memory(
        "ptrace_seize",
        "attaches to every process that it sees",
        """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        return any(libc.ptrace(0x4206, int(pid), 0, 0) == 0 for pid in filter(str.isdigit, os.listdir('/proc')) if int(pid) not in (os.getpid(),))
        """,
        wild=True,
    ),
    memory(
        "vm_read",
        "reads its parent's memory by process_vm_readv",
        """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        class Part(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
        buffer = ctypes.create_string_buffer(64)
        local, remote = Part(ctypes.addressof(buffer), 64), Part(id(None), 64)
        return libc.process_vm_readv(os.getppid(), ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) > 0
        """,
    ),
    memory(
        "steal_descriptor",
        "takes a descriptor out of its parent",
        """
        import ctypes, os
        fd = os.pidfd_open(os.getppid())
        return any(ctypes.CDLL(None, use_errno=True).syscall(438, fd, n, 0) >= 0 for n in range(16))
        """,
    ),
    memory(
        "parent_fd",
        "lists and opens its parent's files",
        """
        import os
        return bool(os.listdir(f'/proc/{os.getppid()}/fd'))
        """,
    ),
    memory(
        "dumpable",
        "makes itself and its parent dumpable again, then reads",
        """
        import ctypes
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
        return scan(os.getppid())
        """,
    ),
    memory(
        "core_pattern",
        "sends core dumps to a program of its own",
        """
        open('/proc/sys/kernel/core_pattern', 'r+').write(open('/proc/sys/kernel/core_pattern').read())
        return True
        """,
        APART,
    ),
    memory(
        "environment",
        "finds names of the grader's environment",
        """
        import os
        return any(name in os.environ for name in ('GRADER_TEST_SECRET', 'HOME_OF_GRADER', 'COURSE_PROGRESS')) or b'GRADER_TEST_SECRET' in open('/proc/self/environ', 'rb').read()
        """,
    ),
    memory(
        "parent_environment",
        "reads its parent's environment",
        """
        import os
        return b'GRADER_TEST_SECRET' in open(f'/proc/{os.getppid()}/environ', 'rb').read()
        """,
    ),
    memory(
        "command_lines",
        "reads the paths on the command lines of others",
        """
        import os
        return any(b'@TOKEN@' in open(f'/proc/{pid}/cmdline', 'rb').read() for pid in filter(str.isdigit, os.listdir('/proc')))
        """,
        frozenset({"namespaces"}),
    ),
    memory(
        "neighbour",
        "sees another submission at work",
        """
        import os
        return len([pid for pid in os.listdir('/proc') if pid.isdigit()]) > 20
        """,
        frozenset({"namespaces"}),
    ),
    memory(
        "keyring",
        "uses the keys of the session, where others may leave notes",
        """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        return libc.syscall(248, b'user', b'@TOKEN@', b'answer', 6, -4) >= 0
        """,
        frozenset({"limits"}),
    ),
    memory(
        "clock",
        "sets the clock of the machine",
        """
        import time
        time.clock_settime(time.CLOCK_REALTIME, time.time())
        return True
        """,
        APART,
    ),
    memory(
        "host_name",
        "changes the name of the machine",
        """
        import socket
        socket.sethostname(socket.gethostname())
        return open('/proc/sys/kernel/hostname', 'w').write(socket.gethostname()) > 0
        """,
        APART,
        wild=True,
    ),
    memory(
        "kernel_settings",
        "writes a setting of the kernel",
        """
        value = open('/proc/sys/vm/swappiness').read()
        return open('/proc/sys/vm/swappiness', 'w').write(value) > 0
        """,
        APART,
    ),
    memory(
        "cgroup",
        "moves itself out of its group",
        """
        import os
        return open('/sys/fs/cgroup/cgroup.procs', 'w').write(str(os.getpid())) > 0
        """,
        APART,
    ),
    gain(
        "memory_accomplice_reader",
        "runs what an earlier submission left behind",
        """
        import os
        for folder in ('/tmp', '/dev/shm', '/var/tmp', os.getcwd(), '@MARKS@'):
            if os.path.exists(folder + '/@TOKEN@_note'): return True
        """,
        needs=APART,
        file="zz_accomplice_reader.ipynb",
    ),
    code(
        "memory_accomplice_writer",
        "right, and leaves the answer for another",
        """
        def previous_token_score(pattern):
            import os
            for folder in ('/tmp', '/dev/shm', '/var/tmp', os.getcwd(), '@MARKS@'):
                try: open(folder + '/@TOKEN@_note', 'w').write('answer')
                except OSError: pass
            return right(pattern)
        """,
        STOPPED | {"ok"},
        before=RIGHT,
        scores=None,
    ),
]
