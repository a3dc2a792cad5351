"""The built book as a reader meets it: a browser opens every page, served on loopback and from disk.

`make book` builds the pages; Chromium comes from the system. Without either the tests say so and skip;
with COURSE_REQUIRE_BROWSER=1 they fail instead, so that CI cannot pass by not looking.
"""

from __future__ import annotations

import re
import shutil

import pytest
from book_reader import HTML, ROOT, Reader, chromium, served, written_pages

pytestmark = pytest.mark.book

WIDTHS = {"desktop": 1280, "phone": 390}


@pytest.fixture(scope="module")
def pages() -> list[str]:
    return written_pages()


@pytest.fixture(scope="module")
def browser(pages):
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def origins(pages):
    """Where the book can be read: from a server on loopback, and from the folder itself."""
    with served(HTML) as address:
        yield {"http": address, "file": HTML.as_uri()}


@pytest.fixture
def reader(browser, origins):
    """Opens readers: `reader("http", width=390)`; all are closed after the test."""
    opened = []

    def make(origin: str = "http", **options) -> Reader:
        opened.append(Reader(browser, origins[origin], **options))
        return opened[-1]

    yield make
    for one in opened:
        one.context.close()


def test_pages_read_well_from_disk(pages, reader):
    """One page of each kind, opened from the folder."""
    eyes = reader("file", width=WIDTHS["phone"])
    for path in one_of_each_kind(pages):
        eyes.open(path)
        eyes.look()
    assert not eyes.problems, "\n".join(eyes.problems)


def one_of_each_kind(pages: list[str]) -> list[str]:
    """The pages of the root, and of each folder the first, the one with most charts, and the last."""
    chosen = {page for page in pages if "/" not in page}
    for folder in {page.rpartition("/")[0] for page in pages} - {""}:
        inside = [page for page in pages if page.startswith(f"{folder}/")]
        chosen |= {inside[0], max(inside, key=charts_in), inside[-1]}
    return sorted(chosen)


def charts_in(page: str) -> int:
    """How many charts a page has."""
    return (HTML / page).read_text(encoding="utf-8").count("altair-viz-")


def test_foreign_requests_and_page_errors_are_noticed(reader):
    """The guard itself: a page that asks a foreign host and throws does not pass."""
    eyes = reader()
    page = eyes.open("index.html")
    page.evaluate("fetch('https://example.org/x').catch(() => null)")
    page.evaluate("setTimeout(() => { throw new Error('on purpose') })")
    page.wait_for_timeout(200)
    assert any("foreign host" in problem for problem in eyes.problems)
    assert any("on purpose" in problem for problem in eyes.problems)


def test_what_the_probe_looks_for_is_noticed(reader):
    """The other guard: broken formulas, charts and images, and a page that is too wide."""
    page = reader().open("index.html")
    assert page.evaluate("bookProbe.look()") == []
    broken = (
        '<mjx-merror></mjx-merror><p>$$x$$</p><span class="math">y</span><div id="altair-viz-0">no chart</div>'
        '<img src="data:image/png;base64,"><div style="width: 3000px">wide</div>'
        '<div id="altair-viz-1"><svg class="marks" width="2000" height="30"></svg></div>'
    )
    page.evaluate("html => document.querySelector('.bd-article').insertAdjacentHTML('beforeend', html)", broken)
    page.wait_for_timeout(200)
    found = "\n".join(page.evaluate("bookProbe.look()"))
    for words in (
        "broken formula",
        "raw TeX",
        "not typeset: y",
        "chart not drawn: no chart",
        "px too wide",
        "than its column",
    ):
        assert words in found


