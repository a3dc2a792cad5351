"""What the Induction Lab is told before any weights: shape, tokenizer, example sequences, frames of training."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from course_lib.data import START, repeated_tokens
from course_lib.evaluate import head_scores
from course_lib.model import Transformer, patterns
from course_lib.scores import per_token_loss

FOLDER = Path(__file__).parent / "assets" / "lab"
MODULES = ("model.js", "tokenizer.js", "drawing.js", "lab.js")  # each imports from those before it
LENGTH = 14  # of the random segment that is shown twice
TOP = 5  # predictions of a preview
PRESETS = {
    "lab": "name",
    "notebook": "name",
    "opening": "name",
    "first": "repeat",
    "circuit": "repeat",
    "film": "repeat",
}
TEXTS = {
    "name": ("A name", "Harry Potter lived under the stairs. Nobody had told Harry"),
    "code": (
        "Code",
        "def read_config(path):\n    config_file = open(path)\n    settings = parse(config_file)\n"
        "    return settings, config_file\n\nsettings, config",
    ),
}


def lab_script() -> str:
    """The lab as one ES module: its sources joined, without the imports and exports between them."""
    text = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in MODULES)
    joined = re.sub(r"^import [^;]*;\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^export (?=const|class)", "", joined, flags=re.MULTILINE)


def lab_style() -> str:
    """The lab's style sheet."""
    return (FOLDER / "lab.css").read_text(encoding="utf-8")


def manifest(model: Transformer, layout: list[dict], frames: list[dict], tokenizer=None) -> dict:
    """All that the lab knows of a model besides its weights.

    Args:
        model: the trained model; its head that matches prefixes best is shown first.
        layout: of the block of weights, from `lab_weights.block`.
        frames: for each set of weights its `key` and `step`, and `tokens` trained where known; the last is the model.
        tokenizer: a byte-level BPE of the `tokenizers` package; None where tokens are only numbers.

    Raises:
        ValueError: a tokenizer of another kind, or with more tokens than the model; a context below 3 tokens.
    """
    table = None if tokenizer is None else tokenizer_table(tokenizer, model.config.d_vocab)
    random = random_example(model, table)
    texts = {} if table is None else {name: {"title": title, "text": text} for name, (title, text) in TEXTS.items()}
    scores = head_scores(model, random)["prefix_matching"]
    layer, head = divmod(int(scores.argmax()), model.config.n_heads)
    repeat = {"title": "Random tokens, twice", "ids": random[0].tolist(), "at": random.shape[1] * 3 // 4}
    found = {
        "config": model.config.to_dict(),
        "layout": layout,
        "frames": frames,
        "head": [layer, head],
        "tokenizer": table,
        "examples": texts | {"repeat": repeat},
        "presets": PRESETS if texts else dict.fromkeys(PRESETS, "repeat"),
    }
    readable = readable_tokens(table) if table else []
    return found | ({"readable": readable} if readable else {})


def random_example(model: Transformer, table: dict | None) -> Int[Tensor, "1 p"]:
    """A start token and a random segment twice; of tokens that read like words, where there is a tokenizer.

    Raises:
        ValueError: a context too short for two tokens after the start.
    """
    length = min(LENGTH, (model.config.n_ctx - 1) // 2, model.config.d_vocab - 1)
    if length < 1:
        raise ValueError(f"the lab needs a context of at least 3 tokens, n_ctx is {model.config.n_ctx}")
    generator = torch.Generator().manual_seed(7)
    if table is None:
        return repeated_tokens(1, length, 2, model.config.d_vocab, generator)
    words = torch.tensor(readable_tokens(table) or range(1, model.config.d_vocab))
    drawn = words[torch.randperm(len(words), generator=generator)[:length]]
    return torch.cat([torch.tensor([START]), drawn, drawn])[None]


def tokenizer_table(tokenizer, d_vocab: int) -> dict:
    """What the browser needs of a byte-level BPE: the bytes of every token, the merges in order, special tokens.

    Raises:
        ValueError: a tokenizer of another kind, or with more tokens than `d_vocab`.
    """
    state = json.loads(tokenizer.to_str())
    if state["model"]["type"] != "BPE" or state["normalizer"] or not _is_byte_level(state["pre_tokenizer"]):
        raise ValueError("the lab reads byte-level BPE tokenizers such as load_tokenizer(); this one is another kind")
    ids = state["model"]["vocab"]
    special = {token["content"]: token["id"] for token in state["added_tokens"]}
    if max(ids.values()) >= d_vocab:
        raise ValueError(f"the tokenizer has {max(ids.values()) + 1} tokens, the model d_vocab {d_vocab}")
    tokens: list[str | None] = [None] * d_vocab
    for text, number in ids.items():
        if text not in special:
            tokens[number] = base64.b64encode(bytes(BYTE_OF[letter] for letter in text)).decode()
    return {"tokens": tokens, "merges": [[ids[a], ids[b]] for a, b in state["model"]["merges"]], "special": special}


def _is_byte_level(pre_tokenizer: dict | None) -> bool:
    kind = pre_tokenizer or {}
    return kind.get("type") == "ByteLevel" and kind.get("use_regex", True) and not kind.get("add_prefix_space")


def _byte_of() -> dict[str, int]:
    """Byte-level BPE writes bytes as letters: printable ones as themselves, the others as letters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_OF = _byte_of()


def readable_tokens(table: dict) -> list[int]:
    """Ids of tokens that read like words: a space and three lower-case letters or more."""
    texts = [b"" if token is None else base64.b64decode(token) for token in table["tokens"]]
    return [number for number, text in enumerate(texts) if re.fullmatch(rb" [a-z]{3,}", text)]


@torch.no_grad()
def preview(model: Transformer, ids: list[int]) -> dict:
    """One run, small enough to stand on a page before the weights are loaded.

    Returns:
        `patterns` (base64, a byte 0..255 an entry, layer by layer and head by head), `losses` in nats of every token
        but the first, `top` for each position the likeliest next tokens as [id, probability].
    """
    tokens = torch.tensor([ids])
    logits = model(tokens)
    pattern = (patterns(model, tokens)[:, 0] * 255).round().to(torch.uint8)  # layer h q k
    best = logits[0].softmax(dim=-1).topk(TOP)
    top = [
        [[token, round(p, 4)] for token, p in zip(*pair, strict=True)]
        for pair in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    losses = per_token_loss(logits[:, :-1], tokens)[0]
    return {
        "patterns": base64.b64encode(pattern.numpy().tobytes()).decode(),
        "losses": [round(loss, 4) for loss in losses.tolist()],
        "top": top,
    }
