"""What must hold after a hostile corpus was graded. Each check gives what breaks it; nothing is as it should be."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

from tests.hostile.entry import COMPANION, Entry
from tests.hostile.ground import Graded

SLACK = 2.0 + 2.0  # seconds beyond a limit: what is promised, and what a busy machine with six workers takes
MEGABYTES = 48  # by which the grader may grow between the second and the last quarter of a run
DAEMONS_WRITE_AFTER = 1.5
CONTROLS = "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]"
TURNING = "[\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
ACTIVE = ("script", "img", "iframe", "object", "embed", "link", "base", "form")
Broken = list[Any]


def must_fail(entry: Entry, graded: Graded) -> bool:
    """An attack must fail, unless every layer that stops it is missing on this machine."""
    return entry.scores is False and (not entry.needs or bool(entry.needs & set(graded.facts["isolation"])))


def pairs(graded: Graded) -> Iterator[tuple[Entry, dict]]:
    """Every entry with each of its rows."""
    return ((entry, row) for entry in graded.entries.values() for row in graded.rows_of(entry))


def lost_rows(graded: Graded) -> Broken:
    """Submissions without a row, or with another number of rows than they must have."""
    counts = [(entry, len(graded.rows_of(entry))) for entry in graded.entries.values()]
    wrong = [entry.name for entry, n in counts if (n < 1 if entry.n_rows is None else n != entry.n_rows)]
    names = [row["submission"] for row in graded.rows]
    return wrong + [name for name in set(names) if names.count(name) > 1]


def forged_points(graded: Graded) -> Broken:
    """Attacks that scored."""
    return [(entry.name, row["score"]) for entry, row in pairs(graded) if must_fail(entry, graded) and _points(row)]


def _points(row: dict) -> int:
    """The score but for the points of an answer that stands beside the attack."""
    return (row["score"] or 0) - sum(one["points"] or 0 for one in row["exercises"] if one["id"] == COMPANION)


def right_answers_without_points(graded: Graded) -> Broken:
    """Controls that did not score."""
    return [(entry.name, row["exercises"]) for entry, row in pairs(graded) if entry.scores and _points(row) != 1]


def neighbours_without_points(graded: Graded) -> Broken:
    """Right answers beside an attack that did not score."""
    beside = [(entry, one) for entry, row in pairs(graded) for one in row["exercises"] if one["id"] == COMPANION]
    return [
        (entry.name, one) for entry, one in beside if not entry.row and one["state"] not in ("ok", "invalid_notebook")
    ]


def unforeseen_states(graded: Graded) -> Broken:
    """Rows that ended in another way than the entry allows."""
    found = []
    for entry, row in pairs(graded):
        entries = {one["id"]: one["state"] for one in row["exercises"]}
        state = row["state"] if entry.row else entries.get(entry.exercise)
        if state not in entry.states and (entry.scores or must_fail(entry, graded)):
            found.append((entry.name, state))
    return found


def faults_of_the_grader(graded: Graded) -> Broken:
    """Rows for which the grader takes the blame."""

    def states(row: dict) -> list[str]:
        return [row["state"], *(one["state"] for one in row["exercises"])]

    blamed = [row for row in graded.rows if "grader_error" in states(row)]
    return [(row["submission"], row["problems"], [one["message"][:200] for one in row["exercises"]]) for row in blamed]


def too_slow(graded: Graded) -> Broken:
    """By how many seconds jobs took longer than their cells and the calls which they ended may take."""
    return [seconds for seconds in graded.facts["beyond"] if seconds > SLACK]


def processes_left(graded: Graded) -> Broken:
    """Processes that the grader left behind."""
    return graded.facts["left"]


def changes_of_the_grader(graded: Graded) -> Broken:
    """Parts of the grader's own state that are not as they were."""
    return list(graded.facts["changed"].items())


def words_on_the_graders_streams(graded: Graded) -> Broken:
    """What a submission printed, and control codes, on the grader's own streams."""
    return re.findall(f"{graded.scene.token}|\x1b", graded.output)


