"""Composition read from the weights: scores in the right order, composed circuits, traces of their eigenvalues."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import ARCHITECTURES, random_model

from course_lib.circuits import ov_circuit, qk_circuit
from course_lib.composition import (
    composed_qk_circuit,
    composition_baseline,
    composition_score,
    composition_scores,
    qk_traces,
)
from course_lib.data import repeated_tokens
from course_lib.factored import diagonal_statistics
from course_lib.handbuilt import induction_circuit, previous_token_model
from course_lib.model import patterns
from course_lib.scores import previous_token_score


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- composition scores, against a slow loop and known answers


def loop_score(model, kind, earlier, later) -> float:
    """The score entry by entry: what the earlier head writes on dimension m, times what the later one reads there."""
    a, b = model.blocks[earlier[0]].attn, model.blocks[later[0]].attn
    dims, heads = range(model.config.d_model), range(model.config.d_head)
    write = [[sum(a.W_V[earlier[1], i, e] * a.W_O[earlier[1], e, m] for e in heads) for m in dims] for i in dims]
    if kind == "V":
        read = [[sum(b.W_V[later[1], m, e] * b.W_O[later[1], e, j] for e in heads) for j in dims] for m in dims]
    elif kind == "Q":  # m is a dimension of the query's side, j of the key's
        read = [[sum(b.W_Q[later[1], m, e] * b.W_K[later[1], j, e] for e in heads) for j in dims] for m in dims]
    else:  # "K": m is a dimension of the key's side, j of the query's
        read = [[sum(b.W_K[later[1], m, e] * b.W_Q[later[1], j, e] for e in heads) for j in dims] for m in dims]
    product = [[sum(write[i][m] * read[m][j] for m in dims) for j in dims] for i in dims]
    size = [math.sqrt(sum(float(x) ** 2 for row in matrix for x in row)) for matrix in (product, write, read)]
    return size[0] / (size[1] * size[2])


@pytest.mark.parametrize("kind", ["Q", "K", "V"])
def test_composition_scores_equal_an_explicit_loop(kind):
    model = random_model()
    scores = composition_scores(model, kind)
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert set(scores) == {(f"{a}.{i}", f"{b}.{j}") for a, b in pairs for i in range(2) for j in range(2)}
    with torch.no_grad():
        for earlier, later in [((0, 1), (1, 0)), ((0, 0), (2, 1))]:
            names = tuple(f"{layer}.{head}" for layer, head in (earlier, later))
            assert scores[names] == pytest.approx(loop_score(model, kind, earlier, later), rel=1e-4)


def test_hand_built_circuit_composes_through_keys_only():
    model, pair = induction_circuit(20, 61), ("0.0", "1.0")
    baseline = composition_baseline(model.config.d_model, model.config.d_head, seeded(), samples=50)
    assert composition_scores(model, "K") == {pair: pytest.approx(1 / math.sqrt(20))}  # the ceiling at this rank
    assert composition_scores(model, "K")[pair] > 2 * baseline.max()
    assert composition_scores(model, "Q") == composition_scores(model, "V") == {pair: 0.0}


def test_composition_score_known_answers():
    identity, projector = torch.eye(4), torch.diag(torch.tensor([1.0, 0, 0, 0]))
    assert composition_score(projector, projector) == pytest.approx(1)
    assert composition_score(identity, identity) == pytest.approx(0.5)  # 1 / sqrt(rank)
    assert composition_score(projector, identity - projector) == 0
    shift = torch.ones(3).diag(1)  # x @ shift moves dimension i to i + 1, so the order of the two maps matters
    assert composition_score(projector, shift) > 0 and composition_score(shift, projector) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31), st.floats(0.1, 1e3))
def test_composition_score_is_a_share_and_ignores_scale(rows, inner, columns, seed, factor):
    generator = seeded(seed)
    W_A, W_B = torch.randn(rows, inner, generator=generator), torch.randn(inner, columns, generator=generator)
    score = composition_score(W_A, W_B)
    assert 0 <= score <= 1 + 1e-6
    assert composition_score(factor * W_A, W_B) == pytest.approx(score, rel=1e-4)


@pytest.mark.parametrize(("d_model", "d_head"), [(24, 2), (24, 20), (64, 8)])
def test_baseline_gathers_around_one_over_root_d_model(d_model, d_head):
    scores = composition_baseline(d_model, d_head, seeded(), samples=200)
    assert scores.shape == (200,)
    assert scores.square().mean().sqrt().item() == pytest.approx(d_model**-0.5, rel=0.08)
    assert torch.equal(scores, composition_baseline(d_model, d_head, seeded(), samples=200))


@pytest.mark.parametrize("kind", ["Q", "K", "V"])
@pytest.mark.parametrize("architecture", ["gpt2", "neox"])
def test_scores_from_factors_are_those_of_the_dense_circuits(kind, architecture):
    model = random_model(architecture)
    distance = 2 if architecture == "neox" and kind != "V" else None
    W_OV = ov_circuit(model, 0, 1)
    W_B = ov_circuit(model, 2, 0) if kind == "V" else qk_circuit(model, 2, 0, distance)
    W_B = W_B.T if kind == "K" else W_B
    expected = (W_OV @ W_B).norm() / (W_OV.norm() * W_B.norm())
    assert composition_scores(model, kind, distance)["0.1", "2.0"] == pytest.approx(float(expected))


@pytest.mark.parametrize("architecture", ["plain", "norm"])
def test_heads_with_random_weights_compose_as_the_baseline_says(architecture):
    """Twelve pairs of random heads: their scores lie among those of the random matrices."""
    model = random_model(architecture, n_layers=4, n_heads=2, d_model=64, d_head=16)
    if architecture == "norm":
        for block in model.blocks:
            block.attn_norm.weight.data.fill_(1.0)  # else it reads some dimensions more than others
    chance = composition_baseline(64, 16, seeded(), samples=200)
    for kind in ("Q", "K", "V"):
        scores = torch.tensor(list(composition_scores(model, kind).values()))
        assert len(scores) == 24
        assert float(scores.mean()) == pytest.approx(float(chance.mean()), rel=0.05)
        assert chance.min() * 0.9 < scores.min() and scores.max() < chance.max() * 1.1


def test_baseline_draws_both_heads_of_a_pair_from_the_generator():
    generator = seeded(3)
    expected = []
    for _ in range(4):
        W = [torch.randn(6, 2, generator=generator) for _ in range(4)]
        expected.append(composition_score(W[0] @ W[1].T, W[2] @ W[3].T))
    torch.testing.assert_close(composition_baseline(6, 2, seeded(3), samples=4), torch.tensor(expected))
    torch.testing.assert_close(composition_baseline(1, 1, seeded(), samples=1), torch.ones(1))  # one dimension to share
    assert len(composition_baseline(2, 1, seeded())) == 100


# ---- the QK circuit through an earlier head, and its trace


@torch.no_grad()
def dense_composed(model, earlier, later, head_of_later, head_of_earlier) -> torch.Tensor:
    """Row by row: the query reads one token, the key reads what the earlier head copied of another."""
    a, b = model.blocks[earlier].attn, model.blocks[later].attn
    rows = []
    for query in model.W_E:
        row = []
        for copied in model.W_E:
            written = copied @ a.W_V[head_of_earlier] @ a.W_O[head_of_earlier]
            row.append(float((query @ b.W_Q[head_of_later]) @ (written @ b.W_K[head_of_later])))
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def test_trace_of_qk_eigenvalues_equals_an_explicit_loop_weights_from_the_right():
    """Also the trap: transposing the wrong factor gives Q-composition, or nonsense, with the same shapes."""
    model = random_model()
    weights = torch.rand(3, 2, generator=seeded(), dtype=torch.float64)
    traces = qk_traces(model, weights)
    assert traces.shape == (3, 2, 3, 2)
    for later in range(3):
        for head in range(2):
            for earlier in range(3):
                for writer in range(2):
                    found = float(traces[later, head, earlier, writer])
                    if earlier >= later:
                        assert found == 0
                        continue
                    dense = dense_composed(model, earlier, later, head, writer)
                    composed = composed_qk_circuit(model, (earlier, writer), (later, head))
                    torch.testing.assert_close(composed.dense(), dense)
                    trace = sum(float(dense[i, i]) for i in range(7))
                    assert composed.trace() == pytest.approx(trace)
                    assert float(composed.eigenvalues().sum().real) == pytest.approx(trace)
                    assert found == pytest.approx(trace * float(weights[earlier, writer]))


def test_columns_first_notation_gives_the_same_trace():
    """The paper's `W_E^T W_QK W_OV W_E` acts on columns: its W_E and W_OV are the transposes of ours."""
    model = random_model()
    W_E = model.W_E.detach().T  # d_model d_vocab
    W_QK = qk_circuit(model, 1, 0)  # score = x_query^T W_QK x_key, in both notations
    W_OV = ov_circuit(model, 0, 1).T  # output = W_OV x
    ours = composed_qk_circuit(model, (0, 1), (1, 0)).dense()
    torch.testing.assert_close(W_E.T @ W_QK @ W_OV @ W_E, ours)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_traces_of_all_pairs_agree_with_the_composed_circuits(architecture):
    model = random_model(architecture)
    distance = 1 if model.config.positions == "rotary" else None
    traces = qk_traces(model, torch.ones(3, 2), distance)
    for earlier, later in [((0, 0), (1, 1)), ((1, 1), (2, 0)), ((0, 1), (2, 1))]:
        composed = composed_qk_circuit(model, earlier, later, distance)
        assert float(traces[(*later, *earlier)]) == pytest.approx(composed.trace(), rel=1e-9)


