"""What the instructor's commands do: they call the grader's modules, tell what came of it, and end with a status."""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from course_lib.grader import export, isolation, report, results
from course_lib.grader.choice import exercise_ids
from course_lib.grader.cluster import ClusterError, grade_on_cluster
from course_lib.grader.grade import OnRow, Options, Row, Summary, TooLittleIsolation, grade_folder
from course_lib.grader.gradescope import write_autograder
from course_lib.grader.rows import cores
from course_lib.grader.states import LOOKS, counted, listed
from course_lib.grader.store import InUse, Store
from course_lib.grader.tables import one_line
from course_lib.grading import load

DONE, LEFT, WRONG, UNSAFE, STOPPED = 0, 1, 2, 3, 130
_MAY_BE_EMPTY = {"title", "column", "out"}  # the last one is told by itself
_EXPORTS_WITH = {  # an option of `export`, and for whom it says something
    "roster": ("canvas", "moodle"),
    "column": ("canvas",),
    "id": ("moodle",),
    "exercises": ("gradescope",),
    "require_isolation": ("gradescope",),
}
LAYERS = isolation.LEVELS[1:]
_STOPPED = {"grade": "Stopped. What is done is kept; the same command goes on from there."}


@dataclass(frozen=True)
class Told:
    """What a command has to say.

    Attributes:
        status: its exit status.
        lines: for a person.
        facts: the same for a program, as JSON.
        warnings: for a person, on the error stream.
    """

    status: int
    lines: Sequence[str]
    facts: dict[str, Any]
    warnings: Sequence[str] = ()


def follow(name: str, options: argparse.Namespace) -> int:
    """Run one of the commands; the exit status. Whatever goes wrong is one sentence on the error stream."""
    try:
        _refuse_empty(options)
        told = COMMANDS[name](options)
    except TooLittleIsolation as missing:
        return _fail(UNSAFE, f"{missing}.")
    except (ValueError, InUse, ClusterError) as wrong:
        return _fail(WRONG, str(wrong))
    except OSError as error:
        return _fail(WRONG, f"{error.filename or name}: {error.strerror or error}")
    except KeyboardInterrupt:
        return _fail(STOPPED, _STOPPED.get(name, "Stopped."))
    quiet = getattr(options, "quiet", False)
    for line in () if quiet else told.warnings:
        print(one_line(line), file=sys.stderr)
    if options.json:
        print(json.dumps({"command": name, "status": told.status, **told.facts}, sort_keys=True))
    elif not quiet:
        print(*map(one_line, told.lines), sep="\n")
    return told.status


def _refuse_empty(options: argparse.Namespace) -> None:
    """Refuse an empty text, as a variable without a value gives it, where it would stand for the folder or for all."""
    empty = [name for name, value in vars(options).items() if value == "" and name not in _MAY_BE_EMPTY]
    if empty:
        label = empty[0].upper() if empty[0] in ("submissions", "results") else f"--{empty[0]}"
        raise ValueError(f"{label} must say something; got an empty text")


def _fail(status: int, sentence: str) -> int:
    print(one_line(" ".join(sentence.split())), file=sys.stderr)
    return status


def _grade(options: argparse.Namespace) -> Told:
    out = _folder(options.out)
    chosen = Options(
        seed=_seed(options, out),
        exercises=exercise_ids(options.exercises) if options.exercises else (),
        isolation=options.isolation,
        require=options.require,
        parallel=_jobs(options.jobs) if options.jobs is not None else cores(),
        shard=_shard(options.shard),
    )
    _check_levels(chosen)
    with _progress(options.quiet) as on_row:
        if options.scheduler:
            summary = grade_on_cluster(Path(options.submissions), out, chosen, options.scheduler, on_row)
        else:
            summary = grade_folder(Path(options.submissions), out, chosen, on_row)
    return _graded(summary, chosen, out)


def _graded(summary: Summary, chosen: Options, out: Path) -> Told:
    share, shares = chosen.shard
    part = "" if shares == 1 else f", share {share} of {shares}"
    reused = f" ({summary.reused} of them earlier)" if summary.reused else ""
    after = f"course report {out}" if shares == 1 else f"course merge, when all {shares} shares are there"
    lines = [
        f"{counted(summary.rows, 'submission')}{part} in {summary.seconds:.1f} s{reused}: {_counts(summary.states)}.",
        f"Isolation: {', '.join(summary.isolation) or 'none'}. Seed: {chosen.seed}.",
        f"Written: {summary.results}. Next: {after}",
    ]
    facts = asdict(summary) | {"results": str(summary.results), "seed": chosen.seed}
    return Told(LEFT if _faults(summary) else DONE, lines, facts, list(_warnings(summary, chosen.isolation)))


