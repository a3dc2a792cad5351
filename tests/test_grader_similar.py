"""Answers that were written once: found under new names and comments, not found where the work is another."""

from __future__ import annotations

import ast
import re

import pytest
from effort import at_most
from grader_class import ALL, SCORE, notebook, solved

from course_lib.grader.similar import Alike, Print, borrowed, normal_form, print_of, prints_from, published_print
from course_lib.grader.submission import read_answers

LONG = "3.2"


def form(code):
    return normal_form(ast.parse(code).body)[0]


def prints(data, *ids):
    found = read_answers(data, {one: ALL[one] for one in ids})
    return {one: print_of(ALL[one], trees) for one, trees in found.trees.items()}


ORIGINAL = """
def f(pattern, n=3):
    total = 0
    for head in range(n):
        total += g(pattern[head], dim=1, keepdim=True)
    return total
"""


@pytest.mark.parametrize(
    "changed",
    {
        "names": ORIGINAL.replace("pattern", "p").replace("total", "s").replace("head", "h"),
        "name of the function": ORIGINAL.replace("def f", "def other"),
        "docstring": ORIGINAL.replace("total = 0", '"""Mine."""\n    total = 0'),
        "comments and blank lines": ORIGINAL.replace("total = 0", "total = 0  # start\n\n"),
        "annotations": ORIGINAL.replace("pattern, n=3)", "pattern: Tensor, n: int = 3) -> int"),
        "annotated assignment": ORIGINAL.replace("total = 0", "total: int = 0"),
        "keyword order": ORIGINAL.replace("dim=1, keepdim=True", "keepdim=True, dim=1"),
        "layout": ORIGINAL.replace("pattern[head], dim=1", "(pattern[head]),\n            dim=1"),
    }.items(),
    ids=lambda item: item[0],
)
def test_cosmetic_changes_do_not_count(changed):
    assert form(changed[1]) == form(ORIGINAL)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("dim=1", "dim=0"),
        ("dim=1", "axis=1"),
        ("+=", "-="),
        ("g(", "h("),
        ("range(n)", "range(n - 1)"),
        ("pattern[head]", "pattern[n]"),
        ("total = 0", "total = 0.0"),
        ("n=3", "n=4"),
        ("pattern[head]", "pattern.T"),
        ("total = 0", "total = '0'"),
    ],
)
def test_other_code_counts(old, new):
    assert form(ORIGINAL.replace(old, new)) != form(ORIGINAL)


def test_integers_count_by_their_value_however_long():
    huge = "f" * 5000  # more digits than Python writes in decimals
    assert form(f"x = 0x{huge}") == form(f"x = 0X{huge.upper()}") != form(f"x = 0x{huge}f")
    assert form("x = 255") == form("x = 0xff") != form("x = '0xff'")
    assert len({form(f"x = {value}") for value in ("1", "True", "1.0", "1j", "'1'")}) == 5


def test_what_cannot_be_written_down_has_no_print():
    (odd,) = ast.parse("f(x=1)").body
    odd.value.keywords = None  # nobody foresaw this one
    assert print_of(ALL["3.1"], [odd]) is None


def test_the_published_solution_is_known_under_other_names():
    theirs = re.sub(r"(?<!['\"])\b(sharpness|position|ask_for_the_one_before)\b(?!['\"])", r"my_\1", solved(LONG))
    found = prints(notebook(theirs, "print(3)"), LONG)
    assert found[LONG] == published_print(ALL[LONG])
    alike = Alike({LONG: published_print(ALL[LONG])})
    alike.add("a.ipynb", found)
    (sentence,) = alike.sentences("a.ipynb", found)
    assert sentence.startswith(f"3.2: the same syntax tree as the published solution ({found[LONG].nodes} nodes")


def test_a_short_answer_is_said_to_be_short():
    found = prints(notebook(SCORE), "3.1")
    alike = Alike({"3.1": None})
    for name in ("a.ipynb", "b.ipynb"):
        alike.add(name, found)
    assert alike.sentences("b.ipynb", found) == [
        f"3.1: the same syntax tree as a.ipynb ({found['3.1'].nodes} nodes: short, so many may write the same)"
    ]


def test_many_others_are_counted():
    alike, same = Alike({}), {"3.1": Print("x", 99)}
    for number in range(6):
        alike.add(f"{number}.ipynb", same)
    assert "as 0.ipynb, 1.ipynb, 2.ipynb, 2 more (99" in alike.sentences("5.ipynb", same)[0]
    assert alike.sentences("6.ipynb", {"3.1": Print("y", 99), "3.2": Print("x", 99)}) == []


def test_a_class_that_writes_the_same_is_not_sorted_for_each():
    alike, same = Alike({}), {"3.1": Print("x", 99)}
    names = [f"{number:05}.ipynb" for number in range(20_000)]
    for name in names:
        alike.add(name, same)
    with at_most(seconds=8):
        assert all("19996 more" in alike.sentences(name, same)[0] for name in names)


def test_a_helper_is_part_of_the_answer():
    helper = "def band(p):\n    return p.diagonal(-1, -2, -1)"
    answer = "def previous_token_score(pattern):\n    return band(pattern).mean((0, -1))"
    first, second = (prints(notebook(code, answer), "3.1") for code in (helper, helper.replace("-1, -2", "-1, 2")))
    renamed = prints(notebook(helper.replace("band", "b"), answer.replace("band", "b")), "3.1")
    assert first == renamed != second


def test_given_lines_do_not_count_and_untouched_answers_have_no_print():
    stub = "def previous_token_score(pattern):\n    raise NotImplementedError('your code here')"
    assert prints(notebook(stub), "3.1") == {}
    whole = normal_form(ast.parse(solved(LONG)).body)[1]
    assert published_print(ALL[LONG]).nodes < whole


def test_prints_survive_a_file():
    assert prints_from({"3.1": ["x", 3]}) == {"3.1": Print("x", 3)}


BORROWS = [
    "import course_lib.scores as s",
    "from course_lib import scores as s",
    "from course_lib.scores import x as s",
]


def test_an_answer_that_is_imported_has_no_print_and_is_told():
    code = "from course_lib.scores import previous_token_score"
    assert prints(notebook(code), "3.1") == {"3.1": None}
    for body in BORROWS:
        inside = f"def previous_token_score(p):\n    {body}\n    return s.previous_token_score(p)"
        trees = read_answers(notebook(inside), {"3.1": ALL["3.1"]}).trees["3.1"]
        assert borrowed(ALL["3.1"], trees) == ["course_lib.scores"]
    trees = read_answers(
        notebook("from course_lib.handbuilt import subspaces", solved("3.2")), {"3.2": ALL["3.2"]}
    ).trees
    assert borrowed(ALL["3.2"], trees["3.2"]) == []
