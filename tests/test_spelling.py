"""No known misspelling in what people read: pages, chapters, docstrings, drawings. `make spelling` lists them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("codespell_lib", reason="codespell is not installed: run `make test`, which installs it")

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ROOT / "pyproject.toml"


def spelling(*files: Path) -> subprocess.CompletedProcess:
    """codespell with the project's settings, on some files or on all of them."""
    command = [sys.executable, "-m", "codespell_lib", "--toml", SETTINGS, *files]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_nothing_is_misspelt():
    done = spelling()
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelling_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("The atention of a head.\n", encoding="utf-8")
    done = spelling(page)
    assert done.returncode and "atention" in done.stdout
