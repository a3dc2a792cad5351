"""From the bytes of any file to the code cells of a notebook, or the reason why there are none. Nothing is run.

Reads notebooks of format 3 and 4, and plain Python files, with `# %%` between cells or without.
"""

from __future__ import annotations

import ast
import codecs
import io
import json
import re
import threading
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from course_lib.grading import trees

MAX_BYTES = 32 << 20
MAX_CODE = 500_000  # characters of code in all cells together; more would cost memory, and no answer is that long
MAX_CELLS = 5_000
_TOO_MUCH = f"The file holds more than {MAX_CELLS} code cells or {MAX_CODE} characters of code."
_one_at_a_time = threading.Lock()  # the JSON of a large file takes a gigabyte, and threads would not make it faster
_MARKER = re.compile(r"^#[ \t]*%%+(?=[ \t\[]|$)(.*)$", re.MULTILINE)  # not `# %%time`, a magic that Colab took out
_LOOKS_LIKE_PYTHON = re.compile(
    r"^(?:(?:async )?def \w+ *\(|class \w+ *[(:]|from [\w.]+ import |import [\w.]+(?: as \w+)? *(?:[,#].*)?$)",
    re.MULTILINE,
)
_CODECS = ("iso8859", "cp", "mac", "koi8", "gb", "big5", "euc", "shift")  # that a script may name; others can be slow
# A blank line, and behind it a line that begins something: no closing bracket or quote, and no further branch.
_PARAGRAPH = re.compile(r"\n[ \t]*\n(?=[^\s)\]}\"'])(?!(?:else|elif|except|finally)\b)")
_OF_COLAB = re.compile(r"^# Commented out IPython magic to ensure .*\n# %%\w.*\n((?:#.*\n?)*)", re.MULTILINE)
_OF_NBCONVERT = re.compile(r"^get_ipython\(\)\.run_cell_magic\(.*\)$", re.MULTILINE)
_TEXT_CELL = re.compile(r"\[(markdown|md|raw)\]")
_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign)


class InvalidNotebook(ValueError):
    """A file that cannot be read as a notebook; the message is for its author."""


@dataclass(frozen=True)
class Cell:
    """A code cell.

    Attributes:
        id: in the notebook, or empty.
        code: its text with plain line breaks.
        run: its number in the order in which cells were run; None where that is not known.
        in_script: True for a part of a Python file.
    """

    id: str
    code: str
    run: float | None = None
    in_script: bool = False


def read_cells(data: bytes) -> tuple[Cell, ...]:
    """The code cells of a notebook or a Python file, in order.

    Raises:
        InvalidNotebook: anything else.
    """
    if len(data) > MAX_BYTES:
        raise InvalidNotebook(f"The file is larger than {MAX_BYTES >> 20} MiB. Clear the outputs and save it again.")
    if not data.strip():
        raise InvalidNotebook("The file is empty.")
    text = _decode(data)
    with _one_at_a_time:
        return tuple(_few(_of_notebook(text) if text.lstrip()[:1] in ("{", "[") else _of_script(text)))


def _few(cells: Iterable[Cell]) -> Iterator[Cell]:
    """The cells, as long as there are not too many: they are counted while they are made."""
    n_letters = 0
    for number, cell in enumerate(cells, start=1):
        n_letters += len(cell.code)
        if number > MAX_CELLS or n_letters > MAX_CODE:
            raise InvalidNotebook(_TOO_MUCH)
        yield cell


def _decode(data: bytes) -> str:
    """Text in UTF-8, 16 or 32; a few bytes that are no text become question marks, as long as JSON comes out."""
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        if data.lstrip()[:1] in (b"{", b"["):
            return data.decode("utf-8", "replace")
    try:
        return data.decode(_named_codec(data))
    except (SyntaxError, UnicodeDecodeError, LookupError):
        raise InvalidNotebook("The file is not text: it is neither a notebook nor Python code.") from None


def _named_codec(data: bytes) -> str:
    """The encoding that a script names in its first lines, as in `# -*- coding: latin-1 -*-`."""
    name = codecs.lookup(tokenize.detect_encoding(io.BytesIO(data[:1000]).readline)[0]).name
    return name if name.startswith(_CODECS) else "utf-8"


def _of_notebook(text: str) -> Iterator[Cell]:
    try:
        notebook = json.loads(text, parse_int=float)  # an integer of a million digits would take minutes
    except RecursionError:
        raise InvalidNotebook("The file is nested too deeply for a notebook.") from None
    except json.JSONDecodeError as error:
        raise InvalidNotebook(f"The file is not JSON, as a notebook is: {error.msg} in line {error.lineno}.") from None
    except ValueError:
        raise InvalidNotebook("The file is not JSON, as a notebook is.") from None
    for cell in _raw_cells(notebook):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            yield Cell(_id_of(cell), plain_text(cell.get("source", cell.get("input"))), _run_of(cell))


