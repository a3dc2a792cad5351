"""The tag that set-up cells install: made once, and never beside a package that differs from it."""

import subprocess

import pytest

from tools.tag import ChangedPackage, tag

PYPROJECT = '[project]\nname = "x"\nversion = "1.2"\ndependencies = ["torch"]\n\n[tool.ruff]\nline-length = 120\n'


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The folder of a repository with a package, one commit and a remote."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "someone")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "someone@example.org")
    remote, root = tmp_path / "remote.git", tmp_path / "checkout"
    subprocess.run(["git", "init", "--quiet", "--bare", remote], check=True)
    subprocess.run(["git", "clone", "--quiet", remote, root], check=True, capture_output=True)
    (root / "course_lib").mkdir()
    (root / "course_lib" / "a.py").write_text("x = 1\n")
    (root / "pyproject.toml").write_text(PYPROJECT)
    commit(root)
    return root


def commit(root):
    subprocess.run(["git", "add", "--all"], cwd=root, check=True)
    subprocess.run(["git", "commit", "--quiet", "--message", "x"], cwd=root, check=True)


def remote_tags(root):
    listed = subprocess.run(
        ["git", "ls-remote", "--tags", "origin"], cwd=root, check=True, capture_output=True, text=True
    )
    return [line.rpartition("/")[2] for line in listed.stdout.splitlines()]


def test_a_version_is_tagged_once_and_stands_while_the_package_does(checkout):
    assert tag(checkout, "1.2") is True and remote_tags(checkout) == ["v1.2"]
    (checkout / "chapter.md").write_text("words")
    (checkout / "pyproject.toml").write_text(PYPROJECT.replace("120", "100"))
    commit(checkout)
    assert tag(checkout, "1.2") is False and remote_tags(checkout) == ["v1.2"]


@pytest.mark.parametrize(
    "file, text", [("course_lib/a.py", "x = 2\n"), ("pyproject.toml", PYPROJECT.replace("torch", "jax"))]
)
def test_another_package_under_the_same_version_is_refused(checkout, file, text):
    tag(checkout, "1.2")
    (checkout / file).write_text(text)
    commit(checkout)
    with pytest.raises(ChangedPackage, match=rf"v1.2 is tagged, and {file} changed since: raise the version"):
        tag(checkout, "1.2")
    assert tag(checkout, "1.3") is True and remote_tags(checkout) == ["v1.2", "v1.3"]
