"""How heavy the pages of the built book are, and how still they stand while they load."""

from __future__ import annotations

import csv
import re

import pytest
from book_reader import HTML
from book_visits import NARROW, WIDE

pytestmark = pytest.mark.book

TABLE = HTML.parent / "page_weights.csv"
KINDS = ("html", "css", "js", "image", "font", "math", "charts", "lab", "other")
OPENING = 300_000  # bytes of the opening page, compressed, before charts and the Lab's model
FRAME = 220_000  # of any page without its own text, charts, formulas and fonts: style sheets, scripts, pictures
REQUESTS = 40
STILL = {"index.html": 0.02}  # most layout shift of a page; of the others, 0.1
ICON = re.compile(r'class="[^"]*\b(?:fa-solid|fas|fab)\b[^"]*"')


@pytest.fixture(scope="module")
def table(visits):
    """Writes what was measured to `_build/page_weights.csv`."""
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        kinds = [f"{kind}_kB" for kind in KINDS]
        rows.writerow(["page", "total_kB", *kinds, "requests", "load_ms", "cls_wide", "cls_narrow"])
        for visit in sorted(visits.values(), key=lambda one: -sum(one.weight.values())):
            sizes = [sum(visit.weight.values()), *(visit.weight.get(kind, 0) for kind in KINDS)]
            shifts = [f"{visit.shift[width]:.4f}" for width in (WIDE, NARROW)]
            weights = [f"{size / 1000:.1f}" for size in sizes]
            rows.writerow([visit.page, *weights, visit.requests, f"{visit.load_ms:.0f}", *shifts])
    return visits


def test_the_opening_page_is_light(table):
    weight = table["index.html"].weight
    assert weight["html"] > 1000 and weight["css"] > 10_000, "the page's own files were not weighed"
    assert sum(weight.values()) - weight.get("charts", 0) - weight.get("lab", 0) < OPENING, weight


def test_no_page_loads_what_it_does_not_use(table):
    """The frame of every page stays small; MathJax, the charts' library and fonts come only where they are needed."""
    for page, visit in table.items():
        text = (HTML / page).read_text(encoding="utf-8")
        frame = sum(size for kind, size in visit.weight.items() if kind in ("css", "js", "image", "other"))
        assert frame < FRAME, f"{page}: {visit.weight}"
        assert visit.requests <= REQUESTS, f"{page}: {visit.requests} requests"
        assert ("charts" in visit.weight) == ("vegaEmbed(" in text), f"{page}: {visit.weight}"
        assert ("math" in visit.weight) == bool(re.search(r'class="math ', text)), f"{page}: {visit.weight}"
        assert "font" not in visit.weight, f"{page} loads a font of icons: is one missing in tools/icons.py?"


def test_pages_stand_still_while_they_load(table):
    jumping = {page: visit.shift for page, visit in table.items() if max(visit.shift.values()) >= STILL.get(page, 0.1)}
    assert not jumping, jumping


def test_every_icon_has_its_picture(table):
    """An icon that icons.css does not know would be an empty square."""
    drawn = set(re.findall(r"^\.fa-([\w-]+) \{", (HTML / "_static" / "icons.css").read_text(encoding="utf-8"), re.M))
    for page in table:
        for tag in ICON.findall((HTML / page).read_text(encoding="utf-8")):
            names = set(re.findall(r"fa-([\w-]+)", tag)) - {"solid", "lg"}
            assert names and names <= drawn, f"{page}: {tag}"
