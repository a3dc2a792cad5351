"""The Induction Lab in a browser: its numbers are torch's, its controls do what they say, by mouse and by keyboard."""

from __future__ import annotations

import argparse
import base64
import gzip
import re
import sys
from pathlib import Path

import pytest
import torch
from book_reader import HTML, ROOT, Reader, chromium, served, written_pages
from lab_pages import PRESETS, browser_logits, load_model, losses, ready, scores, write_pages
from random_models import ARCHITECTURES, random_model, random_tokens

from course_lib import lab
from course_lib.ablation import ablated_logits
from course_lib.data import load_tokenizer, repeated_tokens
from course_lib.evaluate import token_losses
from course_lib.lab import induction_lab, lab_manifest, recorded_lab
from course_lib.lab_manifest import lab_script, manifest, preview, tokenizer_table
from course_lib.lab_weights import block, dequantised, quantised
from course_lib.model import ModelConfig, Transformer, patterns
from course_lib.recorded import load_recorded, recorded_model
from course_lib.scores import prefix_matching_score
from tools.lab_assets import classic_script
from tools.lab_run import MixedRows, film_steps

CLOSE = 1e-4
WIDTHS = (1280, 768, 560, 360)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pages(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def browser():
    with chromium() as one:
        yield one


@pytest.fixture
def opened(browser, folder):
    """Opens pages from disk, `opened("film", width=360)`; errors on any of them fail the test."""
    readers = []

    def make(preset: str = "lab", address: str = "", **options):
        readers.append(Reader(browser, folder.as_uri(), **options))
        page = readers[-1].open(f"{preset}.html{address}")
        ready(page)
        return page

    yield make
    problems = [problem for reader in readers for problem in reader.problems]
    for reader in readers:
        reader.context.close()
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def recorded():
    model, frames, _ = recorded_lab()
    return model, frames


def torch_logits(weights, config, ids, heads, kind):
    model = Transformer(config, seed=None)
    model.load_state_dict(weights)
    return ablated_logits(model, torch.tensor([ids]), heads, kind)[0]


# The numbers


def test_logits_of_every_frame_are_those_of_torch(opened, recorded, generator):
    page, (model, frames) = opened(), recorded
    text = [0, *load_tokenizer().encode("def f(x):\n    return f(x) + “ü” ").ids]
    random = torch.randint(1024, (model.config.n_ctx,), generator=generator).tolist()
    assert len(frames) >= 6
    for weights in frames.values():
        load_model(page, weights, model.config.to_dict())
        for ids, heads, kind in (
            (random, [], "zero"),
            (text, [(0, 3), (0, 1), (1, 0)], "zero"),
            (random, [(1, 3)], "zero"),
            (text, [(0, 3), (1, 1)], "pattern_preserving"),
        ):
            theirs = torch_logits(dequantised(weights), model.config, ids, heads, kind)
            assert (browser_logits(page, ids, heads, kind) - theirs).abs().max() < CLOSE
            assert theirs.std() > 0.3  # not all the same number


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_of_every_architecture_are_those_of_torch(opened, architecture):
    """Their logits reach hundreds, so the tolerance grows with them."""
    page, model = opened(), random_model(architecture).float()
    ids, weights = random_tokens(model, batch=1)[0].tolist(), model.state_dict()
    load_model(page, weights, model.config.to_dict())
    whole = browser_logits(page, ids)
    for heads, kind in (([], "zero"), ([(0, 1), (1, 0)], "zero"), ([(0, 1), (1, 0)], "pattern_preserving")):
        theirs = torch_logits(weights, model.config, ids, heads, kind)
        ours = browser_logits(page, ids, heads, kind)
        assert (ours - theirs).abs().max() < CLOSE * max(1, theirs.std())
        assert not heads or (ours - whole).abs().max() > 0.01


def test_the_tokenizer_is_the_courses(opened):
    page, tokenizer = opened(), load_tokenizer()
    source = Path(argparse.__file__).read_text(encoding="utf-8")
    texts = [
        "",
        " ",
        "Hello, it's he'll we're I'd",
        "  two  spaces \n\n\t tab\r\nend  ",
        "x²=٣4 12345 3.14e-10",
        "naïve café — “quotes” … 日本語 текст עברית 👩‍👩‍👧 e\u0301",
        "nbsp\xa0nel\x85bom\ufeffls\u2028em\u2003 \u200b.",
        "a<start>b <start><start>",
        "__init__(self, *args, **kwargs) -> None:\n        return super().__init__()",
        source[:20_000],
    ]
    encode = "text => document.querySelector('.induction-lab').lab.tokenizer.encode(text)"
    for text in texts:
        assert page.evaluate(encode, text) == tokenizer.encode(text).ids


def test_losses_and_scores_on_the_page_are_the_librarys(opened, recorded):
    page, (model, _) = opened("film"), recorded
    page.locator(".lab-shuffle").click()
    ready(page)
    ids = page.evaluate("document.querySelector('.induction-lab').lab.ids")
    tokens = torch.tensor([ids])
    expected = token_losses(model, tokens)[0]
    shown = page.evaluate("[...document.querySelector('.induction-lab').lab.result.losses].slice(1)")
    assert torch.allclose(torch.tensor(shown), expected, atol=CLOSE)
    matching = prefix_matching_score(patterns(model, tokens), tokens)
    for name, score in scores(page).items():
        layer, head = map(int, name.split("."))
        assert score == pytest.approx(matching[layer, head].item(), abs=0.0051)
    period = (len(ids) - 1) // 2
    repeats = expected[period + 1 :].mean().item()  # the first token of the second copy cannot be known
    assert losses(page)[0] == pytest.approx(repeats, abs=0.006)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_preview_agrees_with_the_model(opened, preset):
    """What is shown before any weights are loaded is what the model then says."""
    page = opened(preset)
    assert page.evaluate("!document.querySelector('script[src*=weights]')")
    words = page.locator(".lab-say").inner_text()
    shown = page.evaluate("[...document.querySelector('.induction-lab').lab.result.losses].slice(1)")
    page.evaluate("document.querySelector('.induction-lab').lab.compute()")
    ready(page)
    assert page.evaluate("!!document.querySelector('script[src*=weights]')")
    computed = page.evaluate("[...document.querySelector('.induction-lab').lab.result.losses].slice(1)")
    assert computed == pytest.approx(shown, abs=1e-3)
    assert page.locator(".lab-say").inner_text() == words


def test_eight_bits_leave_the_losses_where_they_were(generator):
    model = recorded_model("two_layers")
    probe = Transformer(model.config, seed=None)
    probe.load_state_dict(dequantised(quantised(model.state_dict())))
    tokens = repeated_tokens(8, 25, 2, 1024, generator)
    full, short = (token_losses(each, tokens) for each in (model, probe))
    assert abs((short - full).mean().item()) < 0.02
    assert 0 < (short - full).abs().max() < 0.5
    assert all(abs(moved) < 0.002 for moved in load_recorded("lab")["moved"].values())


def test_the_recorded_film_shows_the_head_form():
    stored = load_recorded("lab")
    chosen = [record for record in stored["records"] if str(record["step"]) in stored["frames"]]
    assert len(chosen) == len(stored["frames"]) >= 6
    assert film_steps(stored["records"]) == [record["step"] for record in chosen]
    best = [record["prefix_matching"].max().item() for record in chosen]
    assert best[0] < 0.1 and best[-1] > 0.6
    assert chosen[-1]["repeat_loss"] < 2 < 6 < chosen[0]["repeat_loss"]
    assert stored["provenance"]["command"] == "python -m tools.lab_run"


def test_the_page_names_the_right_heads():
    """What lab.md says of heads 0.3 and 1.3, of their order, and of the tokens that nobody can predict."""
    records, page = load_recorded("lab")["records"], (ROOT / "lab.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\b([01]\.\d)\b", page)) == {"0.3", "1.3"}
    scores = {name: torch.stack([r[name] for r in records]) for name in ("previous_token", "prefix_matching")}
    assert divmod(int(scores["previous_token"][-1].argmax()), 4) == (0, 3)
    assert divmod(int(scores["prefix_matching"][-1].argmax()), 4) == (1, 3)
    ready, formed = scores["previous_token"][:, 0, 3] > 0.8, scores["prefix_matching"][:, 1, 3] > 0.4
    assert 0 < ready.int().argmax() < formed.int().argmax()
    assert records[0]["first_loss"] < records[-1]["first_loss"] < records[0]["first_loss"] + 2


