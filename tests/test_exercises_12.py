"""Exercises 12: right answers that are written differently pass, and the prompts keep what they promise."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import permutations
from statistics import mean

import numpy as np
import pytest
import torch

from course_lib.grading import load
from course_lib.grading.examine import PASSED, WRONG, examine
from course_lib.grading.report import make_report

EXERCISES = load.load_source(load.source_folder() / "12_weighing_the_evidence.md")


def table_by_loops(effect, margin):
    codes = torch.zeros(effect.shape[:2], dtype=torch.long)
    for argument, bar in enumerate(margin.tolist()):
        for column, cell in enumerate(effect[argument].tolist()):
            reached = [value >= bar for value in cell if not math.isnan(value)]
            if not reached:
                continue
            if all(reached):
                codes[argument, column] = 4 if len(reached) > 1 else 3
            else:
                codes[argument, column] = 2 if any(reached) else 1
    return codes


def interval_by_loops(first, second, seed):
    rng = np.random.default_rng(seed)
    groups = [losses.mean(dim=1).numpy().astype(float) for losses in (first, second)]
    differences = [
        rng.choice(groups[1], len(groups[1])).mean() - rng.choice(groups[0], len(groups[0])).mean() for _ in range(3000)
    ]
    return torch.tensor(np.percentile(differences, [2.5, 97.5]))


def p_from_all_orders(first, second):
    """Every order of the runs, in exact fractions: many orders stand for one way, equally many for each."""
    runs = [Fraction(value) for value in (*first.tolist(), *second.tolist())]
    n = len(first)

    def size(order):
        return abs(mean(order[:n]) - mean(order[n:]))

    sizes = [size(order) for order in permutations(runs)]
    return sum(value >= size(runs) for value in sizes) / len(sizes)


def p_by_masks(first, second):
    together, n = first.tolist() + second.tolist(), len(first)
    masks = [mask for mask in range(2 ** len(together)) if mask.bit_count() == n]

    def size(mask):
        chosen = [value for run, value in enumerate(together) if mask >> run & 1]
        return abs(sum(chosen) / n - (sum(together) - sum(chosen)) / len(second))

    return sum(size(mask) >= size(2**n - 1) for mask in masks) / len(masks)


@pytest.mark.parametrize(("exercise_id", "answer"), [("12.1", table_by_loops), ("12.3", p_by_masks)])
def test_an_answer_written_differently_passes(exercise_id, answer):
    for seed in range(3):
        verdict = examine(EXERCISES[exercise_id], answer, seed)
        assert verdict.state == PASSED, make_report(verdict)


def test_a_bootstrap_with_other_random_numbers_passes():
    verdict = examine(EXERCISES["12.2"], interval_by_loops)
    assert verdict.state == PASSED, make_report(verdict)


@pytest.mark.parametrize("seed", range(30))
def test_a_bootstrap_passes_with_any_seed_of_its_own(seed):
    answer = EXERCISES["12.2"].reference
    verdict = examine(EXERCISES["12.2"], lambda first, second, given: answer(first, second, given + 1000 * seed), seed)
    assert verdict.state == PASSED, make_report(verdict)


def test_a_narrow_interval_is_told_how_narrow_it_is():
    answer = EXERCISES["12.2"].reference

    def narrow(first, second, seed):
        ends = answer(first, second, seed)
        return ends.mean() + (ends - ends.mean()) / 5

    verdict = examine(EXERCISES["12.2"], narrow)
    assert verdict.state == WRONG
    assert "0.20 times as wide" in repr(make_report(verdict))


def test_the_p_value_is_that_of_all_orders():
    answer = EXERCISES["12.3"].reference
    for case in EXERCISES["12.3"].draw(0):
        if len(case.inputs["first"]) + len(case.inputs["second"]) <= 6:
            assert answer(**case.inputs) == pytest.approx(p_from_all_orders(**case.inputs))


def test_three_against_three_cannot_go_below_a_tenth():
    answer = EXERCISES["12.3"].reference
    assert answer(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1001.0, 1002.0, 1003.0])) == pytest.approx(0.1)
