"""Run the notebooks' set-up cell for real, in a kernel that takes itself for Colab, and tell what it did."""

from __future__ import annotations

import json
from pathlib import Path

from nbclient import NotebookClient
from nbformat import v4

from tools.nb_settings import Settings, read_settings
from tools.nb_source import Report

SECONDS = 15  # what the set-up cell may take

# On Colab numpy and torch are loaded before the first cell runs.
BEFORE = """\
import json, sys, time, types
from importlib.metadata import distributions
import numpy, torch

def versions():
    return {each.name: each.version for each in distributions()}

sys.modules["google.colab"] = types.ModuleType("google.colab")
before, started = versions(), time.perf_counter()
"""
AFTER = """\
seconds, after = round(time.perf_counter() - started, 1), versions()
import course_lib
from course_lib.model import ModelConfig, Transformer
Transformer(ModelConfig(n_layers=1))(torch.zeros(1, 4, dtype=torch.long))
changed = {name: [old, after.get(name)] for name, old in before.items() if after.get(name) != old}
added = {name: version for name, version in after.items() if name not in before}
print(json.dumps(dict(seconds=seconds, python=sys.version.split()[0], torch=torch.__version__, numpy=numpy.__version__,
    ipython=after["ipython"], ipywidgets=after["ipywidgets"], altair=after["altair"], pip=after["pip"],
    changed=changed, added=added, package=course_lib.__file__)))
"""


def from_repository(cell: str, settings: Settings, repository: Path) -> str:
    """The set-up cell with a local repository in place of the one on the web; the tag stays.

    Raises:
        ValueError: the cell does not hold the address of `settings` once.
    """
    address = f"git+{settings.url}@v{settings.version}"
    if cell.count(address) != 1:
        raise ValueError(f"the set-up cell must hold the address {address} once, and holds it {cell.count(address)}x")
    place = repository.resolve().as_uri().replace("file://", "file://localhost")  # pip 23 wants a host
    return cell.replace(address, f"git+{place}@v{settings.version}")


def measure_setup(root: Path, kernel: str, repository: Path, folder: Path) -> dict:
    """Run the set-up cell in the kernel, from `folder`; pip clones `repository`, builds the package and installs it.

    Returns:
        `seconds`; versions; `changed`, name -> [before, after] of what had been there; `added`, name -> version;
        `package`, where the course was imported from.
    """
    report = Report()
    settings = read_settings(root, report)
    report.raise_if_any()
    setup = from_repository(settings.setup_cell(), settings, repository)
    notebook = v4.new_notebook(cells=[v4.new_code_cell(code) for code in (BEFORE, setup, AFTER)])
    NotebookClient(notebook, timeout=300, kernel_name=kernel, resources={"metadata": {"path": str(folder)}}).execute()
    printed = "".join(output.get("text", "") for output in notebook.cells[-1].outputs if output.name == "stdout")
    return json.loads(printed.splitlines()[-1])


def problems(report: dict) -> list[str]:
    """What the set-up cell did that it must not do."""
    found = [f"moved {name} from {old} to {new}" for name, (old, new) in report["changed"].items()]
    if report["seconds"] > SECONDS:
        found.append(f"took {report['seconds']} s; {SECONDS} s are allowed")
    if "induction-heads-course" not in report["added"] or "site-packages" not in report["package"]:
        found.append(f"did not install the course: it was imported from {report['package']}")
    return found
