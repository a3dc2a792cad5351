"""Grade books: who gets which points, what is told and not dropped, and cells that no spreadsheet runs."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from grader_rows import a_class, entry, row

from course_lib.grader import gradescope
from course_lib.grader.export import canvas, feedback, formula_safe, moodle
from course_lib.grader.gradescope import write_autograder
from course_lib.grader.roster import fold, match, read_table

ROOT = Path(__file__).resolve().parent.parent
GRADE_BOOK = """\
\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,hw1 (77),Final Score
    Points Possible,,,,,8,(read only)
"Lovelace, Ada",11,u11,ada,Spring,,90
"Müller, Jörg",12,u12,jorg@school.org,Spring,3,80
"Doe, John",13,u13,jdoe,Spring,,
"Doe, John",14,u14,jdoe2,Spring,,
"=1+1, Evil",15,u15,evil,Spring,,
"Student, Test",16,,test,Spring,,
"""
WORKSHEET = """\
Identifier,Full name,Email address,Status,Grade,Feedback comments
Participant 501,Ada Lovelace,ada@school.org,Submitted,,
Participant 502,Jörg Müller,jorg@school.org,Submitted,,
"""


@pytest.fixture
def grade_book(tmp_path):
    path = tmp_path / "book.csv"
    path.write_text(GRADE_BOOK, encoding="utf-8")
    return path


@pytest.fixture
def worksheet(tmp_path):
    path = tmp_path / "worksheet.csv"
    path.write_text(WORKSHEET, encoding="utf-8")
    return path


def lines_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def points(path, person=0, column=-1):
    return {line[person].strip(): line[column] for line in lines_of(path)[1:]}


# Canvas


def test_canvas_gets_the_points_in_its_own_column_and_the_rest_stays(grade_book, tmp_path):
    rows = [
        row("ada"),
        row("jorg@school.org", [entry("2.1"), entry("3.1", "wrong")]),
        row("u15", [entry("2.1", "wrong")]),
    ]
    done = canvas(rows, tmp_path / "out.csv", grade_book)
    assert (done.written, done.unplaced) == (3, ())
    assert lines_of(done.path)[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "hw1 (77)"]
    assert points(done.path) == {
        "Points Possible": "8",
        "Lovelace, Ada": "8",
        "Müller, Jörg": "1",
        "Doe, John": "",
        "'=1+1, Evil": "0",
        "Student, Test": "",
    }


@pytest.mark.parametrize(
    ("student", "submission", "person"),
    [
        ("Ada Lovelace", "x.ipynb", "11"),
        ("lovelace_ada", "x.ipynb", "11"),
        ("Jorg Muller", "x.ipynb", "12"),
        ("jorg", "x.ipynb", "12"),
        ("13", "x.ipynb", "13"),
        ("doejohn", "doejohn_14_9876_hw1.ipynb", "14"),
        ("doejohn", "class.zip!doejohn_LATE_13_9876_hw1-1.ipynb", "13"),
    ],
)
def test_people_are_found_by_number_then_login_then_name(student, submission, person, grade_book, tmp_path):
    done = canvas([row(student, submission=submission)], tmp_path / "out.csv", grade_book)
    assert [number for number, got in points(done.path, person=1).items() if got and number] == [person]


@pytest.mark.parametrize(
    ("student", "assignment", "submission", "person"),
    [
        ("doejohn", "", "doejohn_13_9002_hw.zip!lovelaceada_11_9001_hw.ipynb", "13"),
        ("doejohn", "", "class.zip!doejohn_13_9002_hw.zip!lovelaceada_11_9001_hw.ipynb", "13"),
        ("doejohn", "", "doejohn_13_9002_.zip!lovelaceada_11_9001_hw.ipynb", "13"),
        ("John D", "", "John D_13_assignsubmission_file_/Ada Lovelace_11_assignsubmission_file_/hw.ipynb", "13"),
        ("John D", "", "John D_13_assignsubmission_file_a_11_assignsubmission_file_.ipynb", "13"),
        ("johnd", "", "johnd_13_9002_zz_11_assignsubmission_file_.ipynb", "13"),
        ("jdoe", "ps1", "jdoe/ps1/lovelaceada_11_9001_hw.ipynb", "13"),
        ("submission_42", "", "submission_42/lovelaceada_11_9001_hw.ipynb", None),
    ],
)
def test_a_number_that_the_learner_wrote_counts_for_nothing(
    student, assignment, submission, person, grade_book, tmp_path
):
    rows = [row("ada"), row(student, submission=submission, assignment=assignment)]
    done = canvas(rows, tmp_path / "out.csv", grade_book)
    placed = {line[1] for line in lines_of(done.path)[2:] if any(line[5:])}
    assert placed == ({"11", person} if person else {"11"}) and points(done.path)["Lovelace, Ada"] in ("", "8")
    assert [sentence for sentence in done.unplaced if "fits the same person" in sentence] == []


def test_what_cannot_be_placed_is_told_with_the_reason(grade_book, tmp_path):
    rows = [
        row("nobody"),
        row("John Doe"),
        row("ada"),
        row("u11", submission="second.ipynb"),
        row("evil", [entry("2.1", "grader_error")], state="grader_error"),
    ]
    done = canvas(rows, tmp_path / "out.csv", grade_book)
    assert done.written == 0 and set(points(done.path).values()) == {"8", ""}
    told = dict(sentence.split(" ", 1) for sentence in done.unplaced)
    assert len(done.unplaced) == len(rows) and "nobody in the roster" in told["nobody/hw1/hw1.ipynb"]
    assert any("John Doe" in sentence and "fits 2 people" in sentence for sentence in done.unplaced)
    assert "another submission fits the same person, Lovelace, Ada" in told["second.ipynb"]
    assert "the grader failed" in told["evil/hw1/hw1.ipynb"]


def test_every_row_is_written_or_told(grade_book, tmp_path):
    rows = [*a_class(40), row("ada"), row("jdoe"), row("jdoe2")]
    done = canvas(rows, tmp_path / "out.csv", grade_book)
    assert done.written == 3 and done.written + len(done.unplaced) == len(rows)


def test_a_new_assignment_a_chosen_column_and_another_total(grade_book, tmp_path):
    both = [row("ada"), row("ada", assignment="hw2", submission="b", max_score=20)]
    done = canvas(both, tmp_path / "out.csv", grade_book)
    assert lines_of(done.path)[0][-2:] == ["hw1 (77)", "hw2"] and lines_of(done.path)[1][-2:] == ["8", "20"]
    only = canvas(both[1:], tmp_path / "out.csv", grade_book, column="hw1 (77)")
    assert points(only.path)["Lovelace, Ada"] == "8" and "has 8 points in Canvas, here up to 20" in only.notes[0]
    with pytest.raises(ValueError, match="--column takes the points of one assignment"):
        canvas(both, tmp_path / "out.csv", grade_book, column="hw1 (77)")
    with pytest.raises(ValueError, match=r"--column must be one of the roster's: Student, .*; got hw9"):
        canvas(both, tmp_path / "out.csv", grade_book, column="hw9")


def test_a_roster_that_is_none_is_refused(tmp_path, worksheet):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.csv").write_text("")
    for name, words in (
        ("binary.csv", "in UTF-8"),
        ("empty.csv", "must have a header"),
        ("absent.csv", "No such file"),
    ):
        with pytest.raises(ValueError, match=words):
            canvas([row()], tmp_path / "out.csv", tmp_path / name)
    with pytest.raises(ValueError, match="exported from Canvas, with Student and ID"):
        canvas([row()], tmp_path / "out.csv", worksheet)


def test_a_roster_with_semicolons_is_read(tmp_path):
    (tmp_path / "book.csv").write_text(GRADE_BOOK.replace(",", ";").replace("; ", ", "), encoding="utf-8")
    assert match([row("ada")], read_table(tmp_path / "book.csv")).missing == ()


# Moodle


def test_moodle_gets_points_and_feedback_for_the_people_of_a_worksheet(worksheet, tmp_path):
    submitted = "Ada Lovelace_501_assignsubmission_file_/hw1.ipynb"
    rows = [row("?", submission=submitted), row("jorg", [entry("3.1", "wrong", message="a <b> & c")]), row("eve")]
    done = moodle(rows, tmp_path / "out.csv", worksheet)
    head, ada, jorg = lines_of(done.path)
    assert head == ["Identifier", "Full name", "Email address", "hw1", "hw1 feedback"]
    assert ada[-2:] == ["8", "8 of 8 points."] and ada[0] == "Participant 501"
    assert jorg[-2:] == ["0", "0 of 2 points. | 3.1 Previous-token pattern: wrong. a &lt;b&gt; &amp; c"]
    assert done.written == 2 and len(done.unplaced) == 1 and "eve" in done.unplaced[0]


@pytest.mark.parametrize(
    ("chosen", "title"), [("username", "Username"), ("email", "Email address"), ("idnumber", "ID number")]
)
def test_moodle_without_a_roster_takes_the_names_of_the_learners(chosen, title, tmp_path):
    rows = [row("a-b"), row("ab"), row("ab", assignment="hw2"), row("", submission="lost.ipynb"), row("c"), row("c")]
    done = moodle(rows, tmp_path / "out.csv", id_column=chosen)
    lines = lines_of(done.path)
    assert lines[0] == [title, "hw1", "hw1 feedback", "hw2", "hw2 feedback"]
    assert [line[:2] + line[3:4] for line in lines[1:]] == [["a-b", "8", ""], ["ab", "8", "8"]]
    assert done.written == 3 and len(done.unplaced) == 3
    assert any("lost.ipynb" in one and "does not say whose" in one for one in done.unplaced)


def test_moodle_refuses_an_unknown_column_and_a_roster_without_people(tmp_path, worksheet):
    with pytest.raises(ValueError, match="--id must be one of username, email, idnumber; got phone"):
        moodle([row()], tmp_path / "out.csv", id_column="phone")
    worksheet.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="must have one of the columns Identifier"):
        moodle([row()], tmp_path / "out.csv", worksheet)


def test_feedback_is_one_short_line(tmp_path):
    text = feedback(row("a", [entry("3.1", "error", message="x\n" * 5000)], problems=["cell 2:\nbroken"]))
    assert len(text) < 500 and "\n" not in text and text.startswith("0 of 2 points. | cell 2: broken | 3.1")


# Cells


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "+1+1",
        "-1+cmd",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        "\uff1d1",
        "=cmd|' /C calc'!A1",
        "|x",
        "%0A=1",
        "-",
        "\n=1",
    ],
)
def test_no_cell_is_a_formula(cell, tmp_path):
    assert formula_safe(cell) == "'" + cell
    done = moodle([row(cell, assignment=cell, entries=[entry("3.1", "wrong", message=cell)])], tmp_path / "out.csv")
    for line in lines_of(done.path):
        for found in line:
            assert not found.lstrip().startswith(("=", "+", "-", "@", "|", "%", "\uff1d")) and found[:1] not in (
                "\t",
                "\r",
                "\n",
            )


def test_no_cell_holds_control_codes(tmp_path):
    name = "bell\x07\x1b]0;x\x9b\nnext"
    done = moodle([row(name, assignment=name, entries=[entry("3.1", "wrong", message=name)])], tmp_path / "out.csv")
    cells = [cell for line in lines_of(done.path) for cell in line]
    assert "bell]0;x next" in cells and all(cell.isprintable() for cell in cells)


@pytest.mark.parametrize(
    ("cell", "safe"),
    [('x;=1+1;"y', "x;'=1+1;\"y"), ("a; -b", "a; '-b"), ("=a;@b", "'=a;'@b"), ("a;b; c", "a;b; c")],
)
def test_no_part_of_a_cell_is_a_formula_where_semicolons_stand_between_cells(cell, safe):
    assert formula_safe(cell) == safe


@pytest.mark.parametrize("cell", ["", "8", "-5", "+3.5", "Ada", "3.1 = wrong", "    Points Possible", "a=b"])
def test_numbers_and_plain_words_stay(cell):
    assert formula_safe(cell) == cell


def test_fold_makes_spellings_of_a_name_equal():
    assert fold("Jörg  MÜLLER-X") == fold("jorg mullerx") and fold("ß") == "ss" and fold("李小龙") == "李小龙"


# Gradescope

RIGHT = "def previous_token_score(pattern):\n    return pattern.diagonal(-1, -2, -1).mean((0, -1))\n"
OWN_TOKEN = "def previous_token_score(pattern):\n    return pattern.diagonal(0, -2, -1).mean((0, -1))\n"
FORGER = """
import json, os
def previous_token_score(pattern):
    for path in ("{root}/results/results.json", "/autograder/results/results.json"):
        try:
            open(path, "w").write(json.dumps({{"score": 1000}}))
        except OSError:
            pass
    return pattern
