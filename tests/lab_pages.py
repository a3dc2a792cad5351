"""Pages with an Induction Lab for a browser to open, and what the tests ask of them."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import torch

from course_lib.lab_weights import block
from tools import lab_assets

PRESETS = ("lab", "opening", "first", "circuit", "film")
PAGE = """<!doctype html>
<html lang="en" data-theme="light"><head><meta charset="utf-8"><title>Lab</title>
<meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="_static/lab.css"><script src="_static/lab-loader.js"></script>
<style>body {{ margin: 16px auto; padding: 0 16px; max-width: 720px; font-family: sans-serif }}</style>
</head><body><h1>Lab</h1><div class="induction-lab" data-preset="{preset}"><p>A model runs here.</p></div>
<p id="after">What follows.</p></body></html>
"""
LOAD = """([bytes, layout, config]) => {
  const { Model, fromBase64, readWeights } = window.InductionLab;
  window.loaded = new Model(config, readWeights(layout, fromBase64(bytes)));
}"""
RUN = """([ids, off, kind]) => {
  const frozen = kind === "pattern_preserving" ? window.loaded.run(ids).patterns : null;
  const { logits } = window.loaded.run(ids, { off: new Set(off), frozen });
  let text = "";
  const raw = new Uint8Array(logits.buffer);
  for (let i = 0; i < raw.length; i += 8192) text += String.fromCharCode(...raw.subarray(i, i + 8192));
  return btoa(text);
}"""
IDLE = "() => document.querySelector('.lab-ready') && !document.querySelector('[aria-busy]')"


def write_pages(folder: Path) -> Path:
    """A page for every preset, beside the assets that the book ships."""
    lab_assets.write(folder / "_static")
    for preset in PRESETS:
        (folder / f"{preset}.html").write_text(PAGE.format(preset=preset), encoding="utf-8")
    return folder


def load_model(page, weights: dict, config: dict) -> None:
    """Give the page's own script these weights."""
    layout, content = block(weights)
    page.evaluate(LOAD, [base64.b64encode(content).decode(), layout, config])


def browser_logits(page, ids: list[int], heads=(), kind: str = "zero") -> torch.Tensor:
    """The logits [pos, vocabulary] that the page computes from the weights it was given last."""
    answer = page.evaluate(RUN, [ids, [f"{layer}.{head}" for layer, head in heads], kind])
    numbers = np.frombuffer(base64.b64decode(answer), dtype="<f4").copy()
    return torch.from_numpy(numbers).view(len(ids), -1)


def ready(page) -> None:
    """Wait until the lab stands and has computed what it was asked for."""
    page.wait_for_function(IDLE)


def losses(page) -> list[float]:
    """The mean losses that the lab shows: of pairs that stood before, and of all other tokens."""
    ready(page)
    return [float(text.split()[0]) for text in page.locator(".lab-totals strong").all_inner_texts()]


def scores(page) -> dict[str, float]:
    """The prefix-matching score that the lab shows for each head."""
    ready(page)
    heads = page.locator(".lab-head").all()
    return {head.get_attribute("data-head"): float(head.locator(".lab-score").inner_text()) for head in heads}
