"""What both versions of TransformerLens have in common: caches, hooks and the head detector."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from transformer_lens.head_detector import detect_head

from benchmarks.peers import common
from benchmarks.specs import Job


class Lens(common.Subject):
    """Tasks as users of TransformerLens write them; a version says how its model is built."""

    def logits(self, tokens: Tensor) -> Tensor:
        return self.model(tokens, return_type="logits")

    def head_scores(self, job: Job) -> common.Task:
        """`detect_head` for all heads at once, prompt by prompt as it does lists; rescaled to the course's mean."""
        tokens = common.repeated_segments(job, self.device)
        rows = {f"prompt {i}": tokens[i : i + 1] for i in range(len(tokens))}
        # The detector takes strings; looking them up costs nothing.
        self.model.to_tokens = lambda text: tokens if isinstance(text, list) else rows[text]
        length, repeats = job.segment
        queries = length * (repeats - 1)  # that have a target; the detector divides by all of them

        def scores() -> Tensor:
            found = detect_head(self.model, list(rows), "induction_head")
            return found * tokens.shape[1] / queries

        return common.repeated(torch.no_grad()(scores))

    def head_scores_by_cache(self, job: Job) -> common.Task:
        """The same scores from one `run_with_cache` that keeps the patterns only, for all rows at once."""
        return super().head_scores(job)

    def prefix_matching(self, tokens: Tensor) -> Tensor:
        _, cache = self.model.run_with_cache(
            tokens, return_type=None, names_filter=lambda name: name.endswith("hook_pattern")
        )
        patterns = torch.stack([cache["pattern", layer] for layer in range(self.size.n_layers)])
        return common.prefix_matching(patterns, tokens)

    def losses_without(self, tokens: Tensor, layer: int, head: int) -> Tensor:
        hook = (f"blocks.{layer}.attn.hook_z", partial(zero_head, head=head))
        logits = self.model.run_with_hooks(tokens[:, :-1], return_type="logits", fwd_hooks=[hook])
        return common.token_losses(logits, tokens)


def zero_head(z: Tensor, hook: nn.Module, head: int) -> Tensor:
    """A hook on [batch, pos, head, d_head]."""
    z[:, :, head] = 0.0
    return z
