"""A browser window that reads the built book and notes everything that goes wrong; used by the tests of the book."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
PROBE = ROOT / "tests" / "book_probe.js"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [  # no sandbox: CI runs as root; the rest keeps the browser from talking to anybody by itself
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT = 30_000  # ms until a page has typeset its formulas and drawn its charts
CHARTS = "[...document.querySelectorAll('[id^=altair-viz]')]"
LAID_OUT = f"{CHARTS}.every(chart => !chart.clientWidth || chart.clientWidth === Number(chart.dataset.column))"


def stop(reason: str) -> None:
    """Skip with the reason, or fail with it where COURSE_REQUIRE_BROWSER=1."""
    if os.environ.get("COURSE_REQUIRE_BROWSER") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def written_pages() -> list[str]:
    """Paths of all pages of the book, relative to its folder; without those that Sphinx makes of the others."""
    return [page for page in all_pages() if page not in ("genindex.html", "search.html")]


def all_pages() -> list[str]:
    """Paths of all pages, relative to the built book."""
    if not (HTML / "index.html").exists():
        stop("the book is not built: run `make book`, then this test again")
    return sorted(path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html") if "_static" not in path.parts)


@contextmanager
def chromium() -> Iterator[object]:
    """A headless Chromium of this machine."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        stop("playwright is not installed: run `make test`, which installs it")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        stop("no Chromium: install the package `chromium` (Debian: apt-get install chromium), then run `make test`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line in the test output for each; an unknown address gets the book's own page."""

    def log_message(self, *args: object) -> None:
        pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        page = Path(self.directory) / "404.html"
        if code != 404 or not page.exists():
            return super().send_error(code, message, explain)
        body = page.read_bytes()
        self.send_response(404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of `folder` on loopback."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Reader:
    """One browser window. Everything that goes wrong while it reads is collected in `problems`."""

    def __init__(self, browser, origin: str, width: int = 1280, height: int = 900):
        self.origin = origin
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.where = ""
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="light")
        self.context.set_default_timeout(WAIT)
        self.context.route("**/*", self._guard)
        self.context.add_init_script(path=PROBE)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.report(f"page error: {error}"))
        self.page.on("console", lambda line: self.report(f"console: {line.text}") if line.type == "error" else None)
        self.page.on("response", self._judge)

    def _guard(self, route) -> None:
        url = route.request.url
        if url.startswith((self.origin, "data:", "blob:")):
            self.requests.append(url)
            route.continue_()
        else:
            self.report(f"asked a foreign host: {url}")
            route.abort()

    def _judge(self, response) -> None:
        if response.status >= 400:
            self.report(f"{response.status} {response.url}")

    def report(self, problem: str) -> None:
        """Note a problem of the page that is open."""
        self.problems.append(f"{self.where}: {problem}")

    def open(self, path: str):
        """Go to a page and wait until its formulas are typeset and its charts drawn, or have failed."""
        from playwright.sync_api import TimeoutError as Timeout

        self.where = path
        self.requests.clear()
        self.page.goto(f"{self.origin}/{path}")
        self.page.evaluate("window.MathJax?.startup?.promise?.then(() => true) ?? true")
        try:
            self.page.wait_for_function(f"{CHARTS}.every(chart => chart.querySelector('svg, canvas, .error'))")
        except Timeout:
            self.report("a chart is still missing")
        return self.page

    def look(self) -> None:
        """Note what a reader would see go wrong on the page as it stands."""
        size, theme = self.page.viewport_size["width"], self.page.evaluate("document.documentElement.dataset.theme")
        for problem in self.page.evaluate("bookProbe.look()"):
            self.report(f"{problem} ({size} px, {theme})")

    def theme(self, name: str) -> None:
        """Switch the reader's system to "light" or "dark"; the page must follow."""
        self.page.emulate_media(color_scheme=name)
        self.settle()
        if self.page.evaluate("document.documentElement.dataset.theme") != name:
            self.report(f"does not follow the system to the {name} theme")

    def resize(self, width: int) -> None:
        """Make the window narrower or wider and let the page settle."""
        self.page.set_viewport_size({"width": width, "height": self.page.viewport_size["height"]})
        self.settle()

    def settle(self) -> None:
        """Wait until the page has been painted as it now is."""
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