def _raw_cells(notebook: Any) -> list[Any]:
    """The cells as they stand in the file: at the top in format 4, in worksheets in format 3."""
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if isinstance(cells, list):
        return cells
    sheets = notebook.get("worksheets") if isinstance(notebook, dict) else None
    if not isinstance(sheets, list):
        raise InvalidNotebook("The file is JSON, but no notebook: it has no list of cells.")
    found = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
    return [cell for cells in found if isinstance(cells, list) for cell in cells]


def _id_of(cell: dict[str, Any]) -> str:
    metadata = cell.get("metadata")
    named = [cell.get("id"), metadata.get("id") if isinstance(metadata, dict) else None]  # Colab's place is the second
    return next((name for name in named if isinstance(name, str)), "")


def _run_of(cell: dict[str, Any]) -> float | None:
    number = cell.get("execution_count", cell.get("prompt_number"))
    return number if isinstance(number, float) and number > 0 else None


def plain_text(source: Any) -> str:
    """A cell's source, which may be a text or a list of lines, with plain line breaks and without half characters."""
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    text = source if isinstance(source, str) else ""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")


def _of_script(text: str) -> Iterator[Cell]:
    text = plain_text(text)
    if len(text) > MAX_CODE:
        raise InvalidNotebook(_TOO_MUCH)
    text = _OF_NBCONVERT.sub(_converted, _OF_COLAB.sub(_taken_out, text))
    markers = list(_MARKER.finditer(text))
    cells = [Cell("", text)] if parse(text) else list(_few(_between(text, markers)))
    parsed = [tree for cell in cells if (tree := parse(cell.code))]
    defines = any(isinstance(statement, _DEFINES) for tree in parsed for statement in tree.body)
    with_slips = _LOOKS_LIKE_PYTHON.search(text)  # or with magics; what does not parse is told where it is missed
    if not (defines or with_slips or (markers and parsed)):
        raise InvalidNotebook("The file is neither a notebook nor Python code.")
    yield from cells


def _taken_out(found: re.Match[str]) -> str:
    """A cell with `%%time` or the like, which Colab turns into comments when it writes a script."""
    code = re.sub(r"^# ?", "", found[1], flags=re.MULTILINE)
    return f"\n\n{code}" if parse(code) else found[0]


def _converted(found: re.Match[str]) -> str:
    """The same, out of the call that nbconvert makes of it."""
    call = parse(found[0])
    arguments = getattr(call.body[0].value, "args", ()) if call else ()
    code = arguments[-1].value if arguments and isinstance(arguments[-1], ast.Constant) else None
    return code if isinstance(code, str) and parse(code) else found[0]


def _between(text: str, markers: list[re.Match[str]]) -> Iterator[Cell]:
    """The code cells of a script; blank lines in front keep the line numbers of the file."""
    starts = [(0, ""), *((marker.end(), marker[1]) for marker in markers)]
    ends = [*(marker.start() for marker in markers), len(text)]
    for (start, title), end in zip(starts, ends, strict=True):
        if not _TEXT_CELL.search(title) and text[start:end].strip():
            yield Cell("", "\n" * text.count("\n", 0, start) + text[start:end], in_script=True)


def paragraphs(cell: Cell) -> tuple[Cell, ...]:
    """What stands between the blank lines of a cell, each with its line numbers; the cell itself if that is much."""
    starts = [0, *(found.end() for found in _PARAGRAPH.finditer(cell.code))]
    if len(starts) * cell.code.count("\n") > MAX_CODE:
        return (cell,)
    texts = (cell.code[start:end] for start, end in pairwise([*starts, None]))
    lines = (cell.code.count("\n", 0, start) for start in starts)
    return tuple(replace(cell, code="\n" * n + text) for n, text in zip(lines, texts, strict=True))


def parse(code: str) -> ast.Module | None:
    """The syntax tree of some code, or None where there is none, whatever the code is."""
    try:
        return parse_strictly(code)
    except SyntaxError:
        return None


def parse_strictly(code: str) -> ast.Module:
    """The syntax tree of some code, `import a, b` as two statements: an answer may need one, and the other be missing.

    Raises:
        SyntaxError: also for code that Python refuses in other ways.
    """
    try:
        tree = trees.parse(code)
    except RecursionError:
        raise SyntaxError("the code is nested too deeply") from None
    except MemoryError:
        raise SyntaxError("the code is nested too deeply or too long") from None
    except ValueError as error:  # a null byte
        raise SyntaxError(str(error)) from None
    if any(isinstance(node, ast.Import) for node in tree.body):
        tree.body = [part for node in tree.body for part in _imports_apart(node)]
    return tree


def _imports_apart(node: ast.stmt) -> list[ast.stmt]:
    if not isinstance(node, ast.Import) or len(node.names) == 1:
        return [node]
    return [ast.copy_location(ast.Import([name]), name) for name in node.names]
