"""TransformerLens 4: `TransformerBridge` around its own small model, the successor of `HookedTransformer`."""

from __future__ import annotations

import torch
from torch import Tensor
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from benchmarks.peers import common
from benchmarks.peers.lens import Lens
from benchmarks.specs import Size


class Bridge(Lens):
    """An attention-only model of TransformerLens 4."""

    def __init__(self, size: Size, device: torch.device):
        super().__init__(size, device)
        config = TransformerBridgeConfig(
            d_model=size.d_model,
            d_head=size.d_head,
            d_vocab=size.d_vocab,
            n_heads=size.n_heads,
            n_layers=size.n_layers,
            n_ctx=size.n_ctx,
            attn_only=True,
            normalization_type="LN",
        )
        self.model = TransformerBridge.boot_native(config, device=device)
        empty = {name: torch.zeros_like(weight) for name, weight in self.model.state_dict().items()}
        self.model.load_state_dict(empty | state(size))  # what the course's model does not have, biases, is zero


def state(size: Size) -> dict[str, Tensor]:
    """The common weights under this model's names; nn.Linear multiplies from the left."""
    given = common.weights(size)
    found = {
        "embed.weight": given["W_E"],
        "pos_embed.weight": given["W_pos"],
        "ln_final.weight": given["final_norm.weight"],
        "ln_final.bias": given["final_norm.bias"],
        "unembed.weight": given["W_U"].T,
    }
    for layer in range(size.n_layers):
        ours = f"blocks.{layer}.attn"
        for name in ("Q", "K", "V"):
            found[f"{ours}.{name.lower()}.weight"] = common.read_matrix(given[f"{ours}.W_{name}"]).T
        found[f"{ours}.o.weight"] = common.write_matrix(given[f"{ours}.W_O"]).T
        found[f"blocks.{layer}.ln1.weight"] = given[f"{ours}_norm.weight"]
        found[f"blocks.{layer}.ln1.bias"] = given[f"{ours}_norm.bias"]
    return found


build = Bridge
