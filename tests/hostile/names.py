"""Files with odd names, or that are no ordinary files. A wrong answer stands in those that can be read."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from tests.hostile.entry import INVALID, UNATTEMPTED, WRONG, Entry, Scene, as_bytes

ANSWER = as_bytes(["def previous_token_score(pattern): return pattern"])
ANY = INVALID | WRONG | UNATTEMPTED | frozenset({"error", "grader_error"})
SEEN = frozenset({"wrong"})


def named(name: str, why: str, file: str) -> Entry:
    """A readable notebook under this name."""

    def write(path: Path, scene: Scene) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ANSWER)

    return Entry(f"name_{name}", why, write, SEEN, file=file)


def odd(
    name: str,
    why: str,
    make: Callable[[Path, Scene], None],
    n_rows: int | None = None,
    states: frozenset[str] = ANY,
) -> Entry:
    """Something that is no ordinary file."""
    return Entry(f"odd_{name}", why, make, states, row=True, n_rows=n_rows)


def _link(target: str) -> Callable[[Path, Scene], None]:
    return lambda path, scene: path.symlink_to(scene.fill(target))


def _socket(path: Path, scene: Scene) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket may have 107 letters
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def _unreadable(path: Path, scene: Scene) -> None:
    path.write_bytes(ANSWER)
    path.chmod(0)


def _folder(path: Path, scene: Scene) -> None:
    path.mkdir()
    (path / "inside.txt").write_text("not a notebook")


ENTRIES = [
    named("spaces", "blanks and brackets", "My Notebook (1) - Copy.ipynb"),
    named("newline", "a line break", "two\nlines.ipynb"),
    named("quote", "quotes", 'it\'s "quoted".ipynb'),
    named("script", "a script", "<script>alert(1)<script>.ipynb"),
    named("formula", "a formula", "=1+1;cmd|calc!A0.ipynb"),
    named("formula_at", "another formula", "@SUM(A1).ipynb"),
    named("dash", "what looks like an option", "--help.ipynb"),
    named("dash_f", "what looks like options", "-rf.ipynb"),
    named("shell", "what a shell would run", "$(touch x)`id`;&|.ipynb"),
    named("percent", "formats and escapes", "%s%n{0}%2e%2e%2f.ipynb"),
    named("backslash", "a path of Windows", "..\\..\\evil.ipynb"),
    named("bytes", "bytes that are no UTF-8", os.fsdecode(b"caf\xe9\xff.ipynb")),
    named("emoji", "letters of everywhere", "作业 🎓 домашнее.ipynb"),
    named("right_to_left", "letters that turn the name round", "\u202ebypni.exe.ipynb"),
    named("composed", "é as one letter", "caf\u00e9.ipynb"),
    named("decomposed", "é as two", "cafe\u0301.ipynb"),
    named("upper", "a name in capitals", "SAME.ipynb"),
    named("lower", "the same in small letters", "same.ipynb"),
    named("suffix_case", "another ending", "shouting.IPYNB"),
    named("device", "a device of Windows", "NUL.ipynb"),
    named("dots", "dots at the end", "dots....ipynb"),
    named("comma", "commas and semicolons", "a,b;c\td.ipynb"),
    named("control", "control codes", "bell\x07\x1b[31m.ipynb"),
    named("long", "the longest name", "n" * 249 + ".ipynb"),
    named("exclamation", "what looks like the member of a zip", "archive.zip!member.ipynb"),
    named("reserved", "a name that the results have", "results.jsonl.ipynb"),
    named("none", "a name of nothing but blanks", "   .ipynb"),
    odd("link_shadow", "a link to the passwords", _link("/etc/shadow")),
    odd("link_secret", "a link to a file of somebody else", _link("@SECRET@")),
    odd("link_solution", "a link to the solution notebook", _link("@ROOT@/solutions/03_previous_token_head.ipynb")),
    odd("link_neighbour", "a link to another submission", _link("control_plain.ipynb")),
    odd("link_nowhere", "a link to nothing", _link("nowhere.ipynb")),
    odd("link_self", "a link to itself", _link("odd_link_self.ipynb")),
    odd("link_zero", "a link to zeros without an end", _link("/dev/zero")),
    odd("link_random", "a link to random bytes without an end", _link("/dev/urandom")),
    odd("link_terminal", "a link to the terminal", _link("/dev/tty")),
    odd("link_memory", "a link to the grader's memory", _link("/proc/self/mem")),
    odd("link_environment", "a link to the grader's environment", _link("/proc/self/environ")),
    odd("link_stdin", "a link to the grader's input", _link("/dev/stdin")),
    odd("link_folder", "a link to the root of all folders", _link("/")),
    Entry("odd_circle", "a folder that is itself", _link("."), ANY, file="circle", row=True, n_rows=None),
    Entry("odd_upwards", "a folder that is the one above", _link(".."), ANY, file="upwards", row=True),
    odd("fifo", "a pipe that nobody writes to", lambda path, scene: os.mkfifo(path)),
    odd("socket", "a socket", _socket),
    odd("folder", "a folder named like a notebook", _folder),
    odd("unreadable", "a file without rights, which root can read", _unreadable, states=ANY | {"partial"}),
]
