"""What a hostile class can do to a run as a whole: modules beside the submissions, and a grader that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.graders.memory import family
from tests.grading_runs import graded, write_notebooks
from tests.hostile.entry import RIGHT
from tests.hostile.ground import LIMITS, ROOT

ANSWER = f"import torch\n{RIGHT}\ndef previous_token_score(pattern): return right(pattern)"
NAMES = ("torch", "numpy", "json", "argparse", "pathlib", "tqdm", "sitecustomize", "usercustomize", "socket", "jinja2")
PATIENCE = 5.0  # seconds
GRADE = (sys.executable, "-m", "course_lib", "grade")
CHOICE = ("--exercises", "3.1", "--seed", "0", "--quiet")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def endless(n: int) -> dict[str, list[str]]:
    """Notebooks that never end, no two of them alike."""
    body = "import torch\ndef previous_token_score(pattern):\n    while {} >= 0: pass"
    return {f"loop_{number}": [body.format(number)] for number in range(n)}


def test_modules_beside_the_submissions_are_never_imported(tmp_path):
    """`python -m` puts the current folder first on the path, and an instructor may well stand among the submissions."""
    folder, mark = tmp_path / "submissions", tmp_path / "mark"
    write_notebooks(folder, {"right": [ANSWER]})
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').write({name!r})\nraise SystemExit(0)\n")
    command = [
        sys.executable,
        "-m",
        "course_lib",
        "grade",
        ".",
        "--out",
        "../results",
        "--exercises",
        "3.1",
        "--seed",
        "0",
    ]
    quiet = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "--quiet"], cwd=folder, env=quiet, capture_output=True, text=True)
    assert not mark.exists(), f"{mark.read_text()}.py was run by the grader"
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "results" / "results.jsonl").read_text().splitlines()]
    assert {row["submission"]: row["score"] for row in rows}["right.ipynb"] == 1


def test_a_grader_that_is_killed_leaves_no_process_and_no_row_is_lost(tmp_path):
    loops = {
        f"loop_{n}": ["import torch", f"def previous_token_score(pattern):\n    while {n} >= 0: pass"] for n in range(8)
    }
    write_notebooks(tmp_path / "in", {"a_right": [ANSWER]} | loops)
    settings = LIMITS | {"submissions": str(tmp_path / "in"), "results": str(tmp_path / "out")}
    settings |= {"exercises": ["3.1"], "parallel": 2, "fenced": False, "runs": 1, "level": "best"}
    place = tmp_path / "settings.json"
    place.write_text(json.dumps(settings))
    grader = subprocess.Popen([sys.executable, "-m", "tests.hostile.driver", str(place)], cwd=ROOT, env=ENVIRONMENT)
    started = until(lambda: (tmp_path / "out" / "timings.jsonl").exists() and len(family(grader.pid)) > 2, 60.0)
    time.sleep(0.5)  # the loops are under way
    mine = family(grader.pid)
    grader.kill()
    grader.wait()
    assert started and until(lambda: not any(alive(pid) for pid in mine), PATIENCE)
    for name in loops:
        (tmp_path / "in" / f"{name}.ipynb").unlink()
    assert graded(tmp_path / "in", tmp_path / "out", ["3.1"])["a_right.ipynb"]["score"] == 1


def test_an_interrupt_ends_the_grader_at_once_and_leaves_no_process(tmp_path):
    loops = {
        f"loop_{n}": ["import torch", f"def previous_token_score(pattern):\n    while {n} >= 0: pass"]
        for n in range(30)
    }
    write_notebooks(tmp_path / "in", loops)
    command = [sys.executable, "-m", "course_lib", "grade", "in", "--out", "out", "--exercises", "3.1", "--seed", "0"]
    quiet = os.environ | {"PYTHONPATH": str(ROOT)}
    grader = subprocess.Popen([*command, "--quiet"], cwd=tmp_path, env=quiet, stderr=subprocess.PIPE)
    started = until(lambda: (tmp_path / "out" / "timings.jsonl").exists() and len(family(grader.pid)) > 2, 60.0)
    time.sleep(0.5)
    mine = family(grader.pid)
    grader.send_signal(signal.SIGINT)
    grader.communicate(timeout=30)
    assert started and grader.returncode == 130
    assert until(lambda: not any(alive(pid) for pid in mine), PATIENCE)


def until(condition, seconds: float) -> bool:
    """Wait for a condition; False when it did not come about."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    """True for a process that runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