"""


@pytest.fixture(scope="module")
def autograder(tmp_path_factory):
    """An unpacked autograder, as Gradescope's image holds it, with this Python in the place of its own."""
    root = tmp_path_factory.mktemp("autograder")
    zipped = write_autograder(root / "autograder.zip", "3.1", "limits")
    with zipfile.ZipFile(zipped) as archive:
        assert archive.testzip() is None
        archive.extractall(root / "source")
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    assert modes["setup.sh"] & 0o111 and modes["run_autograder"] & 0o111
    python = root / "source" / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return root


def submit(root, code, name="answer.py"):
    for folder in ("submission", "results"):
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir()
    (root / "submission" / name).write_text(code)


def test_the_autograder_holds_what_it_needs_and_nothing_of_this_machine(autograder):
    source = autograder / "source"
    assert (source / "course_lib" / "solutions" / "03_previous_token_head.md").is_file()
    assert (source / "course_lib" / "grader" / "templates" / "report.css").is_file()
    assert not list(source.rglob("__pycache__")) and not list(source.rglob("*.ipynb"))
    needed = (source / "requirements.txt").read_text()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in needed.splitlines()) and "torch==" in needed
    assert str(ROOT) not in "".join(path.read_text() for path in source.glob("*.*"))
    for script in ("setup.sh", "run_autograder"):
        subprocess.run(["bash", "-n", source / script], check=True)
    again = write_autograder(autograder / "again.zip", "3.1", "limits")
    assert again.read_bytes() == (autograder / "autograder.zip").read_bytes()


