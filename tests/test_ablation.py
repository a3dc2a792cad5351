"""Ablations against a forward pass by hand, against path terms, and on a circuit whose parts are known."""

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.ablation import (
    KINDS,
    ablated_logits,
    ablated_losses,
    mean_ablation,
    mean_results,
    pattern_preserving_ablation,
    zero_ablation,
)
from course_lib.data import repeated_tokens
from course_lib.handbuilt import induction_circuit
from course_lib.icl import icl_score
from course_lib.model import ModelConfig, Transformer, keep, patterns
from course_lib.scores import per_token_loss
from course_lib.sweep import (
    Sweep,
    ablation_sweep,
    before_and_after_score,
    before_and_after_vector,
    icl_attribution,
)

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def random_model(seed: int = 0, **config) -> Transformer:
    """A small model in which no weight, bias or norm keeps its starting value."""
    small = {"n_layers": 2, "n_heads": 2, "d_model": 6, "d_head": 3, "d_vocab": 7, "n_ctx": 8}
    model = Transformer(ModelConfig(**small | config), seed)
    generator = seeded(seed + 1)
    for weight in model.parameters():
        weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.5)
    return model


def random_tokens(model: Transformer, batch: int = 3, pos: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, model.config.d_vocab, (batch, pos), generator=seeded(seed))


def all_heads(model: Transformer) -> list[tuple[int, int]]:
    return list(product(range(model.config.n_layers), range(model.config.n_heads)))


# ---- the slow, obvious reference: one example, one position, one head at a time


def layer_norm(x, norm):
    if isinstance(norm, torch.nn.Identity):
        return x
    centred = x - x.mean()
    return centred / (centred.square().mean() + norm.eps).sqrt() * norm.weight + norm.bias


def heads_read(attn, head, x, positions):
    """Queries, keys and values of one head at every position."""
    made = []
    for name, added in (("Q", positions), ("K", positions), ("V", [0.0] * len(x))):
        bias = getattr(attn, f"b_{name}")
        vectors = [(xi + p) @ getattr(attn, f"W_{name}")[head] for xi, p in zip(x, added, strict=True)]
        made.append(vectors if bias is None else [vector + bias[head] for vector in vectors])
    return made


def attention_row(qs, ks, q):
    scores = torch.stack([qs[q] @ ks[k] / math.sqrt(len(qs[q])) for k in range(q + 1)])
    return scores.softmax(0)


@torch.no_grad()
def by_hand(model, tokens, replacement=None, forced=None):
    """Logits, head results and patterns of the plain forward pass with loops.

    replacement: {(layer, head): vector} put where the head's result would stand.
    forced: {(example, layer, head): rows of attention} used instead of computed ones.
    """
    replacement, logits, results, rows = replacement or {}, [], {}, {}
    config = model.config
    for b, sequence in enumerate(tokens):
        positions = [model.W_pos[i] for i in range(len(sequence))]
        resid = [model.W_E[token] for token in sequence]
        if config.positions == "residual":
            resid, positions = [r + p for r, p in zip(resid, positions, strict=True)], [0.0] * len(sequence)
        for layer, block in enumerate(model.blocks):
            x = [layer_norm(r, block.attn_norm) for r in resid]
            after = list(resid)
            for head in range(config.n_heads):
                qs, ks, vs = heads_read(block.attn, head, x, positions)
                pattern = [attention_row(qs, ks, q) for q in range(len(x))]
                rows[b, layer, head] = pattern = forced[b, layer, head] if forced else pattern
                for q in range(len(x)):
                    result = sum(pattern[q][k] * vs[k] for k in range(q + 1)) @ block.attn.W_O[head]
                    results[b, layer, head, q] = result
                    after[q] = after[q] + replacement.get((layer, head), result)
            if config.attn_biases:
                after = [r + block.attn.b_O for r in after]
            if config.d_mlp:
                mlp, mlp_reads = block.mlp, resid if config.parallel_residual else after
                for q, r in enumerate(list(mlp_reads)):
                    hidden = F.gelu(layer_norm(r, block.mlp_norm) @ mlp.W_in + mlp.b_in)
                    after[q] = after[q] + hidden @ mlp.W_out + mlp.b_out
            resid = after
        logits.append(torch.stack([layer_norm(r, model.final_norm) @ model.W_U for r in resid]))
    return torch.stack(logits), results, rows


def ablated_by_hand(model, tokens, heads, kind, reference=None):
    if kind == "zero":
        return by_hand(model, tokens, {at: torch.zeros(model.config.d_model) for at in heads})[0]
    if kind == "mean":
        results = by_hand(model, tokens if reference is None else reference)[1]
        means = {}
        for at in heads:
            values = [value for (_, layer, head, _), value in results.items() if (layer, head) == at]
            means[at] = sum(values) / len(values)
        return by_hand(model, tokens, means)[0]
    zeros = {at: torch.zeros(model.config.d_model) for at in heads}
    return by_hand(model, tokens, zeros, forced=by_hand(model, tokens)[2])[0]


