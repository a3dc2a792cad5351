"""Time this course's grader beside nbgrader and otter-grader: `python -m benchmarks.grading` (or `make bench-grading`).

The graders take turns in every round, and the turns rotate. Each is run by its own command, its start included.
Then a large class, one in ten of its submissions hostile, goes through the course's grader alone; its memory is noted.
The figures are seconds of wall time for one submission: right, wrong and missing answers in the shares of a class.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

from benchmarks.compare import rotated, say, shortened, write_json
from benchmarks.graders.assignment import SEED, SHARES, SMALL, Assignment, large_ids, make_assignment
from benchmarks.graders.memory import Watch
from benchmarks.graders.peers import PEERS, Grader, Ours
from benchmarks.graders.spoilt import spoil
from benchmarks.process import ROOT, PeerError
from benchmarks.summary import quartiles
from tools.status import commit, processor

RECORD = ROOT / "course_lib" / "assets" / "runs" / "grading_benchmark.json"
QUICK_RECORD = ROOT / "_build" / "grading-quick.json"
ENVIRONMENT = ROOT / ".venv-graders"
BATCH = {
    "small": {"course": 100, "nbgrader": 4, "otter-grader": 2},
    "large": {"course": 100, "nbgrader": 2, "otter-grader": 1},
}
ROUNDS = {"small": 5, "large": 3}
CLASS = {"small": 1000, "large": 200}  # submissions of the run with hostile ones


def compare(size: str, assignment: Assignment, options: argparse.Namespace, folder: Path) -> dict:
    """All graders on one assignment, in turns; seconds a submission of each round."""
    programs = {"course": Path(sys.executable).parent}
    graders = {
        kind.name: kind(
            programs.get(kind.name, options.environment / "bin"), assignment, folder / f"{size}-{kind.name}"
        )
        for kind in (Ours, *PEERS)
    }
    found = {name: {"values": []} for name in graders}
    for name, grader in graders.items():
        attempt(found[name], grader.prepare)
    batches = {name: 2 for name in graders} if options.quick else BATCH[size]
    first = 0
    for turn in range(1 if options.quick else ROUNDS[size]):
        for name in rotated([name for name in graders if "failed" not in found[name]], turn):
            say(f"{size}, round {turn + 1}: {name}")
            attempt(found[name], one_round, graders[name], range(first, first + batches[name]), found[name])
        first += max(batches.values())
    return {name: values | {"batch": batches[name]} for name, values in found.items()}


def attempt(found: dict, action: Callable[..., None], *arguments: object) -> None:
    """Do it; a grader that fails stands in the record with its message."""
    try:
        action(*arguments)
    except PeerError as error:
        found["failed"] = str(error)
        say(f"failed: {error}")


def one_round(grader: Grader, numbers: Sequence[int], found: dict) -> None:
    """Grade a batch, keep its seconds a submission, and check that the scores are right."""
    grader.hand_in(numbers)
    started = time.perf_counter()
    grader.grade()
    found["values"].append(shortened((time.perf_counter() - started) / len(numbers)))
    expected = {number: grader.assignment.score(number) for number in numbers}
    found["wrong scores"] = found.get("wrong scores", 0) + sum(
        score != expected[number] for number, score in grader.scores().items()
    )


def large_class(size: str, assignment: Assignment, n: int, folder: Path) -> dict:
    """A class with hostile submissions through the course's grader: time, states and memory."""
    grader = Ours(Path(sys.executable).parent, assignment, folder / f"{size}-class")
    grader.hand_in(range(n))
    hostile = spoil(grader.folder / "submitted", n)
    say(f"{size}: a class of {n}, {len(hostile)} of them hostile")
    quiet = os.environ | {"PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, *grader.arguments()], cwd=grader.folder, env=quiet)
    memory = Watch(child.pid).until(child)
    seconds = time.perf_counter() - started
    scores = grader.scores()
    honest = {number: assignment.score(number) for number in range(n) if number not in hostile}
    return {
        "submissions": n,
        "hostile": len(hostile),
        "status": child.returncode,
        "seconds": round(seconds, 1),
        "seconds a submission": shortened(seconds / n),
        "rows": len(scores),
        "wrong scores": sum(scores.get(number) != score for number, score in honest.items()),
        "forged points": sum(scores.get(number, 0) for number in hostile),
    } | memory


def summary(found: dict) -> dict:
    """Median, quartiles and the ratio to the course's median for each grader that finished."""
    finished = {name: quartiles(values["values"]) for name, values in found.items() if values["values"]}
    ours = finished.get("course", (0.0, 0.0, 0.0))[1]
    return {
        name: {"low": low, "median": median, "high": high, "ratio": shortened(median / ours) if ours else None}
        for name, (low, median, high) in finished.items()
    }


def versions(environment: Path) -> dict[str, str]:
    """Versions of what was compared."""
    names = ("nbgrader", "otter-grader", "nbclient", "torch")
    code = f"from importlib.metadata import version; print(*map(version, {names}))"
    done = subprocess.run([str(environment / "bin" / "python"), "-c", code], capture_output=True, text=True)
    found = dict(zip((*names[:-1], "torch of the peers"), done.stdout.split(), strict=False))
    return {"python": platform.python_version(), "torch": version("torch")} | found


def provenance(options: argparse.Namespace, load: float, seconds: float) -> dict:
    """Where and how the record was made."""
    return {
        "command": " ".join(["python -m benchmarks.grading", *options.given]),
        "date": date.today().isoformat(),
        "commit": commit(),
        "quick": options.quick,
        "seed": SEED,
        "shares": SHARES,
        "hardware": f"{processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "workers of the course": Ours.parallel,
        "load before": round(load, 2),
        "seconds": round(seconds),
        "versions": versions(options.environment),
    }


def text(record: dict) -> str:
    """The comparison as lines of text."""
    lines = []
    for size, part in record["assignments"].items():
        lines.append(f"{size}: {len(part['ids'])} exercises, seconds a submission")
        for name, row in part["summary"].items():
            lines.append(
                f"  {name:14} {row['median']:8.3f}  ({row['low']:.3f} to {row['high']:.3f})  x {row['ratio']:.1f}"
            )
        run = part["class"]
        end, points, scores = run["megabytes"][-1], run["forged points"], run["wrong scores"]
        lines.append(
            f"  a class of {run['submissions']} with {run['hostile']} hostile: {run['seconds']} s, {run['rows']} rows,"
        )
        lines.append(f"  {points} forged points, {scores} wrong scores, {end} MB at the end")
    return "\n".join(lines)


def read_options(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grading", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="try the machinery; the figures mean nothing")
    parser.add_argument("--environment", type=Path, default=ENVIRONMENT, help="where nbgrader and otter are installed")
    options = parser.parse_args(arguments)
    options.given = arguments
    return options


def main(arguments: list[str]) -> int:
    """Measure, write the record, print what was found; returns the exit status."""
    options, started, load = read_options(arguments), time.perf_counter(), os.getloadavg()[0]
    parts = {}
    with tempfile.TemporaryDirectory(prefix="grading-") as name:
        for size, ids in {"small": SMALL, "large": large_ids()}.items():
            assignment = make_assignment(ids, Path(name) / size)
            found = compare(size, assignment, options, Path(name))
            run = large_class(size, assignment, 20 if options.quick else CLASS[size], Path(name))
            parts[size] = {"ids": ids, "graders": found, "summary": summary(found), "class": run}
    record = {"provenance": provenance(options, load, time.perf_counter() - started), "assignments": parts}
    target = QUICK_RECORD if options.quick else RECORD
    write_json(target, record)
    print(text(record))
    print(f"{target} is written.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
