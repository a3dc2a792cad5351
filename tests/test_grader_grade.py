"""Rows: verdicts that agree with `check`, faults told as faults, resumed runs and shares that end in the same bytes."""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from effort import at_most
from grader_class import ALL, SCORE, SOURCE, LocalServer, fill, notebook, solved

from benchmarks.graders.assignment import SMALL, large_ids, make_assignment
from benchmarks.graders.spoilt import spoil
from course_lib.grader import given, grade, rows, submission, verdicts
from course_lib.grader.folder import Submission, find_all
from course_lib.grader.grade import (
    Options,
    TooLittleIsolation,
    check_isolation,
    grade_folder,
    grade_submission,
)
from course_lib.grader.reading import InvalidNotebook
from course_lib.grader.results import merge
from course_lib.grader.server import Reply, Server
from course_lib.grader.store import InUse, Store, locked, written_whole
from course_lib.grader.submission import other_readings, read_notebook, second_try
from course_lib.grading import Measure
from course_lib.grading.examine import CHANGES, examine
from course_lib.grading.report import findings
from course_lib.grading.run import Failure, Outcome

OPTIONS = Options(seed=5, parallel=2)
ONE = replace(OPTIONS, exercises=("3.1",))
CHAPTER = ("3.1", "3.2", "3.3")
ROOT = Path(__file__).parents[1]


def graded(data, options=ONE, server=None):
    def read():
        if isinstance(data, Exception):
            raise data
        return data

    return grade_submission(Submission("a.ipynb", "ada", "hw", read), ALL, server or LocalServer(), options)


def run_class(folder, out, options=replace(OPTIONS, exercises=CHAPTER), **more):  # noqa: B008
    more.setdefault("make_server", LocalServer)
    summary = grade_folder(folder, out, options, **more)
    return summary, (out / "results.jsonl").read_bytes() if options.shard == (1, 1) else b""


def results(out):
    return {row["submission"]: row for row in map(json.loads, (out / "results.jsonl").read_text().splitlines())}


# --- one submission ---------------------------------------------------------------------------------------------


def test_a_right_answer_has_all_points():
    row = graded(SOURCE, replace(OPTIONS, exercises=CHAPTER))
    assert (row["state"], row["score"], row["max_score"]) == ("ok", 5, 5)
    assert [one["state"] for one in row["exercises"]] == ["ok"] * 3
    assert (row["student"], row["assignment"], row["isolation"], row["seed"]) == ("ada", "hw", ["limits"], 5)
    json.dumps(row)


def test_what_check_says_is_what_the_row_says():
    """The same answers, in a notebook and through the grader: state, diagnosis and sentences agree."""
    seed = verdicts.seed_of(OPTIONS.seed, "3.1")
    for code in (SCORE, SCORE.replace("offset=-1", "offset=1"), SCORE.replace("(0, -1)", "(0, 1)"), "def f(p): 1 / 0"):
        code = code.replace("def f(", "def previous_token_score(")
        namespace = {}
        exec(code, namespace)
        verdict = examine(ALL["3.1"], namespace["previous_token_score"], seed)
        (one,) = graded(notebook(code))["exercises"]
        assert one["state"] == verdicts._STATES[verdict.state]
        said = [sentence for label, sentence in findings(verdict) if label != "Error"]
        assert all(sentence in one["message"] for sentence in said)
        assert one["mutant"] == (
            verdict.diagnosis.name if verdict.diagnosis and verdict.diagnosis.name != "general" else ""
        )


@pytest.mark.parametrize("exercise_id", ["0.1", "3.1", "7.2", "12.3"])
def test_a_mutant_is_named(exercise_id):
    task = verdicts.task_of(ALL[exercise_id], OPTIONS.seed)
    mutant = ALL[exercise_id].mutants[0]
    pairs = [
        Outcome(verdicts.wanted_of(replace(task.exercise, reference=mutant.function), case).value)
        for case in task.cases
    ]
    one = verdicts.entry_of(task, Reply("ok", tuple((pair, pair) for pair in pairs)))
    assert (one["state"], one["points"], one["mutant"]) == ("wrong", 0, mutant.name)
    assert mutant.sentence in one["message"]


def test_a_mutant_is_run_once_for_a_whole_class():
    task = verdicts.task_of(ALL["3.1"], seed=11)
    runs = []

    def mutant(pattern):
        runs.append(pattern)
        raise ValueError("of no use here")

    for _ in range(3):
        with pytest.raises(ValueError, match="of no use here"):
            task.call(mutant, task.cases[0])
    assert len(runs) == 1
    assert task.call(ALL["3.1"].reference, task.cases[1]) is task.call(ALL["3.1"].reference, task.cases[1])


def test_answers_that_give_the_same_are_judged_once(monkeypatch):
    judged, conclude = [], verdicts.conclude
    monkeypatch.setattr(verdicts, "conclude", lambda *given: judged.append(given) or conclude(*given))
    verdicts._task.cache_clear()
    wrong = SCORE.replace("-1, dim1", "1, dim1")
    rows = [graded(notebook(f"x = {number}", code)) for number, code in enumerate([SCORE, wrong] * 3)]
    assert len(judged) == 2
    entries = [row["exercises"][0] for row in rows]
    assert [one["state"] for one in entries] == ["ok", "wrong"] * 3
    assert entries == entries[:2] * 3 and entries[0] is not entries[2]


