"""The Induction Lab in a live notebook: any model of the course, its heads laid open, computed in the browser."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from course_lib.data import load_tokenizer
from course_lib.lab_manifest import lab_script, lab_style, manifest
from course_lib.lab_weights import block, dequantised
from course_lib.model import ModelConfig, Transformer
from course_lib.recorded import load_recorded

LARGEST = 5_000_000  # parameters: more would take seconds a run in a browser

Frames = dict[int, dict]  # step -> weights, as a `state_dict` or as 8-bit codes


def induction_lab(
    model: Transformer | None = None,
    tokenizer: object | None = None,
    snapshots: dict[int, dict[str, Tensor]] | None = None,
) -> Any:
    """Play with a model: type or shuffle tokens, look at any head, switch heads off, move through training.

    The browser computes everything, from a copy of the weights as they are now; the kernel may be busy meanwhile.

    Args:
        model: any `Transformer`; without one, the recorded model of the book's own Lab, with its training.
        tokenizer: for text, such as `load_tokenizer()`; without one, tokens are numbers.
        snapshots: weights by step, as in `train`'s history: a slider then moves through them.

    Returns:
        An anywidget, which a notebook draws.

    Raises:
        ValueError: a model too large for a browser, snapshots of another model, a tokenizer that does not fit.
        ModuleNotFoundError: the package anywidget is missing.
    """
    if model is None:
        if tokenizer is not None or snapshots is not None:
            raise ValueError("tokenizer and snapshots belong to a model: pass it too")
        return _widget(*recorded_lab(), load_tokenizer())
    size = sum(weight.numel() for weight in model.parameters())
    if size > LARGEST:
        raise ValueError(f"the lab runs models of up to {LARGEST:,} parameters in the browser, this one has {size:,}")
    last = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    frames = {step: weights for step, weights in sorted((snapshots or {}).items())}
    for step, weights in frames.items():
        _check_snapshot(step, weights, last)
    if not frames or any(not torch.equal(frames[max(frames)][name].cpu(), last[name]) for name in last):
        frames[max(frames, default=-1) + 1] = last
    return _widget(_on_cpu(model, last), frames, [], tokenizer)


def recorded_lab() -> tuple[Transformer, Frames, list[dict]]:
    """The model of the book's Lab, its weights by step as 8-bit codes, and the records of its training."""
    stored = load_recorded("lab")
    frames = {int(step): weights for step, weights in stored["frames"].items()}
    model = Transformer(ModelConfig(**stored["model"]), seed=None)
    model.load_state_dict(dequantised(frames[max(frames)]))
    return model, frames, stored["records"]


def training_curve(records: list[dict]) -> list[dict]:
    """The records as the lab draws them: step, loss of repeated random tokens, best prefix-matching score."""
    return [
        {
            "step": record["step"],
            "repeat_loss": round(record["repeat_loss"], 3),
            "prefix": round(record["prefix_matching"].max().item(), 3),
        }
        for record in records
    ]


def lab_manifest(model: Transformer, frames: Frames, records: list[dict], tokenizer: object | None) -> dict:
    """The manifest of a model with its frames; with records, tokens trained and the curve are in it too."""
    tokens = {record["step"]: record["tokens"] for record in records}
    listed = [
        {"key": str(step), "step": step} | ({"tokens": tokens[step]} if step in tokens else {})
        for step in sorted(frames)
    ]
    layout, _ = block(frames[max(frames)])
    return manifest(model, layout, listed, tokenizer) | ({"records": training_curve(records)} if records else {})


def _widget(model: Transformer, frames: Frames, records: list[dict], tokenizer: object | None) -> Any:
    return _widget_class()(frames, lab_manifest(model, frames, records, tokenizer))


@cache
def _widget_class() -> type:
    try:
        import anywidget
        import traitlets
    except ModuleNotFoundError:
        raise ModuleNotFoundError("the lab needs anywidget: `pip install anywidget`, then restart the kernel") from None

    class InductionLab(anywidget.AnyWidget):
        """The manifest travels with the widget, weights when the browser asks for a frame."""

        _esm = lab_script()
        _css = lab_style()
        manifest = traitlets.Dict().tag(sync=True)

        def __init__(self, frames: Frames, manifest: dict):
            super().__init__(manifest=manifest)
            self.frames = frames
            self.on_msg(self.answer)

        def answer(self, widget: object, content: dict, buffers: list) -> None:
            _, weights = block(self.frames[int(content["frame"])])
            self.send({"frame": content["frame"]}, [weights])

    return InductionLab


def _on_cpu(model: Transformer, weights: dict[str, Tensor]) -> Transformer:
    copy = Transformer(model.config, seed=None)
    copy.load_state_dict(weights)
    return copy.requires_grad_(False)


def _check_snapshot(step: int, weights: dict[str, Tensor], last: dict[str, Tensor]) -> None:
    theirs, ours = ({name: list(value.shape) for name, value in each.items()} for each in (weights, last))
    if theirs != ours:
        raise ValueError(f"the snapshot of step {step} does not fit the model: {theirs} there, {ours} here")
