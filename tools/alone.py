"""Prepare the test that runs every notebook as Colab does: alone in a folder, the package installed by the set-up cell.

`python -m tools.alone .venv-colab` commits the files of this folder to a repository of their own, with the tag that
the set-up cell asks for, and runs the set-up cell in that environment with this repository in place of the one on the
web. It copies each notebook into a folder of its own below `_alone` (not `_build`, which nbmake passes over). The
kernel is called `course-colab`, after the environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tools.setup_cell import measure_setup, problems

ROOT = Path(__file__).resolve().parent.parent
ALONE = ROOT / "_alone"
FOLDERS = ("chapters", "solutions", "exercises")
LIST = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"


def publish(root: Path, folder: Path) -> Path:
    """A repository in the emptied `folder` with the files of `root` as they are, tagged with their version.

    Files that git ignores stay out, as do files that are deleted in `root`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.check_output(["git", "-C", root, "ls-files", "-z", "-co", "--exclude-standard"], text=True)
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    author = ("-c", "user.name=course", "-c", "user.email=course@localhost", "-c", "commit.gpgsign=false")
    _run("git", "init", "--quiet", folder)
    for command in (("add", "--all", "--force"), ("commit", "--quiet", "-m", "as it is"), ("tag", f"v{version}")):
        _run("git", "-C", folder, *author, *command)
    return folder


def forget_additions(environment: Path) -> None:
    """Uninstall what an earlier set-up cell installed: the environment is again as it was made."""
    made, python = environment / "made.json", environment / "bin" / "python"
    installed = json.loads(subprocess.check_output([python, "-c", LIST], env=_clean(), cwd=environment))
    if not made.exists():
        made.write_text(json.dumps(installed, indent=1))
    added = sorted(installed.keys() - json.loads(made.read_text()).keys())
    if added:
        _run(python, "-m", "pip", "uninstall", "--quiet", "--yes", *added)


def register_kernel(environment: Path) -> str:
    """Make the environment a kernel for the pytest of this one; returns its name."""
    name = f"course-{environment.name.removeprefix('.venv-')}"
    _run(environment / "bin" / "python", "-m", "ipykernel", "install", "--prefix", sys.prefix, "--name", name)
    return name


def copy_notebooks() -> None:
    """Each notebook into an empty folder of its own."""
    for folder in FOLDERS:
        shutil.rmtree(ALONE / folder, ignore_errors=True)
        for notebook in sorted((ROOT / folder).glob("*.ipynb")):
            target = ALONE / folder / notebook.stem
            target.mkdir(parents=True)
            shutil.copy(notebook, target)


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, env=_clean(), stdout=subprocess.DEVNULL)


def main(environment: Path) -> int:
    """Prepare everything; the exit status is 1 if the set-up cell does not do what it promises."""
    repository = publish(ROOT, ALONE / "repository")
    forget_additions(environment)
    kernel = register_kernel(environment)
    report = measure_setup(ROOT, kernel, repository, ALONE)
    (ALONE / f"setup_{kernel}.json").write_text(json.dumps(report, indent=1) + "\n")
    copy_notebooks()
    print(f"set-up cell in {environment.name}: {report['seconds']} s, installed {', '.join(report['added'])}")
    wrong = problems(report)
    print("".join(f"set-up cell: {each}\n" for each in wrong), end="", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main((ROOT / sys.argv[1]).resolve()))
