"""`solution`, and how a solution source is read as a page: pieces, exercises, answers, explanations."""

from __future__ import annotations

import pytest
from test_grading import well_formed

from course_lib.grading import check, journal, load, pages, solution
from course_lib.grading.source import code_cells
from course_lib.grading.words import markdown_html, without_roles

SOURCES = sorted(load.source_folder().glob("*.md"))
EACH_SOURCE = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)

SOURCE = """---
kernelspec: {}
---

# Solutions 98: toys

Some text.

```{code-cell} ipython3
from course_lib.grading import Case, Mutant, check, exercise
```

## 98.1 Double

*Difficulty 1 of 5, about 7 minutes.*

Write `double(x)`.

```md
## 98.9 Not a heading
+++ not a break
```

```{code-cell} ipython3
:tags: [answer]

def double(x):
    \"\"\"Twice.\"\"\"
    factor = 2
    ### BEGIN SOLUTION
    result = factor * x  # <b> & so on
    return result
    ### END SOLUTION
```

```{code-cell} ipython3
:tags: [spec]

exercise("98.1", "Double", double, difficulty=1, minutes=7,
    cases=lambda generator: [Case("one", dict(x=__import__("torch").rand(4, generator=generator)))],
    mutants=[Mutant(str(n), str(n), lambda x, n=n: x * n) for n in (3, 4, 5, 6)], hints=("a", "b", "c"), next_step="n")
```

+++ {"tags": ["solution-only"]}

**Why this is the answer.**
Two of one kind, see {doc}`chapter 3 <../chapters/03_previous_token_head>`.

- first `<b>`
- second

+++

## Open question: why?

Text.
"""


@pytest.fixture
def learner(tmp_path, monkeypatch):
    """Someone at work, with a progress file of their own and one small chapter."""
    (tmp_path / "98_toys.md").write_text(SOURCE)
    monkeypatch.setattr(load, "source_folder", lambda: tmp_path)
    monkeypatch.setattr(load, "_in_this_notebook", {})
    monkeypatch.setattr(journal, "_unsaved", [])
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.jsonl"))
    monkeypatch.delenv("COURSE_STATIC", raising=False)
    monkeypatch.delenv("COURSE_STRICT", raising=False)
    return tmp_path


def stub(x):
    raise NotImplementedError("your code here")


def test_before_an_attempt_it_says_kindly_to_try_first(learner):
    check("98.1", stub)
    check("98.1", 3)  # no function: nothing was run
    shown = solution("98.1")
    assert "98.1, Double: try it first" in repr(shown)
    assert '`hint("98.1")` gives a nudge' in repr(shown)
    assert "factor * x" not in repr(shown) + shown._repr_html_()


@pytest.mark.parametrize(
    "answer", [lambda x: 3 * x, lambda x: 1 / 0, lambda x: 2 * x], ids=["wrong", "error", "passed"]
)
def test_after_an_attempt_it_shows_the_answer_and_the_reason(learner, answer):
    check("98.1", answer)
    shown = solution("98.1")
    text = repr(shown)
    assert text.startswith("Exercise 98.1, Double: one right answer")
    code = (
        'def double(x):\n    """Twice."""\n    factor = 2\n    result = factor * x  # <b> & so on\n    return result\n'
    )
    assert f"\n\n{code}\n" in text
    assert "SOLUTION" not in text
    assert "Why this is the answer.\nTwo of one kind, see chapter 3." in text
    assert "Open question" not in text
    html = shown._repr_html_()
    words = " ".join("".join(well_formed(html).itertext()).split())
    assert "result = factor * x # <b> & so on" in words
    assert "<strong>Why this is the answer.</strong>" in html
    assert "<li>first <code>&lt;b&gt;</code></li><li>second</li>" in html


def test_an_attempt_of_an_earlier_session_counts(learner):
    (learner / "progress.jsonl").write_text(
        '\n{"exercise": "98.1", "state": "wrong", "time": "2026-01-01T00:00:00+00:00"}'
    )
    assert "factor * x" in repr(solution("98.1"))


def test_an_attempt_counts_although_it_could_not_be_saved(learner, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(learner))  # a folder
    check("98.1", lambda x: 3 * x)
    assert "factor * x" in repr(solution("98.1"))


