"""The tools that `make book` runs before the build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docutils import nodes

from tools import book_links, build_book, math_marks, offline_assets, status

ROOT = Path(__file__).resolve().parent.parent


def test_vega_bundle_is_written_for_the_installed_altair(tmp_path):
    pytest.importorskip("vl_convert", reason="vl-convert-python comes with the book's packages: run `make book`")
    offline_assets.write_vega(tmp_path)
    versions = (tmp_path / "vega-versions.js").read_text(encoding="utf-8")
    display = offline_assets.altair_display()
    for version in (display.VEGA_VERSION, display.VEGALITE_VERSION, display.VEGAEMBED_VERSION):
        assert f'"{version}"' in versions
    bundle = (tmp_path / "vega-bundle.js").read_text(encoding="utf-8")
    assert bundle.startswith("(function") and "window.bundledVegaEmbed" in bundle


def test_a_vega_lite_that_the_converter_lacks_is_named(tmp_path, monkeypatch):
    pytest.importorskip("vl_convert", reason="vl-convert-python comes with the book's packages: run `make book`")

    class Newer:
        VEGALITE_VERSION = "99.1.0"

    monkeypatch.setattr(offline_assets, "altair_display", lambda: Newer)
    with pytest.raises(ValueError, match=r"Vega-Lite 99\.1.*has"):
        offline_assets.write_vega(tmp_path)


def test_mathjax_is_copied_with_what_it_loads_on_demand(tmp_path):
    try:
        offline_assets.mathjax_source()
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))
    offline_assets.write_mathjax(tmp_path)
    assert (tmp_path / "mathjax" / "tex-chtml.js").stat().st_size > 100_000
    assert list((tmp_path / "mathjax" / "output" / "chtml" / "fonts").rglob("*.woff"))
    assert (tmp_path / "mathjax" / "input" / "tex" / "extensions" / "boldsymbol.js").exists()


def test_changed_mathjax_layout_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(offline_assets, "mathjax_source", lambda: tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"tex-chtml\.js"):
        offline_assets.write_mathjax(tmp_path / "target")


def test_status_tells_versions_and_leaves_out_what_is_not_there(monkeypatch):
    monkeypatch.setattr(status, "memory", lambda: "")
    facts = status.facts()
    assert re.match(r"3\.\d+\.\d+", facts["Python"])
    assert "torch" in facts and "Memory" not in facts


def test_status_table_survives_a_pipe_in_a_value():
    assert status.table({"Processor": "A|B"}).splitlines() == ["| | This build |", "|---|---|", "| Processor | A/B |"]


def test_book_js_and_css_are_listed():
    """Files that no page would load are a mistake in `_config.yml`."""
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    for file in [*(ROOT / "book_assets" / "static").glob("*.js"), *(ROOT / "book_assets" / "static").glob("*.css")]:
        assert file.name in config, f"book_assets/static/{file.name} is not listed in _config.yml"


def test_a_failed_build_is_not_taken_for_the_book(tmp_path):
    page = tmp_path / "index.html"
    build_book.forget(page)  # nothing was built: nothing to do
    page.write_text("half a book", encoding="utf-8")
    build_book.forget(page)
    assert page.stat().st_mtime == 0


def test_reports_of_failed_notebooks_are_printed(tmp_path, capsys):
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "00.err.log").write_text("ZeroDivisionError", encoding="utf-8")
    build_book.print_reports(tmp_path)
    assert "chapters/00.err.log" in (err := capsys.readouterr().err) and "ZeroDivisionError" in err


@pytest.mark.parametrize(
    ("after", "kept", "rest"),
    [(", and so on", ",", " and so on"), (").", ").", ""), (" and", "", " and"), ("-fold", "", "-fold"), ("", "", "")],
)
def test_a_mark_behind_a_formula_stays_with_it(after, kept, rest):
    formula = nodes.math("", "p")
    parts = [nodes.Text("Take "), formula, *([nodes.Text(after)] if after else [])]
    paragraph = nodes.paragraph("", "", *parts)
    math_marks.keep_marks(formula)
    assert paragraph.astext() == f"Take p{after}"
    assert formula.parent.astext() == (f"p{kept}" if kept else f"Take p{after}")
    assert (math_marks.CLASS in formula.parent.get("classes", ())) == bool(kept)
    assert paragraph[-1].astext() == rest or not kept


def test_links_to_notebooks_of_the_book_are_told_from_others():
    prefix = book_links.notebook_prefix("https://github.com/someone/heads", "main")
    assert book_links.page_of(prefix + "chapters/03_a.ipynb#scores", prefix) == ("chapters/03_a", "#scores")
    assert book_links.page_of(prefix + "solutions/03_a.ipynb", prefix) == ("solutions/03_a", "")
    for other in ("", "https://example.org/03_a.ipynb", prefix + "chapters/03_a.md"):
        assert book_links.page_of(other, prefix) == ("", "")
