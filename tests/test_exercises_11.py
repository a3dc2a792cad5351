"""Exercises 11: agreement with the course's own functions, and right answers that are written in another way."""

import math
from itertools import combinations

import pytest
import torch
from random_models import random_model

from course_lib.adapters import CourseModel
from course_lib.checkpoints import spaced_steps
from course_lib.data import repeated_tokens
from course_lib.evaluate import all_head_scores
from course_lib.grading import load
from course_lib.grading.examine import PASSED, WRONG, examine
from course_lib.grading.report import make_report
from course_lib.handbuilt import induction_circuit
from course_lib.pretrained import PYTHIA_STEPS
from course_lib.scores import prefix_matching_score

EXERCISES = load.load_source(load.source_folder() / "11_from_small_to_large.md")
TOKENS_A_STEP = 2_097_152


def reference(exercise_id):
    return EXERCISES[exercise_id].reference


def loop_scores(model, segments, repeats, start_token):
    length, start = segments.shape[1], 0 if start_token is None else 1
    rows = [([] if start_token is None else [start_token]) + row * repeats for row in segments.tolist()]
    pattern = model.patterns(torch.tensor(rows))
    queries = range(start + length, len(rows[0]))
    total = 0
    for q in queries:
        for key in range(q - length + 1, start, -length):
            total = total + pattern[:, :, :, q, key].sum(dim=1)
    return total / (len(queries) * len(rows))


def solved_speed(tokens, losses, start, end):
    slopes = []
    for keep in ((tokens > 0) & (tokens <= start), tokens >= end):
        x = torch.log(tokens[keep])
        design = torch.stack([x, torch.ones_like(x)], dim=1)
        slopes.append(torch.linalg.lstsq(design, losses[:, keep].mT).solution[0])
    return torch.stack(slopes)


def loop_agreement(speed):
    found = []
    for now, then in zip(speed.tolist()[:-1], speed.tolist()[1:], strict=True):
        pairs = list(combinations(range(len(now)), 2))
        balance = 0
        for a, b in pairs:
            product = (now[a] - now[b]) * (then[a] - then[b])
            balance += (product > 0) - (product < 0)
        found.append(balance / len(pairs))
    return torch.tensor(found)


def loop_sizes(n_parameters, scores):
    means, variances = [], []
    for of_size in scores:
        values = of_size.tolist()
        mean = sum(values) / len(values)
        means.append(mean)
        variances.append(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    center, x = sum(means) / len(means), [math.log(n) for n in n_parameters.tolist()]
    x_center = sum(x) / len(x)
    slope = sum((a - x_center) * (m - center) for a, m in zip(x, means, strict=True))
    slope /= sum((a - x_center) ** 2 for a in x)
    spread = math.sqrt(sum((m - center) ** 2 for m in means) / (len(means) - 1))
    return torch.tensor([center, spread, slope, math.sqrt(sum(variances) / len(variances))], dtype=torch.float64)


def loop_checkpoints(count, first, last):
    rows = []
    for i in range(count):
        target = first * (last / first) ** (i / (count - 1))
        step = min(PYTHIA_STEPS[1:], key=lambda step: abs(math.log(step * TOKENS_A_STEP / target)))
        if [step, step * TOKENS_A_STEP] not in rows:
            rows.append([step, step * TOKENS_A_STEP])
    return torch.tensor(rows)


@pytest.mark.parametrize(
    ("exercise_id", "other"),
    [
        ("11.1", loop_scores),
        ("11.2", solved_speed),
        ("11.3", loop_agreement),
        ("11.4", loop_sizes),
        ("11.5", loop_checkpoints),
    ],
)
def test_an_answer_written_otherwise_passes(exercise_id, other):
    for seed in range(5):
        verdict = examine(EXERCISES[exercise_id], other, seed)
        assert verdict.state == PASSED, make_report(verdict)


@pytest.mark.parametrize("architecture", ["gpt2", "neox"])
def test_head_scores_agree_with_the_course_library(architecture):
    model = random_model(architecture, n_ctx=13, d_vocab=9).float()
    segments = torch.tensor([[3, 1, 4, 2], [5, 6, 2, 8]])
    tokens = torch.cat([torch.zeros(2, 1, dtype=torch.long), segments.repeat(1, 3)], dim=1)
    ours = reference("11.1")(CourseModel(model), segments, 3, 0)
    torch.testing.assert_close(ours, prefix_matching_score(CourseModel(model).patterns(tokens), tokens))
    table = all_head_scores(model, tokens).query("score == 'prefix_matching'")["value"]
    assert ours.flatten().tolist() == pytest.approx(table.tolist(), rel=1e-4)


def test_the_circuit_needs_the_start_token():
    model = CourseModel(induction_circuit(7, 13))
    segments = repeated_tokens(3, 4, 1, 7, torch.Generator().manual_seed(0))[:, 1:]
    with_start, without = (reference("11.1")(model, segments, 3, start)[1, 0].item() for start in (0, None))
    assert with_start == pytest.approx(1.0, abs=1e-3)
    assert without < 0.95


def test_agreement_of_known_orders():
    speed = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert reference("11.3")(speed).tolist() == [1.0, -1.0]


def test_the_ten_checkpoints_are_those_of_the_chapter():
    rows = reference("11.5")(9, TOKENS_A_STEP, 143_000 * TOKENS_A_STEP)
    assert [0, *rows[:, 0].tolist()] == spaced_steps(PYTHIA_STEPS, 10)
    assert (rows[:, 1] == rows[:, 0] * TOKENS_A_STEP).all()


def test_float_tokens_are_told_apart_from_integers():
    verdict = examine(EXERCISES["11.5"], lambda *inputs: reference("11.5")(*inputs).double())
    assert verdict.state == WRONG
    assert "int64" in repr(make_report(verdict))
