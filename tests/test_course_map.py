"""The map of the course and the reading paths say what the chapters say."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tools.chapters import Chapter, read_chapter, read_chapters
from tools.course_map import PATHS, all_needs, direct_needs, drawing, lanes, paths_table, reading_minutes

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = read_chapters(ROOT)
KNOWN = {chapter.number: chapter for chapter in CHAPTERS}
SVG = "{http://www.w3.org/2000/svg}"


def chapter(number: int, needs: tuple[int, ...] = (), minutes: int = 30) -> Chapter:
    return Chapter(number, f"{number:02}_x", f"Title {number}", minutes, needs, 0)


SMALL = [chapter(0), chapter(1, (0,)), chapter(2, (1,)), chapter(3, (0, 1)), chapter(4, (0, 2, 3))]


def contents() -> dict[str, str]:
    """File -> title of each chapter in the table of contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    return {entry["file"]: entry["title"] for entry in entries if entry["file"].startswith("chapters/")}


def test_a_chapter_is_read_from_its_opening_box():
    text = "# Heads (argument 3)\n\n```{admonition} Goals\n- One.\n\n**Time**: 40 minutes.\n**You need**: "
    text += "{doc}`04_circuit` and\n{doc}`how <02_loss>`.\n```\n\nSee {doc}`01_other`.\n"
    found = read_chapter("08_heads", text, "exercise(\n    minutes=10,\n    minutes=5,\n)")
    assert found == Chapter(8, "08_heads", "Heads", 40, (2, 4), 15)
    assert found.argument == 3 and found.page == "chapters/08_heads.html"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("**Time**: 4 minutes\n**You need**: x\n```", "no title"),
        ("# T\n**You need**: x\n```", "Time"),
        ("# T\n**Time**: 4 minutes\n", "You need"),
        ("# T\n**Time**: 4 minutes\n**You need**: {doc}`05_later`\n```", "later chapter"),
    ],
)
def test_what_is_missing_in_the_opening_box_is_named(text, problem):
    with pytest.raises(ValueError, match=problem):
        read_chapter("03_x", text)


def test_contents_pages_and_chapters_agree():
    listed = contents()
    assert set(listed) == {f"chapters/{each.file}.md" for each in CHAPTERS}
    for each in CHAPTERS:
        file = f"chapters/{each.file}.md"
        title = f"{each.number}. {each.short_title}" + (f" (argument {each.argument})" if each.argument else "")
        assert listed.get(file) == title
        for page in ("index.md", "course_map.md"):
            text = (ROOT / page).read_text(encoding="utf-8")
            assert page == "course_map.md" or f"| {each.number} | [{each.short_title}]({file})" in text
            assert not each.argument or re.search(rf"^\| {each.argument}\. .*\[{each.number}\]\({file}\)", text, re.M)
        assert f"| {each.number} | {each.short_title} |" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_what_follows_from_other_needs_is_not_drawn():
    known = {each.number: each for each in SMALL}
    assert all_needs(known[4], known) == {0, 1, 2, 3}
    assert direct_needs(known[3], SMALL) == [1]
    assert direct_needs(known[4], SMALL) == [2, 3]
    assert direct_needs(chapter(5, (4, 9)), [*SMALL, chapter(5, (4, 9))]) == [4]  # chapter 9 is not there


def test_lines_in_one_lane_do_not_meet():
    rows = {number: number for number in range(9)}
    lines = [(0, 2), (0, 4), (1, 3), (4, 6), (5, 8), (6, 7)]
    placed = lanes(lines, rows)
    assert set(placed) == {0, 1, 4, 5}  # 6 to 7 is straight
    spans = {0: (0, 4), 1: (1, 3), 4: (4, 6), 5: (5, 8)}
    for one in placed:
        for other in placed:
            if one < other and placed[one] == placed[other]:
                assert spans[one][1] < spans[other][0]


@pytest.mark.parametrize("chapters", [CHAPTERS, SMALL], ids=["the course", "a small one"])
def test_the_drawing_has_a_linked_box_a_chapter_and_a_line_a_need(chapters):
    tree = ElementTree.fromstring(drawing(chapters))
    assert [link.get("href") for link in tree.iter(f"{SVG}a")] == [each.page for each in chapters]
    texts = [text.text for text in tree.iter(f"{SVG}text")]
    for each in chapters:
        assert f"{each.number}. {each.short_title}" in texts
    arrows = [path for path in tree.iter(f"{SVG}path") if path.get("marker-end")]
    assert len(arrows) == sum(len(direct_needs(each, chapters)) for each in chapters)
    width = float(tree.get("viewBox").split()[2])
    assert width <= 420, "on a phone the text would be too small"
    longest = max(len(text) for text in texts)
    assert longest <= 34, "a title does not fit into its box"
    assert "needs" in tree.find(f"{SVG}desc").text


def test_the_table_adds_up_the_minutes():
    known = {0: chapter(0, minutes=20), 3: chapter(3, minutes=45), 4: chapter(4, minutes=60)}
    assert reading_minutes(PATHS[0], known) == 125
    table = paths_table(known.values())
    assert "| 125 |" in table and "[4](chapters/04_x.md)" in table


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_paths_keep_what_their_name_promises(path):
    """They fit into their hours, and no chapter comes before one that it needs."""
    minutes = reading_minutes(path, KNOWN) + path.exercises * sum(each.exercise_minutes for each in CHAPTERS)
    assert minutes <= path.hours * 60 * 1.1
    for number in path.chapters:
        if number in KNOWN:
            missing = all_needs(KNOWN[number], KNOWN) - set(path.chapters)
            assert not missing, f"chapter {number} needs {missing}, which the path leaves out"
    assert list(path.chapters) == sorted(path.chapters)
