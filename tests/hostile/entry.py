"""What a hostile submission is, and short ways to write one."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

OK, WRONG, ERROR, TIMEOUT = frozenset({"ok"}), frozenset({"wrong"}), frozenset({"error"}), frozenset({"timeout"})
OOM, CRASHED, UNATTEMPTED = frozenset({"oom"}), frozenset({"crashed"}), frozenset({"unattempted"})
INVALID = frozenset({"invalid_notebook"})
FAILED = WRONG | ERROR | CRASHED  # refused or beaten, but at once
STOPPED = FAILED | TIMEOUT | OOM

FUNCTIONS = {
    "0.1": ("induction_guess", "tokens"),
    "3.1": ("previous_token_score", "pattern"),
    "3.3": ("previous_token_value_output", "d_vocab, n_ctx"),
    "4.2": ("induction_model", "d_vocab, n_ctx"),
    "12.3": ("permutation_p", "first, second"),
}
RIGHT = """
def right(pattern):
    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
"""


COMPANION = "7.1"  # an exercise that no attack touches, and an answer that needs nothing from other cells
RIGHT_BESIDE = """
def smear(k, alpha):
    import torch
    own = alpha.sigmoid()[:, None, None]
    return torch.cat([k[:, :, :1], own * k[:, :, 1:] + (1 - own) * k[:, :, :-1]], dim=2)
"""


@dataclass(frozen=True)
class Scene:
    """What an attack may know about the machine that it runs on.

    Attributes:
        root: the repository, with `course_lib` and `solutions`.
        site: the folder of installed packages.
        submissions: where the corpus is written and graded from.
        results: where the grader writes.
        marks: a folder that everybody may write to; must stay empty.
        secret: a file that everybody may read outside the grader; it holds `token`.
        home: the home folder of whoever grades.
        token: stands in every planted name, so that leftovers are found.
        tcp, udp: ports of a listener on this machine.
        socket: name of an abstract Unix socket that listens.
    """

    root: Path
    site: Path
    submissions: Path
    results: Path
    marks: Path
    secret: Path
    home: Path
    token: str
    tcp: int = 9
    udp: int = 9
    socket: str = "nobody"

    def fill(self, text: str) -> str:
        """The text with `@ROOT@` and the like replaced by what they stand for."""
        for name, value in vars(self).items():
            text = text.replace(f"@{name.upper()}@", str(value))
        return text


@dataclass(frozen=True)
class Entry:
    """One submission.

    Attributes:
        name: unique; the file name without its ending.
        why: what it tries, in one line.
        write: `write(path, scene)` makes the file.
        states: how the attacked exercise may end; for a file that is no notebook, how the row may end.
        exercise: the exercise that it attacks.
        file: the name in the folder of submissions.
        scores: True for the controls, which must score full.
        needs: isolation layers of which one must be on before the attack has to fail; empty: it must always fail.
        wild: it could harm the machine if the grader failed; left out where the test cannot fence it in.
        row: `states` are states of the row, not of the exercise.
        n_rows: how many rows its file must give; None: at least one.
    """

    name: str
    why: str
    write: Callable[[Path, Scene], None]
    states: frozenset[str]
    exercise: str = "3.1"
    file: str = ""
    scores: bool = False
    needs: frozenset[str] = field(default_factory=frozenset)
    wild: bool = False
    row: bool = False
    n_rows: int | None = 1
    family: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", self.file or f"{self.name}.ipynb")


def notebook(cells: Sequence[str], **metadata: object) -> dict:
    """A plain notebook with these code cells."""
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    made = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": code,
        }
        for number, code in enumerate(cells)
    ]
    return {"cells": made, "metadata": kernel | metadata, "nbformat": 4, "nbformat_minor": 5}


def as_bytes(cells: Sequence[str], **metadata: object) -> bytes:
    """The same as the bytes of a file."""
    return json.dumps(notebook(cells, **metadata)).encode()


def accompany(path: Path) -> None:
    """Add the right answer to another exercise to a notebook: it is given to the worker that has run the attack."""
    made = json.loads(path.read_bytes())
    made["cells"] += notebook([RIGHT_BESIDE])["cells"]
    path.write_text(json.dumps(made))


def code(name: str, why: str, source: str, states: frozenset[str], before: str = "", **more: object) -> Entry:
    """A notebook of this code; `# %%` begins a new cell, `@ROOT@` and the like stand for what `Scene` holds.

    `before` is a cell that comes first.
    """
    cells = ["import torch\nfrom torch import Tensor", before.strip(), *textwrap.dedent(source).strip().split("# %%\n")]

    def write(path: Path, scene: Scene) -> None:
        path.write_bytes(as_bytes([scene.fill(cell) for cell in cells if cell]))

    return Entry(name, why, write, states, **more)


def body(name: str, why: str, source: str, states: frozenset[str], exercise: str = "3.1", **more: object) -> Entry:
    """A notebook whose answer has this body."""
    function, arguments = FUNCTIONS[exercise]
    text = f"{RIGHT}\n# %%\ndef {function}({arguments}):\n{textwrap.indent(textwrap.dedent(source).strip(), '    ')}"
    return code(name, why, text, states, exercise=exercise, **more)


def gain(name: str, why: str, source: str, states: frozenset[str] = STOPPED, **more: object) -> Entry:
    """An attack on 3.1 that answers right only when it worked; `source` is the body of a function that says so."""
    attack = textwrap.indent(textwrap.dedent(source).strip(), "    ")
    text = (
        f"{RIGHT}\n# %%\ndef worked():\n{attack}\n# %%\ndef previous_token_score(pattern):\n"
        "    return right(pattern) if worked() else right(pattern) - 1"
    )
    return code(name, why, text, states, **more)


def raw(
    name: str, why: str, content: bytes | Callable[[Scene], bytes], states: frozenset[str] = INVALID, **more: object
) -> Entry:
    """A file of these bytes."""

    def write(path: Path, scene: Scene) -> None:
        path.write_bytes(content if isinstance(content, bytes) else content(scene))

    return Entry(name, why, write, states, row=more.pop("row", True), **more)
