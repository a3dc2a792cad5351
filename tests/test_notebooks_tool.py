"""The notebook generator, on good sources and on sources that are wrong on purpose (`python -m tools.notebooks`)."""

from __future__ import annotations

import ast
import json
import os
import sys
import types
from pathlib import Path

import nbformat
import pytest

from tools.nb_source import SourceErrors
from tools.notebooks import build, main

ROOT = Path(__file__).resolve().parent.parent
COLAB = "https://colab.research.google.com/github/someone/heads/blob/main"

CONFIG = "repository:\n  url: https://github.com/someone/heads\n  branch: main\n"
PYPROJECT = '[project]\nname = "heads-course"\nversion = "1.2.3"\n'
BIBLIOGRAPHY = """
@article{two2021, title={A}, author={Elhage, Nelson and Nanda, Neel}, year={2021}, url={https://example.org/a}}
@article{many2022, title={B}, author={Olsson, C. and Elhage, N. and Nanda, N.}, year={2022}, note={arXiv:2209.11895}}
@article{bare2017, title={C}, author={Vaswani, Ashish}, year={2017}}
"""
HEADER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
    format_version: 0.13
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""
EXERCISE = '''\
# Solutions 3

```{code-cell} ipython3
from course_lib.grading import Case, check, exercise, hint
```

## 3.1 Shift

Shift by one.

```{code-cell} ipython3
:tags: [answer, hide-input]

def shift(values, by=1):
    """Move every value to the right."""
    ### BEGIN SOLUTION
    moved = values.roll(by, dims=-1)  # wraps around
    return moved * mask_of(values, by)
    ### END SOLUTION
```

```{code-cell} ipython3
:tags: [spec, hide-input]

exercise("3.1", "Shift", shift, cases=lambda generator: [Case("six values", {})], hints=("Use a secret.",))
```

```{code-cell} ipython3
check("3.1", shift)
```

+++ {"tags": ["solution-only"]}

A roll wraps around, so the first value must go.

+++

The end.
'''


def repo(root: Path, files: dict[str, str]) -> Path:
    """A small repository: settings, bibliography, a figure, and the sources given (a chapter's header is added)."""
    content = {"_config.yml": CONFIG, "pyproject.toml": PYPROJECT, "references.bib": BIBLIOGRAPHY} | {
        "chapters/figures/note.svg": "<svg/>",
        "notation.md": "(symbols)=\n# Notation\n",
    }
    for path, text in (content | files).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        is_source = path.startswith(("chapters/", "solutions/")) and path.endswith(".md")
        (root / path).write_text(HEADER + text if is_source and not text.startswith("---") else text)
    return root


def cells(text: str) -> list[dict]:
    """The cells of a notebook, its text checked by nbformat."""
    nbformat.validate(nbformat.reads(text, as_version=4))
    return json.loads(text)["cells"]


def sources(text: str, kind: str = "") -> list[str]:
    """The text of all cells, or of the cells of one kind."""
    return ["".join(cell["source"]) for cell in cells(text) if kind in ("", cell["cell_type"])]


def lowered(tmp_path: Path, body: str, **others: str) -> str:
    """The Markdown that a chapter with this text ends up with; `others` are further chapters."""
    files = {f"chapters/{name}.md": text for name, text in others.items()}
    notebooks = build(repo(tmp_path, {"chapters/01_a.md": f"# First\n\n+++\n\n{body}\n", **files}))
    return "\n\n".join(sources(notebooks["chapters/01_a.ipynb"], "markdown")[1:])


def problems(tmp_path: Path, files: dict[str, str]) -> str:
    """The message of the errors that these sources cause."""
    with pytest.raises(SourceErrors) as caught:
        build(repo(tmp_path, files))
    return str(caught.value)


# --- good sources -----------------------------------------------------------------------------------------------------


