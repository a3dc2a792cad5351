"""Small pieces of text that reports, hints and pictures share; for HTML always escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

_CODE = re.compile(r"`([^`\n]+)`")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_ROLE = re.compile(r"\{[\w:.-]+\}`([^`<]*?)\s*(?:<[^`>]*>)?`")


def inline_html(text: str) -> str:
    """Text for HTML: escaped, `code` between backticks set as code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def number(value: float | int) -> str:
    """A number with four digits that carry meaning; whole numbers as they are."""
    return f"{value:.4g}" if value % 1 else f"{value:.0f}"


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def index_in_words(index: Sequence[int], axes: Sequence[str]) -> str:
    """An index with the names of its axes: "head 1, query_pos 3"; without names "[1, 3]"."""
    if not index:
        return "the one value"
    if len(axes) != len(index):
        return f"[{', '.join(map(str, index))}]"
    return ", ".join(f"{name} {place}" for name, place in zip(axes, index, strict=True))


def without_roles(text: str) -> str:
    """MyST text with the words of its references in their place: "chapter 3" for {doc}`chapter 3 <...>`."""
    return _ROLE.sub(r"\1", text)


def markdown_html(text: str) -> str:
    """Paragraphs and lists of Markdown, with code and bold words, as HTML; everything else as it stands, escaped."""
    blocks = re.split(r"\n\s*\n", without_roles(text).strip())
    return "".join(_block_html(block) for block in blocks if block)


def _block_html(block: str) -> str:
    if block.startswith("- "):
        items = re.split(r"\n- ", block[2:])
        return "<ul>" + "".join(f"<li>{_words_html(item)}</li>" for item in items) + "</ul>"
    if block.startswith(("|", "    ", "```")):
        return f"<pre>{escape(block)}</pre>"
    return f"<p>{_words_html(block)}</p>"


def _words_html(text: str) -> str:
    return _BOLD.sub(r"<strong>\1</strong>", inline_html(text))
