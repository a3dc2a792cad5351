"""Small explorers with numbers that are easy to recompute; used by test_explorers.py and test_explorers_browser.py."""

from __future__ import annotations

import pandas as pd
import torch

from course_lib.explorers import (
    ablation_explorer,
    composition_explorer,
    loss_explorer,
    mosaic_explorer,
    trajectory_explorer,
)

STEPS = [0, 10, 20, 30]
HEADS = ["0.0", "0.1", "1.0", "1.1"]
KINDS = ["zero", "mean"]
TOKENS = [f"t{i}" for i in range(12)]


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def records(n_layers: int, generator: torch.Generator) -> list[dict]:
    """Scores in 0..1 of two heads a layer, and a loss, at every step."""
    return [
        {
            "step": step,
            "validation_loss": 5 - step / 10,
            "prefix_matching": torch.rand(n_layers, 2, generator=generator),
            "previous_token": torch.rand(n_layers, 2, generator=generator),
        }
        for step in STEPS
    ]


RUNS = {"two": records(2, draws()), "one": records(1, draws())}
LOSSES = pd.DataFrame(torch.rand(4, 40, generator=draws()).double().numpy(), index=STEPS, columns=range(1, 41))
PATHS = {name: torch.rand(4, 2, generator=draws()) * scale for name, scale in (("a", 1.0), ("b", -1.0))}
LOSS_OF = {"a": [4.0, 3.0, 2.0, 1.0], "b": [4.5, 4.25, 4.125, 4.0]}
SCORES = pd.DataFrame(
    {"model": model, "kind": kind, "earlier": earlier, "later": later}
    for model in ("end", "start")
    for kind in "KQV"
    for earlier in ("0.0", "0.1")
    for later in ("1.0", "1.1")
).assign(score=torch.rand(24, generator=draws()).tolist())
CHANCE = torch.tensor([0.2, 0.3, 0.25])
WHOLE = torch.rand(12, generator=draws()) * 5
WITHOUT = {kind: torch.rand(2, 2, 12, generator=draws()) * 5 + number for number, kind in enumerate(KINDS)}
CHANGES = pd.DataFrame(
    {
        "head": head,
        "kind": kind,
        "ICL score": round(0.1 * i + 0.01 * k - 0.05, 3),
        "loss": round(WITHOUT[kind].flatten(0, 1)[i].mean().item() - WHOLE.mean().item(), 3),
    }
    for k, kind in enumerate(KINDS)
    for i, head in enumerate(HEADS)
)


def explorers() -> dict[str, object]:
    """One of each, by name."""
    return {
        "mosaic": mosaic_explorer(RUNS, "Heads"),
        "losses": loss_explorer(LOSSES, "Losses", bins=5),
        "composition": composition_explorer(SCORES, CHANCE, "Composition"),
        "ablation": ablation_explorer(CHANGES, WHOLE, WITHOUT, TOKENS, "Ablation"),
        "trajectories": trajectory_explorer(PATHS, torch.tensor([0.75, 0.1]), LOSS_OF, STEPS, "Paths"),
    }
