from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from course_lib.adapters import AttentionModel, CourseModel, OpenModel
from course_lib.data import repeated_tokens
from course_lib.evaluate import (
    all_head_scores,
    head_labels,
    head_scores,
    head_value,
    phase_change_record,
    token_losses,
)
from course_lib.handbuilt import induction_circuit
from course_lib.icl import icl_score
from course_lib.model import ModelConfig, Transformer, keep, patterns
from course_lib.scores import per_token_loss, prefix_matching_score, previous_token_score

CONFIG = dict(n_layers=2, n_heads=3, d_model=16, d_head=8, d_vocab=40, n_ctx=60)


def make(**changes):
    return Transformer(ModelConfig(**CONFIG | changes), seed=3)


@pytest.fixture
def repeated(generator):
    return repeated_tokens(4, 9, 3, 40, generator)


@pytest.fixture
def random_tokens(generator):
    return repeated_tokens(4, 12, 1, 40, generator, start_token=None)


def uniform_patterns(tokens):
    pos = tokens.shape[1]
    rows = torch.ones(pos, pos).tril() / torch.arange(1, pos + 1)[:, None]
    return rows.expand(1, len(tokens), 1, pos, pos)


def counting_logits(tokens, d_vocab=40):
    """Predicts the tokens of the context in proportion to how often they stood there, plus one: no induction."""
    counts = torch.nn.functional.one_hot(tokens, d_vocab).cumsum(1).float()
    return (counts + 1).log()


COUNTING = SimpleNamespace(logits=counting_logits, patterns=uniform_patterns)


def test_two_functions_make_a_model_that_can_be_scored(repeated):
    assert isinstance(COUNTING, AttentionModel) and not isinstance(COUNTING, OpenModel)
    table = all_head_scores(COUNTING, repeated)
    assert set(table["score"]) == {"previous_token", "prefix_matching", "duplicate_token", "first_token"}
    expected = prefix_matching_score(uniform_patterns(repeated), repeated).item()
    assert head_value(table, "0.0", "prefix_matching") == pytest.approx(expected)
    losses = token_losses(COUNTING, repeated, batch=3)
    torch.testing.assert_close(losses, per_token_loss(counting_logits(repeated), repeated))


def test_score_is_no_mechanism_trap_counting_the_context_gains_icl_without_induction(generator):
    """A control that cannot do induction still shows a large in-context-learning score."""
    few = torch.randint(1, 5, (50, 300), generator=generator) + 4 * torch.randint(0, 9, (50, 1), generator=generator)
    losses = token_losses(COUNTING, few)  # each sequence draws from four tokens of its own, in random order
    assert icl_score(losses, early=5, late=250) < -1
    scores = all_head_scores(COUNTING, few)
    assert head_value(scores, "0.0", "prefix_matching") == pytest.approx(0.25, abs=0.02)  # chance among four tokens