def test_what_the_last_digit_of_a_value_changes_is_judged_anew(monkeypatch):
    judged, conclude = [], verdicts.conclude
    monkeypatch.setattr(verdicts, "conclude", lambda *given: judged.append(given) or conclude(*given))
    verdicts._task.cache_clear()
    for factor in (1, 1 + 1e-6, 1 + 2e-6, 1 + 1e-6):
        row = graded(notebook(f"{SCORE.rstrip()} * {factor}"))
        assert row["state"] == "ok"
    assert len(judged) == 3


def test_few_entries_are_kept_and_none_without_a_digest(monkeypatch):
    monkeypatch.setattr(verdicts, "MAX_KEPT", 2)
    task = replace(verdicts.task_of(ALL["3.1"], seed=12), _entries={})
    replies = [Reply("ok", digest=bytes([number])) for number in range(3)]
    for reply in (*replies, Reply("timeout")):
        task.remember(reply, {"state": "wrong"})
    assert [task.known_entry(reply) for reply in replies] == [None, {"state": "wrong"}, {"state": "wrong"}]
    assert task.known_entry(Reply("timeout")) is None


@pytest.fixture(scope="module")
def real():
    with Server("best", parallel=2) as running:
        yield running


SPOILS = {
    "torch": "import torch\ntorch.Tensor.diagonal = torch.Tensor.mean = torch.cat = lambda *a, **b: torch.zeros(3)",
    "the check": "import course_lib.grading.run as r\nr.values.clone = lambda value: 0",
    "defaults": "import torch\ntorch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)",
    "the end": "import os\nos._exit(0)",
    "threads": "import threading\ndef spin():\n    while True: pass\nfor _ in range(9):\n"
    "    threading.Thread(target=spin, daemon=True).start()",
    "warnings": "import warnings\nwarnings.simplefilter('error')",
    "standard streams": "import sys\nsys.stdout = sys.stderr = None",
}


@pytest.mark.parametrize("what", SPOILS)
def test_what_one_answer_does_to_the_process_costs_the_others_nothing(real, what):
    ids = ("3.1", "3.2", "6.1", "7.1")
    inside = "".join(f"    {line}\n" for line in SPOILS[what].splitlines())
    spoils = f"def spoil():\n{inside}    return 1\n" + solved("3.1").replace("return ", "return spoil() * ")
    row = graded(notebook(spoils, *map(solved, ids[1:])), replace(OPTIONS, exercises=ids), server=real)
    assert [one["state"] for one in row["exercises"][1:]] == ["ok"] * 3


def test_right_answers_are_given_by_one_worker_and_others_by_their_own(real):
    class Counting(Server):
        def run(self, job):
            self.alone.append(job.function)
            return super().run(job)

    ids = ("3.1", "6.1", "7.1")
    wrong = solved("6.1").replace("late - 1", "late - 2")
    with Counting("best", parallel=1) as counting:
        counting.alone = []
        row = graded(notebook(solved("3.1"), wrong, solved("7.1")), replace(OPTIONS, exercises=ids), server=counting)
    assert [one["state"] for one in row["exercises"]] == ["ok", "wrong", "ok"]
    assert counting.alone == ["icl_score"]
    alone = [graded(notebook(solved(one)), replace(OPTIONS, exercises=(one,)), server=real) for one in ids[::2]]
    assert [row["exercises"][0], row["exercises"][2]] == [one["exercises"][0] for one in alone]


def test_the_worker_gets_no_expected_value_and_no_specification():
    server = LocalServer()
    graded(notebook(SCORE), server=server)
    (job,) = server.jobs
    text = " ".join(job.cells) + repr(job.cases)
    expected = verdicts.task_of(ALL["3.1"], 5).wanted[0].value
    assert "mutant" not in text and "exercise(" not in text
    assert repr(expected.numpy().tobytes())[2:-1] not in text
    assert job.seconds == ALL["3.1"].seconds


def test_cases_are_drawn_by_the_runs_seed_and_the_same_for_all():
    first, again, other = LocalServer(), LocalServer(), LocalServer()
    graded(SOURCE, ONE, first)
    graded(notebook(SCORE), ONE, again)
    graded(SOURCE, replace(ONE, seed=6), other)
    assert first.jobs[0].cases == again.jobs[0].cases != other.jobs[0].cases


def test_exercises_that_count_are_those_of_the_chapters_that_the_file_names():
    row = graded(notebook(SCORE), OPTIONS)
    assert [one["id"] for one in row["exercises"]] == list(CHAPTER)
    assert row["state"] == "partial" and row["score"] == 1
    assert "Graded are all exercises of chapter 3, which the file names." in row["problems"]
    nothing = graded(notebook("x = 1"), OPTIONS)
    assert (nothing["state"], nothing["max_score"]) == ("unattempted", 0)
    assert nothing["problems"] == ["The file names no exercise of the course."]


@pytest.mark.parametrize(
    ("data", "state", "words"),
    [
        (b"hello", "invalid_notebook", "neither a notebook nor Python"),
        (InvalidNotebook("The file is encrypted in its zip."), "invalid_notebook", "encrypted"),
        (notebook("x = 1"), "unattempted", "Missing: no cell defines"),
        (notebook("def previous_tokens_score(p): return p"), "error", "did you mean"),
        (notebook("def previous_token_score(p: Nonsense):\n    return p"), "error", "could not be run"),
        (notebook(SCORE.replace("return", "return None +")), "error", "TypeError"),
        (notebook(SCORE.replace("return", "return 0 *")), "partial", "Expected: "),
    ],
)
def test_states_of_rows(data, state, words):
    row = graded(data)
    assert (row["state"], row["score"], row["max_score"]) == (state, 0, 1)
    assert words in " ".join([row["exercises"][0]["message"], *row["problems"]])


