"""The exercises without a notebook: the file that is written, how it is run, the command, its exit status, --watch."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_solution import learner  # noqa: F401

from course_lib import __main__ as front
from course_lib.grading import command, load, pages, script

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(load.source_folder().glob("*.md"))
ANSWER = "def double(x):\n    return 2 * x\n"
WRONG = "def double(x):\n    return 3 * x\n"
STUB = 'raise NotImplementedError("your code here")'


@pytest.fixture
def folder(learner, tmp_path_factory, monkeypatch):  # noqa: F811
    """An empty current folder of someone at work on the small chapter 98."""
    path = tmp_path_factory.mktemp("work")
    monkeypatch.chdir(path)
    return path


def follow(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit status, what was printed, and what went to the error stream."""
    try:
        status = front.main(list(arguments))
    except SystemExit as left:  # argparse
        status = left.code
    return status, *capsys.readouterr()


def check_with(folder: Path, capsys, code: str) -> tuple[int, str]:
    (folder / "98_mine.py").write_text(code)
    status, out, err = follow(capsys, "check", "98")
    assert err == ""
    return status, out


# --- the file that is written -----------------------------------------------------------------------------------


def test_without_a_file_one_is_written_and_the_next_step_is_said(folder, capsys):
    status, out, _ = follow(capsys, "check", "98")
    assert status == 1
    assert "New: 98_toys.py, with 1 exercises of chapter 98." in out
    assert "python -m course_lib check 98" in out
    assert "○ Exercise 98.1, Double: not attempted" in out
    text = (folder / "98_toys.py").read_text()
    assert "# ## 98.1 Double\n#\n# *Difficulty 1 of 5, about 7 minutes.*\n#\n# Write `double(x)`.\n" in text
    assert f"    factor = 2\n    {STUB}\n" in text
    assert '# %%\ncheck("98.1"' not in text  # the toy has no check cell
    for hidden in ("factor * x", "SOLUTION", "exercise(", "Why this is the answer"):
        assert hidden not in text


