"""The notation page: its names exist in the code, its terms occur in the chapters, its references are cited."""

from __future__ import annotations

import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
import torch

from course_lib.config import ModelConfig
from course_lib.model import Transformer
from tools.api_pages import cite, listed_modules, public_names

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "notation.md").read_text(encoding="utf-8")
CHAPTERS = sorted((ROOT / "chapters").glob("*.md"))
COMPLETE = len(CHAPTERS) == 13
ARRAYS = {"tokens", "logits"}  # every model takes the first and gives the second
ENTRY = re.compile(r"^@\w+\{(\w+),", re.M)
CITATION = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")
SOURCE = re.compile(r"\b[A-Z]\w+(?: (?:et al\.|and [A-Z]\w+|& [A-Z]\w+))? (?:19|20)\d\d\b")


def table_names(page: str) -> list[str]:
    """Names in the column "In code" of every table, without arguments."""
    found, column = [], None
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            column = None
        elif "In code" in cells:
            column = cells.index("In code")
        elif column is not None and not set(cells[0]) <= {"-"}:
            found += [name.partition("(")[0] for name in re.findall(r"`([^`]+)`", cells[column])]
    return found


@cache
def code_names() -> set[str]:
    """Public names of course_lib, fields of the configuration, parameters and activations of the model."""
    names = {name for module in listed_modules() for name in public_names(module)}
    names |= {field.name for field in fields(ModelConfig)} | ARRAYS
    model = Transformer(ModelConfig(n_layers=1, n_heads=1, d_model=4, d_head=4, d_vocab=5, n_ctx=4, d_mlp=4))
    names |= {name.rpartition(".")[2] for name, _ in model.named_parameters()}
    return names | activations()


@cache
def activations() -> set[str]:
    """Names under which `keep` hands out activations."""
    seen = set()
    model = Transformer(ModelConfig(n_layers=1, n_heads=1, d_model=4, d_head=4, d_vocab=5, n_ctx=4, d_mlp=4))

    def note(name, _layer, value):
        seen.add(name)
        return value

    model(torch.zeros(1, 3, dtype=torch.long), tap=note)
    return seen


def test_names_of_the_tables_exist_in_the_code():
    names = table_names(PAGE)
    assert len(names) > 50
    assert not [name for name in names if name not in code_names()]


def test_a_name_that_is_not_in_the_code_is_noticed():
    page = "| Symbol | In code |\n|---|---|\n| x | `d_model`, `no_such_score(a, b)` |\n\nText `other`."
    assert table_names(page) == ["d_model", "no_such_score"]
    assert "d_model" in code_names() and "no_such_score" not in code_names()


def test_every_file_that_a_table_links_is_listed_in_the_contents():
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert not [file for file in re.findall(r"\]\((chapters/\w+\.md)", PAGE) if file not in toc]


def glossary_terms(page: str) -> list[str]:
    """The terms, in order."""
    body = re.search(r"^```\{glossary\}\n(.*?)^```", page, re.M | re.S)[1]
    return re.findall(r"^(\S.*)$", body, re.M)


def is_used(term: str, text: str) -> bool:
    """Whether the term, or its plural, stands in the text; "ablation, mean" is looked for as "mean ablation"."""
    words = " ".join(reversed(term.split(", ")))
    pattern = re.escape(words).replace(r"\ ", r"[\s-]+").replace(r"\-", r"[\s-]+")
    return bool(re.search(rf"\b{pattern}(?:s|es)?\b", text, re.I))


def test_terms_are_found_in_any_form():
    assert is_used("ablation, mean", "Mean\nablations are gentle.")
    assert is_used("smeared key", "Smeared keys") and not is_used("smeared key", "keys")


def test_the_glossary_is_sorted_and_without_doubles():
    terms = glossary_terms(PAGE)
    assert len(terms) > 20 and terms == sorted(set(terms), key=str.lower)


@pytest.mark.skipif(not COMPLETE, reason="not all chapters are here")
def test_every_term_occurs_in_a_chapter():
    text = "\n".join(path.read_text(encoding="utf-8") for path in CHAPTERS)
    assert not [term for term in glossary_terms(PAGE) if not is_used(term, text)]


def bibliography() -> list[str]:
    return ENTRY.findall((ROOT / "references.bib").read_text(encoding="utf-8"))


def cited() -> set[str]:
    """Keys that pages, chapters and solutions cite, and those that docstrings name."""
    files = [*ROOT.glob("*.md"), *CHAPTERS, *(ROOT / "solutions").glob("*.md"), *(ROOT / "api").glob("*.md")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    keys = {key.strip() for keys in CITATION.findall(text) for key in keys.split(",")}
    return keys | {key for key in bibliography() if any(key in used for used in docstring_citations())}


@cache
def docstring_citations() -> list[str]:
    """Citations that the pages of api/ make of what docstrings name."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "course_lib").rglob("*.py"))
    return [found for name in set(SOURCE.findall(sources)) if (found := cite(name))]


def test_every_work_is_cited_and_every_citation_has_a_work():
    works = bibliography()
    assert len(works) == len(set(works)), "an entry stands twice"
    assert len(works) >= 20
    assert not set(works) - cited(), "never cited"
    assert not cited() - set(works), "not in references.bib"
