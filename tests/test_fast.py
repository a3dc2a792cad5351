"""The fast operations against the lines of plain PyTorch that they stand for."""

import math

import pytest
import torch
import torch.nn.functional as F

from course_lib import fast
from course_lib.fast import causal_attention, linear_cross_entropy
from course_lib.model import ModelConfig, Transformer
from course_lib.train import next_token_loss


def plain_attention(q, k, v):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1) @ v


def plain_loss(x, W, b, targets):
    return F.cross_entropy(x @ W if b is None else x @ W + b, targets)


def attention_inputs(positions, dtype=torch.float32, batch=2, heads=3, d_head=8, scale=1.0):
    generator = torch.Generator().manual_seed(positions)
    shape = (batch, heads, positions, d_head)
    return [(scale * torch.randn(shape, generator=generator)).to(dtype).requires_grad_() for _ in range(4)]


def loss_inputs(n, dtype=torch.float32, bias=True, scale=1.0, d=12, v=50):
    generator = torch.Generator().manual_seed(n)
    x, W, b = (torch.randn(shape, generator=generator).to(dtype) * scale for shape in ((n, d), (d, v), (v,)))
    targets = torch.randint(0, v, (n,), generator=generator)
    return x.requires_grad_(), W.requires_grad_(), b.requires_grad_() if bias else None, targets


@pytest.mark.parametrize("positions", [1, 2, 81, 127, 128, 129, 300])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_attention_and_its_gradients_are_those_of_the_formula(positions, dtype, tolerance):
    q, k, v, direction = attention_inputs(positions, dtype)
    ours, plain = causal_attention(q, k, v), plain_attention(q, k, v)
    torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance)
    theirs = torch.autograd.grad(plain, (q, k, v), direction)
    for mine, other in zip(torch.autograd.grad(ours, (q, k, v), direction), theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=10 * tolerance)


def test_attention_in_bfloat16_is_as_exact_as_bfloat16_is():
    q, k, v, direction = attention_inputs(200, torch.bfloat16)
    exact = [value.detach().double().requires_grad_() for value in (q, k, v)]
    ours, plain = causal_attention(q, k, v), plain_attention(*exact)
    fused = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert (ours - plain).abs().max() < 3 * (fused - plain).abs().max() + 1e-2
    theirs = torch.autograd.grad(plain, exact, direction.double())
    for mine, other in zip(torch.autograd.grad(ours, (q, k, v), direction), theirs, strict=True):
        assert (mine - other).norm() < 0.02 * other.norm()


def test_no_batch_of_products_is_added_in_place():
    """They made training in bfloat16 sixty times as slow, into part of a tensor (CPU, PyTorch 2.11 and 2.13)."""
    q, k, v, direction = attention_inputs(300, torch.bfloat16)
    with torch.profiler.profile() as profile:
        torch.autograd.grad(causal_attention(q, k, v), (q, k, v), direction)
    called = {event.key for event in profile.key_averages()}
    assert "aten::bmm" in called and not [name for name in called if "baddbmm" in name]


def test_attention_survives_huge_scores():
    q, k, v, direction = attention_inputs(150, scale=100.0)
    out = causal_attention(q, k, v)
    exact = plain_attention(q.double(), k.double(), v.double()).float()
    fused = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert (out - exact).norm() <= 2 * (fused - exact).norm() + 1e-3 * exact.norm()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(out, (q, k, v), direction))


def test_attention_takes_inputs_that_are_not_contiguous():
    q, k, v, _ = (value.detach() for value in attention_inputs(140))
    turned = [value.transpose(1, 2).contiguous().transpose(1, 2) for value in (q, k, v)]
    assert not turned[0].is_contiguous()
    torch.testing.assert_close(causal_attention(*turned), causal_attention(q, k, v))


def test_attention_keeps_no_pattern_when_no_gradient_is_wanted(monkeypatch):
    saved = []
    monkeypatch.setattr(
        torch.autograd.function.FunctionCtx, "save_for_backward", lambda ctx, *tensors: saved.append(len(tensors))
    )
    q, k, v, _ = attention_inputs(300)
    with torch.no_grad():
        causal_attention(q * 1.0, k * 1.0, v * 1.0)
    assert saved == [3]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("n", [1, 7, 40])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_loss_and_its_gradients_are_those_of_cross_entropy(n, bias, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(fast, "LOGITS_AT_ONCE", 50 * 16)  # pieces of 16 rows: none, one, and several with a rest
    x, W, b, targets = loss_inputs(n, dtype, bias)
    leaves = [leaf for leaf in (x, W, b) if leaf is not None]
    ours, plain = linear_cross_entropy(x, W, b, targets), plain_loss(x, W, b, targets)
    torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance)
    theirs = torch.autograd.grad(3 * plain, leaves)
    for mine, other in zip(torch.autograd.grad(3 * ours, leaves), theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


def test_loss_survives_logits_far_apart():
    x, W, b, targets = loss_inputs(30, scale=60.0)
    ours, plain = linear_cross_entropy(x, W, b, targets), plain_loss(x, W, b, targets)
    assert plain > 1000
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-3)


def test_small_losses_are_exact():
    x, W, b, _ = loss_inputs(30, scale=4.0)
    targets = (x @ W + b).argmax(dim=-1)
    exact = plain_loss(x.double(), W.double(), b.double(), targets)
    assert 1e-6 < exact < 0.1
    torch.testing.assert_close(linear_cross_entropy(x, W, b, targets).double(), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("d_vocab", "rows"), [(50, 512), (4096, 512), (16384, 128), (2**21, 1), (2**22, 1)])
def test_pieces_of_logits_are_bounded_in_rows_and_in_numbers(d_vocab, rows):
    assert fast.rows_at_once(d_vocab, torch.device("cpu")) == rows


def test_loss_under_autocast_is_that_of_logits_made_in_bfloat16():
    x, W, _, targets = loss_inputs(40, bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_cross_entropy(x, W, None, targets)
        plain = F.cross_entropy((x @ W).float(), targets)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    assert ours.dtype == torch.float32
    grads = torch.autograd.grad(ours, (x, W))
    assert {grad.dtype for grad in grads} == {torch.float32}
    for mine, other in zip(grads, torch.autograd.grad(plain, (x, W)), strict=True):
        assert (mine - other).norm() < 0.01 * other.norm()


@pytest.mark.parametrize(
    "config", [{}, {"layer_norm": True, "d_mlp": 24, "unembed_bias": True}, {"smeared_keys": True}]
)
def test_a_training_step_follows_the_gradient_of_the_plain_model(config):
    model = Transformer(ModelConfig(d_model=16, d_head=4, d_vocab=30, n_ctx=140, **config)).double()
    tokens = torch.randint(0, 30, (2, 140), generator=torch.Generator().manual_seed(0))
    names, weights = zip(*model.named_parameters(), strict=True)
    logits = model(tokens[:, :-1], tap=lambda name, layer, value: value)  # step by step, with plain attention
    plain = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    ours = next_token_loss(model, tokens)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
    theirs = torch.autograd.grad(plain, weights)
    for name, mine, other in zip(names, torch.autograd.grad(ours, weights), theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")
