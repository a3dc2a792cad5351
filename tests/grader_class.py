"""A class in a folder, and a server without processes, for tests of the grader."""

from __future__ import annotations

import ast
import hashlib
import json
import threading

from course_lib.grader import messages, wire
from course_lib.grader.frames import framed
from course_lib.grader.given import chapter_of, known_exercises
from course_lib.grader.messages import Job
from course_lib.grader.server import Reply
from course_lib.grading import load
from course_lib.grading.run import failure_of, run

ALL = known_exercises()
SOURCE = (load.source_folder().parent / "solutions/03_previous_token_head.ipynb").read_bytes()
SCORE = (
    "def previous_token_score(pattern):\n    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))\n"
)
_one_at_a_time = threading.Lock()


class LocalServer:
    """Runs jobs in this very process: what the real server does, without its walls."""

    layers = ("limits",)
    jobs: list[Job]

    def __init__(self, isolation="best", parallel=1):
        self.jobs = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def run(self, job: Job) -> Reply:
        with _one_at_a_time:
            self.jobs.append(job)
            namespace = {"__name__": "__main__"}
            try:
                for code in job.cells:
                    exec(compile(code, "cell", "exec", dont_inherit=True), namespace)
            except Exception as error:
                return Reply("error", (), f"{failure_of(error).kind}: {error}")
            cases = [wire.decode(case) for case in job.cases]
            pairs = tuple(self._twice(namespace[job.function], case, job.seconds) for case in cases)
            sent = (messages.finished(outcome) for pair in pairs for outcome in pair)
            return Reply("ok", pairs, digest=hashlib.sha256(b"".join(map(framed, sent))).digest())

    def run_together(self, jobs):
        return iter(())

    def _twice(self, function, inputs, seconds):
        first, second = (run(function, inputs, seed, seconds) for seed in (1, 2))
        sent = [wire.decode(wire.encode(outcome.value)) for outcome in (first, second)]
        return tuple(
            type(one)(value, one.failure, one.mutated) for one, value in zip((first, second), sent, strict=True)
        )


def notebook(*codes: str) -> bytes:
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": code} for code in codes]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def solved(exercise_id: str, change: tuple[str, str] = ("", "")) -> str:
    """The course's own answer cell for an exercise, with a change."""
    statements = chapter_of(ALL[exercise_id]).published[ALL[exercise_id].reference.__name__]
    return ast.unparse(ast.Module(list(statements), [])).replace(*change)


def fill(folder, n=1):
    """A class in which everything happens, `n` times."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        name = f"{number:03}" if n > 1 else ""
        (folder / f"right{name}.ipynb").write_bytes(SOURCE + b" " * number)
        (folder / f"mutant{name}.ipynb").write_bytes(notebook(f"x = {number}", SCORE.replace("-1, dim1", "1, dim1")))
        (folder / f"raises{name}.ipynb").write_bytes(
            notebook(f"x = {number}", SCORE.replace("return", "return None +"))
        )
        (folder / f"broken{name}.ipynb").write_bytes(b'{"cells"' + b" " * number)
        (folder / f"untouched{name}.ipynb").write_bytes(notebook(f"y = {number}", 'check("3.1", None)'))
    return folder