def test_training_rows_are_of_the_three_kinds():
    class Flat:
        d_vocab = 1024

        def batches(self, batch, n_ctx, seed):
            return lambda step: torch.arange(n_ctx + 1).expand(batch, -1).clone()

    rows = MixedRows(Flat(), 0)(3)
    assert (rows[:4] == torch.arange(129)).all() and (rows[:, 0] == 0).all()
    for row in rows[4:]:
        periods = [p for p in range(6, 65) if (row[1 + p :] == row[1:-p]).all()]
        assert periods
    assert not (rows[6, 1:7] == torch.arange(1, 7)).all()


# Operated


def test_by_mouse_a_head_is_chosen_and_switched_off(opened):
    page = opened("lab")
    page.get_by_role("button", name="Random tokens, twice").click()
    ready(page)
    best = max(scores(page), key=scores(page).get)
    page.get_by_role("button", name="Show head 0.0").click()
    assert "head 0.0 looks" in page.locator(".lab-say").inner_text()
    page.get_by_role("button", name=f"Show head {best}").click()
    assert f"head {best} looks" in page.locator(".lab-say").inner_text()
    before, expected = losses(page), page.locator(".lab-guesses li").all_inner_texts()
    page.get_by_role("switch", name=f"Head {best} on").click()
    after = losses(page)
    assert after[0] > before[0] + 1, "the loss of repeats did not rise"
    assert f"was {before[0]:.2f}" in page.locator(".lab-totals").inner_text()
    assert page.locator(".lab-guesses li").all_inner_texts() != expected
    page.get_by_role("button", name="All on").click()
    assert losses(page) == pytest.approx(before, abs=0.01)