def test_a_file_is_never_overwritten(folder, capsys):
    (folder / "98_mine.py").write_text(ANSWER)
    assert follow(capsys, "check", "98")[0] == 0
    assert (folder / "98_mine.py").read_text() == ANSWER
    assert [path.name for path in folder.iterdir()] == ["98_mine.py"]
    (folder / "98_mine.py").rename(folder / "98_toys.py")
    with pytest.raises(FileExistsError):
        script.write_script(pages.read_pages(load.source_folder())[0], folder)
    assert (folder / "98_toys.py").read_text() == ANSWER


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_chapter_becomes_a_file_that_runs_untouched(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = next(page for page in pages.read_pages(path.parent) if page.path == path)
    written = script.write_script(page, tmp_path)
    text = written.read_text()
    assert written.name == f"{path.stem}.py"
    assert text.count(STUB) == len(page.exercises)
    assert "{doc}" not in text and "### " not in text and "{admonition}" not in text
    for task in page.exercises:
        assert f"# ## {task.id} {task.title}\n" in text
        assert f'\ncheck("{task.id}", ' in text
        assert f'\n# hint("{task.id}")  # in a terminal: python -m course_lib hint {task.id}\n' in text
    answers = [piece for piece in pages.pieces(path.read_text()) if "answer" in piece.tags]
    bodies = [line.strip() for answer in answers for line in answer.text.partition("### BEGIN")[2].splitlines()[1:-1]]
    assert not [line for line in bodies if len(line) > 40 and not line.startswith("#") and line in text]
    command.check_file(page, written)
    out = capsys.readouterr().out
    assert out.count(": not attempted") == len(page.exercises)
    assert f"0 of {len(page.exercises)} passed" in out


def test_the_answers_of_the_course_pass_in_a_file(tmp_path, capsys):
    page = next(page for page in pages.read_pages(load.source_folder()) if page.chapter == 3)
    path = script.write_script(page, tmp_path)
    text = path.read_text()
    for task in page.exercises:
        answer = pages.answer_of(page.path.read_text(), task.id)
        stub = next(p.text for p in pages.section(page.path.read_text(), task.id) if "answer" in p.tags)
        text = text.replace(pages.as_stub(stub).strip(), answer.strip())
    path.write_text(text)
    assert command.check_file(page, path)
    assert "Chapter 3: 3 of 3 passed. All done." in capsys.readouterr().out


def test_a_folded_answer_stays_in_the_notebook(folder):
    source = load.source_folder() / "98_toys.md"
    fold = "```{admonition} Model answer\n:class: dropdown\nSecret.\n```\n"
    source.write_text(source.read_text() + "\n+++\n\n" + fold)
    text = script.write_script(pages.read_pages(source.parent)[0], folder).read_text()
    assert "Secret" not in text and "dropdown" not in text
    assert "# *Model answer: folded away in exercises/98_toys.ipynb.*\n" in text


# --- how a file is run ------------------------------------------------------------------------------------------


def test_the_report_is_that_of_the_notebook_and_the_summary_counts(folder, capsys):
    status, out = check_with(folder, capsys, WRONG)
    assert status == 1
    assert out.startswith("✗ Exercise 98.1, Double: wrong\nCase      1 of 1: one")
    assert out.endswith("Chapter 98: 0 of 1 passed, 1 wrong. Next: 98.1 Double.\n")
    status, out = check_with(folder, capsys, ANSWER)
    assert status == 0
    assert out.endswith("Chapter 98: 1 of 1 passed. All done.\n")


def test_checks_in_the_file_do_not_run_a_second_time(folder, capsys, monkeypatch):
    monkeypatch.setattr(script, "first_lines", __import__("contextlib").nullcontext)
    calls = 'from course_lib.grading import check\ncheck("98.1", double)\nprint(check("98.1", double))\nprint("mine")\n'
    _, out = check_with(folder, capsys, ANSWER + calls)
    assert out.count("Exercise 98.1") == 1
    assert out.startswith("mine\n")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\ny = (\n", ["SyntaxError in line 2: `y = (`", "was never closed"]),
        ("def double(x):\nreturn x\n", ["IndentationError in line 2: `return x`", "expected an indented block"]),
        ("%matplotlib inline\n", ["SyntaxError in line 1: `%matplotlib inline`"]),
        ("\nx = 1 / 0  # oh\n", ["ZeroDivisionError in line 2: `x = 1 / 0  # oh`", "division by zero"]),
        ("import torch\ntorch.eye(2) @ torch.eye(3)\n", ["RuntimeError in line 2: `torch.eye(2) @ torch.eye(3)`"]),
        ("import sys\nsys.exit(3)\n", ["SystemExit in line 2: `sys.exit(3)`"]),
        ("import no_such_module\n", ["ModuleNotFoundError in line 1", "No module named 'no_such_module'"]),
        ("x = 1\0", ["null bytes"]),
    ],
)
def test_an_error_in_the_file_is_shown_with_its_line_and_no_traceback(folder, capsys, code, words):
    status, out = check_with(folder, capsys, code + ANSWER)
    assert status == 1
    assert out.startswith("! 98_mine.py: the file could not be run\n")
    for word in [*words, "Mend this first: nothing was checked."]:
        assert word in out
    for traceback in ("Traceback", "course_lib/", "exec("):
        assert traceback not in out


def test_a_file_that_is_not_text_is_a_message(folder, capsys):
    (folder / "98_mine.py").write_bytes(b"\xff\xfe\x00")
    status, out, _ = follow(capsys, "check", "98")
    assert (status, "not text in UTF-8" in out) == (1, True)


def test_a_missing_function_is_named(folder, capsys):
    status, out = check_with(folder, capsys, "def twice(x):\n    return 2 * x\n")
    assert status == 1
    assert "98_mine.py has no function `double`" in out


def test_an_error_in_an_answer_shows_the_line_of_the_file(folder, capsys):
    _, out = check_with(folder, capsys, "\n\ndef double(x):\n    return x.nothing\n")
    assert "AttributeError in line 4 of your code: `return x.nothing`" in out
    _, out = check_with(folder, capsys, "def double(x):\n    return x.other_thing\n")  # the file has changed since
    assert "AttributeError in line 2 of your code: `return x.other_thing`" in out


def test_pass_and_dots_in_a_file_are_not_attempted(folder, capsys):
    _, out = check_with(folder, capsys, "def double(x):\n    factor = 2\n    ...\n")
    assert "not attempted" in out


# --- the command ------------------------------------------------------------------------------------------------


