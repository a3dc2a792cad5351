"""Views of the built book, compared with approved ones in `tests/looks`; `make looks` approves new ones.

Charts are hidden where they show what this machine computed. The Lab and the explorers are not: their weights and
records lie in the repository. Letters are a few pixels wide in these pictures, and squares of
them are compared, so that only what a reader would notice counts. Where the fonts are others, the test skips.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from book_looks import FONTS, distances, from_png, grey_picture, to_png
from book_reader import HTML, Reader, chromium, served, written_pages

pytestmark = pytest.mark.book

FOLDER = Path(__file__).parent / "looks"
MEAN, LARGEST = 1.0, 20.0  # per cent: of a whole picture, of one square of 8 by 8 of its pixels
PHONE, DESKTOP = (390, 844), (1280, 800)
ROOM = 400_000  # bytes of all approved pictures
COMPUTED = ".vega-embed, [id^=altair-viz], .induction-lab > *, .run-times td, .cell_output pre, #opening-lab"
HIDE = """
  %s .component-author ~ *, .last-updated { visibility: hidden !important; }
  * { caret-color: transparent !important; transition: none !important; animation: none !important; }"""
VIEWS = {  # name: page, window, theme, what to scroll to
    "opening": ("index.html", DESKTOP, "light", None),
    "opening-dark": ("index.html", DESKTOP, "dark", None),
    "opening-phone": ("index.html", PHONE, "light", None),
    "chapter": ("chapters/04_induction_circuit.html", DESKTOP, "light", None),
    "chapter-dark-phone": ("chapters/04_induction_circuit.html", PHONE, "dark", None),
    "chart": ("chapters/05_finding_heads.html", DESKTOP, "light", "[id^=altair-viz]"),
    "exercise": ("exercises/03_previous_token_head.html", DESKTOP, "dark", None),
    "exercise-phone": ("exercises/03_previous_token_head.html", PHONE, "light", None),
    "api": ("api/circuits.html", DESKTOP, "light", None),
    "table-phone": ("notation.html", PHONE, "light", "table"),
    "not-found": ("404.html", DESKTOP, "light", None),
    "map-dark": ("course_map.html", DESKTOP, "dark", None),
    "lab": ("lab.html", DESKTOP, "light", ".induction-lab"),
    "lab-dark-phone": ("lab.html", PHONE, "dark", ".induction-lab"),
    "explorer": ("explorers.html", DESKTOP, "light", "[id^=altair-viz]"),
    "explorer-dark": ("explorers.html", DESKTOP, "dark", "[id^=altair-viz]"),
}
FROM_RECORDS = ("lab.html", "explorers.html")
APPROVE = os.environ.get("COURSE_APPROVE") == "1"


@pytest.fixture(scope="module")
def browser():
    written_pages()
    with chromium() as one, served(HTML) as origin:
        one.book = origin
        yield one


def photograph(browser, name: str) -> tuple[np.ndarray, list[int]]:
    """A view as a small grey picture, and the widths of its fonts."""
    page_name, (width, height), theme, target = VIEWS[name]
    eyes = Reader(browser, browser.book, width, height)
    eyes.page.emulate_media(color_scheme=theme)
    page = eyes.open(page_name)
    page.add_style_tag(content=HIDE % ("" if page_name in FROM_RECORDS else f"{COMPUTED},"))
    if target:
        scroll_to(page, target)
    fonts, shot = page.evaluate(FONTS), page.screenshot()
    blank = browser.new_page()
    picture = grey_picture(blank, shot)
    blank.close()
    eyes.context.close()
    return picture, fonts


def scroll_to(page, target: str, tries: int = 20) -> None:
    """Bring an element to the middle, until it stays there: charts are drawn when they come near, and then grow."""
    element, stood = page.locator(target).first, None
    for _ in range(tries):
        element.evaluate("e => e.scrollIntoView({block: 'center', behavior: 'instant'})")
        page.wait_for_timeout(200)
        stands = element.bounding_box()
        if stands == stood:
            return
        stood = stands
    pytest.fail(f"{target} does not come to rest")


@pytest.mark.parametrize("name", VIEWS)
def test_the_book_looks_as_approved(browser, name):
    picture, fonts = photograph(browser, name)
    kept, about = FOLDER / f"{name}.png", FOLDER / "fonts.json"
    if APPROVE:
        kept.write_bytes(to_png(picture))
        about.write_text(json.dumps(fonts) + "\n", encoding="utf-8")
        return
    approved = json.loads(about.read_text(encoding="utf-8"))
    if fonts != approved:
        stop_where_fonts_differ(fonts, approved)
    mean, largest = distances(from_png(kept.read_bytes()), picture)
    if mean > MEAN or largest > LARGEST:
        seen = HTML.parent / "looks" / f"{name}.png"
        seen.parent.mkdir(exist_ok=True)
        seen.write_bytes(to_png(picture))
        pytest.fail(
            f"{name} looks different: {mean:.1f}% on average, {largest:.0f}% at one place "
            f"(allowed {MEAN}%, {LARGEST}%). Compare {seen} with {kept}; `make looks` approves the new ones."
        )


def stop_where_fonts_differ(fonts: list[int], approved: list[int]) -> None:
    """Skip: another machine's letters are no mistake of the book."""
    pytest.skip(f"this machine's fonts are not those of the approved pictures (widths {fonts}, approved {approved})")


def test_a_different_page_does_not_pass(browser):
    """The guard itself: another page, another theme, and a picture moved by 16 pixels are all noticed."""
    opening, _ = photograph(browser, "opening")
    for other in ("opening-dark", "api", "not-found"):
        mean, largest = distances(opening, photograph(browser, other)[0])
        assert mean > MEAN or largest > LARGEST, other
    moved = np.roll(opening, 4, axis=0)  # 16 px of the page
    mean, largest = distances(opening, moved)
    assert mean > MEAN or largest > LARGEST


def test_approved_pictures_are_small_and_all_there():
    files = sorted(path.stem for path in FOLDER.glob("*.png"))
    assert files == sorted(VIEWS)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= ROOM
    for path in FOLDER.glob("*.png"):
        assert np.array_equal(from_png(to_png(from_png(path.read_bytes()))), from_png(path.read_bytes()))
