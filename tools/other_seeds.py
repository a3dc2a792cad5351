"""Runs chapters with every seed moved on, to see which of their asserts rest on one lucky seed, and keeps the result.

    python -m tools.other_seeds chapters/03_previous_token_head.md --shifts 0 1 2

`seed=0`, `manual_seed(0)` and `SEED = 0` become 1, then 2, in one run each. Recorded runs stay as they are.
A cell that fails is named with its error, and the run goes on, so that one run names all of them.
For each comparison in an assert the slack is kept: by how much it held. Beside the spread of the slack over the seeds
that says which asserts would fail with some other seed, or on a processor that adds in another order.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import math
import os
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jupytext
import numpy as np
import torch

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

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        """Before `assert a < b`: `note_slack("a < b", a, b)`, and `b, a` for `a > b`."""
        self.generic_visit(node)
        notes = []
        for part in ast.walk(node.test):
            if isinstance(part, ast.Compare):
                sides = [part.left, *part.comparators]
                for left, operator, right in zip(sides, part.ops, sides[1:], strict=False):
                    if isinstance(operator, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)):
                        low, high = (left, right) if isinstance(operator, (ast.Lt, ast.LtE)) else (right, left)
                        text = ast.unparse(ast.Compare(left, [operator], [right]))
                        call = ast.Call(
                            ast.Name("note_slack", ast.Load()), [ast.Constant(text), _later(low), _later(high)], []
                        )
                        notes.append(ast.Expr(call))
        return [*notes, node]

    def _moved(self, value: ast.expr) -> ast.expr:
        if isinstance(value, ast.Constant) and type(value.value) is int:
            self.moved += 1
            return ast.Constant(value.value + self.shift)
        return value


def _later(value: ast.expr) -> ast.expr:
    """An expression that is evaluated when it is called."""
    return ast.Lambda(ast.arguments([], [], None, [], [], None, []), value)


def _numbers(value: Any) -> np.ndarray:
    return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value, dtype=float)


def run_with_shift(path: Path, shift: int) -> tuple[int, list[str], dict[str, float]]:
    """Run the cells of a chapter in order, with its seeds moved by `shift`.

    Returns:
        How many seeds were moved, a line for each failed cell, and the smallest slack of each compared pair.
    """
    slacks: dict[str, float] = {}

    def note_slack(text: str, low: Callable[[], Any], high: Callable[[], Any]) -> None:
        with contextlib.suppress(NameError, TypeError, ValueError):  # names of a comprehension; no numbers
            slack = float(f"{(_numbers(high()) - _numbers(low())).min():.4g}")
            if math.isfinite(slack):
                slacks[text] = min(slack, slacks.get(text, slack))

    namespace: dict[str, Any] = {"__name__": "__main__", "note_slack": note_slack}
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
    return transform.moved, failed, slacks


def _python(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))


def try_chapter(path: Path, shift: int) -> dict[str, Any]:
    """What a run on one thread found; call it in a fresh process, since a chapter may change torch's state."""
    started = time.perf_counter()
    torch.set_num_threads(1)
    moved, failed, slacks = run_with_shift(path, shift)
    return {
        "shift": shift,
        "moved": moved,
        "failed": failed,
        "slacks": slacks,
        "seconds": round(time.perf_counter() - started),
        "torch": status.installed("torch"),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def margins(runs: list[dict[str, Any]]) -> dict[str, float]:
    """For each compared pair whose slack depends on the seed: its mean over the runs, in standard deviations."""
    slacks = [run["slacks"] for run in runs]
    texts = [text for text in slacks[0] if all(text in of_run for of_run in slacks)]
    found = {text: np.array([of_run[text] for of_run in slacks]) for text in texts}
    return {text: float(values.mean() / values.std(ddof=1)) for text, values in found.items() if np.ptp(values) > 0}


def table(record: dict[str, list[dict[str, Any]]]) -> str:
    """The record as a Markdown table, one row a chapter."""
    lines = [
        "| Chapter | Seeds moved by | Cells that failed | Narrowest margin | Date |",
        "|---|---|--:|--:|---|",
    ]
    for chapter, runs in sorted(record.items()):
        shifts = ", ".join(str(run["shift"]) for run in runs)
        failed = sum(len(run["failed"]) for run in runs)
        margin = f"{min(found.values()):.1f}" if (found := margins(runs)) else ""
        date = max(run["date"] for run in runs)
        lines.append(f"| {chapter.replace('_', ' ')} | {shifts} | {failed} | {margin} | {date} |")
    return "\n".join(lines) + "\n"


def write(target: Path) -> None:
    """Write the table of the kept record into the file `target`, which status.md includes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(table(json.loads(RECORD.read_text(encoding="utf-8"))), encoding="utf-8")


def main() -> int:
    """Run the chapters given on the command line and keep what came; the exit status is 1 when a cell failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="+", type=Path)
    parser.add_argument("--shifts", nargs="+", type=int, default=list(range(8)))
    options = parser.parse_args()
    os.environ |= {"COURSE_STATIC": "1", "OMP_NUM_THREADS": "1"}
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    failed = 0
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), max_tasks_per_child=1) as fresh:
        started = [
            (path, fresh.submit(try_chapter, path, shift)) for path in options.chapters for shift in options.shifts
        ]
        for path, future in started:
            found = future.result()
            print(path.stem, json.dumps(found), flush=True)
            failed += len(found["failed"])
            runs = {run["shift"]: run for run in record.get(path.stem, [])} | {found["shift"]: found}
            record[path.stem] = [runs[shift] for shift in sorted(runs)]
            write_whole(RECORD, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
