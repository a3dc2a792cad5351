"""The course for machines without internet: `python -m tools.offline collect`, then `python -m tools.offline prove`.

`collect` puts wheels of the course, JupyterLab and all that they need into `_offline/wheels`, at the lock's versions.
`prove` takes the network away and does what the last stage of the Dockerfile does: it installs from these wheels into a
new environment, and runs every chapter and an exercise notebook in a folder that holds nothing else. Linux only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = ROOT / "_offline"
WHEELS = OFFLINE / "wheels"
PACKAGE = "induction-heads-course[lab]"
NOTEBOOKS = {path.relative_to(ROOT).as_posix(): {} for path in sorted((ROOT / "chapters").glob("*.ipynb"))}
NOTEBOOKS["exercises/00_start_here.ipynb"] = {"COURSE_STRICT": "not_attempted"}  # the settings that it runs under

# First thing without a network: switch the loopback on, which kernels talk over, and make sure that nothing is beyond.
CUT_OFF = """\
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    fcntl.ioctl(probe, 0x8914, struct.pack("16sh22x", b"lo", 0x41))  # SIOCSIFFLAGS: up and running
    try:
        probe.connect(("192.0.2.1", 9))  # an address kept for documentation: needs no more than a route
    except OSError:
        os.execvp(sys.argv[1], sys.argv[1:])
sys.exit("the network is still there")
"""


def collect() -> None:
    """Fill `_offline/wheels` anew."""
    shutil.rmtree(WHEELS, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", WHEELS]
    subprocess.run([*command, "-c", ROOT / "requirements.txt", f"{ROOT}[lab]"], check=True)
    files = list(WHEELS.glob("*.whl"))
    size = sum(file.stat().st_size for file in files)
    print(f"{len(files)} wheels, {size / 2**20:,.0f} MB, in {WHEELS.relative_to(ROOT)}")


def prove() -> None:
    """Install and run without a network. Raises CalledProcessError if a step fails."""
    environment, folder = OFFLINE / "env", OFFLINE / "course"
    for old in (environment, folder, OFFLINE / "cache"):
        shutil.rmtree(old, ignore_errors=True)
    venv.create(environment, with_pip=True)
    for notebook in NOTEBOOKS:
        (folder / notebook).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / notebook, folder / notebook)
    python = environment / "bin" / "python"
    _timed("installed", python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", WHEELS, PACKAGE)
    _timed("imported", python, "-c", "import course_lib.widgets, jupyterlab")
    for notebook, strict in NOTEBOOKS.items():
        _timed(f"ran {notebook}", environment / "bin" / "jupyter", "execute", notebook, **strict)


def _timed(what: str, *command: str | Path, **settings: str) -> None:
    """Run a command in the course's folder without a network and without this machine's settings of pip."""
    unshare = ["unshare", "--net"] + ["--map-root-user"] * (os.geteuid() != 0)
    ours = ("PIP_", "PYTHONPATH", "COURSE_")  # no runs that are finished, nothing that is found elsewhere
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "PATH": f"{OFFLINE / 'env' / 'bin'}:{os.environ['PATH']}"} | settings
    started = time.perf_counter()
    line = [*unshare, sys.executable, "-c", CUT_OFF, *map(str, command)]
    subprocess.run(line, check=True, cwd=OFFLINE / "course", env=clean)
    print(f"without a network: {what} in {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    {"collect": collect, "prove": prove}[sys.argv[1]]()
