"""The explorers in a browser, on a page with nothing but them: operated by pointer and by keyboard."""

from __future__ import annotations

import re
import shutil

import pytest
from book_reader import ROOT, Reader, chromium, served
from explorer_samples import CHANGES, HEADS, LOSSES, RUNS, STEPS, explorers

from tools.offline_assets import write_vega

pytestmark = pytest.mark.book

PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>Explorers</title>
<meta name="viewport" content="width=device-width, initial-scale=1">{styles}
<script src="vega-versions.js"></script>{scripts}</head>
<body style="margin: 0"><article class="bd-article" style="max-width: 688px; padding: 0 16px">{charts}</article>
</body></html>"""
STYLES, SCRIPTS = ("palette.css", "book.css", "charts.css"), ("charts.js", "book.js")
IN_ONE_ROW = """labels => labels.every(label => {
  const [name, control, value] = [...label.children, label.lastElementChild].map(part => part.getBoundingClientRect());
  return name.top < value.bottom && value.top < name.bottom && control.width > 70;
})"""
WIDTHS = {"desktop": 1280, "phone": 360}


@pytest.fixture(scope="module")
def browser():
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explorers")
    write_vega(folder)
    for name in STYLES + SCRIPTS:
        shutil.copy(ROOT / "book_assets" / "static" / name, folder)
    charts = "".join(
        f'<section id="{name}">{chart._repr_mimebundle_()["text/html"]}</section>'
        for name, chart in explorers().items()
    )
    styles = "".join(f'<link rel="stylesheet" href="{name}">' for name in STYLES)
    scripts = "".join(f'<script src="{name}"></script>' for name in SCRIPTS)
    (folder / "index.html").write_text(PAGE.format(styles=styles, scripts=scripts, charts=charts), encoding="utf-8")
    with served(folder) as address:
        yield address


@pytest.fixture(params=WIDTHS.values(), ids=WIDTHS)
def eyes(browser, origin, request):
    reader = Reader(browser, origin, width=request.param)
    reader.open("index.html")
    reader.page.wait_for_timeout(300)
    yield reader
    reader.context.close()
    assert not reader.problems, "\n".join(reader.problems)


class Explorer:
    """One of the charts on the page."""

    def __init__(self, eyes: Reader, name: str):
        self.page, self.here = eyes.page, eyes.page.locator(f"#{name}")

    def control(self, name: str):
        return self.here.locator(".vega-bind", has_text=re.compile(f"^{name} ")).locator("input, select").first

    def value(self, name: str) -> str:
        """What a slider stands at, or the words that a menu shows."""
        return self.control(name).evaluate("c => c.selectedOptions ? c.selectedOptions[0].text : c.value")

    def texts(self) -> set[str]:
        return set(self.here.locator("svg.marks .mark-text.role-mark text").all_text_contents())

    def marks(self, name: str):
        return self.here.locator(f"svg.marks .{name}_marks path")

    def point(self, name: str, number: int, click: bool = False) -> None:
        """Move the mouse onto a mark, and click it if wanted."""
        mark = self.marks(name).nth(number)
        mark.scroll_into_view_if_needed()
        box = mark.bounding_box()
        where = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        self.page.mouse.move(*where)
        if click:
            self.page.mouse.click(*where)
        self.page.wait_for_timeout(150)

    def press(self, control: str, key: str) -> None:
        self.page.mouse.move(0, 0)  # a chart that scrolls below a resting mouse would be pointed at
        self.control(control).focus()
        self.page.keyboard.press(key)
        self.page.wait_for_timeout(150)

    def drawing(self) -> str:
        return self.here.locator("svg.marks").inner_html()


def tiles_at(step: int, score: str = "prefix_matching") -> set[str]:
    scores = RUNS["two"][STEPS.index(step)][score]
    return {f"{head}: {scores[int(head[0]), int(head[2])]:.2f}" for head in HEADS}


def test_nothing_is_wider_than_a_phone_and_every_chart_is_read_out(eyes):
    page = eyes.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = page.evaluate(
        "[...document.querySelectorAll('svg.marks')].filter(s => s.getBoundingClientRect().width > "
        "s.closest('[id^=altair-viz]').clientWidth + 1).map(s => s.closest('section').id)"
    )
    assert wide == []
    assert page.locator(".vega-bind label").evaluate_all(IN_ONE_ROW)
    for name, chart in explorers().items():
        said = page.locator(f"#{name} [id^=altair-viz]").get_attribute("aria-label")
        assert said == chart.to_dict()["description"]


def test_the_table_opens_with_the_keyboard(eyes):
    table = eyes.page.locator("#losses details table")
    assert not table.is_visible()
    eyes.page.locator("#losses details summary").focus()
    eyes.page.keyboard.press("Enter")
    assert table.is_visible() and table.locator("tbody tr").count() == len(STEPS)


def test_heads_follow_the_slider_the_curves_and_the_menu(eyes):
    mosaic = Explorer(eyes, "mosaic")
    assert tiles_at(30) <= mosaic.texts()
    mosaic.press("training step", "ArrowLeft")
    assert mosaic.value("training step") == "20" and tiles_at(20) <= mosaic.texts()
    for curve, number, step in (("loss_steps", 0, 0), ("score_steps", 1, 10)):
        mosaic.point(curve, number)
        assert mosaic.value("training step") == str(step) and tiles_at(step) <= mosaic.texts()
    mosaic.control("score").select_option("previous token")
    eyes.page.wait_for_timeout(150)
    assert tiles_at(10, "previous_token") <= mosaic.texts()
    mosaic.control("model").select_option("one")
    eyes.page.wait_for_timeout(150)
    assert {text[:3] for text in mosaic.texts()} == {"0.0", "0.1"}


def test_a_tile_of_the_map_sets_both_cuts(eyes):
    losses = Explorer(eyes, "losses")
    before = losses.drawing()
    bins = losses.marks("map").count() // len(STEPS)
    losses.point("map", bins)  # second step, first bin
    assert (losses.value("training step"), losses.value("token index")) == ("10", "1")
    assert losses.drawing() != before
    told = losses.here.locator("svg.marks .mark-symbol.role-mark path").evaluate_all("a => a.map(p => p.ariaLabel)")
    here = [text for text in told if "step: 10; tokens: 1 to 2" in text]  # drawn on both cuts, and ringed
    loss = f"loss (nats): {LOSSES.loc[10, [1, 2]].mean():.3f}".rstrip("0")
    assert len(here) == 3 and all(loss in text for text in here), told
    now = losses.drawing()
    losses.press("token index", "ArrowDown")
    assert losses.value("token index") != "1" and losses.drawing() != now


def test_a_click_on_a_pair_and_the_menus_ring_its_scores(eyes):
    composition = Explorer(eyes, "composition")
    ringed = composition.here.locator("svg.marks .mark-symbol.role-mark path")
    assert ringed.count() == 3  # Q, K and V
    for number, pair in ((0, ("0.0", "1.0")), (3, ("0.1", "1.1"))):
        composition.point("mosaic", number, click=True)
        assert (composition.value("earlier head"), composition.value("later head")) == pair
        labels = ringed.evaluate_all("rings => rings.map(ring => ring.ariaLabel)")
        assert len(labels) == 3 and all(f"earlier: {pair[0]}; later: {pair[1]}" in label for label in labels)
    before = composition.texts()
    composition.press("kind", "ArrowDown")
    assert composition.value("kind") == "Q" and composition.texts() != before


def test_a_click_on_a_bar_shows_what_its_tokens_lose(eyes):
    ablation = Explorer(eyes, "ablation")
    before = ablation.drawing()
    ablation.point("bars", 0, click=True)
    first = CHANGES.iloc[0]
    assert (ablation.value("head"), ablation.value("ablation")) == (first["head"], first["kind"])
    after = ablation.drawing()
    assert after != before
    ablation.press("head", "ArrowDown")
    assert ablation.value("head") == "0.1" and ablation.drawing() != after
    ablation.point("tiles", 7)
    assert ablation.value("token") == "7"
    ablation.point("tokens_at", 2)
    assert ablation.value("token") == "2"
    ablation.press("token", "ArrowRight")
    assert ablation.value("token") == "3"


def test_paths_and_losses_mark_the_same_moment(eyes):
    paths = Explorer(eyes, "trajectories")
    marked = paths.here.locator("svg.marks .mark-symbol.role-mark path")

    def at(step: int) -> int:
        labels = marked.evaluate_all("marks => marks.map(mark => mark.ariaLabel ?? '')")
        return sum(bool(re.search(rf"(step|training step): {step}\b", label)) for label in labels)

    unmarked = {step: at(step) for step in STEPS}
    paths.point("loss_steps", 1)
    assert paths.value("training step") == "10" and at(10) == unmarked[10] + 4  # two models, on both plots
    paths.point("places", 2)
    assert paths.value("training step") == "20" and at(20) == unmarked[20] + 4
    paths.press("training step", "ArrowLeft")
    assert paths.value("training step") == "10" and at(20) == unmarked[20]


def test_what_was_chosen_is_still_chosen_when_the_window_gets_another_width(eyes):
    page, mosaic, ablation = eyes.page, Explorer(eyes, "mosaic"), Explorer(eyes, "ablation")
    default, width = (ablation.value("head"), ablation.value("ablation")), page.viewport_size["width"]
    mosaic.press("training step", "ArrowLeft")
    ablation.point("bars", 0, click=True)
    chosen = ablation.value("head"), ablation.value("ablation")
    assert chosen != default
    for other in (width + 240, width):
        page.set_viewport_size({"width": other, "height": page.viewport_size["height"]})
        page.wait_for_function(
            "[...document.querySelectorAll('[data-column]')].every(c => Number(c.dataset.column) === c.clientWidth)"
        )
        page.wait_for_timeout(300)
        assert mosaic.value("training step") == "20" and tiles_at(20) <= mosaic.texts()
        assert (ablation.value("head"), ablation.value("ablation")) == chosen
