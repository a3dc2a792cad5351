"""Binder, the devcontainer and the Dockerfile: what they name exists, and says the same as what was proved."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from tools import offline

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def make_targets():
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"^  make ([a-z-]+)", listed, re.M)) | {".venv/ready"}


def test_the_image_is_made_by_the_steps_that_make_offline_proves():
    assert set(re.findall(r"^RUN make (\S+)", DOCKERFILE, re.M)) == {"book", "wheels"}
    assert {"book", "wheels", "offline"} <= make_targets()
    wheels = offline.WHEELS.relative_to(ROOT).as_posix()
    assert f"source=/course/{wheels},target=/wheels" in DOCKERFILE and f"/course/{wheels} wheels" in DOCKERFILE
    install = re.search(r"python -m (pip install .*)", DOCKERFILE)[1]
    assert "--no-index --find-links /wheels" in install and f'"{offline.PACKAGE}"' in install
    assert offline.PACKAGE.removesuffix("[lab]") == PROJECT["name"]
    assert f"jupyter execute {next(iter(offline.NOTEBOOKS))}" in DOCKERFILE
    # a chapter shows wrong answers on purpose: only exercise notebooks can be all unattempted
    assert all(
        ("COURSE_STRICT" in settings) == path.startswith("exercises/") for path, settings in offline.NOTEBOOKS.items()
    )


def test_the_image_runs_as_an_ordinary_user_and_holds_what_the_last_stage_copies():
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"^USER learner$", last, re.M) and "useradd --create-home learner" in last
    copied = re.findall(r"^COPY --from=build --chown=learner /course/(\S+) (\S+)$", last, re.M)
    assert {target for _, target in copied} == {"wheels", "book", "chapters", "exercises", "solutions"}
    assert all((ROOT / source).exists() for source, _ in copied if not source.startswith("_"))
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv*", "_build", "_offline"} <= set(ignored)


def test_jupyterlab_opens_chapter_0_and_shows_the_exercises_too(tmp_path):
    """Given a notebook alone, it shows nothing but that notebook's folder, and links to exercises lead nowhere."""
    words = re.search(r"^\t\$\(BIN\)/jupyter lab (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert all(f'"{word}"' in DOCKERFILE for word in words)
    command = [sys.executable, "-m", "jupyter", "lab", *words, "--allow-root", "--no-browser", "--port=0"]
    environment = os.environ | {"JUPYTER_RUNTIME_DIR": str(tmp_path)}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        about = first_server(tmp_path, server)
        opened = f"{about['url']}api/contents/exercises?content=0&token={about['token']}"
        with urlopen(opened, timeout=30) as answer:
            assert json.load(answer)["type"] == "directory"
        with urlopen(f"{about['url']}?token={about['token']}", timeout=30) as answer:
            assert answer.url.partition("?")[0].endswith("/lab/tree/chapters/00_start_here.ipynb")
    finally:
        server.terminate()
        server.wait()


def first_server(folder, server):
    """What a Jupyter server writes of itself once it listens."""
    end = time.monotonic() + 60
    while True:
        for path in folder.glob("jpserver-*.json"):
            with suppress(json.JSONDecodeError):  # not yet whole
                return json.loads(path.read_text())
        assert server.poll() is None and time.monotonic() < end, "the server does not start"
        time.sleep(0.1)


def test_no_file_of_a_place_names_a_registry():
    files = [ROOT / "Dockerfile", *(ROOT / ".binder").iterdir(), *(ROOT / ".devcontainer").iterdir()]
    images = re.findall(r'^FROM (\S+)|"image": "([^"]+)"', "\n".join(file.read_text() for file in files), re.M)
    assert images and all(re.fullmatch(r"python:3\.11-[a-z]+", first or second) for first, second in images)
    assert not [file.name for file in files if re.search(r"https?://|\.io/|index-url \S*\w+\.\w", file.read_text())]


def test_the_devcontainer_can_be_read_and_calls_what_exists():
    settings = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert settings["postCreateCommand"].split()[0] == "make"
    assert set(settings["postCreateCommand"].split()[1:]) <= make_targets()
    assert settings["containerEnv"]["COURSE_RUNS"].endswith("/_runs")
    assert "_runs/" in (ROOT / ".gitignore").read_text().split()


def test_binder_installs_the_lock_and_the_course():
    lines = (ROOT / ".binder" / "requirements.txt").read_text().splitlines()
    _, constraint, course = lines
    assert (ROOT / ".binder" / constraint.removeprefix("-c ")).resolve() == ROOT / "requirements.txt"
    assert course == ".[lab]" and "lab" in PROJECT["optional-dependencies"]
    assert (ROOT / ".binder" / "runtime.txt").read_text().strip() == "python-3.11"
    script = ROOT / ".binder" / "postBuild"
    assert os.access(script, os.X_OK) and script.read_text().startswith("#!/bin/sh\n")


@pytest.mark.parametrize("line", ['python -c "from course_lib.data import load_corpus; print(load_corpus())"'])
def test_what_binder_runs_at_the_end_works(line):
    assert line in (ROOT / ".binder" / "postBuild").read_text()
    from course_lib.data import load_corpus

    assert "tokens" in repr(load_corpus())