def test_writes_all_notebooks_twice_the_same(tmp_path, capsys):
    repo(tmp_path, {"chapters/01_a.md": "# First\n\nSome text.\n", "solutions/03_x.md": EXERCISE})
    (tmp_path / "chapters/old.ipynb").write_text("{}")
    assert main(["--root", str(tmp_path)]) == 0
    written = {file.relative_to(tmp_path).as_posix(): file.read_bytes() for file in tmp_path.rglob("*.ipynb")}
    assert sorted(written) == ["chapters/01_a.ipynb", "exercises/03_x.ipynb", "solutions/03_x.ipynb"]
    assert {path: text.encode() for path, text in build(tmp_path).items()} == written
    assert main(["--root", str(tmp_path), "--check"]) == 0
    assert not list(tmp_path.rglob("*.tmp"))


def test_notebooks_have_no_outputs_and_little_metadata(tmp_path):
    gpu = HEADER.replace("\n---\n\n", "\ncourse:\n  colab_gpu: true\n---\n\n")
    body = "# T\n\n```{code-cell} ipython3\n:tags: [hide-input]\nx = 1\n```\n"
    files = {"chapters/01_a.md": gpu + body, "chapters/02_b.md": body}
    with_gpu, without = (json.loads(text) for _path, text in sorted(build(repo(tmp_path, files)).items()))
    assert with_gpu["metadata"].pop("accelerator") == "GPU"
    assert with_gpu["metadata"].pop("colab") == {"gpuType": "T4"}
    assert with_gpu == without
    assert set(without["metadata"]) == {"kernelspec", "language_info"}
    code = without["cells"][2]
    assert code["outputs"] == [] and code["execution_count"] is None
    assert code["metadata"] == {"tags": ["hide-input"], "cellView": "form"}


def test_ids_survive_an_insertion(tmp_path):
    body = "# T\n\nSame.\n\n+++\n\nSame.\n\n```{code-cell} ipython3\nx = 1\n```\n"
    before = cells(build(repo(tmp_path, {"chapters/01_a.md": body}))["chapters/01_a.ipynb"])
    longer = body.replace("# T\n\nSame.", "# T\n\nSame.\n\n```{code-cell} ipython3\nnew = 0\n```\n\nSame.", 1)
    after = cells(build(repo(tmp_path, {"chapters/01_a.md": longer}))["chapters/01_a.ipynb"])
    ids = [cell["id"] for cell in after]
    assert len(set(ids)) == len(ids) == len(before) + 2
    assert {cell["id"] for cell in before} <= set(ids)


def test_an_answer_cell_keeps_its_id_when_the_answer_changes(tmp_path):
    first = build(repo(tmp_path, {"solutions/03_x.md": EXERCISE}))
    second = build(repo(tmp_path, {"solutions/03_x.md": EXERCISE.replace("# wraps around", "# circular")}))
    assert first["exercises/03_x.ipynb"] == second["exercises/03_x.ipynb"]
    exercise_ids = {cell["id"] for cell in cells(first["exercises/03_x.ipynb"])}
    assert exercise_ids <= {cell["id"] for cell in cells(second["solutions/03_x.ipynb"])}


def test_exercise_has_the_stub_and_no_answer(tmp_path):
    notebooks = build(repo(tmp_path, {"solutions/03_x.md": EXERCISE}))
    exercise, solution = notebooks["exercises/03_x.ipynb"], notebooks["solutions/03_x.ipynb"]
    opening = 'def shift(values, by=1):\n    """Move every value to the right."""\n    '
    assert opening + 'raise NotImplementedError("your code here")' in sources(exercise)
    answer = next(cell for cell in cells(exercise) if "your code here" in "".join(cell["source"]))
    assert answer["metadata"] == {"tags": ["answer"]}
    for secret in ("roll", "mask_of", "secret", "wraps", "SOLUTION", '"spec"', "solution-only"):
        assert secret not in exercise, secret
        assert secret in solution, secret
    for shared in ('check("3.1", shift)', "The end."):
        assert shared in sources(exercise) and shared in sources(solution)


