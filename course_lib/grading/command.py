"""`python -m course_lib check 05`: the checks of a chapter on a plain Python file, once or after every save."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from course_lib.grading import load
from course_lib.grading.examine import NOT_ATTEMPTED, PASSED, STATES
from course_lib.grading.notebook import checked
from course_lib.grading.pages import Listed, Page, read_pages
from course_lib.grading.script import ScriptFailed, run_script, scripts_of, write_script

POLL = 0.5  # seconds between two looks at the file


class WrongUsage(Exception):
    """A command that cannot be followed; the message says why and what to do."""


def file_of(chapter: int, folder: Path) -> tuple[Page, Path]:
    """The exercises of a chapter and the learner's file, which is written now if there is none.

    Raises:
        WrongUsage: no such chapter, several files, or a folder that cannot be written.
    """
    pages = {page.chapter: page for page in read_pages(load.source_folder())}
    if chapter not in pages:
        known = ", ".join(f"{number:02}" for number in pages)
        raise WrongUsage(f"Chapter {chapter} has no exercises. These chapters have some: {known}.")
    found = scripts_of(chapter, folder)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise WrongUsage(f"More than one file fits chapter {chapter}: {names}. Keep one of them in this folder.")
    return pages[chapter], found[0] if found else _write(pages[chapter], folder)


def _write(page: Page, folder: Path) -> Path:
    try:
        path = write_script(page, folder)
    except OSError as error:
        raise WrongUsage(f"No file can be written in {folder}: {error.strerror}. Go to another folder.") from None
    _say(
        f"New: {path.name}, with {len(page.exercises)} exercises of chapter {page.chapter}.",
        "Open it in an editor, put an answer in place of the first `raise NotImplementedError(...)` and save.",
        f"Then run `python -m course_lib check {page.chapter:02}` again, or leave it running with --watch.",
        "",
    )
    return path


def check_file(page: Page, path: Path) -> bool:
    """Run a learner's file, print the report of each exercise and a summary; True when all have passed."""
    try:
        namespace = run_script(path)
    except ScriptFailed as failed:
        points = (*failed.points, ("Next", "Mend this first: nothing was checked. Save, and check again."))
        _say(f"! {path.name}: the file could not be run", *(f"{label:<7}  {text}" for label, text in points if text))
        return False
    states = []
    for task in page.exercises:
        state, text = _report(task, namespace, path)
        states.append(state)
        _say(text, "")
    _say(_summary(page, states))
    return set(states) == {PASSED}


def _report(task: Listed, namespace: dict[str, Any], path: Path) -> tuple[str, str]:
    """How an exercise stands, and its report as text."""
    name = load.find(task.id).reference.__name__
    if name in namespace:
        report = checked(task.id, namespace[name])
        return report.state, repr(report)
    headline = f"○ Exercise {task.id}, {task.title}: {NOT_ATTEMPTED}"
    return NOT_ATTEMPTED, f"{headline}\nProblem  {path.name} has no function `{name}`. Was it renamed or deleted?"


def _summary(page: Page, states: list[str]) -> str:
    counted = Counter(states)
    others = ", ".join(f"{counted[state]} {state}" for state in STATES if counted[state] and state != PASSED)
    passed = f"Chapter {page.chapter}: {counted[PASSED]} of {len(states)} passed"
    if not others:
        return f"{passed}. All done."
    first = next(task for task, state in zip(page.exercises, states, strict=True) if state != PASSED)
    return f"{passed}, {others}. Next: {first.id} {first.title}."


def watch(page: Page, path: Path) -> None:
    """Check the file now and after every save, until Ctrl-C, which ends it quietly."""
    try:
        for _ in _saves(path):
            _say(f"===== {datetime.now():%H:%M:%S}  {path.name} " + "=" * 40, "")
            check_file(page, path)
            _say("", "Waiting for the next save; Ctrl-C ends.")
    except KeyboardInterrupt:
        _say("", "Stopped.")


def _saves(path: Path) -> Iterator[None]:
    """Yields once for the file as it is, and again whenever it was saved."""
    seen = None
    while True:
        stamp = _stamp(path)
        if stamp != seen and stamp is not None:  # None: some editors take the file away for a moment
            seen = stamp
            yield
        time.sleep(POLL)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)
