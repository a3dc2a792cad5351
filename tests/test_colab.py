"""The environment that stands for Colab: how its versions are chosen, and what is asked of the set-up cell."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools.alone import publish
from tools.colab_lock import choose, lines, read_pins
from tools.nb_settings import Settings
from tools.setup_cell import SECONDS, from_repository, problems

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = (ROOT / "requirements-colab.txt").read_text()

COLAB = {"torch": "2.11.0", "plain": "1.0", "newer": "3.0", "deep": "5.0", "extra": "7.0", "setuptools": "75.2.0"}
REGISTRY = {  # name: {version: requirements}
    "torch": {"2.13.0": ["setuptools>=77", "plain"]},
    "plain": {"1.0": ["deep[more]; python_version > '3'", "gone; sys_platform == 'never'"]},
    "newer": {"2.0": ["absent>1"]},
    "deep": {"5.0": ["extra; extra == 'more'", "unwanted; extra == 'other'"]},
    "extra": {"7.0": []},
    "setuptools": {"80.1": []},
}


def fake_registry(name, specifiers):
    """The newest version here that fits, as pip would say it."""
    need = Requirement(name + specifiers)
    for version, needs in REGISTRY[name].items():
        if need.specifier.contains(version):
            return version, [Requirement(line) for line in needs]
    return None


def test_colabs_versions_are_taken_and_the_others_have_a_reason():
    chosen, missing = choose(["torch", "newer"], COLAB, {"torch": "2.13.0"}, fake_registry)
    assert missing == {"absent"}
    text = lines(chosen, COLAB)
    assert [line.partition("  #")[0] for line in text] == [
        "deep==5.0",
        "extra==7.0",
        'newer==3.0; python_version >= "3.12"',
        'newer==2.0; python_version < "3.12"',
        "plain==1.0",
        'setuptools==75.2.0; python_version >= "3.12"',
        'setuptools==80.1; python_version < "3.12"',
        'torch==2.11.0; python_version >= "3.12"',
        'torch==2.13.0; python_version < "3.12"',
    ]
    assert "3.0 does not run on Python 3.11" in text[3]
    assert "torch 2.13.0 asks for >=77" in text[6]
    assert "CUDA" in text[8]


def test_a_package_that_nothing_fits_is_named():
    with pytest.raises(ValueError, match="no version of plain fits: >2, asked for by top 1.0"):
        choose(["top"], {"top": "1.0", "plain": "1.0"}, {}, lambda name, asked: ("1.0", [Requirement("plain>2")])
               if name == "top" else None)  # fmt: skip


def test_a_list_of_packages_is_read_with_its_comments():
    assert read_pins("# x==1\nJinja2==3.1 # why\nruamel.yaml==0.1; python_version<'4'\n") == {
        "jinja2": "3.1",
        "ruamel-yaml": "0.1",
    }


def test_the_constraints_are_colabs_and_hold_what_the_course_needs():
    pins = read_pins(CONSTRAINTS)
    assert pins | {"ipython": "7.34.0", "ipywidgets": "7.7.1", "altair": "5.5.0", "numpy": "2.1.3"} == pins
    assert 'torch==2.11.0; python_version >= "3.12"' in CONSTRAINTS
    assert 'torch==2.13.0; python_version < "3.12"' in CONSTRAINTS
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    absent = set(re.search(r"Colab lacks: (.*)\.$", CONSTRAINTS, re.M)[1].split(", "))
    for line in project["dependencies"]:
        need = Requirement(line)
        assert (need.name in pins) != (need.name in absent), need.name
        assert need.name in absent or need.specifier.contains(pins[need.name]), line


def test_a_local_repository_takes_the_place_of_the_one_on_the_web(tmp_path):
    settings = Settings("https://github.com/someone/heads", "main", "heads", "1.0")
    cell = from_repository(settings.setup_cell(), settings, tmp_path / "heads")
    assert f"git+file://localhost{tmp_path}/heads@v1.0" in cell and f"git+{settings.url}" not in cell
    with pytest.raises(ValueError, match="holds it 0x"):
        from_repository("import heads", settings, tmp_path / "heads")


def test_what_is_published_is_the_folder_as_it_is_under_its_tag(tmp_path):
    """Changed and new files too, without those that are deleted or ignored."""
    root = tmp_path / "root"
    publish_me = {
        "pyproject.toml": '[project]\nversion = "1.2"\n',
        ".gitignore": "built\n",
        "kept.py": "",
        "gone.py": "",
    }
    root.mkdir()
    for name, text in publish_me.items():
        (root / name).write_text(text)
    author = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", root, *command], check=True)
    (root / "kept.py").write_text("changed = True\n")
    (root / "gone.py").unlink()
    for name in ("new.py", "built"):
        (root / name).write_text("")
    made = publish(root, tmp_path / "made")
    shown = ["git", "-C", made, "ls-tree", "-r", "--name-only", "v1.2"]
    assert subprocess.check_output(shown, text=True).split() == [".gitignore", "kept.py", "new.py", "pyproject.toml"]
    assert subprocess.check_output(["git", "-C", made, "show", "v1.2:kept.py"], text=True) == "changed = True\n"


GOOD = {"seconds": 6.0, "changed": {}, "added": {"induction-heads-course": "1"}, "package": "x/site-packages/y"}


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"changed": {"torch": ["2.11.0", "2.13.0"]}}, "moved torch from 2.11.0 to 2.13.0"),
        ({"changed": {"numpy": ["2.1.3", None]}}, "moved numpy from 2.1.3 to None"),
        ({"seconds": SECONDS + 0.1}, "took 15.1 s; 15 s are allowed"),
        ({"added": {}}, "did not install the course"),
        ({"package": "repository/course_lib"}, "imported from repository/course_lib"),
    ],
)
def test_what_a_set_up_cell_must_not_do(change, wanted):
    assert problems(GOOD) == []
    assert [wanted in problem for problem in problems(GOOD | change)] == [True]
