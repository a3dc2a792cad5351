"""Answers taken out of submissions: any bytes, many styles of right answers, and what is said where there is none."""

from __future__ import annotations

import ast
import dis
import json
import string
from contextlib import suppress
from pathlib import Path

import pytest
from effort import at_most
from grader_class import solved
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.grader import magics, slicing, submission
from course_lib.grader import notebook as notebooks
from course_lib.grader.given import cell_ids, chapter_of, known_exercises, specification
from course_lib.grader.magics import without_magics
from course_lib.grader.reading import MAX_BYTES, InvalidNotebook, parse, parse_strictly
from course_lib.grader.sizes import size_of
from course_lib.grader.slicing import MAX_SIZE, shown
from course_lib.grader.submission import answers_of, read_answers, read_notebook
from course_lib.grading import load
from course_lib.grading.examine import PASSED, examine
from course_lib.grading.pages import as_stub
from course_lib.grading.source import code_cells

ROOT = load.source_folder().parent
ALL = known_exercises()
TASKS = {one: ALL[one] for one in ("3.1", "3.2", "3.3")}
SCORE = (
    "def previous_token_score(pattern):\n    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))\n"
)
WRONG = "def previous_token_score(pattern):\n    return pattern.sum()\n"
STUB = 'def previous_token_score(pattern):\n    raise NotImplementedError("your code here")\n'
ID = "5cb529a6e02c"  # of the answer cell of 3.1, as exercises/03_previous_token_head.ipynb has it


def cell(source, id=None, **more):
    return {"cell_type": "code", "metadata": {}, "outputs": [], "source": source, **({"id": id} if id else {}), **more}


def notebook(*cells, **more) -> bytes:
    made = [one if isinstance(one, dict) else cell(one) for one in cells]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **more}).encode()


def run(cells):
    namespace = {"__name__": "__main__"}
    for code in cells:
        exec(compile(code, "cell", "exec", dont_inherit=True), namespace)
    return namespace


def passes(data: bytes, exercise_id="3.1") -> bool:
    answers = read_answers(data, {exercise_id: ALL[exercise_id]})
    assert exercise_id in answers.found, answers.problems
    function = run(answers.found[exercise_id])[ALL[exercise_id].reference.__name__]
    return examine(ALL[exercise_id], function, seed=7).state == PASSED


def problem(data: bytes) -> str:
    return read_answers(data, {"3.1": ALL["3.1"]}).problems["3.1"]


# --- the course's own notebooks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "solutions").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_solution_passes_and_every_untouched_exercise_is_unattempted(path):
    solved = read_notebook(path.read_bytes())
    chosen = {one: ALL[one] for one in solved.names(ALL)}
    assert {one.partition(".")[0] for one in chosen} == {str(int(path.stem[:2]))}
    answers = answers_of(solved, chosen)
    assert answers.found.keys() == chosen.keys()
    for one, cells in answers.found.items():
        assert not any("check(" in code for code in cells)
        assert examine(ALL[one], run(cells)[ALL[one].reference.__name__], seed=11).state == PASSED
    untouched = read_notebook((ROOT / "exercises" / path.name).read_bytes())
    assert answers_of(untouched, chosen).unattempted == set(untouched.names(ALL)) == set(chosen)


@pytest.mark.parametrize("path", sorted((ROOT / "solutions").glob("*.md")), ids=lambda path: path.stem)
def test_ids_of_cells_are_those_of_the_generated_notebooks(path):
    written = json.loads((ROOT / "exercises" / f"{path.stem}.ipynb").read_bytes())["cells"]
    cells = code_cells(path.read_text(encoding="utf-8"))
    pairs = zip(cells, cell_ids(cells), strict=True)
    ours = [id for cell, id in pairs if not cell.tags & {"spec", "solution-only"}]
    assert ours == [one["id"] for one in written if one["cell_type"] == "code" and one["id"] != "colab-setup"]


# --- any bytes --------------------------------------------------------------------------------------------------

