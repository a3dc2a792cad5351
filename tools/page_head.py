"""Sphinx extension: what stands in the head of a page, and which scripts and styles it loads.

A page gets no script that it has no use for: MathJax where there is no formula, the charts' code where there is no
chart, copy buttons where there is no code. What is left waits until the text is there. Search engines and chats
that show a link get a title, a description and a picture; the page for wrong addresses finds its files from any depth.
Heads of tables get the scope that screen readers ask for, and the counts that pandas puts before nameless rows go.
Drawings get their shape, so that a browser keeps their room before it has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

# A file's name, and what a page must contain to need it.
NEEDED_BY = {
    "tex-chtml.js": re.compile(r'class="[^"]*\bmath\b'),
    "vega-versions.js": re.compile(r"vegaEmbed"),
    "charts.js": re.compile(r"vegaEmbed"),
    "charts.css": re.compile(r"vegaEmbed"),
    "togglebutton.js": re.compile(r'class="[^"]*\b(toggle|dropdown|tag_hide-\w+|hide-\w+)\b'),
    "togglebutton.css": re.compile(r'class="[^"]*\b(toggle|dropdown|tag_hide-\w+|hide-\w+)\b'),
    "design-tabs.js": re.compile(r'class="[^"]*\bsd-tab-'),
    "sphinx-design.min.css": re.compile(r'class="[^"]*\bsd-'),
    "clipboard.min.js": re.compile(r'<div class="highlight">'),
    "copybutton.js": re.compile(r'<div class="highlight">'),
    "copybutton.css": re.compile(r'<div class="highlight">'),
    "mystnb.": re.compile(r'class="[^"]*\b(cell|highlight)\b'),
    "lab-loader.js": re.compile(r'class="[^"]*\binduction-lab\b'),
    "lab.css": re.compile(r'class="[^"]*\binduction-lab\b'),
}
AT_ONCE = ("documentation_options.js",)  # the theme's own script in the page reads them
CHART_CODE = ("vega-versions.js", "charts.js")  # so do charts
TABLE_PART = re.compile(r"<t(head|body)[ >].*?</t\1>", re.S)
DATAFRAME = re.compile(r'<table [^>]*class="dataframe".*?</table>', re.S)
CORNER = re.compile(r"(<thead>\s*<tr[^>]*>\s*)<th></th>\s*((?:<th>.*?</th>\s*)+</tr>\s*</thead>)", re.S)
NUMBERED_ROW = re.compile(r"(<tr>\s*)<th>\d+</th>\s*")
EMPTY_HEAD = re.compile(r"<th((?: [^>]*)?)>\s*(?:<p>\s*</p>)?\s*</th>")
DRAWING = re.compile(r'<img [^>]*src="[^"]*_images/([^"/]+\.svg)"[^>]*style="')
VIEW_BOX = re.compile(r'<svg [^>]*viewBox="\S+ \S+ (\S+) (\S+)"')
SHORT = 40  # letters: a shorter paragraph describes no page
LONG = 200


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook into Sphinx."""
    app.connect("config-inited", set_address)
    app.connect("html-page-context", fill_head, priority=900)  # after the extensions that add scripts
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def pages_address(repository: str) -> str:
    """Where GitHub Pages serves the book of a repository.

    >>> pages_address("https://github.com/someone/course")
    'https://someone.github.io/course/'
    """
    owner, name = urlsplit(repository).path.strip("/").split("/")
    return f"https://{owner}.github.io/{name}/"


def set_address(app: Sphinx, config: Config) -> None:
    """The book's address follows from the repository's, which stands in _config.yml."""
    config.html_baseurl = pages_address(config.html_theme_options["repository_url"])


