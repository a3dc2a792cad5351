"""The tool that takes a new user's steps: in an empty folder, with nothing of this checkout, and a failure is loud."""

import subprocess

import pytest

from tools import new_user


def test_steps_are_taken_in_order_in_a_home_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_RUNS", "/somewhere")
    steps = (("write", "echo $HOME,$COURSE_RUNS,$PIP_NO_CACHE_DIR > seen"), ("read", "cp seen ../copy"))
    taken = new_user.timed_steps(tmp_path, steps)
    assert [step["step"] for step in taken] == ["write", "read"] and all(step["seconds"] > 0 for step in taken)
    assert (tmp_path / "copy").read_text() == f"{tmp_path / 'home'},,1\n"


def test_a_step_that_fails_ends_it(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        new_user.timed_steps(tmp_path, (("fail", "false"), ("never", "touch ../reached")))
    assert not (tmp_path / "reached").exists()


def test_a_failure_keeps_the_record(tmp_path, monkeypatch, capsys):
    record = tmp_path / "record.json"
    record.write_text("before")
    monkeypatch.setattr(new_user, "RECORD", record)
    monkeypatch.setattr(new_user.timed_steps, "__defaults__", ((("fail", "echo why; false"),),))
    assert new_user.main() == 1 and record.read_text() == "before"
    assert "why" in capsys.readouterr().out


def test_the_table_adds_up():
    steps = [{"step": "clone", "seconds": 60.0}, {"step": "run", "seconds": 90.0}]
    text = new_user.table({"steps": steps, "hardware": "a machine", "cores": 2, "date": "2026-11-29"})
    assert "| clone | 1.0 |" in text and "| together | 2.5 |" in text and "a machine, 2 cores, 2026-11-29" in text
