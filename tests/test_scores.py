import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.data import repeated_tokens
from course_lib.handbuilt import induction_circuit
from course_lib.model import ModelConfig, Transformer, keep, patterns
from course_lib.scores import (
    SCALES,
    copying_score,
    duplicate_targets,
    duplicate_token_score,
    eigenvalue_copying_score,
    first_token_score,
    induction_targets,
    per_token_loss,
    prefix_matching_score,
    previous_token_score,
)

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(2, 9), st.integers(0, 10**6))


def random_case(shape):
    layers, batch, heads, pos, seed = shape
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(layers, batch, heads, pos, pos, generator=generator)
    pattern = scores.masked_fill(torch.ones(pos, pos).triu(1).bool(), -torch.inf).softmax(-1)
    return pattern, torch.randint(0, 4, (batch, pos), generator=generator)


@settings(max_examples=80, deadline=None)
@given(SHAPES, st.sampled_from([(previous_token_score, lambda q: q - 1), (first_token_score, lambda q: 0)]))
def test_previous_and_first_token_score_equal_a_loop(shape, measure):
    (score, key), (pattern, _) = measure, random_case(shape)
    layers, batch, heads, pos, _ = pattern.shape
    for layer in range(layers):
        for h in range(heads):
            values = [pattern[layer, b, h, q, key(q)].item() for b in range(batch) for q in range(1, pos)]
            assert score(pattern)[layer, h].item() == pytest.approx(sum(values) / len(values), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    SHAPES, st.sampled_from(["sum", "mean"]), st.sampled_from([(prefix_matching_score, 1), (duplicate_token_score, 0)])
)
def test_prefix_matching_and_duplicate_token_score_equal_a_loop(shape, copies, measure):
    (score, offset), (pattern, tokens) = measure, random_case(shape)
    layers, batch, heads, pos, _ = pattern.shape
    for layer in range(layers):
        for h in range(heads):
            values = []
            for b in range(batch):
                for q in range(pos):
                    looked_for = [s + offset for s in range(q) if tokens[b, s] == tokens[b, q]]
                    total = sum(pattern[layer, b, h, q, k].item() for k in looked_for)
                    if looked_for:
                        values.append(total / (len(looked_for) if copies == "mean" else 1))
            if values:
                value = score(pattern, tokens, copies)[layer, h].item()
                assert value == pytest.approx(sum(values) / len(values), abs=1e-6)


@pytest.mark.parametrize("copies", ["sum", "mean"])
@pytest.mark.parametrize("targets", [induction_targets, duplicate_targets])
def test_only_the_targets_are_read_and_each_with_its_own_weight(targets, copies, generator):
    """Rows that repeat early, late, always and never; two leading axes; against a product with every entry."""
    tokens = torch.stack([torch.arange(12) % 3, torch.arange(12) % 11, torch.full((12,), 4), torch.arange(12)])
    pattern = torch.rand(
        2, 5, 4, 3, 12, 12, generator=generator, dtype=torch.float64
    )  # not causal: k > q must not count
    score = prefix_matching_score if targets is induction_targets else duplicate_token_score
    weight = targets(tokens).double()
    n_copies = weight.sum(-1, keepdim=True)
    share = weight / n_copies.clamp(min=1) if copies == "mean" else weight
    expected = (pattern * share[:, None]).sum((2, 4, 5)) / (n_copies > 0).sum()
    actual = score(pattern, tokens, copies)
    assert actual.shape == (2, 5, 3) and actual.dtype == torch.float64
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=0)


def copying_case(shape, d_vocab=6, d_model=5):
    pattern, tokens = random_case(shape)
    generator = torch.Generator().manual_seed(shape[-1] + 1)
    outputs = torch.randn(*pattern.shape[:-1], d_model, generator=generator)
    tokens[:, 0] = 5  # so that no sample consists of one token
    return outputs, torch.randn(d_model, d_vocab, generator=generator), pattern, tokens


def copying(**changes):
    case = dict(zip(("outputs", "W_U", "pattern", "tokens"), copying_case((1, 1, 1, 4, 0)), strict=True))
    return copying_score(**case | changes)


