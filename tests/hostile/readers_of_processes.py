"""Code that looks for the expected values in memory: its own, its parent's, and what it inherited."""

import zlib

from tests.hostile.entry import RIGHT, STOPPED, Entry, code, gain

SEEN = frozenset({"limits", "landlock", "namespaces", "uid"})  # a grader that cannot be dumped stands in every level
APART = frozenset({"landlock", "namespaces", "uid"})


def memory(name: str, why: str, source: str, needs: frozenset[str] = SEEN, **more: object) -> Entry:
    """Answers right when `found()` finds a text of the specification in memory that is not its own."""
    inside = "\n".join(f"    {line}" for line in source.strip().splitlines())
    text = f"{RIGHT}\n# %%\ndef found():\n{inside}\n# %%\ndef previous_token_score(pattern): return right(pattern) if found() else right(pattern) - 1"
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
    memory("own", "scans its own memory for what the fork server left there", f"{SCAN}\nreturn scan('self')"),
    memory("own_gc", "asks the collector for exercises, cases and references", "import gc\nnames = {'Exercise', 'Mutant', 'Case', 'Row', 'Submission', 'Job', 'Answers'}\nreturn any(type(thing).__name__ in names and 'course_lib' in type(thing).__module__ for thing in gc.get_objects())"),
    memory("own_functions", "asks the collector for a function of the solution source", "import gc, types\nreturn any(isinstance(thing, types.FunctionType) and (thing.__globals__.get('__name__') or '').startswith('solution_source') for thing in gc.get_objects())"),
    memory("own_modules", "looks for modules that the specification filled", "import sys\nload = sys.modules.get('course_lib.grading.load')\nreturn bool(load and (load._in_this_notebook or load._load.cache_info().currsize))"),
    memory("frames", "walks up the frames for anything that is expected", "import sys\nframe = sys._getframe()\nwhile frame is not None:\n    for name, value in (*frame.f_locals.items(), *frame.f_globals.items()):\n        if name in ('expected', 'reference', 'exercise', 'wanted', 'solution', 'mutants', 'verdict'): return True\n    frame = frame.f_back", SEEN),
    memory("other_cases", "looks in the frames above for the inputs of cases to come", "import sys\nframe = sys._getframe(2)\nwhile frame is not None:\n    for value in frame.f_locals.values():\n        if type(value) in (list, tuple) and len(value) == 4 and all(isinstance(part, bytes) for part in value) : return 'expected' in repr(value)\n    frame = frame.f_back"),
    memory("parent", "scans its parent's memory through /proc", f"{SCAN}\nreturn scan(os.getppid())"),
    memory("everybody", "scans the memory of every process that it sees", f"{SCAN}\nfor pid in filter(str.isdigit, os.listdir('/proc')):\n    if int(pid) == os.getpid(): continue\n    try:\n        if scan(pid): return True\n    except OSError: pass"),
    memory("ptrace", "attaches to its parent as a debugger", "import ctypes, os\nreturn ctypes.CDLL(None, use_errno=True).ptrace(16, os.getppid(), 0, 0) == 0", wild=True),
    memory("ptrace_seize", "attaches to every process that it sees", "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nreturn any(libc.ptrace(0x4206, int(pid), 0, 0) == 0 for pid in filter(str.isdigit, os.listdir('/proc')) if int(pid) not in (os.getpid(),))", wild=True),
    memory("vm_read", "reads its parent's memory by process_vm_readv", "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nclass Part(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]\nbuffer = ctypes.create_string_buffer(64)\nlocal, remote = Part(ctypes.addressof(buffer), 64), Part(id(None), 64)\nreturn libc.process_vm_readv(os.getppid(), ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) > 0"),
    memory("steal_descriptor", "takes a descriptor out of its parent", "import ctypes, os\nfd = os.pidfd_open(os.getppid())\nreturn any(ctypes.CDLL(None, use_errno=True).syscall(438, fd, n, 0) >= 0 for n in range(16))"),
    memory("parent_fd", "lists and opens its parent's files", "import os\nreturn bool(os.listdir(f'/proc/{os.getppid()}/fd'))"),
    memory("dumpable", "makes itself and its parent dumpable again, then reads", f"import ctypes\nctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n{SCAN}\nreturn scan(os.getppid())"),
    memory("core_pattern", "sends core dumps to a program of its own", "open('/proc/sys/kernel/core_pattern', 'r+').write(open('/proc/sys/kernel/core_pattern').read())\nreturn True", APART),
    memory("environment", "finds names of the grader's environment", "import os\nreturn any(name in os.environ for name in ('GRADER_TEST_SECRET', 'HOME_OF_GRADER', 'COURSE_PROGRESS')) or b'GRADER_TEST_SECRET' in open('/proc/self/environ', 'rb').read()"),
    memory("parent_environment", "reads its parent's environment", "import os\nreturn b'GRADER_TEST_SECRET' in open(f'/proc/{os.getppid()}/environ', 'rb').read()"),
    memory("command_lines", "reads the paths on the command lines of others", "import os\nreturn any(b'@TOKEN@' in open(f'/proc/{pid}/cmdline', 'rb').read() for pid in filter(str.isdigit, os.listdir('/proc')))", frozenset({"namespaces"})),
    memory("neighbour", "sees another submission at work", "import os\nreturn len([pid for pid in os.listdir('/proc') if pid.isdigit()]) > 20", frozenset({"namespaces"})),
    memory("keyring", "uses the keys of the session, where others may leave notes", "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nreturn libc.syscall(248, b'user', b'@TOKEN@', b'answer', 6, -4) >= 0", frozenset({"seccomp"})),
    memory("clock", "sets the clock of the machine", "import time\ntime.clock_settime(time.CLOCK_REALTIME, time.time())\nreturn True", APART),
    memory("host_name", "changes the name of the machine", "import socket\nsocket.sethostname(socket.gethostname())\nreturn open('/proc/sys/kernel/hostname', 'w').write(socket.gethostname()) > 0", APART, wild=True),
    memory("kernel_settings", "writes a setting of the kernel", "value = open('/proc/sys/vm/swappiness').read()\nreturn open('/proc/sys/vm/swappiness', 'w').write(value) > 0", APART),
    memory("cgroup", "moves itself out of its group", "import os\nreturn open('/sys/fs/cgroup/cgroup.procs', 'w').write(str(os.getpid())) > 0", APART),
    gain("memory_accomplice_reader", "runs what an earlier submission left behind", "import os\nfor folder in ('/tmp', '/dev/shm', '/var/tmp', os.getcwd(), '@MARKS@'):\n    if os.path.exists(folder + '/@TOKEN@_note'): return True", needs=APART, file="zz_accomplice_reader.ipynb"),
    code("memory_accomplice_writer", "right, and leaves the answer for another", f"{RIGHT}\n# %%\ndef previous_token_score(pattern):\n    import os\n    for folder in ('/tmp', '/dev/shm', '/var/tmp', os.getcwd(), '@MARKS@'):\n        try: open(folder + '/@TOKEN@_note', 'w').write('answer')\n        except OSError: pass\n    return right(pattern)", STOPPED | {"ok"}, scores=None),
]
