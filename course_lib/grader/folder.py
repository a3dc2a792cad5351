"""Finds the submissions in a folder, whatever its layout: files with any names, nbgrader's folders, zips, a mixture.

Links are not followed, and nothing but plain files is opened. What is clearly no submission is set aside by name.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from course_lib.grader import zips
from course_lib.grader.layouts import named, who
from course_lib.grader.reading import MAX_BYTES, InvalidNotebook

_OTHERS = frozenset(
    f".{suffix}"
    for suffix in (
        *("csv", "tsv", "xls", "xlsx", "ods", "doc", "docx", "rtf", "odt", "ppt", "pptx", "pdf", "md", "txt", "rst"),
        *("png", "jpg", "jpeg", "gif", "svg", "webp", "bmp", "mp3", "mp4", "mov", "html", "htm", "xml", "css", "js"),
        *("yml", "yaml", "toml", "cfg", "ini", "log", "lock", "json", "jsonl", "parquet", "db", "pyc", "pkl"),
        *("pt", "pth", "npz", "npy", "safetensors"),
    )
)
_HIDDEN = {"__MACOSX", ".ipynb_checkpoints", "__pycache__", ".git", ".DS_Store", "Thumbs.db", "desktop.ini"}
_COMPANIONS = ("._", "~$")  # what macOS and Office put before the name of a file to name one that goes with it
_ANSWERS = (".ipynb", ".py", ".zip")  # endings that make a row also of a file whose name begins with a dot
_LIKE_A_NOTEBOOK = re.compile(rb'^[\s\xef\xbb\xbf]*\{.*"(cells|nbformat|worksheets|metadata)"', re.DOTALL)
_PEEK = 4096
MAX_DEPTH = 50
_OF_NBGRADER = {"submitted", "source", "release", "autograded", "feedback", "gradebook.db", "nbgrader_config.py"}
_NOT_BLOCKING = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class Submission:
    """One file to grade.

    Attributes:
        name: its path below the folder, unique and always the same; a member of a zip is "a.zip!b.ipynb".
        student: who handed it in, as far as the layout tells.
        assignment: what for, as far as the layout tells.
        read: gives its bytes, or raises `InvalidNotebook` with the reason.
    """

    name: str
    student: str
    assignment: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Found:
    """The submissions of a folder, sorted by name, and the names of the files that are none."""

    submissions: tuple[Submission, ...]
    ignored: tuple[str, ...]


def find_submissions(path: Path) -> list[Submission]:
    """The submissions in a folder or a zip, or the one that a file is, sorted by name.

    Raises:
        ValueError: there is nothing at this path.
    """
    return list(find_all(path).submissions)


def find_all(path: Path, leave_out: Path | None = None) -> Found:
    """As `find_submissions`, with the names of the files that are no submissions.

    Args:
        path: a folder, a zip, or a single file.
        leave_out: a folder that is not looked into: where the results go.

    Raises:
        ValueError: there is nothing at this path, or it lies in `leave_out`.
    """
    if not path.exists():
        raise ValueError(f"the folder of submissions must exist, got {path}")
    submissions: list[Submission] = []
    ignored: list[str] = []
    leave_out = leave_out.resolve() if leave_out else None
    if _is_nbgrader_course(path, leave_out):
        path = path / "submitted"
    if path.is_dir():
        _check_outside(path.resolve(), leave_out)
        below = PurePosixPath("submitted") if path.name == "submitted" else PurePosixPath()
        found = _walk(path, "", below, leave_out)
    elif path.is_file() and zipfile.is_zipfile(path):  # a pipe would have to be waited for
        found = _zip(path.resolve(), path.name, (PurePosixPath(path.stem if named(path.stem) else ""),))
    else:
        found = _file(path.resolve(), path.name, PurePosixPath(path.name))
    for item in found:
        (ignored if isinstance(item, str) else submissions).append(item)
    return Found(tuple(_unique(submissions)), tuple(sorted(ignored)))


def _check_outside(path: Path, results: Path | None) -> None:
    """Refuse results that would lie among the submissions, where the next run would take them for some."""
    if results in (path, *path.parents):
        raise ValueError(f"--out must not be the folder of the submissions, or one that holds it; got {results}")


def _is_nbgrader_course(path: Path, leave_out: Path | None) -> bool:
    """True for a folder with a folder "submitted" and no submission but those in nbgrader's own folders."""
    submitted = path / "submitted"
    if not submitted.is_dir() or submitted.is_symlink():
        return False
    others = _walk(path, "", PurePosixPath(), leave_out, skip=_is_of_nbgrader)
    return not any(isinstance(item, Submission) for item in others)


def _is_of_nbgrader(entry: os.DirEntry[str]) -> bool:
    """True for what nbgrader keeps beside the submissions, and for the results of an earlier grading."""
    return entry.name in _OF_NBGRADER or (Path(entry.path) / "journal.jsonl").is_file()


def _unique(submissions: Iterable[Submission]) -> Iterator[Submission]:
    """Sorted by name; a name that stands twice gets a number."""
    taken: set[str] = set()
    for submission in sorted(submissions, key=lambda one: one.name):
        name, number = submission.name, 2
        while name in taken:
            name, number = f"{submission.name} ({number})", number + 1
        taken.add(name)
        yield replace(submission, name=name)


