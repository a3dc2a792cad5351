"""This course's grader, nbgrader and otter-grader on one assignment, each by its own command, as instructors run it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.graders.assignment import Assignment, notebook
from benchmarks.process import ROOT, PeerError
from course_lib.grader.rows import cores

NBGRADER_CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "course"
c.ExecutePreprocessor.timeout = 120
"""
CELL_TAGS = {"schema_version": 3, "task": False}


class Grader:
    """A grader, and a folder of its own for an assignment. Subclasses prepare, take submissions, grade, tell scores."""

    name = ""

    def __init__(self, programs: Path, assignment: Assignment, folder: Path) -> None:
        self.programs, self.assignment, self.folder = programs, assignment, folder
        folder.mkdir(parents=True)

    def command(self, program: str, *arguments: str | Path) -> None:
        """Run a program of this grader's environment in its folder.

        Raises:
            PeerError: there is no such program, or it fails.
        """
        path = self.programs / program
        if not path.exists():
            raise PeerError(f"there is no {program} in {self.programs}; make bench-grading makes it")
        quiet = {"PATH": f"{self.programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        given = [str(path), *map(str, arguments)]
        done = subprocess.run(given, cwd=self.folder, env=os.environ | quiet, capture_output=True, text=True)
        if done.returncode:
            raise PeerError(f"{program} {arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-400:]}")

    def prepare(self) -> None:
        """What is done once for an assignment."""

    def hand_in(self, numbers: Sequence[int]) -> None:
        """Write the submissions of these learners, and take away earlier ones."""
        raise NotImplementedError

    def grade(self) -> None:
        """Grade what was handed in; this is what is timed."""
        raise NotImplementedError

    def scores(self) -> dict[int, int]:
        """How many exercises are right, by learner."""
        raise NotImplementedError


class Ours(Grader):
    """`python -m course_lib grade`."""

    name = "course"
    parallel = cores()  # as where nothing else is asked for

    def hand_in(self, numbers: Sequence[int]) -> None:
        """Plain notebooks in one folder."""
        for name in ("submitted", "results"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "submitted").mkdir()
        for number in numbers:
            cells = [self.assignment.setup, *self.assignment.handed_in(number)]
            text = notebook([{"source": cell} for cell in cells])
            (self.folder / "submitted" / f"{number}.ipynb").write_text(text, encoding="utf-8")

    def arguments(self) -> list[str]:
        """The command line after the interpreter."""
        ids = ",".join(self.assignment.ids)
        paths = [str(self.folder / "submitted"), "--out", str(self.folder / "results")]
        return [
            "-m",
            "course_lib",
            "grade",
            *paths,
            "--exercises",
            ids,
            "--seed",
            "0",
            "--jobs",
            str(self.parallel),
            "--quiet",
        ]

    def grade(self) -> None:
        """All of them, with the start of the grader."""
        self.command(Path(sys.executable).name, *self.arguments())

    def scores(self) -> dict[int, int]:
        """From results.jsonl."""
        lines = (self.folder / "results" / "results.jsonl").read_text(encoding="utf-8").splitlines()
        rows = {row["submission"]: row for row in map(json.loads, lines)}
        passed = {name: sum(one["state"] == "ok" for one in row["exercises"]) for name, row in rows.items()}
        return {int(name.removesuffix(".ipynb")): n for name, n in passed.items() if name[0].isdigit()}


class Nbgrader(Grader):
    """`nbgrader autograde`: a Jupyter kernel for each notebook, one after the other."""

    name = "nbgrader"

    def prepare(self) -> None:
        """Register the assignment."""
        (self.folder / "nbgrader_config.py").write_text(NBGRADER_CONFIG)
        answers = [f"### BEGIN SOLUTION\n{one.right}\n### END SOLUTION" for one in self.assignment.answers]
        self._write(self.folder / "source" / "hw", answers)
        self.command("nbgrader", "generate_assignment", "hw", "--force")

    def _write(self, folder: Path, answers: Sequence[str]) -> None:
        folder.mkdir(parents=True)
        made = [{"source": self.assignment.setup}]
        for one, code in zip(self.assignment.answers, answers, strict=True):
            own = {"grade": False, "solution": True, "locked": False, "grade_id": f"answer-{one.name}"}
            test = {"grade": True, "solution": False, "locked": True, "grade_id": f"test-{one.name}", "points": 1}
            made += [{"source": code, "metadata": {"nbgrader": CELL_TAGS | own}}]
            made += [{"source": one.check, "metadata": {"nbgrader": CELL_TAGS | test}}]
        (folder / "hw.ipynb").write_text(notebook(made), encoding="utf-8")

    def hand_in(self, numbers: Sequence[int]) -> None:
        """nbgrader's own layout."""
        for name in ("submitted", "autograded"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for number in numbers:
            self._write(self.folder / "submitted" / f"s{number}" / "hw", self.assignment.handed_in(number))
        self._numbers = tuple(numbers)

    def grade(self) -> None:
        """All that was handed in."""
        self.command("nbgrader", "autograde", "hw", "--force")

    def scores(self) -> dict[int, int]:
        """From the table that nbgrader exports."""
        self.command("nbgrader", "export", "--to", "grades.csv")
        with open(self.folder / "grades.csv", encoding="utf-8", newline="") as file:
            found = {int(row["student_id"][1:]): int(float(row["score"] or 0)) for row in csv.DictReader(file)}
        return {number: found[number] for number in self._numbers}


class Otter(Grader):
    """`otter run`, which grades one notebook without a container; `otter grade` starts a container for each."""

    name = "otter-grader"

    def prepare(self) -> None:
        """The tests, packed as otter wants them."""
        tests = self.folder / "tests"
        tests.mkdir()
        for one in self.assignment.answers:
            code = "".join(
                f">>> {line}\n" if number == 0 else f"... {line}\n"
                for number, line in enumerate(one.check.splitlines())
            )
            case = {"code": code, "hidden": False, "locked": False}
            suite = {"cases": [case], "scored": True, "setup": "", "teardown": "", "type": "doctest"}
            test = {"name": one.name, "points": 1, "suites": [suite]}
            (tests / f"{one.name}.py").write_text(f"OK_FORMAT = True\ntest = {test!r}\n", encoding="utf-8")
        self.command("otter", "generate", "-t", tests, "-o", self.folder / "autograder.zip", "--no-environment")

    def hand_in(self, numbers: Sequence[int]) -> None:
        """Plain notebooks; otter wants its own import in them."""
        shutil.rmtree(self.folder / "submitted", ignore_errors=True)
        (self.folder / "submitted").mkdir()
        for number in numbers:
            cells = [self.assignment.setup, *self.assignment.handed_in(number)]
            text = notebook([{"source": cell} for cell in cells])
            (self.folder / "submitted" / f"{number}.ipynb").write_text(text, encoding="utf-8")

    def grade(self) -> None:
        """One command for each notebook."""
        for file in sorted((self.folder / "submitted").iterdir()):
            out = self.folder / "results" / file.stem
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            self.command("otter", "run", file, "-a", self.folder / "autograder.zip", "-o", out, "--no-logo")

    def scores(self) -> dict[int, int]:
        """From the results.json of each notebook."""
        found = {}
        for file in (self.folder / "submitted").iterdir():
            told = json.loads((self.folder / "results" / file.stem / "results.json").read_text(encoding="utf-8"))
            found[int(file.stem)] = round(
                sum(one.get("score") or 0 for one in told["tests"] if "Public" not in one["name"])
            )
        return found


PEERS = (Nbgrader, Otter)
