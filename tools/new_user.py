"""Times a new user's way from the README to a trained head, and keeps the result: `python -m tools.new_user`.

The steps are those of the README: clone, set up, run chapter 0. Nothing that this checkout has installed is used, and
pip's cache is off. What is committed is what is tried.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from course_lib.recorded import write_whole
from tools import status

RECORD = status.ROOT / "course_lib" / "assets" / "runs" / "new_user.json"
STEPS = (  # what the user does, and the command in the folder of the clone
    ("clone the repository", f"git clone --quiet file://{status.ROOT} ."),
    ("set up the environment", "make .venv/ready"),
    ("run chapter 0, which trains a model until it has an induction head",
     ".venv/bin/jupyter execute chapters/00_start_here.ipynb"),
)  # fmt: skip


def timed_steps(folder: Path, steps: tuple[tuple[str, str], ...] = STEPS) -> list[dict]:
    """Take the steps in an empty folder, with an empty home, one after another.

    Raises:
        subprocess.CalledProcessError: a step failed; its output is in the error.
    """
    home = folder / "home"
    home.mkdir()
    (folder / "course").mkdir()
    unset = ("VIRTUAL_ENV", "COURSE_RUNS", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": str(home), "PIP_NO_CACHE_DIR": "1"}
    taken = []
    for what, command in steps:
        started = time.perf_counter()
        subprocess.run(
            command, shell=True, cwd=folder / "course", env=environment, check=True, capture_output=True, text=True
        )
        taken.append({"step": what, "command": command.split(" file:")[0], "seconds": time.perf_counter() - started})
    return taken


def table(record: dict) -> str:
    """The record as a Markdown table with its machine and date."""
    lines = ["| Step | Minutes |", "|---|--:|"]
    lines += [f"| {step['step']} | {step['seconds'] / 60:.1f} |" for step in record["steps"]]
    lines.append(f"| together | {sum(step['seconds'] for step in record['steps']) / 60:.1f} |")
    return "\n".join(lines) + f"\n\n{record['hardware']}, {record['cores']} cores, {record['date']}.\n"


def write(target: Path) -> None:
    """Write the table of the record into the file `target`, which status.md includes."""
    target.write_text(table(json.loads(RECORD.read_text(encoding="utf-8"))), encoding="utf-8")


def main() -> int:
    """Take the steps, keep and print what they took; the exit status is 1 when one failed."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            steps = timed_steps(Path(folder))
        except subprocess.CalledProcessError as error:
            print(f"`{error.cmd}` failed; the record is as it was.\n{error.stdout}\n{error.stderr}")
            return 1
    record = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": status.commit(),
        "hardware": status.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "steps": steps,
    }
    write_whole(RECORD, (json.dumps(record, indent=1) + "\n").encode())
    print(table(record))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