def test_a_solution_and_its_exercise_have_titles_of_their_own(tmp_path):
    notebooks = build(repo(tmp_path, {"solutions/03_x.md": EXERCISE}))
    assert sources(notebooks["solutions/03_x.ipynb"])[0].startswith("# Solutions 3")
    assert sources(notebooks["exercises/03_x.ipynb"])[0].startswith("# Exercises 3")


def test_setup_cell_is_the_same_everywhere_and_follows_the_title(tmp_path):
    files = {"chapters/01_a.md": "# First\n\nText.\n", "solutions/03_x.md": EXERCISE}
    second = [cells(text)[1] for text in build(repo(tmp_path, files)).values()]
    assert second[0]["id"] == "colab-setup"
    assert second[0]["metadata"] == {"cellView": "form", "tags": ["remove-cell"]}
    assert second == [second[0]] * 3


def test_setup_cell_installs_on_colab_only(tmp_path, monkeypatch):
    code = sources(build(repo(tmp_path, {"chapters/01_a.md": "# First\n"}))["chapters/01_a.ipynb"], "code")[0]
    calls = []
    answer = types.SimpleNamespace(returncode=0, stderr="no network")
    monkeypatch.setattr("subprocess.run", lambda command, **options: calls.append(command) or answer)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    monkeypatch.delenv("COURSE_RUNS", raising=False)
    exec(code, {})
    assert calls == []
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    exec(code, {})
    package = "heads-course @ git+https://github.com/someone/heads@v1.2.3"
    assert calls == [[sys.executable, "-m", "pip", "install", "--quiet", package]]
    assert "COURSE_RUNS" not in os.environ
    answer.returncode = 1
    with pytest.raises(RuntimeError, match=r"(?s)What to do: .*heads/issues.*no network"):
        exec(code, {})


def test_setup_cell_keeps_long_runs_on_the_drive_of_those_who_tick_the_box(tmp_path, monkeypatch):
    code = sources(build(repo(tmp_path, {"chapters/01_a.md": "# First\n"}))["chapters/01_a.ipynb"], "code")[0]
    unticked = 'keep_long_runs_on_my_drive = False  # @param {type: "boolean"}'  # how Colab's forms write a box
    assert unticked in code.splitlines()
    mounted, colab = [], types.ModuleType("google.colab")
    colab.drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setattr("subprocess.run", lambda *given, **options: types.SimpleNamespace(returncode=0))
    monkeypatch.setenv("COURSE_RUNS", "before")  # put back after the test
    exec(code, {})
    assert mounted == [] and os.environ["COURSE_RUNS"] == "before"
    exec(code.replace(unticked, unticked.replace("False", "True")), {})
    assert mounted == ["/content/drive"]
    assert os.environ["COURSE_RUNS"] == "/content/drive/MyDrive/heads-course-runs"


