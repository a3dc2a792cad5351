"""The instructor's commands as they are typed: help, summaries, JSON, exit statuses, interrupts, and the way on."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from course_lib import __main__ as front
from course_lib.grader import choice, cli, commands, isolation, process
from course_lib.grader.grade import grade_folder
from course_lib.grader.server import Reply, Server

ROOT = Path(__file__).resolve().parent.parent
SOON = 60
COMMAND = [sys.executable, "-m", "course_lib"]
LOOP = "def previous_token_score(pattern):\n    while True:\n        pass\n"


def follow(capsys, *words) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    try:
        status = front.main(list(map(str, words)))
    except SystemExit as left:  # argparse
        status = left.code
    return status, *capsys.readouterr()


@pytest.fixture(scope="module")
def submitted(tmp_path_factory):
    """A right notebook, an untouched one, a wrong one, and a file that is none."""
    folder = tmp_path_factory.mktemp("class") / "submitted"
    for student, source in (("ada", "solutions"), ("bob", "exercises")):
        (folder / student / "hw3").mkdir(parents=True)
        shutil.copy(ROOT / source / "03_previous_token_head.ipynb", folder / student / "hw3" / "hw3.ipynb")
    (folder / "eve" / "hw3").mkdir(parents=True)
    (folder / "eve" / "hw3" / "hw3.py").write_text(
        "def previous_token_score(pattern):\n    return pattern.diagonal(0, -2, -1).mean((0, -1))\n"
    )
    (folder / "mallory" / "hw3").mkdir(parents=True)
    (folder / "mallory" / "hw3" / "hw3.ipynb").write_bytes(b"\x00junk")
    return folder


@pytest.fixture(scope="module")
def graded(submitted, tmp_path_factory):
    """The results of the class and what the command printed, graded by the command itself."""
    out = tmp_path_factory.mktemp("graded") / "results"
    words = ["grade", submitted, "--out", out, "--exercises", "3", "--seed", "7", "--json"]
    done = subprocess.run([*COMMAND, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=4 * SOON)
    return out, done


class Pretending(Server):
    """A server that does nothing: a folder is graded without workers."""

    here: tuple[str, ...] = ("limits",)
    reply = Reply("crashed")

    def __enter__(self):
        self.layers = self.here
        return self

    def __exit__(self, *error):
        pass

    def run(self, job):
        return self.reply

    def run_together(self, jobs):
        return iter(())


@pytest.fixture
def pretending(monkeypatch):
    monkeypatch.setattr(commands, "grade_folder", partial(grade_folder, make_server=Pretending))
    return monkeypatch


# Help


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in commands.COMMANDS)])
def test_help_is_quick_and_shows_commands_to_copy(words):
    load = "import sys; from course_lib.__main__ import main"
    program = f"{load}\ntry: main(sys.argv[1:])\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "python -m course_lib" in done.stdout and "{prog}" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_the_help_of_grade_leads_from_a_folder_to_a_grade_book(capsys):
    status, out, _ = follow(capsys, "grade", "--help")
    assert status == 0
    steps = ["probe", "grade submitted --out results --exercises 3,4.2", "report results", "export results --to canvas"]
    places = [out.index(f"python -m course_lib {step}") for step in steps]
    assert places == sorted(places)
    for words in ("130 interrupted", "--scheduler tcp://HOST:8786", "--shard 1/4"):
        assert words in out


def test_the_script_calls_itself_course(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/course"])
    assert "course probe" in follow(capsys, "grade", "--help")[1]


@pytest.mark.parametrize(
    ("words", "levels"),
    [
        (("grade", "{}", "--out", "{}/out", "--isolation", "limits"), ["limits"]),
        (("grade", "{}", "--out", "{}/out", "--scheduler", "tcp://nowhere:1"), []),
        (("report", "{}"), []),
    ],
    ids=["grade", "a cluster", "report"],
)
def test_only_what_grades_here_begins_a_fork_server(words, levels, tmp_path, capsys, monkeypatch):
    begun = []
    monkeypatch.setattr(process, "begun", lambda level: begun.append(level) or nullcontext())
    monkeypatch.setattr(commands, "follow", lambda *_: 0)
    status, _, _ = follow(capsys, *(word.format(tmp_path) for word in words))
    assert status == 0 and begun == levels


def test_the_levels_of_the_help_are_those_of_the_grader():
    assert isolation.LEVELS == cli.LEVELS


# A whole class, for real


def test_grading_says_what_came_of_it_as_json_alone(graded):
    out, done = graded
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1 and facts["command"] == "grade" and facts["seed"] == 7 and facts["rows"] == 4
    assert facts["results"] == str(out / "results.jsonl") and "limits" in facts["isolation"]
    rows = {row["student"]: row for row in map(json.loads, (out / "results.jsonl").read_text().splitlines())}
    assert {name: row["state"] for name, row in rows.items()} == {
        "ada": "ok", "bob": "unattempted", "eve": "partial", "mallory": "invalid_notebook"
    }  # fmt: skip
    assert rows["ada"]["score"] == rows["ada"]["max_score"] > 0 == rows["eve"]["score"]
    assert facts["states"] == {state: 1 for state in ("ok", "unattempted", "partial", "invalid_notebook")}
    assert "\r" not in done.stderr  # no progress bar where there is no terminal


def test_a_second_run_takes_the_seed_and_the_rows_that_are_there(graded, submitted, tmp_path, capsys, pretending):
    out = tmp_path / "again"
    pretending.setattr(Pretending, "here", tuple(json.loads(graded[1].stdout)["isolation"]))
    shutil.copytree(graded[0], out)
    before = (out / "results.jsonl").read_bytes()
    status, said, _ = follow(capsys, "grade", submitted, "--out", out, "--exercises", "3")
    assert status == 0 and "4 submissions in" in said and "(4 of them earlier)" in said and "Seed: 7." in said
    assert (out / "results.jsonl").read_bytes() == before


def test_from_results_to_pages_and_grade_books(graded, tmp_path, capsys):
    out = tmp_path / "results"
    shutil.copytree(graded[0], out)
    status, said, _ = follow(capsys, "report", out)
    assert status == 0 and str(out / "html" / "index.html") in said and len(list((out / "html").iterdir())) == 5
    page = (out / "html" / "index.html").read_text()
    assert "You score the attention of each token to itself." in page and "own token" in page
    status, said, err = follow(capsys, "export", out, "--to", "moodle", "--out", tmp_path / "moodle.csv")
    assert (status, err) == (0, "") and "4 grades in" in said
    (tmp_path / "book.csv").write_text("Student,ID,SIS Login ID,Section,hw3 (5)\nA,1,ada,s,\nE,2,eve,s,\n")
    words = ["export", out, "--to", "canvas", "--roster", tmp_path / "book.csv", "--out", tmp_path / "canvas.csv"]
    status, _, err = follow(capsys, *words)
    assert status == 1 and "2 submissions are not in it:" in err and "bob/hw3/hw3.ipynb" in err
    status, said, _ = follow(capsys, *words, "--json")
    assert status == 1 and len(json.loads(said)["unplaced"]) == 2
    for target, start in (("csv", "submission,student"), ("junit", "<?xml")):
        status, _, _ = follow(capsys, "export", out, "--to", target, "--out", tmp_path / target)
        assert status == 0 and (tmp_path / target).read_text().startswith(start)


def processes_below(parent: int) -> set[int]:
    """All processes that a process started, and those that they started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {parent}
    while more := {child for child, above in parents.items() if above in found} - found:
        found |= more
    return found - {parent}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes through /proc")
