"""The file that `check` writes for `progress`, also under stress, and the map that is drawn from it."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_grading import well_formed
from test_solution import learner  # noqa: F401

from course_lib.grading import check, journal, load, progress

ROOT = Path(__file__).resolve().parent.parent
WRITER = """
import sys
from course_lib.grading import journal
for number in range(int(sys.argv[2])):
    assert not journal.note(sys.argv[1], f"wrong {number}")
"""


def right(x):
    return 2 * x


def wrong(x):
    return 3 * x


def states(entries: list[journal.Entry]) -> list[tuple[str, str]]:
    return [(entry.exercise, entry.state) for entry in entries]


# --- the file ---------------------------------------------------------------------------------------------------


def test_every_attempt_is_a_line(learner):  # noqa: F811
    for answer in (wrong, lambda x: 1 / 0, right, None, 3):
        check("98.1", answer)
    assert states(journal.entries()) == [("98.1", "wrong"), ("98.1", "error"), ("98.1", "passed")]
    lines = (learner / "progress.jsonl").read_text().strip().split("\n")
    assert [set(json.loads(line)) for line in lines] == [{"exercise", "state", "time"}] * 3
    assert max(map(len, lines)) < 120


def test_two_notebooks_at_once_lose_nothing(learner):  # noqa: F811
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, one, "200"], env=environment) for one in ("1.1", "2.1")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    found = states(journal.entries())
    for one in ("1.1", "2.1"):
        assert [state for exercise, state in found if exercise == one] == [f"wrong {number}" for number in range(200)]
    assert len(found) == 400


@pytest.mark.parametrize("torn", [b'\n{"exercise": "98.1", "sta', b"\n{", b"\n\xff\xfe", b"", b"\n"])
def test_a_kill_in_mid_write_costs_the_last_line_only(learner, torn):  # noqa: F811
    check("98.1", wrong)
    with (learner / "progress.jsonl").open("ab") as file:
        file.write(torn)
    assert states(journal.entries()) == [("98.1", "wrong")]
    check("98.1", right)
    assert states(journal.entries()) == [("98.1", "wrong"), ("98.1", "passed")]


@pytest.mark.parametrize("line", ["[]", "3", "null", "{}", '{"exercise": 1, "state": 2, "time": 3}', "text", "\r"])
def test_lines_that_are_not_ours_are_passed_over(learner, line):  # noqa: F811
    (learner / "progress.jsonl").write_text(f"{line}\n")
    check("98.1", right)
    assert states(journal.entries()) == [("98.1", "passed")]
    assert "1 of 1 exercises done" in repr(progress())


def fail_to_write(monkeypatch, error):
    def write(descriptor, line):
        raise error

    monkeypatch.setattr(journal.os, "write", write)


@pytest.mark.parametrize("why", ["read-only", "full", "a file where a folder should be", "no home"])
def test_a_disk_that_cannot_be_written_does_not_break_a_check(learner, monkeypatch, why):  # noqa: F811
    if why == "read-only":
        fail_to_write(monkeypatch, OSError(errno.EROFS, os.strerror(errno.EROFS)))
    elif why == "full":
        monkeypatch.setattr(journal.os, "write", lambda descriptor, line: len(line) - 1)
    elif why == "no home":
        monkeypatch.setattr(Path, "expanduser", lambda path: (_ for _ in ()).throw(RuntimeError("no home folder")))
    else:
        (learner / "file").touch()
        monkeypatch.setenv("COURSE_PROGRESS", str(learner / "file" / "progress.jsonl"))
    report = check("98.1", wrong)
    assert report.state == "wrong"
    assert [label for label, _ in report.points][-2:] == ["Progress", "Next"]
    told = dict(report.points)["Progress"]
    assert told.startswith("This check could not be saved for `progress()`: ") and "\n" not in told
    assert "1 tried" in repr(progress())  # this session remembers


def test_the_file_lies_where_it_is_asked_for_else_in_the_data_folder(learner, monkeypatch):  # noqa: F811
    assert journal.journal_path() == learner / "progress.jsonl"
    monkeypatch.delenv("COURSE_PROGRESS")
    monkeypatch.setenv("XDG_DATA_HOME", str(learner / "data"))
    assert journal.journal_path() == learner / "data" / "induction-heads" / "progress.jsonl"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(learner))
    assert journal.journal_path() == learner / ".local" / "share" / "induction-heads" / "progress.jsonl"
    check("98.1", right)
    assert journal.journal_path().stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("name", "value"), [("COURSE_STRICT", "passed"), ("COURSE_STATIC", "1")])
def test_tests_and_the_built_book_neither_write_nor_read_it(learner, monkeypatch, name, value):  # noqa: F811
    check("98.1", wrong)
    before = (learner / "progress.jsonl").read_bytes()
    monkeypatch.setenv(name, value)
    check("98.1", right)
    assert (learner / "progress.jsonl").read_bytes() == before
    assert "0 of 1 exercises done, 0 tried, 1 open" in repr(progress())


# --- the map ----------------------------------------------------------------------------------------------------


@pytest.fixture
def course(learner, monkeypatch):  # noqa: F811
    """The real sources, and a progress file with 3.1 done, 3.2 tried."""
    monkeypatch.undo()
    monkeypatch.setenv("COURSE_PROGRESS", str(learner / "progress.jsonl"))
    monkeypatch.delenv("COURSE_STATIC", raising=False)
    for exercise, state in (("3.2", "error"), ("3.1", "passed"), ("3.1", "wrong"), ("77.7", "passed")):
        journal.note(exercise, state)
    return progress()


def test_the_map_shows_what_is_done_tried_and_open(course):
    assert {course.states[one] for one in course.states} == {"done", "tried", "open"}
    assert (course.states["3.1"], course.states["3.2"], course.states["3.3"]) == ("done", "tried", "open")
    assert list(course.states) == sorted(load.index(load.source_folder()), key=lambda one: [*map(int, one.split("."))])
    text = repr(course)
    assert re.search(r"^ +3  The previous-token head +✓ 3\.1  ◐ 3\.2  ○ 3\.3", text, re.M)
    assert f"1 of {len(course.states)} exercises done, 1 tried, {len(course.states) - 2} open; about " in text
    assert "✓ done   ◐ tried   ○ open" in text


def test_the_minutes_left_are_those_of_what_is_not_done(course):
    tasks = [task for path in load.source_folder().glob("*.md") for task in load.load_source(path).values()]
    assert course.minutes_left == sum(task.minutes for task in tasks) - 10


def test_the_next_exercise_is_the_first_that_is_not_done(course):
    first = next(one for one in course.states if one != "3.1")
    assert re.search(
        rf"^Next: {re.escape(first)} .*, about \d+ minutes, in exercises/\d\d_\w+\.ipynb$", repr(course), re.M
    )


def test_html_says_what_the_text_says_in_sign_colour_and_words(course):
    html = course._repr_html_()
    tree = well_formed(html)
    words = "".join(tree.itertext())
    assert "The previous-token head" in words and "✓ 3.1" in words and "◐ 3.2" in words and "○ 3.3" in words
    labels = {element.get("aria-label"): element.get("style") for element in tree.iter("span") if element.get("role")}
    assert "background:#0072b2" in labels["3.1 Previous-token score, 10 minutes: done"]
    assert len(labels) == len(course.states)
    assert "color:inherit" in html and "<script" not in html and "http" not in html


def test_when_all_is_done_it_says_so(learner):  # noqa: F811
    check("98.1", right)
    assert "1 of 1 exercises done, 0 tried, 0 open; about 0 minutes left" in repr(progress())
    assert "nothing is left" in progress()._repr_html_()


def test_without_exercises_there_is_an_empty_map(learner):  # noqa: F811
    (learner / "98_toys.md").unlink()
    assert "0 of 0 exercises done" in repr(progress())


def test_neither_the_documentation_nor_the_code_promises_grades():
    words = " ".join(progress.__doc__.split())
    assert "Nothing is sent anywhere, and no grade depends on it." in words
