"""TransformerLens 3: `HookedTransformer`."""

from __future__ import annotations

import torch
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig

from benchmarks.peers import common
from benchmarks.peers.lens import Lens
from benchmarks.specs import Size

NAMES = {  # ours -> theirs
    "W_E": "embed.W_E",
    "W_pos": "pos_embed.W_pos",
    "W_U": "unembed.W_U",
    "final_norm": "ln_final",
    "attn_norm": "ln1",
    "weight": "w",
    "bias": "b",
}


class Hooked(Lens):
    """An attention-only model of TransformerLens 3."""

    def __init__(self, size: Size, device: torch.device):
        super().__init__(size, device)
        config = HookedTransformerConfig(
            d_model=size.d_model,
            d_head=size.d_head,
            d_vocab=size.d_vocab,
            n_heads=size.n_heads,
            n_layers=size.n_layers,
            n_ctx=size.n_ctx,
            attn_only=True,
            normalization_type="LN",
            device=str(device),
        )
        self.model = HookedTransformer(config)
        self.model.load_state_dict(self.model.state_dict() | state(size))
        for name, weight in self.model.named_parameters():
            if ".b_" in name:  # biases, which the course's model does not have
                torch.nn.init.zeros_(weight)


def state(size: Size) -> dict[str, Tensor]:
    """The common weights under this model's names."""
    return {".".join(NAMES.get(part, part) for part in name.split(".")): w for name, w in common.weights(size).items()}


build = Hooked
