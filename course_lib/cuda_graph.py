"""A training step on a GPU as a CUDA graph: recorded once, then started as a whole.

A step of a small model is some hundred short kernels. Starting each of them from Python takes longer than running it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PLAIN_STEPS = 3  # libraries set themselves up in the first steps, which a recording must not contain


class GraphedStep:
    """`step(tokens)`, which trains a model on the GPU and returns its loss; from the fourth call on as one graph.

    Everything that `step` reads and changes must stay where it is in memory: weights, the optimiser's state, and
    learning rates, which must be tensors. Tokens of another shape than those recorded are trained on without the graph.
    """

    def __init__(self, step: Callable[[Tensor], Tensor]):
        self.step = step
        self.steps = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        self.steps += 1
        if self.steps <= PLAIN_STEPS:
            return self._aside(tokens)
        if self.graph is None:
            self._record(tokens)
        if tokens.shape != self.tokens.shape:
            return self.step(tokens)
        self.tokens.copy_(tokens)
        self.graph.replay()
        return self.loss.clone()

    def _aside(self, tokens: Tensor) -> Tensor:
        """One step without a graph, on a stream of its own, as PyTorch asks for before a recording."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            loss = self.step(tokens)
        torch.cuda.current_stream().wait_stream(stream)
        return loss

    def _record(self, tokens: Tensor) -> None:
        """Record the step; nothing is computed yet."""
        self.tokens = tokens.cuda()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = self.step(self.tokens)
