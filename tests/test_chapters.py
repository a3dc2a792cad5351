"""Every chapter keeps the rules of `chapter_rules.py`, and every rule notices a chapter that breaks it."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from chapter_rules import LONGEST_CELL, ROOT, RULES, VARIANTS, WIDEST_LINE, Chapter, Rule, chapter_from, measured

FILES = sorted(path.name for path in (ROOT / "chapters").glob("*.md"))
HEADER = """---
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
GOOD = """# A chapter

```{admonition} Goals
- One.
- Two.

**Time**: 40 minutes.
**You need**: {doc}`00_start_here`.
```

The loss fell to 2.5 nats in the paper {cite}`olsson2022`, and head 1.3 is one of 4 heads at $0.5$ or `0.25`.
An accuracy of 1.0 is exact, exercise 3.1 asks for it, and Python 3.11 runs it.

```{code-cell} ipython3
x = 1
```

```{admonition} Predict, then run
:class: tip
What is x?
```

```{dropdown} Answer
One.
```

## A chart

```{code-cell} ipython3
:tags: [hide-input]
from course_lib.plots import lines_chart

lines_chart(table, "a", "b", title="It falls", x_title="a (nats)", y_title="b")
```

```{code-cell} ipython3
assert x == 1
```

```{admonition} Predict, then run
:class: tip
And now?
```

```{dropdown} Answer
Still one.
```

```{figure} figures/03_note.svg
:alt: Two residual streams side by side, and an arrow from one to the other.
:width: 640px

A caption.
```

```{admonition} Limits
:class: warning
- It is an example.
```

```{admonition} Key takeaways
:class: important
- One.
```

**Sources**: all of it is from {cite:t}`olsson2022`.

Next: {doc}`01_x` goes on.
"""

# Numbers that prose may name: chapter -> {number: why}
ASSUMED, QUOTED, ASKED = (
    "assumed, not measured",
    "the paper's number, or a mistake quoted to be found",
    "a guess to choose",
)
ALLOWED = {
    "01_attention_moves_information.md": {"0.01": ASSUMED},
    "02_loss_in_nats.md": {"0.5": ASSUMED, "0.01": ASSUMED, "1.6": ASSUMED, "0.7": ASSUMED, "0.3": ASSUMED}
    | {"0.6": QUOTED, "0.2": QUOTED, "0.4": QUOTED, "1.281": QUOTED, "1.485": QUOTED}
    | {"0.02": ASKED, "2": "the answer to that question; an assert beside it holds it"},
    "05_finding_heads.md": {"0.5": QUOTED, "0.4": "a threshold that we chose"},
    "07_smeared_keys.md": {"0.5": "a threshold that we chose"},
    "08_ablation.md": {"0.2": "a threshold that we chose", "0.3": "a threshold that we chose"},
    "09_fuzzy_induction.md": {"65": QUOTED},
    "10_reverse_engineering.md": {"2.5": "a size, computed"},
}


