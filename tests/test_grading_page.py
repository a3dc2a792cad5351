"""The page grading.md: in the book, without a notebook on Colab, and its benchmark computed from the record."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from benchmarks import grading_table
from course_lib import __main__ as front
from course_lib.grader import commands, conversation, submission, worker, zips
from course_lib.grader.isolation import LEVELS
from course_lib.grader.reading import MAX_BYTES
from course_lib.grader.verdicts import SECOND_SECONDS
from course_lib.grading.spec import SECONDS
from course_lib.recorded import load_recorded

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


def test_the_recorded_benchmark_is_shown_with_its_ratios_its_class_and_its_origin():
    record = load_recorded(grading_table.RECORD)
    page = grading_table.benchmark_page()
    for found in record["assignments"].values():
        assert f"**{len(found['ids'])} exercises**" in page
        for name in ("nbgrader", "otter-grader"):
            assert f"| {found['summary'][name]['ratio']:.3g} |" in page
        assert found["class"]["forged points"] == found["class"]["wrong scores"] == 0
        assert found["class"]["rows"] == found["class"]["submissions"]
    assert not record["provenance"]["quick"] and f"| Command | {record['provenance']['command']} |" in page


def test_a_failure_is_told():
    found = {"ids": ["3.1"], "graders": {"third": {"failed": "it\nhung", "values": [], "batch": 2}}, "summary": {}}
    run = dict.fromkeys(("submissions", "hostile", "rows", "forged points", "wrong scores", "peak with workers"), 0)
    parts = grading_table.assignment_parts(found | {"class": run | {"seconds a submission": 0.5, "megabytes": [1]}})
    assert "| third | failed: it hung | | | 2 | |" in parts[1]


def test_without_a_record_the_page_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(grading_table, "FOLDER", tmp_path)
    assert grading_table.benchmark_page() == "No benchmark is recorded yet."


def test_the_limits_that_it_names_are_those_of_the_program():
    assert f"{SECONDS:g} seconds where it says nothing" in PAGE
    assert f"Up to {worker.SPARE} seconds in which" in PAGE and f"after {conversation.GRACE} seconds more" in PAGE
    assert f"They may take {SECOND_SECONDS:g} seconds" in PAGE and f"{submission.MAX_SECOND:,} characters" in PAGE
    assert f"{submission.MAX_STATEMENTS:,} statements" in PAGE and f"{MAX_BYTES >> 20} MiB" in PAGE
    assert f"a path in a zip {zips.MAX_NAME:,} letters" in PAGE
