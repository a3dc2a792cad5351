import copy
import math

import pytest
import torch
import torch.nn.functional as F
from einops import einsum

from course_lib.model import ModelConfig, Transformer, check_head, keep, patterns, smear
from course_lib.positions import Rotary, rotate

SMALL = dict(n_layers=2, n_heads=3, d_model=24, d_head=8, d_vocab=40, n_ctx=16)
VARIANTS = {
    "plain": {},
    "residual positions": dict(positions="residual"),
    "sinusoids": dict(learned_positions=False),
    "layer norm": dict(layer_norm=True),
    "smeared keys": dict(smeared_keys=True),
    "mlp": dict(d_mlp=48),
    "everything": dict(layer_norm=True, smeared_keys=True, d_mlp=48, positions="residual"),
    "one layer": dict(n_layers=1),
    "six layers": dict(n_layers=6),
}
RECORDED_WEIGHTS = [1.8423298597335815, -0.08183710277080536, -0.08589253574609756]  # by the first release
RECORDED_LOGITS = [0.05499386414885521, 0.11917664110660553, -0.42434704303741455, -0.4086049497127533]
FIRST_VARIANTS = tuple(VARIANTS)  # those of the first recorded runs
VARIANTS |= {
    "rotary": dict(positions="rotary"),
    "rotary, a quarter": dict(positions="rotary", rotary_share=0.25),
    "rotary, another base": dict(positions="rotary", rotary_base=100.0),
    "rotary, smeared keys": dict(positions="rotary", smeared_keys=True),
    "attention biases": dict(attn_biases=True),
    "unembedding bias": dict(unembed_bias=True),
    "tanh GELU": dict(d_mlp=48, gelu="tanh"),
    "parallel residual": dict(d_mlp=48, parallel_residual=True),
    "large eps": dict(layer_norm=True, norm_eps=0.5),
    "GPT-2": dict(layer_norm=True, d_mlp=96, gelu="tanh", attn_biases=True, positions="residual"),
    "GPT-NeoX": dict(
        layer_norm=True, d_mlp=96, attn_biases=True, positions="rotary", rotary_share=0.25, parallel_residual=True
    ),
    "all at once": dict(
        layer_norm=True,
        norm_eps=0.1,
        d_mlp=48,
        gelu="tanh",
        attn_biases=True,
        unembed_bias=True,
        positions="rotary",
        rotary_share=0.5,
        smeared_keys=True,
        parallel_residual=True,
    ),
}


def make(seed=0, **changes):
    return Transformer(ModelConfig(**SMALL | changes), seed=seed)


def some_tokens(generator, batch=3, length=16):
    return torch.randint(0, SMALL["d_vocab"], (batch, length), generator=generator)


@torch.no_grad()
def shake(model, generator, size=0.1):
    """Every parameter off its start, so that norms, biases and alphas count."""
    for weight in model.parameters():
        weight.add_(size * torch.randn(weight.shape, generator=generator))
    return model


def slow_turn(x, position, cfg):
    """One query or key turned as complex numbers: dimension n and dimension n + half are one of them."""
    if cfg.positions != "rotary":
        return x
    half = int(cfg.d_head * cfg.rotary_share) // 2
    x = x.clone()
    for n in range(half):
        angle = position * cfg.rotary_base ** (-n / half)
        turned = complex(x[n], x[half + n]) * complex(math.cos(angle), math.sin(angle))
        x[n], x[half + n] = turned.real, turned.imag
    return x


