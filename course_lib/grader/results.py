"""The records of a run written as results, or as one part of them, and parts merged into the results of the whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.grader.given import known_exercises
from course_lib.grader.rows import Record, Row
from course_lib.grader.similar import Alike, prints_from, published_print
from course_lib.grader.store import locked, written_whole
from course_lib.grader.tables import read_results, write_csv, write_junit, write_results
from course_lib.grading.spec import Exercise

__all__ = ["Records", "merge", "read_results", "write_csv", "write_junit", "write_part", "write_records"]

_SAME = {"seed": "seed", "exercises": "choice of exercises", "package": "version of course_lib", "class": "submissions"}


@dataclass(frozen=True)
class Records:
    """Records by the name of the submission, read when they are asked for."""

    names: Sequence[str]
    read: Callable[[str], Record]

    def __iter__(self) -> Iterator[Record]:
        return map(self.read, self.names)


def write_records(records: Records, out: Path, exercises: Mapping[str, Exercise]) -> Path:
    """Write the results of a whole class, and return the path of results.jsonl.

    Args:
        records: sorted by name.
        out: the folder.
        exercises: those that the records name, by id.
    """
    prints = {record["row"]["submission"]: prints_from(record["prints"]) for record in records}
    ids = {exercise_id for found in prints.values() for exercise_id in found}
    alike = Alike({one: published_print(exercises[one]) for one in sorted(ids)})
    for name, found in prints.items():
        alike.add(name, found)

    def rows() -> Iterator[Row]:
        for name, record in zip(records.names, records, strict=True):
            yield {**record["row"], "similar": alike.sentences(name, prints[name])}

    write_results(rows, out)
    return out / "results.jsonl"


def write_part(records: Records, out: Path, header: dict[str, Any]) -> Path:
    """Write the records of one shard, with what must agree in all of them, and return the path."""
    path = out / "part-{}-of-{}.jsonl".format(*header["shard"])
    with written_whole(path) as file:
        for line in (header, *records):
            file.write(json.dumps(line, sort_keys=True).encode() + b"\n")
    return path


def merge(parts: Sequence[Path], out: Path) -> Path:
    """Join the shards of a class into the results that one run would have written; returns the path of results.jsonl.

    Args:
        parts: folders that hold the parts of shards, or the parts themselves.
        out: the folder for the results; it may be one of the parts.

    Raises:
        ValueError: a part is missing or broken, or two do not belong together.
        InUse: a grader writes into `out` now.
    """
    paths = _paths(parts)
    headers = {path: _header(path) for path in paths}
    _check(headers)
    where: dict[str, tuple[Path, int, int]] = {}
    keys: dict[str, str] = {}
    for path in paths:
        for place, record in _lines(path):
            _check_record(record, path, where, keys)
            where[record["row"]["submission"]] = place
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / ".lock"):
        records = Records(sorted(where), lambda name: _at(*where[name]))
        return write_records(records, out, known_exercises())


def _paths(parts: Sequence[Path]) -> list[Path]:
    found = []
    for part in parts:
        inside = sorted(part.glob("part-*-of-*.jsonl")) if part.is_dir() else [part] if part.is_file() else []
        if not inside:
            raise ValueError(f"each part must be a folder that a run with --shard wrote, got {part}")
        found += inside
    return list({path.resolve(): path for path in found}.values())


def _header(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        try:
            header = json.loads(file.readline())
            complete = {"shard", *_SAME} <= header.keys()
        except (ValueError, AttributeError):
            complete = False
    if not complete:
        raise ValueError(f"a part must begin with the line that a run with --shard wrote; {path} does not")
    return header


def _check(headers: Mapping[Path, dict[str, Any]]) -> None:
    (first, header), *others = headers.items()
    for path, other in others:
        for name, words in _SAME.items():
            if other[name] != header[name]:
                raise ValueError(f"parts must have the same {words}: {first} and {path} differ")
        if other["shard"][1] != header["shard"][1]:
            raise ValueError(f"parts must be shards of the same number: {first} and {path} differ")
    missing = sorted(set(range(1, header["shard"][1] + 1)) - {one["shard"][0] for one in headers.values()})
    if missing:
        raise ValueError(f"all {header['shard'][1]} parts must be there; missing: {', '.join(map(str, missing))}")


def _lines(path: Path) -> Iterator[tuple[tuple[Path, int, int], Record]]:
    """Every record of a part, with the place where it stands."""
    with open(path, "rb") as file:
        start = len(file.readline())
        for line in file:
            try:
                record = json.loads(line)
                _ = record["row"]["submission"], record["keys"], record["prints"]
            except (ValueError, TypeError, KeyError):
                raise ValueError(f"{path} is broken at byte {start}: grade that shard again") from None
            yield (path, start, len(line)), record
            start += len(line)


def _at(path: Path, start: int, length: int) -> Record:
    with open(path, "rb") as file:
        file.seek(start)
        return json.loads(file.read(length))


def _check_record(record: Record, path: Path, where: Mapping[str, tuple[Path, int, int]], keys: dict[str, str]) -> None:
    name = record["row"]["submission"]
    if name in where and _at(*where[name]) != record:
        raise ValueError(f"two parts grade {name} differently: {where[name][0]} and {path}")
    for exercise_id, key in record["keys"].items():
        if keys.setdefault(exercise_id, key) != key:
            raise ValueError(f"parts must have the same specification of exercise {exercise_id}; {path} has another")
