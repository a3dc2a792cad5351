"""The links of a notebook's Markdown, and whether each leads somewhere for a reader on Colab."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

from tools.nb_settings import Settings

COLAB_HOST = "colab.research.google.com"
RAW_HOST = "raw.githubusercontent.com"
HTML = re.compile(r"""\b(?:href|src)\s*=\s*["']([^"']+)["']""")


def links(markdown: str) -> list[str]:
    """Addresses of all links and images, those in HTML too; code is passed over."""
    found = []
    for block in MarkdownIt().enable("table").parse(markdown):
        for token in (block, *(block.children or [])):
            if token.type.startswith("html"):
                found += HTML.findall(token.content)
            found += [str(token.attrs[name]) for name in ("href", "src") if name in token.attrs]
    return found


def bad_link(address: str, root: Path, settings: Settings) -> str:
    """What is wrong with an address for someone who has opened this one notebook on Colab; "" if nothing is."""
    parts = urlsplit(address)
    if not parts.scheme and not parts.netloc:
        return "a relative link leads nowhere on Colab"
    if parts.scheme != "https":
        return "must begin with https://"
    ours = f"/{settings.slug}"
    if parts.netloc == COLAB_HOST:
        return _in_repository(address, settings.colab(""), root) or _is_notebook(parts.path)
    if parts.netloc == RAW_HOST:
        return _in_repository(address, settings.raw(""), root)
    if parts.netloc == "github.com" and re.match(rf"{re.escape(ours)}/(blob|tree|raw)/", parts.path):
        return _in_repository(address, settings.page(""), root)
    return ""


def _in_repository(address: str, prefix: str, root: Path) -> str:
    """Whether the address begins as `_config.yml` says and names a file that exists."""
    if not address.startswith(prefix):
        return f"must begin with {prefix}, which _config.yml gives"
    path = unquote(urlsplit(address.removeprefix(prefix)).path)
    return "" if (root / path).exists() else f"there is no {path} in the repository"


def _is_notebook(path: str) -> str:
    return "" if path.endswith(".ipynb") else "Colab opens notebooks only"
