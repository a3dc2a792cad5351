"""Exercises 5: they agree with course_lib, and right answers that are written differently pass."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from course_lib import scores
from course_lib.data import repeated_tokens
from course_lib.evaluate import LABELS, head_labels
from course_lib.grading import load
from course_lib.grading.examine import PASSED, WRONG, examine
from course_lib.grading.report import make_report

EXERCISES = load.load_source(load.source_folder() / "05_finding_heads.md")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_patterns(batch, heads, positions, seed=0):
    values = torch.randn(batch, heads, positions, positions, generator=generator(seed))
    return values.masked_fill(torch.ones(positions, positions, dtype=torch.bool).triu(1), -torch.inf).softmax(dim=-1)


# --- they agree with the course library -------------------------------------------------------------------------


def test_prefix_matching_agrees_with_the_course_library():
    tokens, pattern = torch.randint(5, (3, 12), generator=generator()), random_patterns(3, 2, 12)
    answer = EXERCISES["5.2"].reference(pattern, tokens)
    assert torch.allclose(answer, scores.prefix_matching_score(pattern, tokens), atol=1e-6)


def test_copying_agrees_with_the_course_library():
    tokens, pattern = repeated_tokens(3, 6, 1, 20, generator(), start_token=None), random_patterns(3, 2, 6)
    outputs, W_U = torch.randn(3, 2, 6, 4, generator=generator(1)), torch.randn(4, 20, generator=generator(2))
    answer = EXERCISES["5.3"].reference(outputs, W_U, pattern, tokens)
    assert torch.allclose(answer, scores.copying_score(outputs, W_U, pattern, tokens), atol=1e-5)


@pytest.mark.parametrize("threshold", [0.25, 0.5])
def test_labels_agree_with_the_course_library(threshold):
    heads = 40
    attention = torch.randint(9, (4, heads), generator=generator()) / 8  # many ties
    copying = torch.randint(-2, 3, (heads,), generator=generator(1)) / 2
    values = dict(zip(LABELS, attention, strict=True)) | {"copying_chance": copying}
    rows = [
        {"layer": 0, "head": head, "name": f"0.{head:02d}", "score": score, "value": value[head].item()}
        for score, value in values.items()
        for head in range(heads)
    ]
    theirs = head_labels(pd.DataFrame(rows), threshold).sort_values("head")["label"]
    names = ["other", *LABELS.values(), "prefix matching"]
    ours = EXERCISES["5.4"].reference(attention, copying, threshold)
    assert [names[code] for code in ours.tolist()] == list(theirs)


def test_the_chance_level_is_the_score_of_even_attention():
    tokens = torch.randint(6, (4, 15), generator=generator())
    even = torch.ones(4, 1, 15, 15).tril()
    even = even / even.sum(dim=-1, keepdim=True)
    answer = EXERCISES["5.5"].reference(tokens)
    assert answer.item() == pytest.approx(scores.prefix_matching_score(even, tokens).item(), rel=1e-5)


# --- right answers written differently --------------------------------------------------------------------------


def row_by_row(batch, n_ctx, d_vocab, min_length, max_length, seed):
    source = generator(seed)
    rows = []
    for _ in range(batch):
        length = int(torch.randint(min_length, max_length + 1, (), generator=source))
        segment = (torch.randperm(d_vocab - 1, generator=source)[:length] + 1).tolist()
        rows.append(([0] + segment * n_ctx)[:n_ctx])
    return torch.tensor(rows)


def prefix_matching_by_loops(pattern, tokens):
    total, queries = torch.zeros(pattern.shape[1]), 0
    for b, row in enumerate(tokens.tolist()):
        for q, token in enumerate(row):
            copies = [k for k in range(q) if row[k] == token]
            queries += bool(copies)
            for k in copies:
                total += pattern[b, :, q, k + 1]
    return total / queries


def copying_by_einsum(outputs, W_U, pattern, tokens):
    columns = (W_U - W_U.mean(dim=1, keepdim=True)).T[tokens]
    rise = torch.einsum("bhkd,bjd->bhkj", outputs, columns).relu()
    own = torch.einsum("bhqk,bhkk->bh", pattern, rise)
    everything = torch.einsum("bhqk,bhkj->bh", pattern, rise)
    return (2 * torch.where(everything > 0, own / everything, 0.0) - 1).mean(dim=0)


def labels_by_loops(attention, copying, threshold):
    codes = []
    for head in range(attention.shape[1]):
        column = attention[:, head].tolist()
        code = column.index(max(column)) + 1 if max(column) >= threshold else 0
        codes.append(5 if code == 2 and not copying[head] > 0 else code)
    return torch.tensor(codes)


def chance_by_loops(tokens):
    shares = []
    for row in tokens.tolist():
        counts = [row[:q].count(token) for q, token in enumerate(row)]
        shares += [count / (q + 1) for q, count in enumerate(counts) if count]
    return torch.tensor(shares).mean()


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("5.1", row_by_row),
        ("5.2", prefix_matching_by_loops),
        ("5.3", copying_by_einsum),
        ("5.4", labels_by_loops),
        ("5.5", chance_by_loops),
    ],
)
def test_an_answer_written_differently_passes(exercise_id, answer):
    for seed in range(2):
        verdict = examine(EXERCISES[exercise_id], answer, seed)
        assert verdict.state == PASSED, make_report(verdict)


# --- what the prompts promise -----------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_batch():
    answer = EXERCISES["5.1"].reference
    assert torch.equal(answer(4, 20, 12, 3, 6, 7), answer(4, 20, 12, 3, 6, 7))
    assert not torch.equal(answer(4, 20, 12, 3, 6, 7), answer(4, 20, 12, 3, 6, 8))


def test_a_wrong_batch_is_told_what_is_not_true_of_it():
    answer = EXERCISES["5.1"].reference
    verdict = examine(EXERCISES["5.1"], lambda *sizes: answer(*sizes).clamp(max=5))
    assert verdict.state == WRONG
    assert "(3) the tokens of a segment are all different" in repr(make_report(verdict))


def test_the_ideal_heads_of_prefix_matching_score_as_they_should():
    case = next(case for case in EXERCISES["5.2"].draw(0) if "perfect" in case.description)
    before, copy, follower = EXERCISES["5.2"].reference(**case.inputs).tolist()
    assert follower == pytest.approx(1.0)
    assert max(before, copy) < 0.2


def test_extreme_heads_have_extreme_copying_scores():
    case = next(case for case in EXERCISES["5.3"].draw(0) if "forbids" in case.description)
    assert EXERCISES["5.3"].reference(**case.inputs).tolist() == pytest.approx([1.0, -1.0, -1.0])
