"""Run every notebook on a machine with a GPU and record what each took: `python -m tools.gpu_times`.

With `--jobs N`, N notebooks run side by side and share the GPU; the record says so.
The record is course_lib/assets/runs/gpu_times.json, written anew after every notebook.
A GPU machine without internet needs wheels of what its Python lacks, collected here first:

    python -m pip download --dest _gpu --only-binary=:all: --python-version 3.12 \\
        altair ipywidgets ipykernel nbclient jaxtyping einops
    python3 -m pip install --no-index --find-links _gpu altair ipywidgets ipykernel nbclient jaxtyping einops  # there
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import nbformat
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import v4

from tools import kernel_replies

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "course_lib" / "assets" / "runs" / "gpu_times.json"
STRICT = {"chapters": None, "solutions": "passed", "exercises": "not_attempted"}  # folder -> COURSE_STRICT
USED = "import torch; print(torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0)"
SECONDS = 900  # a cell


def run_notebook(path: Path, folder: Path = ROOT, strict: str | None = None) -> dict:
    """Run a notebook in `folder`; what it took and used. `strict` is what every check in it must say.

    Returns:
        `seconds`, from the start of its kernel; `gpu_megabytes`, the most that its tensors took on the GPU;
        `error`, "" if every cell ran.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(v4.new_code_cell(USED))
    environment = {name: value for name, value in os.environ.items() if name != "COURSE_STRICT"}
    environment |= {"COURSE_STRICT": strict} if strict else {}
    started, error, used = time.perf_counter(), "", 0.0
    try:
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute(env=environment)
        used = int(notebook.cells[-1].outputs[-1].text) / 2**20
    except CellExecutionError as failure:
        error = f"{failure.ename}: {failure.evalue}"
    return {"seconds": round(time.perf_counter() - started, 1), "gpu_megabytes": round(used, 1), "error": error}


def provenance(jobs: int) -> dict:
    """What the times were measured on."""
    packages = ("torch", "numpy", "altair", "ipywidgets")
    return {
        "command": f"python -m tools.gpu_times --jobs {jobs}",
        "side by side": jobs,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "gpu": torch.cuda.get_device_name(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def table(record: dict) -> str:
    """The record as Markdown: how it was made, and a row for each notebook; solutions and exercises come last."""
    made, notebooks = record["provenance"], record["notebooks"]
    good = sum(not entry["error"] for entry in notebooks.values())
    facts = f"{made['gpu']}, {made['date']}, Python {made['versions']['python']}, torch {made['versions']['torch']}"
    lines = [
        f"{good} of {len(notebooks)} notebooks ran to their end on {facts}, {made['side by side']} side by side.",
        "",
        "| Notebook | Seconds | MB on the GPU | Result |",
        "|---|---|---|---|",
    ]
    for name, entry in sorted(notebooks.items()):
        result = entry["error"].strip(": ") or "ran"
        lines.append(f"| {name} | {entry['seconds']:.0f} | {entry['gpu_megabytes']:.0f} | {result} |")
    return "\n".join(lines) + "\n"


def write(target: Path) -> None:
    """Write the table of the record into the file `target`, which status.md includes."""
    target.write_text(table(json.loads(RECORD.read_text())), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Run all notebooks; the exit status is 1 if one failed, 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu_times", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, help="notebooks at a time (default 1)")
    jobs = parser.parse_args(arguments).jobs
    if not torch.cuda.is_available():
        print("no GPU here: nothing was run, and the record is as it was", file=sys.stderr)
        return 2
    kernel_replies.mend()
    record = {"provenance": provenance(jobs), "notebooks": {}}
    paths = [(path, strict) for folder, strict in STRICT.items() for path in sorted((ROOT / folder).glob("*.ipynb"))]
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(run_notebook, path, ROOT, strict): path for path, strict in paths}
        for done in as_completed(running):
            name = f"{running[done].parent.name}/{running[done].stem}"
            record["notebooks"][name] = done.result()
            print(name, record["notebooks"][name], flush=True)
            RECORD.write_text(json.dumps(record, indent=1) + "\n")
    return int(any(entry["error"] for entry in record["notebooks"].values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
