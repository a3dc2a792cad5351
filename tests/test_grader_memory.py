"""What makes a fork of the grader's server cheap: few libraries, and a heap of huge pages that stay huge."""

import os
import subprocess
import sys

import pytest

SPLIT_AND_MEND = """
import ctypes, os, sys
from course_lib.grader import kernel

def huge():
    lines, in_heap, found = open("/proc/self/smaps").read().splitlines(), False, 0
    for line in lines:
        first = line.split()[0]
        in_heap = line.endswith("[heap]") if not first.endswith(":") else in_heap
        found += int(line.split()[1]) if in_heap and first == "AnonHugePages:" else 0
    return found

blocks = [bytes([i % 256]) * 3000 for i in range(10_000)]
heap = kernel.heap()
assert all(place % (2 << 20) == 0 for place in heap)
whole = huge()
ours, theirs = os.pipe()
child = os.fork()
if not child:
    os.close(theirs)
    os._exit(len(os.read(ours, 1)))  # waits for the parent to close the pipe
for place in heap:
    byte = ctypes.c_char.from_address(place + 100_000)
    byte.value = byte.value
split = huge()
os.close(theirs)
assert os.waitpid(child, 0)[1] == 0
contents = hash(tuple(blocks))
kernel.mend_huge_pages(heap)
assert contents == hash(tuple(blocks))
print(whole, split, huge())
"""


def in_a_fresh_process(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_workers_inherit_no_library_that_no_exercise_needs():
    code = "import importlib, sys; from course_lib.grader.forkserver import PRELOAD; "
    code += "[importlib.import_module(name) for name in PRELOAD]; "
    out = in_a_fresh_process(code + "print(*(name in sys.modules for name in ('pandas', 'altair', 'numpy.random')))")
    assert out.split() == ["False", "False", "True"]


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages of Linux")
def test_huge_pages_that_a_write_has_split_are_mended():
    out = in_a_fresh_process(SPLIT_AND_MEND, GLIBC_TUNABLES="glibc.malloc.hugetlb=1", PYTHONMALLOC="malloc")
    whole, split, mended = map(int, out.split())
    if split == whole or tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) < (6, 1):
        pytest.skip(f"this machine has no huge pages that can be mended: {out}")
    assert split < whole / 2 and mended >= whole * 0.8
