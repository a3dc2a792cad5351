"""Build the book at `_build/html`, strictly: every notebook is executed, every warning fails the build.

`python -m tools.build_book` writes the assets, the status table and the map of the course first.
The pages need no foreign host.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools import (
    course_map,
    gpu_times,
    icons,
    lab_assets,
    new_user,
    offline_assets,
    opening_drawing,
    other_seeds,
    status,
)

ROOT = Path(__file__).resolve().parent.parent
STRICT = ("-W", "-n", "--keep-going")  # warnings are errors, references must resolve, and all of them are reported
BUILD = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"


def main() -> int:
    """Build from nothing; returns jupyter-book's exit code."""
    build = ROOT / "_build"
    for stale in (build / "html", build / ".doctrees", build / "jupyter_execute"):
        shutil.rmtree(stale, ignore_errors=True)
    offline_assets.write(build / "assets" / "static")
    lab_assets.write(build / "assets" / "static")
    icons.write(build / "assets" / "static")
    status.write(build / "assets" / "build.md")
    other_seeds.write(build / "assets" / "other_seeds.md")
    gpu_times.write(build / "assets" / "gpu_times.md")
    new_user.write(build / "assets" / "new_user.md")
    course_map.write(ROOT, build / "assets")
    opening_drawing.write(build / "assets")
    runs = build / "runs"  # emptied, so that every build trains its models; the tests of the notebooks load them
    shutil.rmtree(runs, ignore_errors=True)
    # no kernel will be there when the pages are read
    environment = os.environ | {"COURSE_STATIC": "1", "COURSE_RUNS": str(runs)}
    done = subprocess.run([sys.executable, "-c", BUILD, "build", ".", *STRICT], cwd=ROOT, env=environment)
    if done.returncode:
        print_reports(build / "html" / "reports")
        forget(build / "html" / "index.html")
    return done.returncode


def print_reports(folder: Path) -> None:
    """Print the traceback of every notebook that failed."""
    for report in sorted(folder.rglob("*.err.log")):
        print(f"\n=== {report.relative_to(folder)}\n{report.read_text(encoding='utf-8')}", file=sys.stderr)


def forget(page: Path) -> None:
    """Make a page of a failed build look old, so that `make` does not take it for the built book."""
    if page.exists():
        os.utime(page, (0, 0))


if __name__ == "__main__":
    sys.exit(main())