def test_alone_it_explains_itself(capsys):
    status, out, _ = follow(capsys)
    assert status == 0
    for words in ("python -m course_lib check 05 --watch", "hint 5.1", "solution 5.1", "progress", "never overwrites"):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "97"], "Chapter 97 has no exercises. These chapters have some: 98."),
        (["check"], "chapter"),
        (["check", "five"], "invalid int value: 'five'"),
        (["chekc", "05"], "invalid choice"),
        (["hint", "98.7"], "must be one of 98.1"),
        (["hint", "98.1", "4"], "number must be 1 to 3, got 4"),
        (["solution", "98.7"], "must be one of 98.1"),
    ],
)
def test_a_wrong_command_is_explained_and_ends_with_2(folder, capsys, arguments, words):
    status, out, err = follow(capsys, *arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert list(folder.iterdir()) == []


def test_two_files_of_a_chapter_are_named(folder, capsys):
    for name in ("98_a.py", "98_b.py"):
        (folder / name).write_text(ANSWER)
    status, _, err = follow(capsys, "check", "98")
    assert status == 2
    assert "98_a.py, 98_b.py" in err


def test_a_folder_that_cannot_be_written_is_explained(folder, capsys, monkeypatch):
    def refuse(page, where):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(command, "write_script", refuse)
    status, _, err = follow(capsys, "check", "98")
    assert status == 2
    assert "Permission denied. Go to another folder." in err


def test_hints_solution_and_progress_are_printed(folder, capsys):
    assert follow(capsys, "hint", "98.1")[1] == "Exercise 98.1, hint 1 of 3\na\n"
    assert follow(capsys, "hint", "98.1", "3")[1] == "Exercise 98.1, hint 3 of 3 (the last one)\nc\n"
    assert "try it first" in follow(capsys, "solution", "98.1")[1]
    check_with(folder, capsys, WRONG)
    assert "result = factor * x" in follow(capsys, "solution", "98.1")[1]
    assert "0 of 1 exercises done, 1 tried" in follow(capsys, "progress")[1]


# --- watching ---------------------------------------------------------------------------------------------------


def test_it_checks_again_after_a_save_and_ends_quietly(folder, capsys, monkeypatch):
    def saved_meanwhile(seconds):
        assert seconds == command.POLL
        steps.pop(0)()

    def save(code):
        (folder / "98_mine.py").write_text(code)

    def stop():
        raise KeyboardInterrupt

    save(WRONG)
    gone = (folder / "98_mine.py").unlink
    steps = [lambda: None, lambda: save("def double(x:\n"), gone, lambda: None, lambda: save(ANSWER + "#"), stop]
    monkeypatch.setattr(command.time, "sleep", saved_meanwhile)
    status, out, _ = follow(capsys, "check", "98", "--watch")
    assert status == 0
    assert steps == []
    assert [line for line in out.splitlines() if line.startswith(("✗", "!", "✓", "Stopped"))] == [
        "✗ Exercise 98.1, Double: wrong",
        "! 98_mine.py: the file could not be run",
        "✓ Exercise 98.1, Double: passed",
        "Stopped.",
    ]
    assert out.count("=====") >= 3


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as a signal")
def test_the_real_command_watches_and_ctrl_c_ends_it_with_0(tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "COURSE_PROGRESS": str(tmp_path / "p"),
        "PYTHONUNBUFFERED": "1",
    }
    run = subprocess.Popen(
        [sys.executable, "-m", "course_lib", "check", "03", "--watch"],
        cwd=tmp_path,
        env=environment,
        stdout=(tmp_path / "out").open("w"),
        stderr=subprocess.STDOUT,
    )
    path = tmp_path / "03_previous_token_head.py"
    try:
        wait_for(lambda: "Waiting for the next save" in (tmp_path / "out").read_text())
        path.write_text(path.read_text().replace(STUB, "return 1 / 0", 1))
        wait_for(lambda: (tmp_path / "out").read_text().count("Waiting for the next save") == 2)
    finally:
        run.send_signal(signal.SIGINT)
    assert run.wait(20) == 0
    out = (tmp_path / "out").read_text()
    assert out.count(": not attempted") == 5
    assert "ZeroDivisionError" in out and "`return 1 / 0`" in out
    assert "Traceback" not in out
    assert ast.parse(path.read_text())


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