def weights(**changes):
    shapes = {"W_E": (6, 5), "W_V": (3, 5, 2), "W_O": (3, 2, 5), "W_U": (5, 6)}
    generator = torch.Generator().manual_seed(0)
    return tuple(changes.get(name, torch.randn(shape, generator=generator)) for name, shape in shapes.items())


def slow_copying(outputs, W_U, pattern, tokens, scale):
    """One head: every logit of every attended position, example by example."""
    examples = []
    for b in range(len(tokens)):
        attended = everything = 0.0
        different = set(tokens[b].tolist())
        for q in range(tokens.shape[1]):
            for k in range(tokens.shape[1]):
                logits = [sum(outputs[b, k, d] * W_U[d, v] for d in range(len(W_U))) for v in range(W_U.shape[1])]
                mean = sum(logits) / len(logits)
                rise = {v: max(0.0, float(logits[v] - mean)) for v in different}
                attended += float(pattern[b, q, k]) * rise[int(tokens[b, k])]
                everything += float(pattern[b, q, k]) * sum(rise.values())
        if scale == "4r-1":
            examples.append(4 * attended / (attended + everything) - 1 if everything else -1)
            continue
        whole = everything
        if scale == "chance":
            whole = attended + (everything - attended) / (len(different) - 1)
        examples.append(2 * attended / whole - 1 if whole else -1)
    return sum(examples) / len(examples)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.integers(2, 5), st.integers(0, 10**6)),
    st.sampled_from(SCALES),
)
def test_copying_score_equals_a_loop(shape, scale):
    outputs, W_U, pattern, tokens = copying_case(shape)
    scores = copying_score(outputs, W_U, pattern, tokens, scale)
    assert scores.shape == (shape[0], shape[2]) and scores.abs().max() <= 1 + 1e-6
    for layer in range(shape[0]):
        for h in range(shape[2]):
            expected = slow_copying(outputs[layer, :, h], W_U, pattern[layer, :, h], tokens, scale)
            assert scores[layer, h].item() == pytest.approx(expected, abs=2e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(0, 10**6))
