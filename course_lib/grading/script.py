"""Exercises in a plain Python file with cells (`# %%`): written from a solution source, and run without its checks."""

from __future__ import annotations

import ast
import linecache
import re
from pathlib import Path
from typing import Any

from course_lib.grading import trees
from course_lib.grading.output import first_lines
from course_lib.grading.pages import Page, Piece, as_stub, pieces
from course_lib.grading.run import failure_of
from course_lib.grading.words import without_roles

_HIDDEN = {"spec", "solution-only"}
_CALLS = {"check", "hint", "progress", "solution"}
_DROPDOWN = re.compile(r"^(`{3,}|:{3,})\{admonition\} (.+)\n:class: dropdown\n.*?^\1$", re.MULTILINE | re.DOTALL)
_HELP = re.compile(r'^# (hint|solution)\("([\d.]+)"\).*$', re.MULTILINE)
_IN_A_TERMINAL = r'# \1("\2")  # in a terminal: python -m course_lib \1 \2'
_HEAD = """\
# Write your answers into the functions below. This command checks them after every save (Ctrl-C ends it):
#
#     python -m course_lib check {chapter:02} --watch
#
# In an editor that knows `# %%` you can also run each cell by itself.
"""


class ScriptFailed(Exception):
    """A learner's file that cannot be run.

    Attributes:
        points: pairs (label, sentence), as in a report.
    """

    def __init__(self, *points: tuple[str, str]) -> None:
        super().__init__(points)
        self.points = points


def scripts_of(chapter: int, folder: Path) -> list[Path]:
    """The learner's files of a chapter: `05_*.py`."""
    return sorted(folder.glob(f"{chapter:02}_*.py"))


def write_script(page: Page, folder: Path) -> Path:
    """Write the exercises of a chapter as a Python file, prompts as comments, and return its path.

    Raises:
        FileExistsError: the file is there already; it is never overwritten.
        OSError: the folder cannot be written.
    """
    path = folder / f"{page.path.stem}.py"
    shown = [piece for piece in pieces(page.path.read_text(encoding="utf-8")) if not piece.tags & _HIDDEN]
    cells = [_HEAD.format(chapter=page.chapter), *(_cell(piece, page) for piece in shown)]
    with path.open("x", encoding="utf-8") as file:
        file.write("\n".join(cells))
    return path


def _cell(piece: Piece, page: Page) -> str:
    if piece.kind == "code":
        code = as_stub(piece.text) if "answer" in piece.tags else piece.text
        return f"# %%\n{_HELP.sub(_IN_A_TERMINAL, code).strip()}\n"
    hidden = rf"*\2: folded away in exercises/{page.path.stem}.ipynb.*"
    text = without_roles(_DROPDOWN.sub(hidden, piece.text))
    return "# %% [markdown]\n" + "".join(f"# {line}".rstrip() + "\n" for line in text.split("\n"))


def run_script(path: Path) -> dict[str, Any]:
    """Run a learner's file in a fresh namespace, without its own checks and hints, and return what it defines.

    Raises:
        ScriptFailed: the file cannot be read, is not Python, or stops with an error.
        KeyboardInterrupt: passed through.
    """
    tree = _parse(path)
    tree.body = [statement for statement in tree.body if not _only_shows(statement)]
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": str(path)}
    linecache.checkcache(str(path))
    try:
        with first_lines():
            exec(trees.compile_tree(tree, str(path)), namespace)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too
        failure = failure_of(error)
        line = f" in line {failure.line_number}: `{failure.line}`" if failure.line_number else ""
        raise ScriptFailed(("Error", f"{failure.kind}{line}"), ("Message", failure.message)) from None
    return namespace


def _parse(path: Path) -> ast.Module:
    try:
        return trees.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        line = f": `{error.text.strip()}`" if error.text and error.text.strip() else ""
        where = f"{type(error).__name__} in line {error.lineno}{line}"
        raise ScriptFailed(("Error", where), ("Message", str(error.msg))) from None
    except UnicodeDecodeError:
        raise ScriptFailed(("Error", "The file is not text in UTF-8.")) from None
    except (OSError, ValueError) as error:  # ValueError: a null byte
        raise ScriptFailed(("Error", getattr(error, "strerror", None) or str(error))) from None


def _only_shows(statement: ast.stmt) -> bool:
    """True for a line such as `check("5.1", f)` or `print(check("5.1", f))`, which is made for a notebook."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if _is_call(call, {"print"}) and len(call.args) == 1:
        call = call.args[0]
    return _is_call(call, _CALLS)


def _is_call(node: ast.AST | None, names: set[str]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
