"""Tag the version that the notebooks' set-up cells install: `python -m tools.tag` makes and pushes `v{version}`.

A tag stays where it is, so that a notebook which a learner saved goes on working. Where the package has changed since
its version was tagged, the notebooks of today would install the package of then: that ends with an error.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "course_lib"


class ChangedPackage(Exception):
    """The package differs from what is tagged with its version."""


def tag(root: Path, version: str) -> bool:
    """Tag this commit with `v{version}` and push the tag; False where the tag stands and the package is as it was.

    Raises:
        ChangedPackage: the tag stands, and the package or what it needs has changed.
        subprocess.CalledProcessError: git failed; what it said stands in `stderr`.
    """
    name = f"v{version}"
    if name in _git(root, "tag", "--list", name).split():
        before, now = tomllib.loads(_git(root, "show", f"{name}:pyproject.toml"))["project"], project_of(root)
        changed = _git(root, "diff", "--name-only", name, "--", PACKAGE).split() + ["pyproject.toml"] * (before != now)
        if changed:
            raise ChangedPackage(
                f"{name} is tagged, and {', '.join(changed[:5])} changed since: "
                "raise the version in pyproject.toml and run `make notebooks`"
            )
        return False
    _git(root, "tag", name)
    _git(root, "push", "--quiet", "origin", name)
    return True


def project_of(root: Path) -> dict:
    """The table `project` of pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def main() -> int:
    """Tag the version of this checkout."""
    version = project_of(ROOT)["version"]
    try:
        made = tag(ROOT, version)
    except ChangedPackage as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"v{version} " + ("is tagged now" if made else "stands"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