def test_pattern_preserving_differs_from_zero_for_the_previous_token_head(opened):
    """With layer 1 attending as before, it matters little that the head it read from is gone."""
    page = opened("lab")
    previous = load_recorded("lab")["records"][-1]["previous_token"][0].argmax().item()
    page.get_by_role("button", name="Random tokens, twice").click()
    whole = losses(page)[0]
    page.get_by_role("switch", name=f"Head 0.{previous} on").click()
    zero = losses(page)[0]
    page.get_by_role("radio", name="pattern-preserving").check()
    kept = losses(page)[0]
    assert zero > whole + 2 and kept < zero - 2


def drawn(page) -> dict:
    """What the row of tokens shows: arcs, shades, heights of bars, labels, and the sentence about the chosen token."""
    return page.evaluate("""() => {
        const lab = document.querySelector(".induction-lab"), chips = [...lab.querySelectorAll(".lab-chip")];
        return {
            arcs: [...lab.querySelectorAll(".lab-arcs path")].map(path => +path.getAttribute("stroke-width")),
            shades: chips.map(chip => +chip.style.getPropertyValue("--attention")),
            bars: chips.map(chip => parseFloat(chip.querySelector(".lab-bar i").style.height)),
            labels: chips.map(chip => chip.getAttribute("aria-label")),
            ids: lab.lab.ids, at: lab.lab.at, says: lab.querySelector(".lab-say").textContent,
        };
    }""")