def test_eigenvalue_copying_equals_the_eigenvalues_of_the_whole_circuit(heads, d_head, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((9, 6), (heads, 6, d_head), (heads, d_head, 6), (6, 9))
    W_E, W_V, W_O, W_U = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    scores = eigenvalue_copying_score(W_E, W_V, W_O, W_U)
    for h in range(heads):
        eigenvalues = torch.linalg.eigvals(W_E @ W_V[h] @ W_O[h] @ W_U)  # 9 x 9: the zeros add nothing to either sum
        expected = sum(value.real for value in eigenvalues.tolist()) / sum(abs(value) for value in eigenvalues.tolist())
        assert scores[h].item() == pytest.approx(expected, abs=1e-6)


def offset_pattern(pos, offset):
    """All attention on the key `offset` places from the query, and on key 0 where there is none."""
    pattern = torch.zeros(1, 1, pos, pos)
    for q in range(pos):
        pattern[0, 0, q, max(q + offset, 0)] = 1
    return pattern


def test_offset_trap_the_target_is_the_token_after_the_copy(generator):
    length = 5
    tokens = repeated_tokens(1, length, 2, 50, generator)
    pos = tokens.shape[1]
    scores = {offset: prefix_matching_score(offset_pattern(pos, offset), tokens).item() for offset in range(-7, 0)}
    assert scores[-(length - 1)] == 1
    assert all(score == 0 for offset, score in scores.items() if offset != -(length - 1))


def test_start_token_trap_only_repeated_tokens_are_counted(generator):
    tokens = repeated_tokens(3, 6, 2, 50, generator)
    queries = induction_targets(tokens).any(-1)
    assert queries.sum(-1).tolist() == [6, 6, 6]  # not length + 2, the number of entries on the diagonal


def test_uniform_attention_scores_what_theory_says(generator):
    length, repeats = 4, 3
    tokens = repeated_tokens(2, length, repeats, 30, generator)
    pos = tokens.shape[1]
    uniform = torch.tril(torch.ones(pos, pos)) / torch.arange(1, pos + 1)[:, None]
    pattern = uniform.expand(2, 1, pos, pos)
    expected = [((q - 1) // length) / (q + 1) for q in range(1 + length, pos)]
    assert prefix_matching_score(pattern, tokens).item() == pytest.approx(sum(expected) / len(expected))
    copies = [1 / (q + 1) for q in range(1 + length, pos)]
    assert prefix_matching_score(pattern, tokens, "mean").item() == pytest.approx(sum(copies) / len(copies))
    assert duplicate_token_score(pattern, tokens).item() == pytest.approx(sum(expected) / len(expected))
    to_one_key = sum(1 / (q + 1) for q in range(1, pos)) / (pos - 1)
    assert previous_token_score(pattern).item() == pytest.approx(to_one_key)
    assert first_token_score(pattern).item() == pytest.approx(to_one_key)


def test_an_ideal_pattern_scores_one_on_its_own_score_and_nothing_on_the_others(generator):
    length = 6
    tokens = repeated_tokens(2, length, 2, 50, generator)
    pos = tokens.shape[1]
    scores = {
        "previous": previous_token_score,
        "prefix": lambda pattern: prefix_matching_score(pattern, tokens),
        "duplicate": lambda pattern: duplicate_token_score(pattern, tokens),
    }
    for ideal, offset in {"previous": -1, "prefix": -(length - 1), "duplicate": -length}.items():
        pattern = offset_pattern(pos, offset).expand(2, 1, pos, pos)
        for name, score in scores.items():
            if name == ideal:
                assert score(pattern).item() == 1
            else:
                assert score(pattern).item() < 0.1  # position 1 has only position 0 before it
    assert first_token_score(offset_pattern(pos, -pos)).item() == 1


@pytest.mark.parametrize("copies, expected", [("sum", 1.0), ("mean", (1 + 1 / 2 + 1 / 3) / 3)])
def test_the_option_is_honoured_on_stacks_of_layers_and_batches(generator, copies, expected):
    tokens = repeated_tokens(3, 5, 4, 50, generator)
    target = induction_targets(tokens).float()
    pattern = target / target.sum(-1, keepdim=True).clamp(min=1)
    stacked = pattern[None, :, None].expand(2, 3, 4, -1, -1)
    torch.testing.assert_close(prefix_matching_score(stacked, tokens, copies), torch.full((2, 4), expected))


def test_positional_cheat_trap_a_fixed_offset_scores_one_at_its_own_period_only(generator):
    cheat = 7  # always looks 7 - 1 back, whatever the tokens
    for length in (5, 6, 7, 8, 9):
        tokens = repeated_tokens(1, length, 3, 50, generator)
        score = prefix_matching_score(offset_pattern(tokens.shape[1], -(cheat - 1)), tokens).item()
        assert score == (1 if length == cheat else pytest.approx(0, abs=0.11))


def test_a_one_layer_model_cannot_its_attention_to_a_key_ignores_the_token_before_the_key(generator):
    """Prefix matching means to find the key whose PREDECESSOR is the current token; one layer does not see it."""
    model = Transformer(ModelConfig(n_layers=1, n_heads=3, d_model=16, d_head=8, d_vocab=30, n_ctx=30))
    tokens = repeated_tokens(64, 9, 2, 30, generator)
    scores = keep(model, tokens, ["attn_scores"])["attn_scores", 0]
    changed = tokens.clone()
    changed[:, 3] = (changed[:, 3] % 29) + 1  # token 3 stands before key 4
    later = keep(model, changed, ["attn_scores"])["attn_scores", 0]
    assert torch.equal(scores[:, :, 5:, 4], later[:, :, 5:, 4])
    assert not torch.equal(scores[:, :, 5:, 3], later[:, :, 5:, 3])
    circuit = induction_circuit(30, 30)
    circuit.blocks[0].attn.W_O.data.zero_()  # the induction head without the note of the previous-token head
    target = induction_targets(tokens).any(-1)
    uniform = (1 / (target.nonzero()[:, 1] + 1)).mean().item()
    assert prefix_matching_score(patterns(circuit, tokens), tokens)[1, 0].item() == pytest.approx(uniform, abs=1e-5)


def circuit_case(d_vocab=26, length=25):
    model = induction_circuit(d_vocab, 4 * length + 1)
    tokens = repeated_tokens(10, length, 1, d_vocab, torch.Generator().manual_seed(1), start_token=None)
    kept = keep(model, tokens, ["v", "pattern"])
    outputs = torch.stack([kept["v", layer] @ model.blocks[layer].attn.W_O for layer in range(2)])
    return model, outputs, torch.stack([kept["pattern", layer] for layer in range(2)]), tokens


@torch.no_grad()
def test_the_hand_built_circuit_scores_one(generator):
    model, outputs, pattern, tokens = circuit_case()
    repeated = repeated_tokens(10, 25, 4, 26, generator)
    score = prefix_matching_score(patterns(model, repeated), repeated)
    assert score[1, 0].item() == pytest.approx(1, abs=1e-4) and score[0, 0].item() < 0.01
    assert previous_token_score(patterns(model, repeated))[0, 0].item() == pytest.approx(1, abs=1e-4)
    for scale in SCALES:
        copying = copying_score(outputs, model.W_U, pattern, tokens, scale)
        assert copying[1, 0].item() == pytest.approx(1, abs=1e-4)
        assert copying[0, 0].item() == -1  # the previous-token head raises no logit
    W_V, W_O = (torch.stack([getattr(block.attn, name) for block in model.blocks]) for name in ("W_V", "W_O"))
    eigenvalue = eigenvalue_copying_score(model.W_E, W_V, W_O, model.W_U)
    assert eigenvalue.flatten().tolist() == [0, pytest.approx(1, abs=1e-6)]
    losses = per_token_loss(model(repeated), repeated)
    assert losses[:, 25:].mean() < losses[:, :24].mean()  # before the repeat: nothing to copy


@torch.no_grad()
def test_copying_is_not_attention_trap_ov_decides_wherever_the_head_looks(generator):
    """seeds/001 takes a high attention weight for copying; it is the logit of the attended token that counts."""
    model, outputs, pattern, tokens = circuit_case()
    sharp = torch.eye(25).expand(2, 10, 1, 25, 25)
    for looks in (pattern, sharp):
        assert copying_score(outputs, model.W_U, looks, tokens)[1, 0].item() == pytest.approx(1, abs=1e-4)
        assert copying_score(-outputs, model.W_U, looks, tokens)[1, 0].item() == pytest.approx(-1, abs=1e-4)
    assert pattern[1].max() == 1 and pattern[1, :, :, -1].max() < 0.05  # it looks everywhere: nothing matches
    weights = model.W_E, model.blocks[1].attn.W_V[0], -model.blocks[1].attn.W_O[0], model.W_U
    assert eigenvalue_copying_score(*weights).item() == pytest.approx(-1, abs=1e-6)


def test_random_heads_lie_where_the_docstring_says(generator):
    n, d_model, d_vocab = 25, 64, 300
    tokens = repeated_tokens(10, n, 1, d_vocab, generator, start_token=None)
    outputs = torch.randn(10, 40, n, d_model, generator=generator)
    W_U = torch.randn(d_model, d_vocab, generator=generator)
    pattern = torch.eye(n).expand(10, 40, n, n)
    mean = {scale: copying_score(outputs, W_U, pattern, tokens, scale).mean().item() for scale in SCALES}
    assert mean["2r-1"] == pytest.approx(2 / n - 1, abs=0.01)
    assert mean["chance"] == pytest.approx(0, abs=0.05)
    assert mean["2r-1"] < mean["4r-1"] < mean["chance"]
    heads = torch.randn(2, 200, d_model, 16, generator=generator)
    W_E = torch.randn(d_vocab, d_model, generator=generator)
    assert abs(eigenvalue_copying_score(W_E, heads[0], heads[1].mT, W_U).mean().item()) < 0.05


def test_absolute_values_in_the_ratio_give_the_same_number_which_is_the_4r_minus_1_of_the_paper(generator):
    logits = torch.randn(40, generator=generator)
    logits -= logits.mean()
    r_half = logits[7].relu() / logits.abs().sum()  # at most 0.5
    r = logits[7].relu() / logits.relu().sum()
    assert (4 * r_half - 1).item() == pytest.approx((2 * r - 1).item(), abs=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_float32_agrees_with_float64(scale):
    case = copying_case((2, 3, 2, 9, 5), d_vocab=6, d_model=5)
    wide = [value.double() if value.is_floating_point() else value for value in case]
    torch.testing.assert_close(copying_score(*case, scale).double(), copying_score(*wide, scale), atol=1e-5, rtol=0)
    pattern, tokens = case[2], case[3]
    for score in (prefix_matching_score, duplicate_token_score):
        torch.testing.assert_close(score(pattern, tokens).double(), score(pattern.double(), tokens), atol=1e-6, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("scale", SCALES)
def test_cuda_agrees_with_the_cpu(scale, generator):
    case = copying_case((2, 3, 2, 9, 5))
    on_gpu = [value.cuda() for value in case]
    torch.testing.assert_close(copying_score(*on_gpu, scale).cpu(), copying_score(*case, scale), atol=1e-5, rtol=0)
    for score in (prefix_matching_score, duplicate_token_score):
        torch.testing.assert_close(score(*on_gpu[2:]).cpu(), score(*case[2:]), atol=1e-6, rtol=0)
    logits, tokens = torch.randn(2, 5, 7, generator=generator), torch.randint(0, 7, (2, 5), generator=generator)
    torch.testing.assert_close(per_token_loss(logits.cuda(), tokens.cuda()).cpu(), per_token_loss(logits, tokens))
    on_cpu = eigenvalue_copying_score(*weights())
    torch.testing.assert_close(eigenvalue_copying_score(*(w.cuda() for w in weights())).cpu(), on_cpu)


def test_a_token_drawn_twice_counts_once_in_the_whole():
    tokens = torch.tensor([[3, 3, 1]])
    W_U = torch.eye(6)
    outputs = (W_U[tokens] + W_U[1])[:, None]  # raises its own token and token 1
    pattern = torch.tensor([1.0, 0, 0]).expand(1, 1, 3, 3)  # all look at the first 3
    rise = 1 - 2 / 6  # of tokens 3 and 1 alike
    assert copying_score(outputs, W_U, pattern, tokens).item() == pytest.approx(2 * rise / (rise + rise) - 1, abs=1e-6)


def test_double_log_softmax_trap_changes_no_loss_here(generator):
    logits, tokens = torch.randn(2, 5, 7, generator=generator), torch.randint(0, 7, (2, 5), generator=generator)
    torch.testing.assert_close(per_token_loss(logits.log_softmax(-1), tokens), per_token_loss(logits, tokens))
    assert per_token_loss(logits[:, :2], tokens[:, :2]).shape == (2, 1)  # two positions are enough
    uniform = per_token_loss(torch.zeros(1, 4, 9), torch.zeros(1, 4, dtype=torch.long))
    torch.testing.assert_close(uniform, torch.full((1, 3), math.log(9)))


def test_duplicate_targets_are_one_before_induction_targets(generator):
    tokens = repeated_tokens(2, 4, 3, 20, generator)
    assert torch.equal(duplicate_targets(tokens)[:, :, :-1], induction_targets(tokens)[:, :, 1:])


def test_per_token_loss_equals_a_loop_and_ignores_the_last_logits(generator):
    logits = torch.randn(2, 5, 7, generator=generator)
    tokens = torch.randint(0, 7, (2, 5), generator=generator)
    losses = per_token_loss(logits, tokens)
    for b in range(2):
        for i in range(4):
            total = math.log(sum(math.exp(x) for x in logits[b, i].tolist()))
            assert losses[b, i].item() == pytest.approx(total - logits[b, i, tokens[b, i + 1]].item(), abs=1e-5)
    assert torch.equal(losses, per_token_loss(logits[:, :-1], tokens))
    assert torch.equal(losses, per_token_loss(logits, tokens.int()))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: previous_token_score(torch.rand(3, 3)), r"\[\.\.\., batch, head, query_pos, key_pos\].*got \[3, 3\]"),
        (lambda: previous_token_score(torch.rand(1, 1, 3, 4)), "got \\[1, 1, 3, 4\\]"),
        (lambda: previous_token_score(torch.ones(1, 1, 1, 1)), "at least 2"),
        (
            lambda: prefix_matching_score(torch.rand(2, 1, 4, 4), torch.zeros(1, 4, dtype=torch.long)),
            r"tokens \[1, 4\] do not fit pattern \[2, 1, 4, 4\]: want \[2, 4\]",
        ),
        (lambda: prefix_matching_score(torch.rand(1, 1, 3, 3), torch.tensor([[1, 2, 3]])), "nothing to match"),
        (lambda: prefix_matching_score(torch.rand(1, 1, 3, 3), torch.tensor([[1, 1, 1]]), "max"), "'sum' or 'mean'"),
        (lambda: per_token_loss(torch.rand(1, 7, 4), torch.zeros(1, 5, dtype=torch.long)), "do not fit tokens"),
        (
            lambda: per_token_loss(torch.rand(1, 1, 4), torch.zeros(1, 1, dtype=torch.long)),
            "and 2 positions",
        ),
        (
            lambda: per_token_loss(torch.rand(0, 5, 4), torch.zeros(0, 5, dtype=torch.long)),
            "and 2 positions",
        ),
        (lambda: per_token_loss(torch.rand(1, 3, 4), torch.tensor([[1, 4, 0]])), r"0\.\.3, got values from 0 to 4"),
        (lambda: per_token_loss(torch.rand(1, 3, 4), torch.tensor([[1, -100, 0]])), "got values from -100 to 1"),
        (lambda: per_token_loss(torch.rand(1, 3, 4), torch.ones(1, 3)), "int64 or int32 integers, got torch.float32"),
        (lambda: previous_token_score(torch.randn(1, 1, 9, 9)), r"after the softmax, 0\.\.1"),
        (lambda: previous_token_score(torch.full((1, 1, 3, 3), torch.nan)), "after the softmax.*nan"),
        (lambda: previous_token_score(torch.full((1, 1, 3, 3), 1.1)), r"0\.\.1, got 1.1 to 1.1"),
        (lambda: previous_token_score(torch.full((1, 1, 3, 3), -0.1)), r"0\.\.1, got -0.1 to -0.1"),
        (lambda: previous_token_score(torch.rand(0, 1, 3, 3)), "not be empty"),
        (lambda: first_token_score(torch.ones(1, 1, 1, 1)), "at least 2"),
        (lambda: duplicate_token_score(torch.rand(1, 1, 3, 3), torch.tensor([[1, 2, 3]])), "nothing to match"),
        (lambda: copying_score(*copying_case((1, 1, 1, 4, 0)), "r"), r"scale must be one of .*'chance'.*got 'r'"),
        (lambda: copying(tokens=torch.full((1, 4), 6)), r"0\.\.5, got values from 6 to 6"),
        (lambda: copying(tokens=torch.ones(1, 4)), "tokens must be int64 or int32 integers, got torch.float32"),
        (lambda: copying(tokens=torch.full((1, 4), 2)), "one token only"),
        (lambda: copying(tokens=torch.zeros(2, 4, dtype=torch.long)), r"tokens \[2, 4\] do not fit pattern"),
        (lambda: copying(outputs=torch.rand(1, 1, 1, 4, 3)), r"outputs \[1, 1, 1, 4, 3\] do not fit"),
        (lambda: copying(outputs=torch.full((1, 1, 1, 4, 5), torch.nan)), "finite"),
        (lambda: eigenvalue_copying_score(*weights(W_V=torch.rand(3, 4, 2))), r"want.*got.*W_V \[3, 4, 2\]"),
        (lambda: eigenvalue_copying_score(*weights(W_U=torch.rand(7, 5))), r"W_U \[7, 5\]"),
        (lambda: eigenvalue_copying_score(*weights(W_O=torch.full((3, 2, 5), torch.inf))), "finite"),
        (lambda: eigenvalue_copying_score(*weights(W_O=torch.ones(3, 2, 5, dtype=torch.long))), "floating-point"),
    ],
)
def test_bad_input(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_sample_of_equal_tokens_among_others_is_noticed(unchecked):
    tokens = torch.tensor([[1, 2, 3], [4, 4, 4]])
    pattern = torch.tril(torch.ones(3, 3)).div(torch.arange(1, 4)[:, None]).expand(2, 1, 3, 3)
    with pytest.raises(ValueError, match="a sample of tokens has one token only"):
        copying_score(torch.rand(2, 1, 3, 4), torch.rand(4, 9), pattern, tokens)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_eigenvalue_copying_keeps_the_dtype_of_the_weights(generator, dtype):
    W_E, W_V = (torch.randn(shape, generator=generator).to(dtype) for shape in ((9, 5), (2, 5, 3)))
    score = eigenvalue_copying_score(W_E, W_V, W_V.mT, W_E.T)
    assert score.dtype == dtype and torch.allclose(score, torch.ones(2, dtype=dtype))  # a product P P^T copies
