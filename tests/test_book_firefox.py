"""The built book in a second browser: what only Chromium understands would go unseen otherwise."""

from __future__ import annotations

import pytest
from book_reader import CHARTS, HTML, LAID_OUT, served, written_pages
from firefox import Firefox, firefox
from lab_pages import IDLE

pytestmark = pytest.mark.book

WIDTHS = (1280, 390)
THEMES = ("light", "dark")
TOTALS = "[...document.querySelectorAll('.lab-totals strong')].map(total => parseFloat(total.textContent))"
SCORES = (
    "Object.fromEntries([...document.querySelectorAll('.lab-head')].map("
    "head => [head.dataset.head, parseFloat(head.querySelector('.lab-score').textContent)]))"
)
ENTER = "\ue007"  # WebDriver's code
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


@pytest.fixture(scope="module")
def browser():
    with firefox() as one:
        yield one


@pytest.fixture(scope="module")
def origin():
    written_pages()  # tells where there is no book
    with served(HTML) as address:
        yield address


def problems_of(browser: Firefox, origin: str, page: str) -> list[str]:
    """What goes wrong on a page at both widths, light and dark."""
    browser.errors.clear()
    browser.requests.clear()
    browser.open(f"{origin}/{page}")
    browser.evaluate("window.MathJax?.startup?.promise?.then(() => true) ?? true")
    browser.wait(f"{CHARTS}.every(chart => chart.querySelector('svg, canvas, .error'))")
    found = []
    for width in WIDTHS:
        browser.resize(width, 800)
        browser.wait(LAID_OUT)
        for theme in THEMES:
            browser.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            browser.evaluate(PAINTED)
            found += [f"{problem} ({width} px, {theme})" for problem in browser.evaluate("bookProbe.look()")]
    found += browser.errors
    own = (origin, "data:", "blob:")
    found += [f"asked a foreign host: {url}" for url in browser.requests if not url.startswith(own)]
    return [f"{page}: {problem}" for problem in found]


def test_every_page_reads_well(browser, origin):
    problems = [problem for page in written_pages() for problem in problems_of(browser, origin, page)]
    assert not problems, "\n".join(problems)


def test_in_the_lab_the_best_head_is_switched_off_by_keyboard(browser, origin):
    """Without it, pairs that stood before are predicted much worse."""
    browser.resize(1280, 900)
    browser.open(f"{origin}/lab.html")
    browser.wait(f"({IDLE})()")
    twice = "[...document.querySelectorAll('button')].find(one => one.textContent === 'Random tokens, twice')"
    browser.evaluate(f"{twice}.focus()")
    browser.press(ENTER)
    browser.wait(f"({IDLE})()")
    before, scores = browser.evaluate(TOTALS), browser.evaluate(SCORES)
    best = max(scores, key=scores.get)
    browser.evaluate(f"document.querySelector('[data-head=\"{best}\"] [role=switch]').focus()")
    browser.press(" ")
    browser.wait(f"({IDLE})()")
    assert scores[best] > 0.6 and browser.evaluate(TOTALS)[0] > before[0] + 1