LOWERED = {
    "note": (":::{note}\nText.\n:::", "> **Note**\n>\n> Text."),
    "note with text on its first line": ("```{tip} Short.\n```", "> **Tip**\n>\n> Short."),
    "admonition": (":::{admonition} Goals\n:class: tip\n\n- one\n- two\n:::", "> **Goals**\n>\n> - one\n> - two"),
    "warning in a list": (
        "1. one\n\n   :::{warning}\n   Careful.\n   :::\n\n2. two",
        "1. one\n\n   > **Warning**\n   >\n   > Careful.\n\n2. two",
    ),
    "dropdown": (
        ":::{dropdown} The `answer`\n:open:\nIt is *one*.\n:::",
        "<details open><summary>The <code>answer</code></summary>\n\nIt is *one*.\n\n</details>",
    ),
    "admonition as dropdown": (
        ":::{admonition} Why\n:class: note dropdown\nSo.\n:::",
        "<details><summary>Why</summary>\n\nSo.\n\n</details>",
    ),
    "nested": (
        "::::{admonition} Predict\nHow?\n\n:::{dropdown} Answer\n$$\nx\n$$\n:::\n::::",
        "> **Predict**\n>\n> How?\n>\n> <details><summary>Answer</summary>\n>\n> $$\n> x\n> $$\n>\n> </details>",
    ),
    "code inside a note": (
        "````{important}\n```python\n:::{note}\n\n\n{ref}`x`\n```\n````",
        "> **Important**\n>\n> ```python\n> :::{note}\n>\n>\n> {ref}`x`\n> ```",
    ),
    "math directive": ("```{math}\n% not a comment of ours\na = b\n```", "$$\n% not a comment of ours\na = b\n$$"),
    "one line of math": ("$$ a = b $$", "$$\na = b\n$$"),
    "math role": ("Set {math}`x^2`.", "Set $x^2$."),
    "numbered equation": ("$$\na = b\n$$ (first)\n\nBy {eq}`first`.", "$$\na = b \\qquad (1)\n$$\n\nBy (1)."),
    "comment and label": ("(here)=\n## Here\n\n% a comment\n\nSee {ref}`here`.", "## Here\n\nSee Here."),
    "reference with a title": (
        "(here)=\n## Here\n\nSee {ref}`the part <here>` and [it](#here).",
        "See the part and it.",
    ),
    "citations": (
        "As {cite:t}`two2021` say {cite}`many2022,bare2017`.",
        "As [Elhage and Nanda (2021)](https://example.org/a) say"
        " ([Olsson et al., 2022](https://arxiv.org/abs/2209.11895); Vaswani, 2017).",
    ),
    "term": ("An {term}`nat` and {term}`heads <head>`.", "An nat and heads."),
    "footnote": ("Yes[^why].\n\n[^why]: Because\n    of that.", "Yes<sup>1</sup>.\n\n<sup>1</sup> Because\nof that."),
    "link to a page": ("{doc}`../notation`", "[Notation](https://github.com/someone/heads/blob/main/notation.md)"),
    "label on a page": ("{ref}`symbols`", "[Notation](https://github.com/someone/heads/blob/main/notation.md)"),
    "web link": (
        "[x](https://example.org/a_(b)) <https://example.org>",
        "[x](https://example.org/a_(b)) <https://example.org>",
    ),
    "image": (
        "![a note](figures/note.svg)",
        "![a note](https://raw.githubusercontent.com/someone/heads/main/chapters/figures/note.svg)",
    ),
    "line break and table": ("a  \nb\n\n| $x_{{i}}$ | `{y}` |\n|---|---|\n| 1 | 2 |",) * 2,
}


@pytest.mark.parametrize("name", LOWERED)
def test_lowering(tmp_path, name):
    given, wanted = LOWERED[name]
    found = lowered(tmp_path, given)
    assert found == wanted or (name == "reference with a title" and found.endswith(wanted))


def test_figures_point_at_the_repository_and_are_numbered(tmp_path):
    figure = "```{figure} figures/note.svg\n:alt: Two heads.\n:name: heads\n:width: 50%\n\nThe *two* heads.\n```\n"
    wanted = (
        "![Two heads.](https://raw.githubusercontent.com/someone/heads/main/chapters/figures/note.svg)\n\n"
        "**Figure 1.** The *two* heads.\n\nSee Figure 1, Fig. 1 and here."
    )
    see = "See {numref}`heads`, {numref}`Fig. %s <heads>` and {ref}`here <heads>`."
    assert lowered(tmp_path, f"{figure}\n{see}") == wanted


def test_links_between_notebooks_open_on_colab(tmp_path):
    body = "[b](02_b.md#part) [e](../exercises/03_x.ipynb) {doc}`02_b` {ref}`part` {ref}`exercise` [](02_b.ipynb)"
    other = "# Second\n\n(part)=\n## A part\n"
    repo(tmp_path, {"solutions/03_x.md": EXERCISE.replace("## 3.1", "(exercise)=\n## 3.1")})
    assert lowered(tmp_path, body + "\n\n[r]: 02_b.md", **{"02_b": other}) == (
        f"[b]({COLAB}/chapters/02_b.ipynb) [e]({COLAB}/exercises/03_x.ipynb) [Second]({COLAB}/chapters/02_b.ipynb)"
        f" [A part]({COLAB}/chapters/02_b.ipynb) [3.1 Shift]({COLAB}/exercises/03_x.ipynb)"
        f" [Second]({COLAB}/chapters/02_b.ipynb)\n\n[r]: {COLAB}/chapters/02_b.ipynb"
    )


