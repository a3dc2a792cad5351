"""The hostile corpus, graded through the real entry: no forged point, no hang, no lost row, nothing left behind."""

import csv
import json
import os
import re
import shutil
import sys
import tempfile
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest

from course_lib.__main__ import main
from course_lib.grader.isolation import probe
from tests.hostile import CORPUS, MODULES
from tests.hostile.ground import LIMITS, ROOT, can_fence, grade_corpus

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


def test_the_table_holds_no_formula_and_no_control_code(graded):
    with open(graded.scene.results / "results.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    assert len(lines) == len(graded.rows) + 1 and len({len(line) for line in lines}) == 1
    cells = [cell for line in lines[1:] for cell in line]
    assert not [cell for cell in cells if re.match(r"\s*[=+@-]", cell) and not re.fullmatch(r"-?[\d.]+", cell)]
    assert not [cell for cell in cells if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", cell)]


def test_the_xml_is_whole(graded):
    suites = ElementTree.parse(graded.scene.results / "results.xml").getroot()
    assert len(suites) == len(graded.rows)
    assert not [case for case in suites.iter("testcase") if case.get("name") == graded.scene.token]


def test_the_results_are_plain_text(graded):
    text = graded.results.decode()
    assert len(text.splitlines()) == len(graded.rows)
    shown = json.dumps([row["exercises"] for row in graded.rows], ensure_ascii=False)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert max(len(one["message"]) for row in graded.rows for one in row["exercises"]) <= 2000


@pytest.fixture(scope="module")
def pages(graded):
    assert main(["report", str(graded.scene.results)]) == 0
    return {path: path.read_text(encoding="utf-8") for path in (graded.scene.results / "html").rglob("*.html")}


class Elements(HTMLParser):
    """All elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.found.append((tag, dict(attributes)))


def test_the_pages_run_nothing_and_load_nothing(pages):
    assert len(pages) > 1
    for path, text in pages.items():
        for tag, attributes in Elements(text).found:
            assert tag not in ("script", "img", "iframe", "object", "embed", "link", "base", "form", "h6"), (path, tag)
            assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset")], path
            target = attributes.get("href") or ""
            assert not re.match(r"\s*(javascript|data|https?|//)", target, re.I), (path, target)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text), path


def test_links_of_the_pages_lead_to_pages(pages, graded):
    for path, text in pages.items():
        for tag, attributes in Elements(text).found:
            target = unquote(urlsplit(attributes.get("href") or "").path)
            if tag == "a" and target:
                assert (path.parent / target).resolve() in {one.resolve() for one in pages}, (path, target)


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


def way_for(user: int) -> tuple[str, ...]:
    """A command that lets this user reach Python, where a folder above it is closed to others; inside a fence."""
    base = Path(sys.base_prefix)
    closed = [place for place in (base, *base.parents) if not place.stat().st_mode & 0o001]
    if not closed:
        return ()
    above, inside = closed[-1], base
    steps = f"mount --bind {inside} /mnt && mount -t tmpfs -o mode=0755 none {above} && mkdir -p {inside}"
    return ("sh", "-c", f'{steps} && mount --move /mnt {inside} && exec "$@"', "sh")


@pytest.fixture
def open_folder():
    """A folder that every user may reach; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="only root can become somebody else")
def test_an_ordinary_user_is_as_safe(open_folder):
    if not can_fence():
        pytest.skip("no table of processes of its own, so nothing would stop a signal to all")
    user = (
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    )
    before = (*way_for(NOBODY), *user)
    graded = grade_corpus(open_folder / "in", some(QUICK_EVERY, 1), before=before, owner=NOBODY)
    layers = graded.facts["isolation"]
    assert "limits" in layers and "uid" not in layers
    assert_safe(graded)


def test_landlock_alone_is_safe(tmp_path):
    """What Docker and a plain server give: no namespaces, no other user."""
    if not (can_fence() and probe()["landlock"]):
        pytest.skip("no Landlock, or no fence")
    graded = grade_corpus(tmp_path / "in", some(QUICK_EVERY, 2), level="landlock")
    assert graded.facts["isolation"] == ["limits", "landlock"]
    assert_safe(graded)


def assert_safe(graded):
    """The same as above in one: rows, points, processes, files, the grader's own state, the network."""
    layers = graded.facts["isolation"]
    rows = {entry.name: graded.rows_of(entry) for entry in graded.entries.values()}
    assert all(rows[entry.name] for entry in graded.entries.values() if entry.n_rows != 0)
    points = {entry.name: [row["score"] for row in rows[entry.name]] for entry in graded.entries.values()}
    entries = graded.entries.values()
    assert not [entry.name for entry in entries if must_fail(entry, layers) and any(points[entry.name])]
    assert not [entry.name for entry in entries if entry.scores and points[entry.name] != [1]]
    assert not [row["submission"] for row in graded.rows if row["state"] == "grader_error"]
    assert not graded.facts["left"] and not graded.facts["changed"] and not graded.planted and not graded.heard