def slow_gelu(x, cfg):
    if cfg.gelu == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def slow_logits(model, tokens):
    """The whole forward pass with explicit loops over batch, head, query and key, in float64."""
    cfg, p = model.config, {k: v.double() for k, v in model.state_dict().items()}

    def norm(x, name):
        if not cfg.layer_norm:
            return x
        x = (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + cfg.norm_eps)
        return x * p[f"{name}.weight"] + p[f"{name}.bias"]

    def attention(resid, name):
        x = [norm(r, f"{name}.attn_norm") for r in resid]
        qk = [x[i] + (p["W_pos"][i] if cfg.positions == "qk" else 0) for i in range(len(x))]
        out = [p[f"{name}.attn.b_O"].clone() if cfg.attn_biases else 0 for _ in x]
        for h in range(cfg.n_heads):
            W = {w: p[f"{name}.attn.W_{w}"][h] for w in "QKVO"}
            b = {w: p[f"{name}.attn.b_{w}"][h] if cfg.attn_biases else 0 for w in "QKV"}
            queries = [slow_turn(y @ W["Q"] + b["Q"], i, cfg) for i, y in enumerate(qk)]
            keys = [slow_turn(y @ W["K"] + b["K"], i, cfg) for i, y in enumerate(qk)]
            if cfg.smeared_keys:
                a = torch.sigmoid(p[f"{name}.attn.alpha"][h])
                keys = [keys[0]] + [a * keys[i] + (1 - a) * keys[i - 1] for i in range(1, len(x))]
            for q in range(len(x)):
                scores = [queries[q] @ keys[k] / math.sqrt(cfg.d_head) for k in range(q + 1)]
                weights = [math.exp(s - max(scores)) for s in scores]
                for k in range(q + 1):
                    out[q] = out[q] + weights[k] / sum(weights) * ((x[k] @ W["V"] + b["V"]) @ W["O"])
        return out

    def mlp(r, name):
        hidden = norm(r, f"{name}.mlp_norm") @ p[f"{name}.mlp.W_in"] + p[f"{name}.mlp.b_in"]
        return slow_gelu(hidden, cfg) @ p[f"{name}.mlp.W_out"] + p[f"{name}.mlp.b_out"]

    rows = []
    for row in tokens.tolist():
        resid = [p["W_E"][t] + (p["W_pos"][i] if cfg.positions == "residual" else 0) for i, t in enumerate(row)]
        for layer in range(cfg.n_layers):
            name = f"blocks.{layer}"
            mid = [r + a for r, a in zip(resid, attention(resid, name), strict=True)]
            if cfg.d_mlp:
                read = resid if cfg.parallel_residual else mid
                mid = [m + mlp(r, name) for m, r in zip(mid, read, strict=True)]
            resid = mid
        rows.append(torch.stack([norm(r, "final_norm") @ p["W_U"] for r in resid]) + p.get("b_U", 0))
    return torch.stack(rows)


@pytest.mark.parametrize("name", VARIANTS)
def test_forward_equals_an_explicit_loop(name, generator):
    model, tokens = shake(make(**VARIANTS[name]), generator), some_tokens(generator, batch=2, length=7)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).double(), slow_logits(model, tokens), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_float32_is_close_to_float64(name, generator):
    single, tokens = shake(make(**VARIANTS[name]), generator), some_tokens(generator)
    double = copy.deepcopy(single).double()
    with torch.no_grad():
        logits = double(tokens)
        assert logits.dtype == torch.float64
        torch.testing.assert_close(single(tokens).double(), logits, atol=1e-4, rtol=1e-4)
        tapped = double(tokens, tap=lambda name, layer, value: value)
        torch.testing.assert_close(tapped, logits, atol=1e-11, rtol=1e-11)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", VARIANTS)
def test_gpu_is_close_to_cpu(name, generator):
    model, tokens = shake(make(**VARIANTS[name]), generator), some_tokens(generator)
    with torch.no_grad():
        expected = model(tokens)
        torch.testing.assert_close(model.cuda()(tokens.cuda()).cpu(), expected, atol=1e-3, rtol=1e-3)


def first_logits(model, tokens):
    """The forward pass of the first release, operation by operation: later options must not change a bit of it."""
    cfg, p = model.config, model.state_dict()

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"]) if cfg.layer_norm else x

    positions = p["W_pos"][: tokens.shape[1]]
    resid = F.embedding(tokens, p["W_E"]) + (positions if cfg.positions == "residual" else 0)
    for layer in range(cfg.n_layers):
        name = f"blocks.{layer}"
        W_Q, W_K, W_V, W_O = (p[f"{name}.attn.W_{w}"] for w in "QKVO")
        x = norm(resid, f"{name}.attn_norm")
        qk = x + (positions if cfg.positions == "qk" else 0.0)
        q, k, v = (einsum(y, W, "b p d, h d e -> b h p e") for y, W in ((qk, W_Q), (qk, W_K), (x, W_V)))
        if cfg.smeared_keys:
            k = smear(k, p[f"{name}.attn.alpha"])
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        resid = resid + einsum(z, W_O, "b h p e, h e d -> b p d")
        if cfg.d_mlp:
            hidden = F.gelu(norm(resid, f"{name}.mlp_norm") @ p[f"{name}.mlp.W_in"] + p[f"{name}.mlp.b_in"])
            resid = resid + (hidden @ p[f"{name}.mlp.W_out"] + p[f"{name}.mlp.b_out"])
    return norm(resid, "final_norm") @ p["W_U"]


