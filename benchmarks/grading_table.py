"""The record of `python -m benchmarks.grading` as Markdown, for the page grading.md."""

from __future__ import annotations

from course_lib.recorded import FOLDER, load_recorded

RECORD = "grading_benchmark"


def benchmark_page() -> str:
    """Tables of the record with where it comes from; a sentence where there is no record."""
    if not (FOLDER / f"{RECORD}.json").is_file():
        return "No benchmark is recorded yet."
    record = load_recorded(RECORD)
    parts = [part for one in record["assignments"].values() for part in assignment_parts(one)]
    facts = [f"| {name.capitalize()} | {_shown(value)} |" for name, value in record["provenance"].items()]
    return "\n\n".join([*parts, "**How it was measured**", "\n".join(["| | |", "|---|---|", *facts])])


def assignment_parts(found: dict) -> list[str]:
    """A title, the table of the graders, and what became of the class with hostile submissions."""
    head = "| Grader | Seconds a submission | Quartiles | Times the course's | Submissions a round | Wrong scores |"
    lines = [head, "|---|---|---|---|---|---|"]
    lines += [_line(name, one, found["summary"].get(name)) for name, one in found["graders"].items()]
    return [f"**{len(found['ids'])} exercises**", "\n".join(lines), _class_text(found["class"])]


def _line(name: str, found: dict, summary: dict | None) -> str:
    if "failed" in found or summary is None:
        return f"| {name} | failed: {_shown(found.get('failed', ''))} | | | {found['batch']} | |"
    numbers = f"{summary['median']:.3g} | {summary['low']:.3g} to {summary['high']:.3g} | {summary['ratio']:.3g}"
    return f"| {name} | {numbers} | {found['batch']} | {found['wrong scores']} |"


def _class_text(found: dict) -> str:
    megabytes = found["megabytes"]
    quarters = ", ".join(str(megabytes[len(megabytes) * n // 4]) for n in (1, 2, 3))
    return (
        f"A class of {found['submissions']}, {found['hostile']} of them hostile, through the course's grader: "
        f"{found['seconds a submission']:.3g} s a submission, {found['rows']} rows, {found['forged points']} forged "
        f"points, {found['wrong scores']} wrong scores. The grader's own memory, in MB, after each quarter of the "
        f"time: {quarters}, {megabytes[-1]}; with its workers at most {found['peak with workers']}."
    )


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    return " ".join(str(value).split())