def problems(rule: Rule, chapter: Chapter) -> list[str]:
    """What `rule` finds in the chapter, without the numbers that are allowed there."""
    allowed = ALLOWED.get(Path(chapter.path).name, {})
    return [text for text in rule(chapter) if not any(f"{number!r} is typed" in text for number in allowed)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("file", FILES)
def test_chapters_keep_the_rules(file, rule):
    found = problems(rule, chapter_from(ROOT, f"chapters/{file}"))
    assert not found, f"{file}\n" + "\n".join(found)


def written(folder: Path, text: str) -> Chapter:
    """A chapter with this text."""
    (folder / "chapters").mkdir()
    (folder / "chapters" / "01_x.md").write_text(HEADER + text, encoding="utf-8")
    return chapter_from(folder, "chapters/01_x.md")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_good_chapter_breaks_no_rule(tmp_path, rule):
    assert list(rule(written(tmp_path, GOOD))) == []


LONG = "\n".join(f"x = {number}" for number in range(LONGEST_CELL + 1))
BAD = {  # rule -> (what stands in the good chapter, what stands there instead, what is said about it)
    "opening": [
        ("{admonition} Goals", "{admonition} Aims", "needs one box 'Goals'"),
        ("- One.\n- Two.", "- One.", "fewer than two"),
        ("**Time**: 40 minutes.\n", "", "Time"),
        ("**You need**: {doc}`00_start_here`.\n", "", "You need"),
    ],
    "predictions": [
        ("{admonition} Predict, then run\n:class: tip\nAnd", "{admonition} Note\n:class: tip\nAnd", "fewer than two"),
        ("{dropdown} Answer\nOne", "{dropdown} More\nOne", "without an answer"),
        (":class: tip\nAnd", ":class: note\nAnd", "class tip"),
    ],
    "closing": [
        (":class: warning", ":class: note", "'Limits' of the class warning"),
        ("{admonition} Key takeaways", "{admonition} Summary", "Key takeaways"),
        ("**Sources**: all of it is from {cite:t}`olsson2022`.", "**Sources**: many.", "cites a work"),
        ("Next: {doc}`01_x` goes on.", "The end.", "Next"),
    ],
    "code_cells": [
        ("x = 1\n```", LONG + "\n```", "a cell of"),
        ("x = 1\n```", f"x = {'1' * WIDEST_LINE}\n```", "characters of code"),
        ("x = 1\n```", LONG[:80] + "\n```\n\n```{code-cell} ipython3\n" + LONG[:80] + "\n```", "median"),
    ],
    "charts_are_checked": [("assert x == 1", "x", "asserts nothing")],
    "axes_are_named": [
        (', x_title="a (nats)"', "", "without x_title"),
        ("lines_chart(table", 'alt.Chart(table).encode(x=alt.X("a:Q"))\nlines_chart(table', "alt.X without a title"),
    ],
    "figures_are_described": [
        (":alt: Two residual streams side by side, and an arrow from one to the other.", ":alt: A figure", "describe"),
        ("A caption.\n```", "A caption.\n```\n\n![](figures/03_note.svg)", "without a text"),
    ],
    "numbers_are_computed": [
        ("Next: ", "The loss is 2.31 now.\n\nNext: ", "'2.31'"),
        ("Next: ", "It takes 12 seconds.\n\nNext: ", "'12'"),
        ("- It is an example.", "- It is right for 93% of the tokens.", "'93'"),
        ("Still one.", "It is 0.47 there.", "'0.47'"),
    ],
    "names_are_consistent": [("Still one.", "A previous token head.", "previous-token head")],
}


@pytest.mark.parametrize(
    ("rule", "good", "bad", "said"),
    [(rule, *case) for rule in RULES for case in BAD[rule.__name__]],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_rule_notices_a_chapter_that_breaks_it(tmp_path, rule, good, bad, said):
    assert GOOD.count(good) == 1, "the example does not say what to change"
    found = list(rule(written(tmp_path, GOOD.replace(good, bad))))
    assert any(said in text for text in found), found


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("The loss falls by 0.3 nats, in 12 s or 5,000 ms.", ["0.3", "12", "5,000"]),
        ("Heads 0.3, 1.2 and 1.3 of section 2.4; see [a page](x_1.5.html) and $2.5$.", []),
        ("It has 4 heads, 512 tokens and an accuracy of 1.0 at 0 nats.", []),
        ("A share of 93 % or 7 percent.", ["93", "7"]),
    ],
)
def test_what_counts_as_a_measured_number(text, numbers):
    assert measured(text) == numbers


def test_the_notation_page_keeps_to_the_names_too():
    text = re.sub(r"`[^`]*`", "`", (ROOT / "notation.md").read_text(encoding="utf-8"))
    assert not [pattern for pattern in VARIANTS if re.search(pattern, text)]


def test_chapters_lead_from_one_to_the_next():
    """The line 'Next' names the chapter that follows in the contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    order = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    order = [Path(file).stem for file in order if file.startswith("chapters/")]
    wrong = []
    for file, following in pairwise(order):
        path = ROOT / "chapters" / f"{file}.md"
        if path.exists():
            line = re.findall(r"^\*{0,2}Next\*{0,2}:.*", path.read_text(encoding="utf-8"), re.M)
            if not line or following not in line[-1]:
                wrong.append(f"{file}: its line 'Next' must lead to {following}")
    assert not wrong, "\n".join(wrong)