def _walk(
    folder: Path,
    name: str,
    layout: PurePosixPath,
    leave_out: Path | None,
    skip: Callable[[os.DirEntry[str]], bool] = lambda _entry: False,
) -> Iterator[Submission | str]:
    """All that lies in a folder but what is to be skipped at its top; `layout` is its path as the layouts see it."""
    if len(layout.parts) > MAX_DEPTH:
        yield _refused(name, layout, f"The folder lies more than {MAX_DEPTH} folders deep.")
        return
    try:
        with os.scandir(folder) as entries:
            entries = sorted((entry for entry in entries if not skip(entry)), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        yield _refused(f"{name or folder.name}", layout, f"The folder cannot be read: {error.strerror}.")
        return
    for entry in entries:
        own = f"{name}/{_text(entry.name)}".lstrip("/") if name else _text(entry.name)
        where, path = layout / _text(entry.name), Path(entry.path)
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name in _HIDDEN or (is_folder and _is_hidden(entry.name)):
            yield own
        elif not is_folder:
            yield from _file(path, own, where)
        elif path.resolve() != leave_out:
            if entry.name.lower().endswith((".ipynb", ".zip")):
                yield _refused(own, where, "This is a folder, not a file.")
            yield from _walk(path, own, where, leave_out)


def _text(name: str) -> str:
    """A file's name as text that every file format can hold, also where its bytes are no text."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _file(path: Path, name: str, where: PurePosixPath) -> Iterator[Submission | str]:
    try:
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) and _is_aside(where.name):
            yield name
            return
        if not stat.S_ISREG(mode):
            kind = "a link, and links are not followed" if stat.S_ISLNK(mode) else "not a plain file"
            yield _refused(name, where, f"This is {kind}.")
            return
        start = _read(path, _PEEK)
    except OSError as error:
        yield _refused(name, where, f"The file cannot be read: {error.strerror}.")
        return
    if where.name.startswith(_COMPANIONS):
        yield name
    elif where.suffix.lower() == ".zip" or (where.suffix.lower() != ".ipynb" and start.startswith(b"PK\x03\x04")):
        yield from _zip(path, name, (where.with_suffix(""),))
    elif _is_none(where, start):
        yield name
    else:
        yield _submission(name, where, partial(_read_file, path))


def _is_none(where: PurePosixPath, start: bytes) -> bool:
    """True for a file that is no submission, by its name; not if a notebook stands in it all the same."""
    if any(map(_is_hidden, where.parts[:-1])) or where.name in _HIDDEN or where.name.startswith(_COMPANIONS):
        return True
    none = _is_aside(where.name) or where.suffix.lower() in _OTHERS
    return none and not _LIKE_A_NOTEBOOK.match(start)


def _is_hidden(folder: str) -> bool:
    """True for the name of a folder in which programs keep their own things."""
    return folder in _HIDDEN or folder.startswith(".")


def _is_aside(name: str) -> bool:
    """True for the name of a file that a program keeps beside others, such as .gitignore."""
    return name.startswith(_COMPANIONS) or (name.startswith(".") and not name.lower().endswith(_ANSWERS))


def _read_file(path: Path) -> bytes:
    try:
        return _read(path, MAX_BYTES + 1)
    except OSError as error:
        raise InvalidNotebook(f"The file cannot be read: {error.strerror}.") from None


def _read(path: Path, most: int) -> bytes:
    """The first bytes of a plain file; a link or a pipe that has taken its place is not opened."""
    descriptor = os.open(path, os.O_RDONLY | _NOT_BLOCKING)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is not a plain file")
        return file.read(most)


def _refused(name: str, where: PurePosixPath | Sequence[PurePosixPath], why: str) -> Submission:
    """A submission that says why it cannot be read."""
    return _submission(name, where, partial(_refuse, why))


def _refuse(why: str) -> bytes:
    raise InvalidNotebook(why)


def _zip(
    path: Path, name: str, where: tuple[PurePosixPath, ...], outer: int | None = None
) -> Iterator[Submission | str]:
    """The members of a zip on disk, or of the zip that is its member number `outer`; `where` as in `who`."""
    found: list[Submission | str] = []
    try:
        archive = zips.open_zip(path) if outer is None else zips.inner_zip(path, outer)
        size = path.stat().st_size if outer is None else zips.MAX_INNER_ZIP
        for member in zips.members(archive, size, inner=outer is not None):
            found += _member(path, name, where, member, outer)
    except zips.BROKEN as error:
        why = str(error) if isinstance(error, InvalidNotebook) else f"The zip is broken ({type(error).__name__})."
        found = [_refused(name, where, why)]
    if all(isinstance(item, str) for item in found):
        found.append(_refused(name, where, "The zip holds no notebook."))
    yield from found


def _member(
    path: Path, name: str, where: tuple[PurePosixPath, ...], member: zips.Member, outer: int | None
) -> Iterator[Submission | str]:
    own = f"{name}!{member.name}"
    place = PurePosixPath(member.name)
    read = zips.reader(path, member, outer)
    if _is_none(place, b"") and (member.problem or _is_none(place, _start(read))):
        yield own
    elif member.problem:
        yield _refused(own, (*where, place), member.problem)
    elif place.suffix.lower() == ".zip" and outer is None:
        yield from _zip(path, own, (*where, place.with_suffix("")), member.place)
    else:
        yield _submission(own, (*where, place), read)


def _start(read: partial[bytes]) -> bytes:
    try:
        return read(most=_PEEK)
    except InvalidNotebook:
        return b""


def _submission(name: str, where: PurePosixPath | Sequence[PurePosixPath], read: Callable[[], bytes]) -> Submission:
    student, assignment = who(*([where] if isinstance(where, PurePosixPath) else where))
    return Submission(name, student, assignment, read)
