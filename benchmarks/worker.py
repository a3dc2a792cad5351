"""One peer in a process of its own: `python -m benchmarks.worker "plain"`. Reads a request a line, answers a line.

Requests are JSON objects with `do`, the name of a method of `Session`, and its arguments.
Answers are what the method gives, or `{"error": message}`.
"""

from __future__ import annotations

import base64
import gc
import importlib
import json
import os
import platform
import resource
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TextIO

from benchmarks.specs import PEERS, TINY, job_from_dict

RATED_CALLS = 10  # matrix products; the fastest counts
CHECKED_CALLS = 3  # calls before the first timing: they warm up, and their result is compared


class Session:
    """What a worker has done so far. The methods are what can be asked of it."""

    def __init__(self, peer: str):
        self.peer = PEERS[peer]

    def load(self, threads: int, device: str) -> dict:
        """Import torch, then what the peer's users import; seconds of both, and versions."""
        started = time.perf_counter()
        import torch

        torch_there = time.perf_counter()
        for name in self.peer.imports:
            importlib.import_module(name)
        all_there = time.perf_counter()
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device 'cuda' was asked for, but torch sees no CUDA device here; use --device cpu")
        torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.build = importlib.import_module(f"benchmarks.peers.{self.peer.module}").build
        versions = {"python": platform.python_version()} | {name: version(name) for name in self.peer.packages}
        return {"torch": torch_there - started, "imports": all_there - torch_there, "versions": versions}

    def machine(self, side: int) -> dict:
        """Operations a second of a large matrix product, [side, side] twice, by dtype: where the hardware has it."""
        import torch

        from course_lib.runtime import precision_dtype

        rates = {}
        for dtype in dict.fromkeys((torch.float32, precision_dtype("auto", self.device))):
            a, b = torch.randn(2, side, side, device=self.device).to(dtype)
            seconds = []
            for _ in range(RATED_CALLS):
                self.synchronize()
                started = time.perf_counter()
                a @ b
                self.synchronize()
                seconds.append(time.perf_counter() - started)
            rates[str(dtype).removeprefix("torch.")] = 2 * side**3 / min(seconds)
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None
        return {"rates": rates, "gpu": name}

    def prepare(self, job: dict) -> dict:
        """Build the model, call the task a few times, and give the result of that and the number of parameters."""
        self.job = job_from_dict(job)
        subject = self.build(self.job.size, self.device)
        self.task = subject.task(self.job)
        result = self.task(CHECKED_CALLS if self.job.task == "training_step" else 1)
        parameters = sum(weight.numel() for weight in subject.model.parameters())
        return {"result": encoded(result.flatten().tolist()), "parameters": parameters}

    def measure(self) -> dict:
        """Seconds of one call of the prepared task, the mean of as many calls in a row as the job says."""
        gc.collect()
        self.synchronize()
        started = time.perf_counter()
        self.task(self.job.repeats)
        self.synchronize()
        return {"value": (time.perf_counter() - started) / self.job.repeats}

    def memory(self, job: dict) -> dict:
        """Bytes that preparing the job needs at most, on top of what the imports left.

        Counts the weights, their gradients, the optimiser's state, and what one step keeps. A tiny model goes first:
        torch imports more when the first optimiser is made, unless the peer's imports have done so already.
        """
        self.prepare(replace(job_from_dict(job), size=TINY).to_dict())
        self.forget_peak()
        before = self.peak_bytes()
        self.prepare(job)
        return {"value": self.peak_bytes() - before}

    def peak_bytes(self) -> int:
        """Memory at its highest: on the GPU what torch has given out, else what is resident of this process."""
        return torch_cuda().max_memory_allocated() if self.device.type == "cuda" else peak_resident()

    def forget_peak(self) -> None:
        """Let the highest count from now."""
        torch_cuda().reset_peak_memory_stats() if self.device.type == "cuda" else forget_peak_resident()

    def synchronize(self) -> None:
        """Wait for the GPU, if there is one."""
        if self.device.type == "cuda":
            torch_cuda().synchronize()


def torch_cuda() -> ModuleType:
    """`torch.cuda`; this module does not import torch, since that is timed."""
    return importlib.import_module("torch.cuda")


def peak_resident() -> int:
    """Resident memory of this process at its highest.

    On Linux from /proc: there `ru_maxrss` starts at what the parent had, which can be more than this process needs.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_resident() -> None:
    """Let `peak_resident` count from what is resident now; without /proc it goes on from the start of the process."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")


def encoded(numbers: list[float]) -> str:
    """Numbers as text that is short and exact in float32."""
    return base64.b64encode(array("f", numbers).tobytes()).decode()


def decoded(text: str) -> array:
    """The inverse of `encoded`."""
    return array("f", base64.b64decode(text))


def private_stdout() -> TextIO:
    """The pipe to the driver, for answers alone: whatever else this process prints goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def serve(session: object, requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        request = json.loads(line)
        try:
            method: Callable[..., dict] = getattr(session, request.pop("do"))
            answer = method(**request)
        except Exception as error:  # the driver reports it and goes on without this peer
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(Session(sys.argv[1]), sys.stdin, private_stdout())