def loss_by_hand(logits, tokens):
    """One softmax, one logarithm, no library function."""
    losses = torch.zeros(tokens.shape[0], tokens.shape[1] - 1)
    for b, i in product(*map(range, losses.shape)):
        exponentials = [math.exp(value) for value in logits[b, i].tolist()]
        losses[b, i] = -math.log(exponentials[tokens[b, i + 1]] / sum(exponentials))
    return losses


MODELS = st.fixed_dictionaries(
    {
        "n_layers": st.integers(1, 3),
        "n_heads": st.integers(1, 3),
        "d_model": st.sampled_from([4, 5]),
        "d_head": st.integers(1, 3),
        "d_mlp": st.sampled_from([0, 0, 5]),
        "layer_norm": st.booleans(),
        "positions": st.sampled_from(["qk", "residual"]),
        "attn_biases": st.booleans(),
        "parallel_residual": st.booleans(),
        "seed": st.integers(0, 10**6),
    }
).map(lambda config: config | {"parallel_residual": config["parallel_residual"] and config["d_mlp"] > 0})
# Parts that the reference by hand leaves out; the sweep must cope with them too.
OTHER_PARTS = st.sampled_from(
    [
        {},
        {"smeared_keys": True},
        {"positions": "rotary", "d_head": 4, "rotary_share": 0.5, "unembed_bias": True},
        {"learned_positions": False, "d_model": 4, "gelu": "tanh"},
    ]
)


@settings(max_examples=40, deadline=None)
@given(MODELS, st.sampled_from(KINDS), st.integers(1, 3), st.integers(2, 4), st.data())
def test_ablated_logits_and_losses_equal_a_forward_pass_by_hand(config, kind, batch, pos, data):
    model = random_model(**config).double()
    tokens = random_tokens(model, batch, pos, config["seed"])
    heads = data.draw(st.lists(st.sampled_from(all_heads(model)), unique=True))
    torch.testing.assert_close(
        ablated_logits(model, tokens, heads, kind, batch=2), ablated_by_hand(model, tokens, heads, kind), **CLOSE
    )
    expected = loss_by_hand(ablated_by_hand(model, tokens[:, :-1], heads, kind), tokens)
    torch.testing.assert_close(ablated_losses(model, tokens, heads, kind, batch=2), expected, **CLOSE)


@settings(max_examples=15, deadline=None)
@given(MODELS, st.integers(1, 3), st.integers(1, 5))
def test_mean_may_come_from_other_tokens_of_another_shape(config, batch, pos):
    model = random_model(**config).double()
    tokens, reference = random_tokens(model), random_tokens(model, batch, pos, seed=5)
    heads = [(0, 0), all_heads(model)[-1]]
    expected = ablated_by_hand(model, tokens, heads, "mean", reference)
    torch.testing.assert_close(ablated_logits(model, tokens, heads, "mean", reference), expected, **CLOSE)
    with torch.no_grad():
        tapped = model(tokens, tap=mean_ablation(model, heads, reference, batch=1))
    torch.testing.assert_close(tapped, expected, **CLOSE)


@settings(max_examples=15, deadline=None)
@given(MODELS)
def test_mean_results_equal_a_loop(config):
    model = random_model(**config).double()
    tokens = random_tokens(model)
    results = by_hand(model, tokens)[1]
    means = mean_results(model, tokens, batch=2)
    for layer, head in all_heads(model):
        values = [results[b, layer, head, q] for b, q in product(range(3), range(6))]
        torch.testing.assert_close(means[layer, head], sum(values) / 18, **CLOSE)


# ---- the sweep shares work, and must give what one ablation after another gives


def naive_sweep(model, tokens, measure, kind, of, reference=None):
    ablate = {"losses": ablated_losses, "logits": ablated_logits}[of]
    values = [torch.as_tensor(measure(ablate(model, tokens, [at], kind, reference))) for at in all_heads(model)]
    shape = (model.config.n_layers, model.config.n_heads)
    return torch.as_tensor(measure(ablate(model, tokens, []))), torch.stack(values).unflatten(0, shape)