def reply(*outcomes, state="ok", message=""):
    class Fixed(LocalServer):
        def run(self, job):
            given = [outcomes] * len(job.cases) if state == "ok" else [outcomes] if outcomes else []
            return Reply(state, tuple(given), message)

    return Fixed()


def right():
    return verdicts.task_of(ALL["3.1"], 5).wanted[0].value


@pytest.mark.parametrize(
    ("server", "state", "words"),
    [
        (reply(state="oom"), "oom", "more memory"),
        (reply(state="crashed", message="signal 11"), "crashed", "ended before"),
        (reply(state="timeout", message="The cells took longer than 20 seconds."), "timeout", "took longer"),
        (reply(*[Outcome(failure=Failure(True, limit=5.0))] * 2, state="timeout"), "timeout", "One call may take 5 s"),
        (reply(*[Outcome(failure=Failure(True, kind="MemoryError"))] * 2, state="oom"), "oom", "more memory"),
        (reply(*[Outcome(failure=Failure(False))] * 2), "unattempted", ""),
    ],
)
def test_a_worker_that_ends_early(server, state, words):
    (one,) = graded(notebook(SCORE), server=server)["exercises"]
    assert (one["state"], one["points"]) == (state, 0)
    assert words in one["message"]


def test_where_a_slow_call_stood_differs_from_run_to_run_and_is_left_out():
    failure = Failure(True, limit=5.0, line_number=3, line="while True:", loop="while")
    (one,) = graded(notebook(SCORE), server=reply(Outcome(failure=failure), Outcome(failure=failure)))["exercises"]
    assert "while" not in one["message"] and " ms" not in one["message"]


def test_what_differs_from_call_to_call_is_left_out():
    for first, second in (
        (
            Outcome(failure=Failure(True, "ValueError", "at 12:31:07.13")),
            Outcome(failure=Failure(True, "ValueError", "x")),
        ),
        (Outcome([1.0]), Outcome([1.0, 2.0])),
        (Outcome(torch.rand(4)), Outcome(torch.rand(5))),
    ):
        (one,) = graded(notebook(SCORE), server=reply(first, second))["exercises"]
        assert "12:31" not in one["message"] and "[4]" not in one["message"]
    task = verdicts.task_of(ALL["3.1"], 5)
    pairs = tuple((Outcome(wanted.value), Outcome(wanted.value + torch.rand(()))) for wanted in task.wanted)
    one = verdicts.entry_of(task, Reply("ok", pairs))
    assert one["state"] == "wrong" and one["message"].endswith(CHANGES)
    assert verdicts.plain("<f at 0x7f31c0ffee>\x1b[31m\ud800") == "<f at 0x...>[31m"


HOSTILE = [
    10**400,
    float("nan"),
    "x" * 500,
    [[[[[[[1]]]]]]],
    {"a": [1, 2]},
    torch.full((4,), float("nan")),
    torch.full((4,), float("inf")),
    torch.zeros(4, dtype=torch.complex128),
    torch.zeros(4, dtype=torch.float8_e4m3fn),
    torch.zeros([1] * 60),
    torch.zeros(0),
    torch.zeros(3_000_000),
    torch.ones(1, 2**20),
    torch.ones(2**20, 1),
    (torch.zeros(4),) * 4000,
    None,
    True,
]


@pytest.mark.parametrize("exercise_id", ["0.1", "2.2", "3.1", "3.2", "5.1", "12.2"])
def test_no_value_makes_the_judge_fail_or_linger(exercise_id):
    task = verdicts.task_of(ALL[exercise_id], 5)
    for value in HOSTILE:
        with at_most(seconds=2):
            one = verdicts.entry_of(task, Reply("ok", tuple((Outcome(value), Outcome(value)) for _ in task.cases)))
        assert one["state"] == "wrong", value
        assert len(one["message"]) <= 2000


@pytest.mark.parametrize("exercise_id", ["3.2", "4.2", "7.2"])
@pytest.mark.parametrize("number", [float("inf"), float("nan"), 1e38])
def test_built_things_full_of_bad_numbers_are_wrong(exercise_id, number):
    task = verdicts.task_of(ALL[exercise_id], 5)
    outcomes = []
    for wanted in task.wanted:
        if isinstance(wanted.value, torch.nn.Module):
            value = verdicts.values.clone(wanted.value)
            with torch.no_grad():
                for weight in value.parameters():
                    weight.fill_(number)
        else:
            value = tuple(torch.full_like(part, number) for part in wanted.value)
        outcomes.append((Outcome(value), Outcome(value)))
    one = verdicts.entry_of(task, Reply("ok", tuple(outcomes)))
    assert (one["state"], one["points"]) == ("wrong", 0)


def test_a_fault_of_the_grader_is_tried_again_and_is_no_zero(monkeypatch):
    class Faulty(LocalServer):
        calls = 0

        def run(self, job):
            self.calls += 1
            if self.calls <= self.n_faults:
                raise RuntimeError("at 0x7f00deadbeef")
            return super().run(job)

    once, always = Faulty(), Faulty()
    once.n_faults, always.n_faults = 1, 99
    assert graded(notebook(SCORE), server=once)["state"] == "ok"
    row = graded(SOURCE, replace(OPTIONS, exercises=CHAPTER), server=always)
    assert (row["state"], row["score"], row["max_score"]) == ("grader_error", None, 5)
    assert row["exercises"][0]["points"] is None
    assert "0x..." in row["exercises"][0]["message"]
    assert graded(notebook(SCORE), server=reply(state="grader_error"))["score"] is None
    monkeypatch.setattr(rows, "read_notebook", lambda data: 1 / 0)
    row = graded(notebook(SCORE))
    assert (row["state"], row["score"]) == ("grader_error", None)
    assert row["problems"] == ["The grader failed: ZeroDivisionError: division by zero"]
    json.dumps(row)


