"""Exercises of chapter 3, the previous-token head: what is special to them."""

from __future__ import annotations

import math

import pytest
import torch

from course_lib.grading import load
from course_lib.grading.examine import PASSED, WRONG, examine
from course_lib.grading.report import make_report


def rotated(pair, which):
    """The same head with another basis of its d_head coordinates; `which` names the side with d_head on the rows."""
    first, second = pair
    basis = torch.linalg.qr(torch.randn(first.shape[-1], first.shape[-1], generator=torch.Generator().manual_seed(0))).Q
    return first @ basis, (basis.T @ second if which == "output" else second @ basis)


@pytest.mark.parametrize(
    ("exercise_id", "change"),
    [
        ("3.2", lambda pair: (3 * pair[0], 5 * pair[1])),
        ("3.2", lambda pair: rotated(pair, "key")),
        ("3.2", lambda pair: (-pair[0], -pair[1])),
        ("3.3", lambda pair: (pair[0] / 4, pair[1] * 4)),
        ("3.3", lambda pair: rotated(pair, "output")),
    ],
)
def test_other_right_weights_pass(exercise_id, change):
    task = load.find(exercise_id)
    verdict = examine(task, lambda *inputs: change(task.reference(*inputs)))
    assert verdict.state == PASSED, make_report(verdict)


def test_the_shift_may_stand_in_the_key():
    def in_the_key(d_vocab, n_ctx):
        d_head = max(d_vocab, n_ctx)
        W_Q, W_K = torch.zeros(2, 3 * d_vocab + n_ctx, d_head)
        W_Q[3 * d_vocab :, :n_ctx] = 30 * math.sqrt(d_head) * torch.eye(n_ctx)
        W_K[3 * d_vocab :, :n_ctx] = torch.ones(n_ctx - 1).diag(1)  # the key at j says "I come before j + 1"
        return W_Q, W_K

    assert examine(load.find("3.2"), in_the_key).state == PASSED


def test_weak_attention_of_any_strength_is_named():
    task = load.find("3.2")
    verdict = examine(task, lambda *inputs: tuple(weight / math.sqrt(10) for weight in task.reference(*inputs)))
    assert verdict.state == WRONG
    assert "too flat" in verdict.diagnosis.sentence
