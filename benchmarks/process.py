"""The driver's end of a worker: starts the process, asks, and turns whatever goes wrong into one kind of error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from benchmarks.specs import PEERS

ROOT = Path(__file__).resolve().parent.parent
LAST_WORDS = 400  # characters of stderr in an error


class PeerError(Exception):
    """A peer could not do what it was asked; the message says why."""


def worker_command(peer: str) -> list[str]:
    """What starts the worker of a peer.

    Raises:
        PeerError: its environment has not been made.
    """
    environment = PEERS[peer].environment
    python = Path(sys.executable) if environment is None else ROOT / environment / "bin" / "python"
    if not python.exists():
        raise PeerError(f"there is no {environment}/bin/python; `make {environment}/ready` makes it")
    return [str(python), "-m", "benchmarks.worker", peer]


class Process:
    """A worker that is running. Use it in a `with` statement, which ends it."""

    def __init__(self, command: list[str], threads: int, timeout: float = 300.0):
        """Start it.

        Args:
            command: program and arguments; it must speak as `worker.serve` does.
            threads: for libraries that read their number of threads when they are loaded.
            timeout: seconds until a request that was not answered ends the process.
        """
        self.timeout, self.timed_out = timeout, False
        self.stderr = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        quiet = {"COURSE_STATIC": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | quiet | {"OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the driver alone, which then ends its workers
        )

    def ask(self, do: str, **arguments: object) -> dict:
        """Send a request and wait for its answer.

        Raises:
            PeerError: the worker answers with an error, ends, or is silent for too long.
        """
        alarm = threading.Timer(self.timeout, self._stop_waiting)
        alarm.start()
        try:
            self.child.stdin.write(json.dumps({"do": do} | arguments) + "\n")
            self.child.stdin.flush()
            line = self.child.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            alarm.cancel()
        if not line:
            raise PeerError(self._how_it_ended(do))
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def _stop_waiting(self) -> None:
        self.timed_out = True
        self.child.kill()

    def _how_it_ended(self, do: str) -> str:
        code = self.child.wait()
        if self.timed_out:
            return f"no answer to '{do}' within {self.timeout:.0f} s"
        self.stderr.seek(0)
        last_words = self.stderr.read().strip()[-LAST_WORDS:] or "nothing"
        return f"the process ended with status {code} at '{do}'; its last words: {last_words}"

    def close(self) -> None:
        """End the process at once."""
        self.child.kill()
        self.child.wait()
        for stream in (self.child.stdin, self.child.stdout, self.stderr):
            with suppress(BrokenPipeError):  # a request that the worker did not live to read
                stream.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