def test_ctrl_c_keeps_what_is_done_says_how_to_go_on_and_leaves_nothing_behind(submitted, tmp_path):
    folder, out = tmp_path / "loops", tmp_path / "out"
    shutil.copytree(submitted, folder / "submitted")
    for number in range(6):
        (folder / "submitted" / f"z{number}" / "hw3").mkdir(parents=True)
        (folder / "submitted" / f"z{number}" / "hw3" / "x.py").write_text(LOOP + f"# {number}\n")
    words = ["grade", folder, "--out", out, "--exercises", "3.1", "--seed", "7", "--jobs", "1"]
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    journal, end = out / "journal.jsonl", time.monotonic() + 4 * SOON
    while not journal.is_file() or journal.stat().st_size == 0 or not processes_below(process.pid):
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.05)
    started = processes_below(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    out_text, err = process.communicate(timeout=SOON)
    assert process.returncode == 130, err
    assert (
        out_text == b"" and err.decode().endswith("the same command goes on from there.\n") and b"Traceback" not in err
    )
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert journal.stat().st_size > 0 and not (out / "results.jsonl").exists()


# Exit statuses and sentences


def test_a_fault_of_the_grader_ends_with_1(submitted, tmp_path, capsys, pretending):
    pretending.setattr(Pretending, "reply", Reply("grader_error", message="no process"))
    words = ["grade", submitted, "--out", tmp_path, "--exercises", "3"]
    status, out, err = follow(capsys, *words)
    assert status == 1 and "grader_error" in out and "The same command tries again." in err
    status, out, _ = follow(capsys, *words, "--json")
    assert status == 1 and json.loads(out)["status"] == 1
    status, out, err = follow(capsys, *words, "--quiet")
    assert (status, out, err) == (1, "", "")


def test_missing_isolation_ends_with_3_before_anything_is_graded(submitted, tmp_path, capsys, pretending):
    words = ["grade", submitted, "--out", tmp_path, "--require-isolation", "landlock"]
    status, out, err = follow(capsys, *words)
    assert (status, out) == (3, "") and err.count("\n") == 1 and "landlock" in err and "course probe" in err
    assert not (tmp_path / "results.jsonl").exists()
    status, _, err = follow(capsys, *words[:-1], "limits")
    assert status == 0 and "Layers of isolation that are off: landlock" in err


def test_an_interrupt_ends_with_130(submitted, tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "grade_folder", interrupted)
    status, out, err = follow(capsys, "grade", submitted, "--out", tmp_path, "--json")
    assert (status, out) == (130, "") and "the same command goes on" in err


def test_shares_are_merged_into_what_one_run_writes(submitted, tmp_path, capsys, pretending):
    words = ["--exercises", "3", "--seed", "5"]
    for place in (1, 2):
        status, out, _ = follow(
            capsys, "grade", submitted, "--out", tmp_path / f"part{place}", *words, "--shard", f"{place}/2"
        )
        assert status == 0 and f"share {place} of 2" in out and "course merge" in out
    status, out, _ = follow(capsys, "merge", tmp_path / "part1", tmp_path / "part2", "--out", tmp_path / "merged")
    assert status == 0 and "4 submissions in" in out
    follow(capsys, "grade", submitted, "--out", tmp_path / "whole", *words)
    for name in ("results.jsonl", "results.csv", "results.xml"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    status, _, err = follow(capsys, "report", tmp_path / "part1")
    assert status == 2 and "join them with `course merge`" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["grade", "{}", "--out", "{}/r", "--exercises", "99"], "must be chapters (0, 1, 2"),
        (["grade", "{}", "--out", "{}/r", "--exercises", "3,x"], "got x"),
        (["grade", "{}", "--out", "{}/r", "--jobs", "0"], "--jobs must be at least 1; got 0"),
        (["grade", "{}", "--out", "{}/r", "--shard", "3/2", "--seed", "1"], "--shard must be I/N"),
        (["grade", "{}", "--out", "{}/r", "--shard", "1/2"], "--shard needs --seed"),
        (["grade", "{}/nowhere", "--out", "{}/r"], "must exist, got {}/nowhere"),
        (["grade", "{}", "--out", "{}/file"], "file"),
        (["grade", "{}", "--out", "{}/file"], "--out must be a folder, which {}/file is not"),
        (["grade", "{}", "--out", ""], "--out must name a folder; got an empty text"),
        (["merge", "{}", "--out", ""], "--out must name a folder; got an empty text"),
        (["export", "{}", "--to", "csv", "--out", ""], "--out must name a file; got an empty text"),
        (["export", "{}", "--to", "csv", "--out", "{}"], "--out must be a file; {} is a folder"),
        (["grade", "{}", "--out", "{}/r", "--exercises", ","], "got ,"),
        (["grade", "{}", "--out", "{}/r", "--exercises", ""], "--exercises must say something; got an empty text"),
        (["grade", "{}", "--out", "{}/r", "--shard", ""], "--shard must say something; got an empty text"),
        (["grade", "", "--out", "{}/r"], "SUBMISSIONS must say something; got an empty text"),
        (["report", ""], "RESULTS must say something; got an empty text"),
        (["export", "{}", "--to", "moodle", "--roster", "", "--out", "{}/x"], "--roster must say something"),
        (["export", "--to", "gradescope", "--exercises", "", "--out", "{}/x"], "--exercises must say something"),
        (["export", "--to", "gradescope", "--exercises", " , ", "--out", "{}/x"], "must be chapters"),
        (["grade", "{}", "--out", "{}/r", "--jobs", "65"], "--jobs must be at most 64; got 65"),
        (["export", "{}", "--to", "csv", "--out", "{}/results.jsonl"], "--out must not be one of the files"),
        (["grade", "{}"], "--out"),
        (["grade", "{}", "--out", "{}/r", "--isolation", "magic"], "invalid choice: 'magic'"),
        (["report", "{}"], "must be a folder that `course grade` wrote"),
        (["export", "{}", "--to", "canvas", "--out", "{}/x"], "must be a folder that `course grade` wrote"),
        (["export", "--to", "moodle", "--out", "{}/x"], "--to moodle needs RESULTS"),
        (["export", "{}", "--to", "gradescope", "--out", "{}/x"], "takes no RESULTS"),
        (["export", "--to", "gradescope", "--exercises", "99", "--out", "{}/x"], "must be chapters"),
        (["merge", "{}", "--out", "{}/m"], "--shard"),
        (
            ["export", "{}", "--to", "csv", "--roster", "{}/file", "--out", "{}/x"],
            "--roster is for --to canvas and moodle",
        ),
        (["export", "{}", "--to", "moodle", "--column", "hw1", "--out", "{}/x"], "--column is for --to canvas"),
        (
            ["export", "{}", "--to", "junit", "--id", "email", "--out", "{}/x"],
            "--id is for --to moodle; got --to junit",
        ),
        (
            ["export", "{}", "--to", "moodle", "--id", "email", "--roster", "{}/file", "--out", "{}/x"],
            "the roster says",
        ),
        (["export", "{}", "--to", "csv", "--exercises", "3", "--out", "{}/x"], "--exercises is for --to gradescope"),
        (
            ["grade", "{}/notes", "--out", "{}/r"],
            "at least one .ipynb, .py or .zip in {}/notes, and there is only a.txt",
        ),
        (["grade", "{}/none", "--out", "{}/r"], "at least one .ipynb, .py or .zip in {}/none, and there is nothing"),
    ],
)
def test_a_wrong_command_is_one_sentence_and_ends_with_2(words, sentence, tmp_path, capsys, pretending):
    for folder in ("none", "notes"):
        (tmp_path / folder).mkdir()
    for name in ("file", "notes/a.txt"):
        (tmp_path / name).write_text("x")
    status, out, err = follow(capsys, *(word.replace("{}", str(tmp_path)) for word in words))
    assert (status, out) == (2, "") and sentence.replace("{}", str(tmp_path)) in err and "Traceback" not in err
    assert err.count("\n") == 1 or err.startswith("usage:")