@settings(max_examples=60, deadline=None)
@given(MODELS, OTHER_PARTS, st.sampled_from(KINDS), st.sampled_from(["losses", "logits"]))
def test_sweep_equals_the_naive_sweep(config, other, kind, of):
    model = random_model(**config | other).double()  # rounding aside; float32 is tested below
    tokens = random_tokens(model, batch=3)
    sweep = ablation_sweep(model, tokens, lambda values: values, kind, of, batch=2)
    base, ablated = naive_sweep(model, tokens, lambda values: values, kind, of)
    torch.testing.assert_close(sweep.base, base, **CLOSE)
    torch.testing.assert_close(sweep.ablated, ablated, **CLOSE)
    assert torch.equal(sweep.change, sweep.ablated - sweep.base)
    assert sweep.kind == kind


def test_sweep_of_a_larger_model_is_exact_to_1e5():
    model = Transformer(
        ModelConfig(n_layers=3, n_heads=4, d_model=64, d_head=16, d_vocab=200, n_ctx=64, layer_norm=True)
    )
    tokens = random_tokens(model, 4, 65)
    for kind in KINDS:
        sweep = ablation_sweep(model, tokens, lambda losses: losses, kind, batch=3)
        base, ablated = naive_sweep(model, tokens, lambda losses: losses, kind, "losses")
        assert (sweep.base - base).abs().max() < 1e-5
        assert (sweep.ablated - ablated).abs().max() < 1e-5


def test_sweep_with_a_reference_batch():
    model = random_model(d_mlp=5, layer_norm=True)
    tokens, reference = random_tokens(model), random_tokens(model, 2, 4, seed=9)
    sweep = ablation_sweep(model, tokens, torch.mean, "mean", reference=reference)
    torch.testing.assert_close(sweep.ablated, naive_sweep(model, tokens, torch.mean, "mean", "losses", reference)[1])


def test_losses_in_small_pieces_are_the_same_losses(monkeypatch):
    model = random_model()
    tokens = random_tokens(model, batch=5)
    whole = ablation_sweep(model, tokens, lambda losses: losses)
    monkeypatch.setattr("course_lib.fast.LOGITS_AT_ONCE", 2 * model.config.d_vocab)
    pieces = ablation_sweep(model, tokens, lambda losses: losses)
    torch.testing.assert_close(pieces.ablated, whole.ablated)


def test_sweep_rows_are_tidy():
    model = random_model(n_heads=3)
    tokens = random_tokens(model)
    sweep = ablation_sweep(model, tokens, torch.mean)
    rows = sweep.rows()
    assert [row["head"] for row in rows] == ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]
    assert [row["layer"] for row in rows] == [0, 0, 0, 1, 1, 1]
    for row, (layer, head) in zip(rows, all_heads(model), strict=True):
        expected = ablated_losses(model, tokens, [(layer, head)]).mean().item()
        base = ablated_losses(model, tokens, []).mean().item()
        assert row["kind"] == "zero"
        assert row["ablated"] == pytest.approx(expected, abs=1e-5)
        assert row["base"] == pytest.approx(base, abs=1e-5)
        assert row["change"] == pytest.approx(expected - base, abs=1e-5)


def test_a_measure_may_give_a_python_number_or_a_count():
    model = random_model()
    tokens = random_tokens(model)
    assert ablation_sweep(model, tokens, lambda losses: 3).ablated.tolist() == [[3.0, 3.0], [3.0, 3.0]]
    right = lambda logits: (logits[:, :-1].argmax(-1) == tokens[:, 1:]).sum()  # noqa: E731
    base, ablated = naive_sweep(model, tokens, right, "zero", "logits")
    sweep = ablation_sweep(model, tokens, right, of="logits")
    assert torch.equal(sweep.ablated, ablated.float()) and sweep.base == base


def test_the_model_is_left_as_it_was():
    model = random_model()
    tokens = random_tokens(model)
    before = model(tokens)
    for kind in KINDS:
        ablation_sweep(model, tokens, torch.mean, kind)
        ablated_logits(model, tokens, [(0, 0)], kind)
    assert torch.equal(model(tokens), before)


# ---- what must hold for any model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [{}, {"d_mlp": 5, "layer_norm": True}, {"positions": "residual"}])
def test_ablating_no_heads_changes_nothing(kind, config):
    model = random_model(**config)
    tokens = random_tokens(model)
    with torch.no_grad():
        torch.testing.assert_close(ablated_logits(model, tokens, [], kind), model(tokens), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["zero", "pattern_preserving"])
def test_ablating_all_heads_leaves_the_direct_path(kind):
    model = random_model()
    tokens = random_tokens(model)
    direct = (model.W_E @ model.W_U)[tokens]
    torch.testing.assert_close(ablated_logits(model, tokens, all_heads(model), kind), direct.detach(), **CLOSE)


