"""The hostile corpus, graded through the real entry: no forged point, no hang, no lost row, nothing left behind.

A part of the corpus is graded by default; `HOSTILE_EVERY=1` takes all of it, and some minutes.
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from course_lib.__main__ import main
from course_lib.grader.isolation import probe
from tests.hostile import CORPUS, MODULES
from tests.hostile.checks import active_pages, broken, growth, too_slow
from tests.hostile.entry import COMPANION
from tests.hostile.ground import ROOT, can_fence, grade_corpus

EVERY = int(os.environ.get("HOSTILE_EVERY", "4"))
RARELY = 3 * EVERY  # for the runs with less isolation
NOBODY = 65534
ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="only root becomes another user")


def some(step: int, start: int = 0):
    """Each n-th entry, so that every family is there, and all controls."""
    return tuple(entry for place, entry in enumerate(CORPUS) if place % step == start % step or entry.scores)


def watched() -> dict[str, tuple[int, int, int]]:
    """Size, time of change and rights of every file that grading must leave alone."""
    folders = [ROOT / name for name in ("course_lib", "solutions", "exercises", "tests")]
    files = [path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_mode) for path in files}


def test_the_corpus_is_large_and_its_names_are_unique():
    assert len(some(EVERY)) >= 120
    assert len({entry.name for entry in CORPUS}) == len(CORPUS) == len({entry.file for entry in CORPUS})
    assert all(module.ENTRIES for module in MODULES)
    assert sum(entry.scores is True for entry in CORPUS) >= 5


def test_nothing_hostile_gets_through(tmp_path):
    before = watched()
    graded = grade_corpus(tmp_path / "in", some(EVERY))
    assert main(["report", str(graded.scene.results)]) == 0
    assert broken(graded, active_pages) == {}
    after = watched()
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == set()


def test_an_attack_costs_the_answer_beside_it_nothing(tmp_path):
    """One worker gives all answers of a submission that are right; what an attack did to it takes no point away."""
    graded = grade_corpus(tmp_path / "in", some(RARELY, 4), company=True)
    assert broken(graded) == {}


def test_a_second_run_is_identical_to_the_byte(tmp_path):
    """But for rows that met a limit: which one a bomb meets first depends on the load of the machine."""
    graded = grade_corpus(tmp_path / "in", some(RARELY, 1), runs=2)
    second = (tmp_path / "in" / "results_1" / "results.jsonl").read_bytes()
    pairs = zip(graded.results.splitlines(), second.splitlines(), strict=True)
    limits = re.compile(rb'"state": "(timeout|oom|crashed)"')
    assert [pair for pair in pairs if len(set(pair)) > 1 and not any(map(limits.search, pair))] == []


def test_landlock_alone_is_safe(tmp_path):
    """What Docker and a plain server give: no namespaces, no other user."""
    if not (can_fence() and probe()["landlock"]):
        pytest.skip("no Landlock, or no table of processes of its own to fence off a signal to all")
    graded = grade_corpus(tmp_path / "in", some(RARELY, 2), level="landlock")
    assert graded.facts["isolation"] == ["limits", "landlock"]
    assert broken(graded) == {}


def way_for_others() -> tuple[str, ...]:
    """A command that lets any user reach Python, where a folder above it is closed to others; inside a fence."""
    base = Path(sys.base_prefix)
    closed = [place for place in (base, *base.parents) if not place.stat().st_mode & 0o001]
    if not closed:
        return ()
    above = closed[-1]
    steps = f"mount --bind {base} /mnt && mount -t tmpfs -o mode=0755 none {above} && mkdir -p {base}"
    return ("sh", "-c", f'{steps} && mount --move /mnt {base} && exec "$@"', "sh")


@pytest.fixture
def open_folder():
    """A folder that every user may reach; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@ROOT_ONLY
def test_an_ordinary_user_is_as_safe(open_folder):
    if not can_fence():
        pytest.skip("no table of processes of its own, so nothing would stop a signal to all")
    nobody = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
    before = (*way_for_others(), "setpriv", *nobody)
    graded = grade_corpus(open_folder / "in", some(RARELY, 3), before=before, owner=NOBODY)
    assert "limits" in graded.facts["isolation"] and "uid" not in graded.facts["isolation"]
    assert broken(graded) == {}


def test_a_check_that_should_complain_does(tmp_path):
    """The checks themselves, on a run that was spoilt afterwards."""
    controls = tuple(entry for entry in CORPUS if entry.name.startswith("control_"))
    graded = grade_corpus(tmp_path / "in", controls, company=True)
    assert broken(graded) == {}
    graded.facts |= {"beyond": [100.0], "memory": [100.0] * 8 + [900.0] * 8}
    graded.rows[0]["score"] = 0
    next(one for one in graded.rows[1]["exercises"] if one["id"] == COMPANION)["state"] = "wrong"
    graded.rows.pop()
    graded.scene.marks.joinpath("planted").touch()
    graded.scene.secret.write_text("changed")
    graded.facts |= {"left": ["7 R sleep"], "changed": {"umask": [1, 2]}}
    graded.heard.append("a word")
    found = broken(graded)
    assert {"lost_rows", "right_answers_without_points", "planted_files", "told_secrets"} <= found.keys()
    assert "neighbours_without_points" in found
    assert {"processes_left", "changes_of_the_grader", "calls_over_the_network"} <= found.keys()
    assert growth(graded) and too_slow(graded)
