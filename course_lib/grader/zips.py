"""Members of zip files, read into memory one at a time and never unpacked to disk; a zip in a zip, one level deep."""

from __future__ import annotations

import io
import stat
import struct
import threading
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path

from course_lib.grader.reading import MAX_BYTES, InvalidNotebook

MAX_MEMBERS, MAX_INNER_MEMBERS = 100_000, 1_000
MAX_NAME = 1_000  # letters of a path in a zip; thousands of long ones take minutes
MAX_INNER_ZIP = 64 << 20  # bytes of a zip within a zip
MAX_INNER_TOTAL = 256 << 20  # bytes that a zip within a zip may unpack to
MAX_EXCESS, PLAIN_RATIO = 256 << 20, 4  # zips in one zip may unpack to 4 times their packed size, and 256 MiB more
MAX_DIRECTORY = 64 << 20  # bytes of a zip's list of its files
MAX_RATIO, RATIO_FROM = 200, 1 << 20  # a member of more than 1 MiB may be 200 times its packed size
_CHUNK = 1 << 16
_ENCRYPTED = 1
_LISTED, _LISTED_SIZE = b"PK\x01\x02", 46  # how a file's entry in the list begins, and its bytes without texts
_TOO_MUCH = (
    f"The zips in this zip unpack to {PLAIN_RATIO} times their size and {MAX_EXCESS >> 20} MiB more: a zip bomb."
)
_unpacking = threading.Lock()  # so that no two threads unpack the same zip
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
        raise InvalidNotebook(_too_many(most))
    if sum(info.compress_size for info in infos) > size:
        raise InvalidNotebook("The zip's files overlap: it is broken, or a zip bomb.")
    if inner and sum(info.file_size for info in infos) > MAX_INNER_TOTAL:
        raise InvalidNotebook(f"The zip unpacks to more than {MAX_INNER_TOTAL >> 20} MiB.")
    refused = set() if inner else _too_much(infos)
    return [
        Member(clean(info.filename[:MAX_NAME]), place, _problem(info) or (_TOO_MUCH if place in refused else ""))
        for place, info in enumerate(infos)
        if not info.is_dir()
    ]


def _too_much(infos: Sequence[zipfile.ZipInfo]) -> set[int]:
    """Places of the zips in a zip that would be too much work, the worst ones; an ordinary zip is never among them."""
    inner = ((place, info) for place, info in enumerate(infos) if info.filename.lower().endswith(".zip"))
    excess = sorted((info.file_size - PLAIN_RATIO * info.compress_size, place) for place, info in inner)
    costly = [(more, place) for more, place in excess if more > 0]
    totals = accumulate(more for more, _ in costly)
    return {place for (_, place), total in zip(costly, totals, strict=True) if total > MAX_EXCESS}


def clean(name: str) -> str:
    """A member's name as a relative path that stays below its zip, with plain slashes."""
    parts = name.replace("\\", "/").split("/")
    kept = [part for part in parts if part not in ("", ".", "..") and not part.endswith(":")]
    return "/".join(kept).encode("utf-8", "replace").decode() or "(no name)"


def _problem(info: zipfile.ZipInfo) -> str:
    if len(info.filename) > MAX_NAME:
        return f"The file's name in its zip is longer than {MAX_NAME:,} letters."
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


def read_member(path: Path, place: int, most: int = MAX_BYTES + 1) -> bytes:
    """The first bytes of a member of a zip on disk.

    Raises:
        InvalidNotebook: it cannot be read.
    """
    try:
        archive = open_zip(path)
        return _read(archive, archive.infolist()[place], most)
    except BROKEN as error:
        raise InvalidNotebook(f"The file cannot be read from its zip: {_words(error)}.") from None


def read_inner_member(path: Path, outer: int, place: int, most: int = MAX_BYTES + 1) -> bytes:
    """The first bytes of a member of a zip that is itself a member.

    Raises:
        InvalidNotebook: it cannot be read.
    """
    try:
        archive = inner_zip(path, outer)
        return _read(archive, archive.infolist()[place], most)
    except BROKEN as error:
        raise InvalidNotebook(f"The file cannot be read from its zip: {_words(error)}.") from None


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip on disk, kept open for the next call.

    Raises:
        OSError, zipfile.BadZipFile: it is not there, or no zip.
        InvalidNotebook: it lists too many files.
    """
    stamp = path.stat()
    return _open(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=8)  # reading the list of a class of thousands takes longer than reading a notebook
def _open(path: Path, _changed: int, _size: int) -> zipfile.ZipFile:
    with ExitStack() as stack:
        archive = _parse(stack.enter_context(path.open("rb")), MAX_MEMBERS)
        stack.pop_all()  # it stays open with the zip
    return archive


def _parse(file: io.BufferedIOBase, most: int) -> zipfile.ZipFile:
    """A zip out of an open file, which is closed with it; a list of more than `most` files is not parsed."""
    archive = zipfile.ZipFile(watched := _Watched(file, most))
    watched.most = None
    weakref.finalize(archive, file.close)
    return archive


class _Watched:
    """An open file that `zipfile` reads the list of a zip's files from, counted before it is parsed.

    What the zip itself says on their number is the word of whoever made it, and `zipfile` goes by the list.
    """

    def __init__(self, file: io.BufferedIOBase, most: int | None) -> None:
        self._file, self.most = file, most
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """As a file's, but it refuses a list with too many files as long as `most` is set."""
        if self.most is not None and size > MAX_DIRECTORY:
            raise InvalidNotebook(f"The zip's list of files is larger than {MAX_DIRECTORY >> 20} MiB.")
        data = self._file.read(size)
        if self.most is not None and _lists_more(data, self.most):
            raise InvalidNotebook(_too_many(self.most))
        return data


def _lists_more(data: bytes, most: int) -> bool:
    """True for a list of more than `most` files, as it stands in a zip."""
    place = count = 0
    while count <= most and data.startswith(_LISTED, place) and place + _LISTED_SIZE <= len(data):
        place += _LISTED_SIZE + sum(struct.unpack_from("<3H", data, place + 28))  # of name, extra field and comment
        count += 1
    return count > most


def _too_many(most: int) -> str:
    return f"The zip holds more than {most} files."


@contextmanager
def closing_zips() -> Iterator[None]:
    """Let go of the zips that `open_zip` and `inner_zip` keep open, at the end."""
    try:
        yield
    finally:
        _open.cache_clear()
        _unpack.cache_clear()


def inner_zip(path: Path, outer: int) -> zipfile.ZipFile:
    """A zip that is a member of a zip on disk, kept unpacked for the next call.

    Raises:
        InvalidNotebook: it is too large, or lists too many files.
    """
    stamp = path.stat()
    with _unpacking:
        return _unpack(path, stamp.st_mtime_ns, stamp.st_size, outer)


@lru_cache(maxsize=2)  # of up to 64 MiB each; members are read one zip after the other
def _unpack(path: Path, changed: int, size: int, outer: int) -> zipfile.ZipFile:
    archive = _open(path, changed, size)
    data = _read(archive, archive.infolist()[outer], MAX_INNER_ZIP + 1)
    if len(data) > MAX_INNER_ZIP:
        raise InvalidNotebook(f"The zip in the zip is larger than {MAX_INNER_ZIP >> 20} MiB.")
    return _parse(io.BytesIO(data), MAX_INNER_MEMBERS)


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
