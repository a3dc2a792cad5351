"""Exercises of chapter 6: agreement with `course_lib`, right answers written otherwise, promises of the prompts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from course_lib import icl, trajectory
from course_lib.grading import load
from course_lib.grading.examine import PASSED, WRONG, examine
from course_lib.grading.report import make_report

PATH = load.source_folder() / "06_phase_change.md"
SEEDS = range(5)


@pytest.fixture(scope="module")
def tasks():
    return load.load_source(PATH)


def drawn(task, seeds=SEEDS):
    return [tuple(case.inputs.values()) for seed in seeds for case in task.draw(seed)]


def passes(task, answer):
    for seed in SEEDS:
        verdict = examine(task, answer, seed)
        assert verdict.state == PASSED, make_report(verdict)


# --- right answers, written otherwise ----------------------------------------------------------------------------


def icl_score_in_loops(losses, early, late):
    scores = []
    for snapshot in losses:
        differences = [(example[late - 1] - example[early - 1]).item() for example in snapshot]
        scores.append(sum(differences) / len(differences))
    return torch.tensor(scores)


def windows_by_index(losses, early, late, window):
    around = torch.arange(-window - 1, window)
    return (losses[:, :, late + around] - losses[:, :, early + around]).mean(dim=(1, 2))


def slope_by_lstsq(losses):
    n_snapshots, n_examples, n = losses.shape
    x = torch.tensor([math.log(index) for index in range(1, n + 1)], dtype=torch.float64)
    rows = torch.stack([torch.ones(n), x], dim=1)  # every example is fitted, then the slopes are averaged
    found = torch.linalg.lstsq(rows, losses.reshape(-1, n).double().T).solution[1]
    return found.reshape(n_snapshots, n_examples).mean(dim=1)


def window_in_loops(tokens, icl, smooth, share, min_drop):
    n, half = len(icl), smooth // 2
    smoothed = [
        sum(icl[min(max(i + shift, 0), n - 1)].item() for shift in range(-half, half + 1)) / smooth for i in range(n)
    ]
    slopes = [(smoothed[i + 1] - smoothed[i]) / (tokens[i + 1] - tokens[i]).item() for i in range(n - 1)]
    smallest = min(slopes)
    first = slopes.index(smallest)
    end = first + 1
    while first and slopes[first - 1] <= share * smallest:
        first -= 1
    while end < n - 1 and slopes[end] <= share * smallest:
        end += 1
    if smoothed[first] - smoothed[end] < min_drop:
        return torch.tensor([math.nan, math.nan])
    return torch.tensor([tokens[first].item(), tokens[end].item()])


def derivative_in_loops(loss, edges):
    rows = []
    for snapshot in loss:
        means, places = [], []
        for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            means.append(sum(snapshot[index - 1].item() for index in range(a, b)) / (b - a))
            places.append(sum(math.log(index) for index in range(a, b)) / (b - a))
        rows.append(np.diff(means) / np.diff(places))
    return torch.tensor(np.array(rows))


def path_by_eigenvectors(losses, components):
    centred = losses - losses.mean(dim=0, keepdim=True)
    _, directions = torch.linalg.eigh(centred.T @ centred)
    return torch.einsum("st,tc->sc", centred, directions.flip(1)[:, :components])


def path_by_left_vectors(losses, components):
    U, S, _ = torch.linalg.svd(losses - losses.mean(dim=0), full_matrices=False)
    return -(U * S)[:, :components]


def gain_without_loops(tokens, before, after):
    pos = tokens.shape[1]
    same = (tokens[:, :, None] == tokens[:, None, :]).tril(-1)  # batch, query, earlier copy
    latest = torch.where(same, torch.arange(pos), -1).amax(dim=2)[:, :-1]
    guess = torch.where(latest < 0, -1, tokens.gather(1, latest.clamp(min=0) + 1))
    right = guess == tokens[:, 1:]
    change = after - before
    return torch.stack([(change * mask).sum() / mask.sum() for mask in (right, ~right)])


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("6.1", icl_score_in_loops),
        ("6.2", windows_by_index),
        ("6.3", slope_by_lstsq),
        ("6.4", window_in_loops),
        ("6.5", derivative_in_loops),
        ("6.6", path_by_eigenvectors),
        ("6.6", path_by_left_vectors),
        ("6.7", gain_without_loops),
    ],
)
def test_another_right_answer_passes(tasks, exercise_id, answer):
    passes(tasks[exercise_id], answer)


# --- agreement with course_lib -----------------------------------------------------------------------------------


def test_scores_and_slope_agree_with_the_library(tasks):
    losses = 5 + torch.randn(3, 4, 40, generator=torch.Generator().manual_seed(0))
    for task, theirs, options in (
        ("6.1", icl.icl_score, dict(early=5, late=30)),
        ("6.2", icl.icl_score, dict(early=5, late=30, window=4)),
        ("6.3", icl.index_slope, {}),
    ):
        torch.testing.assert_close(tasks[task].reference(losses, **options), theirs(losses, **options))


def test_a_window_between_given_tokens_agrees_with_the_library(tasks):
    losses = 5 + torch.randn(3, 4, 40, generator=torch.Generator().manual_seed(0))
    theirs = icl.windowed_icl_score(losses, (3, 9), (27, 33))
    torch.testing.assert_close(tasks["6.2"].reference(losses, early=6, late=30, window=3), theirs)


def test_the_window_agrees_with_the_library(tasks):
    for tokens, scores, smooth, share, min_drop in drawn(tasks["6.4"]):
        ours = tasks["6.4"].reference(tokens, scores, smooth, share, min_drop)
        theirs = trajectory.phase_change_window(tokens.numpy(), scores.numpy(), smooth, share, min_drop)
        if theirs is None:  # the library also compares the fall with the noise, which is small here
            assert ours.isnan().all()
        else:
            assert ours.tolist() == list(theirs)


def test_a_share_of_the_drawn_runs_has_a_window(tasks):
    task = tasks["6.4"]
    found = [not task.reference(*inputs).isnan().any() for inputs in drawn(task)]
    assert 0 < sum(found) < len(found)


def test_the_derivative_agrees_with_the_library(tasks):
    loss = 5 + torch.randn(2, 200, generator=torch.Generator().manual_seed(0))
    index = torch.arange(1, 201).float()
    starts = icl.log_bins(index, 9).argmax(dim=1) + 1  # the first token of each bin
    edges = torch.cat([starts, torch.tensor([201])])
    _, theirs = icl.log_derivative(index, loss, 9)
    torch.testing.assert_close(tasks["6.5"].reference(loss, edges), theirs, rtol=1e-4, atol=1e-4)


def test_the_derivative_of_a_line_in_ln_index_is_its_slope(tasks):
    loss = 5 - 0.3 * torch.arange(1, 65).log()[None]
    found = tasks["6.5"].reference(loss, torch.tensor([1, 2, 5, 6, 30, 65]))
    torch.testing.assert_close(found, torch.full((1, 4), -0.3), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(tasks["6.3"].reference(loss[None]), torch.tensor([-0.3]), rtol=1e-4, atol=1e-4)


def test_the_path_agrees_with_the_library_up_to_sign(tasks):
    for losses, components in drawn(tasks["6.6"]):
        ours = tasks["6.6"].reference(losses, components)
        theirs = trajectory.pca_trajectories({"model": losses}, components).coordinates["model"]
        torch.testing.assert_close(ours.abs(), theirs.abs().float(), rtol=1e-3, atol=1e-3)


# --- what the prompts promise ------------------------------------------------------------------------------------


def test_the_worked_examples_are_right(tasks):
    example = torch.tensor([[[4.0, 3.0, 2.5, 2.0, 1.0], [6.0, 5.0, 3.5, 3.0, 2.0]]])
    assert tasks["6.1"].reference(example, 2, 4).item() == -1.5

    seven = torch.tensor([[[6.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5]]])
    assert tasks["6.2"].reference(seven, 2, 6, 1).item() == -3.0

    tokens = torch.tensor([0.0, 1, 2, 3, 5, 7, 8, 9])
    scores = torch.tensor([-0.1, -0.1, -0.1, -0.1, -0.3, -0.4, -0.4, -0.4])
    assert tasks["6.4"].reference(tokens, scores, 1, 0.3, 0.05).tolist() == [3, 7]

    three = torch.tensor([[4.0, 6.0, 5.0], [3.0, 4.0, 3.0], [2.0, 2.0, 1.0]])
    coordinates = (three - three.mean(dim=0)) @ torch.tensor([1.0, 2.0, 2.0]) / 3
    torch.testing.assert_close(tasks["6.6"].reference(three, 1)[:, 0].abs(), coordinates.abs())

    row = torch.tensor([[0, 5, 3, 5, 3, 5, 4]])  # entries 3 and 4 are right
    after = torch.tensor([[1.0, 2.0, 3.0, 10.0, 20.0, 6.0]])
    assert tasks["6.7"].reference(row, torch.zeros(1, 6), after).tolist() == [15.0, 3.0]


@pytest.mark.parametrize("signs", [(1, -1), (-1, 1), (-1, -1)])
def test_each_component_of_the_path_may_have_either_sign(tasks, signs):
    task = tasks["6.6"]
    passes(task, lambda losses, n: task.reference(losses, n) * torch.tensor(signs[:n]))


def test_swapped_components_are_named_whatever_their_signs(tasks):
    task = tasks["6.6"]
    verdict = examine(task, lambda losses, n: -task.reference(losses, n).flip(1))
    assert (verdict.state, verdict.diagnosis.name) == (WRONG, "order of the components")


def test_every_case_of_the_rule_has_tokens_of_both_kinds(tasks):
    for inputs in drawn(tasks["6.7"], range(30)):
        assert tasks["6.7"].reference(*inputs).isfinite().all()
