"""What every chapter owes its reader, as rules: each takes a chapter and gives sentences that say what is wrong."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import median

from tools.nb_blocks import Block, Line, numbered, walk
from tools.nb_source import Cell, Report, Source, read_source

ROOT = Path(__file__).resolve().parent.parent
MEDIAN_CELL, LONGEST_CELL = 8, 40  # lines of code
WIDEST_LINE = 96  # characters of code that a page shows without scrolling, in a window of 1440 pixels
SHORTEST_ALT = 40  # characters: shorter ones name a figure and do not describe it
CITE = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")
CHARTS = re.compile(
    r"\balt\.(?:Chart|layer|hconcat|vconcat|concat)\(|\b\w*(?:_chart|_film|_grid|_on_tokens|_explorer)\("
)
AXES = {"x_title", "y_title"}

# A number with decimals, or with a unit of a measurement. 1.0 and 0.0 are exact: an accuracy, or the name of a head.
MEASURED = re.compile(
    r"(?<![\w.])(?:\d+\.\d+|\d[\d,]*(?=\s*(?:%|percent\b|nats?\b|bits?\b|seconds?\b|ms\b|[km]?s\b|minutes?\b|hours?\b)))",
)
EXACT = re.compile(r"[01]\.0|0")
NOT_PROSE = re.compile(
    r"\$[^$\n]*\$|`[^`\n]*`|\]\([^)\n]*\)|\{[\w:]+\}`[^`]*`|https?://\S+"
    r"|\b[Hh]eads?\s+\d+\.\d+(?:(?:,|,?\s+and|,?\s+or)\s+\d+\.\d+)*|\b(?:[Ee]xercises?|Python|[Ss]ection|arXiv:?)\s*\d+\.\d+"
)
VARIANTS = {  # what is written otherwise than everywhere else
    r"\bprevious token (?:head|score)": "previous-token head, previous-token score",
    r"\bprefix matching score": "prefix-matching score",
    r"\bprefix-matching (?:is|of)\b": "prefix matching, without a hyphen, where it is not an adjective",
    r"\bin context[ -]learning": "in-context learning",
    r"\b[QKV] composition\b": "K-composition, with a hyphen",
    r"\b(?:OV|QK)-circuits?\b": "OV circuit, QK circuit",
    r"\binduction-heads?\b": "induction head",
    r"\bresidual-stream\b": "residual stream",
    r"\bphase-change(?! windows?\b)": "phase change",
    r"\bsmeared-keys?\b(?!-| model)": "smeared key",
    r"\bsoft max\b": "softmax",
}


class Chapter:
    """A chapter's source in the forms that the rules look at."""

    def __init__(self, source: Source) -> None:
        self.path = source.path
        self.cells = source.cells

    @cached_property
    def blocks(self) -> list[Block]:
        """All blocks of the Markdown, those inside of directives too."""
        texts = (cell for cell in self.cells if cell.kind == "markdown")
        return [block for cell in texts for block in walk(numbered(cell.source, cell.line))]

    def boxes(self, name: str, title: str) -> list[Block]:
        """Directives of this name whose title starts with `title`."""
        return [block for block in self.blocks if block.name == name and block.argument.startswith(title)]

    @cached_property
    def code(self) -> list[Cell]:
        """The code cells."""
        return [cell for cell in self.cells if cell.kind == "code"]

    @cached_property
    def prose(self) -> list[Line]:
        """Lines of text outside of code and formulas; headings and tables count."""
        found = []
        for block in self.blocks:
            if block.kind == "text":
                found += block.lines
            elif block.kind == "directive" and block.argument and block.name in ("admonition", "dropdown"):
                found.append(Line(block.line, block.argument))
        return [line for line in found if line.text.strip()]

    @cached_property
    def text(self) -> str:
        """The prose as one text."""
        return "\n".join(line.text for line in self.prose)

    @cached_property
    def sections(self) -> list[list[Cell]]:
        """Cells between headings of the second level; a heading stands anywhere in a cell of text."""
        found: list[list[Cell]] = [[]]
        for cell in self.cells:
            if cell.kind == "markdown" and re.search(r"^## ", cell.source, re.M):
                found.append([])
            found[-1].append(cell)
        return found


def chapter_from(root: Path, path: str) -> Chapter:
    """The chapter at `path` under `root`. Raises AssertionError if it cannot be read."""
    report = Report()
    source = read_source(root, path, report)
    assert source is not None, report.problems
    return Chapter(source)


def opening(chapter: Chapter) -> Iterator[str]:
    """It opens with goals, the time that they take, and what must be known."""
    goals = chapter.boxes("admonition", "Goals")
    if len(goals) != 1:
        yield "needs one box 'Goals'"
        return
    text = "\n".join(line.text for line in goals[0].lines)
    if len(re.findall(r"^- ", text, re.M)) < 2:
        yield "its goals are fewer than two"
    for mark in ("**Time**: ", "**You need**: "):
        if mark not in text:
            yield f"its box 'Goals' has no {mark.strip()}"


def predictions(chapter: Chapter) -> Iterator[str]:
    """It asks for at least two predictions, and gives an answer to each before it asks for the next."""
    kinds = [
        "predict" if block.argument.startswith("Predict") else "answer"
        for block in chapter.blocks
        if (block.name == "admonition" and block.argument.startswith("Predict"))
        or (block.name == "dropdown" and block.argument.startswith("Answer"))
    ]
    if kinds.count("predict") < 2:
        yield "asks for fewer than two predictions"
    if any(kind == after == "predict" for kind, after in pairwise([*kinds, "predict"])):
        yield f"a prediction without an answer: {kinds}"
    for block in chapter.boxes("admonition", "Predict"):
        if block.options.get("class") != "tip":
            yield f"line {block.line}: a prediction is of the class tip"


