"""Terms that sum to logits and to attention scores, and edges cut one at a time, on every architecture."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import ARCHITECTURES, random_model, random_tokens

from course_lib import attribution
from course_lib.attribution import logit_attribution, path_ablation, score_paths
from course_lib.data import repeated_tokens
from course_lib.handbuilt import induction_circuit
from course_lib.model import Transformer, keep, smear
from course_lib.scores import induction_targets, prefix_matching_score

EXACT = dict(rtol=1e-10, atol=1e-10)  # relative to numbers of order 1 to 1000, in float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def run(model: Transformer, tokens: torch.Tensor, tap=None) -> dict:
    """All activations, and the logits as ("logits", -1), with a tap in front that may edit them."""
    kept = {}

    def record(name, layer, value):
        kept[name, layer] = value = value if tap is None else tap(name, layer, value)
        return value

    kept["logits", -1] = model(tokens, tap=record)
    return kept


def resid_before(kept: dict, layer: int) -> torch.Tensor:
    return kept["resid_pre", 0] if layer == 0 else kept["resid_post", layer - 1]


def stream_terms(model: Transformer, tokens: torch.Tensor, layers: int) -> dict[str, torch.Tensor]:
    """The residual stream before layer `layers` as named terms, [batch, pos, d_model] each; written out slowly."""
    config, kept = model.config, run(model, tokens)
    terms = {"embedding": model.W_E[tokens]}
    if config.positions == "residual":
        terms["positions"] = model.W_pos[: tokens.shape[1]].expand_as(terms["embedding"])
    for layer in range(layers):
        for head in range(config.n_heads):
            terms[f"{layer}.{head}"] = kept["result", layer][:, head]
        if config.attn_biases:
            terms[f"b_O.{layer}"] = model.blocks[layer].attn.b_O.expand_as(terms["embedding"])
        if config.d_mlp:
            terms[f"mlp.{layer}"] = kept["mlp_out", layer]
    torch.testing.assert_close(sum(terms.values()), resid_before(kept, layers), **EXACT)
    return terms


def through_frozen_norm(norm, term: torch.Tensor, stream: torch.Tensor) -> torch.Tensor:
    """What the norm makes of one term if it divides by the standard deviation of the whole stream; no bias."""
    if isinstance(norm, torch.nn.Identity):
        return term
    deviation = (stream - stream.mean(-1, keepdim=True)).square().mean(-1, keepdim=True).add(norm.eps).sqrt()
    return (term - term.mean(-1, keepdim=True)) / deviation * norm.weight


# ---- direct logit attribution


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attributions_sum_to_the_logits_and_each_equals_its_own_loop(architecture):
    model = random_model(architecture)
    tokens = random_tokens(model, batch=3)
    with torch.no_grad():
        logits = model(tokens)
        terms = stream_terms(model, tokens, layers=3)
    parts = logit_attribution(model, tokens)
    torch.testing.assert_close(sum(parts.values()), logits, **EXACT)
    constant = ["bias"] if model.config.layer_norm or model.config.unembed_bias else []
    assert list(parts) == [*terms, *constant]
    stream = sum(terms.values())
    for name, term in terms.items():
        expected = through_frozen_norm(model.final_norm, term, stream) @ model.W_U
        torch.testing.assert_close(parts[name], expected.detach(), **EXACT)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(ARCHITECTURES)), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31))
def test_chosen_targets_and_positions_are_entries_of_the_whole(architecture, batch, n, seed):
    model = random_model(architecture, seed)
    tokens, targets = random_tokens(model, batch, seed), random_tokens(model, batch, seed + 1)[:, :n]
    positions = torch.randint(-6, 6, (n,), generator=seeded(seed))
    whole, chosen = logit_attribution(model, tokens), logit_attribution(model, tokens, targets, positions)
    assert list(whole) == list(chosen)
    for name, values in chosen.items():
        for b, i in product(range(batch), range(n)):
            expected = whole[name][b, positions[i], targets[b, i]]
            torch.testing.assert_close(values[b, i], expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(logit_attribution(model, tokens, positions=positions)[name], whole[name][:, positions])


def test_tokens_targets_and_positions_may_be_int32():
    model, at = random_model(), torch.tensor([1, -1])
    tokens = random_tokens(model)
    expected = logit_attribution(model, tokens, tokens[:, at], at)
    for name, logits in logit_attribution(model, tokens.int(), tokens[:, at].int(), at.int()).items():
        assert torch.equal(logits, expected[name])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_float32_attributions_sum_to_the_logits(architecture):
    model = random_model(architecture).float()
    tokens = random_tokens(model)
    parts = torch.stack(list(logit_attribution(model, tokens).values()))
    with torch.no_grad():
        error = (parts.sum(0) - model(tokens)).abs()
    assert (error <= 1e-5 * (1 + parts.abs().sum(0))).all()


def test_in_the_hand_built_circuit_the_induction_head_alone_raises_the_next_token():
    tokens = repeated_tokens(4, 8, 2, 20, seeded())
    model = induction_circuit(20, 17)
    second = torch.arange(9, 16)  # where an earlier copy decides the next token
    parts = logit_attribution(model, tokens, tokens[:, 10:17], second)
    assert list(parts) == ["embedding", "0.0", "1.0"]
    torch.testing.assert_close(parts["1.0"], torch.ones(4, 7))
    assert not parts["embedding"].any() and not parts["0.0"].any()


# ---- attention scores by path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("layer", "head"), [(0, 1), (1, 0), (2, 1)])
def test_paths_sum_to_the_attention_scores_and_each_equals_its_own_loop(architecture, layer, head):
    model = random_model(architecture)
    tokens = random_tokens(model)
    kept, paths = run(model, tokens), score_paths(model, tokens, layer, head)
    scores = kept["attn_scores", layer][:, head]
    total = sum(paths.path(query, key) for query, key in product(paths.names, repeat=2))
    size = torch.stack([paths.path(query, key).abs() for query, key in product(paths.names, repeat=2)]).sum(0)
    assert ((total - scores.tril()).abs() <= 1e-10 * (1 + size)).all()
    torch.testing.assert_close(paths.total(), scores.tril(), **EXACT)
    with torch.no_grad():
        q, k = slow_sides(model, tokens, layer, head)
    assert list(paths.names) == list(q)
    for query, key in product(paths.names, repeat=2):
        expected = torch.zeros(scores.shape, dtype=torch.float64)
        for b, i in product(range(len(tokens)), range(6)):
            for j in range(i + 1):
                expected[b, i, j] = q[query][b, i] @ k[key][b, j] / math.sqrt(4)
        torch.testing.assert_close(paths.path(query, key), expected, **EXACT)


def slow_sides(model: Transformer, tokens: torch.Tensor, layer: int, head: int) -> tuple[dict, dict]:
    """What each term gives to query and key, [batch, pos, d_head], one term at a time."""
    norm, attn = model.blocks[layer].attn_norm, model.blocks[layer].attn
    terms = stream_terms(model, tokens, layer)
    stream = sum(terms.values())
    inputs = {name: through_frozen_norm(norm, term, stream) for name, term in terms.items()}
    if model.config.positions == "qk":
        inputs["positions"] = model.W_pos[: tokens.shape[1]].expand_as(stream)
    sides = [{name: x @ W[head] for name, x in inputs.items()} for W in (attn.W_Q, attn.W_K)]
    for side, W, b in zip(sides, (attn.W_Q, attn.W_K), (attn.b_Q, attn.b_K), strict=True):
        if model.config.layer_norm or model.config.attn_biases:
            constant = 0.0 if b is None else b[head]
            constant = constant + (norm.bias @ W[head] if model.config.layer_norm else 0.0)
            side["bias"] = constant.expand(*tokens.shape, -1)
    q, k = ({name: attn.rotate(x[:, None])[:, 0] for name, x in side.items()} for side in sides)
    if model.config.smeared_keys:
        k = {name: smear(x[:, None], attn.alpha[head : head + 1])[:, 0] for name, x in k.items()}
    return q, k


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(ARCHITECTURES)), st.integers(0, 2**31))
def test_mean_over_chosen_pairs_equals_an_explicit_loop(architecture, seed):
    model = random_model(architecture, seed)
    tokens = random_tokens(model, 2, seed)
    where = torch.rand(2, 6, 6, generator=seeded(seed)).lt(0.4).tril()
    where[0, 3, 1] = True
    paths = score_paths(model, tokens, 1, 1)
    found = paths.mean(where)
    for (t, query), (u, key) in product(enumerate(paths.names), repeat=2):
        picked = [float(x) for x in paths.path(query, key)[where]]
        assert float(found[t, u]) == pytest.approx(sum(picked) / len(picked), rel=1e-8, abs=1e-8)


def test_float32_paths_sum_to_the_attention_scores():
    for architecture in ARCHITECTURES:
        model = random_model(architecture).float()
        tokens = random_tokens(model)
        paths, scores = score_paths(model, tokens, 2, 0), keep(model, tokens, ["attn_scores"])["attn_scores", 2][:, 0]
        size = torch.stack([paths.path(query, key).abs() for query, key in product(paths.names, repeat=2)]).sum(0)
        assert ((paths.total() - scores.tril()).abs() <= 1e-5 * (1 + size)).all()


def test_the_hand_built_induction_scores_come_from_token_meets_previous_token_head_alone():
    tokens = repeated_tokens(4, 8, 2, 20, seeded())
    paths = score_paths(induction_circuit(20, 17, sharpness=30.0), tokens, 1, 0)
    assert paths.names == ("embedding", "0.0", "positions")
    for query, key in product(paths.names, repeat=2):
        if (query, key) != ("embedding", "0.0"):
            assert not paths.path(query, key).any()
    torch.testing.assert_close(paths.path("embedding", "0.0"), paths.total())
    targets = induction_targets(tokens)
    torch.testing.assert_close(paths.mean(targets)[0, 1], torch.tensor(30.0))
    others = torch.ones_like(targets).tril() & ~targets
    others[:, 0] = False  # the start token has no token before it: head 0.0 notes itself there
    assert float(paths.mean(others)[0, 1]) == pytest.approx(0, abs=1e-4)
    first = score_paths(induction_circuit(20, 17, sharpness=30.0), tokens, 0, 0)
    torch.testing.assert_close(first.path("positions", "positions"), first.total())


# ---- one edge at a time


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("into", ["Q", "K", "V"])
@pytest.mark.parametrize(("earlier", "later"), [((0, 1), (1, 0)), ((0, 0), (2, 1)), ((1, 1), (2, 1))])
def test_cutting_an_edge_recomputes_one_input_of_one_head_and_leaves_all_else(architecture, into, earlier, later):
    model = random_model(architecture)
    tokens = random_tokens(model)
    whole, cut = run(model, tokens), run(model, tokens, path_ablation(model, earlier, later, into))
    block, head = model.blocks[later[0]], later[1]
    stream, written = resid_before(whole, later[0]), whole["result", earlier[0]][:, earlier[1]]
    with torch.no_grad():
        x = through_frozen_norm(block.attn_norm, stream - written, stream)
        x = x + (block.attn_norm.bias if model.config.layer_norm else 0.0)
        if into != "V" and model.config.positions == "qk":
            x = x + model.W_pos
        b = getattr(block.attn, f"b_{into}")
        edited = x @ getattr(block.attn, f"W_{into}")[head] + (0.0 if b is None else b[head])
        edited = edited if into == "V" else block.attn.rotate(edited[:, None])[:, 0]
        if into == "K" and model.config.smeared_keys:
            edited = smear(edited[:, None], block.attn.alpha[head : head + 1])[:, 0]
    torch.testing.assert_close(cut[into.lower(), later[0]][:, head], edited, **EXACT)
    assert not torch.allclose(edited, whole[into.lower(), later[0]][:, head])
    for (name, layer), value in whole.items():  # nothing before, beside or at another input of the later head
        same_input = name in ("q", "k", "v") and layer == later[0]
        others = [h for h in range(2) if h != head]
        if 0 <= layer < later[0] or (same_input and name != into.lower()):
            assert torch.equal(cut[name, layer], value)
        elif same_input or (layer == later[0] and name in ("attn_scores", "pattern", "z", "result")):
            assert torch.equal(cut[name, layer][:, others], value[:, others])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("into", ["Q", "K"])
def test_cutting_an_edge_removes_exactly_its_paths(architecture, into):
    """With LayerNorm too: both are frozen at the scale of the whole stream."""
    model = random_model(architecture)
    tokens = random_tokens(model)
    paths = score_paths(model, tokens, 2, 0)
    kept = run(model, tokens, path_ablation(model, (0, 1), (2, 0), into))
    others = [name for name in paths.names if name != "0.1"]
    pairs = product(others, paths.names) if into == "Q" else product(paths.names, others)
    left = sum(paths.path(query, key) for query, key in pairs)
    torch.testing.assert_close(kept["attn_scores", 2][:, 0].tril(), left, rtol=1e-9, atol=1e-9)


def test_taps_compose_and_cutting_all_edges_into_the_last_layer_hides_the_head_from_it():
    """Without a norm: the last layer then works as if the earlier head had been subtracted from its input."""
    model = random_model(n_layers=2)
    tokens, written = random_tokens(model), {}
    taps = [path_ablation(model, (0, 1), (1, head), into) for head, into in product(range(2), "QKV")]

    def all_taps(name, layer, value):
        for tap in taps:
            value = tap(name, layer, value)
        if (name, layer) == ("result", 0):
            written["0.1"] = value[:, 1]
        return value

    cut = run(model, tokens, all_taps)
    with torch.no_grad():
        stream = cut["resid_post", 0] - written["0.1"]
        attention = model.blocks[1].attn(stream + model.W_pos, stream)
        torch.testing.assert_close(cut["logits", -1], (cut["resid_post", 0] + attention) @ model.W_U, **EXACT)


@pytest.mark.parametrize("into", ["Q", "K", "V"])
def test_hiding_the_previous_token_head_from_the_keys_alone_destroys_the_hand_built_circuit(into):
    tokens = repeated_tokens(8, 12, 2, 30, seeded())
    model = induction_circuit(30, 25)
    whole = run(model, tokens)
    cut = run(model, tokens, path_ablation(model, (0, 0), (1, 0), into))
    score = float(prefix_matching_score(cut["pattern", 1], tokens)[0])
    accuracy = (cut["logits", -1].argmax(-1)[:, 13:-1] == tokens[:, 14:]).double().mean()
    if into == "K":
        uniform = sum(1 / query for query in range(14, 26)) / 12  # no key stands out: each query spreads evenly
        assert score == pytest.approx(uniform, rel=1e-4)
        assert accuracy < 0.3
    else:
        assert score == pytest.approx(1) and accuracy == 1
        for name, value in whole.items():
            torch.testing.assert_close(cut[name], value)


def test_a_tap_can_be_used_again_on_other_tokens():
    model = random_model("gpt2")
    tap = path_ablation(model, (0, 0), (1, 0), "K")
    first, second = random_tokens(model), random_tokens(model, batch=3, seed=1)[:, :4]
    fresh = run(model, second, path_ablation(model, (0, 0), (1, 0), "K"))["logits", -1]
    run(model, first, tap)
    assert torch.equal(run(model, second, tap)["logits", -1], fresh)


def test_a_tap_leaves_what_it_is_given_as_it_was():
    """Else a recorder in front of it would keep edited queries."""
    model = random_model()
    tokens, cut = random_tokens(model), path_ablation(model, (0, 0), (1, 0), "Q")
    seen = {}

    def tap(name, layer, value):
        seen[name, layer] = value
        return cut(name, layer, value)

    model.residual(tokens, tap)
    whole = run(model, tokens)
    assert all(torch.equal(seen["q", layer], whole["q", layer]) for layer in (0, 1))


# ---- bad input


def test_the_whole_vocabulary_is_refused_where_it_would_be_too_large(monkeypatch):
    model = random_model("gpt2")
    tokens = random_tokens(model)
    names = len(logit_attribution(model, tokens)) - 1  # at most as many as counted: norm and unembedding share `bias`
    numbers = (3 * (2 + 2) + 3) * 2 * 6 * 7
    assert names <= 3 * 4 + 2
    monkeypatch.setattr(attribution, "NUMBERS_LIMIT", numbers)
    assert logit_attribution(model, tokens)
    monkeypatch.setattr(attribution, "NUMBERS_LIMIT", numbers - 1)
    with pytest.raises(ValueError, match="targets must be given"):
        logit_attribution(model, tokens)
    assert logit_attribution(model, tokens, tokens)


def causal(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.bool).tril()


TOKENS = torch.tensor([[0, 3, 6, 2, 2, 1], [1, 1, 4, 0, 5, 3]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: logit_attribution(m, TOKENS[0]), ["tokens", "[batch, pos]"]),
        (lambda m: logit_attribution(m, TOKENS + 1), ["tokens", "0..6", "7"]),
        (lambda m: logit_attribution(m, TOKENS[:0]), ["tokens", "empty"]),
        (lambda m: logit_attribution(m, TOKENS, TOKENS[:, 1:]), ["targets", "[2, 6]", "[2, 5]"]),
        (lambda m: logit_attribution(m, TOKENS, TOKENS.double()), ["targets", "float64"]),
        (lambda m: logit_attribution(m, TOKENS, TOKENS > 2), ["targets", "bool"]),
        (lambda m: logit_attribution(m, TOKENS, TOKENS + 1), ["targets", "0..6", "7"]),
        (lambda m: logit_attribution(m, TOKENS, TOKENS - 1), ["targets", "0..6", "-1"]),
        (lambda m: logit_attribution(m, TOKENS, positions=torch.tensor([6])), ["positions", "-6..5", "[6]"]),
        (lambda m: logit_attribution(m, TOKENS, positions=torch.tensor([-7])), ["positions", "-6..5", "[-7]"]),
        (lambda m: logit_attribution(m, TOKENS, positions=torch.tensor([], dtype=torch.long)), ["positions", "one"]),
        (lambda m: logit_attribution(m, TOKENS, positions=torch.tensor([0.5])), ["positions", "0.5"]),
        (lambda m: logit_attribution(m, TOKENS, positions=torch.tensor([True] + [False] * 5)), ["positions", "bool"]),
        (
            lambda m: logit_attribution(m, TOKENS, positions=torch.tensor([1], dtype=torch.uint8)),
            ["positions", "uint8"],
        ),
        (lambda m: logit_attribution(m, TOKENS, TOKENS.to(torch.uint8)), ["targets", "uint8"]),
        (lambda m: logit_attribution(m, TOKENS, positions=torch.tensor(1)), ["positions", "[n]"]),
        (lambda m: score_paths(m, TOKENS, 3, 0), ["3.0", "layers 0..2"]),
        (lambda m: score_paths(m, TOKENS, 0, 2), ["0.2", "heads 0..1"]),
        (lambda m: score_paths(m, TOKENS[0], 0, 0), ["tokens", "[batch, pos]"]),
        (lambda m: score_paths(m, TOKENS, 1, 0).path("1.0", "0.0"), ["query", "embedding, 0.0, 0.1", "'1.0'"]),
        (lambda m: score_paths(m, TOKENS, 1, 0).path("0.0", "mlp.0"), ["key", "embedding, 0.0, 0.1", "'mlp.0'"]),
        (lambda m: score_paths(m, TOKENS, 1, 0).mean(causal(1, 6, 6)), ["where", "[2, 6, 6]", "[1, 6, 6]"]),
        (lambda m: score_paths(m, TOKENS, 1, 0).mean(causal(2, 6, 6).double()), ["where", "bool", "float64"]),
        (lambda m: score_paths(m, TOKENS, 1, 0).mean(~causal(2, 6, 6)), ["where", "later"]),
        (lambda m: score_paths(m, TOKENS, 1, 0).mean(torch.ones(2, 6, 6).tril(1).bool()), ["where", "later"]),
        (lambda m: score_paths(m, TOKENS, 1, 0).mean(causal(2, 6, 6) & False), ["where", "True"]),
        (lambda m: path_ablation(m, (0, 2), (1, 0), "K"), ["0.2", "heads 0..1"]),
        (lambda m: path_ablation(m, (0, 0), (3, 0), "K"), ["3.0", "layers 0..2"]),
        (lambda m: path_ablation(m, (1, 0), (1, 1), "K"), ["earlier", "1.0", "1.1"]),
        (lambda m: path_ablation(m, (2, 0), (1, 1), "K"), ["earlier", "2.0", "1.1"]),
        (lambda m: path_ablation(m, (0, 0), (1, 1), "k"), ["into", "'K'", "'k'"]),
    ],
)
def test_bad_input_is_named(call, words, unchecked):
    with pytest.raises(ValueError) as error:
        call(random_model())
    for word in words:
        assert word in str(error.value)
