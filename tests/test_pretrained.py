"""Independent check of the model and the loader: random GPT-2 and GPT-NeoX models, saved and run by transformers."""

import copy
import importlib.util
import json
import sys
import types
import warnings

import pytest
import torch

from course_lib.formats import configure, convert
from course_lib.model import ModelConfig, keep, patterns
from course_lib.pretrained import PYTHIA_STEPS, load_pretrained

HAVE_TRANSFORMERS = importlib.util.find_spec("transformers") is not None
if not HAVE_TRANSFORMERS:
    warnings.warn("transformers is not installed: pretrained weights are NOT checked against it", stacklevel=1)
needs_transformers = pytest.mark.skipif(not HAVE_TRANSFORMERS, reason="transformers is not installed: NOT CHECKED")

NO_IDS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
GPT2 = dict(vocab_size=47, n_embd=24, n_layer=2, n_head=3, n_positions=20, **NO_IDS)
NEOX = dict(
    vocab_size=47, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
    max_position_embeddings=20, **NO_IDS,
)  # fmt: skip
CASES = {
    "gpt2": ("gpt2", {}),
    "gpt2, exact GELU": ("gpt2", dict(activation_function="gelu")),
    "gpt2, narrow MLP, large eps": ("gpt2", dict(n_inner=17, layer_norm_epsilon=0.1)),
    "gpt2, untied": ("gpt2", dict(tie_word_embeddings=False)),
    "gpt2, one head, one layer": ("gpt2", dict(n_embd=6, n_head=1, n_layer=1)),
    "neox": ("gpt_neox", {}),
    "neox, sequential residual": ("gpt_neox", dict(use_parallel_residual=False)),
    "neox, all dimensions turn": ("gpt_neox", dict(rotary_pct=1.0)),
    "neox, half turn, another base": ("gpt_neox", dict(rotary_pct=0.5, rotary_emb_base=123)),
    "neox, rope_parameters": (
        "gpt_neox",
        dict(rope_parameters=dict(rope_type="default", rope_theta=50.0, partial_rotary_factor=1.0)),
    ),
    "neox, tanh GELU": ("gpt_neox", dict(hidden_act="gelu_new")),
    "neox, fast GELU, large eps": ("gpt_neox", dict(hidden_act="gelu_fast", layer_norm_eps=0.1)),
    "neox, tied": ("gpt_neox", dict(tie_word_embeddings=True)),
    "neox, no attention biases": ("gpt_neox", dict(attention_bias=False, use_parallel_residual=False)),
    "neox, long context": ("gpt_neox", dict(max_position_embeddings=512, rotary_pct=1.0)),
}


def peer(case):
    """A model of transformers with every parameter drawn at random: none is 0, 1 or tied by accident."""
    import transformers

    kind, changes = CASES[case]
    transformers.logging.set_verbosity_error()
    if kind == "gpt2":
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2 | changes, attn_implementation="eager"))
    else:
        config = transformers.GPTNeoXConfig(**NEOX | changes, attn_implementation="eager")
        model = transformers.GPTNeoXForCausalLM(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[-1] ** -0.5)
    return model.eval()


@pytest.fixture
def saved(tmp_path):
    """Saves a peer and returns it with its folder."""

    def save(case, **options):
        model = peer(case)
        model.save_pretrained(tmp_path, **options)
        return model, tmp_path

    return save


def tokens_for(model, generator, batch=3):
    return torch.randint(0, 47, (batch, model.config.max_position_embeddings), generator=generator)


