"""The pages of a graded class: what they count, that nothing a learner wrote becomes markup, that they stand alone."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from grader_rows import EXERCISES, SENTENCES, a_class, entry, hostile_row, row

from course_lib.grader.report import Wording, by_student, page_name, printable, write_report
from course_lib.grader.states import LOOKS, ids_in_order
from course_lib.grader.tally import share_bins, tally

VOID = {"meta", "rect", "br"}
WORDING = Wording(SENTENCES, {id: f"Used after {id}." for id in EXERCISES})
INJECTIONS = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script><style>",
    "</title><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "`</code><b>bold</b>`",
    "<!-- --!> <![CDATA[ <b> ]]>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "../../etc/passwd\x00.html",
    "\x1b[2Jclear\u202egnp.exe\ud800",
    "&lt;script&gt;&#60;b&#62;",
    "+ADw-script+AD4-",
    "=cmd|' /C calc'!A1",
]


class Page(HTMLParser):
    """Elements, attributes and text of a page; notices elements that are not closed in order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes, self.words, self.open, self.ids = [], [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))


def pages_of(rows, folder, wording=WORDING):
    write_report(rows, folder, wording, "Class")
    return {path.name: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.iterdir())}


# What is counted


def test_the_summary_counts_states_mistakes_and_points():
    rows = [
        row("a", [entry("3.1", "wrong", "diagonal"), entry("2.1")]),
        row("b", [entry("3.1", "wrong", "diagonal"), entry("2.1", "wrong")]),
        row("c", [entry("3.1", "wrong", "transposed"), entry("2.1", "timeout")]),
        row("d", [entry("3.1"), entry("2.1")]),
        row("e", [entry("3.1", "grader_error"), entry("2.1")], state="grader_error"),
        row("f", [], state="invalid_notebook", max_score=3, similar=["x"]),
    ]
    found = tally(rows, SENTENCES)
    assert (found.submissions, found.graded, found.full, found.middle) == (6, 5, 1, 0)
    assert [one.id for one in found.exercises] == ["2.1", "3.1"]
    second = found.exercises[1]
    assert dict(second.states) == {"ok": 1, "wrong": 3, "grader_error": 1} and second.passed == 1 and second.total == 5
    assert [(one.name, one.count) for one in second.mistakes] == [("diagonal", 2), ("transposed", 1)]
    assert second.mistakes[0].sentence == SENTENCES["3.1"]["diagonal"] and found.exercises[0].unnamed == 1
    assert [one["student"] for one in found.look_at] == ["e", "f"]
    assert [one["student"] for one in found.alike] == ["f"]


def test_every_share_of_points_falls_into_one_bin():
    bins = dict(share_bins([0, 0.01, 0.0999, 0.1, 0.3, 3 / 10 * 1, 0.99, 1, 1.0]))
    assert {name: count for name, count in bins.items() if count} == {
        "0": 1, "1-9": 2, "10-19": 1, "30-39": 2, "90-99": 1, "100": 2
    }  # fmt: skip
    assert sum(count for _, count in share_bins([place / 1000 for place in range(1001)])) == 1001


def test_ids_stand_in_the_order_of_the_course():
    assert ids_in_order(["10.1", "2.10", "2.9", "2.9", "x"]) == ["2.9", "2.10", "10.1", "x"]


def test_the_class_page_shows_what_was_counted(tmp_path):
    rows = a_class(60)
    index = pages_of(rows, tmp_path)["index.html"]
    counts = tally(rows, SENTENCES)
    assert "60 submissions, 60 learners, 4 exercises" in index.text
    for one in counts.exercises:
        assert f"{one.id} {one.title}" in index.text and f"{one.passed} of {one.total}" in index.text
        for mistake in one.mistakes:
            assert mistake.sentence.replace("`", "") in index.text
    widths = [int(value) for tag, name, value in index.attributes if (tag, name) == ("rect", "width")]
    assert sum(widths) >= sum(one.total for one in counts.exercises)
    for one in rows:
        assert one["student"] in index.text
    for one in counts.look_at:
        assert one["submission"] in index.text


def test_a_class_without_anybody_or_anything_has_a_page(tmp_path):
    assert "0 submissions" in pages_of([], tmp_path / "none")["index.html"].text
    nothing = pages_of([row("a", [], max_score=0, score=0)], tmp_path / "empty")
    assert "No wrong answers" in nothing["index.html"].text and len(nothing) == 2


# A learner's page


def test_a_learner_reads_state_points_message_and_what_to_do_next(tmp_path):
    entries = [
        entry("2.1"),
        entry("3.1", "wrong", "diagonal", "Case: 2 of 4: long\nYours is `off` by one.\nSecond line."),
    ]
    rows = [
        row("ada", entries, skipped=["!pip install x"], problems=["cell 3 is no code"], similar=["3.1: equals bob's"])
    ]
    page = pages_of([*rows, row("bob")], tmp_path)[page_name("ada")]
    for words in (
        "1 of 3 points",
        "2.1 Loss of a uniform guess: passed",
        "Used after 2.1.",
        "3.1 Previous-token pattern: wrong",
    ):
        assert words in page.text, words
    for words in (
        "Case: 2 of 4: long",
        "Yours is off by one. Second line.",
        'check("3.1", ...)',
        "!pip install x",
        "cell 3",
    ):
        assert words in page.text, words
    assert "bob" not in page.text  # who else answered alike is for the instructor


