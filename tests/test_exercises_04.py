"""Exercises of chapter 4, the induction circuit: what is special to them."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import permutations

import pytest
import torch

from course_lib.composition import composition_score
from course_lib.grading import load
from course_lib.grading.examine import PASSED, examine
from course_lib.grading.report import make_report
from course_lib.handbuilt import induction_circuit


def rotated(pair):
    """The same head with another basis of its d_head coordinates."""
    size = pair[0].shape[-1]
    basis = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(0))).Q
    return tuple(weight @ basis for weight in pair)


@pytest.mark.parametrize("change", [lambda pair: (3 * pair[0], 5 * pair[1]), rotated])
def test_other_right_weights_pass(change):
    task = load.find("4.1")
    verdict = examine(task, lambda *inputs: change(task.reference(*inputs)))
    assert verdict.state == PASSED, make_report(verdict)


def test_a_sharper_circuit_passes_and_its_accuracy_is_one():
    task = load.find("4.2")

    def sharper(d_vocab, n_ctx):
        model = task.reference(d_vocab, n_ctx)
        for block in model.blocks:
            block.attn.W_Q *= 2
        model.W_U *= 7
        return model

    verdict = examine(task, sharper)
    assert verdict.state == PASSED
    for trial in verdict.trials:
        tokens, first = trial.case.held_out["tokens"], trial.case.held_out["first_known"]
        assert torch.equal(trial.compared[1], tokens[:, first + 1 :])  # every next token, from the second copy on


def test_the_courses_own_circuit_passes():
    assert examine(load.find("4.2"), induction_circuit).state == PASSED


def test_a_failing_circuit_shows_its_accuracy():
    task = load.find("4.2")
    mutant = next(mutant for mutant in task.mutants if mutant.name == "W_U forgotten")
    assert "Accuracy 0.00: 0 of 12 predictions are right" in repr(make_report(examine(task, mutant.function)))


def test_composition_agrees_with_the_course_library():
    W_A, W_B = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    table = load.find("4.3").reference(W_A, W_B)
    for a, b in ((0, 0), (1, 2), (2, 1)):
        assert table[a, b].item() == pytest.approx(composition_score(W_A[a], W_B[b]), rel=1e-5)


@pytest.mark.parametrize("length", [2, 3, 4, 5, 6])
def test_the_ceiling_is_what_counting_all_orders_gives(length):
    """The best guess from the current token and the counts so far, over every order of a segment."""
    orders = list(permutations(range(length)))
    ceiling = load.find("4.4").reference(length)
    for place in range(length - 1):
        groups = defaultdict(Counter)
        for order in orders:
            counts = Counter((*order, *order[: place + 1]))  # the first copy, and the second up to here
            groups[order[place], tuple(sorted(counts.items()))][order[place + 1]] += 1
        right = sum(max(followers.values()) for followers in groups.values())
        assert right / len(orders) == pytest.approx(ceiling[place].item())