def test_hand_built_circuit_matches_prefixes_through_its_previous_token_head():
    model = induction_circuit(20, 61, sharpness=50.0)
    composed = composed_qk_circuit(model, (0, 0), (1, 0))
    torch.testing.assert_close(composed.dense(), 50.0 * math.sqrt(61) * torch.eye(20))
    assert diagonal_statistics(composed).share_in_top(1) == 1
    tokens = repeated_tokens(4, 15, 4, 20, seeded())
    scores = previous_token_score(patterns(model, tokens))
    traces = qk_traces(model, scores)
    assert float(traces[1, 0, 0, 0]) == pytest.approx(20 * 50 * math.sqrt(61) * float(scores[0, 0]), rel=1e-4)
    assert traces.sum() == traces[1, 0, 0, 0]


def test_random_heads_have_traces_on_both_sides_of_zero():
    traces = qk_traces(random_model(n_heads=8, d_vocab=40), torch.ones(3, 8))
    found = traces[1:, :, 0].flatten()
    assert (found > 0).any() and (found < 0).any()
    assert abs(float(found.mean())) < 3 * float(found.std()) / math.sqrt(len(found))


def test_float32_traces_agree_with_float64():
    wide = random_model()
    expected = qk_traces(wide, torch.ones(3, 2))
    found = qk_traces(wide.float(), torch.ones(3, 2))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)