def test_attention_and_losses_are_drawn_as_the_model_has_them(opened, recorded):
    """After another head, another token, and with a head off: shades, arcs, bars and words against torch."""
    page, (model, _) = opened("lab"), recorded
    page.get_by_role("button", name="Random tokens, twice").click()
    ready(page)
    tokens = torch.tensor([drawn(page)["ids"]])
    attention, whole = patterns(model, tokens)[:, 0], token_losses(model, tokens)[0].tolist()
    for layer, head, move in ((1, 3, None), (0, 3, None), (0, 3, "ArrowLeft"), (1, 2, "Home")):
        page.get_by_role("button", name=f"Show head {layer}.{head}").click()
        if move:
            page.locator(".lab-chip[tabindex='0']").focus()
            page.keyboard.press(move)
        shown = drawn(page)
        row = attention[layer, head, shown["at"]]
        assert shown["shades"] == pytest.approx(row.tolist(), abs=2e-3)
        earlier = row[: shown["at"]]
        widths = sorted((0.75 + 3 * earlier[earlier > 0.06]).tolist(), reverse=True)[:8]
        assert shown["arcs"] == pytest.approx(widths, abs=0.02)
        best = row.argmax().item()
        target = "at itself" if best == shown["at"] else f"token {best} (" if best else "at the start ("
        assert target in shown["says"] and f"({100 * row.max().item():.0f}%)" in shown["says"]
    heights = [0, *(min(1, loss / 10) * 100 for loss in whole)]
    assert drawn(page)["bars"] == pytest.approx(heights, abs=0.01)
    page.get_by_role("switch", name="Head 1.3 on").click()
    ready(page)
    without = ablated_logits(model, tokens, [(1, 3)])[0, :-1].log_softmax(-1)
    lost = -without[torch.arange(len(whole)), tokens[0, 1:]]
    shown = drawn(page)
    assert shown["bars"][1:] == pytest.approx([min(1, loss / 10) * 100 for loss in lost.tolist()], abs=0.01)
    for label, now, before in zip(shown["labels"][1:], lost.tolist(), whole, strict=True):
        numbers = [float(number) for number in re.findall(r"(\d+\.\d\d) nats", label)]
        assert numbers == pytest.approx([now, before], abs=0.006)


def test_shuffling_gives_the_words_another_order_and_random_tokens_others(opened):
    page = opened("lab")
    text = "def alpha beta gamma delta epsilon zeta eta theta iota"
    page.get_by_label("Your text").fill(text)
    page.wait_for_function("text => document.querySelector('.induction-lab').lab.text === text", arg=text)
    page.get_by_role("button", name="Shuffle").click()
    ready(page)
    found = page.get_by_label("Your text").input_value()
    assert found != text and sorted(found.split()) == sorted(text.split())
    page.get_by_role("button", name="Random tokens, twice").click()
    before = drawn(page)["ids"]
    page.get_by_role("button", name="Shuffle").click()
    ready(page)
    after = drawn(page)["ids"]
    half = len(after) // 2
    assert len(after) == len(before) and after != before
    assert after[1 : 1 + half] == after[1 + half :] and len(set(after)) == 1 + half


def test_what_the_curve_shows_is_said_too(opened):
    page, records = opened("film"), load_recorded("lab")["records"]
    slider = page.get_by_role("slider")
    for key, record in (("Home", records[0]), ("End", records[-1])):
        slider.focus()
        page.keyboard.press(key)
        ready(page)
        said = slider.get_attribute("aria-valuetext")
        assert f"loss of repeats {record['repeat_loss']:.2f} nats" in said
        assert f"best prefix matching {record['prefix_matching'].max():.2f}" in said


def test_the_slider_by_mouse_unmakes_the_head(opened):
    page = opened("film")
    end = scores(page)
    best = max(end, key=end.get)
    box = page.get_by_role("slider").bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
    start = scores(page)
    assert end[best] > 0.6 and start[best] < 0.2
    assert "after 0 training steps" in page.locator(".lab-film").inner_text()
    page.get_by_role("button", name="Later in training").click()
    ready(page)
    assert "after 0 training steps" not in page.locator(".lab-film").inner_text()


def test_the_film_plays_to_its_end(opened):
    page = opened("film")
    button = page.get_by_role("button", name="Play")
    button.evaluate("button => { button.click(); button.click(); }")  # stopped before the film goes on by itself
    ready(page)
    assert page.get_by_role("slider").input_value() == "0"
    page.clock.install()
    button.click()
    for _ in range(9):
        page.clock.run_for(1200)
        ready(page)
    assert page.get_by_role("slider").input_value() == str(max(map(int, load_recorded("lab")["frames"])))
    assert page.get_by_role("button", name="Play").is_visible()