BROKEN = {
    "empty": b"",
    "blank": b" \n\t",
    "null bytes": b"\0" * 100,
    "binary": bytes(range(256)) * 10,
    "png": b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
    "prose": b"Dear teacher, my dog ate it.",
    "one word": b"hello",
    "half a notebook": notebook(SCORE)[:-40],
    "a list": b"[]",
    "a number": b"3",
    "no cells": b"{}",
    "cells are a text": b'{"cells": "x"}',
    "cells are a number": b'{"cells": 3, "worksheets": {}}',
    "deep lists": b"[" * 500_000,
    "deep objects": b'{"a":' * 100_000,
    "html": b"<!DOCTYPE html><html></html>",
    "zip": b"PK\x03\x04aaaa",
    "prose with words of Python": b"From here on\nimport no ideas, and\nclass is over: (\nimport them all",
    "Latin-1 without a word": b"# \xe9l\xe8ve\nx = 1",
    "an encoding that does not fit": b"# coding: utf-8\n# \xe9l\xe8ve\nx = 1",
    "an encoding that is none": b"# coding: no-such-codec\n# \xe9l\xe8ve\nx = 1",
    "an encoding of no text": b"# coding: zip\n# \xe9l\xe8ve\nx = 1",
    "an encoding that is slow": b"# coding: punycode\n# \xe9l\xe8ve\nx = 1",
    "too large": b" " * MAX_BYTES + b"{}",
    "too much code": notebook("x = 1\n" * 100_000),
    "too many cells": notebook(*["1"] * 6_000),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_notebook_says_so(data):
    with pytest.raises(InvalidNotebook, match=r"^The file .*\.$"):
        read_answers(data, TASKS)


ODD = {
    "source as lines": notebook(cell(SCORE.splitlines(keepends=True))),
    "BOM": b"\xef\xbb\xbf" + notebook(SCORE),
    "UTF-16": notebook(SCORE).decode().encode("utf-16"),
    "UTF-16 without a mark": notebook(SCORE).decode().encode("utf-16-le"),
    "CRLF": notebook(SCORE.replace("\n", "\r\n")),
    "old Mac lines": notebook(SCORE.replace("\n", "\r")),
    "NaN": notebook(SCORE, score=float("nan")),
    "huge integer": notebook(SCORE).replace(b'"nbformat": 4', b'"nbformat": ' + b"9" * 10_000),
    "half a character": notebook("x = '\ud800'", SCORE),
    "latin-1 prose": notebook(SCORE).replace(b'"metadata": {}', b'"metadata": {"t": "caf\xe9"}', 1),
    "two cells with one id": notebook(cell(WRONG, ID), cell(SCORE, ID)),
    "stripped metadata": json.dumps({"cells": [{"cell_type": "code", "source": SCORE}]}).encode(),
    "format 3": json.dumps(
        {"nbformat": 3, "worksheets": [{"cells": [{"cell_type": "code", "input": SCORE, "language": "python"}]}]}
    ).encode(),
    "cells of other kinds": notebook(
        None, 3, [], {"cell_type": []}, cell(None), cell(7), cell([1, None, "x = 1"]), cell({"a": 1}), cell(SCORE)
    ),
    "metadata of other kinds": notebook(cell(SCORE, metadata=[1], id=3)),
    "a null byte in another cell": notebook("x = '\0'", SCORE),
    "a syntax error in another cell": notebook("def broken(:", SCORE, "x = = 3"),
    "indentation": notebook("    x = 1", SCORE),
    "deep code in another cell": notebook("(" * 5_000 + ")" * 5_000, "-" * 90_000 + "1", SCORE),
    "a return outside": notebook("return 3", SCORE),
    "script": SCORE.encode(),
    "script with cells": ("# %% [markdown]\n# it's prose\n# %%\nbroken(\n# %%\n" + SCORE).encode(),
    "script with a shell line": ("# -*- coding: utf-8 -*-\n!pip install -q einops\nimport torch\n" + SCORE).encode(),
    "script with commented magics": (f"!ls\nif 1:\n    x = (1 +\n# %%time\n    2)\n{SCORE}# %%time\n").encode(),
    "script in Latin-1": b"# coding: latin-1\n# \xe9l\xe8ve\n" + SCORE.encode(),
    "script of nbconvert": f"import torch\n# In[2]:\n\nget_ipython().run_cell_magic('time', '', {SCORE!r})\n".encode(),
    "script of nbconvert with other magics": (
        "get_ipython().run_cell_magic('bash', '', 'ls -l\\n')\nget_ipython().run_cell_magic(x, *y)\n"
        "get_ipython().run_cell_magic() + (1)\nget_ipython().run_cell_magic(f())\n" + SCORE
    ).encode(),
    "script of Colab": (
        "!ls\n\n# Commented out IPython magic to ensure Python compatibility.\n# %%time\n"
        + "".join(f"# {line}\n" for line in SCORE.splitlines())
        + "\nx = 1\n\n# Commented out IPython magic to ensure Python compatibility.\n# %%bash\n# ls -l\n"
    ).encode(),
    "script without a space": ("#%%\nimport torch\n#%%\n" + SCORE).encode(),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_what_is_odd_but_right_passes(data):
    assert passes(data)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet=string.printable, max_size=200).map(str.encode))