def test_the_order_of_heads_and_repeats_do_not_matter():
    model = random_model()
    tokens = random_tokens(model)
    once = ablated_logits(model, tokens, [(0, 1), (1, 0)])
    assert torch.equal(ablated_logits(model, tokens, [(1, 0), (0, 1), (1, 0)]), once)
    assert torch.equal(ablated_logits(model, tokens, ((1, 0), (0, 1))), once)
    assert torch.equal(ablated_logits(model, tokens, iter([(1, 0), (0, 1)])), once)


@torch.no_grad()
def test_mean_ablation_of_a_head_with_constant_output_changes_nothing():
    model = random_model(layer_norm=True)
    attn = model.blocks[0].attn
    norm = model.blocks[0].attn_norm
    norm.weight.zero_()  # the head reads the same vector everywhere, so it writes the same vector everywhere
    norm.bias.normal_(generator=seeded(3))
    tokens = random_tokens(model)
    assert keep(model, tokens, ["result"])["result", 0].abs().min() > 0 and attn.W_V.any()
    torch.testing.assert_close(ablated_logits(model, tokens, [(0, 0)], "mean"), model(tokens), **CLOSE)
    assert (ablated_logits(model, tokens, [(0, 0)], "zero") - model(tokens)).abs().max() > 1e-3
    sweep = ablation_sweep(model, tokens, torch.mean, "mean")
    assert sweep.change[0].abs().max() < 1e-5 < sweep.change[1].abs().max()


def test_mean_ablation_uses_one_mean_for_all_positions():
    """With a mean a position, a batch of one sequence would be its own mean and nothing would change."""
    model = random_model()
    tokens = random_tokens(model, batch=1)
    with torch.no_grad():
        kept = keep_ablated(model, tokens, mean_ablation(model, [(0, 1)], tokens), "result")
        assert torch.equal(kept[0, 1], kept[0, 1][:1].expand_as(kept[0, 1]))
        assert (ablated_logits(model, tokens, [(0, 1)], "mean") - model(tokens)).abs().max() > 1e-3


def keep_ablated(model, tokens, ablation, name, at=0):
    """An activation of one layer in an ablated run, as the ablation leaves it."""
    seen = {}

    def tap(this, layer, value):
        value = ablation(this, layer, value)
        if (this, layer) == (name, at):
            seen[name] = value
        return value

    with torch.no_grad():
        model.residual(tokens, tap)
    return seen[name]


def test_taps_do_not_change_the_tensors_they_are_given():
    model, value = random_model(), torch.ones(1, 2, 3, 6)
    zero_ablation(model, [(0, 1)])("result", 0, value)
    assert value.all()


def test_only_the_named_heads_are_changed():
    model = random_model(n_heads=3)
    tokens = random_tokens(model)
    whole = keep(model, tokens, ["pattern", "result"])["result", 1]
    ablated = keep_ablated(model, tokens, zero_ablation(model, [(1, 0), (1, 2)]), "result", at=1)
    assert not ablated[:, [0, 2]].any()
    assert torch.equal(ablated[:, 1], whole[:, 1])


# ---- pattern-preserving ablation is the subtraction of path terms


def path_term(model, tokens, pattern, path):
    """The direct path through one chosen head, or none, in every layer: tokens -> residual stream."""
    resid = model.W_E[tokens]
    for layer, head in enumerate(path):
        if head is not None:
            attn = model.blocks[layer].attn
            resid = pattern[layer, :, head] @ resid @ attn.W_V[head] @ attn.W_O[head]
    return resid @ model.W_U


@pytest.mark.parametrize("n_layers", [2, 3])
@pytest.mark.parametrize("ablated", [[(0, 0)], [(0, 1)], [(1, 0)], [(0, 0), (1, 1)]])
@torch.no_grad()
def test_pattern_preserving_ablation_subtracts_every_term_with_the_head(n_layers, ablated):
    model = random_model(n_layers=n_layers, seed=n_layers).double()
    tokens = random_tokens(model)
    pattern = patterns(model, tokens)
    paths = list(product(*[[None, 0, 1]] * n_layers))
    terms = {path: path_term(model, tokens, pattern, path) for path in paths}
    torch.testing.assert_close(sum(terms.values()), model(tokens))  # the terms are the whole model
    containing = [path for path in paths if any(path[layer] == head for layer, head in ablated)]
    expected = model(tokens) - sum(terms[path] for path in containing)
    torch.testing.assert_close(ablated_logits(model, tokens, ablated, "pattern_preserving"), expected)
    torch.testing.assert_close(model(tokens, tap=pattern_preserving_ablation(model, ablated, tokens)), expected)
    later_patterns_react = (ablated_logits(model, tokens, ablated, "zero") - expected).abs().max() > 1e-4
    assert later_patterns_react == (min(ablated)[0] < n_layers - 1)