def test_everything_is_reached_and_worked_by_keyboard(opened):
    page = opened("lab")
    seen, words = [], page.locator(".lab-say")
    focused = "(a => a.getAttribute('aria-label') || a.textContent || a.value)(document.activeElement)"
    for _ in range(40):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        name = page.evaluate(focused)
        seen.append(name)
        assert outline != "none", f"{name} has focus and does not show it"
        if name.startswith("Training"):
            break
    chosen = page.locator(".lab-chip[aria-selected=true]").get_attribute("aria-label")
    assert chosen in seen
    for wanted in ("Code", "Shuffle", "Show head 1.3", "Head 1.3 on", "Play", "Training steps"):
        assert any(name.startswith(wanted) for name in seen), f"Tab never came to {wanted}"
    page.keyboard.press("Home")
    ready(page)
    assert max(scores(page).values()) < 0.5 and "after 0 training" in page.locator(".lab-film").inner_text()
    page.keyboard.press("End")
    ready(page)
    page.locator(".lab-chip[tabindex='0']").focus()
    page.keyboard.press("Home")
    assert words.inner_text().startswith("From the start, token 0")
    page.keyboard.press("ArrowRight")
    assert "token 1, head" in words.inner_text()
    page.keyboard.press("ArrowDown")
    assert "token 1, head" not in words.inner_text()
    page.get_by_role("button", name="Random tokens, twice").focus()
    page.keyboard.press("Enter")
    before = losses(page)
    head = max(scores(page), key=scores(page).get)
    page.get_by_role("switch", name=f"Head {head} on").focus()
    page.keyboard.press("Space")
    assert losses(page)[0] > before[0] + 1


def test_typed_text_is_read_and_cut_to_the_context(opened):
    page = opened("lab")
    page.get_by_label("Your text").fill("Zorg met Zorg")
    page.wait_for_function("document.querySelectorAll('.lab-chip').length < 12")
    ready(page)
    ids = page.evaluate("document.querySelector('.induction-lab').lab.ids")
    assert ids == [0, *load_tokenizer().encode("Zorg met Zorg").ids]
    page.get_by_label("Your text").fill("zq " * 200)
    page.wait_for_function("document.querySelectorAll('.lab-chip').length === 128")
    assert "The model reads 128 tokens" in page.locator(".lab-text").inner_text()
    page.get_by_label("Your text").fill("")
    page.wait_for_function("document.querySelectorAll('.lab-chip').length === 1")
    ready(page)
    assert page.locator(".lab-totals strong").all_inner_texts() == ["none", "none"]


def test_the_address_keeps_the_state(opened):
    page = opened("lab")
    assert "#" not in page.url
    page.get_by_label("Your text").fill("a b & c=d, a b")
    page.wait_for_function("document.querySelectorAll('.lab-chip').length < 16")
    page.get_by_role("switch", name="Head 1.1 on").click()
    page.get_by_role("radio", name="pattern-preserving").check()
    page.get_by_role("button", name="Earlier in training").click()
    page.get_by_role("button", name="Show head 0.2").click()
    ready(page)
    state = "(({ ids, at, head, off, kind, frame }) => ({ ids, at, head, off: [...off], kind, frame }))"
    ask = f"{state}(document.querySelector('.induction-lab').lab)"
    other = opened("lab", page.url[page.url.index("#") :])
    assert other.evaluate(ask) == page.evaluate(ask)
    ready(other)
    assert other.locator(".lab-totals").inner_text() == page.locator(".lab-totals").inner_text()
    broken = opened("lab", "#lab?ids=7.99999&head=9.9")
    assert broken.evaluate(ask)["head"] == opened("lab").evaluate(ask)["head"]


# On the page