@pytest.mark.parametrize(
    ("submissions", "out"),
    [("class", "class"), ("class", "."), ("course", "course"), ("course", "course/submitted"), ("link", "class")],
)
def test_results_do_not_go_among_the_submissions(submissions, out, tmp_path, capsys, pretending):
    for folder in ("class", "course/submitted/ada/hw3"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(ROOT / "exercises" / "03_previous_token_head.ipynb", tmp_path / folder / "a.ipynb")
    (tmp_path / "link").symlink_to(tmp_path / "class")
    before = sorted(tmp_path.rglob("*"))
    status, _, err = follow(capsys, "grade", tmp_path / submissions, "--out", tmp_path / out)
    assert status == 2 and err.startswith("--out must not be the folder of the submissions") and err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    status, said, _ = follow(capsys, "grade", tmp_path / submissions, "--out", tmp_path / submissions / "results")
    assert status == 0 and said.startswith("1 submission in")


def test_isolation_that_the_command_itself_leaves_out_is_no_fault_of_the_machine(tmp_path, capsys, pretending):
    (tmp_path / "a.py").write_text("x = 1")
    words = ["grade", tmp_path, "--out", tmp_path / "out", "--isolation", "limits"]
    status, out, err = follow(capsys, *words, "--require-isolation", "uid")
    assert (status, out) == (3, "") and "--require-isolation uid cannot be met with --isolation limits" in err
    assert "probe" not in err and not (tmp_path / "out").exists()
    status, _, err = follow(capsys, *words, "--require-isolation", "limits")
    assert status == 0 and "off: landlock, namespaces, uid. --isolation limits leaves them out." in err
    assert "probe" not in err


def full_disk(monkeypatch, when=lambda name: True):
    """From now on no byte can be written into files of some names; pages and grade books are checked by `fdopen`."""
    synced, opened = os.fsync, os.fdopen

    def fsync(descriptor):
        if when(os.readlink(f"/proc/self/fd/{descriptor}")):
            raise OSError(errno.ENOSPC, "No space left on device")
        synced(descriptor)

    def fdopen(descriptor, mode="r", *more, **named):
        if "w" in mode:
            os.close(descriptor)
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(descriptor, mode, *more, **named)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "fdopen", fdopen)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="a file's name is found through /proc")
def test_a_full_disk_is_told_with_the_file_and_leaves_no_half_of_it(graded, submitted, tmp_path, capsys, pretending):
    out, full = tmp_path / "results", "No space left on device"
    shutil.copytree(graded[0], out)
    before = sorted(tmp_path.rglob("*"))
    full_disk(pretending)
    for words, name in (
        (["grade", submitted, "--out", out, "--exercises", "3"], "results/results.jsonl"),
        (["export", out, "--to", "csv", "--out", tmp_path / "x.csv"], "x.csv"),
        (["export", out, "--to", "moodle", "--out", tmp_path / "x.csv"], "x.csv"),
        (["export", "--to", "gradescope", "--exercises", "3", "--out", tmp_path / "x.zip"], "x.zip"),
        (["report", out, "--title", "x"], "results/html/"),
    ):
        pretending.setattr(Pretending, "here", tuple(json.loads(graded[1].stdout)["isolation"]))
        status, _, err = follow(capsys, *words)
        assert status == 2 and err.startswith(f"{tmp_path}/{name}") and err.endswith(f": {full}\n"), (words, err)
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] == [out / "html"]


