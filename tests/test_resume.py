"""Long runs of the chapters: killed in the middle and run again; on a disk that is full, read-only or gone."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train import CONFIG, DATA, assert_same_weights, make, newest_step, spoilt

from course_lib import storage
from course_lib.data import CorpusBatches
from course_lib.runtime import run_folder
from course_lib.storage import Checkpoints, read_checked, write_checked
from course_lib.train import TrainConfig, train

ROOT = Path(__file__).resolve().parent.parent

# The chapter's own cells, up to the function that trains a model, and a call of that function.
CHAPTER = """
import sys
from pathlib import Path
from tools.nb_source import Report, read_source
cells = [c for c in read_source(Path(), "chapters/07_smeared_keys.md", Report()).cells if c.kind == "code"]
space = {}
PARTS = ("from course_lib.runtime import", "LIMIT = {", "def own_share", "def measure_heads", "def synthetic_run")
for wanted in PARTS:
    [cell] = [cell for cell in cells if wanted in cell.source]
    exec(cell.source, space)
space["synthetic_run"]("2 layers", 0)
"""
CHECKPOINTS = (200, 300)  # of that run: the default of `checkpoint_every`, and the end
FOLDER = "07-synthetic-2-layers-0"


def start_chapter(runs):
    environment = os.environ | {"COURSE_RUNS": str(runs), "COURSE_STATIC": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", CHAPTER], cwd=ROOT, env=environment)


def final_state(folder):
    content = read_checked(max(folder.glob("*.checkpoint")))
    return torch.load(io.BytesIO(content), weights_only=True)


def without_seconds(records):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def test_the_training_of_a_chapter_killed_in_the_middle_ends_the_same(tmp_path):
    killed = start_chapter(tmp_path / "killed")
    whole = start_chapter(tmp_path / "whole")
    while newest_step(tmp_path / "killed" / FOLDER) < CHECKPOINTS[0]:
        assert killed.poll() is None, "ended before it could be killed"
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert newest_step(tmp_path / "killed" / FOLDER) == CHECKPOINTS[0]
    assert whole.wait() == 0 and start_chapter(tmp_path / "killed").wait() == 0
    one, two = (final_state(tmp_path / name / FOLDER) for name in ("whole", "killed"))
    assert one["counters"][:2] == two["counters"][:2] and one["counters"][0] == CHECKPOINTS[1]
    for part in ("model", "records"):
        theirs, ours = (without_seconds(s[part]) if part == "records" else s[part] for s in (one, two))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_run_folder_follows_the_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_RUNS", raising=False)
    assert run_folder("06") is None
    monkeypatch.setenv("COURSE_RUNS", "~/runs")
    assert run_folder("06") == Path.home() / "runs" / "06"


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that takes the first checkpoints and has no room for later ones, until it is given some."""
    disk = {"room": 2, "tried": 0}

    def write(path, content):
        disk["tried"] += 1
        if disk["tried"] > disk["room"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_checked(path, content)

    monkeypatch.setattr(storage, "write_checked", write)
    return disk


def test_on_a_full_disk_training_goes_on_and_says_so(tmp_path, full_disk, capsys):
    whole, model = make(), make()
    expected = train(whole, DATA, TrainConfig(**CONFIG))
    history = train(model, DATA, TrainConfig(**CONFIG), folder=tmp_path)
    assert_same_weights(whole, model)
    assert without_seconds(history.records) == without_seconds(expected.records)
    said = capsys.readouterr().out
    for words in (
        "checkpoint of step 21 could not be written",
        "No space left on device",
        str(tmp_path),
        "COURSE_RUNS",
    ):
        assert words in said
    assert "a run that is interrupted now goes on from step 14" in said
    assert newest_step(tmp_path) == 14 and len(list(tmp_path.iterdir())) == 2  # what was whole stays
    full_disk["room"] = 100
    resumed = spoilt()
    train(resumed, DATA, TrainConfig(**CONFIG), folder=tmp_path)
    assert_same_weights(whole, resumed)
    assert newest_step(tmp_path) == 30


def test_a_folder_that_cannot_be_made_is_said_before_the_first_step(tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    whole, model = make(), make()
    train(whole, DATA, TrainConfig(**CONFIG))
    said = []
    train(model, DATA, TrainConfig(**CONFIG), lambda m: said.append(capsys.readouterr().out) or {}, tmp_path / "file")
    assert_same_weights(whole, model)
    assert said[0].startswith(f"Checkpoints cannot be written to {tmp_path / 'file'} (")
    assert "interrupted now begins again" in said[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_must_not_be_written_is_said_too(tmp_path, capsys):
    tmp_path.chmod(0o500)
    train(make(), DATA, TrainConfig(**CONFIG), folder=tmp_path / "run")
    tmp_path.chmod(0o700)
    assert "Permission denied" in capsys.readouterr().out


def test_checkpoints_that_cannot_be_read_are_passed_over(tmp_path, monkeypatch, capsys):
    saved = Checkpoints(tmp_path)
    for step in (7, 14):
        saved.write(step, b"state %d" % step)

    def read(path):
        if "14" in path.name:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))  # a mounted drive that is gone
        return read_checked(path)

    monkeypatch.setattr(storage, "read_checked", read)
    assert next(saved.whole()) == b"state 7" and saved.step == 7
    assert "step-000000014.checkpoint cannot be read" in capsys.readouterr().out


def test_progress_is_kept_below_checkpoints_that_are_damaged(tmp_path):
    for step in (28, 35):
        (tmp_path / f"step-{step:09d}.checkpoint").write_bytes(b"damaged")
    saved = Checkpoints(tmp_path)
    for step in (7, 14, 21):
        saved.write(step, b"state %d" % step)
    assert next(Checkpoints(tmp_path).whole()) == b"state 21"
    assert sorted(int(path.stem[5:]) for path in saved.files()) == [14, 21, 28, 35]


def test_files_of_others_in_the_folder_are_left_alone(tmp_path, capsys):
    saved = Checkpoints(tmp_path)
    saved.write(7, b"state 7")
    others = [tmp_path / name for name in ("step-best.checkpoint", "step-000000001-mine.checkpoint", "notes.txt")]
    for other in others:
        other.write_bytes(b"mine")
    half = tmp_path / "step-000000014.checkpointab12.partial"
    half.write_bytes(b"half of a checkpoint, left by a kill")
    again = Checkpoints(tmp_path)
    assert next(again.whole()) == b"state 7"
    again.try_out()
    for step in (14, 21, 28):
        again.write(step, b"state %d" % step)
    assert all(other.read_bytes() == b"mine" for other in others) and not half.exists()
    assert len(list(tmp_path.glob("*"))) == 2 + len(others)
    assert not capsys.readouterr().out


def test_whole_files_with_other_content_are_passed_over(tmp_path, capsys):
    whole, model = make(), spoilt()
    train(whole, DATA, TrainConfig(**CONFIG), folder=tmp_path)
    write_checked(tmp_path / "step-000000098.checkpoint", b"hello")
    packed = io.BytesIO()
    torch.save({"weights": 3}, packed)
    write_checked(tmp_path / "step-000000099.checkpoint", packed.getvalue())
    train(model, DATA, TrainConfig(**CONFIG), folder=tmp_path)
    assert_same_weights(whole, model)
    assert capsys.readouterr().out.count("is not one of a training run") == 2


def test_a_good_checkpoint_is_not_passed_over_for_want_of_memory(tmp_path, monkeypatch):
    train(make(), DATA, TrainConfig(**CONFIG), folder=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def load(*_arguments, **_options):
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(torch.OutOfMemoryError):
        train(make(), DATA, TrainConfig(**CONFIG), folder=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_does_not_write_where_another_has_begun(tmp_path, capsys):
    first, second = Checkpoints(tmp_path), Checkpoints(tmp_path)
    second.write(5, b"second, 5")
    first.write(7, b"first, 7")
    assert "Another run writes to" in capsys.readouterr().out
    second.write(10, b"second, 10")
    second.write(15, b"second, 15")
    assert [read_checked(path) for path in second.files()] == [b"second, 15", b"second, 10"]


def test_the_name_of_a_text_says_its_content_and_not_how_numpy_prints_it():
    tokens = np.arange(5000, dtype=np.uint16)
    name = repr(CorpusBatches(tokens, 4, 16, seed=0))
    assert name == (
        "CorpusBatches(5000 tokens, sha256 "
        f"{hashlib.sha256(tokens.tobytes()).hexdigest()[:16]}, batch=4, n_ctx=16, seed=0)"
    )
    changed = tokens.copy()
    changed[2500] += 1  # in the middle, which numpy does not print
    assert repr(CorpusBatches(changed, 4, 16, seed=0)) != name