@pytest.mark.parametrize("width", WIDTHS)
def test_every_size_fits_and_keeps_its_room(opened, width):
    for preset in PRESETS:
        page = opened(preset, width=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, preset
        needed, kept = page.evaluate(
            """() => { const lab = document.querySelector('.induction-lab'); lab.style.minHeight = 0;
            const needed = lab.offsetHeight; lab.style.minHeight = ''; lab.replaceChildren();
            return [needed, lab.offsetHeight] }"""
        )
        assert abs(needed - kept) < 60, f"{preset} at {width}: needs {needed} px, keeps {kept}"


def test_the_first_use_is_small(folder):
    def weight(*names):
        return sum(len(gzip.compress((folder / "_static" / name).read_bytes())) for name in names)

    shown = weight("lab-loader.js", "lab.css", "lab/lab.js", "lab/lab-data.js")
    last = max(int(path.stem.split("-")[1]) for path in (folder / "_static" / "lab").glob("weights-*.js"))
    assert shown < 60_000
    assert shown + weight(f"lab/weights-{last}.js") < 1_000_000
    assert sum(path.stat().st_size for path in (folder / "_static" / "lab").glob("lab*.js")) < 300_000  # uncompressed


def test_without_motion_and_on_paper(opened):
    page = opened("lab")
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.querySelector('.lab-word')).transitionProperty") == "none"
    page.emulate_media(media="print")
    assert not page.get_by_role("button", name="Shuffle").is_visible()
    assert page.locator(".lab-chip").first.is_visible()


def test_every_control_has_a_name(opened):
    for preset in PRESETS:
        page = opened(preset)
        nameless = page.evaluate(
            """[...document.querySelectorAll('button, input, textarea, [role=option]')].filter(node =>
            !(node.getAttribute('aria-label') || node.textContent || node.labels?.[0]?.textContent).trim()).length"""
        )
        assert nameless == 0


def test_only_one_export_fits_a_classic_script():
    assert "window.InductionLab = {" in classic_script(lab_script())
    with pytest.raises(ValueError, match="one `export default`"):
        classic_script("export const a = 1;\nexport default a;\n")


# In a notebook


def small_model() -> Transformer:
    return Transformer(ModelConfig(n_layers=2, n_heads=2, d_model=16, d_head=8, d_vocab=30, n_ctx=24)).eval()


class Mailbox:
    """Stands in for the browser's side of the channel."""

    def __init__(self, widget, monkeypatch):
        self.sent = []
        monkeypatch.setattr(widget, "send", lambda content, buffers=None: self.sent.append((content, buffers)))


def test_the_widget_sends_the_weights_that_it_was_given(monkeypatch):
    pytest.importorskip("anywidget", reason="the lab's widget needs anywidget")
    model = small_model()
    first = {name: value * 0.5 for name, value in model.state_dict().items()}
    widget = induction_lab(model, snapshots={0: first, 50: model.state_dict()})
    told = widget.manifest
    assert [frame["step"] for frame in told["frames"]] == [0, 50] and told["tokenizer"] is None
    box = Mailbox(widget, monkeypatch)
    for frame, weights in ((0, first), (50, model.state_dict())):
        widget._handle_custom_msg({"frame": str(frame)}, [])
        assert box.sent[-1] == ({"frame": str(frame)}, [block(weights)[1]])


def test_the_widget_copies_the_weights(monkeypatch):
    pytest.importorskip("anywidget", reason="the lab's widget needs anywidget")
    model = small_model()
    widget, before = induction_lab(model), block(model.state_dict())[1]
    with torch.no_grad():
        model.W_E.zero_()
    box = Mailbox(widget, monkeypatch)
    widget._handle_custom_msg({"frame": "0"}, [])
    assert box.sent[0][1] == [before]


WIDGET = """async ([script, manifest, content]) => {
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const { default: widget } = await import(url);
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const listeners = [];
  const model = {
    get: (name) => ({ manifest })[name],
    on: (name, listener) => listeners.push(listener),
    send: (message) => setTimeout(() => listeners.forEach((each) => each(message, [new DataView(bytes.buffer)]))),
  };
  document.querySelector(".induction-lab").remove();
  const el = document.body.appendChild(document.createElement("div"));
  widget.render({ model, el });
}"""


