"""GPT-2 of the transformers library. It has an MLP in every layer: here with one hidden unit, the least it allows."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from benchmarks.peers import common
from benchmarks.specs import Job, Size

HIDDEN_UNITS = 1


class GPT2(common.Subject):
    """`GPT2LMHeadModel` without dropout, with an unembedding that is not tied."""

    def __init__(self, size: Size, device: torch.device, attention: str = "sdpa"):
        super().__init__(size, device)
        config = GPT2Config(
            vocab_size=size.d_vocab,
            n_positions=size.n_ctx,
            n_embd=size.d_model,
            n_layer=size.n_layers,
            n_head=size.n_heads,
            n_inner=HIDDEN_UNITS,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
            tie_word_embeddings=False,
            attn_implementation=attention,
        )
        self.model = GPT2LMHeadModel(config)
        self.model.load_state_dict(self.model.state_dict() | state(size))
        self.model.to(device)

    def logits(self, tokens: Tensor) -> Tensor:
        return self.model(tokens).logits

    def head_scores(self, job: Job) -> common.Task:
        """Fused attention gives no patterns, so this is a model of its own."""
        self.model = GPT2(self.size, self.device, attention="eager").model
        return super().head_scores(job)

    def prefix_matching(self, tokens: Tensor) -> Tensor:
        patterns = self.model.transformer(tokens, output_attentions=True).attentions
        return common.prefix_matching(torch.stack(patterns), tokens)

    def losses_without(self, tokens: Tensor, layer: int, head: int) -> Tensor:
        with common.without_head(self.model.transformer.h[layer].attn.c_proj, self.size.d_head, head):
            return common.token_losses(self.logits(tokens[:, :-1]), tokens)


def state(size: Size) -> dict[str, Tensor]:
    """The common weights under this model's names. Its biases and what the MLP writes start at zero."""
    given = common.weights(size)
    found = {
        "transformer.wte.weight": given["W_E"],
        "transformer.wpe.weight": given["W_pos"],
        "transformer.ln_f.weight": given["final_norm.weight"],
        "transformer.ln_f.bias": given["final_norm.bias"],
        "lm_head.weight": given["W_U"].T,
    }
    for layer in range(size.n_layers):
        theirs, ours = f"transformer.h.{layer}", f"blocks.{layer}.attn"
        qkv = torch.cat([common.read_matrix(given[f"{ours}.{name}"]) for name in ("W_Q", "W_K", "W_V")], dim=1)
        found |= {
            f"{theirs}.ln_1.weight": given[f"{ours}_norm.weight"],
            f"{theirs}.ln_1.bias": given[f"{ours}_norm.bias"],
            f"{theirs}.attn.c_attn.weight": qkv,
            f"{theirs}.attn.c_proj.weight": common.write_matrix(given[f"{ours}.W_O"]),
            f"{theirs}.mlp.c_proj.weight": torch.zeros(HIDDEN_UNITS, size.d_model),
        }
    return found


build = GPT2