def _warnings(summary: Summary, level: str) -> Iterator[str]:
    if summary.ignored:
        yield f"Not a submission, left out: {listed(summary.ignored)}"
    allowed = len(LAYERS) if level == "best" else isolation.LEVELS.index(level)
    whys = ((LAYERS[:allowed], "`course probe` says why"), (LAYERS[allowed:], f"--isolation {level} leaves them out"))
    for layers, why in whys:
        if missing := [layer for layer in layers if layer not in summary.isolation]:
            yield f"Layers of isolation that are off: {', '.join(missing)}. {why}."
    if failed := _faults(summary):
        rows = counted(failed, "row is a grader_error", "rows are grader_errors")
        yield f"{rows}: the grader failed, not the learner. The same command tries again."


def _faults(summary: Summary) -> int:
    return summary.states.get("grader_error", 0)


def _counts(states: dict[str, int]) -> str:
    found = [(state, states[state]) for state in [*LOOKS, *sorted(states.keys() - LOOKS.keys())] if states.get(state)]
    return ", ".join(f"{count} {state}" for state, count in found) or "no submission was found"


def _seed(options: argparse.Namespace, out: Path) -> int:
    """The seed that was asked for, else that of the results that are there, else a new one."""
    if options.seed is not None:
        return options.seed
    if options.shard:
        raise ValueError("--shard needs --seed: all shares must be graded with the same number")
    journal = out / "journal.jsonl"
    if journal.is_file():
        with Store(journal) as store:
            for _, record in store.places():
                return record["row"]["seed"]
    return secrets.randbelow(2**31)


def _shard(text: str | None) -> tuple[int, int]:
    place, slash, count = (text or "1/1").partition("/")
    if not (slash and place.isdecimal() and count.isdecimal() and 1 <= int(place) <= int(count)):
        raise ValueError(f"--shard must be I/N with I from 1 to N, for example 2/8; got {text}")
    return int(place), int(count)


def _jobs(value: int) -> int:
    if value < 1:
        raise ValueError(f"--jobs must be at least 1; got {value}")
    if value > isolation.SLOTS:
        raise ValueError(f"--jobs must be at most {isolation.SLOTS}; got {value}")
    return value


def _check_levels(chosen: Options) -> None:
    """Refuse a command that requires more than it lets the grader use, whatever this machine has."""
    levels = isolation.LEVELS
    if chosen.isolation != "best" and levels.index(chosen.isolation) < levels.index(chosen.require):
        raise TooLittleIsolation(
            f"--require-isolation {chosen.require} cannot be met with --isolation {chosen.isolation}, "
            "which leaves out the layers above it"
        )


def _folder(out: str) -> Path:
    """The folder that --out names; it need not be there yet."""
    if not out:
        raise ValueError("--out must name a folder; got an empty text")
    if (path := Path(out)).exists() and not path.is_dir():
        raise ValueError(f"--out must be a folder, which {out} is not")
    return path