def test_code_is_not_touched(tmp_path):
    spans = "A `{ref}`  and ``{cite}`x` `` and `[a](b.md)`.\n\n"
    fence = "```md\n% kept\n(kept)=\n[^1] {ref}`x` [a](b.md)\n:::{note}\n:::\n```"
    assert lowered(tmp_path, spans + fence) == spans + fence


def test_magics_are_python_enough(tmp_path):
    body = EXERCISE.replace("from course_lib", "%matplotlib inline\n!ls\nfrom course_lib")
    assert "%matplotlib" in build(repo(tmp_path, {"solutions/03_x.md": body}))["exercises/03_x.ipynb"]


# --- sources that are wrong on purpose --------------------------------------------------------------------------------

BAD_CHAPTERS = {  # name: (text after the title, line after the title on which it is wrong, part of the message)
    "unknown directive": ("```{exercise}\nx\n```", 0, "{exercise} has no form on Colab"),
    "code cell in a list": ("- a\n\n  ```{code-cell}\n  x\n  ```", 2, "must stand at the left margin"),
    "code cell in a note": (":::{note}\n\n```{code-cell}\nx\n```\n\n:::", 0, "':::{note}' is never closed"),
    "unclosed fence": ("text\n\n```python\nx", 2, "'```python' is never closed"),
    "backtick in a title": ("```{tip} `x`\nx\n```", 0, "write this directive with colons"),
    "unclosed math": ("$$\nx", 0, "'$$' is never closed"),
    "inner fence as long as the outer": (":::{tip}\n:::{note}\nx\n:::\n:::", 4, "needs more colons"),
    "unknown role": ("a {kbd}`x`", 0, "the role {kbd} has no form on Colab"),
    "role over two lines": ("a {ref}`x\ny`", 0, "looks like a role of MyST: {ref}`x y`"),
    "unknown label": ("a\nb {ref}`nowhere`", 1, "no label 'nowhere'"),
    "wrong kind of label": ("(s)=\n## S\n\n{numref}`s`", 3, "'s' is the label of a section"),
    "label without a title": ("(s)=\nText.\n\n{ref}`s`", 3, "labels something without a title"),
    "label twice": ("(s)=\n## S\n\n(s)=\n## T", 3, "label 's' is used already, in chapters/01_bad.md:15"),
    "unknown work": ("{cite}`nobody1999`", 0, "no entry 'nobody1999' in references.bib"),
    "unknown document": ("{doc}`09_gone`", 0, "there is no document '09_gone'"),
    "dead link": ("a [b](09_gone.md)", 0, "link to '09_gone.md', which does not exist"),
    "missing image": ("![a](figures/gone.svg)", 0, "image 'figures/gone.svg' does not exist"),
    "foreign image": ("![a](https://example.org/a.png)", 0, "may load nothing from another host"),
    "figure without alt": ("```{figure} figures/note.svg\nx\n```", 0, "needs an :alt: text"),
    "empty note": (":::{note}\n:::", 0, "{note} is empty"),
    "untitled dropdown": (":::{dropdown}\nx\n:::", 0, "needs a title"),
    "formula in a summary": (":::{dropdown} Why $x$\nx\n:::", 0, "no formula in the title"),
    "footnote without text": ("a[^1]", 0, "footnote [^1] has no text"),
    "footnote without mark": ("[^1]: text", 0, "nothing refers to the footnote [^1]"),
    "substitution": ("a {{ x }}", 0, "looks like a substitution of MyST: {{ x }}"),
    "definition list": ("Term\n: meaning", 1, "looks like a definition list"),
    "bare align": ("\\begin{align}\nx\n\\end{align}", 0, "looks like a formula outside of $$"),
    "attributes": ("`x`{.python}", 0, "looks like attributes of MyST"),
    "indented code": ("text\n\n    {ref}`x`", 2, "indented code"),
    "misspelt tag": ("```{code-cell}\n:tags: [anwser]\nx\n```", 2, "unknown tag 'anwser'"),
    "tag of a solution": ("```{code-cell}\n:tags: [answer]\nx\n```", 2, "'answer' belongs in solutions/"),
    "unknown option": ("```{code-cell}\n:label: x\nx\n```", 2, "a cell takes tags and mystnb, not label"),
    "tags as text": ("```{code-cell}\n:tags: answer\nx\n```", 1, "'answer' is not of type 'array'"),
    "empty cell": ("```{code-cell}\n```", 0, "empty code cell"),
    "set-up by hand": ("```{code-cell}\n!pip install heads\n```", 1, "a set-up cell written by hand"),
    "markers": ("```{code-cell}\n### BEGIN SOLUTION\n```", 1, "outside a cell tagged answer"),
    "bad tags": ('+++ {"tags": \n\ntext', 0, "not a readable MyST notebook"),
    "tagged text": ('+++ {"tags": ["hide-input"]}\n\ntext', 2, "a Markdown cell cannot be tagged 'hide-input'"),
}


