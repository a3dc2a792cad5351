"""Every exercise of `solutions/`: stubs are not attempted, answers pass, each mutant fails with its own sentence.

Exercises are found by reading the sources, so one that is added later is tested without a change here.
What is special to a chapter stands in `test_exercises_NN.py`, how often a mistake is named in `test_feedback_table.py`.
"""

from __future__ import annotations

import ast
import re
from time import perf_counter

import pytest
import torch

from course_lib.grading import hint, load, values
from course_lib.grading import notebook as front
from course_lib.grading.examine import NOT_ATTEMPTED, PASSED, WRONG, examine
from course_lib.grading.report import make_report
from course_lib.grading.run import standard_state
from course_lib.grading.source import CodeCell, code_cells
from tools import feedback_table
from tools.remember import remembered
from tools.wrong_answers import WRONG_ANSWERS

SOURCES = sorted(load.source_folder().glob("*.md"))
IDS = load.index(load.source_folder())
N_SEEDS, N_SEEDS_OF_MUTANTS = 50, 5
LIMIT, SHARE_OF_LIMIT = 5.0, 0.2  # seconds a call where the exercise says nothing; what its own answer may take of it
UNCHECKED = pytest.mark.usefixtures("unchecked")  # as in a learner's notebook; twice as fast
EACH_EXERCISE = pytest.mark.parametrize("exercise_id", IDS)
EACH_SOURCE = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)


def with_answers_cut(cell: CodeCell) -> str:
    """What the exercise notebook holds; written here a second time, so that a wrong cut there is noticed."""
    return re.sub(
        r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION",
        r'\1raise NotImplementedError("your code here")',
        cell.code,
        flags=re.DOTALL | re.MULTILINE,
    )


def run_notebook(codes: list[str]) -> dict:
    namespace = {"__name__": "__main__"}
    for number, code in enumerate(codes):
        exec(compile(code, f"cell {number}", "exec"), namespace)
    return namespace


# --- the two notebooks of a source ------------------------------------------------------------------------------


def test_there_are_exercises():
    assert len(IDS) >= 7


@EACH_SOURCE
def test_the_untouched_exercise_notebook_runs_and_every_check_says_not_attempted(path, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_STRICT", "not_attempted")
    monkeypatch.setattr(load, "_in_this_notebook", {})
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in code_cells(path.read_text()) if not cell.tags & {"spec", "solution-only"}]
    run_notebook([with_answers_cut(cell) for cell in cells])


