"""Find what would break or annoy on Colab in the generated notebooks: `python -m tools.lint_notebooks`.

`python -m tools.notebooks --check` says that a notebook is what its source says. This says that what was written is
right, whoever wrote it: it looks at the notebooks alone, one rule after the other.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tools.nb_links import bad_link, links
from tools.nb_settings import SETUP_ID, Settings, read_settings
from tools.nb_source import KERNEL, Report
from tools.notebooks import NOTEBOOK_FOLDERS

MAX_BYTES = 200_000  # GitHub and Colab show larger ones slowly; the largest of ours has about half
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
GPU = {"accelerator": "GPU", "colab": {"gpuType": "T4"}}
CONTENT_ID = re.compile(r"[0-9a-f]{12}")
PIN = re.compile(r"[A-Za-z0-9\]]\s*(?:[=~!<>]=|<(?!=)|===)\s*\d")
MOVES_VERSIONS = {"-U", "--upgrade", "--force-reinstall", "--ignore-installed", "-I", "--pre"}
INSTALLS = re.compile(r"^\s*[%!]\s*(?:pip|conda|mamba|uv)\b|\bpip3?\s+install\b", re.M)


@dataclass(frozen=True)
class Notebook:
    """A notebook as it lies on the disk."""

    root: Path
    path: str
    settings: Settings
    content: dict
    size: int  # bytes

    @property
    def cells(self) -> list[tuple[int, dict, str]]:
        """(number from 1, cell, its text)."""
        return [(n, cell, "".join(cell["source"])) for n, cell in enumerate(self.content["cells"], 1)]

    @property
    def ids(self) -> list[str]:
        """The id of every cell; "" where it has none."""
        return [cell.get("id", "") for cell in self.content["cells"]]

    @property
    def source(self) -> Path:
        """The source of the notebook; that of an exercise is its solution's."""
        return (self.root / self.path.replace("exercises/", "solutions/", 1)).with_suffix(".md")

    def code(self) -> str:
        """All code but the set-up cell."""
        return "\n".join(
            text for _, cell, text in self.cells if cell["cell_type"] == "code" and cell.get("id") != SETUP_ID
        )


Rule = Callable[[Notebook], Iterator[str]]


def setup_cell(notebook: Notebook) -> Iterator[str]:
    """One set-up cell, right after the title, the same in every notebook."""
    places = [n for n, cell, _ in notebook.cells if cell.get("id") == SETUP_ID]
    if places != [2]:
        yield f"the set-up cell must be cell 2, after the title, and is {places or 'missing'}"
    for n, cell, text in notebook.cells:
        if cell.get("id") == SETUP_ID and text != notebook.settings.setup_cell():
            yield f"cell {n}: the set-up cell differs from that of the other notebooks"


def no_pins(notebook: Notebook) -> Iterator[str]:
    """The set-up cell pins and upgrades nothing, and no other cell installs anything."""
    for n, cell, text in notebook.cells:
        if cell["cell_type"] != "code":
            continue
        if cell.get("id") != SETUP_ID:
            if INSTALLS.search(text):
                yield f"cell {n}: installs something; only the set-up cell may"
            continue
        for said in _strings(text):
            if PIN.search(said) or said in MOVES_VERSIONS:
                yield f"cell {n}: the set-up cell pins or upgrades a version: {said!r}"


def _strings(code: str) -> list[str]:
    """What a cell says to the shell: its string constants and its magics."""
    magics = re.findall(r"^\s*[%!].*", code, re.M)
    tree = ast.parse(re.sub(r"^(\s*)[%!].*", r"\1pass", code, flags=re.M))
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [part for text in magics for part in (text, *text.split())] + [c for c in constants if isinstance(c, str)]


def metadata(notebook: Notebook) -> Iterator[str]:
    """Kernel and language; a GPU where the source asks for one, and only where the code uses it."""
    if (version := (notebook.content.get("nbformat"), notebook.content.get("nbformat_minor"))) < (4, 5):
        yield f"format {version[0]}.{version[1]} has no cell ids; 4.5 is the first that has"
    wanted = METADATA | (GPU if _wants_gpu(notebook.source) else {})
    given = notebook.content.get("metadata", {})
    for key in sorted(wanted.keys() | given.keys()):
        if given.get(key) != wanted.get(key):
            yield f"metadata.{key} must be {wanted.get(key, 'absent')}, got {given.get(key, 'nothing')}"
    if "accelerator" in given and "best_device(" not in notebook.code():
        yield "asks Colab for a GPU and never calls best_device()"


def _wants_gpu(source: Path) -> bool:
    header = source.read_text(encoding="utf-8").split("---\n")[1] if source.is_file() else ""
    return bool(((yaml.safe_load(header) or {}).get("course") or {}).get("colab_gpu"))


def cell_ids(notebook: Notebook) -> Iterator[str]:
    """Every cell has an id of its own, made from what it says, and an exercise's cells keep theirs in the solution."""
    for n, name in enumerate(notebook.ids, 1):
        if name in notebook.ids[: n - 1]:
            yield f"cell {n}: the id {name!r} is taken by an earlier cell"
        if name != SETUP_ID and not CONTENT_ID.fullmatch(name):
            yield f"cell {n}: the id {name!r} is not made from its content (12 hexadecimal digits)"
    solution = notebook.source.with_suffix(".ipynb")
    if notebook.path.startswith("exercises/") and solution.is_file():
        others = {cell.get("id") for cell in json.loads(solution.read_text(encoding="utf-8"))["cells"]}
        for lost in sorted(set(notebook.ids) - others):
            yield f"the cell {lost!r} has another id in the solution"


def no_outputs(notebook: Notebook) -> Iterator[str]:
    """Nothing is left of a run."""
    for n, cell, _ in notebook.cells:
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield f"cell {n}: an output or a run's number was left inside"


def right_links(notebook: Notebook) -> Iterator[str]:
    """Links lead somewhere from Colab, where no other file of the repository is."""
    for n, cell, text in notebook.cells:
        if cell["cell_type"] == "markdown":
            for address in links(text):
                if wrong := bad_link(address, notebook.root, notebook.settings):
                    yield f"cell {n}: {address}: {wrong}"


def small(notebook: Notebook) -> Iterator[str]:
    """Small enough to open quickly."""
    if notebook.size > MAX_BYTES:
        yield f"{notebook.size:,} bytes; {MAX_BYTES:,} are allowed"


RULES: tuple[Rule, ...] = (setup_cell, no_pins, metadata, cell_ids, no_outputs, right_links, small)


def lint(root: Path) -> list[str]:
    """What is wrong with the notebooks under `root`, one line each: path, then the problem. Raises SourceErrors."""
    report = Report()
    settings = read_settings(root, report)
    report.raise_if_any()
    found = []
    for file in sorted(file for folder in NOTEBOOK_FOLDERS for file in (root / folder).glob("*.ipynb")):
        text = file.read_text(encoding="utf-8")
        path = file.relative_to(root).as_posix()
        notebook = Notebook(root, path, settings, json.loads(text), len(text.encode()))
        found += [f"{path}: {problem}" for rule in RULES for problem in rule(notebook)]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print what was found; the exit status is 1 if there was anything, or no notebook at all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's root (default: here)")
    root = parser.parse_args(arguments).root
    count = sum(len(list((root / folder).glob("*.ipynb"))) for folder in NOTEBOOK_FOLDERS)
    found = lint(root)
    print("\n".join([*found, f"{count} notebooks, {len(found)} problems"]))
    return int(bool(found) or count == 0)


if __name__ == "__main__":
    sys.exit(main())
