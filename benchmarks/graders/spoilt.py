"""Hostile submissions for the benchmark: one in ten of the class is replaced by one of these."""

from __future__ import annotations

from pathlib import Path

from benchmarks.graders.assignment import notebook

EVERY = 10
NAME = "previous_token_score"
BODIES = (
    "while True: pass",
    "import os; os._exit(0)",
    "import os; os.kill(os.getppid(), 9)",
    "return torch.ones(1 << 36)",
    "return 'x' * 100_000_000",
    "return open('/etc/passwd').read()",
    "import socket; socket.create_connection(('127.0.0.1', 80), 1)",
    "torch.equal = torch.allclose = lambda *a, **k: True; return pattern",
    "raise SystemExit(0)",
    "import os\n    [os.write(fd, b'\\xff' * 64) for fd in range(3, 64) if os.path.exists(f'/proc/self/fd/{fd}')]",
    "import ctypes; ctypes.string_at(0)",
    "import os\n    if os.fork() == 0:\n        os.setsid()\n        while True: pass\n    return pattern",
    "return torch.zeros(1).expand(1 << 60)",
    "kept = []\n    while True: kept.append(bytearray(1 << 26))",
)
BROKEN = (b"", b"[" * 100_000, b'{"cells": 7}', bytes(1000), b"PK\x03\x04")


def spoil(folder: Path, n: int) -> set[int]:
    """Replace every tenth of n submissions; returns their numbers."""
    numbers = range(EVERY // 2, n, EVERY)
    kinds = len(BODIES) + len(BROKEN)
    for place, number in enumerate(numbers):
        file, kind = folder / f"{number}.ipynb", place % kinds
        if kind < len(BODIES):
            text = f"# {number}\ndef {NAME}(pattern):\n    {BODIES[kind]}\n"
            file.write_text(notebook([{"source": "import torch"}, {"source": text}]), encoding="utf-8")
        else:
            file.write_bytes(BROKEN[kind - len(BODIES)] + b" " * number)
    return set(numbers)