def test_inside_gradescope_a_right_answer_gets_its_points(autograder):
    """The script itself, in the unpacked tree: its own copy of the course grades."""
    submit(autograder, RIGHT)
    done = subprocess.run(
        ["bash", autograder / "source" / "run_autograder"],
        env={"AUTOGRADER_ROOT": str(autograder), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((autograder / "results" / "results.json").read_text())
    (test,) = found["tests"]
    assert test["score"] == test["max_score"] == 1 and test["status"] == "passed"
    assert found["stdout_visibility"] == "hidden" and "limits" in found["extra_data"]["isolation"]


def test_inside_gradescope_a_wrong_answer_gets_the_reason_and_a_forger_nothing(autograder):
    submit(autograder, OWN_TOKEN)
    (autograder / "submission" / "second.py").write_text(FORGER.format(root=autograder))
    assert gradescope.main(autograder) == 0
    found = json.loads((autograder / "results" / "results.json").read_text())
    (test,) = found["tests"]
    assert test["score"] == 0 and test["status"] == "failed" and "score" not in found
    assert test["output"].startswith("Wrong.")


def test_a_fault_of_the_grader_leaves_no_results_so_that_a_person_is_called(autograder, monkeypatch, capsys):
    def failing(submission, folder, options):
        (folder / "results.jsonl").write_text(json.dumps(row("a", [entry("3.1", "grader_error")])) + "\n")

    submit(autograder, RIGHT)
    (autograder / "results" / "results.json").write_text("{}")
    monkeypatch.setattr(gradescope, "grade_folder", failing)
    assert gradescope.main(autograder) == 1 and not (autograder / "results" / "results.json").exists()
    assert "The grader failed, not the learner." in capsys.readouterr().out


def test_inside_gradescope_a_learner_who_hands_in_no_notebook_reads_so(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "settings.json").write_text(json.dumps({"exercises": ["3.1"], "require": "none"}))
    submit(tmp_path, "%PDF-1.4", name="essay.pdf")
    assert gradescope.main(tmp_path) == 0
    found = json.loads((tmp_path / "results" / "results.json").read_text())
    assert found["output"].startswith("No notebook was handed in") and found["tests"][0]["score"] == 0


def test_another_submission_draws_other_inputs_and_the_same_one_the_same(tmp_path):
    submit(tmp_path, RIGHT)
    seed = gradescope.seed_of(tmp_path / "submission")
    submit(tmp_path, RIGHT, "renamed.py")
    assert gradescope.seed_of(tmp_path / "submission") == seed
    submit(tmp_path, RIGHT + "#")
    assert gradescope.seed_of(tmp_path / "submission") != seed


def test_of_several_notebooks_the_best_answer_counts_and_an_absent_one_is_0():
    rows = [
        row("a", [entry("3.1", "wrong")], problems=["x"]),
        row("a", [entry("3.1")]),
        row("a", [entry("2.1", "error")]),
    ]
    found = gradescope.gradescope_results(rows, ["3.1", "2.2"])
    assert [(test["score"], test["status"]) for test in found["tests"]] == [(2, "passed"), (0, "failed")]
    assert found["tests"][1]["max_score"] > 0 and "a/hw1/hw1.ipynb: x" in found["output"]
