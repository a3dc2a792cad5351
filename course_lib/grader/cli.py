"""The instructor's commands: grade, report, export, probe, merge. Help texts here, what is done in `commands`."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from threading import Thread

LEVELS = ("none", "limits", "landlock", "namespaces", "uid")  # as in `isolation`, which a help text need not load
TARGETS = ("canvas", "moodle", "csv", "junit", "gradescope")

GRADE = """\
Grade a folder of notebooks that nobody has read. They are programs, so they run in worker
processes that are shut in; the verdicts are made outside, from the values that come back.

From a folder of notebooks to points for the grade book:

  1. Put the submissions into one folder, as your platform exports them: .ipynb or .py files
     with any names, zips of such files, or nbgrader's submitted/<student>/<assignment>/.
  2. See what this machine can shut in:
         {prog} probe
  3. Grade the exercises of chapter 3, and 4.2:
         {prog} grade submitted --out results --exercises 3,4.2
     Ctrl-C stops it, and the same command goes on where it was stopped.
     A submission that hangs, crashes or is no notebook costs its author points, nobody else.
  4. Look at the class:
         {prog} report results              then open results/html/index.html
  5. Hand out the points:
         {prog} export results --to canvas --roster gradebook.csv --out points.csv

results/results.jsonl holds one line for every submission. All else is made from it.
"""
GRADE_END = """\
exit status: 0 everything graded; 1 some rows are grader_error and need a person; 2 the command
was wrong; 3 the required isolation is not there; 130 interrupted, what is done is kept.

on more machines: each grades a share (--shard 1/4 ... --shard 4/4), and `{prog} merge` joins
the results; or one command sends all to a Dask cluster (--scheduler tcp://HOST:8786).
"""
REPORT = """\
Make pages from results: html/index.html for the instructor (points, states, which mistakes the
class makes, what needs a person), and one page for each learner with what to do next.
The pages run no program and load nothing, so they can be opened from disk or sent by mail.
"""
EXPORT = """\
Points in the form that other systems take.

  {prog} export results --to canvas --roster gradebook.csv --out points.csv
      gradebook.csv is the grade book that you export from Canvas; the points are filled in.
  {prog} export results --to moodle --roster worksheet.csv --out points.csv
      worksheet.csv is a grading worksheet or a list of participants from Moodle. Without one,
      the learners' names stand in the column that --id names.
  {prog} export results --to csv --out points.csv
  {prog} export results --to junit --out results.xml
  {prog} export --to gradescope --exercises 3 --out autograder.zip
      a zip to upload as the autograder of a programming assignment; it needs no results.

A submission that fits nobody in the roster is listed, and the exit status is then 1.
"""
PROBE = """\
Try every layer of isolation on a process of its own, and say which of them hold on this machine.
Where a layer is missing, this command refuses to run:
    {prog} grade submitted --out results --require-isolation LEVEL
"""
MERGE = """\
Join the results of several shards or machines into one folder.

  {prog} merge part1 part2 part3 --out results
"""


def add_commands(commands: argparse._SubParsersAction, prog: str) -> None:
    """Add the instructor's commands to the parser of `course_lib.__main__`.

    Args:
        commands: what `add_subparsers` gave.
        prog: how the program is called, for the examples.
    """
    _grade(_add(commands, "grade", "grade a folder of notebooks (for instructors)", GRADE, prog, GRADE_END))
    report = _add(commands, "report", "pages for a class and each learner, from results", REPORT, prog)
    report.add_argument("results", metavar="RESULTS", help="the folder that `grade` wrote")
    report.add_argument("--title", default="", help="heading of the class page (default: the folder's name)")
    _json(report)
    _export(_add(commands, "export", "points for Canvas, Moodle, Gradescope; CSV, JUnit", EXPORT, prog))
    _json(_add(commands, "probe", "what this machine can isolate", PROBE, prog))
    merge = _add(commands, "merge", "join results of several shards", MERGE, prog)
    merge.add_argument("parts", metavar="RESULTS", nargs="+", help="folders that `grade --shard` wrote")
    merge.add_argument("--out", metavar="FOLDER", required=True, help="the folder to write")
    _json(merge)


def _add(
    commands: argparse._SubParsersAction, name: str, short: str, text: str, prog: str, end: str = ""
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=short,
        description=text.format(prog=prog),
        epilog=end.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(follow=lambda options: _follow(name, options))
    return parser


def _follow(name: str, options: argparse.Namespace) -> int:
    with _begun(name, options):
        from course_lib.grader.commands import follow  # loads torch, for seconds: a help text should not wait for it

        return follow(name, options)


def _begun(name: str, options: argparse.Namespace) -> AbstractContextManager[None]:
    """What a command needs and what takes time, done while torch is loaded."""
    from course_lib.grader import isolation, process

    if name == "grade" and not options.scheduler:
        return process.begun(options.isolation)
    if name == "probe":
        Thread(target=isolation.probe).start()
    return nullcontext()


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, and nothing else there")


def _grade(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("submissions", metavar="SUBMISSIONS", help="a folder, or a zip")
    add("--out", metavar="RESULTS", required=True, help="the folder for the results; may hold some already; "
        "not that of the submissions")  # fmt: skip
    add("--exercises", metavar="LIST", help='chapters and exercises, "3,4.2" (default: all of a chapter '
        "that a notebook belongs to)")  # fmt: skip
    add("--seed", type=int, help="draws the inputs; the same seed gives the same results (default: that of the results "
        "that are there, else a new one)")  # fmt: skip
    add("--require-isolation", metavar="LEVEL", choices=LEVELS, default="none", dest="require",
        help=f"refuse to run below this level: {', '.join(LEVELS)} (default: none)")  # fmt: skip
    add("--isolation", metavar="LEVEL", choices=(*LEVELS, "best"), default="best",
        help="use the layers up to this level only (default: best, all that this machine has)")  # fmt: skip
    add("--jobs", type=int, metavar="N", help="exercises at a time, 1 to 64 (default: one a core)")
    add("--shard", metavar="I/N", help="grade share I of N only, for example 2/8")
    add("--scheduler", metavar="ADDRESS", help="grade on this Dask cluster, for example tcp://HOST:8786")
    _json(parser)
    add("--quiet", action="store_true", help="no progress, no summary; errors only")


def _export(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("results", metavar="RESULTS", nargs="?", help="the folder that `grade` wrote; not for gradescope")
    add("--to", choices=TARGETS, required=True, help="for whom")
    add("--out", metavar="FILE", required=True, help="the file to write")
    add("--roster", metavar="FILE", help="who is who: the grade book from Canvas, a list or worksheet from Moodle")
    add("--column", metavar="TITLE", default="", help="canvas: the column of the grade book to fill")
    add("--id", metavar="KIND", choices=("username", "email", "idnumber"),
        help="moodle, without a roster: what your learners' names are (default: username)")  # fmt: skip
    add("--exercises", metavar="LIST", help='gradescope: what counts, "3,4.2" (default: all)')
    add("--require-isolation", metavar="LEVEL", choices=LEVELS,
        help="gradescope: refuse to run below this level (default: limits)")  # fmt: skip
    _json(parser)