@torch.no_grad()
def test_in_the_last_layer_zero_and_pattern_preserving_ablation_are_the_same():
    model = random_model(d_mlp=5, layer_norm=True)
    tokens = random_tokens(model)
    same = [ablated_logits(model, tokens, [(1, 0)], kind) for kind in ("zero", "pattern_preserving")]
    torch.testing.assert_close(*same, **CLOSE)


# ---- known answers: the hand-built induction circuit

LENGTH, D_VOCAB = 20, 64


def circuit():
    tokens = repeated_tokens(32, LENGTH, 3, D_VOCAB, seeded())
    return induction_circuit(D_VOCAB, tokens.shape[1]), tokens


def completion(tokens, logits):
    """Share of right predictions from the first repeated token on."""
    right = logits[:, LENGTH + 1 : -1].argmax(-1) == tokens[:, LENGTH + 2 :]
    return right.float().mean()


@pytest.mark.parametrize("kind", ["zero", "mean"])
def test_ablating_either_head_of_the_induction_circuit_destroys_completion(kind):
    model, tokens = circuit()
    sweep = ablation_sweep(model, tokens, partial(completion, tokens), kind, of="logits")
    assert sweep.base == 1
    assert sweep.ablated.max() < 3 / LENGTH  # chance: at best a guess among the tokens of the segment
    together = ablated_logits(model, tokens, [(0, 0), (1, 0)], kind)
    assert completion(tokens, together) < 3 / LENGTH


def test_losses_after_zero_ablation_of_the_circuit_are_those_of_a_uniform_guess():
    model, tokens = circuit()
    assert not ablated_logits(model, tokens, [(1, 0)]).any()  # only head 1.0 writes to the prediction
    losses = ablated_losses(model, tokens, [(1, 0)])
    torch.testing.assert_close(losses, torch.full_like(losses, math.log(D_VOCAB)))


def test_the_second_pattern_reacts_to_zero_ablation_and_is_kept_by_pattern_preserving_ablation():
    model, tokens = circuit()
    whole = patterns(model, tokens)[1]
    zeroed = keep_ablated(model, tokens, zero_ablation(model, [(0, 0)]), "pattern", at=1)
    kept = keep_ablated(model, tokens, pattern_preserving_ablation(model, [(0, 0)], tokens), "pattern", at=1)
    assert torch.equal(kept, whole)
    assert (zeroed - whole).abs().max() > 0.9
    # The circuit composes through keys alone: with its patterns kept, the first head is not missed.
    assert completion(tokens, ablated_logits(model, tokens, [(0, 0)], "pattern_preserving")) == 1
    sweep = ablation_sweep(model, tokens, partial(completion, tokens), "pattern_preserving", of="logits")
    assert sweep.ablated[0, 0] == 1 and sweep.ablated[1, 0] < 3 / LENGTH


# ---- losses come from logits, once


def test_double_log_softmax_trap_losses_come_from_logits_by_one_softmax():
    """Found in a published reference: log_softmax before a function that applies it again.

    Over the whole vocabulary the second one does nothing, which is how it stayed unseen. It does harm
    where the rows are no longer whole distributions: on the losses already picked out, or on probabilities.
    """
    model = random_model()
    tokens, heads = random_tokens(model), [(0, 1)]
    logits = ablated_logits(model, tokens[:, :-1], heads)
    ours = ablated_losses(model, tokens, heads)
    torch.testing.assert_close(ours, loss_by_hand(logits, tokens), **CLOSE)
    torch.testing.assert_close(per_token_loss(logits.log_softmax(-1), tokens), ours, **CLOSE)  # harmless
    harmful = {
        "picked out, then normalised over positions": -(-ours).log_softmax(-1),
        "probabilities taken for logits": per_token_loss(logits.softmax(-1), tokens),
    }
    for name, wrong in harmful.items():
        assert (wrong - ours).abs().max() > 0.1, name
    sweep = ablation_sweep(model, tokens, lambda losses: losses)
    torch.testing.assert_close(sweep.ablated[heads[0]], loss_by_hand(logits, tokens), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [{}, {"d_mlp": 5, "layer_norm": True}])
def test_float32_is_close_to_float64(kind, config):
    model = random_model(**config)
    tokens = random_tokens(model)
    single = ablated_logits(model, tokens, [(0, 0), (1, 1)], kind)
    sweep = ablation_sweep(model, tokens, lambda logits: logits, kind, of="logits")
    model.double()
    double = ablated_logits(model, tokens, [(0, 0), (1, 1)], kind)
    assert single.dtype == torch.float32 and double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, **CLOSE)
    double_sweep = ablation_sweep(model, tokens, lambda logits: logits, kind, of="logits")
    torch.testing.assert_close(sweep.ablated.double(), double_sweep.ablated, **CLOSE)