def test_names_of_files_do_not_command_the_terminal(tmp_path, capsys, pretending):
    folder, name = tmp_path / "class", "red\x1b[31m\x07\nnext"
    folder.mkdir()
    (folder / f"{name}.csv").touch()
    shutil.copy(ROOT / "exercises" / "03_previous_token_head.ipynb", folder / f"{name}.ipynb")
    _, _, graded = follow(capsys, "grade", folder, "--out", tmp_path / name)
    assert "Not a submission, left out: red[31m next.csv\n" in graded
    words = ["--roster", tmp_path / "roster.csv", "--to", "moodle", "--out", tmp_path / f"{name}.csv"]
    (tmp_path / "roster.csv").write_text("Username,Full name\nada,Ada\n", encoding="utf-8")
    _, out, exported = follow(capsys, "export", tmp_path / name, *words)
    _, _, refused = follow(capsys, "report", tmp_path / f"no {name}")
    for text in (graded, out, exported, refused):
        assert "red[31m next" in text and text.replace("\n", "").isprintable()


def test_two_graders_do_not_write_the_same_results(submitted, tmp_path, capsys, pretending):
    from course_lib.grader.store import locked

    with locked(tmp_path / ".lock"):
        status, _, err = follow(capsys, "grade", submitted, "--out", tmp_path, "--exercises", "3")
    assert status == 2 and "another grader is writing results" in err


