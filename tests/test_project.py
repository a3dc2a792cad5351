"""What has to agree between files that nothing else compares."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import course_lib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = re.compile(r"[A-Za-z0-9_.-]+")


def names(requirements):
    return {NAME.match(line)[0].lower().replace("_", "-") for line in requirements}


def locked():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_lock_pins_everything_that_the_project_asks_for():
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    assert names(PROJECT["dependencies"] + extras) <= names(locked())
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[^=]+", line) for line in locked())
    assert "torch==2.13.0" in locked()


def test_learners_get_lower_bounds_only():
    assert all(re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", line) for line in PROJECT["dependencies"])


def test_one_version():
    assert course_lib.__version__ == PROJECT["version"]


def test_the_wheel_holds_the_solutions_and_the_assets_and_no_notebook(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        files = set(wheel.namelist())
    for source in (ROOT / "solutions").glob("*.md"):
        assert f"course_lib/solutions/{source.name}" in files
    assert {"course_lib/assets/tokenizer.json", "course_lib/assets/runs/series.npz"} <= files
    assert {"course_lib/assets/lab/lab.js", "course_lib/assets/runs/lab.npz"} <= files
    assert not [name for name in files if name.endswith(".ipynb")]


def test_make_help_lists_the_commands_of_the_readme():
    readme = (ROOT / "README.md").read_text()
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    commands = set(re.findall(r"`?make ([a-z-]+)", readme)) - {"help"}
    assert {"book", "test", "lab", "serve", "check", "notebooks"} <= commands
    assert all(f"make {command} " in listed for command in commands)
