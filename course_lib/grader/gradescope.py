"""The course's grader inside Gradescope: makes the autograder's zip, and is what runs in it.

A submission's process never sees expected values or results: it is graded as by `python -m course_lib grade`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from course_lib.grader.choice import exercise_ids
from course_lib.grader.grade import NoSubmission, Options, grade_folder
from course_lib.grader.results import read_results
from course_lib.grader.states import look
from course_lib.grader.tally import Row
from course_lib.grading import load
from course_lib.recorded import write_whole

DISTRIBUTION = "induction-heads-course"
_PACKAGE = Path(__file__).resolve().parents[1]
_SCRIPTS = ("setup.sh", "run_autograder")
_RUN = "Every exercise was run on inputs drawn for this submission."
_NOTHING = "No notebook was handed in: upload an .ipynb or a .py file, or a zip of such files."
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same files give the same zip


def write_autograder(out: Path, exercises: str, require: str) -> Path:
    """Write the zip that an instructor uploads as the autograder of a programming assignment.

    Args:
        out: the zip to write.
        exercises: what counts, as in `choice.exercise_ids`.
        require: the level of isolation below which nothing is graded.

    Raises:
        ValueError: unknown exercises; the course is not installed, so that its requirements are not known.
    """
    settings = {"exercises": list(exercise_ids(exercises)), "require": require}
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in _SCRIPTS:
                _add(archive, name, (_PACKAGE / "grader" / "templates" / name).read_bytes(), 0o755)
            _add(archive, "requirements.txt", "".join(f"{line}\n" for line in _requirements()).encode())
            _add(archive, "settings.json", json.dumps(settings, indent=1).encode())
            for name, path in _sources():
                _add(archive, name, path.read_bytes())
        file.seek(0)
        write_whole(out, file.read())
    return out


def _add(archive: zipfile.ZipFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = zipfile.ZipInfo(name, _LONG_AGO)
    entry.external_attr, entry.compress_type = (0o100000 | mode) << 16, zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def _sources() -> Iterator[tuple[str, Path]]:
    """The package as an installation has it: the solution sources lie inside."""
    for path in sorted(_PACKAGE.rglob("*")):
        inside = path.relative_to(_PACKAGE)
        if path.is_file() and "__pycache__" not in inside.parts and inside.parts[0] != "solutions":
            yield f"course_lib/{inside.as_posix()}", path
    for path in sorted(load.source_folder().glob("*.md")):
        yield f"course_lib/solutions/{path.name}", path


def _requirements() -> list[str]:
    """What the course needs, in the versions that are installed here, so that numbers agree."""
    try:
        needed = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        raise ValueError(f"the package {DISTRIBUTION} must be installed, to know its requirements; it is not") from None
    names = [re.match(r"[\w.-]+", line)[0] for line in needed if "extra ==" not in line]
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in names]


# What runs inside Gradescope


def main(root: Path) -> int:
    """Grade what lies in `root/submission`; write `root/results/results.json`; the exit status.

    After a fault of the grader there is no results.json, so that Gradescope calls the instructor instead of giving 0.
    """
    settings = json.loads((root / "source" / "settings.json").read_text(encoding="utf-8"))
    submission, results = root / "submission", root / "results" / "results.json"
    results.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        options = Options(seed=seed_of(submission), exercises=tuple(settings["exercises"]), require=settings["require"])
        rows = []
        with suppress(NoSubmission):  # the learner reads it in the results
            grade_folder(submission, Path(folder), options)
            rows = list(read_results(Path(folder) / "results.jsonl"))
    faults = [row for row in rows if "grader_error" in (row["state"], *(one["state"] for one in row["exercises"]))]
    if faults:
        print(f"The grader failed, not the learner. Please grade again.\n{json.dumps(faults, indent=1)}")
        return 1
    write_whole(results, json.dumps(gradescope_results(rows, settings["exercises"]), indent=1).encode())
    return 0


def seed_of(submission: Path) -> int:
    """A seed that follows from the submitted bytes: the same files are graded alike, and any change draws new inputs.

    With one seed for all, somebody who may submit often could read the wanted results from the messages.
    """
    digest = hashlib.sha256()
    for path in sorted(submission.rglob("*")):
        if path.is_file() and not path.is_symlink():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return int.from_bytes(digest.digest()[:4], "big")


def gradescope_results(rows: Sequence[Row], exercises: Sequence[str]) -> dict[str, Any]:
    """The rows of one learner in Gradescope's format: one test an exercise; of several notebooks the best counts."""
    unreadable = [f"{row['submission']}: {problem}" for row in rows for problem in row["problems"]]
    return {
        "tests": [_test(exercise_id, rows) for exercise_id in exercises],
        "output": "\n".join(unreadable) or (_RUN if rows else _NOTHING),
        "output_format": "text",
        "stdout_visibility": "hidden",
        "extra_data": {
            "seed": sorted({row["seed"] for row in rows}),
            "isolation": sorted({layer for row in rows for layer in row["isolation"]}),
            "specification": sorted({row["specification"] for row in rows}),
        },
    }


def _test(exercise_id: str, rows: Sequence[Row]) -> dict[str, Any]:
    found = [one for row in rows for one in row["exercises"] if one["id"] == exercise_id]
    exercise = load.find(exercise_id)
    best = max(found, key=lambda one: (one["points"] or 0, one["state"] != "unattempted"), default={})
    state = best.get("state", "unattempted")
    text = [look(state).word.capitalize() + ".", best.get("case", ""), best.get("message", "")]
    return {
        "name": f"{exercise_id} {exercise.title}",
        "score": best.get("points", 0),
        "max_score": best.get("max_points", exercise.difficulty),
        "status": "passed" if state == "ok" else "failed",
        "output": "\n".join(line for line in text if line),
        "output_format": "text",
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
