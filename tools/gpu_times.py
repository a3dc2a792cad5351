"""Run every notebook on a machine with a GPU and record what each took: `python -m tools.gpu_times [FOLDER ...]`.

The record is course_lib/assets/runs/gpu_times.json; a run of some folders replaces their entries and keeps the others.
A GPU machine without internet needs wheels of what its Python lacks, collected here first:

    python -m pip download --dest _gpu --only-binary=:all: --python-version 3.12 \\
        altair ipywidgets ipykernel nbclient jaxtyping einops
    python3 -m pip install --no-index --find-links _gpu altair ipywidgets ipykernel nbclient jaxtyping einops  # there
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import nbformat
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import v4

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "course_lib" / "assets" / "runs" / "gpu_times.json"
STRICT = {"chapters": None, "solutions": "passed", "exercises": "not_attempted"}  # folder -> COURSE_STRICT
USED = "import torch; print(torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0)"
SECONDS = 900  # a cell


def run_notebook(path: Path, folder: Path = ROOT) -> dict:
    """Run a notebook in `folder`; what it took and used.

    Returns:
        `seconds`, from the start of its kernel; `gpu_megabytes`, the most that its tensors took on the GPU;
        `error`, "" if every cell ran.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(v4.new_code_cell(USED))
    started, error, used = time.perf_counter(), "", 0.0
    try:
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute()
        used = int(notebook.cells[-1].outputs[-1].text) / 2**20
    except CellExecutionError as failure:
        error = f"{failure.ename}: {failure.evalue}"
    return {"seconds": round(time.perf_counter() - started, 1), "gpu_megabytes": round(used, 1), "error": error}


def provenance() -> dict:
    """What the times were measured on."""
    packages = ("torch", "numpy", "altair", "ipywidgets")
    return {
        "command": f"python -m tools.gpu_times {' '.join(sys.argv[1:])}".strip(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "gpu": torch.cuda.get_device_name(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def main() -> int:
    """Run the folders named on the command line, or all; the exit status is 1 if a notebook failed, 2 without a GPU."""
    folders = sys.argv[1:] or list(STRICT)
    if not torch.cuda.is_available():
        print("no GPU here: nothing was run, and the record is as it was", file=sys.stderr)
        return 2
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"notebooks": {}}
    record["provenance"] = provenance()
    for folder in folders:
        os.environ.pop("COURSE_STRICT", None)
        if STRICT[folder]:
            os.environ["COURSE_STRICT"] = STRICT[folder]
        for path in sorted((ROOT / folder).glob("*.ipynb")):
            name = f"{folder}/{path.stem}"
            record["notebooks"][name] = run_notebook(path)
            print(name, record["notebooks"][name], flush=True)
            RECORD.write_text(json.dumps(record, indent=1) + "\n")
    return int(any(entry["error"] for entry in record["notebooks"].values()))


if __name__ == "__main__":
    sys.exit(main())