def test_a_measure_that_fails_on_a_result_of_the_right_kind_is_wrong():
    task = verdicts.task_of(ALL["3.1"], 5)

    def measure(result, inputs):
        if not torch.equal(result, task.wanted[0].value):
            raise RuntimeError("cannot")
        return result

    exercise = replace(ALL["3.1"], measure=Measure("m", measure))
    one = task.cases[0]
    broken = replace(task, exercise=exercise, cases=(one,), wanted=task.wanted[:1], payloads=task.payloads[:1])
    outcome = Outcome(task.wanted[0].value + 1)
    found = verdicts.entry_of(broken, Reply("ok", ((outcome, outcome),)))
    assert found["state"] == "wrong" and "could not use your result" in found["message"]


# --- a second try with more of the notebook -----------------------------------------------------------------------

OFFSET = SCORE.replace("offset=-1", "offset={}").format
BY_A_CALL = {
    "filled by a function": ("def fill(d):\n    d['k'] = -1\nCFG = {}", "fill(CFG)", OFFSET("CFG['k']")),
    "in an argument": ("import heapq\nH = []\nheapq.heappush(H, -1)", OFFSET("H[0]")),
    "of torch": ("import torch\nW = torch.ones(1)\ntorch.nn.init.constant_(W, -1)", OFFSET("int(W)")),
    "out": ("import torch\nW = torch.ones(1)\nx = torch.add(W, -2, out=W)", OFFSET("int(W)")),
    "assigned": ("OFF = []\n_ = OFF.append(-1)", OFFSET("OFF[0]")),
    "comprehension": ("OFF = []\n[OFF.append(k) for k in (-1,)]", OFFSET("OFF[0]")),
    "loop": ("def add(o, k):\n    o.append(k)\nOFF = []\nfor k in (-1, 2):\n    add(OFF, k)", OFFSET("OFF[0]")),
    "registered": ("T = {}\ndef register(f):\n    T[f.__name__] = f\n    return f",
                   "@register\ndef k():\n    return -1",
                   OFFSET("T['k']()")),
    "single dispatch": ("import torch\nfrom functools import singledispatch\n@singledispatch\n"
                        "def previous_token_score(pattern):\n    raise TypeError",
                        "@previous_token_score.register\n" + SCORE.replace("previous_token_score", "_")
                        .replace("(pattern)", "(pattern: torch.Tensor)"), 'check("3.1", previous_token_score)'),
    "subclass": ("class Base:\n    k = {}\n    def __init_subclass__(cls):\n        Base.k[cls.__name__] = cls",
                 "class Prev(Base):\n    k = -1", OFFSET("Base.k['Prev'].k")),
    "global": ("def init():\n    global SHIFT\n    SHIFT = -1\ninit()", OFFSET("SHIFT")),
    "globals": ("globals()['SHIFT'] = -1", OFFSET("SHIFT")),
    "exec": ("exec('SHIFT = -1')", OFFSET("SHIFT")),
    "exec elsewhere": ("ns = {}\nexec('SHIFT = -1', ns)", OFFSET("ns['SHIFT']")),
    "on a module": ("import math\nmath.shift = -1", OFFSET("__import__('math').shift")),
    "on a class": ("import torch\ndef prev(self):\n    return self.diagonal(-1, -2, -1)\ntorch.Tensor.prev = prev",
                   "def previous_token_score(pattern):\n    return pattern.prev().mean((0, -1))"),
    "environment": ("import os\nos.environ['SHIFT_OF_A_TEST'] = '-1'", OFFSET("int(os.environ['SHIFT_OF_A_TEST'])")),
    "star import of nothing": ("from my_utils_that_are_not_there import *", SCORE),
    "alias": ("T = []\nalias = T\nalias.append(-1)", OFFSET("T[0]")),
    "view": ("import torch\nM = torch.ones(2, 2)\nflat = M.view(-1)\nflat[0] = -1", OFFSET("int(M[0, 0])")),
    "row": ("import torch\nM = torch.ones(2, 2)\nrow = M[0]\nrow.fill_(-1)", OFFSET("int(M[0, 0])")),
    "loop over rows": ("T = [[1], [1]]\nfor row in T:\n    row[0] = -1", OFFSET("T[0][0]")),
    "loop over classes": ("class A:\n    k = 1\nclass B(A):\n    k = 1\nfor c in (A, B):\n    c.k = -1", OFFSET("A.k")),
    "trained": ("import torch\nw = torch.nn.Parameter(torch.tensor(0.0))\nopt = torch.optim.SGD([w], lr=0.5)",
                "def train():\n    ((w + 1) ** 2).backward()\n    opt.step()\ntrain()", OFFSET("int(w)")),
    "in a print": ("T = {}\ndef fill():\n    T['k'] = -1\nprint(fill())", OFFSET("T['k']")),
    "in an assert": ("T = {}\ndef fill():\n    T['k'] = -1\n    return True\nassert fill()", OFFSET("T['k']")),
    "shared by a class": ("class R:\n    items = {}\n    def add(self, k):\n        self.items['k'] = k",
                          "a, b = R(), R()\na.add(-1)", OFFSET("b.items['k']")),
    "recursion limit": ("import sys\nsys.setrecursionlimit(20000)",
                        "def deep(n):\n    return deep(n - 1) if n else -1", OFFSET("deep(3000)")),
    "installed": ("import torch\ndef prev(self):\n    return self.diagonal(-1, -2, -1)",
                  "def install():\n    torch.Tensor.prev = prev\ninstall()",
                  "def previous_token_score(pattern):\n    return pattern.prev().mean((0, -1))"),
    "exec of a function": ("import math", "exec('def k():\\n    return -int(math.exp(0))')", OFFSET("k()")),
    "by eval": ("def k():\n    return -1", OFFSET("eval('k')()")),
    "by globals": ("def k():\n    return -1", OFFSET("globals()['k']()")),
    "failing call beside it": ("OFF = []\nshow_it(OFF)\n_ = OFF.append(-1)", "draw(OFF)", OFFSET("OFF[0]")),
}  # fmt: skip