def closing(chapter: Chapter) -> Iterator[str]:
    """It ends with its limits, what to take away, its sources and the way on."""
    for title, style in (("Limits", "warning"), ("Key takeaways", "important")):
        boxes = chapter.boxes("admonition", title)
        if [box.options.get("class") for box in boxes] != [style]:
            yield f"needs one box '{title}' of the class {style}"
    if not re.search(r"^\*\*Sources?(?:\*\*:|\.\*\*)(?:.*\n?){1,2}?.*\{cite", chapter.text, re.M):
        yield "has no line '**Sources**:' that cites a work"
    if not re.search(r"^\*{0,2}(?:Next|Back)\*{0,2}:? .*\{doc\}", chapter.text, re.M):
        yield "has no line 'Next:' with a link to the chapter after it"


def code_cells(chapter: Chapter) -> Iterator[str]:
    """Its cells are short enough to be read."""
    lengths = [_length(cell) for cell in chapter.code if not cell.has("hide-input")]
    if lengths and median(lengths) > MEDIAN_CELL:
        yield f"its median cell has {median(lengths):g} lines, more than {MEDIAN_CELL}"
    for cell in chapter.code:
        if _length(cell) > LONGEST_CELL:
            yield f"line {cell.line}: a cell of {_length(cell)} lines, more than {LONGEST_CELL}"
        for line, text in enumerate(cell.source.splitlines(), cell.line):
            if len(text) > WIDEST_LINE:
                yield f"line {line}: {len(text)} characters of code, more than {WIDEST_LINE}"


def _length(cell: Cell) -> int:
    """Lines of a cell, blank ones not counted."""
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def charts_are_checked(chapter: Chapter) -> Iterator[str]:
    """Where a section shows a chart, it asserts something: a title is a claim."""
    for cells in chapter.sections:
        code = [cell for cell in cells if cell.kind == "code"]
        chart = next((cell for cell in code if CHARTS.search(without_definitions(cell.source))), None)
        if chart and not any(_asserts(cell.source) for cell in code):
            yield f"line {chart.line}: a chart in a section that asserts nothing"


def without_definitions(code: str) -> str:
    """The code of a cell without its imports and definitions."""
    tree = ast.parse(re.sub(r"^(\s*)[%!].*", r"\1pass", code, flags=re.M))
    kept = (node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef))
    return "\n".join(map(ast.unparse, kept))


def _asserts(code: str) -> bool:
    return bool(re.search(r"^\s*assert |\bassert_(?:close|equal|allclose|frame_equal)\(", code, re.M))


def axes_are_named(chapter: Chapter) -> Iterator[str]:
    """Every axis says what it shows."""
    for cell in chapter.code:
        for call in ast.walk(ast.parse(re.sub(r"^(\s*)[%!].*", r"\1pass", cell.source, flags=re.M))):
            if not isinstance(call, ast.Call):
                continue
            name, given = ast.unparse(call.func), {keyword.arg for keyword in call.keywords}
            place = f"line {cell.line + call.lineno - 1}: {name}"
            if name in ("alt.X", "alt.Y") and not given & {"title", "axis"} and not _titled_later(call, cell.source):
                yield f"{place} without a title"
            if name == "lines_chart" and not given >= AXES and None not in given:
                yield f"{place} without {' and '.join(sorted(AXES - given))}"


def _titled_later(call: ast.Call, source: str) -> bool:
    """Whether `.title(...)` or `.axis(...)` follows the call, as in `alt.X("a:Q").title("b")`."""
    rest = "\n".join(source.split("\n")[call.end_lineno - 1 :])[call.end_col_offset :]
    return bool(re.match(r"\s*\.(?:title|axis)\(", rest))


def figures_are_described(chapter: Chapter) -> Iterator[str]:
    """Every figure has a text for those who cannot see it, and every drawing a title of its own."""
    for block in chapter.blocks:
        if block.name in ("figure", "image"):
            if len(block.options.get("alt", "")) < SHORTEST_ALT:
                yield f"line {block.line}: the :alt: text of {block.argument} does not describe it"
            file = ROOT / "chapters" / block.argument
            if file.suffix == ".svg" and file.exists() and "<title" not in file.read_text(encoding="utf-8"):
                yield f"line {block.line}: {block.argument} has no <title>"
        elif block.kind == "text":
            yield from (f"line {line.number}: an image without a text" for line in block.lines if "![](" in line.text)


def numbers_are_computed(chapter: Chapter) -> Iterator[str]:
    """No measured number is typed into prose: a cell prints it. Facts of a paper stand beside their citation."""
    for line in chapter.prose:
        if CITE.search(line.text) or line.text.startswith("**Time**") or "estimate" in line.text:
            continue
        for number in measured(line.text):
            yield f"line {line.number}: {number!r} is typed into prose: {line.text.strip()[:90]}"


def measured(text: str) -> list[str]:
    """Numbers in a line of prose that look like measurements."""
    found = MEASURED.findall(NOT_PROSE.sub(" ", text))
    return [number for number in found if not EXACT.fullmatch(number)]


def names_are_consistent(chapter: Chapter) -> Iterator[str]:
    """Terms are written as `notation.md` writes them."""
    for line in chapter.prose:
        plain = re.sub(r"`[^`]*`", "`", line.text)
        for pattern, instead in VARIANTS.items():
            if found := re.search(pattern, plain):
                yield f"line {line.number}: {found[0].strip()!r}: write {instead}"


Rule = Callable[[Chapter], Iterator[str]]
RULES: tuple[Rule, ...] = (
    opening,
    predictions,
    closing,
    code_cells,
    charts_are_checked,
    axes_are_named,
    figures_are_described,
    numbers_are_computed,
    names_are_consistent,
)