@pytest.mark.parametrize("name", FIRST_VARIANTS)
def test_the_first_models_are_unchanged(name, generator):
    model, tokens = shake(make(**VARIANTS[name]), generator), some_tokens(generator)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), first_logits(model, tokens), rtol=1e-5, atol=1e-5)


def test_the_default_model_gives_the_recorded_numbers():
    model = Transformer(ModelConfig(), seed=5)
    tokens = torch.randint(0, 1024, (3, 256), generator=torch.Generator().manual_seed(7))
    weights = torch.stack([model.W_E[0, 0], model.blocks[0].attn.W_Q[0, 0, 0], model.W_U[0, 0]])
    torch.testing.assert_close(weights.tolist(), RECORDED_WEIGHTS)
    torch.testing.assert_close(model(tokens)[0, -1, :4].tolist(), RECORDED_LOGITS, atol=1e-4, rtol=1e-4)
    assert list(model.state_dict()) == ["W_E", "W_pos", "W_U"] + [
        f"blocks.{layer}.attn.W_{w}" for layer in (0, 1) for w in "QKVO"
    ]


def test_configurations_of_recorded_runs_still_load_and_match():
    recorded = dict(
        n_layers=2,
        n_heads=4,
        d_model=128,
        d_head=32,
        d_vocab=1024,
        n_ctx=256,
        d_mlp=0,
        positions="qk",
        learned_positions=True,
        layer_norm=False,
        smeared_keys=False,
    )
    assert ModelConfig(**recorded) == ModelConfig()
    assert ModelConfig().to_dict() == recorded


@pytest.mark.parametrize("name", VARIANTS)
def test_a_configuration_survives_its_dictionary(name):
    config = make(**VARIANTS[name]).config
    assert ModelConfig(**config.to_dict()) == config


@pytest.mark.parametrize("name", VARIANTS)
def test_tapped_pass_equals_the_fast_one(name, generator):
    model, tokens = shake(make(**VARIANTS[name]), generator), some_tokens(generator)
    seen = []

    def tap(name, layer, value):
        seen.append((name, layer))
        return value

    torch.testing.assert_close(model(tokens, tap=tap), model(tokens), atol=1e-4, rtol=1e-5)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("parallel", [False, True])
def test_the_streams_of_a_layer_are_sums_of_what_is_tapped(parallel, generator):
    model, tokens = shake(make(d_mlp=48, parallel_residual=parallel), generator), some_tokens(generator)
    names = ["resid_pre", "result", "mlp_out", "resid_post"] + ["resid_mid"] * (not parallel)
    kept = keep(model, tokens, names)
    resid = kept["resid_pre", 0]
    for layer in range(2):
        resid = resid + kept["result", layer].sum(1)
        if not parallel:
            torch.testing.assert_close(kept["resid_mid", layer], resid, atol=1e-5, rtol=1e-5)
        resid = resid + kept["mlp_out", layer]
        torch.testing.assert_close(kept["resid_post", layer], resid, atol=1e-5, rtol=1e-5)


def test_a_tap_can_remove_an_mlp(generator):
    model, tokens = shake(make(d_mlp=48, n_layers=1), generator), some_tokens(generator)
    without = make(n_layers=1)
    without.load_state_dict({name: weight for name, weight in model.state_dict().items() if "mlp" not in name})
    silenced = model(tokens, tap=lambda name, layer, value: value * 0 if name == "mlp_out" else value)
    torch.testing.assert_close(silenced, without(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes, absent", [({}, ["mlp_out", "resid_mid"]), (VARIANTS["GPT-NeoX"], ["resid_mid"])])
def test_activations_that_a_model_does_not_have(changes, absent, generator):
    for name in absent:
        with pytest.raises(ValueError, match=rf"no activation named \['{name}'\]"):
            keep(make(**changes), some_tokens(generator), [name])


def test_a_tap_can_remove_a_head(generator):
    model, tokens = make(n_layers=1), some_tokens(generator)

    def without_head_1(name, layer, value):
        if name == "result":
            value = value.clone()
            value[:, 1] = 0
        return value

    removed = keep(model, tokens, ["result"])["result", 0][:, 1] @ model.W_U
    torch.testing.assert_close(model(tokens, tap=without_head_1), model(tokens) - removed, atol=1e-4, rtol=1e-4)


def test_patterns_are_causal_and_sum_to_one(generator):
    pattern = patterns(make(), some_tokens(generator))
    assert pattern.shape == (2, 3, 3, 16, 16)
    assert torch.allclose(pattern.sum(-1), torch.ones(2, 3, 3, 16))
    assert pattern.triu(1).abs().max() == 0


def test_results_and_embedding_sum_to_the_residual_stream(generator):
    model, tokens = make(), some_tokens(generator)
    kept = keep(model, tokens, ["result", "resid_pre"])
    total = kept["resid_pre", 0] + kept["result", 0].sum(1) + kept["result", 1].sum(1)
    torch.testing.assert_close(total, model.residual(tokens), atol=1e-4, rtol=1e-4)


def test_values_carry_no_position_unless_positions_are_in_the_residual(generator):
    tokens = torch.full((1, 8), 5)
    for positions, carries in (("qk", False), ("rotary", False), ("residual", True)):
        v = keep(make(positions=positions), tokens, ["v"])["v", 0]
        assert (v.std(dim=2).max() > 1e-4) == carries


def test_same_seed_same_weights_other_seed_other_weights():
    first, second, other = make(seed=3), make(seed=3), make(seed=4)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    assert not torch.equal(first.W_E, other.W_E)


def test_initialisation_leaves_the_global_random_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    make()
    assert torch.equal(torch.rand(1), expected)


def test_smear_by_hand():
    k = torch.arange(6.0).reshape(1, 1, 3, 2)
    half = smear(k, torch.zeros(1))
    assert half[0, 0].tolist() == [[0, 1], [1, 2], [3, 4]]
    assert torch.allclose(smear(k, torch.full((1,), 50.0)), k)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25])
