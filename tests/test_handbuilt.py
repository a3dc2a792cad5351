"""The hand-built heads do what the chapters say: ideal patterns, every repeated sequence completed."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.circuits import ov_circuit
from course_lib.data import repeated_tokens
from course_lib.handbuilt import induction_circuit, previous_token_model, subspaces
from course_lib.model import ModelConfig, Transformer, keep, patterns
from course_lib.scores import prefix_matching_score, previous_token_score

sizes = st.tuples(st.integers(2, 12), st.integers(2, 4), st.integers(1, 20), st.integers(0, 2**31))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def determined_accuracy(model: Transformer, tokens: torch.Tensor, length: int, start: int = 1) -> float:
    """Share of right predictions among those that an earlier copy decides: from the second segment's first token on."""
    with torch.no_grad():
        predicted = model(tokens).argmax(dim=-1)
    first = start + length
    return (predicted[:, first:-1] == tokens[:, first + 1 :]).double().mean().item()


# ---- the hand-built heads


def test_subspaces_tile_the_residual_stream_in_the_documented_order():
    where = subspaces(d_vocab=5, n_ctx=7)
    assert list(where) == ["token", "previous", "prediction", "position"]
    dims = [i for part in where.values() for i in range(part.start, part.stop)]
    assert dims == list(range(3 * 5 + 7)) == list(range(previous_token_model(5, 7).config.d_model))


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_circuit_completes_every_repeated_sequence(size):
    length, repeats, spare_vocab, seed = size
    tokens = repeated_tokens(8, length, repeats, length + 1 + spare_vocab, seeded(seed))
    model = induction_circuit(d_vocab=length + 1 + spare_vocab, n_ctx=tokens.shape[1])
    assert determined_accuracy(model, tokens, length) == 1.0


@pytest.mark.parametrize(("length", "repeats", "d_vocab"), [(25, 4, 64), (3, 12, 4), (60, 2, 257), (1, 6, 2)])
def test_circuit_completes_at_the_sizes_that_chapters_show(length, repeats, d_vocab):
    tokens = repeated_tokens(16, length, repeats, d_vocab, seeded())
    assert determined_accuracy(induction_circuit(d_vocab, 130), tokens, length) == 1.0


def test_circuit_copies_a_doubled_token():
    """A A predicts A: the key right after the first copy is the current position itself."""
    tokens = torch.tensor([[0, 3, 3, 1]])
    assert induction_circuit(5, 4)(tokens)[0, 2].argmax() == 3


def test_both_patterns_are_the_ideal_ones():
    length = 6
    tokens = repeated_tokens(4, length, 2, 10, seeded())
    pattern = patterns(induction_circuit(10, 13), tokens)  # layer batch head q k
    torch.testing.assert_close(previous_token_score(pattern)[0], torch.ones(1))
    for query in range(length + 1, 13):  # the one earlier copy stands `length` back, its successor `length - 1` back
        torch.testing.assert_close(pattern[1, :, 0, query, query - length + 1], torch.ones(4))
    first_seen = pattern[1, :, 0, length, : length + 1]  # nothing to match: the head spreads evenly
    torch.testing.assert_close(first_seen, torch.full_like(first_seen, 1 / (length + 1)))


@given(st.integers(2, 9), st.integers(2, 20))
@settings(max_examples=20, deadline=None)
def test_previous_token_head_writes_the_token_before(d_vocab, n_ctx):
    model, where = previous_token_model(d_vocab, n_ctx), subspaces(d_vocab, n_ctx)
    tokens = torch.randint(d_vocab, (3, n_ctx), generator=seeded(n_ctx))
    resid = keep(model, tokens, ["resid_post"])["resid_post", 0]
    assert torch.equal(resid[:, 1:, where["previous"]].argmax(-1), tokens[:, :-1])
    assert torch.equal(resid[:, 0, where["previous"]].argmax(-1), tokens[:, 0])  # position 0 has only itself
    assert torch.equal(resid[:, :, where["token"]].argmax(-1), tokens)  # the note does not overwrite the token
    assert not model(tokens).any()  # nothing reaches the prediction


@pytest.mark.parametrize("sharpness", [0.5, 3.0, 20.0])
def test_sharpness_is_the_attention_score_of_the_wanted_position(sharpness):
    tokens = repeated_tokens(2, 4, 2, 8, seeded())
    scores = keep(induction_circuit(8, 9, sharpness), tokens, ["attn_scores"])
    for query in range(1, 9):
        expected = torch.zeros(query + 1)
        expected[query - 1] = sharpness
        torch.testing.assert_close(scores["attn_scores", 0][0, 0, query, : query + 1], expected)
    pattern = patterns(previous_token_model(8, 9, sharpness), tokens)[0, 0, 0]
    for query in range(1, 9):  # softmax of one score against `query` zeros
        assert pattern[query, query - 1].item() == pytest.approx(1 / (1 + query * math.exp(-sharpness)), rel=1e-5)