@EACH_SOURCE
def test_the_solution_notebook_runs_and_every_check_passes(path, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_STRICT", "passed")
    monkeypatch.setattr(load, "_in_this_notebook", {})
    monkeypatch.chdir(tmp_path)
    run_notebook([cell.code for cell in code_cells(path.read_text())])
    assert set(load._in_this_notebook) == {exercise_id for exercise_id in IDS if IDS[exercise_id] == path}


@EACH_SOURCE
def test_every_exercise_has_a_heading_an_answer_and_one_check(path):
    text = path.read_text()
    cells = code_cells(text)
    for exercise_id in (exercise_id for exercise_id in IDS if IDS[exercise_id] == path):
        task = load.find(exercise_id)
        assert f"\n## {exercise_id} {task.title}\n" in text
        assert f"*Difficulty {task.difficulty} of 5, about {task.minutes} minutes.*" in text
        name = task.reference.__name__
        assert [f'check("{exercise_id}", {name})'] == re.findall(rf'check\("{re.escape(exercise_id)}", .*\)', text)
        answers = [cell for cell in cells if "answer" in cell.tags and f"def {name}(" in cell.code]
        assert len(answers) == 1
        assert answers[0].code.count("### BEGIN SOLUTION") == answers[0].code.count("### END SOLUTION") == 1
        assert ast.get_docstring(ast.parse(answers[0].code).body[0])


@EACH_SOURCE
def test_an_open_question_has_room_for_an_answer_and_a_collapsed_model_answer(path):
    sections = re.split(r"^## ", path.read_text(), flags=re.MULTILINE)[1:]
    for section in (section for section in sections if "open question" in section.splitlines()[0].lower()):
        assert re.match(r"Open question: \S.*\n\n\*Open question, about \d+ minutes, no points\.\*\n\n\S", section)
        question, own_cell, after = section.partition("\n+++\n\n*Your answer:*\n\n+++\n\n")
        assert own_cell, f"no cell of its own for the learner's answer: {section.splitlines()[0]}"
        assert re.match(r"(`{3,}|:{3,})\{admonition\} Model answer\n:class: dropdown\n", after)
        assert "check(" not in section and "Model answer" not in question


@EACH_SOURCE
def test_jupytext_reads_the_same_cells(path):
    jupytext = pytest.importorskip("jupytext")
    notebook = jupytext.read(path)
    theirs = [cell for cell in notebook.cells if cell.cell_type == "code"]
    ours = code_cells(path.read_text())
    assert [cell.source.strip() for cell in theirs] == [cell.code.strip() for cell in ours]
    assert [set(cell.metadata.get("tags", [])) for cell in theirs] == [set(cell.tags) for cell in ours]


# --- answers and mutants ----------------------------------------------------------------------------------------


@EACH_EXERCISE
def test_the_stub_is_not_attempted(exercise_id):
    task, cells = load.find(exercise_id), code_cells(IDS[exercise_id].read_text())
    name = task.reference.__name__
    namespace = dict(task.reference.__globals__)
    cell = next(cell for cell in cells if "answer" in cell.tags and f"def {name}(" in cell.code)
    exec(compile(with_answers_cut(cell), "stub", "exec"), namespace)
    assert examine(task, namespace[name]).state == NOT_ATTEMPTED


@UNCHECKED
@EACH_EXERCISE
def test_the_answer_passes_on_many_seeds(exercise_id):
    task = load.find(exercise_id)
    for seed in range(N_SEEDS):
        verdict = examine(task, task.reference, seed)
        assert verdict.state == PASSED, make_report(verdict)


@EACH_EXERCISE
def test_the_answer_passes_on_two_threads(exercise_id):
    task, before = load.find(exercise_id), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert examine(task, task.reference).state == PASSED
    finally:
        torch.set_num_threads(before)


@EACH_EXERCISE
def test_the_answer_needs_little_of_the_time_that_a_learner_has(exercise_id):
    task = load.find(exercise_id)
    for case in task.draw(0):
        seconds = min(seconds_of(task.reference, case.inputs.values()) for _ in range(2))  # the first call may load
        assert seconds < SHARE_OF_LIMIT * getattr(task, "seconds", LIMIT), case.description


def seconds_of(function, inputs) -> float:
    given = values.clone(list(inputs))
    with standard_state():
        started = perf_counter()
        function(*given)
        return perf_counter() - started


MUTANTS = [(exercise_id, mutant.name) for exercise_id in IDS for mutant in load.find(exercise_id).mutants]


@UNCHECKED
@pytest.mark.parametrize(("exercise_id", "name"), MUTANTS)
def test_every_mutant_fails_with_its_own_sentence(exercise_id, name):
    mutant = next(mutant for mutant in load.find(exercise_id).mutants if mutant.name == name)
    for seed in range(N_SEEDS_OF_MUTANTS):
        verdict = examine(remembered(exercise_id), mutant.function, seed)
        assert verdict.state == WRONG
        assert verdict.diagnosis.name == name
    report = make_report(verdict)
    assert mutant.sentence in repr(report)
    assert report._repr_html_().count("<svg") in (0, 2, 3)


@EACH_EXERCISE
def test_an_exercise_is_worth_its_place(exercise_id):
    task = load.find(exercise_id)
    assert len(task.mutants) >= 4
    sentences = [mutant.sentence for mutant in task.mutants]
    assert len(set(sentences)) == len(sentences)
    assert all(len(sentence) > 40 for sentence in sentences)
    assert len(set(task.hints)) == 3
    assert len(task.next_step) > 20
    assert len(task.draw(0)) >= 2
    assert len({case.description for case in task.draw(0)}) == len(task.draw(0))


@EACH_EXERCISE
def test_hints_are_shown(exercise_id, monkeypatch):
    monkeypatch.setattr(front, "_hints_given", {})
    assert [hint(exercise_id).text for _ in range(3)] == list(load.find(exercise_id).hints)


# --- answers that are wrong in general ways ---------------------------------------------------------------------


@UNCHECKED
@EACH_EXERCISE
def test_general_mistakes_get_the_right_state_and_a_message(exercise_id):
    trials = feedback_table.row(exercise_id).trials
    assert [trial.mistake for trial in trials] == [wrong.name for wrong in WRONG_ANSWERS]
    states = {trial.mistake: trial.report.state for trial in trials}
    assert states == {trial.mistake: trial.wanted for trial in trials}
    for trial in trials:
        assert len(trial.report.points) >= 2
        assert repr(trial.report) and trial.report._repr_html_()