def planted_files(graded: Graded) -> Broken:
    """Files outside, at once and after the daemons of the corpus would have written theirs."""
    time.sleep(DAEMONS_WRITE_AFTER)
    return graded.planted + [str(path) for path in graded.scene.marks.rglob("*")]


def calls_over_the_network(graded: Graded) -> Broken:
    """What the listeners heard."""
    return graded.heard


def told_secrets(graded: Graded) -> Broken:
    """Rows that hold what only a file outside holds; and that file, if it was changed."""
    text = f"the secret is {graded.scene.token}"
    changed = [] if graded.scene.secret.read_text() == text else [str(graded.scene.secret)]
    return changed + [row["submission"] for row in graded.rows if "the secret is" in str(row)]


def growth(graded: Graded) -> Broken:
    """The grader's memory in the second and in the last quarter, if it grew."""
    memory = graded.facts["memory"]
    quarter = max(1, len(memory) // 4)
    early, late = max(memory[quarter : 2 * quarter] or memory), min(memory[-quarter:])
    return [(early, late)] if late > early + MEGABYTES else []


def unsafe_cells(graded: Graded) -> Broken:
    """Cells of the table that a spreadsheet would run, or that hold control codes; lines of another length."""
    with open(graded.scene.results / "results.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    cells = [cell for line in lines[1:] for cell in line]
    formulas = [cell for cell in cells if re.match(r"\s*[=+@-]", cell) and not re.fullmatch(r"-?[\d.]+", cell)]
    shapes = {len(line) for line in lines}
    wrong = [(len(lines), shapes)] if len(shapes) > 1 or len(lines) != len(graded.rows) + 1 else []
    return formulas + [cell for cell in cells if re.search(CONTROLS, cell)] + wrong


def broken_xml(graded: Graded) -> Broken:
    """Suites that are missing, and cases that a submission made up."""
    suites = ElementTree.parse(graded.scene.results / "results.xml").getroot()
    made_up = [case.get("name") for case in suites.iter("testcase") if graded.scene.token in (case.get("name") or "")]
    return made_up + ([] if len(suites) == len(graded.rows) else [len(suites)])


def unprintable_results(graded: Graded) -> Broken:
    """Messages with control codes or letters that turn the text round, and those that are too long."""
    found = []
    for row in graded.rows:
        shown = json.dumps([row["exercises"], row["problems"], row["skipped"]], ensure_ascii=False)
        longest = max((len(one["message"]) for one in row["exercises"]), default=0)
        if re.search(f"{CONTROLS}|{TURNING}", shown) or longest > 2000:
            found.append((row["submission"], longest))
    return found


class _Elements(HTMLParser):
    """All elements of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))


def active_pages(graded: Graded) -> Broken:
    """What runs, loads something or leads elsewhere on the pages of the report."""
    folder = graded.scene.results / "html"
    pages = {path.resolve(): path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    found = [] if len(pages) > 1 else ["there are no pages"]
    for path, text in pages.items():
        found += [(path.name, match) for match in re.findall(f"{CONTROLS}|{TURNING}", text)]
        for tag, attributes in _Elements(text).found:
            handlers = [name for name in attributes if name.startswith("on") or name in ("src", "srcset")]
            found += [(path.name, tag, *handlers)] if handlers or tag in ACTIVE else []
            target = urlsplit(attributes.get("href") or "")
            local = not target.path or (path.parent / unquote(target.path)).resolve() in pages
            found += [] if local and not (target.scheme or target.netloc) else [(path.name, attributes["href"])]
    return found


CHECKS: tuple[Callable[[Graded], Broken], ...] = (
    lost_rows,
    forged_points,
    right_answers_without_points,
    neighbours_without_points,
    unforeseen_states,
    faults_of_the_grader,
    too_slow,
    processes_left,
    changes_of_the_grader,
    words_on_the_graders_streams,
    planted_files,
    calls_over_the_network,
    told_secrets,
    growth,
    unsafe_cells,
    broken_xml,
    unprintable_results,
)


def broken(graded: Graded, *more: Callable[[Graded], Broken]) -> dict[str, Broken]:
    """The checks that do not hold, and what breaks each."""
    found = {check.__name__: check(graded) for check in (*CHECKS, *more)}
    return {name: what for name, what in found.items() if what}