# ---- before-and-after vector


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 10**6))
def test_before_and_after_score_equals_a_loop(batch, pos, seed):
    before, after, ablated, unablated = torch.rand(4, batch, pos, generator=seeded(seed), dtype=torch.float64)
    entries = list(product(range(batch), range(pos)))
    length = math.sqrt(sum((after[at] - before[at]).item() ** 2 for at in entries))
    expected = sum(((after[at] - before[at]) / length * (ablated[at] - unablated[at])).item() for at in entries)
    vector = before_and_after_vector(before, after)
    assert vector.shape == before.shape
    assert vector.norm().item() == pytest.approx(1)
    assert before_and_after_score(vector, ablated, unablated) == pytest.approx(expected)
    flat = before_and_after_vector(before.flatten(), after.flatten())
    assert before_and_after_score(flat, ablated.flatten(), unablated.flatten()) == pytest.approx(expected)


def test_before_and_after_score_has_the_sign_of_the_phase_change():
    before, after = torch.full((2, 3), 4.0), torch.tensor([[4.0, 2.0, 1.0], [4.0, 3.0, 2.0]])
    vector = before_and_after_vector(before, after)
    whole_way = (after - before).norm().item()
    assert before_and_after_score(vector, ablated=before, unablated=after) == pytest.approx(-whole_way)
    assert before_and_after_score(vector, ablated=after, unablated=before) == pytest.approx(whole_way)
    elsewhere = after.clone()
    elsewhere[:, 0] += 5  # losses that the phase change did not move
    assert before_and_after_score(vector, elsewhere, after) == 0


def test_before_and_after_scores_of_all_heads_are_one_sweep():
    model, before = random_model(seed=2), random_model(seed=5)
    tokens = random_tokens(model)
    unablated = ablated_losses(model, tokens, [])
    vector = before_and_after_vector(ablated_losses(before, tokens, []), unablated)
    sweep = ablation_sweep(model, tokens, lambda losses: (vector * losses).sum())
    for layer, head in all_heads(model):
        score = before_and_after_score(vector, ablated_losses(model, tokens, [(layer, head)]), unablated)
        assert sweep.change[layer, head].item() == pytest.approx(score, abs=1e-4)


# ---- attribution of the ICL score


def test_icl_attribution_equals_one_ablation_after_another():
    model = random_model(n_ctx=12)
    tokens = random_tokens(model, 8, 12)
    score = partial(icl_score, early=2, late=10)
    base = score(ablated_losses(model, tokens, [])).item()
    for kind in KINDS:
        rows = icl_attribution(model, tokens, kind, together=[(1, 1), (0, 0)], measure=score)
        assert [row["heads"] for row in rows] == ["0.0", "0.1", "1.0", "1.1", "0.0 + 1.1"]
        assert [row["layer"] for row in rows] == [0, 0, 1, 1, None]
        for row, heads in zip(rows, [*([at] for at in all_heads(model)), [(0, 0), (1, 1)]], strict=True):
            expected = score(ablated_losses(model, tokens, heads, kind)).item()
            assert row["base"] == pytest.approx(base, abs=1e-5) and row["kind"] == kind
            assert row["ablated"] == pytest.approx(expected, abs=1e-5)
            assert row["change"] == pytest.approx(expected - base, abs=2e-5)


@torch.no_grad()
def test_shares_need_not_add_up_two_heads_that_need_each_other_both_carry_the_whole():
    model, tokens = circuit()
    model.W_U.mul_(8)
    score = partial(icl_score, early=LENGTH, late=2 * LENGTH)  # the last new token, the last of the first repeat
    rows = icl_attribution(model, tokens, together=[(0, 0), (1, 0)], measure=score)
    assert rows[0]["base"] < -4
    assert [row["share"] for row in rows] == pytest.approx([1, 1, 1], abs=0.1)


@torch.no_grad()
def test_shares_need_not_add_up_two_heads_that_do_the_same_look_idle():
    """A second induction head, a copy of the first: without either one the other still completes the sequence."""
    single, tokens = circuit()
    config = ModelConfig(**single.config.to_dict() | {"n_heads": 2})
    model = Transformer(config)
    for name, weight in single.named_parameters():
        model.get_parameter(name).copy_(weight.expand_as(model.get_parameter(name)))
    model.blocks[0].attn.W_O[1] = 0.0  # one previous-token head
    model.W_U.mul_(8)  # sure enough that half the evidence suffices
    rows = icl_attribution(
        model, tokens, together=[(1, 0), (1, 1)], measure=partial(icl_score, early=LENGTH, late=2 * LENGTH)
    )
    shares = {row["heads"]: row["share"] for row in rows}
    assert shares["1.0 + 1.1"] == pytest.approx(1, abs=0.01)
    assert abs(shares["1.0"]) < 0.1 and abs(shares["1.1"]) < 0.1