def test_rotated_scores_depend_on_distance_only(share, generator):
    rotary = Rotary(n_ctx=32, rotary_dim=int(8 * share))
    q, k = torch.randn(2, 1, 3, 6, 8, generator=generator)

    def scores(shift):
        rows = slice(shift, shift + 6)
        turned = [rotate(x, rotary.cos[rows], rotary.sin[rows]) for x in (q, k)]
        return turned[0] @ turned[1].mT

    for shift in (1, 7, 26):
        torch.testing.assert_close(scores(shift), scores(0), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(scores(0), q @ k.mT, atol=0.1)


@pytest.mark.parametrize("positions, relative", [("rotary", True), ("qk", False), ("residual", False)])
def test_scores_of_a_shifted_sequence(positions, relative, generator):
    """In layer 0 rotary scores are the same wherever the same tokens stand; those of position vectors are not."""
    model, tokens = make(positions=positions, n_layers=1), some_tokens(generator)
    shifted = torch.cat([tokens[:, -5:], tokens[:, :-5]], dim=1)
    here, there = (keep(model, x, ["attn_scores"])["attn_scores", 0] for x in (tokens, shifted))
    assert torch.allclose(there[..., 5:, 5:], here[..., :-5, :-5], atol=1e-4) == relative


def test_rotation_keeps_lengths_and_the_first_position_and_the_dimensions_beyond_its_share(generator):
    x = torch.randn(2, 3, 16, 8, generator=generator)
    turned = Rotary(n_ctx=16, rotary_dim=4)(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    assert torch.equal(turned[..., 4:], x[..., 4:])
    assert not torch.allclose(turned[:, :, 1:, :4], x[:, :, 1:, :4], atol=0.1)


def test_rotation_by_hand():
    x = torch.tensor([[[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]]])  # at position 0, and at position 1
    turned = Rotary(n_ctx=2, rotary_dim=4, base=100.0)(x)
    assert turned[0, 0, 0].tolist() == [1, 0, 0, 0]
    expected = torch.tensor([0, math.cos(0.1), 0, math.sin(0.1)])  # dimension 1 turns into 3, by 100 ** (-2/4)
    torch.testing.assert_close(turned[0, 0, 1], expected)


def test_rotary_tables_are_no_weights_and_the_model_has_no_position_vectors():
    model = make(positions="rotary")
    assert model.W_pos is None
    assert not [name for name in model.state_dict() if "rotate" in name or "pos" in name]


@pytest.mark.parametrize("name", ["plain", "smeared keys", "GPT-2", "GPT-NeoX", "all at once"])
def test_reduced_precision_runs_and_is_close(name, generator):
    model, tokens = make(**VARIANTS[name]), some_tokens(generator)
    expected = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens)
    F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten()).backward()
    assert (logits.float() - expected).std() < 0.1 * expected.std()


def test_unembed_gives_the_logits_of_a_residual_stream(generator):
    model, tokens = shake(make(**VARIANTS["all at once"]), generator), some_tokens(generator)
    assert torch.equal(model.unembed(model.residual(tokens)), model(tokens))
    assert model.unembed(model.residual(tokens)[0, 0]).shape == (40,)


