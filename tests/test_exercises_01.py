"""Exercises 1.1 to 1.4: they agree with the course's own functions, and other right ways to write them pass."""

from __future__ import annotations

import math

import pytest
import torch

from course_lib.attribution import logit_attribution
from course_lib.circuits import ov_circuit
from course_lib.grading.examine import PASSED, WRONG, examine
from course_lib.grading.load import find
from course_lib.grading.report import make_report
from course_lib.model import ModelConfig, Transformer, keep


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(n_layers=2, n_heads=3, d_model=12, d_head=4, d_vocab=11, n_ctx=9)
    return Transformer(config, seed=3).requires_grad_(False)


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(0))


# --- the course's own functions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_queries", [9, 4, 1])
def test_the_pattern_of_the_last_queries_is_the_last_rows_of_the_models(model, tokens, n_queries):
    kept = keep(model, tokens, ["q", "k", "pattern"])
    pattern = find("1.1").reference(kept["q", 1][:, :, -n_queries:], kept["k", 1])
    torch.testing.assert_close(pattern, kept["pattern", 1][:, :, -n_queries:])


def test_the_sources_sum_to_the_results_of_the_model(model, tokens):
    kept = keep(model, tokens, ["pattern", "result"])
    attn = model.blocks[0].attn
    parts = find("1.2").reference(model.W_E[tokens], kept["pattern", 0], attn.W_V, attn.W_O)
    assert parts.shape == (2, 3, 9, 9, 12)
    torch.testing.assert_close(parts.sum(dim=3), kept["result", 0], rtol=1e-4, atol=1e-5)


def test_shares_of_a_choice_are_those_of_the_library_and_sum_to_the_logits(model, tokens):
    kept = keep(model, tokens, ["result"])
    heads = [kept["result", layer][:, head] for layer in range(2) for head in range(3)]
    terms = torch.stack([model.W_E[tokens], *heads])
    right, wrong = tokens.roll(1, dims=1), tokens.roll(2, dims=1)
    shares = find("1.3").reference(terms, model.W_U, right, wrong)
    library = [torch.stack(list(logit_attribution(model, tokens, choice).values())) for choice in (right, wrong)]
    torch.testing.assert_close(shares, library[0] - library[1], rtol=1e-4, atol=1e-5)
    logits = [model(tokens).gather(-1, choice[..., None])[..., 0] for choice in (right, wrong)]
    torch.testing.assert_close(shares.sum(dim=0), logits[0] - logits[1], rtol=1e-4, atol=1e-4)


def test_only_the_readable_part_goes_through_the_ov_circuit(model, tokens):
    x, W_OV = model.W_E[tokens], ov_circuit(model, 0, 1)
    part = find("1.4").reference(x, model.blocks[0].attn.W_V[1])
    torch.testing.assert_close(part @ W_OV, x @ W_OV, rtol=1e-4, atol=1e-5)
    again = find("1.4").reference(part, model.blocks[0].attn.W_V[1])
    torch.testing.assert_close(again, part, rtol=1e-4, atol=1e-5)  # a second projection changes nothing
    assert (part * (x - part)).sum(dim=-1).abs().max() < 1e-4


# --- other right answers ----------------------------------------------------------------------------------------


def pattern_by_loop(q, k):
    batch, heads, n_queries, d_head = q.shape
    n_keys = k.shape[2]
    pattern = torch.zeros(batch, heads, n_queries, n_keys)
    for i in range(n_queries):
        seen = n_keys - n_queries + i + 1
        scores = (k[:, :, :seen] * q[:, :, i, None]).sum(dim=-1) / d_head**0.5
        weights = scores.exp()
        pattern[:, :, i, :seen] = weights / weights.sum(dim=-1, keepdim=True)
    return pattern


def pattern_with_a_large_number(q, k):
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(q.shape[-1])
    n_queries, n_keys = scores.shape[-2:]
    visible = torch.arange(n_keys) <= torch.arange(n_keys - n_queries, n_keys)[:, None]
    return torch.softmax(torch.where(visible, scores, -1e9), dim=-1)


def sources_by_loop(x, pattern, W_V, W_O):
    batch, heads, positions, _ = pattern.shape
    parts = torch.zeros(batch, heads, positions, positions, x.shape[-1])
    for head in range(heads):
        for query in range(positions):
            for key in range(positions):
                weight = pattern[:, head, query, key, None]
                parts[:, head, query, key] = weight * (x[:, key] @ W_V[head] @ W_O[head])
    return parts


def choice_from_all_logits(terms, W_U, right, wrong):
    logits = terms @ W_U
    batch, positions = right.shape
    rows, columns = torch.arange(batch)[:, None], torch.arange(positions)
    return logits[:, rows, columns, right] - logits[:, rows, columns, wrong]


def readable_by_basis(x, W):
    U, S, _ = torch.linalg.svd(W, full_matrices=False)
    U = U[:, 1e-5 * S[0] < S]
    return x @ U @ U.T


def readable_by_least_squares(x, W):
    """The combination of columns that comes nearest, one vector at a time."""
    flat = x.flatten(0, 1)
    return torch.stack(
        [W @ torch.linalg.lstsq(W, row[:, None], driver="gelsd").solution[:, 0] for row in flat]
    ).view_as(x)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("1.1", pattern_by_loop),
        ("1.1", pattern_with_a_large_number),
        ("1.2", sources_by_loop),
        ("1.3", choice_from_all_logits),
        ("1.4", readable_by_basis),
        ("1.4", readable_by_least_squares),
    ],
)
def test_other_right_answers_pass(exercise_id, answer):
    for seed in range(5):
        verdict = examine(find(exercise_id), answer, seed)
        assert verdict.state == PASSED, make_report(verdict)


def test_the_logarithm_of_the_softmax_gives_the_same_choice():
    """The normaliser of a term is the same for both tokens, so this is right as well and must pass."""

    def log_probabilities(terms, W_U, right, wrong):
        logits = (terms @ W_U).log_softmax(dim=-1)
        return sum(
            sign * logits.gather(-1, tokens.expand(len(terms), -1, -1)[..., None])[..., 0]
            for sign, tokens in ((1, right), (-1, wrong))
        )

    assert examine(find("1.3"), log_probabilities).state == PASSED


def test_a_basis_that_ignores_dependent_columns_is_named():
    def by_qr(x, W):
        Q = torch.linalg.qr(W).Q
        return torch.einsum("bpd,de,fe->bpf", x, Q, Q)

    verdict = examine(find("1.4"), by_qr)
    assert verdict.state == WRONG
    assert verdict.diagnosis.name == "dependent columns"