@pytest.mark.parametrize("state", [state for state in LOOKS if state != "partial"])
def test_every_state_has_a_word_a_sign_and_a_next_step(state, tmp_path):
    page = pages_of([row("ada", [entry("3.1", state), entry("2.1")])], tmp_path)[page_name("ada")]
    assert f"{LOOKS[state].sign} 3.1 Previous-token pattern: {LOOKS[state].word}" in page.text and "Next:" in page.text
    assert ("article", "class", f"answer is-{state}") in page.attributes


def test_a_notebook_that_cannot_be_read_says_so(tmp_path):
    rows = [
        row("ada", [], state="invalid_notebook", problems=["It is no JSON: line 1."]),
        row("bob", [], state="grader_error"),
    ]
    pages = pages_of(rows, tmp_path)
    assert "Cannot be read. It is no JSON: line 1." in pages[page_name("ada")].text
    assert "You need not do anything." in pages[page_name("bob")].text


def test_all_assignments_of_a_learner_stand_on_one_page_and_nameless_rows_on_their_own(tmp_path):
    rows = [row("ada"), row("ada", assignment="hw2", submission="ada/hw2.ipynb"), row("", submission="x.ipynb")]
    assert [(student, len(own)) for student, own in by_student(rows)] == [("ada", 2), ("x.ipynb", 1)]
    pages = pages_of(rows, tmp_path)
    assert len(pages) == 3 and {"hw1", "hw2"} <= set(pages[page_name("ada")].text.split())
    assert "3 submissions, 2 learners" in pages["index.html"].text


def test_two_people_whose_names_are_spelt_alike_do_not_read_each_others_page(tmp_path):
    rows = [row("doejohn", submission=f"doejohn_{number}_1_hw1.ipynb") for number in (1, 2)]
    rows.append(row("doejohn", assignment="hw2", submission="third"))
    pages = pages_of(rows, tmp_path)
    assert len(pages) == 4
    for page in (page for name, page in pages.items() if name != "index.html"):
        assert sum(one["submission"] in page.text for one in rows) == 1


def test_pages_of_learners_who_left_are_taken_away(tmp_path):
    pages_of([row("ada"), row("bob")], tmp_path)
    (tmp_path / "notes.txt").write_text("kept")
    write_report([row("bob")], tmp_path, WORDING)
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", page_name("bob"), "notes.txt"}


# Nothing that a learner wrote does anything


@pytest.mark.parametrize("text", INJECTIONS)
def test_no_element_and_no_attribute_comes_from_a_text(text, tmp_path):
    """A page of hostile rows has the elements and attributes of the same page with plain words."""
    hostile, plain = (
        pages_of([hostile_row(words)], tmp_path / name) for words, name in ((text, "bad"), ("word", "good"))
    )
    assert len(hostile) == len(plain) == 2
    for (name, bad), good in zip(sorted(hostile.items()), (plain[name] for name in sorted(plain)), strict=True):
        assert [tag for tag in bad.elements if tag != "code"] == [tag for tag in good.elements if tag != "code"]
        tame = {(tag, key, value) for tag, key, value in bad.attributes if not str(value).startswith("learner-")}
        assert tame == {one for one in good.attributes if not str(one[2]).startswith("learner-")}, name
        assert re.sub(r"\s+", " ", printable(text).replace("`", ""))[:30] in bad.text.replace("`", "")


def test_control_codes_and_turned_text_are_shown_as_a_sign(tmp_path):
    pages_of([hostile_row("a\x1b[2J\u202eb\ud800\x00 می‌خواهم")], tmp_path)
    for path in tmp_path.iterdir():
        content = path.read_text(encoding="utf-8")
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", content)
        assert "a�[2J�b�� می‌خواهم" in content  # the joiner inside the last word is part of it


def test_a_long_text_is_cut():
    assert len(printable("x" * 10**6)) < 5000 and printable("x" * 4000) == "x" * 4000


@pytest.mark.parametrize(
    "name", ["", ".", "..", "CON", "a/b", "x" * 5000, "日本", "\ud800", "learner", "A\x00B", "%2e%2e"]
)
def test_file_names_of_pages_are_safe_for_every_name(name):
    assert re.fullmatch(r"learner-[a-z0-9-]{1,40}-[0-9a-f]{16}\.html", page_name(name))


def test_file_names_of_pages_are_unique():
    names = ["Ada", "ada", "a da", "Ädä", "A/da", "日本", "本日", "x" * 50, "x" * 51]
    assert len({page_name(name).lower() for name in names}) == len(names)


# The pages stand alone


def test_pages_ask_for_nothing_and_run_nothing(tmp_path):
    folder = tmp_path / "html"
    for name, page in pages_of(a_class(12), folder).items():
        source = (folder / name).read_text(encoding="utf-8")
        assert source.startswith("<!DOCTYPE html>\n") and not {"script", "link", "iframe", "img", "form"} & set(
            page.elements
        )
        assert len(page.ids) == len(set(page.ids))
        for tag, key, value in page.attributes:
            assert not key.startswith("on") and key not in ("style", "src", "srcset"), (tag, key)
            if key == "href":
                assert value in {f"#{one}" for one in page.ids} | {path.name for path in folder.iterdir()}
        css = source.split("<style>")[1].split("</style>")[0]
        assert "url(" not in css and "@import" not in css
        digest = b64encode(sha256(css.encode()).digest()).decode()
        policies = [value for tag, key, value in page.attributes if tag == "meta" and "default-src" in str(value)]
        assert len(policies) == 1 and "unsafe" not in policies[0] and f"'sha256-{digest}'" in policies[0]


def test_the_same_rows_give_the_same_pages(tmp_path):
    for name in ("one", "two"):
        write_report(a_class(10), tmp_path / name, WORDING)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