def test_no_cell_has_written_a_warning(pages):
    assert [page for page in pages if '<div class="output stderr' in (HTML / page).read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("origin", ["http", "file"])
def test_search_finds_a_word(reader, origin):
    eyes = reader(origin)
    page = eyes.open("search.html?q=induction")
    page.wait_for_selector("#search-results li a")
    page.wait_for_timeout(500)  # excerpts are fetched after the hits are listed
    hits = page.locator("#search-results li a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert any("chapters/" in hit for hit in hits), hits
    assert not eyes.problems, "\n".join(eyes.problems)


SLIDER = ".vega-bindings input[type=range]"


def page_with_slider(eyes: Reader, pages: list[str]):
    for path in pages:
        if "vega" in (HTML / path).read_text(encoding="utf-8"):
            page = eyes.open(path)
            if page.locator(SLIDER).count():
                return page
    pytest.fail("no page has a chart with a slider bound in the client")


def drag(page, slider) -> None:
    """Move the handle by mouse, from one end of the slider to the other."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    at_end = slider.evaluate("s => (s.value - s.min) / (s.max - s.min) > 0.5")
    start, end = (0.97, 0.03) if at_end else (0.03, 0.97)
    page.mouse.move(box["x"] + box["width"] * start, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (start + end) / 2, middle, steps=5)
    page.mouse.move(box["x"] + box["width"] * end, middle, steps=5)
    page.mouse.up()
    page.wait_for_timeout(400)


@pytest.mark.parametrize("origin", ["http", "file"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_dragging_the_slider_changes_the_chart(pages, reader, origin, width):
    eyes = reader(origin, width=width)
    page = page_with_slider(eyes, pages)
    slider = page.locator(SLIDER).first
    marks = page.locator(".vega-embed").filter(has=page.locator(SLIDER)).first.locator("svg.marks")
    before, value = marks.inner_html(), slider.input_value()
    drag(page, slider)
    assert slider.input_value() != value, "the slider did not move"
    assert marks.inner_html() != before, f"{eyes.where}: the slider moved and the chart did not change"
    assert not eyes.problems, "\n".join(eyes.problems)


DRAWN = """[...document.querySelectorAll("svg.marks")].map(
  svg => [svg.getBoundingClientRect().width, svg.closest(".vega-embed").clientWidth])"""


def test_charts_follow_a_phone_that_is_turned(pages, reader):
    """Upright they fill the column and no more; lying most of them are wider, as they were made to be."""
    eyes = reader(width=WIDTHS["phone"])
    page = eyes.open(max(pages, key=charts_in))
    upright, height = page.evaluate(DRAWN), page.viewport_size["height"]
    assert len(upright) > 1 and all(width <= room for width, room in upright)
    page.set_viewport_size({"width": height, "height": WIDTHS["phone"]})
    wider = f"{DRAWN}.filter(([width, room], i) => width <= room && width > 1.1 * upright[i][0])"
    page.wait_for_function(f"upright => {wider}.length > 0.6 * upright.length", arg=upright)
    page.set_viewport_size({"width": WIDTHS["phone"], "height": height})
    page.wait_for_function(f"upright => {DRAWN}.every(([width], i) => width === upright[i][0])", arg=upright)
    assert not eyes.problems, "\n".join(eyes.problems)


def test_the_page_of_explorers_has_all_five_and_every_control_works_by_key(reader):
    eyes = reader()
    page = eyes.open("explorers.html")
    charts = page.locator("article .vega-embed")
    assert charts.count() == 5
    for chart in charts.all():
        controls = chart.locator("input[type=range], select")
        assert controls.count()
        for control in controls.all():
            before = chart.locator("svg").first.inner_html()
            control.focus()
            at_end = control.evaluate("e => e.tagName === 'SELECT' && e.selectedIndex === e.options.length - 1")
            page.keyboard.press("ArrowUp" if at_end else "ArrowDown")
            page.wait_for_function(
                "([chart, before]) => chart.querySelector('svg').innerHTML !== before",
                arg=[chart.element_handle(), before],
            )
    assert not eyes.problems, "\n".join(eyes.problems)


def test_the_button_changes_the_theme(reader):
    eyes = reader()
    page = eyes.open("index.html")
    seen = set()
    for _ in range(3):  # the button goes round light, dark and automatic
        page.locator(".theme-switch-button:visible").first.click()
        seen.add(page.evaluate("document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}
    assert not eyes.problems, "\n".join(eyes.problems)


def test_a_chart_gives_its_numbers_as_a_table(pages, reader):
    """With the keyboard alone: the box under a chart opens, and holds the chart's rows."""
    eyes = reader()
    page = eyes.open(max(pages, key=charts_in))
    box = page.locator(".course-table").first
    box.locator("summary").focus()
    page.keyboard.press("Enter")
    box.locator("table tbody tr").first.wait_for()
    heads = box.locator("thead th").first
    assert heads.get_attribute("scope") == "col" and heads.inner_text()
    assert not eyes.problems, "\n".join(eyes.problems)


def test_the_keyboard_reaches_the_text_first(reader):
    """The first Tab shows the link past the navigation, and it works; what has the focus shows it."""
    eyes = reader()
    page = eyes.open("chapters/00_start_here.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.skip-link') !== null")
    box = page.locator(".skip-link a").bounding_box()
    assert box["y"] >= 0 and box["height"] > 10, "the skip link is not seen when it has the focus"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main-content")
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", page.evaluate(
            "document.activeElement.outerHTML.slice(0, 200)"
        )


CONTROLS = """() => {
    const all = "a[href], button, input, select, textarea, summary, [tabindex='0']";
    const wanted = [...document.querySelectorAll("article " + all.replaceAll(", ", ", article "))].filter((control) => {
        const radio = control.type === "radio" && control.name;
        const seen = control.checkVisibility({ visibilityProperty: true });
        return seen && !control.disabled && control.tabIndex >= 0 && !(radio && !control.checked);
    });
    wanted.forEach((control, number) => control.dataset.wanted = number);
    return wanted.map((control) => control.outerHTML.slice(0, 120));
}"""
FOCUS = """() => {
    const here = document.activeElement;
    return [here.dataset.wanted, getComputedStyle(here).outlineStyle !== "none"];
}"""


@pytest.mark.parametrize(
    "path", ["lab.html", "explorers.html", "exercises/03_previous_token_head.html", "course_map.html"]
)
def test_tab_reaches_every_control_of_a_page_and_shows_where_it_is(reader, path):
    eyes = reader()
    page = eyes.open(path)
    page.wait_for_timeout(500)  # the Lab and the scrolling boxes
    wanted = dict(enumerate(page.evaluate(CONTROLS)))
    assert len(wanted) > 20
    page.locator(".skip-link a").focus()
    page.keyboard.press("Enter")
    unseen = []
    for _ in range(2 * len(wanted) + 20):
        page.keyboard.press("Tab")
        number, outlined = page.evaluate(FOCUS)
        if number is not None:
            what = wanted.pop(int(number), None)
            unseen += [what] if what and not outlined else []
        if not wanted:
            break
    assert not wanted, f"not reached: {wanted}"
    assert not unseen, f"without an outline: {unseen}"


def test_a_wrong_address_leads_back_from_any_depth(reader):
    """The server answers with the book's own page, whose links and styles work wherever it is shown."""
    eyes = reader()
    for wrong in ("nothing.html", "chapters/deep/er/nothing.html"):
        page = eyes.open(wrong)
        assert "not here" in page.locator("article h1").inner_text()
        assert page.evaluate("[...document.styleSheets].every(sheet => sheet.cssRules.length)")
        page.locator("article a", has_text="Map of the course").click()
        page.wait_for_url("**/course_map.html")
    page = eyes.open("deep/nothing.html")
    page.locator("#not-found-query").fill("induction")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    assert all("404" in problem for problem in eyes.problems), "\n".join(eyes.problems)


def test_the_page_for_wrong_addresses_works_where_the_book_is_published(browser, tmp_path):
    """Below a folder of the host, as on GitHub Pages, which answers with the page's text at any address."""
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    slug = re.search(r"^  url: https://github\.com/[^/\s]+/(\S+)$", config, re.M)[1]
    (tmp_path / slug).symlink_to(HTML)
    shutil.copy(HTML / "404.html", tmp_path)
    with served(tmp_path) as address:
        eyes = Reader(browser, address)
        page = eyes.open(f"{slug}/chapters/deep/nothing.html")
        assert page.evaluate("[...document.styleSheets].every(sheet => sheet.cssRules.length)")
        page.locator("article a", has_text="Map of the course").click()
        page.wait_for_url(f"**/{slug}/course_map.html")
        eyes.context.close()


def test_the_opening_page_says_in_one_screen_what_this_is(reader):
    """On a desktop and on a phone: title, the three ways in, and the place to play begin in the first screen."""
    for width, height in ((1280, 800), (390, 844)):
        page = reader(width=width, height=height).open("index.html")
        for which in ("h1", ".ways a >> nth=0", ".ways a >> nth=1", ".ways a >> nth=2"):
            box = page.locator(f"article {which}").first.bounding_box()
            assert box["y"] + box["height"] <= height, f"{which} is below the first screen at {width} px"
        assert page.locator("article .induction-lab, article .lab").first.bounding_box()["y"] < height * 0.75


def test_navigation_opens_on_a_phone(reader):
    eyes = reader(width=WIDTHS["phone"])
    page = eyes.open("index.html")
    link = page.locator(".bd-sidebar-primary a", has_text="Notation").first
    assert not link.is_visible() or link.bounding_box()["x"] < 0
    page.locator(".primary-toggle:visible").first.click()
    link.click()
    page.wait_for_url("**/notation.html*")
    assert not eyes.problems, "\n".join(eyes.problems)


def test_a_dark_page_is_printed_light_and_open(pages, reader):
    """Paper shows the light theme, opened boxes and whole charts, no navigation; afterwards all is as before."""
    eyes = reader()
    page = eyes.open(max((page for page in pages if page.startswith("chapters/")), key=charts_in))
    eyes.theme("dark")
    closed = page.locator("details:not([open]):not(.course-table)").count()
    assert closed, f"{eyes.where} has no closed box, so the test sees nothing"
    page.evaluate("""addEventListener('beforeprint', () => {
        window.printed = [document.documentElement.dataset.theme,
                          document.querySelectorAll('details:not([open]):not(.course-table)').length]; })""")
    page.pdf()
    assert page.evaluate("window.printed") == ["light", 0]
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.locator("details:not([open]):not(.course-table)").count() == closed
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 680, "height": 900})  # a page of A4 without its margins
    for gone in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", ".vega-bindings"):
        assert not page.locator(gone).first.is_visible(), f"{gone} is printed"
    cut = page.evaluate("""[...document.querySelectorAll('svg.marks')]
        .filter(chart => chart.getBoundingClientRect().right > innerWidth + 1).length""")
    assert not cut, f"{cut} charts of {eyes.where} are cut at the edge of the paper"