def test_the_bar_shows_on_a_terminal_only(monkeypatch):
    for terminal, quiet, shown in ((True, False, True), (False, False, False), (True, True, False)):
        stream = io.StringIO()
        stream.isatty = lambda terminal=terminal: terminal
        monkeypatch.setattr(sys, "stderr", stream)
        with commands._progress(quiet) as on_row:
            on_row({}, 3, 8)
        assert ("3/8" in stream.getvalue()) == shown


def test_probe_tells_every_layer(capsys):
    status, out, _ = follow(capsys, "probe")
    assert status == 0 and [line.split()[0] for line in out.splitlines()[:4]] == list(isolation.LEVELS[1:])
    status, out, _ = follow(capsys, "probe", "--json")
    layers = json.loads(out)["layers"]
    assert status == 0 and all(type(layers[name]) is bool for name in isolation.LEVELS[1:])


@pytest.mark.parametrize(
    "wanted, found",
    [("0.1", ["0.1"]), ("00.1,0", ["0.1"]), ("03.2, 4.1", ["3.2", "4.1"]), ("12", ["12.1", "12.2", "12.3"])],
)
def test_exercises_are_named_by_chapter_and_number(wanted, found):
    assert list(choice.exercise_ids(wanted)) == found


@pytest.mark.parametrize("wanted", [".1", "0.", "13", "3.2.1", "x", "3;4", ",", " , "])
def test_what_names_no_exercise_is_refused(wanted):
    with pytest.raises(ValueError, match=re.escape(f"got {wanted}")):
        choice.exercise_ids(wanted)
