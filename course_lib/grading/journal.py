"""Notes which checks were run, in one file on this computer. Never used for grades; nothing is sent anywhere.

The file holds one line of JSON for each check. A line is written by a single call that appends, so two notebooks can
write at once. A line begins with its line break: after a kill in the middle of a write the next line is whole again,
and the torn one is passed over.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from course_lib.runtime import static

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class Entry:
    """One check: which exercise, how it ended, and when (UTC)."""

    exercise: str
    state: str
    time: str


_unsaved: list[Entry] = []


def journal_path() -> Path:
    """The file: `$COURSE_PROGRESS`, or `induction-heads/progress.jsonl` in the user's data folder."""
    chosen = os.environ.get("COURSE_PROGRESS")
    folder = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share")
    return Path(chosen or folder / "induction-heads" / "progress.jsonl").expanduser()


def is_kept() -> bool:
    """False where no learner is at work: in the tests of the notebooks (COURSE_STRICT) and in the built book."""
    return not os.environ.get("COURSE_STRICT") and not static()


def note(exercise_id: str, state: str) -> str:
    """Add a check to the file. Returns an empty text, or why it could not be saved; then this session remembers it."""
    if not is_kept():
        return ""
    entry = Entry(exercise_id, state, datetime.now(UTC).isoformat(timespec="seconds"))
    try:
        _append(journal_path(), ("\n" + json.dumps(asdict(entry))).encode())
    except (OSError, RuntimeError, ValueError) as error:  # no home folder, or a name that no file can have
        _unsaved.append(entry)
        return getattr(error, "strerror", None) or str(error)
    return ""


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, _APPEND, 0o600)
    try:
        if os.write(descriptor, line) < len(line):
            raise OSError("the disk is full")
    finally:
        os.close(descriptor)


def entries() -> list[Entry]:
    """All checks that are noted, the oldest first; lines that are torn or not ours are passed over."""
    if not is_kept():
        return []
    try:
        lines = journal_path().read_bytes().split(b"\n")
    except (OSError, RuntimeError, ValueError):
        lines = []
    return [entry for line in lines if (entry := _entry(line))] + _unsaved


def _entry(line: bytes) -> Entry | None:
    try:
        found = Entry(**json.loads(line))
    except (ValueError, TypeError):
        return None
    return found if all(isinstance(value, str) for value in asdict(found).values()) else None


def was_attempted(exercise_id: str) -> bool:
    """True when a check of this exercise is noted."""
    return any(entry.exercise == exercise_id for entry in entries())