@pytest.mark.parametrize("unknown", ["98.2", 98.1, None, ["98.1"]])
def test_an_unknown_exercise_is_a_message_and_no_error(learner, unknown):
    shown = solution(unknown)
    assert "must be one of 98.1" in repr(shown)
    well_formed(shown._repr_html_())


def test_an_exercise_without_a_source_is_a_message_and_no_error(learner, monkeypatch):
    with load.collecting() as found:
        load.run_definitions(learner / "98_toys.md")
    monkeypatch.setattr(load, "_in_this_notebook", found)
    (learner / "98_toys.md").unlink()
    assert "no solution to show" in repr(solution("98.1"))


# --- pages ------------------------------------------------------------------------------------------------------


def test_a_source_is_cut_at_cells_breaks_and_headings():
    found = pages.pieces(SOURCE)
    assert [(piece.kind, sorted(piece.tags), piece.text.split("\n")[0]) for piece in found] == [
        ("markdown", [], "# Solutions 98: toys"),
        ("code", [], "from course_lib.grading import Case, Mutant, check, exercise"),
        ("markdown", [], "## 98.1 Double"),
        ("code", ["answer"], "def double(x):"),
        ("code", ["spec"], code_cells(SOURCE)[2].code.strip().split("\n")[0]),
        ("markdown", ["solution-only"], "**Why this is the answer.**"),
        ("markdown", [], "## Open question: why?"),
    ]
    assert "+++ not a break\n```" in found[2].text


def test_a_page_lists_its_exercises_with_their_minutes(learner):
    (page,) = pages.read_pages(learner)
    assert (page.chapter, page.title) == (98, "Toys")
    assert page.exercises == (pages.Listed("98.1", "Double", 7),)


def test_an_answer_is_cut_to_a_stub():
    cell = next(cell.code for cell in code_cells(SOURCE) if "answer" in cell.tags)
    assert pages.as_stub(cell).strip() == (
        'def double(x):\n    """Twice."""\n    factor = 2\n    raise NotImplementedError("your code here")'
    )


@EACH_SOURCE
def test_jupytext_cuts_a_source_in_the_same_way(path):
    jupytext = pytest.importorskip("jupytext")
    theirs = [(cell.cell_type, set(cell.metadata.get("tags", []))) for cell in jupytext.read(path).cells]
    ours = [(piece.kind, set(piece.tags)) for piece in pages.pieces(path.read_text())]
    without_repeats = [one for one, before in zip(ours, [None, *ours], strict=False) if one != before]
    assert [one for one, before in zip(theirs, [None, *theirs], strict=False) if one != before] == without_repeats


@EACH_SOURCE
def test_every_exercise_has_minutes_an_answer_and_a_reason(path):
    text, tasks = path.read_text(), load.load_source(path)
    page = next(page for page in pages.read_pages(path.parent) if page.path == path)
    assert [(task.id, task.title, task.minutes) for task in page.exercises] == [
        (task.id, task.title, task.minutes) for task in tasks.values()
    ]
    for exercise_id, task in tasks.items():
        assert f"def {task.reference.__name__}(" in pages.answer_of(text, exercise_id)
        assert "SOLUTION" not in pages.answer_of(text, exercise_id)
        assert "NotImplementedError" not in pages.answer_of(text, exercise_id)
        assert pages.explanation_of(text, exercise_id).startswith("**Why this is the answer.**")
        well_formed(markdown_html(pages.explanation_of(text, exercise_id)))
        compile(pages.as_stub(pages.answer_of(text, exercise_id)), exercise_id, "exec")


# --- words ------------------------------------------------------------------------------------------------------


def test_roles_become_their_words():
    text = "See {doc}`chapter 3 <../chapters/03.md>` and {cite:t}`olsson2022`, not `{x}`."
    assert without_roles(text) == "See chapter 3 and olsson2022, not `{x}`."


def test_markdown_becomes_paragraphs_lists_and_tables():
    html = markdown_html("One **bold** `code`\nline.\n\n- a\n  more\n- b\n\n| x | y |\n|---|---|\n\n<script>")
    well_formed(html)
    assert html == (
        "<p>One <strong>bold</strong> <code>code</code>\nline.</p><ul><li>a\n  more</li><li>b</li></ul>"
        "<pre>| x | y |\n|---|---|</pre><p>&lt;script&gt;</p>"
    )