def test_no_bytes_raise_anything_else(data):
    with suppress(InvalidNotebook):
        read_answers(data, {"3.1": ALL["3.1"]})


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.sampled_from([SCORE, "code", ID]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["cells", "cell_type", "source", "id", "metadata", "worksheets", "input"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(JSON)
def test_no_json_raises_anything_else(value):
    with suppress(InvalidNotebook):
        read_answers(json.dumps({"cells": value}).encode(), {"3.1": ALL["3.1"]})


# --- styles of right answers ------------------------------------------------------------------------------------

STYLES = {
    "helper in another cell": ("def band(p):\n    return p.diagonal(offset=-1, dim1=-2, dim2=-1)",
                               "def previous_token_score(pattern):\n    return band(pattern).mean(dim=(0, -1))"),
    "global constant": ("OFFSET = -1", SCORE.replace("offset=-1", "offset=OFFSET")),
    "constant from a constant": ("ONE = 1", "OFFSET = -ONE", SCORE.replace("offset=-1", "offset=OFFSET")),
    "import in its own cell": ("from einops import reduce", "def previous_token_score(pattern):\n"
                               "    return reduce(pattern.diagonal(-1, -2, -1), 'b h p -> h', 'mean')"),
    "import in the answer's cell": ("import torch.nn.functional as F\n" + SCORE.replace("return ", "return F.relu(")
                                    .rstrip() + ")\n",),
    "partial": ("import functools", "def of(offset, p):\n    return p.diagonal(offset, -2, -1).mean(dim=(0, -1))",
                "previous_token_score = functools.partial(of, -1)"),
    "lambda": ("previous_token_score = lambda p: p.diagonal(-1, -2, -1).mean((0, -1))",),
    "another name": (SCORE.replace("previous_token_score", "mine"), "previous_token_score = mine"),
    "class": ("class Scorer:\n    offset = -1\n    def __call__(self, p):\n"
              "        return p.diagonal(self.offset, -2, -1).mean((0, -1))", "previous_token_score = Scorer()"),
    "nested": ("def make():\n    def inner(p):\n        return p.diagonal(-1, -2, -1).mean((0, -1))\n    return inner",
               "previous_token_score = make()"),
    "star import": ("from math import *", SCORE.replace("offset=-1", "offset=-int(floor(pi / 3))")),
    "try around an import": ("try:\n    import nonsense\nexcept ImportError:\n    import math as nonsense",
                             SCORE.replace("offset=-1", "offset=-int(nonsense.exp(0))")),
    "if around an import": ("if True:\n    import math", SCORE.replace("offset=-1", "offset=-int(math.exp(0))")),
    "changed in place": ("OFFSET = 0", "OFFSET -= 1", SCORE.replace("offset=-1", "offset=OFFSET")),
    "filled in place": ("PLACE = {}", "PLACE['x'] = -1", SCORE.replace("offset=-1", "offset=PLACE['x']")),
    "appended": ("PLACES = []", "PLACES.append(-1)", SCORE.replace("offset=-1", "offset=PLACES[0]")),
    "filled in a loop": ("PLACES = []", "for i in range(3):\n    PLACES.append(i - 1)",
                         SCORE.replace("offset=-1", "offset=PLACES[0]")),
    "decorated": ("import functools\ndef noisy(f):\n    @functools.wraps(f)\n    def g(*a):\n        return f(*a)\n"
                  "    return g", "@noisy\n" + SCORE),
    "rewrapped": (SCORE, "import torch", "previous_token_score = torch.no_grad()(previous_token_score)"),
    "annotations from the future": ("from __future__ import annotations", SCORE.replace("(pattern)", "(pattern: T)")),
    "global": ("CALLS = 0", SCORE.replace("    return", "    global CALLS\n    CALLS += 1\n    return")),
    "helper below": (SCORE.replace("return pattern", "return band(pattern)"), "def band(p):\n    return p"),
    "semicolons": ("a = 5; OFFSET = -1; print(1 / 0)", SCORE.replace("offset=-1", "offset=OFFSET")),
    "walrus": ("print(OFFSET := -1)", SCORE.replace("offset=-1", "offset=OFFSET")),
    "dataclass": ("from dataclasses import dataclass\n@dataclass\nclass Config:\n    offset: int = -1",
                  SCORE.replace("offset=-1", "offset=Config().offset")),
    "match": ("match 3:\n    case int():\n        OFFSET = -1", SCORE.replace("offset=-1", "offset=OFFSET")),
    "walrus in a comprehension": ("_ = [OFFSET := x for x in (0, -1)]", SCORE.replace("offset=-1", "offset=OFFSET")),
    "walrus in a default": ("def f(x=(OFFSET := -1)): pass", SCORE.replace("offset=-1", "offset=OFFSET")),
    "walrus in a decorator": ("@(OFFSET := lambda f: -1)\ndef f(): pass",
                              SCORE.replace("offset=-1", "offset=OFFSET(0)")),
    "rest of a mapping": ("match {1: 2, 'x': -1}:\n    case {1: 2, **rest}:\n        pass",
                          SCORE.replace("offset=-1", "offset=rest['x']")),
    "timed": ("if True:\n    %time OFFSET = 1", "OFFSET = %time -OFFSET", SCORE.replace("offset=-1", "offset=OFFSET")),
    "given import deleted": (SCORE.replace("(pattern)", "(pattern: Tensor)").replace("offset=-1", "offset=-int(math.e)"
                             ).replace("int(math.e)", "int(math.exp(0))"),),
}  # fmt: skip


@pytest.mark.parametrize("cells", STYLES.values(), ids=STYLES)
def test_right_answers_pass_in_every_style(cells):
    assert passes(notebook(*cells))
    assert passes("\n".join(cells).encode()) or "future" in str(cells)


def test_demos_checks_and_shell_lines_do_not_run():
    data = notebook(
        "raise RuntimeError('a demo')",
        "%matplotlib inline\n!rm -rf /\nimport math",
        "pattern = 1 / 0\nprint(pattern)",
        SCORE,
        'check("3.1", previous_token_score)\nhint("3.1")',
        "assert False",
    )
    assert passes(data)
    answers = read_answers(data, {"3.1": ALL["3.1"]})
    assert answers.skipped == ("%matplotlib inline", "!rm -rf /")
    assert "1 / 0" not in "".join(answers.found["3.1"])


def test_lines_keep_their_numbers():
    code = "import torch; x = 1; print(x)\n\n# a comment\nprint(\n  'ä', x\n)\n" + SCORE
    answers = read_answers(notebook(code), {"3.1": ALL["3.1"]})
    assert answers.found["3.1"][-1].splitlines()[6] == SCORE.splitlines()[0]


# --- which definition counts ------------------------------------------------------------------------------------


def test_the_last_definition_wins():
    assert passes(notebook(WRONG, SCORE))
    assert not passes(notebook(SCORE, WRONG))
    assert passes(notebook(SCORE, STUB))  # a stub that stands below is no answer


def test_the_given_cell_counts_not_what_stands_behind_the_check():
    check = 'check("3.1", previous_token_score)'
    assert passes(notebook(cell(SCORE, ID), check, WRONG))
    assert passes(notebook(cell(SCORE, ID), WRONG))
    assert passes(notebook(cell(WRONG, ID), SCORE, check))
    assert passes(notebook(cell(WRONG, ID), check, SCORE, check))
    assert passes(notebook(cell(STUB, ID), check, SCORE))


CHECKS = {
    "if": 'if True:\n    check("3.1", previous_token_score)',
    "loop": 'for _ in range(2):\n    print(check("3.1", previous_token_score))',
    "try": 'try:\n    check("3.1", previous_token_score)\nexcept ValueError:\n    pass',
    "keywords": 'check(answer=previous_token_score, exercise_id="3.1")',
    "number": "check(3.1, previous_token_score)",
    "attribute": 'import course_lib.grading as g\ng.check("3.1", previous_token_score)',
    "value": 'result = check("3.1", previous_token_score)',
    "annotated": 'result: object = check("3.1", previous_token_score)',
    "timed": '%time check("3.1", previous_token_score)',
    "lines": 'check(\n    "3.1",\n    previous_token_score,\n)',
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_a_check_counts_in_every_form(check):
    assert passes(notebook(cell(WRONG, ID), 'check("3.1", previous_token_score)', SCORE, check))


@pytest.mark.parametrize(
    "other",
    [
        'def test():\n    check("3.1", f)',
        'class T:\n    check("3.1", f)',
        "check('3.2', f)",
        "check",
        "recheck('3.1', f)",
    ],
)
def test_what_is_no_check_of_the_exercise_does_not_count(other):
    assert "3.1" not in read_notebook(notebook(SCORE, other)).checks


def test_checks_of_a_large_cell_are_found_soon():
    code = "x = [1, 2, 3]\n" * 30_000 + 'check("3.1", f)'
    parsed = read_notebook(notebook(code))
    with at_most(seconds=1):
        assert dict(parsed.checked) == {"3.1": [(30_000, "f")]}
        parsed._start()


# --- answers under another name ---------------------------------------------------------------------------------

MINE = SCORE.replace("previous_token_score", "mine")
CHECK_MINE = 'check("3.1", mine)'
RENAMED = {
    "nothing has the name": (MINE, CHECK_MINE),
    "in the given cell": (cell(MINE, ID), CHECK_MINE),
    "the stub is left": (cell(STUB, ID), 'check("3.1", previous_token_score)', MINE, CHECK_MINE),
    "above the stub": (MINE, CHECK_MINE, cell(STUB, ID), 'check("3.1", previous_token_score)'),
    "in one cell": (f"{MINE}{CHECK_MINE}",),
    "the last one counts": ("def first(p): return p", 'check("3.1", first)', MINE, CHECK_MINE),
    "changed behind the check": (MINE, CHECK_MINE, "def mine(p): return p"),
    "with a helper": ("OFFSET = -1", MINE.replace("-1,", "OFFSET,", 1), CHECK_MINE, "OFFSET = 0"),
    "wrapped": (MINE.replace("mine", "inner"), "import functools\nmine = functools.partial(inner)", CHECK_MINE),
    "with annotations from the future": ("from __future__ import annotations", MINE.replace("(p", "(p: T, p", 1)
                                         .replace("p: T, p", "p").replace("pattern)", "pattern: T)", 1), CHECK_MINE),
}  # fmt: skip


@pytest.mark.parametrize("cells", RENAMED.values(), ids=RENAMED)
def test_an_answer_under_another_name_counts_where_its_check_names_it(cells):
    assert passes(notebook(*cells))


BODY = "pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))"
EXPRESSIONS = {
    "a method": (f"class Answers:\n    def f(self, pattern):\n        return {BODY}", 'check("3.1", Answers().f)'),
    "the stub is left": (cell(STUB, ID), f"class A:\n    f = lambda pattern: {BODY}", 'check("3.1", A.f)'),
    "a lambda": (f'check("3.1", lambda pattern: {BODY})',),
    "a walrus": (f'check("3.1", mine := lambda pattern: {BODY})',),
    "of a table": (f"TABLE = {{}}\nTABLE['3.1'] = lambda pattern: {BODY}", 'check("3.1", TABLE["3.1"])'),
    "partial": ("def at(k, p):\n    return p.diagonal(k, -2, -1).mean((0, -1))",
                "import functools", 'check("3.1", functools.partial(at, -1))'),
}  # fmt: skip


@pytest.mark.parametrize("cells", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_an_expression_that_is_checked_counts_where_nothing_has_the_name(cells):
    assert passes(notebook(*cells))


@pytest.mark.parametrize("value", ["x" + ".y" * 30_000, "0x" + "f" * 5_000 + " + 1", "previous_token_score(1)", "*x"])
def test_an_expression_that_is_no_answer_is_no_fault_of_the_grader(value):
    assert read_answers(notebook(STUB, f'check("3.1", {value})'), TASKS).unattempted == set(TASKS)


CHECK = 'check("3.1", previous_token_score)'
MADE = f"previous_token_score = lambda pattern: {BODY}"
READINGS = {
    "another name": (WRONG, CHECK, MINE, CHECK_MINE),
    "an expression of it": (f"def previous_token_score(k, pattern):\n    return {BODY}", "import functools",
                            'check("3.1", functools.partial(previous_token_score, -1))'),
    "a lambda around it": (SCORE.replace(".mean(dim=(0, -1))", ""),
                           'check("3.1", lambda p: previous_token_score(p).mean((0, -1)))'),
    "above the check": (SCORE, CHECK, WRONG),
    "below the check": (cell(WRONG, ID), CHECK, SCORE),
    "made by exec": (f"exec({MADE!r})", CHECK),
    "put into the table of globals": (f"globals()['previous_token_score'] = lambda pattern: {BODY}", CHECK),
    "global in a function": (f"def make():\n    global previous_token_score\n    {MADE}", "make()", CHECK),
    "as the cells were run": (cell(SCORE, execution_count=2), cell(WRONG, execution_count=1), cell(CHECK)),
}  # fmt: skip


def readings(*cells):
    return list(submission.other_readings(read_notebook(notebook(*cells)), ALL["3.1"], ALL))


@pytest.mark.parametrize("cells", READINGS.values(), ids=READINGS)
def test_another_reading_is_right(cells):
    made = (run(one).get("previous_token_score") for one in readings(*cells))
    assert any(examine(ALL["3.1"], function, seed=7).state == PASSED for function in made)


@pytest.mark.parametrize(
    "cells",
    [
        (SCORE, CHECK),
        (cell(STUB, ID), CHECK),
        (CHECK,),
        (cell(SCORE, execution_count=1), cell(CHECK, execution_count=2)),
        (WRONG, 'check("3.1", ...)', 'check("3.2", lambda p: p)'),
        ("x = 1\n" * 50_000, WRONG, 'check("3.1", lambda p: p)'),
    ],
)
def test_a_notebook_that_can_be_read_in_one_way_is_read_once(cells):
    assert readings(*cells) == []


@pytest.mark.parametrize(
    "cells",
    [
        (f"class previous_token_score:\n    def __new__(cls, pattern):\n        return {BODY}",),
        ("def made(cls):\n    return cls()",
         f"@made\nclass previous_token_score:\n    def __call__(self, pattern):\n        return {BODY}"),
        (f"class Meta(type):\n    def __call__(cls, pattern):\n        return {BODY}",
         "class previous_token_score(metaclass=Meta): pass"),
        ("def now(f):\n    def g(p):\n        try: f(p).send(None)\n        except StopIteration as e: return e.value"
         "\n    return g",
         f"@now\nasync def previous_token_score(pattern):\n    return {BODY}"),
        ("def using(f):\n    return lambda g: f",
         f"@using(lambda pattern: {BODY})\ndef previous_token_score(pattern): ..."),
    ],
)  # fmt: skip
def test_what_looks_like_no_function_may_be_one(cells):
    assert passes(notebook(*cells))


def test_the_wanted_name_comes_first():
    assert passes(notebook(SCORE, "def mine(p): return p", CHECK_MINE))
    assert not passes(notebook(WRONG, MINE, CHECK_MINE))


def test_a_second_try_takes_the_other_name_too():
    code = ("TABLE = {}", "def fill(t): t[0] = -1", "fill(TABLE)", MINE.replace("-1,", "TABLE[0],", 1), CHECK_MINE)
    cells = submission.second_try(read_notebook(notebook(*code)), ALL["3.1"], ALL, broken=False)
    assert examine(ALL["3.1"], run(cells)["previous_token_score"], seed=7).state == PASSED


@pytest.mark.parametrize("checked", ["unknown", "*answers"])
def test_who_checks_something_else_is_not_told_to_have_tried_nothing(checked):
    answers = read_answers(notebook(f'check("3.1", {checked})'), TASKS)
    assert "`check` was given something else: call that function `previous_token_score`" in answers.problems["3.1"]
    assert answers.unattempted == {"3.2", "3.3"}


def test_a_function_of_another_exercise_is_no_other_name():
    answers = read_answers(notebook(solved("3.2"), STUB, 'check("3.1", previous_token_query_key)'), TASKS)
    assert answers.unattempted == {"3.1", "3.3"}


def test_a_helper_is_the_one_that_the_check_saw():
    helper = "def band(p):\n    return p.diagonal(-1, -2, -1)"
    answer = "def previous_token_score(pattern):\n    return band(pattern).mean((0, -1))"
    check, other = 'check("3.1", previous_token_score)', "def band(p):\n    return p"
    assert passes(notebook(helper, answer, check, other))
    assert passes(notebook(other, answer, helper, check))
    assert passes(notebook(helper, answer, other))
    assert not passes(notebook(other, answer, check, helper))


def test_edited_set_up_does_not_matter_and_own_imports_do():
    setup = "fc47c9e0c9a9"  # of the set-up cell of chapter 3
    broken = cell("import math\nsubspaces = None\nimport torch as t\nfrom torch import Tensor", setup)
    body = solved("3.2").replace("torch.", "t.")
    assert passes(notebook(broken, body), "3.2")


# --- what is said where there is no answer ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (("x = 1",), "missing: no cell defines `previous_token_score`"),
        (("def previous_tokens_score(p): return p",), "did you mean `previous_tokens_score`?"),
        ((cell("def mine(p):\n    return p", ID),), "did you mean `mine`?"),
        (("def previous_token_score(pattern)\n    return 1",), "syntax error in line 1: expected ':', as Python 3."),
        (("x = 1\ndef previous_token_score(p, p):\n    return 1",), "duplicate argument 'p'"),
        (("async def previous_token_score(p):\n    return 1",), "leave out the word `async`"),
        (("x = 1\n\ndef broken(:\n    pass\n" + SCORE,), "syntax error in line 3: invalid syntax"),
        (("class previous_token_score:\n    pass",), "is a class; wanted is a function"),
        ((STUB,), "as it was given out"),
        (("def previous_token_score(p):\n    '''Later.'''\n    ...",), "as it was given out"),
    ],
)
def test_a_missing_answer_is_explained(cells, words):
    assert words in problem(notebook(*cells))


SLIPS = ["def broken(:\n    pass", "x = (1,", "y = 'open", "if True\n    x = 1\n\n    y = 2"]


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_in_a_script_costs_its_paragraph_only(slip):
    whole = f"import torch\n\n!ls\n\nif torch:\n    K = -1\n\nelse:\n    K = 1\n\n{slip}\n\n"
    assert passes((whole + SCORE.replace("offset=-1", "offset=K")).encode())
    assert passes((SCORE + "\n" + slip).encode())


def test_a_slip_behind_a_blank_line_is_told_with_its_line():
    assert "syntax error in line 4: " in problem(f"import torch\n\nx = 1\n{SCORE.replace(':', '', 1)}".encode())


@pytest.mark.parametrize("data", [b"(\n" + b"#%%\nx\n" * 100_000, b"x\n" * 1_000_000, b"(\n\n" + b"x\n\n" * 100_000])
def test_a_script_is_measured_before_it_is_read(data):
    with at_most(seconds=5), pytest.raises(InvalidNotebook):
        read_notebook(data)


def test_a_slip_in_a_script_is_told_with_its_line():
    assert "syntax error in line 4: " in problem(f"import torch\n\n\ndef broken(:\n    pass\n{SCORE}".encode())


def test_only_what_was_not_tried_is_unattempted():
    tried = [notebook("def previous_tokens_score(p): return p"), notebook("def previous_token_score(p): return (")]
    assert all(not read_answers(data, TASKS).unattempted & {"3.1"} for data in tried)
    assert read_answers(notebook("x = 1", STUB), TASKS).unattempted == set(TASKS)


def test_a_function_of_another_exercise_is_no_slip():
    answers = read_answers(notebook("def previous_token_query_key(a, b):\n    return a"), TASKS)
    assert "did you mean" not in answers.problems["3.3"]


# --- magics and slices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "left", "skipped"),
    [
        ("%%time\nx = 1", "\nx = 1", ("%%time",)),
        ("%%bash\nrm -rf /", "", ("%%bash",)),
        ("%time x = 1\n%time !ls\ny = %time 2", "x = 1\npass\ny = 2", ("%time", "%time !ls", "%time")),
        ("if a:\n    %time x = f()\n%time", "if a:\n    x = f()\npass", ("%time", "%time")),
        ("%timeit x = 1\n%time f(\\\n  2)", "pass\npass\n", ("%timeit x = 1", "%time f( 2)")),
        ("x = 3\n%timeit f(\ny = 4", "x = 3\npass\ny = 4", ("%timeit f(",)),
        ("files = !ls\nx = 1", "pass\nx = 1", ("files = !ls",)),
        ("x?\nimport math", "pass\nimport math", ("x?",)),
        ("if a:\n    !pip install 'x\nb = 1", "if a:\n    pass\nb = 1", ("!pip install 'x",)),
        ("x = (7\n % 3)", "x = (7\n % 3)", ()),
        ("%%ipytest -qq\nx = 1", "\nx = 1", ("%%ipytest -qq",)),
        ("s = '''\n%magic\n!ls\n'''", "s = '''\n%magic\n!ls\n'''", ()),
        ("\n".join(["!ls ("] * 40), "\n".join(["pass"] * 40), ("!ls (",) * 40),
    ],
)
def test_magics_are_left_out_and_listed(code, left, skipped):
    found = without_magics(code)
    assert (found.text, found.skipped) == (left, skipped)
    assert found.tree is not None


@pytest.mark.parametrize(
    ("magic", "listed"),
    [
        ("!pip install -q \\\n    einops \\\n    jaxtyping", "!pip install -q einops jaxtyping"),
        ("%pip install --quiet \\\n  einops", "%pip install --quiet einops"),
        ("%config InlineBackend.figure_formats = [\\\n   'svg']", "%config InlineBackend.figure_formats = [ 'svg']"),
        ("x = !ls \\\n  /tmp", "x = !ls /tmp"),
        ("!ls \\", "!ls"),
    ],
)
def test_a_magic_goes_on_in_the_next_line(magic, listed):
    found = without_magics(f"if True:\n    {magic}\n\n{SCORE}" if magic[-1] != "\\" else f"{SCORE}{magic}")
    assert found.skipped == (listed,)
    assert found.tree is not None and found.text.count("pass") == 1
    assert found.text.count("\n") == SCORE.count("\n") + (magic.count("\n") + 3 if magic[-1] != "\\" else 0)
    assert passes(notebook(f"{magic}\n\n{SCORE}" if magic[-1] != "\\" else f"{SCORE}{magic}"))


def test_a_large_cell_with_magics_all_over_is_parsed_a_few_times_only(monkeypatch):
    parsed = []
    monkeypatch.setattr(magics, "parse_strictly", lambda text: parsed.append(len(text)) or parse_strictly(text))
    code = "\n".join(["x = 1\n" * 2_500 + "!ls ("] * 30)
    found = without_magics(code)
    assert found.tree is not None and found.skipped == ("!ls (",) * 30
    assert sum(parsed) <= magics.MAX_PARSED + 2 * len(code)


def test_deep_and_wide_code_ends_in_a_sentence_and_soon():
    deep = [
        "-" * 900 + "1",
        "lambda: " * 90 + "1",
        "(" * 150 + "1" + ")" * 150,
        "[" * 150 + "]" * 150,
        "a." * 3000 + "b",
    ]
    for expression in [*deep, "1" + "+1" * 20_000, "f" + "()" * 5_000, " " * 400_000 + "(", "a" * 400_000 + " b"]:
        for code in (f"def previous_token_score(p):\n    return {expression}", f"x = {expression}", expression):
            with at_most(seconds=5):
                answers = read_answers(notebook(code, "def f(p):\n    return x"), {"3.1": ALL["3.1"]})
            assert answers.found or answers.problems


def test_many_magics_are_listed_shortly():
    answers = read_answers(notebook("\n".join(f"!echo {'x' * 999}" for _ in range(90))), TASKS)
    assert len(answers.skipped) == 51 and answers.skipped[-1] == "and 40 more"
    assert max(map(len, answers.skipped)) == 200


HUGE = f"0x{'f' * 5000}"  # Python writes no integer of so many digits in decimals


@pytest.mark.parametrize(
    "code",
    [
        f"{SCORE}check({HUGE}, previous_token_score)",
        f"H = {HUGE}\n{SCORE.replace('return ', 'return H * 0 + ')}",
        f"H = {HUGE}; print(1); \\\nG = 1\n{SCORE.replace('return ', 'return H * 0 + ')}",
        f"# {'long' * notebooks.MAX_SHOWN}\nprint(1)\n{SCORE.replace('return ', f'return {HUGE} * 0 + ')}",
    ],
)
def test_an_integer_that_python_does_not_write_is_read(code):
    assert passes(notebook(code))


def test_of_a_very_long_cell_the_answer_is_printed_alone():
    code = f"# {'long' * notebooks.MAX_SHOWN}\nprint(1)\n{SCORE}"
    (own,) = read_answers(notebook(code), {"3.1": ALL["3.1"]}).found["3.1"]
    assert own.startswith("def previous_token_score") and passes(notebook(code))


def test_what_nobody_foresaw_is_a_sentence_but_a_fault_of_the_machine_is_not(monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(submission.Notebook, "excerpt", fail)
    error = AttributeError("odd")
    assert problem(notebook(SCORE)) == "the code cannot be read (AttributeError)"
    error = MemoryError()
    with pytest.raises(MemoryError):
        read_answers(notebook(SCORE), TASKS)


def test_a_file_that_fails_in_a_way_nobody_foresaw_cannot_be_read(monkeypatch):
    monkeypatch.setattr(submission, "Notebook", lambda cells: cells.odd)
    with pytest.raises(InvalidNotebook, match=r"The code cannot be read \(AttributeError\)"):
        read_notebook(notebook(SCORE))
    monkeypatch.setattr(submission, "Notebook", lambda cells: Path("/nowhere").read_bytes())
    with pytest.raises(FileNotFoundError):
        read_notebook(notebook(SCORE))


# --- too much code ----------------------------------------------------------------------------------------------


def nested_finally(depth: int) -> str:
    levels = (f"{' ' * level}try: pass\n{' ' * level}finally:\n" for level in range(1, depth))
    return f"def helper():\n{''.join(levels)}{' ' * depth}pass\n"


def ways_out(count: int) -> str:
    return "def helper(a):\n try:\n" + "  if a: return\n" * count + " finally:\n" + "  a\n" * count


def alternatives(count: int) -> str:
    names = [f"a{number}" for number in range(count)]
    mixed = sorted(names, key=lambda name: name[::-1])
    return f"def helper(a):\n match a:\n  case [{','.join(names)}] | [{','.join(mixed)}]: pass\n"


def captures(count: int) -> str:
    return f"def helper(a):\n match a:\n  case [{','.join(f'a{number}' for number in range(count))}]: pass\n"


def nested_with(count: int) -> str:
    lines = [f"{' ' * level}async with a, a:\n" for level in range(1, 10)]
    return f"async def helper(a):\n{''.join(lines)}" + f"{' ' * 11}if a: return\n" * count


BOMBS = {
    "nested finally": nested_finally(17),
    "many ways out": ways_out(1500),
    "alternatives": alternatives(300),
    "captures": captures(6000),
    "a large table": f"helper = [{'0,' * 100_000}]\n",
    "many statements": "helper = 0\n" * 40_000,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_too_much_code_is_told_and_not_compiled(bomb, monkeypatch):
    compiled, compile_it = [], slicing._compiled
    monkeypatch.setattr(slicing, "_compiled", lambda node: compiled.append(node) or compile_it(node))
    answer = SCORE.replace("    return", "    helper\n    return")
    assert "are too much code" in problem(notebook(bomb, answer))
    assert sum(size_of(node) for node in compiled) <= MAX_SIZE
    assert passes(notebook(bomb, SCORE))  # where the answer does not need it


def test_an_answer_that_is_itself_too_much_code_is_told():
    code = nested_finally(17).replace("helper()", "previous_token_score(pattern)")
    assert "are too much code" in problem(notebook(code)) and "previous_token_score" in problem(notebook(code))


@pytest.mark.parametrize("make", [nested_finally, ways_out, alternatives, captures, nested_with])
def test_a_size_grows_as_the_byte_code_does(make):
    def instructions(code):
        inner = (part for part in code.co_consts if isinstance(part, type(code)))
        return len(code.co_code) // 2 + sum(map(instructions, inner))

    for count in (4, 8, 12, 16):
        code = make(count)
        assert instructions(compile(code, "<code>", "exec")) <= 12 * size_of(ast.parse(code)) + 100


def test_what_the_course_gives_and_publishes_is_far_from_too_much():
    for exercise in ALL.values():
        chapter = chapter_of(exercise)
        setup = sum(statement.size for statement in chapter.setup)
        assert setup + max(sum(map(size_of, nodes)) for nodes in chapter.published.values()) < MAX_SIZE / 5


def test_ordinary_finally_and_match_are_small():
    code = (
        "def f(x):\n for y in x:\n  try:\n   if y: continue\n   return 1\n  finally:\n   x.close()\n"
        " match x:\n  case 'a' | 'b' | ('c', _) | ['d', [*z]]: pass\n"
    )
    assert size_of(ast.parse(code)) < 120


def test_all_answers_on_one_name_that_is_bound_again_and_again_take_seconds():
    answers = "\n".join(f"def {exercise.reference.__name__}(*a): return x" for exercise in ALL.values())
    parsed = read_notebook(notebook("x=0\n" * 100_000 + answers))
    looked_at = []
    parsed.excerpt = lambda number, kept: looked_at.append(len(kept))
    problems = answers_of(parsed, ALL).problems
    assert problems.keys() == ALL.keys() and all("too much code" in text for text in problems.values())
    assert not looked_at


PIECES = [
    "x = 1",
    "print('ä', '\\n')",
    "def f():\n    '''a\n    b'''\n    return 1",
    "import os",
    "@d\nclass C:\n    y = 2",
]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PIECES), st.booleans(), st.sampled_from(["\n", "\n\n", "; "])), min_size=1))
def test_a_slice_is_the_kept_statements_and_nothing_else(pieces):
    text = ""
    for code, _, end in pieces:
        simple = end == "; " and "\n" not in code
        text += code + ("; " if simple else "\n")
    tree = parse(text)
    if tree is None:  # a block behind a semicolon
        return
    keep = {number for number, (_, kept, _) in enumerate(pieces) if kept}
    left = parse(shown(text, tree, keep))
    wanted = [
        ast.dump(node) if number in keep else ast.dump(parse("0").body[0]) for number, node in enumerate(tree.body)
    ]
    assert [ast.dump(node) for node in left.body] == wanted


