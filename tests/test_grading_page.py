"""The page grading.md: in the book, without a notebook on Colab, and its benchmark computed from the record."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from benchmarks import grading_table
from course_lib import __main__ as front
from course_lib.grader import commands
from course_lib.grader.isolation import LEVELS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "grading.md").read_text(encoding="utf-8")


def test_the_page_is_in_the_book_and_offers_no_notebook_on_colab():
    header = yaml.safe_load(PAGE.split("---")[1])
    assert header["file_format"] == "mystnb" and "kernelspec" not in header
    assert "file: grading.md" in (ROOT / "_toc.yml").read_text()


def test_its_commands_and_levels_are_those_of_the_program():
    parsers = next(iter(front._parser()._subparsers._group_actions)).choices
    typed = re.findall(r"^\$ course (\w+)(.*?)(?:#|$)", PAGE, re.M)
    assert {name for name, _ in typed} == set(commands.COMMANDS)
    for name, words in typed:
        assert set(re.findall(r"--[a-z-]+", words)) <= set(parsers[name]._option_string_actions), (name, words)
    assert re.findall(r"^\| `(none|limits|landlock|namespaces|uid)` \|", PAGE, re.M) == list(LEVELS)


def test_ratios_are_of_the_same_round_and_a_failure_is_told():
    def one(round_, grader, seconds):
        return {"round": round_, "assignment": "4 exercises", "grader": grader, "submissions": 10, "seconds": seconds}

    rounds = [one(0, "course", 1.0), one(0, "other", 20.0), one(1, "course", 2.0), one(1, "other", 60.0)]
    rounds.append({"round": 0, "assignment": "4 exercises", "grader": "third", "submissions": 10, "failed": "it hung"})
    (table,) = grading_table.benchmark_tables(rounds).values()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert lines[0][:3] == ["course", "0.15", "1"] and lines[1][:3] == ["other", "4", "25"]
    assert lines[2][:2] == ["third", "failed: it hung"]


def test_without_a_record_the_page_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(grading_table, "FOLDER", tmp_path)
    assert grading_table.benchmark_page() == "No benchmark is recorded yet."
