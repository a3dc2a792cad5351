"""Circuits read from the weights, against what the model does with them, slow loops and known answers."""

import math

import pytest
import torch
from random_models import ARCHITECTURES, random_model, random_tokens

from course_lib.circuits import (
    factored_ov,
    factored_qk,
    folded,
    full_ov_circuit,
    full_qk_circuit,
    norm_bias,
    norm_scale,
    ov_circuit,
    qk_circuit,
)
from course_lib.factored import diagonal_statistics, top_entries
from course_lib.handbuilt import induction_circuit, previous_token_model, subspaces
from course_lib.model import keep
from course_lib.scores import eigenvalue_copying_score

UNBIASED = [name for name, changes in ARCHITECTURES.items() if not changes.get("attn_biases")]


def resid_before(kept: dict, layer: int) -> torch.Tensor:
    return kept["resid_pre", 0] if layer == 0 else kept["resid_post", layer - 1]


# ---- the circuits of the residual stream do what the model does


@pytest.mark.parametrize("positions", ["qk", "residual"])
def test_qk_circuit_gives_the_attention_scores(positions):
    model = random_model(positions=positions)
    tokens = random_tokens(model)
    kept = keep(model, tokens, ["resid_pre", "resid_post", "attn_scores"])
    for layer in range(3):
        x = resid_before(kept, layer) + (model.W_pos if positions == "qk" else 0.0)
        for head in range(2):
            scores = x @ qk_circuit(model, layer, head) @ x.mT / math.sqrt(4)
            torch.testing.assert_close(scores.tril(), kept["attn_scores", layer][:, head].tril())


def test_with_a_norm_the_qk_circuit_reads_the_stream_over_its_standard_deviation():
    model = random_model("norm", positions="residual")
    for block in model.blocks:
        block.attn_norm.bias.data.zero_()  # biases are no part of a circuit
    tokens = random_tokens(model)
    kept = keep(model, tokens, ["resid_pre", "resid_post", "attn_scores"])
    for layer in range(3):
        x = resid_before(kept, layer)
        x = x / norm_scale(model.blocks[layer].attn_norm, x)
        scores = x @ qk_circuit(model, layer, 1) @ x.mT / math.sqrt(4)
        torch.testing.assert_close(scores.tril(), kept["attn_scores", layer][:, 1].tril())


def test_with_rotary_positions_the_qk_circuit_depends_on_the_distance_as_the_scores_do():
    model = random_model("neox", layer_norm=False, attn_biases=False)
    tokens = random_tokens(model)
    kept = keep(model, tokens, ["resid_pre", "resid_post", "attn_scores"])
    for layer in (0, 2):
        x = resid_before(kept, layer)
        for query in range(6):
            for key in range(query + 1):
                circuit = qk_circuit(model, layer, 1, distance=query - key)
                score = einsum_score(x[:, query], circuit, x[:, key]) / math.sqrt(4)
                expected = kept["attn_scores", layer][:, 1, query, key]
                torch.testing.assert_close(score, expected, rtol=1e-5, atol=1e-5)  # the table of angles is float32


