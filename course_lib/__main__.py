"""`python -m course_lib`: the exercises of the course without a notebook."""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.argv[1:2] != ["check"] and not sys.flags.safe_path:
    del sys.path[0]  # the current folder, which `python -m` puts first: a submitted torch.py must not be imported

import argparse
from pathlib import Path

from course_lib.grader.cli import add_commands

HELP = """\
The exercises of the course "Induction Heads from Scratch", in your own editor.

  1. Go to an empty folder and run
         python -m course_lib check 05 --watch
     It writes 05_finding_heads.py there: the exercises of chapter 5, each with its prompt and a
     function to fill in. It never overwrites a file.
  2. Write an answer into the first function and save. The report appears in the terminal:
     which case fails, what was expected, what came, and often why.
  3. Stuck?
         python -m course_lib hint 5.1          the first of three hints
         python -m course_lib hint 5.1 2        the second
         python -m course_lib solution 5.1      the answer and why, after you have tried
  4. Where am I?
         python -m course_lib progress          a map of the course

Everything runs on this computer; nothing is sent anywhere.

For instructors: `{prog} grade --help` grades a folder of notebooks.
"""


def main(arguments: list[str] | None = None) -> int:
    """Follow the command; returns the exit status: 0, 1 if a check did not pass, 2 if the command was wrong."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a sign shows "?"
    try:
        return options.follow(options)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    prog = "course" if Path(sys.argv[0]).stem == "course" else "python -m course_lib"
    text = HELP.replace("{prog}", prog)
    parser = argparse.ArgumentParser(prog, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(follow=lambda options: print(parser.format_help(), end="") or 0)
    commands = parser.add_subparsers(title="commands", metavar="")
    check = commands.add_parser("check", help="check your file of a chapter; write it first if there is none")
    check.add_argument("chapter", type=int, help="number of the chapter, for example 05")
    check.add_argument("--watch", action="store_true", help="check again after every save, until Ctrl-C")
    check.set_defaults(follow=_check)
    hint = commands.add_parser("hint", help="a hint for an exercise")
    hint.add_argument("exercise", help="for example 5.1")
    hint.add_argument("number", type=int, nargs="?", default=1, help="which hint, 1 to 3 (default: 1)")
    hint.set_defaults(follow=_hint)
    solution = commands.add_parser("solution", help="the answer of the course and why, after you have tried")
    solution.add_argument("exercise", help="for example 5.1")
    solution.set_defaults(follow=_solution)
    commands.add_parser("progress", help="a map of the course: done, tried, open").set_defaults(follow=_progress)
    add_commands(commands, prog)
    return parser


# The imports below load torch, which takes seconds: a help text should not wait for it.


def _check(options: argparse.Namespace) -> int:
    from course_lib.grading.command import WrongUsage, check_file, file_of, watch

    try:
        page, path = file_of(options.chapter, Path.cwd())
    except WrongUsage as wrong:
        print(wrong, file=sys.stderr)
        return 2
    if options.watch:
        watch(page, path)
        return 0
    return 0 if check_file(page, path) else 1


def _hint(options: argparse.Namespace) -> int:
    from course_lib.grading.notebook import nth_hint

    try:
        print(nth_hint(options.exercise, options.number))
    except ValueError as wrong:
        print(wrong, file=sys.stderr)
        return 2
    return 0


def _solution(options: argparse.Namespace) -> int:
    from course_lib.grading import load, solution

    try:
        load.find(options.exercise)
    except ValueError as wrong:
        print(wrong, file=sys.stderr)
        return 2
    print(solution(options.exercise))
    return 0


def _progress(options: argparse.Namespace) -> int:
    from course_lib.grading import progress

    print(progress())
    return 0


if __name__ == "__main__":
    sys.exit(main())
