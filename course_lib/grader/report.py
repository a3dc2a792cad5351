"""results.jsonl as pages to read: a summary of the class and one page a learner, without scripts or requests.

Every text of a row may have been written by a learner. The templates escape each of them, and no address, class or
attribute is made of one: pages are named by a hash, states by a list of our own.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from base64 import b64encode
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from course_lib.grader.states import LOOKS, OF_AN_EXERCISE, counted, ids_in_order, look, number
from course_lib.grader.tally import Row, tally
from course_lib.grading.words import inline_html
from course_lib.recorded import write_whole

LONGEST = 4000  # characters of one text; a longer one is cut
_LABELS = frozenset(  # of `grading.report.findings`
    (
        "Also",
        "Case",
        "Checked",
        "Ended",
        "Error",
        "Expected",
        "In short",
        "Line",
        "Message",
        "Problem",
        "Too slow",
        "Why",
        "Yours",
    )
)
_JOINERS = "\u200c\u200d"  # some scripts cannot be written without them
_NEXT = {
    "wrong": 'Look at the failing case, then call `check("{id}", ...)` below your answer: it draws what differs.',
    "unattempted": 'Write your answer into the function of this exercise. `hint("{id}")` gives a nudge.',
    "error": "Restart the kernel and run your notebook from top to bottom: the same error should appear there.",
    "timeout": "Try a smaller input and time the parts: a loop over places can often be one tensor operation.",
    "oom": "Print the shapes of what you build: one of them is far larger than the input.",
    "crashed": "Restart the kernel and run the cell alone: does the kernel die? Take out what ends the process.",
    "invalid_notebook": "Open the file in Jupyter, save it again as .ipynb, and ask how to hand it in anew.",
    "grader_error": "You need not do anything. Your instructor has to grade this again.",
}


@dataclass(frozen=True)
class Wording:
    """What the specifications add to the rows.

    Attributes:
        sentences: exercise id -> mutant name -> the sentence that explains it.
        next_steps: exercise id -> what the answer is used for, shown when it passed.
    """

    sentences: dict[str, dict[str, str]] = field(default_factory=dict)
    next_steps: dict[str, str] = field(default_factory=dict)


def write_report(rows: Sequence[Row], folder: Path, wording: Wording, title: str = "Results") -> Path:
    """Write `index.html` and one page a learner into a folder; the path of the index.

    Pages of learners who are no longer among the rows are taken away.

    Args:
        rows: as in results.jsonl.
        wording: of the exercises that the rows name.
        title: heading of the summary.
    """
    learners = by_student(rows)
    rows = [row for _, own in learners for row in own]
    pages = {student: page_name(student) for student, _ in learners}
    made = _environment(wording)
    folder.mkdir(parents=True, exist_ok=True)
    for old in set(folder.glob("learner-*.html")) - {folder / name for name in pages.values()}:
        old.unlink()
    for student, own in learners:
        page = made.get_template("learner.html").render(title=student, student=student, rows=own)
        write_whole(folder / pages[student], page.encode())
    counts = tally(rows, wording.sentences)
    used = [state for state in OF_AN_EXERCISE if any(state in dict(one.states) for one in counts.exercises)]
    page = made.get_template("index.html").render(
        title=title, tally=counts, learners=learners, pages=pages, used=used, all_rows=rows
    )
    write_whole(folder / "index.html", page.encode())
    return folder / "index.html"


def by_student(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The rows of each learner, by name.

    A submission without a name stands for itself, and so do two of one assignment: they may come from two people whose
    names are spelt alike, and neither must read the other's page.
    """
    times = Counter((row["student"], row["assignment"]) for row in rows)
    doubtful = {student for (student, _), count in times.items() if count > 1 or not student}
    named = sorted(({**row, "student": _learner(row, doubtful)} for row in rows), key=_place)
    return [(student, list(own)) for student, own in groupby(named, key=lambda row: row["student"])]


def _learner(row: Row, doubtful: Container[str]) -> str:
    if row["student"] not in doubtful:
        return row["student"]
    return f"{row['student']} ({row['submission']})" if row["student"] else row["submission"]


def _place(row: Row) -> tuple[str, str, str]:
    return row["student"].casefold(), row["student"], row["submission"]


def page_name(student: str) -> str:
    """The file name of a learner's page: some letters of the name to read, and a hash that tells all names apart."""
    plain = unicodedata.normalize("NFKD", student).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "x"
    return f"learner-{readable}-{hashlib.sha256(student.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}.html"


def printable(value: Any) -> Any:
    """A text without control codes, lone surrogates and marks that turn the direction of reading; cut if too long."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    kept = "".join(letter if letter in "\n\t" or not _unwanted(letter) else "�" for letter in value[: LONGEST + 1])
    return kept if len(kept) <= LONGEST else kept[:LONGEST] + " ..."


def _unwanted(letter: str) -> bool:
    return letter not in _JOINERS and unicodedata.category(letter) in ("Cc", "Cs", "Cf", "Co", "Cn")


def _environment(wording: Wording) -> Environment:
    loader = PackageLoader("course_lib.grader")
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = loader.get_source(made, "report.css")[0]
    digest = b64encode(hashlib.sha256(css.encode()).digest()).decode()
    made.globals.update(
        css=Markup(css),
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        look=look,
        number=number,
        counted=counted,
        next_step=lambda state, exercise_id: _next_step(wording, state, exercise_id),
    )
    made.filters.update(_FILTERS)
    return made


def _next_step(wording: Wording, state: str, exercise_id: str | None) -> str:
    if state == "ok":
        return wording.next_steps.get(exercise_id or "", "")
    return _NEXT.get(state, "").replace("{id}", exercise_id or "")


def _in_order(row: Row) -> list[dict[str, Any]]:
    order = {exercise_id: place for place, exercise_id in enumerate(ids_in_order([e["id"] for e in row["exercises"]]))}
    return sorted(row["exercises"], key=lambda one: order[one["id"]])


def _states_of_row(row: Row) -> list[tuple[str, int]]:
    counts = Counter(one["state"] for one in row["exercises"])
    return [
        (state, counts[state]) for state in [*OF_AN_EXERCISE, *sorted(counts.keys() - LOOKS.keys())] if counts[state]
    ]


def _points(message: str) -> list[tuple[str, str]]:
    """The lines of a message as (label, text): "Why: no mask" has a label, any other line has none."""
    parts = [line.partition(": ") for line in message.splitlines() if line.strip()]
    return [(label, text) if label in _LABELS and colon else ("", label + colon + text) for label, colon, text in parts]


def _what_happened(row: Row) -> str:
    failed = [f"{one['id']}: {one['message']}" for one in row["exercises"] if one["state"] == "grader_error"]
    return " ".join([*map(str, row["problems"]), *failed]) or look(row["state"]).meaning


_FILTERS = {
    "inline": lambda text: Markup(inline_html(printable(text))),
    "known": lambda state: state if state in LOOKS else "unknown",
    "distinct": lambda values: sorted({str(value) for value in values}),
    "signs": lambda row: "".join(look(one["state"]).sign for one in _in_order(row)),
    "points": _points,
    "states_of_row": _states_of_row,
    "what_happened": _what_happened,
}
