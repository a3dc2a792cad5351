"""No false negative: right answers in every style, from every notebook editor, score full."""

import json
import shutil
from pathlib import Path

import pytest

from course_lib.grading import load
from course_lib.grading.pages import answer_of
from tests.grading_runs import IDS_OF_STYLES, faults, graded, write_notebooks
from tests.hostile.entry import notebook
from tests.right_answers import SOURCES, styles

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = "03_previous_token_head"
IDS_OF_CHAPTER = ("3.1", "3.2", "3.3")


@pytest.fixture(scope="module")
def rows_of_styles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("styles")
    write_notebooks(folder / "in", styles())
    return graded(folder / "in", folder / "out", IDS_OF_STYLES)


@pytest.mark.parametrize("style", SOURCES)
def test_a_style_scores_full(rows_of_styles, style):
    row = rows_of_styles[f"{style}.ipynb"]
    assert row["score"] == row["max_score"] > 0 and row["state"] == "ok", faults(row)


def answered(edit=lambda cells: cells) -> dict:
    """The exercise notebook of a chapter, its stubs filled in with the published answers."""
    made = json.loads((ROOT / "exercises" / f"{CHAPTER}.ipynb").read_text(encoding="utf-8"))
    text = (load.source_folder() / f"{CHAPTER}.md").read_text(encoding="utf-8")
    answers = {load.find(one).reference.__name__: answer_of(text, one) for one in IDS_OF_CHAPTER}
    for cell in made["cells"]:
        for name, code in answers.items():
            if cell["cell_type"] == "code" and f"def {name}(" in "".join(cell["source"]):
                cell["source"] = code
    made["cells"] = edit(made["cells"])
    return made


def _lines(cells):
    for cell in cells:
        cell["source"] = "".join(cell["source"]).splitlines(keepends=True)
    return cells


def _colab() -> dict:
    made = answered(_lines)
    for number, cell in enumerate(made["cells"]):
        cell.pop("id", None)
        cell["metadata"] = {"id": f"x{number:011}", "colab": {"base_uri": "https://localhost:8080/"}}
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["done\n"]}]
            cell["execution_count"] = number
    colab = {"provenance": [], "toc_visible": True, "gpuType": "T4"}
    made["metadata"] = {
        "colab": colab,
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "accelerator": "GPU",
    }
    return made | {"nbformat": 4, "nbformat_minor": 0}


def _vscode() -> dict:
    made = answered()
    for cell in made["cells"]:
        cell["id"] = f"{abs(hash(str(cell['source']))) % 16**8:08x}"
        cell["metadata"] = {"vscode": {"languageId": "python"}}
        cell["source"] = "".join(cell["source"]).replace("\n", "\r\n")
    made["metadata"] = {"kernelspec": {"display_name": ".venv (3.11.9)", "language": "python", "name": "python3"}}
    return made


def _jupyter() -> dict:
    made = answered(_lines)
    for cell in made["cells"]:
        cell["metadata"] |= {"editable": True, "slideshow": {"slide_type": ""}, "tags": []}
        cell["metadata"].pop("tags")
    return made


def _old_jupyter() -> dict:
    made = answered(_lines)
    for cell in made["cells"]:
        cell.pop("id", None)
        cell["metadata"] = {"collapsed": False, "scrolled": True, "trusted": True}
    return made | {"nbformat": 4, "nbformat_minor": 2}


def _without_set_up() -> dict:
    return answered(lambda cells: [cell for cell in cells if "def " in "".join(cell["source"])])


def _doubled() -> dict:
    return answered(lambda cells: [cell for one in cells for cell in (one, dict(one))])


def _stub_left_above() -> dict:
    stub = notebook(
        [f"def {load.find(one).reference.__name__}(*a):\n    raise NotImplementedError" for one in IDS_OF_CHAPTER]
    )
    return answered(lambda cells: [*stub["cells"], *cells])


def _checks_deleted() -> dict:
    return answered(lambda cells: [cell for cell in cells if "check(" not in "".join(cell["source"])])


def _edited_set_up() -> dict:
    def edit(cells):
        for cell in cells:
            if "from course_lib.grading import" in "".join(cell["source"]):
                cell["source"] = "import torch, math\nfrom course_lib.handbuilt import *\nTensor = torch.Tensor"
        return cells

    return answered(edit)


EDITORS = {
    "colab": _colab,
    "vscode": _vscode,
    "jupyter": _jupyter,
    "old_jupyter": _old_jupyter,
    "without_set_up": _without_set_up,
    "doubled": _doubled,
    "stub_left_above": _stub_left_above,
    "checks_deleted": _checks_deleted,
    "edited_set_up": _edited_set_up,
}


@pytest.fixture(scope="module")
def rows_of_editors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("editors")
    (folder / "in").mkdir()
    for name, make in EDITORS.items():
        (folder / "in" / f"{name}.ipynb").write_text(json.dumps(make(), indent=1), encoding="utf-8")
    return graded(folder / "in", folder / "out", IDS_OF_CHAPTER)


@pytest.mark.parametrize("editor", EDITORS)
def test_a_notebook_of_every_editor_scores_full(rows_of_editors, editor):
    row = rows_of_editors[f"{editor}.ipynb"]
    assert row["score"] == row["max_score"] > 0, faults(row)


@pytest.fixture(scope="module")
def all_ids():
    return tuple(load.index(load.source_folder()))


def test_the_published_solutions_score_full(tmp_path, all_ids):
    shutil.copytree(ROOT / "solutions", tmp_path / "in", ignore=shutil.ignore_patterns("*.md"))
    rows = graded(tmp_path / "in", tmp_path / "out", all_ids)
    assert len(rows) == 13
    passed = {one["id"] for row in rows.values() for one in row["exercises"] if one["state"] == "ok"}
    assert passed == set(all_ids), [faults(row) for row in rows.values()]


def test_untouched_exercises_score_nothing_and_are_no_errors(tmp_path, all_ids):
    shutil.copytree(ROOT / "exercises", tmp_path / "in")
    rows = graded(tmp_path / "in", tmp_path / "out", all_ids)
    assert {row["state"] for row in rows.values()} == {"unattempted"}
    assert {row["score"] for row in rows.values()} == {0}
