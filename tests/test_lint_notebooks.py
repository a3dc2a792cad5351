"""The linter of the notebooks: a small good repository, and one bad notebook for every rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_notebooks_tool import EXERCISE, HEADER, repo

from tools.lint_notebooks import MAX_BYTES, lint, main
from tools.notebooks import build, write

ROOT = Path(__file__).resolve().parent.parent
GPU = HEADER.replace("\n---\n\n", "\ncourse:\n  colab_gpu: true\n---\n\n")
CODE = "```{code-cell} ipython3\nprint(best_device())\n```\n"
CHAPTER = "# First\n\nText with `[code](x.md)` and [the exercises](../exercises/03_x.ipynb).\n\n" + CODE
COLAB = "https://colab.research.google.com/github/someone/heads/blob/main"


@pytest.fixture
def good(tmp_path):
    """A repository whose notebooks have nothing wrong: an ordinary chapter, one with a GPU, and an exercise."""
    files = {"chapters/01_a.md": CHAPTER, "chapters/02_b.md": GPU + CHAPTER, "solutions/03_x.md": EXERCISE}
    repo(tmp_path, files)
    write(tmp_path, build(tmp_path))
    return tmp_path


def spoil(root, change, path="chapters/01_a.ipynb"):
    """Change a notebook and return what the linter says of it."""
    notebook = json.loads((root / path).read_text())
    change(notebook)
    (root / path).write_text(json.dumps(notebook, indent=1))
    return lint(root)


def test_good_notebooks_have_no_problem(good, capsys):
    assert lint(good) == []
    assert main(["--root", str(good)]) == 0
    assert "4 notebooks, 0 problems" in capsys.readouterr().out


def test_no_notebook_at_all_is_a_failure(tmp_path):
    assert main(["--root", str(repo(tmp_path, {}))]) == 1


def test_the_notebooks_of_the_course_pass():
    assert lint(ROOT) == []


def line(text):
    return lambda nb: nb["cells"][1]["source"].append("\n" + text)


def link(address):
    return lambda nb: nb["cells"][0].update(source=[f"# First\n\n[a]({address})"])


def key(name, value):
    return lambda nb: nb["metadata"].update({name: value})


def cell(n, **changes):
    return lambda nb: nb["cells"][n].update(changes)


GPU_CHAPTER = "chapters/02_b.ipynb"
BAD = {  # name: (change, part of the message[, notebook])
    "pin in the set-up cell": (line('command = ["pip", "install", "torch==2.6.0"]'), "pins or upgrades.*torch==2.6.0"),
    "upper bound": (line('"altair>=5,<6"'), "pins or upgrades.*altair>=5,<6"),
    "upgrade": (line('["pip", "install", "--upgrade", "numpy"]'), "pins or upgrades.*--upgrade"),
    "magic with a pin": (line("%pip install numpy==2.0"), "pins or upgrades.*numpy==2.0"),
    "installs elsewhere": (cell(2, source=["!pip install einops"]), "cell 3: installs something"),
    "set-up cell differs": (line("# changed"), "cell 2: the set-up cell differs"),
    "set-up cell gone": (lambda nb: nb["cells"].pop(1), "must be cell 2, after the title, and is missing"),
    "set-up cell late": (lambda nb: nb["cells"].append(nb["cells"].pop(1)), r"must be cell 2.*is \[3\]"),
    "no kernel": (lambda nb: nb["metadata"].pop("kernelspec"), "metadata.kernelspec must be"),
    "another kernel": (key("kernelspec", {"name": "ir"}), "metadata.kernelspec must be"),
    "no language": (lambda nb: nb["metadata"].pop("language_info"), "metadata.language_info must be"),
    "leftover metadata": (key("widgets", {}), "metadata.widgets must be absent"),
    "old format": (lambda nb: nb.update(nbformat_minor=4), "format 4.4 has no cell ids"),
    "GPU for nothing": (key("accelerator", "GPU"), "metadata.accelerator must be absent, got GPU"),
    "GPU left out": (lambda nb: nb["metadata"].pop("accelerator"), "accelerator must be GPU", GPU_CHAPTER),
    "kind of GPU left out": (lambda nb: nb["metadata"].pop("colab"), "metadata.colab must be", GPU_CHAPTER),
    "GPU not used": (cell(2, source=["x = 1"]), "never calls best_device", GPU_CHAPTER),
    "two cells with one id": (lambda nb: nb["cells"].append(nb["cells"][2]), "cell 4: the id .* is taken"),
    "random id": (cell(2, id="8fe1c2d3"), "cell 3: the id '8fe1c2d3' is not made from its content"),
    "no id": (lambda nb: nb["cells"][2].pop("id"), "cell 3: the id '' is not made"),
    "id of the twin": (cell(3, id="0" * 12), "another id in the solution", "exercises/03_x.ipynb"),
    "output": (cell(2, outputs=[{"output_type": "stream", "name": "stdout", "text": "1"}]), "cell 3: an output"),
    "number of a run": (cell(2, execution_count=1), "cell 3: an output or a run's number"),
    "relative link": (link("../exercises/03_x.ipynb"), "a relative link leads nowhere on Colab"),
    "link to a page of the book": (link("02_b.html#x"), "02_b.html#x: a relative link"),
    "anchor": (link("#first"), "a relative link"),
    "link in HTML": (cell(0, source=["# T\n\n<img src='a.png'>"]), "a.png: a relative link"),
    "not encrypted": (link("http://example.org"), "must begin with https://"),
    "another branch": (link(f"{COLAB[:-4]}dev/chapters/01_a.ipynb"), f"must begin with {COLAB}/"),
    "another owner": (link(COLAB.replace("someone", "else") + "/chapters/01_a.ipynb"), f"must begin with {COLAB}/"),
    "notebook gone": (link(f"{COLAB}/chapters/09_gone.ipynb"), "no chapters/09_gone.ipynb in the repository"),
    "no notebook": (link(f"{COLAB}/notation.md"), "Colab opens notebooks only"),
    "file gone": (link("https://github.com/someone/heads/blob/main/gone.md"), "no gone.md in the repository"),
    "image gone": (
        lambda nb: nb["cells"][0].update(source="![a](https://raw.githubusercontent.com/someone/heads/main/a.svg)"),
        "no a.svg in the repository",
    ),
    "large": (lambda nb: nb["cells"][0]["source"].append("x" * MAX_BYTES), "bytes; 200,000 are allowed"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_notebooks(good, name):
    change, wanted, *path = BAD[name]
    found = spoil(good, change, *path)
    place = (path or ["chapters/01_a.ipynb"])[0]
    assert any(problem.startswith(f"{place}: ") for problem in found)
    with pytest.raises(AssertionError, match=wanted):
        raise AssertionError("\n".join(found))


def test_links_that_lead_somewhere_are_left_alone(good):
    for address in (f"{COLAB}/chapters/02_b.ipynb#part", "https://example.org/x", "https://github.com/someone/heads"):
        assert spoil(good, link(address)) == []


def test_the_exit_status_tells(good, capsys):
    spoil(good, cell(2, execution_count=1))
    assert main(["--root", str(good)]) == 1
    assert "1 problems" in capsys.readouterr().out
