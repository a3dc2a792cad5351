"""Grades a folder in a test: the real entry, and what it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from course_lib.grader.grade import Options, grade_folder
from tests.hostile.entry import as_bytes

IDS_OF_STYLES = ("2.2", "3.1", "6.1")


def write_notebooks(folder: Path, notebooks: Mapping[str, Sequence[str]], **metadata: object) -> None:
    """One notebook for each name, of these code cells."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, cells in notebooks.items():
        (folder / f"{name}.ipynb").write_bytes(as_bytes(cells, **metadata))


def graded(folder: Path, out: Path, exercises: Sequence[str], parallel: int = 2) -> dict[str, dict]:
    """The rows of a run by submission."""
    grade_folder(folder, out, Options(seed=0, exercises=tuple(exercises), parallel=parallel))
    lines = (out / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["submission"]: row for row in map(json.loads, lines)}


def faults(row: dict) -> list[str]:
    """What is not full in a row, in words."""
    return [f"{one['id']}: {one['state']}: {one['message']}" for one in row["exercises"] if one["state"] != "ok"]
