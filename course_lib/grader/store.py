"""What a run of the grader has finished, kept so that an interrupt or a power cut loses at most what is under way.

A file of lines, each with a checksum. A line begins with its line break, so that one torn by a power cut does not
spoil the next. And a lock, so that two graders do not write into the same results.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_CHUNK = 1 << 20
_sync = getattr(os, "fdatasync", os.fsync)


class InUse(Exception):
    """Another grader writes these results now."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock as long as the block runs; the system gives it back if this process dies.

    Raises:
        InUse: another process holds it.
    """
    descriptor = os.open(path, _FLAGS, 0o644)
    try:
        _lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError:
        text = f"another grader is writing results into {path.parent}: wait for it, or choose another folder"
        raise InUse(text) from None


@contextmanager
def naming(path: Path | str, instead_of: Path | None = None) -> Iterator[None]:
    """Give an error of the system the file's name, where it has none, or that of a draft."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(instead_of), instead_of):
            error.filename, error.filename2 = str(path), None
        raise


class Store:
    """Lines of JSON in a file that only grows; several threads may add to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, _FLAGS, 0o644)
        self._lock = threading.Lock()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._descriptor)

    def add(self, record: dict[str, Any]) -> tuple[int, int]:
        """Write a record, and return its place when it is on the disk.

        Raises:
            OSError: it cannot be written, for example because the disk is full.
        """
        text = json.dumps(record, sort_keys=True).encode()
        line = b"\n%08x %s" % (zlib.crc32(text), text)
        with self._lock, naming(self._path):
            start = os.fstat(self._descriptor).st_size
            written = os.write(self._descriptor, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes could be written: the disk is full")
            _sync(self._descriptor)
        return start + 1, len(line) - 1

    def read(self, place: tuple[int, int]) -> dict[str, Any]:
        """The record at a place."""
        record = _record(self._bytes(*place))
        if record is None:
            text = "a finished record cannot be read any more: something else wrote into its file"
            raise OSError(errno.EIO, text, str(self._path))
        return record

    def _bytes(self, start: int, length: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, length, start)
        with self._lock:  # Windows
            os.lseek(self._descriptor, start, os.SEEK_SET)
            return os.read(self._descriptor, length)

    def places(self) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
        """Every whole record with its place, the oldest first; torn lines are passed over."""
        for start, line in self._lines():
            record = _record(line)
            if record is not None:
                yield (start, len(line)), record

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        start, kept = 0, b""
        with open(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            while chunk := file.read(_CHUNK):
                *whole, kept = (kept + chunk).split(b"\n")
                for line in whole:
                    yield start, line
                    start += len(line) + 1
        yield start, kept


def _record(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None where the line is torn or not ours."""
    check, _, text = line.partition(b" ")
    if check != b"%08x" % zlib.crc32(text):
        return None
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


@contextmanager
def written_whole(path: Path) -> Iterator[Any]:
    """A file to write bytes into, which takes its place when all of it is on the disk, and not before."""
    draft = path.with_name(f".{path.name}.part")
    with naming(path, instead_of=draft):
        try:
            with open(draft, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft)
            raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a renamed file last; systems that cannot do it are left alone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