LAYOUTS = {
    "lines": "x = 1\ny = 2",
    "semicolons": "x = 1; y = 2;\nz = 3;",
    "a line that goes on": "x = 1 \\\n  + 2\ny = 3",
    "a line that begins below": "\\\nx = 1\ny = 2",
    "brackets": "x = (1,\n  2)\ny = [\n]",
    "a text of several lines": "x = '''a\nb'''\ny = 2",
    "a decorator": "@a\n@b\ndef f():\n    pass\ny = 1",
    "a decorator in brackets": "@(\na\n)\ndef f():\n    pass\ny = 1",
    "a decorator below its sign": "@\\\na\ndef f():\n    pass\ny = 1",
    "a form feed": "x = 1\n\x0cy = 2",
    "branches": "if 1:\n    x = 2\nelse:\n    x = 3\ny = 1",
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_an_excerpt_holds_what_is_kept_in_any_layout(text):
    code = without_magics(text)
    nodes = code.tree.body
    for kept in range(1, 2 ** len(nodes)):
        numbers = {number for number in range(len(nodes)) if kept >> number & 1}
        left = [node for node in parse(notebooks._excerpt(code, numbers)).body if ast.unparse(node) != "0"]
        assert [ast.unparse(node) for node in left] == [ast.unparse(nodes[number]) for number in sorted(numbers)]


# --- specifications ---------------------------------------------------------------------------------------------


def test_a_specification_changes_with_what_it_uses_and_with_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "03_previous_token_head.md"
    text = (ROOT / "solutions" / path.name).read_text(encoding="utf-8")
    monkeypatch.setattr(load, "source_folder", lambda: tmp_path)

    def keys(changed):
        path.write_text(changed, encoding="utf-8")
        exercises = load.load_source(path)
        return {one: specification(exercise) for one, exercise in exercises.items()}

    before = keys(text)
    assert keys(text.replace("One number says how well", "One number tells how well")) == before
    after = keys(text.replace('"3.1",', '"3.1",\n    # harder now', 1).replace("difficulty=1", "difficulty=2", 1))
    assert {one for one in before if before[one] != after[one]} == {"3.1"}


def test_a_stub_of_the_course_is_known():
    chapter = chapter_of(ALL["3.2"])
    source = next(c for c in code_cells((ROOT / "solutions/03_previous_token_head.md").read_text())
                  if "answer" in c.tags and "def previous_token_query_key" in c.code)  # fmt: skip
    answers = read_answers(notebook(as_stub(source.code)), TASKS)
    assert "3.2" in answers.unattempted and "previous_token_query_key" in chapter.stubs


def test_names_are_read_as_dis_tells_them():
    code = compile(Path(slicing.__file__).read_text(encoding="utf-8"), "<code>", "exec")
    many = compile("\n".join(f"x{number} = y{number}" for number in range(300)), "<code>", "exec")  # long arguments
    for whole in (code, many):
        waiting, wanted = [whole], []
        while waiting:
            part = waiting.pop()
            wanted += [step.argval for step in dis.get_instructions(part) if step.opname in slicing._READS]
            waiting += [constant for constant in part.co_consts if isinstance(constant, type(part))]
        assert list(slicing._read(whole)) == wanted and wanted