@pytest.mark.parametrize("cells", BY_A_CALL.values(), ids=BY_A_CALL)
def test_an_answer_that_stands_on_a_call_is_right_at_the_second_try(cells, monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    server, limit = LocalServer(), sys.getrecursionlimit()
    assert graded(notebook(*cells), server=server)["state"] == "ok"
    assert len(server.jobs) == 2
    sys.setrecursionlimit(limit)
    for place, name in ((torch.Tensor, "prev"), (math, "shift")):
        if hasattr(place, name):
            delattr(place, name)


def test_a_right_answer_is_run_once_without_what_may_change_it():
    server = LocalServer()
    cells = ("TABLE = [-1]", "spoil(TABLE)\n1 / 0", OFFSET("TABLE[0]"), "train(TABLE, previous_token_score)")
    assert graded(notebook(*cells), server=server)["state"] == "ok"
    assert len(server.jobs) == 1 and "spoil" not in "".join(server.jobs[0].cells)


UNTOUCHED = ROOT / "exercises/03_previous_token_head.ipynb"


def test_a_wrong_answer_is_run_again_only_if_more_may_belong_to_it():
    wrong, twice = OFFSET("TABLE[0]"), LocalServer()
    once, first = run_once("TABLE = [1]", 'check("3.1", previous_token_score)', wrong)
    second = graded(notebook("TABLE = [1]", "id(TABLE)\nraise SystemExit", wrong), server=twice)
    assert (len(once.jobs), len(twice.jobs)) == (1, 2)
    assert first["exercises"] == second["exercises"]
    assert first["exercises"][0]["state"] == "wrong"


def run_once(*cells):
    server = LocalServer()
    return server, graded(notebook(*cells), server=server)


def given_cells():
    """All that the exercise notebook of the chapter holds, its set-up for Colab and its stubs included."""
    cells = json.loads(UNTOUCHED.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize(
    "more",
    [
        ["import os\nfrom math import *"],
        ['_ = check("3.1", previous_token_score)\nhint("3.1")\nsolution("3.1")\nprogress()'],
        ["%matplotlib inline\n'a text'\nTABLE\npass\nglobal TABLE"],
        [solved("3.2"), solved("2.2"), "kept = previous_token_query_key"],
        [OFFSET("0"), "def previous_token_score(pattern):\n    raise NotImplementedError"],
        given_cells(),
    ],
)
def test_what_is_no_reason_for_a_second_try(more):
    server, row = run_once("TABLE = [1]", *more, OFFSET("TABLE[0]"))
    assert row["exercises"][0]["state"] == "wrong" and len(server.jobs) == 1


HELPER = "def empty_model(d_vocab: int, n_ctx: int"


@pytest.mark.parametrize(
    ("old", "change", "argument"),
    [
        ("", (HELPER, f"{HELPER}, scale: float = 1.0"), ", 1.0"),
        (f"{HELPER}):\n    raise ValueError('my first attempt')", ("", ""), ""),
    ],
    ids=["given an argument", "defined above the given cell"],
)
def test_a_given_helper_is_what_the_notebook_makes_of_it(old, change, argument):
    made = json.loads((ROOT / "exercises/04_induction_circuit.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    answer = solved("4.2", ("empty_model(d_vocab, n_ctx", f"empty_model(d_vocab, n_ctx{argument}"))
    for cell in cells:
        source = "".join(cell["source"]).replace(*change)
        cell["source"] = answer if "def induction_model(" in source else source
    made["cells"] = [{**cells[0], "id": "old", "source": old}, *cells]
    server = LocalServer()
    row = graded(json.dumps(made).encode(), replace(OPTIONS, exercises=("4.2",)), server)
    assert row["state"] == "ok" and len(server.jobs) == 2


def test_an_import_of_a_given_cell_is_what_the_notebook_makes_of_it():
    made = json.loads((ROOT / "exercises/01_attention_moves_information.ipynb").read_text(encoding="utf-8"))
    answer = (
        "def choice_attribution(terms, W_U, right, wrong):\n"
        "    return einsum('tbpd,bpd->tbp', terms, W_U.T[right] - W_U.T[wrong])"
    )
    for cell in made["cells"]:
        source = "".join(cell["source"]).replace("from einops import einsum", "from torch import einsum")
        cell["source"] = answer if "def choice_attribution(" in source else source
    server = LocalServer()
    row = graded(json.dumps(made).encode(), replace(OPTIONS, exercises=("1.3",)), server)
    assert row["state"] == "ok" and len(server.jobs) == 2


@pytest.mark.parametrize("line", ["import math, not_there_at_all", "import not_there_at_all as a, math, os.path"])
def test_what_is_imported_in_the_same_line_and_not_there_costs_nothing(line):
    server, row = run_once(line, OFFSET("-int(math.exp(0))"))
    assert row["state"] == "ok" and len(server.jobs) == 1


def test_a_helper_with_the_name_of_an_answer_of_another_chapter_names_no_chapter():
    cells = ("def entropy(p):\n    return 0", "for undone in (1, 2):\n    smear = undone", SCORE)
    row = graded(notebook(*cells, 'check("3.1", previous_token_score)'), replace(OPTIONS, exercises=()))
    assert {one["id"].partition(".")[0] for one in row["exercises"]} == {"3"}
    row = graded(notebook(*cells), replace(OPTIONS, exercises=()))  # nothing but names tells
    assert {one["id"].partition(".")[0] for one in row["exercises"]} > {"3"}
    row = graded(notebook(cells[1], SCORE), replace(OPTIONS, exercises=()))
    assert {one["id"].partition(".")[0] for one in row["exercises"]} == {"3"}


class SlowAtFirst(LocalServer):
    def __init__(self, *outcomes):
        super().__init__()
        self.outcomes = outcomes

    def run(self, job):
        if self.jobs:
            return super().run(job)
        self.jobs.append(job)
        return Reply("timeout", self.outcomes, "too slow")


@pytest.mark.parametrize("outcomes", [(), ((Outcome(failure=Failure(True, limit=5.0)),) * 2,)])
def test_an_answer_that_waits_for_what_was_left_out_gets_a_shorter_second_try(outcomes):
    waits = "def wait():\n    while not T: pass\n    return -1\n" + OFFSET("wait()")
    alone, filled = SlowAtFirst(*outcomes), SlowAtFirst(*outcomes)
    (one,) = graded(notebook("T = [1]", waits), server=alone)["exercises"]
    assert one["state"] == "timeout" and len(alone.jobs) == 1
    assert graded(notebook("T = []\ndef fill():\n    T.append(1)\nfill()", waits), server=filled)["state"] == "ok"
    first, second = filled.jobs
    assert second.setup_seconds == verdicts.SECOND_SECONDS < first.setup_seconds and first.seconds == second.seconds


def test_the_class_of_the_benchmark_is_run_once(tmp_path):
    assignment = make_assignment(SMALL, tmp_path)
    for number in range(12):
        data, server = notebook(assignment.setup, *assignment.handed_in(number)), LocalServer()
        states = [one["state"] for one in graded(data, replace(OPTIONS, exercises=SMALL), server)["exercises"]]
        assert len(server.jobs) == len(SMALL) - states.count("unattempted")
        assert states.count("ok") == assignment.score(number)


def test_no_wrong_answer_of_the_large_benchmark_has_a_second_try(tmp_path):
    assignment = make_assignment(large_ids(), tmp_path)
    data = notebook(assignment.setup, *(answer.wrong for answer in assignment.answers))
    parsed = read_notebook(data)
    assert not any(second_try(parsed, ALL[one], ALL, broken=False) for one in assignment.ids)
    spoil(tmp_path, 200)
    for file in tmp_path.glob("*.ipynb"):
        with suppress(InvalidNotebook):
            assert second_try(read_notebook(file.read_bytes()), ALL["3.1"], ALL, broken=False) == ()


def test_what_failed_first_is_what_the_row_tells():
    (one,) = graded(notebook("from my_utils_that_are_not_there import *", OFFSET("MISSING")))["exercises"]
    assert one["state"] == "error" and "my_utils_that_are_not_there" in one["message"]


def test_a_notebook_of_very_many_statements_gets_no_second_try():
    """Each exercise would look through all of them."""
    cells = ("T = [1]", "f(T)", OFFSET("T[0]"), "g = 1", 'check("3.1", g)')
    for count, is_tried in ((submission.MAX_STATEMENTS, False), (1_000, True)):
        made = read_notebook(notebook("0;" * count, *cells))
        assert bool(second_try(made, ALL["3.1"], ALL, broken=True)) == is_tried
        assert any(other_readings(made, ALL["3.1"], ALL)) == is_tried


@pytest.mark.parametrize("code", ["BIG = 0x" + "f" * 9000, "DEEP = " + "-" * 900 + "1", "x = 1\n" * 60_000])
def test_code_that_cannot_be_written_out_gets_no_second_try(code):
    (one,) = graded(notebook("T = [1]", code, "f(T, BIG, DEEP)", OFFSET("T[BIG if 0 else 0] + (DEEP if 0 else 0)")))[
        "exercises"
    ]
    assert one["state"] in ("wrong", "error")


def test_a_worker_that_cannot_be_had_for_the_second_try_is_the_grader_s_fault():
    class Once(LocalServer):
        def run(self, job):
            return super().run(job) if "try:" not in job.cells[-1] else Reply("grader_error", (), "no worker")

    row = graded(notebook("T = [1]\nf(T)", OFFSET("T[0]")), server=Once())
    assert (row["state"], row["score"]) == ("grader_error", None)


# --- a class ----------------------------------------------------------------------------------------------------


def test_a_class_has_a_row_for_each_and_the_same_bytes_again(tmp_path):
    folder, told = fill(tmp_path / "class"), []
    (folder / "grades.csv").write_text("a")
    summary, first = run_class(folder, tmp_path / "a", on_row=lambda *news: told.append(news))
    assert {name: row["state"] for name, row in results(tmp_path / "a").items()} == {
        "broken.ipynb": "invalid_notebook",
        "mutant.ipynb": "partial",
        "raises.ipynb": "error",
        "right.ipynb": "ok",
        "untouched.ipynb": "unattempted",
    }
    assert (summary.rows, summary.reused, summary.ignored) == (5, 0, ("grades.csv",))
    assert summary.states["ok"] == 1
    assert [(done, count) for _, done, count in told] == [(number, 5) for number in range(1, 6)]
    assert run_class(folder, tmp_path / "b", replace(OPTIONS, exercises=CHAPTER, parallel=1))[1] == first
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        ".lock",
        "journal.jsonl",
        "results.csv",
        "results.jsonl",
        "results.xml",
        "timings.jsonl",
    ]


def test_settings_of_this_process_are_put_back(tmp_path):
    before = gc.get_threshold(), torch.get_num_threads()
    inside = []

    def server(*given):
        inside.append((gc.get_threshold()[0], torch.get_num_threads()))
        return LocalServer(*given)

    run_class(fill(tmp_path / "in"), tmp_path / "out", make_server=server)
    assert inside == [(grade.GARBAGE, 1)]
    assert (gc.get_threshold(), torch.get_num_threads()) == before


def test_the_time_told_counts_the_search_for_submissions(tmp_path, monkeypatch):
    clock = [0.0]

    def slow(*more, **named):
        clock[0] += 7
        return find_all(*more, **named)

    monkeypatch.setattr(grade, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(grade, "find_all", slow)
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "junk.ipynb").write_text("{")
    assert run_class(tmp_path / "class", tmp_path / "out")[0].seconds == 7


def test_a_second_run_grades_nothing_and_a_changed_file_only_itself(tmp_path):
    folder, servers = fill(tmp_path / "class"), []

    def make(*given):
        servers.append(LocalServer(*given))
        return servers[-1]

    _, first = run_class(folder, tmp_path / "out", make_server=make)
    summary, second = run_class(folder, tmp_path / "out", make_server=make)
    assert second == first and summary.reused == 5 and not servers[1].jobs
    (folder / "raises.ipynb").write_bytes(notebook(SCORE))
    (folder / "same.ipynb").write_bytes((folder / "right.ipynb").read_bytes())
    run_class(folder, tmp_path / "out", make_server=make)
    assert [job.function for job in servers[2].jobs] == ["previous_token_score"]
    assert results(tmp_path / "out")["same.ipynb"]["state"] == "ok"
    assert run_class(folder, tmp_path / "out", make_server=make)[0].reused == 6
    run_class(folder, tmp_path / "out", replace(OPTIONS, exercises=CHAPTER, seed=6), make_server=make)
    assert len(servers[4].jobs) > 4  # other inputs


def test_a_changed_specification_grades_its_exercise_again_and_no_other(tmp_path, monkeypatch):
    folder, servers = fill(tmp_path / "class"), []

    def make(*given):
        servers.append(LocalServer(*given))
        return servers[-1]

    run_class(folder, tmp_path / "out", make_server=make)
    real = given.specification
    monkeypatch.setattr(rows, "specification", lambda task: real(task) + ("x" if task.id == "3.2" else ""))
    summary, _ = run_class(folder, tmp_path / "out", make_server=make)
    assert {job.function for job in servers[1].jobs} == {"previous_token_query_key"}
    assert summary.reused == 0  # every row names the new specification


def test_faults_of_the_grader_are_not_remembered(tmp_path):
    folder = fill(tmp_path / "class")

    class Faulty(LocalServer):
        def run(self, job):
            raise RuntimeError("no")

    run_class(folder, tmp_path / "out", make_server=Faulty)
    assert results(tmp_path / "out")["right.ipynb"]["state"] == "grader_error"
    assert run_class(folder, tmp_path / "out")[1] == run_class(folder, tmp_path / "other")[1]


def test_an_interrupt_leaves_what_is_done_and_the_next_run_ends_the_same(tmp_path):
    folder = fill(tmp_path / "class", 3)

    def stop(row, done, count):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_class(folder, tmp_path / "out", on_row=stop)
    assert not (tmp_path / "out" / "results.jsonl").exists()
    summary, interrupted = run_class(folder, tmp_path / "out")
    assert summary.reused == 7
    assert run_class(folder, tmp_path / "whole")[1] == interrupted


def test_a_kill_in_the_middle_and_a_torn_line_lose_nothing(tmp_path):
    folder, out = fill(tmp_path / "class", 12), tmp_path / "out"
    code = (
        "import sys, time; from pathlib import Path; from dataclasses import replace\n"
        "from test_grader_grade import run_class\n"
        "tell = lambda row, done, n: (print(done, flush=True), time.sleep(0.05))\n"
        "run_class(Path(sys.argv[1]), Path(sys.argv[2]), on_row=tell)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(out)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((".", "tests"))},
    )
    for line in process.stdout:
        if int(line) == 20:
            process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with open(out / "journal.jsonl", "ab") as file:
        file.write(b'\n01234567 {"row": {"submis')
    summary, resumed = run_class(folder, out)
    assert 20 <= summary.reused < 60
    assert run_class(folder, tmp_path / "whole")[1] == resumed


def test_two_graders_on_one_folder(tmp_path):
    folder = fill(tmp_path / "class")
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out" / ".lock"), pytest.raises(InUse, match="another grader is writing"):
        run_class(folder, tmp_path / "out")
    run_class(folder, tmp_path / "out")


def test_results_within_the_folder_of_submissions(tmp_path):
    folder = fill(tmp_path / "class")
    first = run_class(folder, folder / "results")[0]
    assert run_class(folder, folder / "results")[0].rows == first.rows == 5


def test_bad_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"9\.99"):
        run_class(tmp_path, tmp_path / "out", replace(OPTIONS, exercises=("9.99",)))
    with pytest.raises(ValueError, match="shard"):
        replace(OPTIONS, shard=(3, 2))
    with pytest.raises(ValueError, match="parallel"):
        replace(OPTIONS, parallel=0)


def test_too_little_isolation_is_refused_before_anything_runs(tmp_path):
    folder = fill(tmp_path / "class")
    with pytest.raises(
        TooLittleIsolation, match="landlock is required, but landlock is missing here; there is: limits"
    ):
        run_class(folder, tmp_path / "out", replace(OPTIONS, require="landlock"))
    assert not (tmp_path / "out" / "results.jsonl").exists()
    check_isolation(["limits", "landlock", "namespaces"], "namespaces")
    with pytest.raises(TooLittleIsolation, match="landlock is missing"):
        check_isolation(["limits", "namespaces"], "namespaces")
    with pytest.raises(ValueError, match="strong"):
        check_isolation([], "strong")


# --- shares -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shares(tmp_path):
    folder = fill(tmp_path / "class", 3)
    for number in (1, 2, 3):
        run_class(folder, tmp_path / f"out{number}", replace(OPTIONS, exercises=CHAPTER, shard=(number, 3)))
    return tmp_path


def test_shares_merge_into_the_very_bytes_of_one_run(shares):
    merge([shares / f"out{number}" for number in (3, 1, 2)], shares / "merged")
    run_class(shares / "class", shares / "whole")
    for name in ("results.jsonl", "results.csv", "results.xml"):
        assert (shares / "merged" / name).read_bytes() == (shares / "whole" / name).read_bytes()


def test_shares_in_one_folder(shares):
    for number in (1, 2, 3):
        run_class(shares / "class", shares / "out", replace(OPTIONS, exercises=CHAPTER, shard=(number, 3)))
    merge([shares / "out"], shares / "out")
    assert (shares / "out" / "results.jsonl").read_bytes() == run_class(shares / "class", shares / "whole")[1]


def test_shares_that_do_not_belong_together_are_refused(shares):
    parts = [shares / f"out{number}" for number in (1, 2, 3)]
    with pytest.raises(ValueError, match="missing: 2"):
        merge([parts[0], parts[2]], shares / "m")
    path = parts[1] / "part-2-of-3.jsonl"
    header, *lines = path.read_text().splitlines()
    record = json.loads(lines[0])

    def broken(words, *changed):
        path.write_text("\n".join(changed) + "\n")
        with pytest.raises(ValueError, match=words):
            merge(parts, shares / "m")
        assert not (shares / "m" / "results.jsonl").exists()

    broken("same seed", header.replace('"seed": 5', '"seed": 6'), *lines)
    broken("version of course_lib", header.replace('"package": "', '"package": "x'), *lines)
    broken("must begin with", *lines)
    broken("is broken at byte", header, lines[0][:-9])
    with_key = {**record, "keys": {"3.1": "another"}}
    broken("specification of exercise 3.1", header, json.dumps(with_key))
    stolen = json.loads((parts[0] / "part-1-of-3.jsonl").read_text().splitlines()[1])
    stolen["row"]["score"] = 100
    broken("differently", header, json.dumps(stolen))
    with pytest.raises(ValueError, match="--shard"):
        merge([shares / "class"], shares / "m")


# --- what is kept on disk ---------------------------------------------------------------------------------------


def test_a_store_gives_back_whole_records_only(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Store(path) as store:
        places = [store.add({"n": number, "text": "ä\n" * number}) for number in range(50)]
        assert store.read(places[7])["n"] == 7
    data = path.read_bytes()
    for cut in (1, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with Store(path) as store:
            whole = [record["n"] for _, record in store.places()]
            assert whole == list(range(len(whole)))
            store.add({"n": "after"})
            assert [record["n"] for _, record in store.places()] == [*whole, "after"]
    path.write_bytes(data.replace(b'"n": 7', b'"n": 8'))
    with Store(path) as store:
        assert [record["n"] for _, record in store.places()] == [n for n in range(50) if n != 7]
        with pytest.raises(OSError, match="cannot be read"):
            store.read(places[7])


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), written_whole(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_with_the_name_of_the_journal(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    with Store(path) as store:
        for write in (lambda *_: 3, lambda *_: os.pread(-1, 1, 0)):
            with monkeypatch.context() as patch:
                patch.setattr(os, "write", write)
                with pytest.raises(OSError) as caught:
                    store.add({"n": 1})
            assert caught.value.filename == str(path) and caught.value.strerror


def test_solutions_of_all_chapters_pass_at_once(tmp_path):
    """A notebook with the answers of several chapters, as one long script."""
    ids = ("0.1", "1.1", "2.2", "3.1", "5.2", "8.1", "9.1", "10.1", "11.2", "12.3")
    code = "\n# %%\n".join(solved(one) for one in ids)
    row = graded(code.encode(), replace(OPTIONS, exercises=ids))
    assert row["state"] == "ok", [one for one in row["exercises"] if one["state"] != "ok"]
