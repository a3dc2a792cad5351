"""Opens every page of the built book at three widths, and notes all that the tests of the book ask about.

Opening a page is what costs time, so each visit looks at everything: errors, overflow, themes, contrasts of charts,
axe's findings, weight and load metrics. Two browsers share the pages.
"""

from __future__ import annotations

import gzip
import queue
import threading
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from book_reader import HTML, Reader, chromium, served

BROWSERS = 2
WIDE, MIDDLE, NARROW = 1280, 768, 360
PAPER = 680  # A4 without its margins
AXE_OPTIONS = "{resultTypes: ['violations'], iframes: false, preload: false, runOnly: %s}"
RULES = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']"
NAVIGATION = ".bd-sidebar-primary"  # the same on every page: axe looks at it on the pages of the root
AXE_RESULT = """found => found.violations.flatMap(rule => rule.nodes.map(node => (
  {rule: rule.id, selector: node.target.flat().join(' '), html: node.html.slice(0, 200),
   why: [...node.any, ...node.all, ...node.none].map(check => check.message).join('; ').slice(0, 200)})))"""
COMPRESSED = (".png", ".jpg", ".woff", ".woff2", ".gz", ".zip")
KINDS = {"html": ".html", "css": ".css", "js": ".js", "image": ".svg .png .jpg", "font": ".woff .woff2 .ttf"}


@dataclass
class Visit:
    """What was seen of one page."""

    page: str
    problems: list[str] = field(default_factory=list)
    axe: list[dict] = field(default_factory=list)  # theme, rule, selector, html, why
    contrasts: list[dict] = field(default_factory=list)  # theme, part, text, ratio: of charts and of code
    weight: dict[str, int] = field(default_factory=dict)  # bytes by kind, as a server would compress them
    requests: int = 0
    load_ms: float = 0.0  # until DOMContentLoaded
    shift: dict[int, float] = field(default_factory=dict)  # layout shift, by width of the window


def visit_all(pages: list[str]) -> dict[str, Visit]:
    """A visit of every page.

    Raises:
        BaseException: what stopped a browser, such as pytest's skip where there is none.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for page in pages:
        waiting.put(page)
    seen: dict[str, Visit] = {}
    failures: list[BaseException] = []
    threads = [threading.Thread(target=_work, args=(waiting, seen, failures)) for _ in range(BROWSERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return seen


def _work(waiting: queue.SimpleQueue[str], seen: dict[str, Visit], failures: list[BaseException]) -> None:
    try:
        with served(HTML) as origin, chromium() as browser:
            windows = {width: Reader(browser, origin, width, height=800) for width in (WIDE, MIDDLE, NARROW)}
            for eyes in windows.values():
                eyes.context.add_init_script(axe_source())
            while True:
                page = waiting.get_nowait()
                seen[page] = visit(page, windows)
    except queue.Empty:
        return
    except BaseException as failure:  # pytest.skip and pytest.fail among them
        failures.append(failure)


def axe_source() -> str:
    """The text of axe-core, out of an installed package."""
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def visit(page: str, windows: dict[int, Reader]) -> Visit:
    """Read one page in all windows, light, dark and as paper shows it."""
    seen, wide = Visit(page), windows[WIDE]
    for width, eyes in windows.items():
        eyes.problems.clear()
        eyes.page.emulate_media(color_scheme="light", media="screen")
        eyes.resize(width)
        eyes.open(page)
        seen.shift[width] = eyes.page.evaluate("bookProbe.shift()")
    _weigh(seen, wide)
    for theme in ("light", "dark"):
        for eyes in windows.values():
            eyes.theme(theme)
            eyes.look()
        seen.contrasts += [text | {"theme": theme} for text in wide.page.evaluate("bookProbe.contrasts()")]
        seen.axe += axe_findings(wide, theme, navigation="/" not in page)
        if theme == "light":
            seen.axe += axe_findings(windows[NARROW], theme, navigation=False)
    windows[MIDDLE].page.emulate_media(color_scheme="light", media="print")
    windows[MIDDLE].resize(PAPER)
    windows[MIDDLE].look()
    for dead in wide.page.evaluate("bookProbe.deadControls()"):
        wide.report(dead)
    seen.problems = [problem for eyes in windows.values() for problem in eyes.problems]
    return seen


def axe_findings(eyes: Reader, theme: str, navigation: bool = True) -> list[dict]:
    """What axe finds; in the dark theme only colours can differ."""
    options = AXE_OPTIONS % (RULES if theme == "light" else "{type: 'rule', values: ['color-contrast']}")
    left_out = "" if navigation else NAVIGATION
    found = eyes.page.evaluate(f"bookProbe.audit({options}, '{left_out}').then({AXE_RESULT})")
    return [finding | {"theme": theme} for finding in found]


def _weigh(seen: Visit, eyes: Reader) -> None:
    """Requests of the page and their weight; Playwright keeps no cache between pages while it watches requests."""
    files = {local for url in eyes.requests if (local := local_file(url, eyes.origin))}
    for file in files:
        kind = kind_of(file)
        seen.weight[kind] = seen.weight.get(kind, 0) + compressed_size(file)
    seen.requests = len(files)
    seen.load_ms = eyes.page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")


def local_file(url: str, origin: str) -> Path | None:
    """The file of the book that a request was answered with; None for data in the address itself."""
    if not url.startswith(origin):
        return None
    return HTML / unquote(urlsplit(url).path).lstrip("/")


def kind_of(file: Path) -> str:
    """Html, css, js, image, font; `charts` is the drawing library, `lab` what the Induction Lab loads."""
    if file.name == "vega-bundle.js":
        return "charts"
    if "lab" in (file.parent.name, file.stem.split("-")[0]) and file.suffix != ".html":
        return "lab"
    if "mathjax" in file.parts:
        return "math"
    return next((kind for kind, endings in KINDS.items() if file.suffix in endings.split()), "other")


@cache
def compressed_size(file: Path) -> int:
    """Bytes that a server would send: compressed, unless the format is already."""
    data = file.read_bytes()
    return len(data) if file.suffix in COMPRESSED else len(gzip.compress(data, 6))
