"""The hostile corpus, graded through the real entry: no forged point, no hang, no lost row, nothing left behind."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.hostile import CORPUS, MODULES
from tests.hostile.ground import LIMITS, ROOT, grade_corpus

SLACK = 2.0  # seconds beyond a limit
NOBODY = 65534
QUICK_EVERY = 4  # the second run and the ordinary user take each fourth entry


def watched() -> dict[str, tuple[int, int, int]]:
    """Size, time of change and rights of every file that grading must leave alone."""
    folders = [ROOT / name for name in ("course_lib", "solutions", "exercises", "chapters", "tests")]
    files = [path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_mode) for path in files}


@pytest.fixture(scope="module")
def before():
    return watched()


@pytest.fixture(scope="module")
def graded(tmp_path_factory, before):
    folder = tmp_path_factory.mktemp("hostile")
    return grade_corpus(folder)


def must_fail(entry, layers) -> bool:
    """An attack must fail unless the layers that stop it are missing on this machine."""
    return entry.scores is False and (not entry.needs or bool(entry.needs & set(layers)))


def test_the_corpus_is_large_and_its_names_are_unique():
    assert len(CORPUS) >= 120
    assert len({entry.name for entry in CORPUS}) == len(CORPUS) == len({entry.file for entry in CORPUS})
    assert all(module.ENTRIES for module in MODULES)
    assert sum(entry.scores is True for entry in CORPUS) >= 5


def test_every_submission_has_its_row(graded):
    missing = [entry.name for entry in graded.entries.values() if entry.n_rows != 0 and not graded.rows_of(entry)]
    assert not missing
    wrong = {
        entry.name: len(graded.rows_of(entry))
        for entry in graded.entries.values()
        if entry.n_rows not in (None, len(graded.rows_of(entry)))
    }
    assert not wrong
    assert len({row["submission"] for row in graded.rows}) == len(graded.rows)


def test_no_point_is_forged(graded):
    layers = graded.facts["isolation"]
    forged = [
        (entry.name, row["score"])
        for entry in graded.entries.values()
        for row in graded.rows_of(entry)
        if must_fail(entry, layers) and row["score"] != 0
    ]
    assert not forged


def test_right_answers_among_the_hostile_ones_score_full(graded):
    for entry in graded.entries.values():
        for row in graded.rows_of(entry) if entry.scores else ():
            assert row["score"] == 1, (entry.name, row["exercises"])


def test_every_state_is_one_that_was_foreseen(graded):
    layers, odd = graded.facts["isolation"], {}
    for entry in graded.entries.values():
        for row in graded.rows_of(entry):
            state = row["state"] if entry.row else {one["id"]: one for one in row["exercises"]}[entry.exercise]["state"]
            if state not in entry.states and (must_fail(entry, layers) or entry.scores):
                odd[entry.name] = state
    assert not odd


def test_the_grader_is_never_to_blame(graded):
    blamed = {row["submission"]: row["problems"] for row in graded.rows if row["state"] == "grader_error"}
    assert not blamed


def test_nothing_takes_longer_than_its_limit_and_two_seconds(graded):
    most = LIMITS["setup_seconds"] + LIMITS["seconds"] + SLACK
    slow = {name: seconds for name, seconds in graded.timings.items() if seconds > most}
    assert not slow


def test_no_process_is_left(graded):
    assert not graded.facts["left"]


def test_the_graders_own_state_is_unchanged(graded):
    assert not graded.facts["changed"]


def test_nothing_reached_the_graders_streams(graded):
    assert graded.scene.token not in graded.output and "\x1b" not in graded.output


def test_nothing_was_planted(graded):
    assert not graded.planted


def test_nobody_called_the_network(graded):
    assert not graded.heard


def test_the_files_of_the_repository_are_unchanged(graded, before):
    after = watched()
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == set()


def test_the_secret_is_unchanged_and_told_to_nobody(graded):
    assert graded.scene.secret.read_text() == f"the secret is {graded.scene.token}"
    told = [row["submission"] for row in graded.rows if "the secret is" in str(row)]
    assert not told


def test_no_process_appears_later_and_writes(graded):
    time.sleep(1.5)  # the daemons of the corpus write after one second
    assert not list(graded.scene.marks.iterdir())


def test_memory_is_flat(graded):
    memory = graded.facts["memory"]
    early, late = memory[len(memory) // 4 : len(memory) // 2], memory[-len(memory) // 4 :]
    assert min(late) < max(early) + 48, (early[-1], late[-1])


def some(step: int, start: int = 0):
    """A part of the corpus in which every family is."""
    return tuple(entry for entry in CORPUS[start::step])


def test_a_second_run_is_identical_to_the_byte(tmp_path):
    graded = grade_corpus(tmp_path / "twice", some(QUICK_EVERY), runs=2)
    second = (tmp_path / "twice" / "results_1" / "results.jsonl").read_bytes()
    different = [
        (one, two) for one, two in zip(graded.results.splitlines(), second.splitlines(), strict=True) if one != two
    ]
    assert not different


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="only root can become somebody else")
def test_an_ordinary_user_is_as_safe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ordinary")
    for place in (folder, *folder.parents):
        if place.stat().st_uid == 0 and str(place).startswith(str(Path("/tmp").resolve())) and place != Path("/tmp"):
            place.chmod(place.stat().st_mode | 0o755)
    user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all")
    readable = subprocess.run([*user, "test", "-x", str(ROOT / "course_lib")], check=False).returncode == 0
    if not readable:
        pytest.skip("an ordinary user may not read this checkout")
    graded = grade_corpus(folder, some(QUICK_EVERY, 1), before=user, owner=NOBODY)
    layers = graded.facts["isolation"]
    assert "limits" in layers and "uid" not in layers
    rows = {entry.name: graded.rows_of(entry) for entry in graded.entries.values()}
    assert all(rows.values())
    forged = [
        entry.name
        for entry in graded.entries.values()
        for row in rows[entry.name]
        if must_fail(entry, layers) and row["score"]
    ]
    assert not forged and not graded.facts["left"] and not graded.facts["changed"] and not graded.planted
    assert not [row for row in graded.rows if row["state"] == "grader_error"]