@needs_transformers
@pytest.mark.parametrize("case", CASES)
def test_logits_and_patterns_are_those_of_transformers(case, saved, generator):
    theirs, folder = saved(case)
    ours, tokens = load_pretrained(folder), tokens_for(theirs, generator)
    with torch.no_grad():
        expected = theirs(tokens, output_attentions=True)
        torch.testing.assert_close(ours(tokens), expected.logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(patterns(ours, tokens), torch.stack(expected.attentions), atol=1e-5, rtol=0)


@needs_transformers
@pytest.mark.parametrize("case", ["gpt2", "neox", "neox, sequential residual"])
def test_the_residual_stream_is_that_of_transformers(case, saved, generator):
    theirs, folder = saved(case)
    ours, tokens = load_pretrained(folder), tokens_for(theirs, generator)
    with torch.no_grad():
        stream = theirs(tokens, output_hidden_states=True).hidden_states  # the last is behind the final norm
    kept = keep(ours, tokens, ["resid_pre", "resid_post"])
    torch.testing.assert_close(kept["resid_pre", 0], stream[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(kept["resid_post", 0], stream[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.final_norm(kept["resid_post", 1]), stream[2], atol=1e-5, rtol=0)


@needs_transformers
@pytest.mark.parametrize("case", ["gpt2", "neox"])
def test_float32_is_close_to_float64(case, saved, generator):
    theirs, folder = saved(case)
    ours, tokens = load_pretrained(folder), tokens_for(theirs, generator)
    with torch.no_grad():
        double = copy.deepcopy(ours).double()(tokens)
        torch.testing.assert_close(double, theirs.double()(tokens).logits, atol=1e-6, rtol=0)  # float32 cos, sin
        torch.testing.assert_close(ours(tokens).double(), double, atol=1e-5, rtol=0)


def strip(tensors):
    return {name.removeprefix("transformer.").removeprefix("gpt_neox."): value for name, value in tensors.items()}


def published(tensors):
    """As on the hub: causal masks and rotary rates among the weights, and no prefix or an old one."""
    layers = [name.rsplit("attn.c_attn", 1)[0] for name in tensors if name.endswith("c_attn.weight")]
    extra = {f"{layer}attn.bias": torch.ones(1, 1, 20, 20).tril() for layer in layers}
    extra |= {f"{layer}attn.masked_bias": torch.tensor(-1e4) for layer in layers}
    layers = [name.rsplit("query_key_value", 1)[0] for name in tensors if name.endswith("query_key_value.weight")]
    extra |= {f"{layer}bias": torch.ones(1, 1, 20, 20, dtype=torch.bool).tril() for layer in layers}
    extra |= {f"{layer}masked_bias": torch.tensor(-1e9) for layer in layers}
    extra |= {f"{layer}rotary_emb.inv_freq": torch.ones(1) for layer in layers}
    return tensors | extra


def write_bin(folder, tensors):
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")


def write_sharded_bin(folder, tensors):
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {name: f"pytorch_model-{i % 2 + 1:05d}-of-00002.bin" for i, name in enumerate(names)}
    for file in set(files.values()):
        torch.save({name: tensors[name] for name in names if files[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))


def write_safetensors(folder, tensors):
    from safetensors.torch import save_file

    save_file({name: value.clone() for name, value in tensors.items()}, folder / "model.safetensors")


WAYS = {"bin": write_bin, "sharded bin": write_sharded_bin, "safetensors": write_safetensors}


def assert_same_logits(ours, theirs, generator):
    tokens = tokens_for(theirs, generator)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=1e-5, rtol=0)


@needs_transformers
@pytest.mark.parametrize("case", ["gpt2", "gpt2, untied", "neox"])
@pytest.mark.parametrize("change", [dict, strip, published, lambda tensors: published(strip(tensors))])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_storing_the_same_model(way, change, case, saved, generator):
    theirs, folder = saved(case)
    WAYS[way](folder, change(theirs.state_dict()))
    assert_same_logits(load_pretrained(folder), theirs, generator)


@needs_transformers
@pytest.mark.parametrize("case", ["gpt2", "neox"])
def test_shards_of_transformers(case, saved, generator):
    theirs, folder = saved(case, max_shard_size="10KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert_same_logits(load_pretrained(folder), theirs, generator)


@needs_transformers
@pytest.mark.parametrize("case", ["gpt2", "neox"])
def test_old_configurations_do_not_say_whether_embeddings_are_tied(case, saved, generator):
    theirs, folder = saved(case)
    values = json.loads((folder / "config.json").read_text())
    del values["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps(values))
    assert_same_logits(load_pretrained(folder), theirs, generator)


@needs_transformers
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_checkpoints_become_float32(dtype, saved, generator):
    theirs, folder = saved("neox")
    write_safetensors(folder, {name: value.to(dtype) for name, value in theirs.state_dict().items()})
    ours, tokens = load_pretrained(folder), tokens_for(theirs, generator)
    assert {weight.dtype for weight in ours.parameters()} == {torch.float32}
    rounded = theirs.to(dtype).float()  # the same rounded weights
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), rounded(tokens).logits, atol=1e-5, rtol=0)


@needs_transformers
def test_fused_weights_are_not_mixed_up(saved):
    """GPT-2 fuses all queries, then all keys, then all values; GPT-NeoX query, key and value of each head."""
    theirs, folder = saved("gpt2")
    W, fused = load_pretrained(folder).blocks[1].attn, theirs.transformer.h[1].attn.c_attn
    assert torch.equal(W.W_K[2], fused.weight[:, 24 + 16 : 24 + 24])
    assert torch.equal(W.b_V[1], fused.bias[48 + 8 : 48 + 16])
    theirs, folder = saved("neox")
    W, fused = load_pretrained(folder).blocks[1].attn, theirs.gpt_neox.layers[1].attention.query_key_value
    assert torch.equal(W.W_K[2], fused.weight[2 * 24 + 8 : 2 * 24 + 16].T)
    assert torch.equal(W.b_V[1], fused.bias[24 + 16 : 24 + 24])


OLD_NEOX = dict(NEOX, model_type="gpt_neox", rotary_pct=0.5, rotary_emb_base=500)


@pytest.mark.parametrize(
    "values",
    [
        OLD_NEOX,
        OLD_NEOX | dict(partial_rotary_factor=0.5, rope_theta=500.0, rope_scaling=None),  # transformers 4.5x
        dict(NEOX, model_type="gpt_neox", rope_parameters=dict(partial_rotary_factor=0.5, rope_theta=500)),
        dict(NEOX, model_type="gpt_neox", partial_rotary_factor=0.5, rope_theta=500, rope_scaling={"type": "default"}),
    ],
)
def test_spellings_of_rotary_settings(values):
    config = configure(values)
    assert (config.rotary_share, config.rotary_base, config.rotary_dim) == (0.5, 500.0, 4)


def test_settings_that_a_configuration_leaves_out():
    gpt2 = configure(dict(GPT2, model_type="gpt2"))
    assert (gpt2.d_mlp, gpt2.gelu, gpt2.norm_eps, gpt2.positions) == (96, "tanh", 1e-5, "residual")
    neox = configure(dict(NEOX, model_type="gpt_neox"))
    assert (neox.rotary_share, neox.rotary_base, neox.gelu, neox.parallel_residual) == (0.25, 10_000.0, "exact", True)


def test_the_shape_of_pythia_70m():
    values = {
        "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu",
        "hidden_size": 512, "initializer_range": 0.02, "intermediate_size": 2048, "layer_norm_eps": 1e-05,
        "max_position_embeddings": 2048, "model_type": "gpt_neox", "num_attention_heads": 8, "num_hidden_layers": 6,
        "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False, "torch_dtype": "float16",
        "use_cache": True, "use_parallel_residual": True, "vocab_size": 50304,
    }  # fmt: skip
    assert configure(values) == ModelConfig(
        n_layers=6, n_heads=8, d_model=512, d_head=64, d_vocab=50304, n_ctx=2048, d_mlp=2048, positions="rotary",
        layer_norm=True, parallel_residual=True, attn_biases=True, rotary_share=0.25,
    )  # fmt: skip


@pytest.mark.parametrize(
    "values, message",
    [
        (dict(model_type="llama"), r"architecture 'llama'; supported are \['gpt2', 'gpt_neox'\]"),
        ({}, "architecture None"),
        (dict(model_type="gpt2"), "must give n_embd as a whole number above 0, got None"),
        (dict(GPT2, model_type="gpt2", n_layer="2"), "n_layer as a whole number above 0, got '2'"),
        (dict(GPT2, model_type="gpt2", n_head=5), "multiple of its heads, got 24 and 5"),
        (
            dict(GPT2, model_type="gpt2", scale_attn_by_inverse_layer_idx=True),
            "scale_attn_by_inverse_layer_idx to True",
        ),
        (dict(GPT2, model_type="gpt2", reorder_and_upcast_attn=True), "reorder_and_upcast_attn to True"),
        (dict(GPT2, model_type="gpt2", scale_attn_weights=False), "scale_attn_weights to False; supported is True"),
        (dict(GPT2, model_type="gpt2", add_cross_attention=True), "add_cross_attention to True"),
        (dict(GPT2, model_type="gpt2", activation_function="relu"), "activation 'relu'; supported are"),
        (dict(GPT2, model_type="gpt2", quantization_config={"bits": 4}), "quantization_config"),
        (OLD_NEOX | dict(rope_scaling=dict(type="linear", factor=2.0)), "rotary positions of type 'linear'"),
        (OLD_NEOX | dict(rope_parameters=dict(rope_type="yarn")), "rotary positions of type 'yarn'"),
        (OLD_NEOX | dict(partial_rotary_factor=1.0), r"mean the same, different values: \[0.5, 1.0\]"),
        (OLD_NEOX | dict(rotary_pct=0.3, partial_rotary_factor=None, num_attention_heads=2), "d_head 12, which is 3"),
    ],
)
def test_refused_configurations(values, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        configure(values)
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):  # before any weights are looked for
        load_pretrained(tmp_path)


@pytest.fixture
def stored():
    """The configuration and the tensors of a small GPT-2, made without transformers."""
    d, m, layers = 24, 96, 2
    shapes = {"wte.weight": (47, d), "wpe.weight": (20, d), "ln_f.weight": (d,), "ln_f.bias": (d,)}
    for layer in range(layers):
        block = {
            "ln_1.weight": (d,), "ln_1.bias": (d,), "ln_2.weight": (d,), "ln_2.bias": (d,),
            "attn.c_attn.weight": (d, 3 * d), "attn.c_attn.bias": (3 * d,),
            "attn.c_proj.weight": (d, d), "attn.c_proj.bias": (d,),
            "mlp.c_fc.weight": (d, m), "mlp.c_fc.bias": (m,), "mlp.c_proj.weight": (m, d), "mlp.c_proj.bias": (d,),
        }  # fmt: skip
        shapes |= {f"h.{layer}.{name}": shape for name, shape in block.items()}
    return dict(GPT2, model_type="gpt2"), {name: torch.randn(shape) for name, shape in shapes.items()}


def test_missing_unexpected_and_misshapen_tensors_are_named(stored):
    values, tensors = stored
    del tensors["h.1.ln_2.bias"]
    tensors["score.weight"] = torch.zeros(2, 24)
    tensors["h.0.mlp.c_fc.weight"] = tensors["h.0.mlp.c_fc.weight"].T
    tensors["ln_f.bias"] = torch.zeros(24, dtype=torch.int8)
    with pytest.raises(ValueError) as error:
        convert(values, tensors)
    for part in (
        "h.1.ln_2.bias is missing",
        "score.weight is unexpected",
        r"h.0.mlp.c_fc.weight is [96, 24] torch.float32, not [24, 96]",
        "ln_f.bias is [24] torch.int8, not [24] floating-point",
    ):
        assert part in str(error.value)


def test_a_long_list_of_problems_is_cut(stored):
    with pytest.raises(ValueError, match="wte.weight is missing; .* and 21 more"):
        convert(stored[0], {})


def test_tied_embeddings_that_differ(stored):
    values, tensors = stored
    convert(values, tensors | {"lm_head.weight": tensors["wte.weight"].clone()})
    with pytest.raises(ValueError, match="ties the embeddings, but the tensors lm_head.weight and wte.weight differ"):
        convert(values, tensors | {"lm_head.weight": tensors["wte.weight"] + 1})
    with pytest.raises(ValueError, match="lm_head.weight is missing"):
        convert(values | dict(tie_word_embeddings=False), tensors)


def test_folders_that_are_incomplete_or_damaged(tmp_path, stored):
    values, tensors = stored

    def fails(message):
        with pytest.raises(ValueError, match=message):
            load_pretrained(tmp_path)

    fails("holds no model: it has no config.json")
    (tmp_path / "config.json").write_text('{"model_type": "gp')
    fails("config.json is damaged")
    (tmp_path / "config.json").write_text("[1]")
    fails("config.json is damaged: it must hold names and values, got list")
    (tmp_path / "config.json").write_text(json.dumps(values))
    fails(r"incomplete: no model.safetensors or pytorch_model.bin.*it has \['config.json'\]")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text("{}")
    fails("index.json is damaged: it has no weight_map")
    for wrong in (1, None):
        index.write_text(json.dumps({"weight_map": {"a": wrong}}))
        fails("index.json is damaged: it has no weight_map")
    index.write_text(json.dumps({"weight_map": {name: "pytorch_model-1.bin" for name in tensors}}))
    fails(r"incomplete: pytorch_model.bin.index.json lists \['pytorch_model-1.bin'\]")
    whole = tmp_path / "pytorch_model.bin"
    torch.save(tensors, whole)
    load_pretrained(tmp_path)
    content = whole.read_bytes()
    for part in (b"", content[: len(content) // 2], b"version https://git-lfs", b"hello"):
        whole.write_bytes(part)
        fails("pytorch_model.bin is damaged or cut short")
    torch.save({"model": tensors}, whole)
    fails("pytorch_model.bin does not hold tensors by name")
    write_safetensors(tmp_path, tensors)
    load_pretrained(str(tmp_path))
    content = (tmp_path / "model.safetensors").read_bytes()
    for part in (b"", content[:-1], content[:100], b"version https://git-lfs"):
        (tmp_path / "model.safetensors").write_bytes(part)
        fails("model.safetensors is damaged or cut short")


def test_a_pickle_that_would_run_code_is_refused(tmp_path, stored):
    (tmp_path / "config.json").write_text(json.dumps(stored[0]))
    torch.save({"wte.weight": torch.nn.Linear(2, 2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pytorch_model.bin is damaged or cut short"):
        load_pretrained(tmp_path)


def test_pythia_was_published_at_154_steps():
    assert len(PYTHIA_STEPS) == 154 == len(set(PYTHIA_STEPS))
    assert PYTHIA_STEPS[:4] == (0, 1, 2, 4) and PYTHIA_STEPS[10:12] == (512, 1000) and PYTHIA_STEPS[-1] == 143_000


@pytest.mark.parametrize(
    "name, step, message",
    [
        (
            "EleutherAI/pythia-70m",
            1500,
            "step must be one of 0, 1, 2, 4 ... 512.*got 1500; the nearest are \\[1000, 2000\\]",
        ),
        ("EleutherAI/pythia-70m", 600, "the nearest are \\[512, 1000\\]"),
        ("EleutherAI/pythia-70m", -1, "the nearest are \\[0\\]"),
        ("EleutherAI/pythia-70m", 144_000, "the nearest are \\[143000\\]"),
        ("openai-community/gpt2", 1000, "step is for Pythia models.*got step 1000 and 'openai-community/gpt2'"),
        ("../nowhere", None, "must be an existing folder or a name on the hub, got '../nowhere'"),
        ("a/b/c", None, "must be an existing folder or a name on the hub"),
    ],
)
def test_bad_names_and_steps(name, step, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # they are refused before the hub is thought of
    with pytest.raises(ValueError, match=message):
        load_pretrained(name, step=step)


def test_a_folder_has_no_steps_and_a_path_is_no_name(tmp_path):
    with pytest.raises(ValueError, match="a folder holds one, got step 0"):
        load_pretrained(tmp_path, step=0)
    with pytest.raises(ValueError, match="must be an existing folder"):
        load_pretrained(tmp_path / "absent")


def test_names_need_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="names need the package huggingface_hub"):
        load_pretrained("EleutherAI/pythia-70m")


def test_such_files_need_safetensors(tmp_path, stored, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps(stored[0]))
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match="model.safetensors needs the package safetensors"):
        load_pretrained(tmp_path)


class FakeHub(types.ModuleType):
    """Stands in for huggingface_hub: nothing in these tests may reach a network."""

    class errors(types.SimpleNamespace):
        class RepositoryNotFoundError(OSError): ...

        class RevisionNotFoundError(OSError): ...

        class HFValidationError(ValueError): ...

        class LocalEntryNotFoundError(FileNotFoundError): ...

    def __init__(self, answer):
        super().__init__("huggingface_hub")
        self.answer, self.calls = answer, []

    def snapshot_download(self, name, **options):
        self.calls.append((name, options))
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


@pytest.fixture
def hub(monkeypatch):
    def install(answer):
        fake = FakeHub(answer)
        monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
        return fake

    return install


def test_the_hub_is_asked_only_when_allowed(tmp_path, stored, hub):
    (tmp_path / "config.json").write_text(json.dumps(stored[0]))
    write_safetensors(tmp_path, stored[1])
    fake = hub(tmp_path)
    load_pretrained("EleutherAI/pythia-70m", step=512)
    load_pretrained("gpt2", allow_download=True)
    (name, cached), (_, fetched) = fake.calls
    assert name == "EleutherAI/pythia-70m" and cached["revision"] == "step512" and cached["local_files_only"]
    assert fetched["revision"] == "main" and not fetched["local_files_only"]
    assert fetched["allow_patterns"] == [
        "config.json", "model.safetensors", "model.safetensors.index.json", "model-*.safetensors",
    ]  # fmt: skip


def test_pickles_are_fetched_only_where_there_is_nothing_better(tmp_path, stored, hub):
    (tmp_path / "config.json").write_text(json.dumps(stored[0]))
    torch.save(stored[1], tmp_path / "pytorch_model.bin")
    fake = hub(tmp_path)
    load_pretrained("EleutherAI/pythia-70m", allow_download=True)
    assert [options["allow_patterns"][1] for _, options in fake.calls] == ["model.safetensors", "pytorch_model.bin"]


@pytest.mark.parametrize(
    "answer, allow, error, message",
    [
        (FakeHub.errors.LocalEntryNotFoundError(), False, ValueError, "allow_download=True fetches it"),
        (FakeHub.errors.LocalEntryNotFoundError("no route"), True, ConnectionError, "could not fetch.*no route"),
        (TimeoutError("too slow"), True, ConnectionError, "could not fetch.*too slow"),
        (
            FakeHub.errors.RepositoryNotFoundError("404"),
            True,
            ValueError,
            "no model 'x/pythia' with revision 'step1000'",
        ),
        (FakeHub.errors.RevisionNotFoundError("404"), True, ValueError, "no model 'x/pythia' with revision 'step1000'"),
    ],
)
def test_what_the_hub_can_answer(answer, allow, error, message, hub):
    hub(answer)
    with pytest.raises(error, match=message):
        load_pretrained("x/pythia", step=1000, allow_download=allow)


def test_without_leave_the_real_hub_is_not_asked(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="there is no folder 'nobody/pythia-0m'.*allow_download=True fetches it"):
        load_pretrained("nobody/pythia-0m", step=1000)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="could not fetch 'nobody/pythia-0m'"):
        load_pretrained("nobody/pythia-0m", step=1000, allow_download=True)