def test_the_widget_runs_in_the_browser_without_a_tokenizer(opened):
    page, model = opened("first"), small_model()
    layout, content = block(model.state_dict())
    told = manifest(model, layout, [{"key": "0", "step": 0}])
    page.evaluate(WIDGET, [lab_script(), told, base64.b64encode(content).decode()])
    ready(page)
    ids = told["examples"]["repeat"]["ids"]
    assert page.locator(".lab-chip").all_inner_texts()[1:] == [str(token) for token in ids[1:]]
    page.get_by_label("Token numbers").fill("5 6 7 99 5 6")
    page.wait_for_function("document.querySelectorAll('.lab-chip').length === 6")  # 99 is no token of this model
    expected = token_losses(model, torch.tensor([[0, 5, 6, 7, 5, 6]]))[0]
    assert losses(page) == pytest.approx([expected[4].item(), expected[:4].mean().item()], abs=0.006)


def test_the_recorded_lab_is_a_widget_too():
    pytest.importorskip("anywidget", reason="the lab's widget needs anywidget")
    told = induction_lab().manifest
    assert len(told["frames"]) >= 6 and told["records"][0]["prefix"] < 0.2 < told["records"][-1]["prefix"]


def test_a_missing_anywidget_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    lab._widget_class.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="pip install anywidget"):
        induction_lab(small_model())
    lab._widget_class.cache_clear()


def test_bad_input_is_named(monkeypatch):
    model = small_model()
    with pytest.raises(ValueError, match="does not fit the model"):
        induction_lab(model, snapshots={3: {"W_E": torch.zeros(2, 2)}})
    with pytest.raises(ValueError, match="belong to a model"):
        induction_lab(tokenizer=load_tokenizer())
    with pytest.raises(ValueError, match="1024 tokens, the model d_vocab 30"):
        induction_lab(model, load_tokenizer())
    monkeypatch.setattr(lab, "LARGEST", 100)
    with pytest.raises(ValueError, match="up to 100 parameters"):
        induction_lab(model)
    with pytest.raises(ValueError, match="only matrices"):
        quantised({"b_U": torch.zeros(4)})
    with pytest.raises(ValueError, match="W_U must be finite"):
        quantised({"W_U": torch.full((2, 2), torch.nan)})


def test_another_kind_of_tokenizer_is_refused():
    from tokenizers import Tokenizer, models

    with pytest.raises(ValueError, match="byte-level BPE"):
        tokenizer_table(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), 30)


def test_previews_and_manifest_are_plain_values(recorded):
    import json

    model, frames = recorded
    told = lab_manifest(model, frames, [], load_tokenizer())
    assert json.loads(json.dumps(told))["layout"] == told["layout"]
    shown = preview(model, told["examples"]["repeat"]["ids"])
    n = len(told["examples"]["repeat"]["ids"])
    assert len(base64.b64decode(shown["patterns"])) == 8 * n * n and len(shown["losses"]) == n - 1


# In the built book


@pytest.mark.book
@pytest.mark.parametrize("origin", ["http", "file"])
def test_every_lab_of_the_book_runs(browser, origin):
    pages = [name for name in written_pages() if "induction-lab" in (HTML / name).read_text(encoding="utf-8")]
    chapters = {f"chapters/{name}.html" for name in ("00_start_here", "05_finding_heads", "06_phase_change")}
    assert {"index.html", "lab.html"} | chapters <= set(pages)
    with served(HTML) as address:
        reader = Reader(browser, address if origin == "http" else HTML.as_uri(), width=390)
        for name in pages:
            page = reader.open(name)
            page.locator(".induction-lab").scroll_into_view_if_needed()
            ready(page)
            said = page.locator(".lab-say").inner_text()
            page.evaluate("document.querySelector('.induction-lab').lab.seek(0)")
            ready(page)
            assert page.locator(".lab-say").inner_text() != said, name
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        reader.context.close()
    assert not reader.problems, "\n".join(reader.problems)
