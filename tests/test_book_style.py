"""What the pages of the book are made of, before they are built: colours, icons, heads, the preview picture."""

from __future__ import annotations

import itertools
import re
import struct

import pandas as pd
import pytest
from docutils.core import publish_doctree
from docutils.utils import Reporter

from course_lib.plots import COLORS
from tools import book_links, icons, opening_drawing, page_head, social_picture
from tools.build_book import ROOT

PALETTE = (ROOT / "book_assets" / "static" / "palette.css").read_text(encoding="utf-8")
TEXT = 4.5  # WCAG AA contrast of text
MARK = 3.0  # and of what is drawn; Okabe and Ito's orange and sky blue stay below it on white, so charts have tables
APART, FAR_APART = 6, 13  # distances in CIE Lab: all eight colours, the first six
# How the world looks with each kind of colour blindness: Machado, Oliveira and Fernandes 2009, severity 1, linear RGB.
SIGHT = {
    "full": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def variables(selector: str) -> dict[str, str]:
    """The variables that palette.css sets for a selector."""
    block = re.search(rf"^(?:html,\n)?{re.escape(selector)} {{(.*?)^}}", PALETTE, re.M | re.S)[1]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


SERIES = list(variables(":root").values())
THEMES = {name: variables(f'html[data-theme="{name}"]') for name in ("light", "dark")}


def linear(colour: str) -> list[float]:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def contrast(one: str, other: str) -> float:
    weights = (0.2126, 0.7152, 0.0722)
    dark, light = sorted(sum(w * c for w, c in zip(weights, linear(x), strict=True)) for x in (one, other))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: list[float]) -> tuple[float, float, float]:
    """CIE Lab of a linear RGB colour, white point D65."""
    rows = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
    xyz = [sum(a * b for a, b in zip(row, rgb, strict=True)) for row in rows]
    x, y, z = (
        t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116
        for t in (v / white for v, white in zip(xyz, (0.95047, 1, 1.08883), strict=True))
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def distance(one: str, other: str, sight: str) -> float:
    """How far two colours are apart in CIE Lab, for a kind of sight."""
    seen = [
        lab([min(1, max(0, sum(a * b for a, b in zip(row, linear(x), strict=True)))) for row in SIGHT[sight]])
        for x in (one, other)
    ]
    return sum((a - b) ** 2 for a, b in zip(*seen, strict=True)) ** 0.5


def test_pages_and_charts_have_one_palette():
    assert [colour.upper() for colour in COLORS] == [colour.upper() for colour in SERIES]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("sight", SIGHT)
def test_series_stay_apart_for_every_sight(theme, sight):
    shown = SERIES if theme == "light" else [THEMES["dark"][f"shown-{n}"] for n in range(1, 9)]
    for (i, one), (j, other) in itertools.combinations(enumerate(shown), 2):
        least = FAR_APART if j < 6 else APART
        assert distance(one, other, sight) >= least, f"series {i + 1} and {j + 1}: {one} {other}"


@pytest.mark.parametrize("theme", THEMES)
def test_text_and_links_stand_out(theme):
    colours = THEMES[theme]
    pale = ("course-pale", "course-pale-green", "course-pale-orange")
    for ground in ("pst-color-background", "pst-color-surface", *pale):
        for ink in ("pst-color-text-base", "pst-color-text-muted", "course-blue", "course-orange", "course-green"):
            ratio = contrast(colours[ink], colours[ground])
            assert ratio >= TEXT, f"{ink} on {ground}: {ratio:.2f}"


def test_series_stand_out_in_the_dark():
    ground = THEMES["dark"]["pst-color-background"]
    assert all(contrast(THEMES["dark"][f"shown-{n}"], ground) >= MARK for n in range(1, 9))


def test_icons_come_out_of_the_theme(tmp_path):
    icons.write(tmp_path)
    text = (tmp_path / "icons.css").read_text(encoding="utf-8")
    assert all(f".fa-{name} {{ --icon: url('data:image/svg+xml," in text for name in icons.ICONS)
    assert len(text) < 20_000
    with pytest.raises(ValueError, match="no icon 'unicorn-horn'"):
        icons.rule("unicorn-horn", text)


def test_the_address_of_the_book_follows_from_the_repository():
    assert page_head.pages_address("https://github.com/someone/course/") == "https://someone.github.io/course/"
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    own = re.search(r"^  url: (https://github\.com/\S+)$", config, re.M)[1]
    address = page_head.pages_address(own).removeprefix("https://").split("/")[0]
    for file in [*(ROOT / "tools").glob("*.py"), *(ROOT / "book_assets").rglob("*.html"), ROOT / "index.md"]:
        assert address not in file.read_text(encoding="utf-8"), f"{file.name} types the book's address again"


def test_a_page_is_described_by_its_first_paragraph_outside_boxes():
    box = ".. note::\n\n   A box with goals that is long enough to be a paragraph.\n\n"
    text = f"Title\n=====\n\n{box}Short.\n\n" + "word " * 60
    described = page_head.description(publish_doctree(text, settings_overrides={"report_level": Reporter.SEVERE_LEVEL}))
    assert described.startswith("word word") and described.endswith("word …") and len(described) <= page_head.LONG + 2


def test_heads_of_tables_say_what_they_head():
    head = '<thead><tr><th class="head"><p></p></th><th>loss</th><th scope="colgroup">x</th></tr></thead>'
    changed = page_head.with_scopes(f"{head}<tbody><tr><th>0</th><td>1</td></tr></tbody><th>outside</th>")
    assert changed == (
        '<thead><tr><td class="head"></td><th scope="col">loss</th><th scope="colgroup">x</th></tr></thead>'
        '<tbody><tr><th scope="row">0</th><td>1</td></tr></tbody><th>outside</th>'
    )


def test_drawings_keep_their_room():
    drawings = {path.name: path for path in (ROOT / "chapters" / "figures").glob("*.svg")}
    assert len(drawings) > 3
    for name in drawings:
        changed = page_head.with_shapes(
            f'<p><img alt="" src="../_images/{name}" style="width: 640px;" /></p>', drawings
        )
        assert re.search(r'style="aspect-ratio: [1-9]\d* / [1-9]\d*; width: 640px;" /></p>$', changed)
    logo = '<img src="../_static/logo.svg" style="width: 3px">'
    assert page_head.with_shapes(logo, drawings) == logo


@pytest.mark.parametrize("columns", [["loss"], ["0", "1"]])
@pytest.mark.parametrize("index", [["0", "1"], ["7", "a head"], ["0.1", "1.0"]])
def test_only_rows_without_a_name_of_their_own_are_not_counted(columns, index):
    table = pd.DataFrame([range(len(columns))] * len(index), index=index, columns=columns).to_html()
    names_nothing = index == ["0", "1"] and columns == ["loss"]
    changed = page_head.without_row_numbers(f"<p>{table}</p>")
    assert re.findall("<t[hd]>(.*?)</t[hd]>", changed) == (
        ["loss", "0", "0"] if names_nothing else re.findall("<t[hd]>(.*?)</t[hd]>", table)
    )


def test_scripts_are_dropped_where_nothing_needs_them():
    class File:
        def __init__(self, filename):
            self.filename = filename

    plain = "<p>text</p>"
    for name, body in (
        ("_static/mathjax/tex-chtml.js", '<span class="math notranslate">'),
        ("_static/charts.js", "<script>vegaEmbed(outputDiv"),
        ("_static/clipboard.min.js", '<div class="highlight"><pre>'),
    ):
        assert not page_head._needed(File(name), plain)
        assert page_head._needed(File(name), body)
    assert page_head._needed(File("_static/book.js"), plain)


def test_the_opening_drawing_shows_what_the_circuit_does():
    tokens, pattern, predicted = opening_drawing.measured()
    repeated = [place for place, token in enumerate(tokens) if token in tokens[:place]]
    for query in repeated:
        wanted = tokens.index(tokens[query]) + 1  # after the first copy
        assert pattern[query].argmax() == wanted and pattern[query, wanted] > 0.99
    assert predicted == tokens[tokens.index(tokens[-1]) + 1]
    drawing = opening_drawing.drawing(tokens, pattern, predicted)
    assert drawing.count("<path") == len(repeated) and f">{predicted}</text>" in drawing


def test_the_preview_picture_fits_the_sites_that_show_it():
    data = social_picture.TARGET.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == social_picture.SIZE
    assert len(data) <= 100_000


def test_colab_buttons_in_the_text_stay_on_colab():
    prefix = book_links.notebook_prefix("https://github.com/someone/heads", "main")
    index = (ROOT / "index.md").read_text(encoding="utf-8")
    target = re.search(r"\{colab\}`[^<]+<([^>]+)>`", index)[1]
    assert (ROOT / f"{target}.ipynb").is_file(), f"the opening page sends readers to {prefix}{target}.ipynb"