def fill_head(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Drop what the page does not need, and add what describes it."""
    drawings = {name: Path(app.srcdir, path) for path, name in app.builder.images.items()}
    body = context["body"] = with_shapes(with_scopes(without_row_numbers(context.get("body", ""))), drawings)
    at_once = AT_ONCE + CHART_CODE * ("vegaEmbed" in body)
    scripts = [script for script in context["script_files"] if _needed(script, body)]
    if page != "search":  # whose scripts call one another while it is read
        scripts = [script if str(script.filename).endswith(at_once) else _deferred(script) for script in scripts]
    context["script_files"] = scripts
    context["css_files"] = [style for style in context["css_files"] if _needed(style, body)]
    tags = context.get("metatags", "")
    if page == "404":
        tags = base_script(urlsplit(app.config.html_baseurl).path) + tags
    context["metatags"] = tags + description_tags(app, page, context, doctree)


def _deferred(script: object) -> object:
    """The same script, run when the page has been read; Sphinx hands the original on to the next page."""
    if not script.filename:
        return script
    attributes = script.attributes | {"defer": "defer"}
    return type(script)(script.filename, priority=script.priority, **attributes)


def without_row_numbers(body: str) -> str:
    """HTML in which tables of pandas do not count their rows; where columns are numbered too, the numbers are data.

    >>> rows = "<tbody><tr><th>0</th><td>2.9</td></tr></tbody></table>"
    >>> without_row_numbers('<table class="dataframe"><thead><tr><th></th><th>loss</th></tr></thead>' + rows)
    '<table class="dataframe"><thead><tr><th>loss</th></tr></thead><tbody><tr><td>2.9</td></tr></tbody></table>'
    """

    def uncounted(table: re.Match) -> str:
        corner = CORNER.search(table[0])
        if corner is None or re.search(r"<th>\d+</th>", corner[2]):
            return table[0]
        head, _, rows = table[0].partition("<tbody>")
        if len(NUMBERED_ROW.findall(rows)) < rows.count("<tr>"):
            return table[0]
        return CORNER.sub(r"\1\2", head) + "<tbody>" + NUMBERED_ROW.sub(r"\1", rows)

    return DATAFRAME.sub(uncounted, body)


def with_scopes(body: str) -> str:
    """HTML whose table heads say what they head, a column or a row; an empty corner is no head.

    >>> with_scopes("<thead><tr><th></th><th>loss</th></tr></thead><tbody><tr><th>0</th></tr></tbody>")
    '<thead><tr><td></td><th scope="col">loss</th></tr></thead><tbody><tr><th scope="row">0</th></tr></tbody>'
    """

    def scoped(part: re.Match) -> str:
        scope = "col" if part[1] == "head" else "row"
        text = EMPTY_HEAD.sub(r"<td\1></td>", part[0])
        return re.sub(r"<th(?=[ >])(?![^>]*\bscope=)", f'<th scope="{scope}"', text)

    return TABLE_PART.sub(scoped, body)


def with_shapes(body: str, drawings: Mapping[str, Path]) -> str:
    """HTML whose drawings, files by name, say how wide they are to their height."""

    def shaped(image: re.Match) -> str:
        width, height = VIEW_BOX.search(drawings[image[1]].read_text(encoding="utf-8")).groups()
        return f"{image[0]}aspect-ratio: {width} / {height}; "

    return DRAWING.sub(shaped, body)


def _needed(file: object, body: str) -> bool:
    name = str(getattr(file, "filename", None) or file)
    return all(wanted.search(body) for part, wanted in NEEDED_BY.items() if f"/{part}" in f"/{name}")


def description_tags(app: Sphinx, page: str, context: dict, doctree: nodes.document | None) -> str:
    """Tags for search engines and link previews."""
    text = description(doctree) if doctree is not None else ""
    base, title = app.config.html_baseurl, re.sub("<[^>]+>", "", context.get("title", "")) or app.config.html_title
    facts = {
        "og:type": "website" if page == app.config.root_doc else "article",
        "og:site_name": app.config.html_title,
        "og:title": title,
        "og:description": text,
        "og:url": f"{base}{page}.html",
        "og:image": f"{base}_static/social.png",
        "og:image:width": "1200",
        "og:image:height": "630",
        "og:image:alt": app.config.html_title,
    }
    tags = [f'<meta property="{name}" content="{escape(value)}" />' for name, value in facts.items() if value]
    tags.append('<meta name="twitter:card" content="summary_large_image" />')
    if text:
        tags.append(f'<meta name="description" content="{escape(text)}" />')
    return "\n".join(tags)


def description(doctree: nodes.document) -> str:
    """The first paragraph of a page that stands in no box, cut at a word."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if len(text) >= SHORT and isinstance(paragraph.parent, nodes.section | nodes.document):
            return text if len(text) <= LONG else text[:LONG].rsplit(" ", 1)[0] + " …"
    return ""


def base_script(path: str) -> str:
    """A script for the page of wrong addresses, shown at any depth: relative links start at the book's root."""
    return (
        f"<script>(() => {{ const root = {json.dumps(path)}, here = location.pathname;\n"
        'if (location.protocol === "file:") return;\n'
        'const base = document.createElement("base");\n'
        'base.href = here.startsWith(root) ? root : "/";\n'
        "document.head.append(base);\n"
        'addEventListener("DOMContentLoaded", () => {\n'
        'for (const a of document.querySelectorAll(\'a[href^="#"]\')) a.href = here + a.getAttribute("href");\n'
        "}); })();</script>\n"
    )
