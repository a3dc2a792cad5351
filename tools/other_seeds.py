"""Runs chapters with every seed moved on, to see which of their asserts rest on one lucky seed, and keeps the result.

    python -m tools.other_seeds chapters/03_previous_token_head.md --shifts 1 2 3

`seed=0`, `manual_seed(0)` and `SEED = 0` become 1, then 2, then 3, in one run each. Recorded runs stay as they are.
A cell that fails is named with its error, and the run goes on, so that one run names all of them.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import os
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jupytext

from course_lib.recorded import write_whole
from tools import status

RECORD = status.ROOT / "course_lib" / "assets" / "runs" / "other_seeds.json"


class _Shift(ast.NodeTransformer):
    """Adds a number to every literal seed of a cell."""

    def __init__(self, shift: int) -> None:
        self.shift, self.moved = shift, 0

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """`f(..., seed=0)` and `generator.manual_seed(0)`."""
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "manual_seed":
            node.args = [self._moved(value) for value in node.args]
        for keyword in node.keywords:
            if keyword.arg == "seed":
                keyword.value = self._moved(keyword.value)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        """`SEED = 0` and `LIVE, SEED = True, 0`."""
        self.generic_visit(node)
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id == "SEED":
            node.value = self._moved(node.value)
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = zip(target.elts, node.value.elts, strict=True)
            node.value.elts = [self._moved(v) if getattr(t, "id", "") == "SEED" else v for t, v in pairs]
        return node

    def _moved(self, value: ast.expr) -> ast.expr:
        if isinstance(value, ast.Constant) and type(value.value) is int:
            self.moved += 1
            return ast.Constant(value.value + self.shift)
        return value


def run_with_shift(path: Path, shift: int) -> tuple[int, list[str]]:
    """Run the cells of a chapter in order, seeds moved by `shift`: how many were moved, a line for each failed cell."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    failed, transform = [], _Shift(shift)
    for cell in jupytext.read(path).cells:
        if cell.cell_type != "code":
            continue
        tree = ast.fix_missing_locations(transform.visit(ast.parse(_python(cell.source))))
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                exec(compile(tree, path.name, "exec"), namespace)
        except Exception as error:
            number = traceback.extract_tb(error.__traceback__)[-1].lineno
            first = next(line for line in cell.source.splitlines() if line.strip())
            failed.append(f"{type(error).__name__} in line {number} of the cell `{first}`: {error}")
    return transform.moved, failed


def _python(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))


def try_chapter(path: Path, shift: int) -> dict[str, Any]:
    """One run in a fresh process, since a chapter may change torch's global state."""
    started = time.perf_counter()
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        moved, failed = fresh.submit(run_with_shift, path, shift).result()
    seconds = round(time.perf_counter() - started)
    return {"shift": shift, "moved": moved, "failed": failed, "seconds": seconds, "torch": status.installed("torch"),
            "date": datetime.now(UTC).strftime("%Y-%m-%d")}  # fmt: skip


def table(record: dict[str, list[dict[str, Any]]]) -> str:
    """The record as a Markdown table, one row a chapter."""
    lines = ["| Chapter | Seeds moved by | Cells that failed | Date |", "|---|---|--:|---|"]
    for chapter, runs in sorted(record.items()):
        shifts = ", ".join(str(run["shift"]) for run in runs)
        failed = sum(len(run["failed"]) for run in runs)
        lines.append(f"| {chapter.replace('_', ' ')} | {shifts} | {failed} | {max(run['date'] for run in runs)} |")
    return "\n".join(lines) + "\n"


def write(target: Path) -> None:
    """Write the table of the kept record into the file `target`, which status.md includes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(table(json.loads(RECORD.read_text(encoding="utf-8"))), encoding="utf-8")


def main() -> int:
    """Run the chapters given on the command line and keep what came; the exit status is 1 when a cell failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="+", type=Path)
    parser.add_argument("--shifts", nargs="+", type=int, default=[1, 2, 3])
    options = parser.parse_args()
    os.environ["COURSE_STATIC"] = "1"
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    failed = 0
    for path in options.chapters:
        runs = {run["shift"]: run for run in record.get(path.stem, [])}
        for shift in options.shifts:
            runs[shift] = try_chapter(path, shift)
            print(path.stem, json.dumps(runs[shift]), flush=True)
            failed += len(runs[shift]["failed"])
        record[path.stem] = [runs[shift] for shift in sorted(runs)]
        write_whole(RECORD, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