def test_biases_start_at_zero_and_norms_as_the_identity(generator):
    plain, tokens = make(layer_norm=True), some_tokens(generator)
    biased = make(layer_norm=True, attn_biases=True, unembed_bias=True)
    assert torch.equal(biased(tokens), plain(tokens))


def test_without_a_seed_the_weights_are_left_to_be_loaded(generator):
    model = Transformer(ModelConfig(**SMALL), seed=None)
    model.load_state_dict(make().state_dict())
    tokens = some_tokens(generator)
    assert torch.equal(model(tokens), make()(tokens))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(n_layers=0), "n_layers must be at least 1, got 0"),
        (dict(n_heads=2.0), "n_heads must be a whole number, got 2.0"),
        (dict(n_layers="2"), "n_layers must be a whole number, got '2'"),
        (dict(d_mlp=8.0), "d_mlp must be a whole number, got 8.0"),
        (dict(positions="rope"), "positions must be one of"),
        (dict(d_mlp=-1), "d_mlp must be at least 0, got -1"),
        (dict(d_model=25, learned_positions=False), "even d_model, got 25"),
        (dict(gelu="relu"), r"gelu must be one of \('exact', 'tanh'\), got 'relu'"),
        (dict(parallel_residual=True), "parallel_residual needs an MLP, got d_mlp 0"),
        (dict(norm_eps=0.0), "norm_eps must be above 0 and finite, got 0.0"),
        (dict(norm_eps=math.inf), "norm_eps must be above 0 and finite, got inf"),
        (dict(positions="rotary", rotary_share=0.0), "rotary_share must be above 0 and finite, got 0.0"),
        (dict(positions="rotary", rotary_share=math.inf), "rotary_share must be above 0 and finite, got inf"),
        (dict(norm_eps="1e-5"), "norm_eps must be above 0 and finite, got '1e-5'"),
        (dict(positions="rotary", rotary_share=1.5), "rotary_share must lie in 0..1.*got 1.5"),
        (dict(positions="rotary", rotary_share=0.4), "even number.*got 0.4 of d_head 8, which is 3"),
        (dict(positions="rotary", rotary_share=0.1), "at least 2, got 0.1 of d_head 8, which is 0"),
        (dict(positions="rotary", rotary_base=0.0), "rotary_base must be above 0 and finite, got 0.0"),
        (dict(positions="rotary", rotary_base=math.inf), "rotary_base must be above 0 and finite, got inf"),
        (dict(positions="rotary", learned_positions=False), "leave learned_positions True"),
    ],
)
def test_bad_configuration(changes, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    "tokens, message",
    [
        (torch.zeros(5, dtype=torch.long), r"shape \[batch, pos\].*got \[5\]"),
        (torch.zeros(0, 5, dtype=torch.long), "not be empty"),
        ([[1, 2]], r"a tensor of shape \[batch, pos\].* got list"),
        (torch.zeros(1, 5), "integers, got torch.float32"),
        (torch.zeros(1, 5, dtype=torch.bool), "integers, got torch.bool"),
        (torch.zeros(1, 5, dtype=torch.int16), "int64 or int32 integers, got torch.int16"),
        (torch.zeros(1, 5, dtype=torch.uint8), "int64 or int32 integers, got torch.uint8"),
        (torch.zeros(1, 17, dtype=torch.long), "17 positions.*n_ctx is 16"),
        (torch.tensor([[3, 40]]), r"0\.\.39, got values from 3 to 40"),
        (torch.tensor([[-1, 2]]), r"got values from -1 to 2"),
    ],
)
def test_bad_tokens(tokens, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make()(tokens)


def test_bad_names_and_heads(generator, unchecked):
    with pytest.raises(ValueError, match=r"no activation named \['patern'\]"):
        keep(make(), some_tokens(generator), ["patern"])
    with pytest.raises(ValueError, match="head 2.0 does not exist: layers 0..1, heads 0..2"):
        check_head(make().config, 2, 0)
    with pytest.raises(ValueError, match="layer must be a whole number, got 1.0"):
        check_head(make().config, 1.0, 0)
    with pytest.raises(ValueError, match="head must be a whole number, got '0'"):
        check_head(make().config, 1, "0")


def test_one_name_may_stand_without_a_list(generator):
    model, tokens = make(), some_tokens(generator)
    expected = keep(model, tokens, ["pattern"])
    kept = keep(model, tokens, "pattern")
    assert kept.keys() == expected.keys() and all(torch.equal(kept[key], expected[key]) for key in kept)