def test_share_is_the_part_of_the_score_that_goes():
    model = random_model(n_ctx=12)
    tokens = random_tokens(model, 8, 12)
    drawn = iter([-0.4, -0.1, -0.4, -0.5, 0.0, 0.1])
    rows = icl_attribution(model, tokens, together=[(0, 0)], measure=lambda losses: next(drawn))
    assert [row["share"] for row in rows] == pytest.approx([0.75, 0, -0.25, 1, 1.25])
    assert all(math.isnan(row["share"]) for row in icl_attribution(model, tokens, measure=lambda losses: 0.0))


# ---- bad input

TOKENS = torch.zeros(2, 4, dtype=torch.long)


def last_token(token: int) -> torch.Tensor:
    """TOKENS with another last token, which is predicted and never read."""
    return torch.cat([TOKENS[:, :-1], torch.full((2, 1), token)], dim=1)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: zero_ablation(m, [(2, 0)]), "head 2.0 does not exist: layers 0..1, heads 0..1"),
        (lambda m: mean_ablation(m, [(0, 2)], TOKENS), "head 0.2 does not exist"),
        (lambda m: pattern_preserving_ablation(m, [(0, -1)], TOKENS), "head 0.-1 does not exist"),
        (lambda m: ablated_logits(m, TOKENS, [(0, 0), (5, 1)]), "head 5.1 does not exist"),
        (lambda m: icl_attribution(m, TOKENS, together=[(3, 0)]), "head 3.0 does not exist"),
        (lambda m: ablated_losses(m, TOKENS, (1, 0)), r"pairs of integers such as \[\(1, 0\)\], got 1 among"),
        (lambda m: zero_ablation(m, ["1.0"]), "got '1.0' among"),
        (lambda m: zero_ablation(m, [(0.0, 1)]), r"got \(0.0, 1\) among"),
        (lambda m: zero_ablation(m, [(0, torch.tensor(0.6))]), r"got \(0, tensor\(0.6.*\)\) among"),
        (lambda m: zero_ablation(m, [(0, 1, 1)]), r"got \(0, 1, 1\) among"),
        (lambda m: ablated_logits(m, TOKENS, [(0, 0)], "half"), r"kind must be one of \('zero', 'mean', .* got 'half'"),
        (lambda m: ablation_sweep(m, TOKENS, torch.mean, "Zero"), "kind must be one of"),
        (lambda m: ablated_logits(m, TOKENS, [], "zero", TOKENS), "reference is used by kind 'mean' only"),
        (lambda m: ablation_sweep(m, TOKENS, torch.mean, of="loss"), r"of must be one of \('losses', 'logits'\)"),
        (lambda m: ablated_logits(m, TOKENS[:0], []), r"at least 1 sequence.* got \[0, 4\]"),
        (lambda m: ablated_losses(m, TOKENS[:0], []), r"at least 1 sequence.* got \[0, 4\]"),
        (lambda m: ablated_losses(m, TOKENS[:, :1], []), r"and 2 positions, got \[2, 1\]"),
        (lambda m: ablated_losses(m, TOKENS[0], []), r"\[batch, pos\].* got \[4\]"),
        (lambda m: ablation_sweep(m, TOKENS[:0], torch.mean, of="logits"), r"at least 1 sequence.* got \[0, 4\]"),
        (lambda m: ablation_sweep(m, TOKENS[:0], torch.mean), r"at least 1 sequence.* got \[0, 4\]"),
        (lambda m: ablation_sweep(m, TOKENS[0], torch.mean, of="logits"), r"\[batch, pos\].* got \[4\]"),
        (
            lambda m: ablation_sweep(m, TOKENS[:0], torch.mean, "mean", of="logits"),
            r"at least 1 sequence.* got \[0, 4\]",
        ),
        (lambda m: mean_results(m, TOKENS[:0]), r"at least 1 sequence.* got \[0, 4\]"),
        (lambda m: mean_results(m, TOKENS, batch=0), "batch must be at least 1, got 0"),
        (lambda m: ablation_sweep(m, TOKENS, torch.mean, batch=2.5), "batch must be a whole number, got 2.5"),
        (lambda m: ablation_sweep(m, TOKENS, torch.mean, of="logits", batch=0), "batch must be at least 1, got 0"),
        (lambda m: ablated_losses(m, TOKENS, [], batch=-1), "batch must be at least 1, got -1"),
        (lambda m: ablated_logits(m, TOKENS + 7, []), "tokens must lie in 0..6"),
        (lambda m: ablation_sweep(m, TOKENS.repeat(1, 4), torch.mean), "n_ctx is 8"),
        (lambda m: ablation_sweep(m, last_token(-100), torch.mean), r"0\.\.6, got values from -100"),
        (lambda m: ablation_sweep(m, last_token(-1), torch.mean), r"0\.\.6, got values from -1"),
        (lambda m: ablation_sweep(m, last_token(7), torch.mean, "mean"), r"0\.\.6, got values from \d to 7"),
        (lambda m: ablation_sweep(m, TOKENS, lambda losses: losses.mean(0)).rows(), r"one number.* shape \[3\]"),
        (lambda m: ablation_sweep(m, TOKENS, lambda losses: losses.mean() / 0), "NaN or infinity for the whole model"),
        (lambda m: icl_attribution(m, TOKENS), "late=500.*sequences of 3 tokens"),
        (lambda m: before_and_after_vector(torch.ones(2, 3), torch.ones(3, 2)), r"one shape.*\[2, 3\].*\[3, 2\]"),
        (lambda m: before_and_after_vector(torch.ones(0, 3), torch.ones(0, 3)), "not empty"),
        (lambda m: before_and_after_vector(torch.ones(2, 3), torch.ones(2, 3)), "length 0"),
        (lambda m: before_and_after_vector(torch.tensor([1.0, torch.nan]), torch.ones(2)), "before contains NaN"),
        (lambda m: before_and_after_vector(torch.ones(2), torch.tensor([1.0, torch.inf])), "after contains NaN or inf"),
        (lambda m: before_and_after_score(torch.ones(4), torch.ones(4), torch.ones(4)), "length 1.*got length 2"),
        (lambda m: before_and_after_score(torch.zeros(4), torch.ones(4), torch.ones(4)), "length 1.*got length 0"),
        (lambda m: before_and_after_score(torch.ones(1), torch.ones(4), torch.ones(4)), "one shape"),
        (lambda m: before_and_after_score(torch.ones(1), torch.tensor([torch.nan]), torch.ones(1)), "ablated contains"),
    ],
)
def test_bad_input(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call(random_model())


def test_nan_losses_are_reported_with_the_ablation_that_gave_them():
    model = random_model()
    drawn = iter([1.0, 1.0, 1.0, math.nan, 1.0])
    with pytest.raises(ValueError, match=r"NaN or infinity for head 1\.0 ablated"):
        ablation_sweep(model, random_tokens(model), lambda losses: next(drawn))
    with torch.no_grad():
        model.W_U[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinity for the whole model"):
        ablation_sweep(model, random_tokens(model), torch.mean)
    with pytest.raises(ValueError, match="losses contain NaN"):
        icl_attribution(model, random_tokens(model), measure=partial(icl_score, early=2, late=4))


def test_a_joint_ablation_that_gives_nan_is_reported_with_its_heads():
    model = random_model()
    drawn = iter([1.0] * 5 + [math.nan])
    with pytest.raises(ValueError, match=r"NaN or infinity for heads 0\.0 \+ 1\.1 ablated"):
        icl_attribution(model, random_tokens(model), together=[(1, 1), (0, 0)], measure=lambda losses: next(drawn))


@pytest.mark.parametrize("config", [{}, {"d_mlp": 5}])
def test_tokens_may_be_int32(config):
    model = random_model(**config)
    tokens = random_tokens(model)
    assert torch.equal(ablated_losses(model, tokens.int(), [(1, 0)]), ablated_losses(model, tokens, [(1, 0)]))
    for kind in KINDS:
        found, expected = (ablation_sweep(model, given, torch.mean, kind) for given in (tokens.int(), tokens))
        assert torch.equal(found.base, expected.base) and torch.equal(found.ablated, expected.ablated)


def test_saved_patterns_do_not_fit_tokens_of_another_shape():
    model = random_model()
    tap = pattern_preserving_ablation(model, [(0, 0)], random_tokens(model, 2, 5))
    with pytest.raises(ValueError, match=r"saved for \[2, 2, 5, 5\], this run has \[2, 2, 4, 4\]"):
        model(random_tokens(model, 2, 4), tap=tap)


def test_integers_of_numpy_name_heads_too(unchecked):
    model = random_model()
    tokens = random_tokens(model)
    worst = np.unravel_index(3, (2, 2))
    assert torch.equal(ablated_logits(model, tokens, [worst]), ablated_logits(model, tokens, [(1, 1)]))


def test_a_sweep_states_its_axes():
    sweep = Sweep("zero", torch.zeros(3), torch.ones(2, 4, 3))
    assert sweep.change.shape == (2, 4, 3)