def einsum_score(x: torch.Tensor, circuit: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.einsum("bi,ij,bj->b", x, circuit, y)


@pytest.mark.parametrize("architecture", UNBIASED)
def test_ov_circuit_gives_the_result_of_the_pattern(architecture):
    model = random_model(architecture)
    for block in model.blocks:
        if model.config.layer_norm:
            block.attn_norm.bias.data.zero_()
    kept = keep(model, random_tokens(model), ["resid_pre", "resid_post", "pattern", "result"])
    for layer in range(3):
        x = resid_before(kept, layer)
        x = x / norm_scale(model.blocks[layer].attn_norm, x)
        for head in range(2):
            result = kept["pattern", layer][:, head] @ x @ ov_circuit(model, layer, head)
            torch.testing.assert_close(result, kept["result", layer][:, head])


@pytest.mark.parametrize("architecture", ["plain", "norm"])
def test_a_norm_is_folded_weight_over_scale_plus_bias(architecture):
    norm = random_model(architecture).blocks[0].attn_norm
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    weight = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    by_parts = x @ folded(norm, weight) / norm_scale(norm, x) + norm_bias(norm, weight)
    torch.testing.assert_close(by_parts, norm(x) @ weight)
    torch.testing.assert_close(x @ folded(norm, weight.expand(2, 8, 3)), (x @ folded(norm, weight)).expand(2, 5, 3))


def test_factors_are_copies_that_training_does_not_change():
    model = random_model()
    kept = [factored_qk(model, 1, 0), factored_ov(model, 1, 0), full_ov_circuit(model, 1, 0)]
    before = [matrix.dense().clone() for matrix in kept]
    for weight in model.parameters():
        weight.data.mul_(2)
    assert all(torch.equal(matrix.dense(), old) for matrix, old in zip(kept, before, strict=True))


# ---- the circuits over the vocabulary


def loop_full(W_E, W_A, W_B, W_U) -> torch.Tensor:
    """`W_E W_A W_B W_U`, entry by entry."""
    size, inner = len(W_E), range(W_A.shape[1])
    entry = lambda i, j: sum((W_E[i] @ W_A[:, e]) * (W_B[e] @ W_U[:, j]) for e in inner)  # noqa: E731
    return torch.tensor([[entry(i, j) for j in range(size)] for i in range(size)], dtype=W_E.dtype)


@torch.no_grad()
def test_full_circuits_equal_an_explicit_loop():
    model = random_model()
    for layer, head in [(0, 1), (2, 0)]:
        attn = model.blocks[layer].attn
        ov = loop_full(model.W_E, attn.W_V[head], attn.W_O[head], model.W_U)
        qk = loop_full(model.W_E, attn.W_Q[head], attn.W_K[head].T, model.W_E.T)
        torch.testing.assert_close(full_ov_circuit(model, layer, head).dense(), ov)
        torch.testing.assert_close(full_qk_circuit(model, layer, head).dense(), qk)
        assert full_ov_circuit(model, layer, head).left.shape == (7, 4)  # never wider than d_head


@torch.no_grad()
def test_full_circuits_fold_the_norms_on_both_sides():
    """What the head would add to the logits, and its scores, if both norms divided by 1."""
    model = random_model("gpt2")
    block, final = model.blocks[1], model.final_norm
    centred = model.W_E - model.W_E.mean(dim=1, keepdim=True)
    x = centred * block.attn_norm.weight
    written = x @ block.attn.W_V[0] @ block.attn.W_O[0]
    logits = (written - written.mean(dim=1, keepdim=True)) * final.weight @ model.W_U
    torch.testing.assert_close(full_ov_circuit(model, 1, 0).dense(), logits)
    torch.testing.assert_close(
        full_qk_circuit(model, 1, 0).dense(), (x @ block.attn.W_Q[0]) @ (x @ block.attn.W_K[0]).T
    )


@torch.no_grad()
def test_full_ov_circuit_is_what_attending_to_one_token_adds_to_the_logits():
    model = random_model(n_layers=1, n_heads=1)
    logits = model(torch.arange(7)[:, None])[:, 0]  # one position: the head can only attend there
    direct = model.W_E @ model.W_U
    torch.testing.assert_close(logits - direct, full_ov_circuit(model, 0, 0).dense())


def test_full_ov_circuit_of_the_induction_head_is_the_identity_on_tokens():
    model = induction_circuit(20, 12)
    circuit = full_ov_circuit(model, 1, 0)
    torch.testing.assert_close(circuit.dense(), torch.eye(20))
    found = diagonal_statistics(circuit)
    assert (found.mean, found.rest_mean, found.share_in_top(1)) == (1, 0, 1)
    assert top_entries(circuit, 1)[1][:, 0].tolist() == list(range(20))
    eigenvalues = circuit.eigenvalues()
    torch.testing.assert_close(eigenvalues.abs().sum(), torch.tensor(20.0))
    assert not full_ov_circuit(model, 0, 0).dense().any()  # head 0.0 writes where the unembedding does not read


@pytest.mark.parametrize("architecture", ["plain", "gpt2"])
def test_eigenvalues_agree_with_the_eigenvalue_copying_score(architecture):
    model = random_model(architecture)
    eigenvalues = full_ov_circuit(model, 1, 1).eigenvalues()
    attn = model.blocks[1].attn
    W_V, W_U = folded(model.blocks[1].attn_norm, attn.W_V), folded(model.final_norm, model.W_U)
    with torch.no_grad():
        score = eigenvalue_copying_score(model.W_E, W_V, attn.W_O, W_U)[1]
    assert float(score) == pytest.approx(float(eigenvalues.sum().real / eigenvalues.abs().sum()))
    identity = full_ov_circuit(induction_circuit(9, 5), 1, 0).eigenvalues()
    assert float(identity.sum().real / identity.abs().sum()) == pytest.approx(1)


def test_full_qk_circuits_of_the_hand_built_heads_are_empty():
    """Neither head matches tokens to tokens of the embedding: one reads positions, the other what 0.0 wrote."""
    model = induction_circuit(8, 6)
    assert full_qk_circuit(model, 0, 0).norm() == full_qk_circuit(model, 1, 0).norm() == 0


def test_hand_built_circuits_map_the_documented_subspaces():
    model, where = induction_circuit(6, 9, sharpness=3.0), subspaces(6, 9)
    ov, qk = ov_circuit(model, 0, 0), qk_circuit(model, 1, 0)
    assert torch.equal(ov[where["token"], where["previous"]], torch.eye(6)) and ov.sum() == 6
    torch.testing.assert_close(qk[where["token"], where["previous"]], 3.0 * math.sqrt(9) * torch.eye(6))


# ---- bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: qk_circuit(induction_circuit(4, 4), 2, 0), ["2.0", "0..1"]),
        (lambda: ov_circuit(induction_circuit(4, 4), 0, 1), ["0.1", "heads 0..0"]),
        (lambda: full_ov_circuit(previous_token_model(4, 4), 1, 0), ["1.0", "layers 0..0"]),
        (lambda: full_qk_circuit(previous_token_model(4, 4), 0, -1), ["0.-1", "heads 0..0"]),
        (lambda: qk_circuit(random_model("neox"), 0, 0), ["distance", "rotary"]),
        (lambda: full_qk_circuit(random_model("neox"), 0, 0, distance=6), ["distance", "0..5", "6"]),
        (lambda: full_qk_circuit(random_model("neox"), 0, 0, distance=-1), ["distance", "0..5", "-1"]),
        (lambda: qk_circuit(random_model("neox"), 0, 0, distance=1.5), ["distance", "whole number", "1.5"]),
        (lambda: qk_circuit(random_model(), 0, 0, distance=1), ["distance", "rotary", "'qk'"]),
        (lambda: full_ov_circuit(random_model(d_vocab=9000), 0, 0).dense(), ["limit", "9000 x 9000"]),
    ],
)
def test_bad_input_is_named(call, words, unchecked):
    with pytest.raises(ValueError) as error:
        call()
    for word in words:
        assert word in str(error.value)