@pytest.mark.parametrize("name", BAD_CHAPTERS)
def test_bad_chapters(tmp_path, name):
    body, line, wanted = BAD_CHAPTERS[name]
    first = HEADER.count("\n") + 3  # after the header, the title and a blank line
    found = problems(tmp_path, {"chapters/01_bad.md": f"# T\n\n{body}\n"}).split("\n")
    assert any(text.startswith(f"chapters/01_bad.md:{first + line}: ") and wanted in text for text in found), found


BAD_EXERCISES = {  # name: (text to replace in EXERCISE, its replacement, text of the bad line, part of the message)
    "unclosed": ("    ### END SOLUTION\n", "", "    ### BEGIN SOLUTION", "without '### END SOLUTION'"),
    "unopened": ("    ### BEGIN SOLUTION\n", "", "    ### END SOLUTION", "without '### BEGIN SOLUTION' before"),
    "nested": ("    return moved", "    ### BEGIN SOLUTION\n    return moved", "", "nested marker"),
    "misindented end": ("    ### END", "  ### END", "  ### END SOLUTION", "misindented marker"),
    "misindented answer": ("    return moved", "  return moved", "  return moved * mask_of(values, by)", "misindented"),
    "marker too far left": ("    ### BEGIN", "  ### BEGIN", "", "misindented"),
    "misspelt marker": ("    ### BEGIN", "    ## BEGIN", "    ## BEGIN SOLUTION", "misspelt marker"),
    "marker outside a function": (
        "def shift",
        "### BEGIN SOLUTION\nx = 1\n### END SOLUTION\ndef shift",
        "### BEGIN SOLUTION",
        "outside of a function",
    ),
    "nothing between": (
        "The end.",
        "```{code-cell} ipython3\n:tags: [answer]\ndef f():\n    ### BEGIN SOLUTION\n\n    ### END SOLUTION\n```",
        "",
        "nothing stands between",
    ),
    "no markers": (
        "The end.",
        "```{code-cell} ipython3\n:tags: [answer]\ndef f(): return 1\n```",
        "def f(): return 1",
        "an answer cell needs '### BEGIN SOLUTION'",
    ),
    "marker in text": ("The end.", "### END SOLUTION", "### END SOLUTION", "outside a cell tagged answer"),
    "stub is not Python": (
        "    ### BEGIN SOLUTION\n",
        "    for x in values:\n    ### BEGIN SOLUTION\n",
        "",
        "without its answer this cell is not valid Python",
    ),
    "not Python": ("The end.", "```{code-cell} ipython3\nx = = 1\n```", "x = = 1", "not valid Python: invalid syntax"),
    "no check": ('check("3.1", shift)', "shift([1])", 'exercise("3.1"', "no untagged cell has check('3.1', ...)"),
    "hidden check": (
        'check("3.1"',
        ':tags: [solution-only]\ncheck("3.1"',
        'exercise("3.1"',
        "no untagged cell has check",
    ),
    "check without spec": (
        "The end.",
        '```{code-cell} ipython3\ncheck("3.2", shift)\n```',
        'check("3.2"',
        "without a spec cell",
    ),
    "solution without spec": (
        "The end.",
        '```{code-cell} ipython3\nsolution("3.2")\n```',
        'solution("3.2")',
        "without a spec cell",
    ),
    "hint without spec": (
        "The end.",
        '```{code-cell} ipython3\nhint("3.2")\n```',
        'hint("3.2")',
        "without a spec cell",
    ),
    "checked twice": (
        "The end.",
        '```{code-cell} ipython3\ncheck("3.1", shift)\n```',
        "",
        "is checked already, in line",
    ),
    "check of a number": ('check("3.1"', "check(3.1", "check(3.1", "must be given the exercise as text"),
    "check of another function": (
        'check("3.1", shift)',
        'check("3.1", shfit)',
        'check("3.1", shfit)',
        "no answer cell defines 'shfit'",
    ),
    "spec in an untagged cell": (":tags: [spec, hide-input]\n", "", 'exercise("3.1"', "outside a cell tagged spec"),
    "function twice": (
        "The end.",
        "```{code-cell} ipython3\ndef shift(): pass\n```",
        "def shift(): pass",
        "function 'shift' is defined already",
    ),
    "leak in text": ("Shift by one.", "Use `moved * mask_of(values, by)`.", "Use `moved", "shows a line of the answer"),
    "leak in code": (
        "check(",
        "moved = values.roll(by, dims=-1)  # wraps around\ncheck(",
        "moved = values",
        "shows a line of the answer",
    ),
    "leak beside the markers": (
        "    ### END SOLUTION",
        "    ### END SOLUTION\n    # moved * mask_of(values, by)",
        "    # moved",
        "shows a line of the answer",
    ),
    "swallowed prompt": (
        "A roll wraps around",
        "Why.\n\n## 3.2 Next\n\nA roll wraps around",
        "## 3.2 Next",
        "is a '+++' missing",
    ),
    "two tags": ("[spec, hide-input]", "[spec, answer]", 'exercise("3.1"', "not several"),
    "reference to the answer": (
        "Shift by one.",
        'See {ref}`x <why>`.\n\n+++ {"tags": ["solution-only"]}\n\n(why)=\n\nWhy.',
        "See {ref}",
        "only the solution shows",
    ),
    "footnote in the answer": (
        "Shift by one.",
        'See[^n].\n\n+++ {"tags": ["solution-only"]}\n\n[^n]: Why.',
        "See[^n]",
        "has no text that this notebook shows",
    ),
    "figure": ("The end.", "![a](../chapters/figures/note.svg)", "![a]", "may load nothing from another host"),
}


