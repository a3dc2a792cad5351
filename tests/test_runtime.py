"""What the code says of the machine it runs on."""

import torch

from course_lib import runtime
from course_lib.runtime import machine_notes, reuse_freed_memory


def test_a_slow_machine_is_told_what_makes_it_slow(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(runtime, "_has_fast_bfloat16", lambda device: False)
    monkeypatch.setattr(runtime, "_free_memory", lambda: 2**29)
    machine, *notes = machine_notes().splitlines()
    assert machine == "CPU, 1 thread, float32"
    assert [
        word in note for word, note in zip(("slower than with two", "so float32 is used", "0.5 GB"), notes, strict=True)
    ] == [True] * 3


def test_a_good_machine_gets_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(runtime, "_has_fast_bfloat16", lambda device: True)
    monkeypatch.setattr(runtime, "_free_memory", lambda: None)
    assert machine_notes() == "CPU, 2 threads, bfloat16"


def test_freed_memory_is_kept_only_where_the_c_library_can(monkeypatch):
    calls = []

    class Library:
        def mallopt(self, name, value):
            calls.append((name, value))

    monkeypatch.setattr(runtime.ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(runtime.sys, "platform", "darwin")
    reuse_freed_memory.__wrapped__()
    assert calls == []
    monkeypatch.setattr(runtime.sys, "platform", "linux")
    reuse_freed_memory.__wrapped__()
    assert calls == [(-3, 32 << 20), (-1, 1 << 30)]  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
    monkeypatch.setattr(runtime.ctypes, "CDLL", lambda name: object())  # musl has no mallopt
    reuse_freed_memory.__wrapped__()
