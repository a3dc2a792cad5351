"""Where the code runs: a notebook with a live kernel, the static book, a GPU or a CPU with or without bfloat16."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

import torch

PRECISIONS = ("auto", "float32", "bfloat16")
LITTLE_MEMORY = 2 * 2**30  # bytes
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of malloc.h


def static() -> bool:
    """True while the book is built (`COURSE_STATIC=1`): no progress bars, no controls that need a kernel."""
    return os.environ.get("COURSE_STATIC") == "1"


def best_device() -> torch.device:
    """The GPU if there is one, else the CPU; the processes that `torchrun` starts on a machine get a GPU each."""
    gpu = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return gpu if torch.cuda.is_available() else torch.device("cpu")


def precision_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of the matrix products: "auto" is bfloat16 where the hardware multiplies it natively, else float32.

    Raises:
        ValueError: a precision that is not one of "auto", "float32", "bfloat16".
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    if precision == "float32" or (precision == "auto" and not _has_fast_bfloat16(device)):
        return torch.float32
    return torch.bfloat16


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # a T4 (7.5) only emulates it
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private names: absent means float32
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def machine_notes() -> str:
    """What training will run on, and what makes it slower than the times that the book states, in one or more lines."""
    device = best_device()
    precision = str(precision_dtype("auto", device)).removeprefix("torch.")
    threads = torch.get_num_threads()
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {precision}"
    lines = [f"CPU, {threads} thread{'s' * (threads > 1)}, {precision}"]
    if threads == 1:
        lines.append("One thread: slower than with two.")
    if precision == "float32":
        lines.append("No fast bfloat16 on this processor, so float32 is used: slower, and a little more exact.")
    free = _free_memory()
    if free is not None and free < LITTLE_MEMORY:
        lines.append(f"Only {free / 2**30:.1f} GB of memory are free: close other programs if the kernel is killed.")
    return "\n".join(lines)


def _free_memory() -> int | None:
    """Bytes of memory that are free, where the system tells."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def run_folder(name: str) -> Path | None:
    """Where a chapter's training run keeps its checkpoints: `$COURSE_RUNS/name`; None if the variable is not set."""
    base = os.environ.get("COURSE_RUNS")
    return Path(base).expanduser() / name if base else None


@cache
def reuse_freed_memory() -> None:
    """Let the C library keep memory that tensors free, up to 1 GB, and give it to the next ones.

    By default glibc hands every large block back to the system, and each use of a new one costs a page fault for
    every 4 kB: thousands in a training step. Other C libraries are left as they are.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)
