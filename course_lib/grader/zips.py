"""Members of zip files, read into memory one at a time and never unpacked to disk; a zip in a zip, one level deep."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from course_lib.grader.reading import MAX_BYTES, InvalidNotebook

MAX_MEMBERS, MAX_INNER_MEMBERS = 100_000, 1_000
MAX_INNER_ZIP = 64 << 20  # bytes of a zip within a zip
MAX_INNER_TOTAL = 256 << 20  # bytes that a zip within a zip may unpack to
MAX_RATIO, RATIO_FROM = 200, 1 << 20  # a member of more than 1 MiB may be 200 times its packed size
_CHUNK = 1 << 16
_ENCRYPTED = 1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError, RuntimeError)


@dataclass(frozen=True)
class Member:
    """A file in a zip: its cleaned name, and its place in the list of the zip's files."""

    name: str
    place: int
    problem: str = ""


def members(archive: zipfile.ZipFile, size: int, inner: bool) -> list[Member]:
    """The files of a zip, with what speaks against reading them.

    Args:
        archive: the open zip.
        size: bytes of the zip itself.
        inner: True for a zip that lies in another one: somebody's submission, which may do less.

    Raises:
        InvalidNotebook: a zip that is made to cost time or memory.
    """
    infos = archive.infolist()
    most = MAX_INNER_MEMBERS if inner else MAX_MEMBERS
    if len(infos) > most:
        raise InvalidNotebook(f"The zip holds more than {most} files.")
    if sum(info.compress_size for info in infos) > size:
        raise InvalidNotebook("The zip's files overlap: it is broken, or a zip bomb.")
    if inner and sum(info.file_size for info in infos) > MAX_INNER_TOTAL:
        raise InvalidNotebook(f"The zip unpacks to more than {MAX_INNER_TOTAL >> 20} MiB.")
    return [
        Member(clean(info.filename), place, _problem(info)) for place, info in enumerate(infos) if not info.is_dir()
    ]


def clean(name: str) -> str:
    """A member's name as a relative path that stays below its zip, with plain slashes."""
    parts = name.replace("\\", "/").split("/")
    kept = [part for part in parts if part not in ("", ".", "..") and not part.endswith(":")]
    return "/".join(kept).encode("utf-8", "replace").decode() or "(no name)"


def _problem(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & _ENCRYPTED:
        return "The file is encrypted in its zip."
    if info.compress_type not in _METHODS:
        return "The file is packed in a way that is not read here; pack it with plain zip."
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "The file is a link or a device in its zip, not a file."
    if info.file_size > RATIO_FROM and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return f"The file unpacks to more than {MAX_RATIO} times its size: a zip bomb."
    return ""


def read_member(path: Path, place: int) -> bytes:
    """The bytes of a member of a zip on disk.

    Raises:
        InvalidNotebook: it cannot be read.
    """
    try:
        stamp = path.stat()
        archive = _open(path, stamp.st_mtime_ns, stamp.st_size)
        return _read(archive, archive.infolist()[place], MAX_BYTES + 1)
    except BROKEN as error:
        raise InvalidNotebook(f"The file cannot be read from its zip: {_words(error)}.") from None


def read_inner_member(path: Path, outer: int, place: int) -> bytes:
    """The bytes of a member of a zip that is itself a member.

    Raises:
        InvalidNotebook: it cannot be read.
    """
    try:
        archive = inner_zip(path, outer)
        return _read(archive, archive.infolist()[place], MAX_BYTES + 1)
    except BROKEN as error:
        raise InvalidNotebook(f"The file cannot be read from its zip: {_words(error)}.") from None


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip on disk, kept open for the next call.

    Raises:
        OSError, zipfile.BadZipFile: it is not there, or no zip.
    """
    stamp = path.stat()
    return _open(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=8)  # reading the list of a class of thousands takes longer than reading a notebook
def _open(path: Path, _changed: int, _size: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@contextmanager
def closing_zips() -> Iterator[None]:
    """Let go of the zips that `open_zip` keeps open, at the end."""
    try:
        yield
    finally:
        _open.cache_clear()


def inner_zip(path: Path, outer: int) -> zipfile.ZipFile:
    """A zip that is a member of a zip on disk.

    Raises:
        InvalidNotebook: it is too large.
    """
    archive = open_zip(path)
    data = _read(archive, archive.infolist()[outer], MAX_INNER_ZIP + 1)
    if len(data) > MAX_INNER_ZIP:
        raise InvalidNotebook(f"The zip in the zip is larger than {MAX_INNER_ZIP >> 20} MiB.")
    return zipfile.ZipFile(io.BytesIO(data))


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    with archive.open(info) as file:
        return b"".join(_chunks(file, most))


def _chunks(file: zipfile.ZipExtFile, most: int) -> Iterator[bytes]:
    """What a stream gives, up to `most` bytes, whatever its header promises."""
    while most > 0 and (chunk := file.read(min(_CHUNK, most))):
        most -= len(chunk)
        yield chunk


def _words(error: Exception) -> str:
    return str(error).rstrip(".") if isinstance(error, InvalidNotebook) else type(error).__name__


def reader(path: Path, member: Member, outer: int | None = None) -> partial[bytes]:
    """A call that reads a member; it can be sent to another process."""
    return (
        partial(read_member, path, member.place)
        if outer is None
        else partial(read_inner_member, path, outer, member.place)
    )