def _file(out: str) -> Path:
    """The file that --out names; it need not be there yet."""
    if not out:
        raise ValueError("--out must name a file; got an empty text")
    if Path(out).is_dir():
        raise ValueError(f"--out must be a file; {out} is a folder")
    return Path(out)


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[OnRow]:
    """A bar on the error stream, where that is a terminal."""
    with tqdm(unit="submission", file=sys.stderr, disable=quiet or not sys.stderr.isatty()) as bar:

        def on_row(_row: Row, done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield on_row


def _report(options: argparse.Namespace) -> Told:
    folder = Path(options.results)
    rows = _rows(folder)
    index = report.write_report(rows, folder / "html", wording(rows), options.title or folder.resolve().name)
    learners = len(report.by_student(rows))
    line = f"The page of the class: {index}, beside it {counted(learners, 'page')} of learners."
    return Told(DONE, [line], {"index": str(index), "learners": learners, "submissions": len(rows)})


def _rows(folder: Path) -> list[Row]:
    path = folder / "results.jsonl"
    if not path.is_file():
        shares = " It holds shares of a class: join them with `course merge`." if any(folder.glob("part-*")) else ""
        raise ValueError(
            f"RESULTS must be a folder that `course grade` wrote, with results.jsonl; got {folder}.{shares}"
        )
    return list(results.read_results(path))


def wording(rows: Sequence[Row]) -> report.Wording:
    """What the specifications say on the exercises of these rows; nothing on one that is no longer there."""
    found = {}
    for exercise_id in {one["id"] for row in rows for one in row["exercises"]}:
        with contextlib.suppress(ValueError):
            found[exercise_id] = load.find(exercise_id)
    sentences = {one: {mutant.name: mutant.sentence for mutant in exercise.mutants} for one, exercise in found.items()}
    return report.Wording(sentences, {one: exercise.next_step for one, exercise in found.items()})


def _export(options: argparse.Namespace) -> Told:
    out = _file(options.out)
    _refuse_unused(options)
    if options.to == "gradescope":
        return _gradescope(options, out)
    if options.results is None:
        raise ValueError(f"--to {options.to} needs RESULTS, the folder that `course grade` wrote")
    folder = Path(options.results)
    if out.suffix == ".jsonl" and out.resolve().parent == folder.resolve():
        raise ValueError(f"--out must not be one of the files from which RESULTS are made; got {out}")
    rows = _rows(folder)
    if options.to in ("csv", "junit"):
        write = results.write_csv if options.to == "csv" else results.write_junit
        write(lambda: rows, out)
        return Told(DONE, [f"{counted(len(rows), 'row')} in {out}."], {"out": str(out), "written": len(rows)})
    roster = Path(options.roster) if options.roster else None
    if options.to == "moodle":
        return _exported(export.moodle(rows, out, roster, options.id or "username"))
    if roster is None:
        raise ValueError("--to canvas needs --roster, the grade book that you export from Canvas")
    return _exported(export.canvas(rows, out, roster, options.column))


def _refuse_unused(options: argparse.Namespace) -> None:
    """Refuse an option that would change nothing in this export."""
    given = vars(options)
    for name, targets in _EXPORTS_WITH.items():
        if given[name] and options.to not in targets:
            raise ValueError(f"--{name.replace('_', '-')} is for --to {' and '.join(targets)}; got --to {options.to}")
    if options.id and options.roster:
        raise ValueError("--id is for an export without a roster: with one, the roster says who is who")


def _exported(done: export.Exported) -> Told:
    head = f"{counted(len(done.unplaced), 'submission is', 'submissions are')} not in it:"
    warnings = [*done.notes, *((head, *(f"  {sentence}" for sentence in done.unplaced)) if done.unplaced else ())]
    facts = {"out": str(done.path), "written": done.written, "unplaced": done.unplaced, "notes": done.notes}
    lines = [f"{counted(done.written, 'grade')} in {done.path}."]
    return Told(LEFT if done.unplaced else DONE, lines, facts, warnings)


def _gradescope(options: argparse.Namespace, out: Path) -> Told:
    if options.results is not None:
        raise ValueError(f"--to gradescope makes an autograder and takes no RESULTS; got {options.results}")
    write_autograder(out, options.exercises or "", options.require_isolation or "limits")
    return Told(DONE, [f"Upload {out} as the autograder of a programming assignment."], {"out": str(out)})


def _probe(options: argparse.Namespace) -> Told:
    found = isolation.probe()
    states = {layer: "yes" if found[layer] else f"no: {found['reasons'].get(layer, '')}" for layer in LAYERS}
    lines = [f"{layer:<11} {state}" for layer, state in states.items()]
    details = [f"{name}: {value}" for name, value in found.get("details", {}).items()]
    return Told(DONE, [*lines, *details], {"layers": found})


def _merge(options: argparse.Namespace) -> Told:
    written = results.merge([Path(part) for part in options.parts], _folder(options.out))
    states = dict(Counter(row["state"] for row in results.read_results(written)))
    line = f"{counted(sum(states.values()), 'submission')} in {written}: {_counts(states)}."
    failed = states.get("grader_error", 0)
    return Told(LEFT if failed else DONE, [line], {"results": str(written), "states": states})


COMMANDS = {"grade": _grade, "report": _report, "export": _export, "probe": _probe, "merge": _merge}