def test_one_layer_has_no_pairs():
    assert composition_scores(previous_token_model(3, 4)) == {}
    assert not qk_traces(previous_token_model(3, 4), torch.ones(1, 1)).any()


# ---- bad input


@torch.no_grad()
def with_nan():
    model = random_model()
    model.blocks[0].attn.W_V[0, 0, 0] = torch.nan
    return model


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: composition_score(torch.ones(2, 3), torch.ones(2, 3)), ["W_A", "W_B", "[2, 3]"]),
        (lambda: composition_score(torch.ones(3), torch.ones(3, 3)), ["W_A", "[3]"]),
        (lambda: composition_score(torch.ones(2, 2), torch.zeros(2, 2)), ["W_B", "zeros"]),
        (lambda: composition_score(torch.full((2, 2), torch.nan), torch.ones(2, 2)), ["W_A", "finite"]),
        (lambda: composition_score(torch.ones(2, 2), torch.tensor([[1.0, 0], [0, -torch.inf]])), ["W_B", "finite"]),
        (lambda: composition_scores(with_nan(), "K"), ["W_A", "finite"]),
        (lambda: composition_scores(induction_circuit(4, 4), "k"), ["kind", "'k'", "'K'"]),
        (lambda: composition_scores(random_model("neox"), "K"), ["distance", "rotary"]),
        (lambda: composition_scores(random_model("neox"), "V", distance=1), ["distance", "'V'"]),
        (lambda: composition_baseline(0, 2, seeded()), ["d_model", "0"]),
        (lambda: composition_baseline(4, 2, seeded(), samples=0), ["samples", "0"]),
        (lambda: composed_qk_circuit(random_model(), (1, 0), (1, 1)), ["earlier", "1.0", "1.1"]),
        (lambda: composed_qk_circuit(random_model(), (2, 0), (1, 1)), ["earlier", "2.0", "1.1"]),
        (lambda: composed_qk_circuit(random_model(), (0, 2), (1, 1)), ["0.2", "heads 0..1"]),
        (lambda: composed_qk_circuit(random_model(), (0, 0), (3, 0)), ["3.0", "layers 0..2"]),
        (lambda: composed_qk_circuit(random_model(), "0.0", (1, 0)), ["earlier", "(layer, head)", "'0.0'"]),
        (lambda: composed_qk_circuit(random_model(), (0, 0), (1,)), ["later", "(layer, head)", "(1,)"]),
        (lambda: composed_qk_circuit(random_model("neox"), (0, 0), (1, 0)), ["distance"]),
        (lambda: qk_traces(random_model(), torch.ones(2, 3)), ["previous_scores", "[3, 2]", "[2, 3]"]),
        (lambda: qk_traces(random_model(), torch.full((3, 2), torch.nan)), ["previous_scores", "finite"]),
        (lambda: qk_traces(random_model("neox"), torch.ones(3, 2)), ["distance"]),
    ],
)
def test_bad_input_is_named(call, words, unchecked):
    with pytest.raises(ValueError) as error:
        call()
    for word in words:
        assert word in str(error.value)
