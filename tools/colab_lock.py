"""Write requirements-colab.txt from Colab's list of packages: `python -m tools.colab_lock PIP_FREEZE.txt`.

Kept are the packages that our notebooks need and Colab has, at Colab's versions; what Colab lacks is left for the
set-up cell to install. Run it with Python 3.11, the oldest that the course supports: where Colab's version does not run
there, or does not fit beside one that has to be another, the newest that does takes its place, for 3.11 only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "requirements-colab.txt"
OLDEST = (3, 11)
KERNEL = ("ipykernel", "pip")  # what runs the notebooks there, and the set-up cell
STAND_INS = {"torch": "Colab's build brings gigabytes of CUDA packages"}  # the version of our own lock is used

HEADER = """\
# Colab's versions of the packages that the notebooks need, as constraints: the environment of `make run-alone`.
# Made by `make colab-lock FREEZE=...` from Colab's own list of packages. Packages that Colab lacks: {missing}.
"""


Metadata = Callable[[str, str], tuple[str, list[Requirement]] | None]


@dataclass
class Choice:
    """The version of one package in the oldest Python, and why it is not Colab's; no reason where it is."""

    version: str
    reason: str
    asked: SpecifierSet
    needs: list[Requirement]  # with their markers
    extras: set[str]  # those that have been followed; "" is the package itself


def read_pins(text: str) -> dict[str, str]:
    """`name==version` lines of a list of packages, by normalised name; other lines are passed over."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", text, re.M)
    return {canonicalize_name(name): version for name, version in pins}


def choose(
    roots: Iterable[str], colab: dict[str, str], ours: dict[str, str], metadata: Metadata | None = None
) -> tuple[dict[str, Choice], set[str]]:
    """Versions of `roots` and of all that they need, and the names of those that Colab lacks.

    Args:
        roots: names of packages.
        colab, ours: pins of Colab and of our lock.
        metadata: name, specifiers -> (version, requirements), or None if this Python has no such version; pip is
            asked by default.

    Raises:
        ValueError: no version of a package fits what is asked of it.
    """
    chosen: dict[str, Choice] = {}
    missing: set[str] = set()
    waiting = [(Requirement(name), "") for name in roots]
    while waiting:
        need, by = waiting.pop(0)
        name = canonicalize_name(need.name)
        if name not in colab:
            missing.add(name)
            continue
        choice = chosen.get(name)
        if choice is None or not need.specifier.contains(choice.version, prereleases=True):
            asked = need.specifier & choice.asked if choice else need.specifier
            choice = chosen[name] = _choice(name, asked, by, colab[name], ours.get(name), metadata or ask_pip)
        choice.asked &= need.specifier
        for extra in {"", *need.extras} - choice.extras:
            choice.extras.add(extra)
            waiting += [(each, f"{name} {choice.version}") for each in choice.needs if _applies(each, extra)]
    return chosen, missing


def _applies(need: Requirement, extra: str) -> bool:
    """Whether the package needs this here: by itself, or because of its extra alone."""
    return need.marker is None or need.marker.evaluate({"extra": extra})


def _choice(name: str, asked: SpecifierSet, by: str, colab: str, ours: str | None, metadata: Metadata) -> Choice:
    """Colab's version if it fits; a stand-in of our lock; else the newest that fits."""
    if name in STAND_INS:
        reason, wanted = STAND_INS[name], f"=={ours}"
    elif not asked.contains(colab, prereleases=True):
        reason, wanted = f"{by} asks for {asked}", str(asked)
    else:
        reason, wanted = "", f"=={colab}"
    found = metadata(name, wanted)
    if found is None:
        reason, found = f"{colab} does not run on Python {OLDEST[0]}.{OLDEST[1]}", metadata(name, str(asked))
    if found is None:
        raise ValueError(f"no version of {name} fits: {asked or 'any'}, asked for by {by or 'the course'}")
    return Choice(found[0], reason, asked, found[1], set())


def ask_pip(name: str, specifiers: str) -> tuple[str, list[Requirement]] | None:
    """The version that pip would install here and all its requirements, from its metadata; None if there is none."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed"]
    done = subprocess.run(
        [*command, "--only-binary=:all:", "--report", "-", name + specifiers], capture_output=True, text=True
    )
    if done.returncode:
        return None
    metadata = json.loads(done.stdout)["install"][0]["metadata"]
    return metadata["version"].partition("+")[0], [Requirement(line) for line in metadata.get("requires_dist", [])]


def lines(chosen: dict[str, Choice], colab: dict[str, str]) -> list[str]:
    """The constraints, sorted by name; two lines where the oldest Python needs another version."""
    newer = f"{OLDEST[0]}.{OLDEST[1] + 1}"
    text = []
    for name, choice in sorted(chosen.items()):
        if choice.version == colab[name]:
            text.append(f"{name}=={colab[name]}")
            continue
        text.append(f'{name}=={colab[name]}; python_version >= "{newer}"')
        text.append(f'{name}=={choice.version}; python_version < "{newer}"  # {choice.reason}')
    return text


def main() -> None:
    """Write the file."""
    if len(sys.argv) != 2 or sys.version_info[:2] != OLDEST:
        sys.exit(f"{__doc__.splitlines()[0]}\nwith Python {OLDEST[0]}.{OLDEST[1]}, not {sys.version.split()[0]}")
    colab = read_pins(Path(sys.argv[1]).read_text())
    ours = read_pins((ROOT / "requirements.txt").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    roots = [Requirement(line).name for line in project["dependencies"]]
    chosen, missing = choose([*roots, *KERNEL], colab, ours)
    header = HEADER.format(missing=", ".join(sorted(missing)) or "none")
    TARGET.write_text(header + "\n".join(lines(chosen, colab)) + "\n")


if __name__ == "__main__":
    main()
