"""Files that are whole or absent: atomic writes with a checksum, and checkpoints made of them."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tqdm.auto import tqdm

DIGEST_BYTES = 32
_NAME = re.compile(r"step-(\d{9})\.checkpoint")
KEPT = 2  # checkpoints: if the newest is damaged, the one before it is used


def write_checked(path: Path, content: bytes) -> None:
    """Write `content` and its SHA-256 so that `path` is never half-written: a new file, synced, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_checked(path: Path) -> bytes | None:
    """The content of a file of `write_checked`; None if it is missing, cut short or changed."""
    try:
        stored = Path(path).read_bytes()
    except FileNotFoundError:
        return None
    digest, content = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None


class Checkpoints:
    """The checkpoint files of one run. Trouble with the disk is said in a sentence and never ends the run."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.step = 0  # of the newest checkpoint that is known to be whole
        self._known: set[str] = set()  # names of the files that were there at first, or are our own
        with suppress(OSError):
            self._known = {path.name for path in self.files()}

    def files(self) -> list[Path]:
        """Checkpoint files, newest first."""
        return sorted((path for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name)), reverse=True)

    def whole(self) -> Iterator[bytes]:
        """Contents of the files that are whole, newest first; of every other one it is said what is wrong with it."""
        for path in self.files():
            try:
                content, trouble = read_checked(path), "is damaged"
            except OSError as error:
                content, trouble = None, f"cannot be read ({_reason(error)})"
            if content is None:
                tqdm.write(f"checkpoint {path.name} {trouble}; going on from the one before it")
                continue
            self.step = int(_NAME.fullmatch(path.name)[1])
            yield content

    def try_out(self) -> None:
        """Say, before any work is done, if nothing can be written to the folder; take away what a kill left behind."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob("step-*.checkpoint*.partial"):
                left.unlink(missing_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            self._complain("Checkpoints cannot be written", error)

    def write(self, step: int, content: bytes) -> None:
        """Write the checkpoint of a step. It and the one before it are kept, whatever else cannot be written.

        Nothing is written where another run has begun to write too.
        """
        newest = self.folder / f"step-{step:09d}.checkpoint"
        self._known.add(newest.name)
        try:
            if strange := {path.name for path in self.files()} - self._known:
                tqdm.write(f"Another run writes to {self.folder} ({max(strange)}): no checkpoint of step {step} there.")
                return
            write_checked(newest, content)
        except OSError as error:
            self._complain(f"The checkpoint of step {step} could not be written", error)
            return
        self.step = step
        for old in [path for path in self.files() if path.name <= newest.name][KEPT:]:
            with suppress(OSError):
                old.unlink(missing_ok=True)

    def _complain(self, what: str, error: OSError) -> None:
        begin = f"goes on from step {self.step}" if self.step else "begins again"
        tqdm.write(
            f"{what} to {self.folder} ({_reason(error)}). Training goes on, and the model stays in memory; "
            f"but a run that is interrupted now {begin}. "
            "Make room there, or set COURSE_RUNS to a folder that can be written."
        )


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
