"""How often the checks name a mistake: the goals of the page feedback.md, and that the page shows what is counted."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import IPython.display
import pytest
import torch

from course_lib.grading import Case, Exercise, Measure, Mutant, load
from course_lib.grading.source import code_cells
from tools import feedback_table
from tools.feedback_table import Row, Trial, by_mistake, mutant_share, named_share, percent, rows, table
from tools.remember import remembering
from tools.wrong_answers import WRONG_ANSWERS, is_wrong

PAGE = Path(__file__).resolve().parent.parent / "feedback.md"
pytestmark = pytest.mark.usefixtures("unchecked")


def test_every_mutant_is_named():
    assert mutant_share(rows()) == 1.0, [(row.id, row.unnamed_mutants) for row in rows() if row.unnamed_mutants]


def test_nine_of_ten_general_mistakes_are_named():
    assert named_share(rows()) >= 0.9, table()


def test_every_mistake_is_wrong_somewhere_and_named_more_often_than_not():
    for wrong in WRONG_ANSWERS:
        tried = [trial.named for row in rows() for trial in row.tried if trial.mistake == wrong.name]
        assert tried and sum(tried) > 0.5 * len(tried), wrong.name


def test_the_table_has_a_line_for_each_exercise_and_adds_up():
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table().splitlines()[2:]]
    *each, total = lines
    assert [line[0].split()[0] for line in each] == [row.id for row in rows()]
    assert {row.id for row in rows()} == set(load.index(load.source_folder()))
    assert total[0] == f"**{len(each)} exercises**"
    for column in (1, 3):
        assert int(total[column]) == sum(int(line[column]) for line in each)
    assert total[4] == percent(named_share(rows()))
    missed = [name for line in each for name in line[5].split(", ") if name]
    tried = sum(int(line[3]) for line in each)
    assert total[4] == percent(1 - len(missed) / tried)


def test_shares_are_rounded_down_and_zero_is_counted():
    trial = Trial("negative", True, "wrong", None, False, False)
    row = Row("9.1", "Toy", 200, ("one",), (trial, replace(trial, named=True), replace(trial, changes_something=False)))
    assert "| 9.1 Toy | 200 | 99 % | 2 | 50 % | one, negative |" in table([row])
    assert "| negative | 2 | 50 % |" in by_mistake([row])


def test_the_page_shows_what_the_code_counts(monkeypatch):
    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda thing: shown.append(thing.data))
    namespace = {}
    for cell in code_cells(PAGE.read_text(encoding="utf-8")):
        exec(cell.code, namespace)
    assert shown[:2] == [table(), by_mistake()]
    prose = re.sub(r"```.*?```", "", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert set(re.findall(r"\d+ %", prose)) == {"100 %", "90 %"}  # the goals; nothing that was counted is typed


# --- the tools themselves -----------------------------------------------------------------------------------------


def toy(**changes) -> Exercise:
    specification = dict(
        id="99.1",
        title="Twice",
        reference=lambda x: 2 * x,
        difficulty=1,
        minutes=5,
        cases=lambda generator: [
            Case(f"{n} rows", dict(x=torch.randn(n, 3, generator=generator) + 0.1)) for n in (2, 4, 5)
        ],
        mutants=[Mutant(str(n), "A sentence.", lambda x, n=n: n * x) for n in (3, 4, 5, 6)],
        hints=("a", "b", "c"),
        next_step="Onwards.",
    )
    return Exercise(**{**specification, **changes})


def test_an_exercise_with_a_memory_computes_once_and_gives_copies():
    calls = []

    def reference(x):
        calls.append(x)
        return 2 * x

    task = remembering(toy(reference=reference, measure=Measure("sum", lambda result, inputs: result.sum())))
    x = torch.ones(2, 3)
    first = task.reference(x)
    first.zero_()
    assert torch.equal(task.reference(x.clone()), 2 * x)
    assert torch.equal(task.reference(x.double()), 2 * x.double())
    assert torch.equal(task.reference(x.T), 2 * x.T)
    assert len(calls) == 3
    assert task.draw(1)[0] is task.draw(1)[0] is not task.draw(0)[0]


def test_an_error_is_remembered_as_an_error():
    task = remembering(toy(reference=lambda x: x[7]))
    for _ in range(2):
        with pytest.raises(IndexError):
            task.reference(torch.ones(2))


@pytest.mark.parametrize(
    "wrong", [wrong for wrong in WRONG_ANSWERS if wrong.seconds is None], ids=lambda wrong: wrong.name
)
def test_each_general_mistake_is_one(wrong):
    task = toy()
    cases = task.draw(0)
    assert is_wrong(task, wrong.make(task, cases), cases)


def test_a_mistake_that_changes_nothing_is_none():
    symmetric = [Case("symmetric", dict(x=torch.eye(3)))]
    task = toy(cases=lambda generator: symmetric)
    tried = [wrong for wrong in WRONG_ANSWERS if wrong.seconds is None]
    harmless = {wrong.name for wrong in tried if not is_wrong(task, wrong.make(task, symmetric), symmetric)}
    assert harmless == {"transposed", "zeros but in the first case", "raises but in the first case"}
    assert not is_wrong(task, task.reference, symmetric)


def test_named_means_that_the_report_says_it():
    trials = {wrong.name: feedback_table._try(remembering(toy()), wrong) for wrong in WRONG_ANSWERS}
    assert [name for name, trial in trials.items() if trial.report.state != trial.wanted] == []
    assert [name for name, trial in trials.items() if not trial.named] == []
