"""The results of a run: results.jsonl, which is the truth, and what is made from it: a CSV file and JUnit XML."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from course_lib.grader.states import ids_in_order
from course_lib.grader.store import written_whole

Row = dict[str, Any]
_FORMULA = tuple("=+-@|%\uff1d\uff0b\uff0d\uff20")
_LATER_FORMULA = re.compile(rf"(;\s*)(?=[{re.escape(''.join(_FORMULA))}])")
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PLAIN = ("submission", "student", "assignment", "state", "score", "max_score")
_LISTS = ("problems", "skipped", "similar", "isolation")
_IN_JUNIT = {"wrong": "failure", "timeout": "failure", "error": "failure", "oom": "failure", "crashed": "failure"}


def write_results(rows: Callable[[], Iterable[Row]], out: Path) -> None:
    """Write results.jsonl, results.csv and results.xml, each whole or not at all.

    Args:
        rows: gives the rows, sorted by submission; it is called more than once, so that they need not lie in memory.
        out: the folder.
    """
    with written_whole(out / "results.jsonl") as file:
        for row in rows():
            file.write(line_of(row))
    write_csv(rows, out / "results.csv")
    write_junit(rows, out / "results.xml")


def line_of(row: Row) -> bytes:
    """A row as it stands in results.jsonl."""
    return json.dumps(row, sort_keys=True).encode() + b"\n"


def read_results(path: Path) -> Iterator[Row]:
    """The rows of a results.jsonl.

    Raises:
        ValueError: a line that is no row.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict) or "submission" not in row:
                raise ValueError(f"line {number} of {path.name} must be a row of results; it is something else")
            yield row


def write_csv(rows: Callable[[], Iterable[Row]], path: Path) -> None:
    """A table for people and spreadsheets: no cell of it is taken for a formula."""
    ids = ids_in_order([one["id"] for row in rows() for one in row["exercises"]])
    columns = [*_PLAIN, *(f"{one} {what}" for one in ids for what in ("points", "state")), *_LISTS, "seed", "sha256"]
    with written_whole(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        table = csv.writer(text, lineterminator="\r\n")
        table.writerow(columns)
        table.writerows([_safe(value) for value in _cells(row, ids)] for row in rows())
        text.detach()


def _cells(row: Row, ids: list[str]) -> Iterator[Any]:
    found = {one["id"]: one for one in row["exercises"]}
    yield from (row[name] for name in _PLAIN)
    for exercise_id in ids:
        one = found.get(exercise_id, {})
        yield from (one.get("points"), one.get("state"))
    yield from ("; ".join(map(str, row[name])) for name in _LISTS)
    yield from (row["seed"], row["sha256"])


def _safe(value: Any) -> Any:
    """A value that no spreadsheet runs and no terminal obeys.

    Text that begins like a formula gets an apostrophe; control codes, which a file name can hold, are left out.
    """
    if not isinstance(value, str):
        return "" if value is None else value
    return formula_safe(_CONTROL.sub("", value))


def formula_safe(cell: str) -> str:
    """A cell that no spreadsheet runs: what begins like a formula gets an apostrophe before it.

    So does what follows a `;`, where many spreadsheets begin another cell.
    """
    cell = _LATER_FORMULA.sub(r"\1'", cell)
    dangerous = cell.lstrip()[:1] in _FORMULA or cell[:1] in ("\t", "\r", "\n")
    return f"'{cell}" if dangerous and not NUMBER.fullmatch(cell) else cell


def one_line(text: str) -> str:
    """Text that no terminal obeys, on one line: without the control codes that the name of a file can hold."""
    return _CONTROL.sub("", text.replace("\n", " ").replace("\t", " "))


def write_junit(rows: Callable[[], Iterable[Row]], path: Path) -> None:
    """JUnit XML, which build servers show: a suite for each submission, a case for each exercise."""
    with written_whole(path) as file:
        file.write(b'<?xml version="1.0" encoding="utf-8"?>\n<testsuites>\n')
        for row in rows():
            file.write(ElementTree.tostring(_suite(row), encoding="utf-8", xml_declaration=False) + b"\n")
        file.write(b"</testsuites>\n")


def _suite(row: Row) -> ElementTree.Element:
    cases = [_case(row, one) for one in row["exercises"]]
    if not cases:  # a file that is no notebook is one failure, not an empty suite
        cases = [_case(row, {"id": "", "title": "submission", "state": row["state"], "message": ""})]
    counts = {tag: sum(case.find(tag) is not None for case in cases) for tag in ("failure", "error", "skipped")}
    plural = {"failure": "failures", "error": "errors", "skipped": "skipped"}
    numbers = {plural[tag]: str(count) for tag, count in counts.items()}
    suite = ElementTree.Element("testsuite", name=_xml(row["submission"]), tests=str(len(cases)), **numbers)
    suite.extend(cases)
    return suite


def _case(row: Row, one: dict[str, Any]) -> ElementTree.Element:
    name = f"{one['id']} {one['title']}".strip()
    case = ElementTree.Element("testcase", classname=_xml(row["submission"]), name=_xml(name))
    state, text = one["state"], one["message"] or "; ".join(map(str, row["problems"]))
    if state not in ("ok", "partial"):
        tag = "skipped" if state == "unattempted" else _IN_JUNIT.get(state, "error")
        ElementTree.SubElement(case, tag, message=_xml(state)).text = _xml(text)
    return case


def _xml(text: str) -> str:
    """Text without the characters that XML 1.0 cannot hold."""
    return "".join(letter for letter in text if _in_xml(ord(letter)))


def _in_xml(code: int) -> bool:
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