def test_a_transformer_and_its_adapter_give_the_same(repeated, random_tokens):
    model = make(layer_norm=True, d_mlp=8)
    adapter = CourseModel(model)
    assert isinstance(adapter, OpenModel)
    assert torch.equal(adapter.logits(repeated), model(repeated))
    assert torch.equal(adapter.patterns(repeated), patterns(model, repeated))
    assert all_head_scores(model, repeated, random_tokens).equals(all_head_scores(adapter, repeated, random_tokens))
    torch.testing.assert_close(
        token_losses(adapter, repeated), token_losses(model, repeated, precision="float32"), atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_outputs_mixed_by_the_pattern_are_the_head_result(random_tokens):
    model = make(layer_norm=True)
    kept = keep(model, random_tokens, ["result", "pattern"])
    outputs = CourseModel(model).outputs(random_tokens)
    for layer in range(2):
        torch.testing.assert_close(kept["pattern", layer] @ outputs[layer], kept["result", layer], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_folded_layer_norms_read_the_same_up_to_the_length_of_each_vector(generator):
    model = make(layer_norm=True)
    for norm in (model.final_norm, model.blocks[1].attn_norm):
        norm.weight.copy_(torch.randn(16, generator=generator))
    _, W_V, W_O, W_U = CourseModel(model).ov_weights()
    assert W_V.shape == (2, 3, 16, 8) and W_O.shape == (2, 3, 8, 16)
    x = torch.randn(5, 16, generator=generator)
    length = x.var(dim=-1, correction=0, keepdim=True).sqrt()
    for norm, weight, folded in (
        (model.final_norm, model.W_U, W_U),
        (model.blocks[1].attn_norm, model.blocks[1].attn.W_V[2], W_V[1, 2]),
    ):
        torch.testing.assert_close(norm(x) @ weight * length, x @ folded, atol=1e-4, rtol=1e-3)
    plain = make()
    assert torch.equal(CourseModel(plain).ov_weights()[-1], plain.W_U)


def test_the_table_holds_every_score_of_every_head(repeated, random_tokens):
    model = make()
    table = all_head_scores(model, repeated, random_tokens)
    assert list(table.columns) == ["layer", "head", "name", "score", "value"]
    assert table.groupby("score").size().to_dict() == dict.fromkeys(
        [
            "copying",
            "copying_chance",
            "duplicate_token",
            "eigenvalue_copying",
            "first_token",
            "prefix_matching",
            "previous_token",
        ],
        6,
    )
    assert (table["name"] == table["layer"].astype(str) + "." + table["head"].astype(str)).all()
    for name, values in head_scores(model, repeated).items():
        for layer in range(2):
            for head in range(3):
                value = head_value(table, f"{layer}.{head}", name)
                assert value == pytest.approx(values[layer, head].item(), abs=1e-6)
    assert "copying" not in set(all_head_scores(model, repeated)["score"])  # no random tokens, no copying


HEAD_SCORES = {
    "previous_token": lambda pattern, _: previous_token_score(pattern),
    "prefix_matching": prefix_matching_score,
}
MODELS = {
    "plain": {},
    "positions in queries and keys": dict(positions="qk"),
    "GPT-NeoX": dict(positions="rotary", d_mlp=8, layer_norm=True, attn_biases=True, parallel_residual=True),
    "smeared, one layer": dict(n_layers=1, smeared_keys=True),
    "three layers with MLPs": dict(n_layers=3, d_mlp=8),
}


@pytest.mark.parametrize("positions", [2, 41, 290])
@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_head_scores_are_the_scores_of_the_patterns(changes, positions, generator):
    """Few tokens and many copies, at other places in every row."""
    model = make(n_ctx=300, **changes).double()
    tokens = torch.randint(0, 6, (3, positions), generator=generator)
    tokens[0] = torch.arange(positions) % 40  # nothing repeats in this row until late
    tokens[1] = 7  # everything does
    pattern = patterns(model, tokens)
    for name, values in head_scores(model, tokens).items():
        assert values.dtype == torch.float64
        torch.testing.assert_close(values, HEAD_SCORES[name](pattern, tokens), atol=1e-12, rtol=0)


def broken():
    model = make()
    model.blocks[1].attn.W_Q.data[2] = torch.nan
    return model


def test_text_is_what_previous_and_first_token_are_measured_on(repeated, generator):
    model, text = make(), torch.randint(0, 40, (2, 30), generator=generator)
    table, without = (all_head_scores(model, repeated, text=t) for t in (text, None))
    expected = previous_token_score(patterns(model, text))
    assert head_value(table, "1.2", "previous_token") == pytest.approx(expected[1, 2].item())
    changed = table["score"][table["value"] != without["value"]]
    assert set(changed) == {"previous_token", "first_token"}


def test_the_hand_built_circuit_is_found_and_labelled():
    generator = torch.Generator().manual_seed(0)
    repeated = repeated_tokens(10, 25, 4, 26, generator)
    random_tokens = repeated_tokens(10, 25, 1, 26, generator, start_token=None)
    table = all_head_scores(induction_circuit(26, 101), repeated, random_tokens)
    for score in ("prefix_matching", "copying", "copying_chance", "eigenvalue_copying"):
        assert head_value(table, "1.0", score) == pytest.approx(1, abs=1e-3)
    assert head_value(table, "0.0", "previous_token") == pytest.approx(1, abs=1e-3)
    labels = head_labels(table)
    assert labels.set_index("name")["label"].to_dict() == {"0.0": "previous token", "1.0": "induction"}
    assert labels["strength"].tolist() == pytest.approx([1, 1], abs=1e-3)


def labels_of(table, **options):
    return head_labels(table, **options).set_index("name")["label"].to_dict()


def test_a_label_needs_the_threshold_and_induction_needs_copying():
    generator = torch.Generator().manual_seed(0)
    repeated, circuit = repeated_tokens(10, 25, 4, 26, generator), induction_circuit(26, 101)
    random_tokens = repeated_tokens(10, 25, 1, 26, generator, start_token=None)
    circuit.blocks[1].attn.W_O.data.neg_()  # finds the match and lowers its logit: an anti-copying head
    table = all_head_scores(circuit, repeated, random_tokens)
    assert labels_of(table)["1.0"] == "prefix matching"
    assert labels_of(table[table["score"] != "copying_chance"])["1.0"] == "induction"
    weaker = table.assign(value=table["value"] * 0.5)
    assert labels_of(weaker) == {"0.0": "previous token", "1.0": "prefix matching"}
    assert labels_of(weaker, threshold=0.6) == {"0.0": "other", "1.0": "other"}


def test_the_record_of_chapter_6_is_unchanged(generator):
    model, tokens = make(n_ctx=512), torch.randint(1, 40, (3, 513), generator=generator)
    record = phase_change_record(model, token_losses(model, tokens), repeated_tokens(2, 9, 3, 40, generator))
    assert set(record) == {"validation_loss", "icl", "loss_by_index", "previous_token", "prefix_matching"}
    losses = token_losses(model, tokens)
    assert record["icl"] == icl_score(losses, 50, 500, 12).item()
    assert record["loss_by_index"].shape == (512,) and record["previous_token"].shape == (2, 3)


@torch.no_grad()
def test_a_hugging_face_model_is_wrapped_in_a_few_lines(repeated):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_head=3, n_embd=24, vocab_size=40, n_positions=60)
    config._attn_implementation = "eager"  # the only one that returns patterns
    torch.manual_seed(0)
    gpt2 = transformers.GPT2LMHeadModel(config).eval()
    for weight in gpt2.parameters():
        weight.copy_(torch.randn_like(weight) * 0.3)
    model = SimpleNamespace(
        logits=lambda tokens: gpt2(tokens).logits,
        patterns=lambda tokens: torch.stack(gpt2(tokens, output_attentions=True).attentions),
    )
    table = all_head_scores(model, repeated)
    assert len(table) == 2 * 3 * 4 and table["value"].between(0, 1).all() and table["value"].nunique() == 24
    losses = token_losses(model, repeated)
    assert losses.mean().item() == pytest.approx(gpt2(repeated, labels=repeated).loss.item(), abs=1e-5)


def test_tokens_may_be_int32(repeated):
    model, short = make(), repeated.int()
    assert torch.equal(token_losses(model, short), token_losses(model, repeated))
    assert torch.equal(token_losses(CourseModel(model), short), token_losses(CourseModel(model), repeated))
    for name, scores in head_scores(model, short).items():
        assert torch.equal(scores, head_scores(model, repeated)[name])
    pd.testing.assert_frame_equal(all_head_scores(model, short, short), all_head_scores(model, repeated, repeated))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda r: all_head_scores(COUNTING, r, r), "outputs and ov_weights; pass random=None"),
        (lambda r: all_head_scores(COUNTING, r[:, :5]), "nothing to match"),
        (lambda r: all_head_scores(make(), r + 30), r"0\.\.39"),
        (lambda r: all_head_scores(make(), r[:0]), "not be empty"),
        (lambda r: head_scores(make(), r[:0]), "not be empty"),
        (lambda r: head_scores(make(), r[:, :1]), r"and 2 positions, got \[4, 1\]"),
        (lambda r: head_scores(make(), r[:, :5]), "nothing to match"),
        (lambda r: head_scores(make(), r + 30), r"0\.\.39"),
        (lambda r: head_scores(make(), r[0]), r"\[batch, pos\]"),
        (lambda r: head_scores(broken(), r), "after the softmax.*nan"),
        (lambda r: head_value(all_head_scores(COUNTING, r), "0.1", "prefix_matching"), r"no name '0.1'.*\['0.0'\]"),
        (lambda r: head_value(all_head_scores(COUNTING, r), "0.0", "prefix"), "no score 'prefix'.*prefix_matching"),
        (lambda r: head_labels(all_head_scores(COUNTING, r), threshold=1.5), r"0\.\.1, got 1.5"),
        (lambda r: head_labels(all_head_scores(COUNTING, r).iloc[1:]), r"no score \['previous_token'\]; it has"),
        (lambda r: token_losses(COUNTING, r[:0]), "at least 1 sequence"),
        (lambda r: token_losses(COUNTING, r, batch=0), "batch must be at least 1, got 0"),
        (lambda r: token_losses(make(), r[0]), r"shape \[batch, pos\] with at least 1 sequence"),
        (lambda r: token_losses(make(), r[:, :1]), r"and 2 positions, got \[4, 1\]"),
    ],
)
def test_bad_input(call, message, repeated, unchecked):
    with pytest.raises(ValueError, match=message):
        call(repeated)
