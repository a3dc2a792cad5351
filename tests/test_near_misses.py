"""Answers close to the published one: those with a rule left out are wrong, those in another precision are right."""

from __future__ import annotations

import pytest
import torch

from course_lib.grading import load
from course_lib.grading.diagnose import GENERAL, diagnose
from course_lib.grading.examine import ERROR, PASSED, WRONG, _difference, examine
from course_lib.grading.pages import answer_of
from course_lib.grading.report import make_report

SEEDS = range(5)
WRONG_EDITS = {  # exercise and what is left out: (published lines, lines instead)
    "3.2 the vocabulary in d_head": ("max(d_vocab, n_ctx)", "n_ctx"),
    "4.1 the vocabulary in d_head": ("max(d_vocab, n_ctx)", "n_ctx"),
    "4.2 columns of the positions": ('where["position"], :n_ctx]', 'where["position"]]'),
    "5.1 the seed": ("torch.Generator().manual_seed(seed)", "None"),
    "5.1 a random order": (
        "order[:, :max_length] + 1",
        "(order[:, :1] + torch.arange(max_length)) % (d_vocab - 1) + 1",
    ),
    "5.1 a segment for every row": (
        "order[:, :max_length] + 1",
        "order[: batch // 4].repeat(4, 1)[:, :max_length] + 1",
    ),
    "5.2 token 0, as any other": ("copies.any(dim=-1)", "(copies & (tokens != 0)[:, :, None]).any(dim=-1)"),
    "5.4 the threshold last": (
        "5, label)\n    return torch.where(strength >= threshold, label, 0)",
        "5, torch.where(strength >= threshold, label, 0))\n    return label",
    ),
    "6.4 its three arguments": ("half = smooth // 2", "smooth, share, min_drop = 3, 0.3, 0.05\n    half = 1"),
    "6.4 the least to fall": ("half = smooth // 2", "min_drop = 0.05\n    half = smooth // 2"),
    "6.4 the sign of the slope": ("int(slope.argmin())", "int(slope.abs().argmax())"),
    "6.4 smoothing in the last rule": ("smoothed[start] - smoothed[end] <", "icl[start] - icl[end] <"),
    "6.4 the end of the last step": ("smoothed[start] - smoothed[end] <", "smoothed[start] - smoothed[last] <"),
    "7.3 the level": ("def crossing(", "level = 0.5\n\n    def crossing("),
    "8.6 rows in any order": (
        "effect[single_rows] @ removed[single_rows].to(losses.dtype)",
        "removed[single_rows].to(losses.dtype) @ effect[single_rows]",
    ),
    "9.2 lines of both kinds before": ("same.any(dim=-1) & other.any(dim=-1)", "same.any(dim=-1)"),
    "10.7 queries of all sequences together": (
        "return apart.movedim(-1, 1)[has_target].mean(dim=0)",
        "return torch.stack([a[..., has].mean(dim=-1) for a, has in zip(apart, has_target)]).mean(dim=0)",
    ),
    "12.1 effects of zero": ("(~effect.isnan())", "(effect.nan_to_num(0.0) != 0)"),
    "12.2 the seed": ("torch.Generator().manual_seed(seed)", "None"),
    "12.2 examples that stay together": (
        "of_run[drawn].mean(dim=1)",
        "torch.stack([losses[runs][:, torch.randint(losses.shape[1], (losses.shape[1],))].mean() for runs in drawn])",
    ),
}


def edited(exercise_id: str, old: str, new: str):
    """The published answer with some of its lines changed."""
    task = load.find(exercise_id)
    code = answer_of(load.index(load.source_folder())[exercise_id].read_text(encoding="utf-8"), exercise_id)
    assert old in code
    namespace = dict(task.reference.__globals__)
    exec(code.replace(old, new), namespace)
    return namespace[task.reference.__name__]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", WRONG_EDITS)
def test_an_answer_without_one_rule_does_not_pass(name):
    exercise_id = name.split()[0]
    answer = edited(exercise_id, *WRONG_EDITS[name])
    for seed in SEEDS:
        assert examine(load.find(exercise_id), answer, seed).state in (WRONG, ERROR)


@pytest.mark.parametrize("exercise_id", ["3.2", "3.3", "4.1"])
def test_matrices_built_in_float64_pass(exercise_id):
    reference = load.find(exercise_id).reference
    both = examine(load.find(exercise_id), lambda *sizes: tuple(matrix.double() for matrix in reference(*sizes)))
    one = examine(load.find(exercise_id), lambda *sizes: (reference(*sizes)[0].double(), reference(*sizes)[1]))
    assert both.state == one.state == PASSED


def test_a_slope_in_float32_passes():
    answer = edited("11.2", "tokens[chosen].log()", "tokens[chosen].float().log()")
    in_float32 = edited("11.2", "losses[:, chosen] @ x", "losses[:, chosen].float() @ x.float()")
    for seed in SEEDS:
        for each in (lambda tokens, losses, *ends: answer(tokens, losses.float(), *ends), in_float32):
            assert examine(load.find("11.2"), each, seed).state == PASSED


def test_a_value_for_each_row_instead_of_one_number_is_reported():
    """A picture cannot be drawn of a number."""
    verdict = examine(load.find("5.5"), lambda tokens: torch.ones(len(tokens)))
    report = make_report(verdict)
    assert verdict.state == WRONG and not report.drawing and "too many" in repr(report)


def test_right_numbers_of_another_kind_are_called_right():
    verdict = examine(load.find("5.4"), lambda *inputs: load.find("5.4").reference(*inputs).float())
    assert "The numbers are right" in verdict.diagnosis.sentence
    assert ".long()" in repr(make_report(verdict))


def test_a_mutant_that_fails_where_the_answer_is_right_explains_nothing():
    """A threshold of its own is right where it is the one asked for; "above the threshold" is wrong there."""
    reference = load.find("5.4").reference
    verdict = examine(load.find("5.4"), lambda scores, copying, threshold: reference(scores, copying, 0.5))
    differing = [_difference(trial) for trial in verdict.trials if trial.differs]
    passed = [trial.case for trial in verdict.trials if trial.passed]
    assert diagnose(load.find("5.4"), differing).name != GENERAL and passed
    assert diagnose(load.find("5.4"), differing, passed) is None
    assert verdict.diagnosis.sentence.startswith("Right on case") and not verdict.diagnosis.names_a_change
    assert "report.inputs" in repr(make_report(verdict))  # where a change is named, that is what comes next


def test_another_configuration_names_what_differs():
    reference = load.find("4.2").reference
    report = repr(make_report(examine(load.find("4.2"), lambda d_vocab, n_ctx: reference(d_vocab, n_ctx + 1))))
    assert "n_ctx is" in report and "ModelConfig(" not in report