@pytest.mark.parametrize("name", BAD_EXERCISES)
def test_bad_exercises(tmp_path, name):
    old, new, bad_line, wanted = BAD_EXERCISES[name]
    assert EXERCISE.count(old) == 1
    text = EXERCISE.replace(old, new)
    found = problems(tmp_path, {"solutions/03_bad.md": text}).split("\n")
    lines = (HEADER + text).split("\n")
    places = [f"solutions/03_bad.md:{number}: " for number, line in enumerate(lines, 1) if line.startswith(bad_line)]
    assert any(text.startswith(tuple(places)) and wanted in text for text in found), found


def test_duplicate_ids_in_two_files(tmp_path):
    message = problems(tmp_path, {"solutions/03_a.md": EXERCISE, "solutions/04_b.md": EXERCISE})
    assert "solutions/04_b.md:37: duplicate exercise id '3.1', first in solutions/03_a.md:37" in message


BAD_FILES = {
    "no header": (
        {"chapters/01_a.md": "---\ntitle: x\n---\n# T\n"},
        "chapters/01_a.md:1: the jupytext header is missing",
    ),
    "odd header": ({"chapters/01_a.md": "---\nx\n---\n# T\n"}, "chapters/01_a.md:1: "),
    "not YAML": ({"chapters/01_a.md": "---\na: [\n---\n# T\n"}, "chapters/01_a.md:"),
    "wrong format": (
        {"chapters/01_a.md": HEADER.replace("0.13", "0.12") + "# T\n"},
        "format_version must be 0.13, got 0.12",
    ),
    "wrong kernel": ({"chapters/01_a.md": HEADER.replace("name: python3", "name: py") + "# T\n"}, "kernelspec must be"),
    "wrong key": ({"chapters/01_a.md": HEADER[:-5] + "course:\n  gpu: true\n---\n# T\n"}, "course may hold colab_gpu"),
    "no title": ({"chapters/01_a.md": "Text.\n"}, "chapters/01_a.md:13: a notebook must open with its title"),
    "empty": ({"chapters/01_a.md": ""}, "chapters/01_a.md:1: a notebook must open with its title"),
    "no settings": ({"_config.yml": "title: x\n"}, "_config.yml:1: repository.url must read"),
    "other host": (
        {"_config.yml": CONFIG.replace("github.com", "example.org")},
        "got 'https://example.org/someone/heads'",
    ),
    "no version": ({"pyproject.toml": '[project]\nname = "x"\n'}, "pyproject.toml:1: project.version is missing"),
    "bad settings": ({"pyproject.toml": "["}, "pyproject.toml:1: cannot be read"),
    "bad bibliography": ({"references.bib": "@article{a, title={x}"}, "references.bib:1: cannot be read"),
    "no author": ({"references.bib": "@article{a, year={2000}}"}, "references.bib:1: entry 'a' needs an author"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(tmp_path, name):
    files, wanted = BAD_FILES[name]
    assert wanted in problems(tmp_path, files)


def test_all_problems_are_shown_and_nothing_is_written(tmp_path, capsys):
    files = {
        "chapters/01_a.md": "# T\n\n{kbd}`x`\n\n{cite}`y`\n",
        "solutions/03_b.md": EXERCISE.replace("### END", "# END"),
    }
    repo(tmp_path, files | {"chapters/00_good.md": "# Good\n"})
    assert main(["--root", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert all(place in message for place in ("01_a.md:15", "01_a.md:17", "03_b.md:31")), message
    assert "no notebook was written" in message
    assert not list(tmp_path.rglob("*.ipynb"))


def test_check_lists_what_differs_and_how_to_mend_it(tmp_path, capsys):
    repo(tmp_path, {"chapters/01_a.md": "# First\n", "chapters/02_b.md": "# Second\n", "solutions/03_x.md": EXERCISE})
    main(["--root", str(tmp_path)])
    changed, missing, orphan = (tmp_path / f"chapters/{name}.ipynb" for name in ("01_a", "02_b", "09_gone"))
    changed.write_text(changed.read_text().replace("First", "1st"))
    missing.unlink()
    orphan.write_text("{}")
    capsys.readouterr()
    assert main(["--root", str(tmp_path), "--check"]) == 1
    message = capsys.readouterr().err
    for text in (
        "01_a.ipynb: out of date",
        "02_b.ipynb: missing",
        "09_gone.ipynb: without a source",
        "`make notebooks`",
    ):
        assert text in message
    assert not missing.exists() and orphan.exists() and "1st" in changed.read_text()


# --- the repository itself --------------------------------------------------------------------------------------------


def test_notebooks_of_the_repository_are_up_to_date(capsys):
    assert main(["--root", str(ROOT), "--check"]) == 0, capsys.readouterr().err


def test_exercises_of_the_repository_are_valid_python():
    for path, text in build(ROOT).items():
        if path.startswith("exercises/"):
            for code in sources(text, "code"):
                ast.parse(code)
