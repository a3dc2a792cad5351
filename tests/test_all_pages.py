"""Every page of the built book, visited once: errors, contrasts, what axe finds, weight, and how still it stands.

What axe finds must be ours to mend, or stand in `axe_baseline.json` with the reason why it is the theme's. These tests
are in one file because processes that run tests side by side share no visits, and in the first one because they take
longest.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from book_reader import HTML, Reader, all_pages, chromium, served
from book_visits import MIDDLE, NARROW, WIDE, Visit, axe_findings, axe_source, visit_all

pytestmark = pytest.mark.book

LEGIBLE, VISIBLE = 4.5, 3.0  # WCAG AA contrast of text and of what is drawn
BASELINE = json.loads((Path(__file__).parent / "axe_baseline.json").read_text(encoding="utf-8"))
TABLE = HTML.parent / "page_weights.csv"
KINDS = ("html", "css", "js", "image", "font", "math", "charts", "lab", "other")
OPENING = 300_000  # bytes of the opening page, compressed, before charts and the Lab's model
FRAME = 220_000  # of any page without its own text, charts, formulas and fonts: style sheets, scripts, pictures
REQUESTS = 40
STILL = {"index.html": 0.02}  # most layout shift of a page; of the others, 0.05
ICON = re.compile(r'class="[^"]*\b(?:fa-solid|fas|fab)\b[^"]*"')


@pytest.fixture(scope="module")
def visits() -> dict[str, Visit]:
    return visit_all(all_pages())


def test_every_page_reads_well(visits):
    """At three widths, light and dark: no foreign request, no error, formulas and charts drawn, nothing too wide.

    Nor a control of a chart that changes nothing, nor anything too wide for paper.
    """
    problems = [problem for visit in visits.values() for problem in visit.problems]
    assert not problems, "\n".join(problems)


def test_charts_and_code_are_legible_in_both_themes(visits):
    """The text of every chart, and every colour of code, stands out from its page, light and dark.

    What charts draw does in the dark; on white, Okabe and Ito's orange and sky blue do not, so charts have tables.
    """
    found = [one | {"page": visit.page} for visit in visits.values() for one in visit.contrasts]
    faint = [one for one in found if one["ratio"] < (VISIBLE if one["part"] == "mark" else LEGIBLE)]
    assert not [one for one in faint if (one["part"], one["theme"]) != ("mark", "light")]
    assert {(one["part"], one["theme"]) for one in found} == {
        (part, theme) for part in ("chart", "mark", "code") for theme in ("light", "dark")
    }


def known(finding: dict) -> dict | None:
    """The entry of the baseline that a finding belongs to."""
    for entry in BASELINE:
        if entry["rule"] == finding["rule"] and re.search(entry["selector"], finding["selector"]):
            return entry
    return None


def test_axe_finds_nothing_of_ours(visits):
    new: dict[tuple, list[str]] = {}
    for visit in visits.values():
        for finding in visit.axe:
            if not known(finding):
                what = (finding["rule"], finding["theme"], finding["html"], finding["why"])
                new.setdefault(what, []).append(visit.page)
    report = [f"{' | '.join(what)} on {len(pages)} pages, as {pages[0]}" for what, pages in new.items()]
    assert not report, "\n".join(report)


def test_the_baseline_lists_only_what_still_occurs(visits):
    """Each entry is still found, on no more pages than it says: what the theme has mended is taken off the list."""
    for entry in BASELINE:
        pages = [visit.page for visit in visits.values() if any(known(finding) is entry for finding in visit.axe)]
        assert pages, f"axe no longer finds {entry['rule']} at {entry['selector']}: take it off tests/axe_baseline.json"
        assert len(pages) <= entry["pages"], f"{entry['rule']} at {entry['selector']} is now on {len(pages)} pages"
        assert entry["why"]


def test_axe_looked_at_every_page_in_both_themes(visits):
    """The guard itself: axe is loaded, and what it excludes leaves pages to look at."""
    with served(HTML) as origin, chromium() as browser:
        eyes = Reader(browser, origin, WIDE)
        eyes.context.add_init_script(axe_source())
        page = eyes.open("notation.html")
        page.evaluate("""document.querySelector('article').insertAdjacentHTML('beforeend',
            '<img src="_static/logo.svg"><p style="color: #999; background: #888">faint</p>')""")
        assert {"image-alt", "color-contrast"} <= {finding["rule"] for finding in axe_findings(eyes, "light")}
        assert "color-contrast" in {finding["rule"] for finding in axe_findings(eyes, "dark")}


@pytest.fixture(scope="module")
def table(visits):
    """Writes what was measured to `_build/page_weights.csv`."""
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        kinds = [f"{kind}_kB" for kind in KINDS]
        rows.writerow(["page", "total_kB", *kinds, "requests", "load_ms", "cls_wide", "cls_middle", "cls_narrow"])
        for visit in sorted(visits.values(), key=lambda one: -sum(one.weight.values())):
            sizes = [sum(visit.weight.values()), *(visit.weight.get(kind, 0) for kind in KINDS)]
            shifts = [f"{visit.shift[width]:.4f}" for width in (WIDE, MIDDLE, NARROW)]
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
    jumping = {page: visit.shift for page, visit in table.items() if max(visit.shift.values()) >= STILL.get(page, 0.05)}
    assert not jumping, jumping


def test_every_icon_has_its_picture(table):
    """An icon that icons.css does not know would be an empty square."""
    drawn = set(re.findall(r"^\.fa-([\w-]+) \{", (HTML / "_static" / "icons.css").read_text(encoding="utf-8"), re.M))
    for page in table:
        for tag in ICON.findall((HTML / page).read_text(encoding="utf-8")):
            names = set(re.findall(r"fa-([\w-]+)", tag)) - {"solid", "lg"}
            assert names and names <= drawn, f"{page}: {tag}"
