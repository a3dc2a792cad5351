"""Accessibility of every page of the built book, light and dark, as axe-core sees it.

What axe finds must be ours to mend, or stand in `axe_baseline.json` with the reason why it is the theme's.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.book

BASELINE = json.loads((Path(__file__).parent / "axe_baseline.json").read_text(encoding="utf-8"))


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
    from book_reader import HTML, Reader, chromium, served
    from book_visits import WIDE, _axe, axe_source

    with served(HTML) as origin, chromium() as browser:
        eyes = Reader(browser, origin, WIDE)
        eyes.context.add_init_script(axe_source())
        page = eyes.open("notation.html")
        page.evaluate("""document.querySelector('article').insertAdjacentHTML('beforeend',
            '<img src="_static/logo.svg"><p style="color: #999; background: #888">faint</p>')""")
        assert {"image-alt", "color-contrast"} <= {finding["rule"] for finding in _axe(eyes, "light")}
        assert "color-contrast" in {finding["rule"] for finding in _axe(eyes, "dark")}