def test_values_carry_no_position():
    model, where = induction_circuit(5, 9), subspaces(5, 9)
    for layer in range(2):
        assert not ov_circuit(model, layer, 0)[where["position"]].any()
        assert not ov_circuit(model, layer, 0)[:, where["position"]].any()


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("weight", ["W_Q", "W_K", "W_V", "W_O"])
def test_zeroing_any_part_of_either_head_destroys_completion(layer, weight):
    tokens = repeated_tokens(64, 12, 2, 40, seeded())
    model = induction_circuit(40, 25)
    getattr(model.blocks[layer].attn, weight).data.zero_()
    assert determined_accuracy(model, tokens, 12) < 0.25
    healthy = induction_circuit(40, 25)
    assert determined_accuracy(healthy, tokens, 12) == 1.0


def test_without_a_start_token_only_the_copies_of_the_first_token_fail():
    """x0 seems to have followed itself: at its second copy x0 and x1 get the same logit, at its third x1 leads."""
    length = 7
    tokens = repeated_tokens(16, length, 3, 20, seeded(), start_token=None)
    logits = induction_circuit(20, 21)(tokens)
    row, x0, x1 = torch.arange(16), tokens[:, 0], tokens[:, 1]
    torch.testing.assert_close(logits[row, length, x0], torch.full((16,), 0.5))
    torch.testing.assert_close(logits[row, length, x1], torch.full((16,), 0.5))
    torch.testing.assert_close(logits[row, 2 * length, x1], torch.full((16,), 2 / 3))
    assert determined_accuracy(induction_circuit(20, 21), tokens[:, : 2 * length], length, start=1) == 1.0


def test_repeated_tokens_within_a_segment_are_a_vote():
    """A B A C ... A: B and C each followed A once, so both get half. The circuit sees one token, not the phrase."""
    logits = induction_circuit(6, 10)(torch.tensor([[0, 1, 2, 1, 3, 4, 1]]))[0, -1]
    torch.testing.assert_close(logits, torch.tensor([0, 0, 0.5, 0.5, 0, 0]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_one_layer_cannot_see_what_came_before_a_key(seed, n_heads):
    """Any one-layer model gives a key the same score whatever token stands before that key."""
    config = ModelConfig(n_layers=1, n_heads=n_heads, d_model=16, d_head=8, d_vocab=20, n_ctx=12)
    tokens = repeated_tokens(1, 6, 1, 20, seeded(seed))
    tokens = torch.cat([tokens, tokens[:, 3:4]], dim=1)  # start, A .. F, then the third again
    changed = tokens.clone()
    changed[0, 3] = changed[0, 1]  # the earlier copy is gone; the token after it, at position 4, stays
    scores = [keep(Transformer(config, seed), t, ["attn_scores"])["attn_scores", 0] for t in (tokens, changed)]
    torch.testing.assert_close(scores[0][..., -1, 4], scores[1][..., -1, 4], rtol=0, atol=0)
    two = [patterns(induction_circuit(20, 12), t)[1, 0, 0, -1, 4].item() for t in (tokens, changed)]
    assert two[0] == pytest.approx(1) and two[1] < 0.2


def test_prefix_matching_score_of_the_circuit_is_high_only_in_layer_1():
    tokens = repeated_tokens(10, 25, 4, 64, seeded())
    score = prefix_matching_score(patterns(induction_circuit(64, 101), tokens), tokens)
    assert score[1, 0] == pytest.approx(1, abs=1e-5) and score[0, 0] < 0.05


# ---- bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: subspaces(0, 4), ["d_vocab", "0", "at least 1"]),
        (lambda: previous_token_model(4, 0), ["n_ctx", "0", "at least 1"]),
        (lambda: induction_circuit(-1, 4), ["d_vocab", "-1"]),
        (lambda: subspaces(5.0, 6), ["d_vocab", "whole number", "5.0"]),
        (lambda: induction_circuit(4, 4, sharpness=0.0), ["sharpness", "0.0", "above 0"]),
        (lambda: previous_token_model(4, 4, sharpness=math.inf), ["sharpness", "inf"]),
        (lambda: induction_circuit(4, 4, sharpness=math.nan), ["sharpness", "nan"]),
        (lambda: induction_circuit(4, 3)(torch.zeros(1, 4, dtype=torch.long)), ["tokens", "n_ctx"]),
    ],
)
def test_bad_input_is_named(call, words, unchecked):
    with pytest.raises(ValueError) as error:
        call()
    for word in words:
        assert word in str(error.value)
