"""Keeps the first lines of what a learner's function prints, so that many calls do not flood the notebook."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

MAX_LINES = 40  # of one check: all its cases together
MAX_CHARACTERS = 4000


class FirstLines:
    """Stands in for a stream and passes on the first lines; whatever else it is asked, the stream answers."""

    def __init__(self, stream: Any, max_lines: int = MAX_LINES) -> None:
        self._stream = stream
        self._lines_left, self._characters_left = max_lines, MAX_CHARACTERS
        self._lines_cut = self._characters_cut = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Pass on as much of the text as there is room for."""
        shown = "" if self._characters_cut else text[: self._room(text)]  # after a gap lines would run together
        if shown:
            self._stream.write(shown)
        self._lines_left -= shown.count("\n")
        self._characters_left -= len(shown)
        self._lines_cut += text.count("\n", len(shown))
        self._characters_cut += len(text) - len(shown)
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        """Write one text after the other."""
        for text in texts:
            self.write(text)

    def _room(self, text: str) -> int:
        """How many characters of the text may be shown."""
        end = -1
        for _ in range(self._lines_left):
            end = text.find("\n", end + 1)
            if end < 0:
                return self._characters_left
        return min(end + 1, self._characters_left)

    def say_what_is_missing(self) -> None:
        """Write a line on what was left out, if anything was."""
        if self._characters_cut:
            n, unit = (self._lines_cut, "line") if self._lines_cut else (self._characters_cut, "character")
            self._stream.write(f"\n... {n:,} more {unit}{'s' * (n > 1)} of output, not shown.\n")


@contextmanager
def first_lines() -> Iterator[None]:
    """Within it, stdout and stderr show their first lines only; at the end they say how many more came."""
    out, errors = FirstLines(sys.stdout), FirstLines(sys.stderr)
    try:
        with redirect_stdout(out), redirect_stderr(errors):
            yield
    finally:
        out.say_what_is_missing()
        errors.say_what_is_missing()


@contextmanager
def silence() -> Iterator[None]:
    """Within it, stdout and stderr show nothing, and nothing is kept."""
    with redirect_stdout(FirstLines(sys.stdout, 0)), redirect_stderr(FirstLines(sys.stderr, 0)):
        yield
