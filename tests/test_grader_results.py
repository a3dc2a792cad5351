"""The files of results: rows whatever stands in them, no formula in a spreadsheet, XML that every parser takes."""

from __future__ import annotations

import csv
import json
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.grader.results import read_results, write_csv, write_junit
from course_lib.grader.tables import line_of, write_results

NASTY = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    'a,b;"c"',
    "x\0y",
    "\x1b[31m]]>",
]


def entry(id="3.1", state="ok", points=1, message=""):
    more = {"title": "Score", "max_points": 1, "mutant": "", "case": ""}
    return {"id": id, "state": state, "points": points, "message": message, **more}


def row(name="a.ipynb", state="ok", entries=(), **more):
    empty = {
        "student": "",
        "assignment": "",
        "sha256": "",
        "problems": [],
        "skipped": [],
        "similar": [],
        "isolation": [],
    }
    return {"submission": name, "state": state, "score": 1, "max_score": 1, "exercises": list(entries), **empty,
            "seed": 5, "specification": "", **more}  # fmt: skip


def table(rows, tmp_path):
    write_csv(lambda: rows, tmp_path / "a.csv")
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def suites(rows, tmp_path):
    write_junit(lambda: rows, tmp_path / "a.xml")
    return ElementTree.parse(tmp_path / "a.xml").getroot().findall("testsuite")


def test_rows_come_back_as_they_were(tmp_path):
    rows = [row(text, problems=[text], entries=[entry(message=text)]) for text in [*NASTY, "ünï\u2028\u2029\ud7ff😀"]]
    write_results(lambda: rows, tmp_path)
    assert list(read_results(tmp_path / "results.jsonl")) == rows
    assert len((tmp_path / "results.jsonl").read_bytes().splitlines()) == len(rows)
    assert (tmp_path / "results.jsonl").read_bytes() == b"".join(map(line_of, rows))
    assert line_of({"b": 1, "a": 2}) == b'{"a": 2, "b": 1}\n'


def test_a_broken_file_of_results_is_named(tmp_path):
    for text in ('{"submission": "a"}\n{"submis', "[]\n", "x"):
        (tmp_path / "results.jsonl").write_text(text)
        with pytest.raises(ValueError, match=r"line \d of results.jsonl"):
            list(read_results(tmp_path / "results.jsonl"))


def test_control_codes_of_a_file_name_stay_out_of_the_table(tmp_path):
    (found,) = table([row("bell\x07\x1b[31m\x9b.ipynb", problems=["\x07=1+1"])], tmp_path)
    assert (found["submission"], found["problems"]) == ("bell[31m.ipynb", "'=1+1")


@pytest.mark.parametrize("text", NASTY)
def test_no_cell_is_a_formula(text, tmp_path):
    for found in table([row(text, student=text, assignment=text, problems=[text], similar=[text])], tmp_path):
        for cell in found.values():
            assert not cell.lstrip().startswith(("=", "+", "-", "@")) and "\0" not in cell
        assert re.sub("[\x00\x1b]", "", text).strip() in found["student"]


def test_a_column_for_each_exercise_of_any_row(tmp_path):
    rows = [
        row("a", entries=[entry("3.10"), entry("3.2", "wrong", 0)]),
        row("b", entries=[entry("3.1", "grader_error", None)]),
    ]
    header = list(table(rows, tmp_path)[0])
    assert [name for name in header if name.endswith("points")] == ["3.1 points", "3.2 points", "3.10 points"]
    first, second = table(rows, tmp_path)
    assert (first["3.2 points"], first["3.2 state"], first["3.1 points"]) == ("0", "wrong", "")
    assert (second["3.1 points"], second["3.1 state"]) == ("", "grader_error")  # never a zero


def test_junit_counts_what_failed(tmp_path):
    states = ["ok", "wrong", "timeout", "error", "oom", "crashed", "unattempted", "grader_error"]
    (suite,) = suites([row(entries=[entry(str(n), state, 0, "why") for n, state in enumerate(states)])], tmp_path)
    assert suite.attrib == {"name": "a.ipynb", "tests": "8", "failures": "5", "errors": "1", "skipped": "1"}
    assert [case[0].tag if len(case) else "ok" for case in suite] == ["ok", *["failure"] * 5, "skipped", "error"]
    assert suite[1][0].text == "why"


def test_junit_shows_a_file_that_is_no_notebook(tmp_path):
    (suite,) = suites([row(state="invalid_notebook", problems=["The file is empty."])], tmp_path)
    assert suite.attrib["errors"] == "1"
    assert suite[0][0].text == "The file is empty."


@settings(max_examples=60, deadline=None)
@given(text=st.text())
def test_any_text_is_valid_everywhere(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("results")
    text = text.encode("utf-8", "replace").decode()
    rows = [row(text, entries=[entry(state="wrong", message=text)], problems=[text])]
    (suite,) = suites(rows, folder)
    kept = "".join(
        letter for letter in text if letter in "\t\n\r" or (ord(letter) >= 32 and letter not in "\ufffe\uffff")
    )
    assert suite[0][0].text in (kept or None, kept.replace("\r\n", "\n").replace("\r", "\n") or None)
    assert len(table(rows, folder)) == 1
    write_results(lambda: rows, folder)
    assert list(read_results(folder / "results.jsonl")) == rows
    json.dumps(rows)
