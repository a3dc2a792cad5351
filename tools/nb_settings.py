"""Addresses, version and the Colab set-up cell, all derived from `_config.yml` and `pyproject.toml`."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import yaml

from tools.nb_source import Report

SETUP_ID = "colab-setup"

SETUP = """\
# @title Set-up for Colab: run this cell first (it does nothing anywhere else)
# Tick this box before you start a long run: its checkpoints go to your Google Drive, and after a disconnect it goes on.
keep_long_runs_on_my_drive = False  # @param {{type: "boolean"}}

import importlib
import os
import subprocess
import sys

if "google.colab" in sys.modules:
    address = "git+{url}@v{version}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", f"{distribution} @ {{address}}"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(
            "The course package could not be installed, so the cells below will not run.\\n"
            "What to do: choose Runtime > Disconnect and delete runtime, then run this cell again.\\n"
            "If it fails again, report it, with the lines below, at\\n"
            "{url}/issues\\n"
            f"pip said:\\n{{run.stderr[-2000:]}}"
        )
    importlib.invalidate_caches()
    if keep_long_runs_on_my_drive:
        from google.colab import drive

        drive.mount("/content/drive")
        os.environ["COURSE_RUNS"] = "/content/drive/MyDrive/{distribution}-runs"
"""


@dataclass(frozen=True)
class Settings:
    """Where the project lives and what its package is called."""

    url: str  # https://github.com/OWNER/REPO
    branch: str
    distribution: str
    version: str

    @property
    def slug(self) -> str:
        """OWNER/REPO."""
        return self.url.removeprefix("https://github.com/")

    def colab(self, path: str) -> str:
        """Address that opens the notebook `path` on Colab."""
        return f"https://colab.research.google.com/github/{self.slug}/blob/{self.branch}/{path}"

    def raw(self, path: str) -> str:
        """Address of the file `path` itself, for images."""
        return f"https://raw.githubusercontent.com/{self.slug}/{self.branch}/{path}"

    def page(self, path: str) -> str:
        """Address of the page on which a browser shows the file or folder `path`."""
        return f"{self.url}/blob/{self.branch}/{path}"

    def setup_cell(self) -> str:
        """Source of the cell that installs the package on Colab; the same in every notebook."""
        return SETUP.format(url=self.url, version=self.version, distribution=self.distribution).rstrip("\n")


def read_settings(root: Path, report: Report) -> Settings:
    """Settings of the repository at `root`; what is missing or odd goes into `report`."""
    repository = _read(root / "_config.yml", yaml.safe_load, yaml.YAMLError, report).get("repository") or {}
    project = _read(root / "pyproject.toml", tomllib.loads, tomllib.TOMLDecodeError, report).get("project") or {}
    url = str(repository.get("url", "")).rstrip("/").removesuffix(".git")
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", url):
        report.add("_config.yml", 1, f"repository.url must read https://github.com/OWNER/REPO, got {url!r}")
    if not repository.get("branch"):
        report.add("_config.yml", 1, "repository.branch is missing")
    for key in ("name", "version"):
        if not project.get(key):
            report.add("pyproject.toml", 1, f"project.{key} is missing")
    return Settings(url, str(repository.get("branch")), str(project.get("name")), str(project.get("version")))


def _read(path: Path, parse, error: type[Exception], report: Report) -> dict:
    if not path.is_file():
        report.add(path.name, 1, "this file is missing")
        return {}
    try:
        return parse(path.read_text(encoding="utf-8")) or {}
    except error as problem:
        report.add(path.name, 1, f"cannot be read: {' '.join(str(problem).split())}")
        return {}
