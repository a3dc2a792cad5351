"""The record of the graders' race as Markdown, for the page grading.md.

`course_lib/assets/runs/grading_benchmark.json` holds `provenance` (date, hardware, command, versions, ...) and
`rounds`: one entry for each grader, assignment and repetition, as
`{"round": 0, "assignment": "4 exercises", "grader": "course", "submissions": 100, "seconds": 17.2, "peak_mib": 900}`;
`failed`, a sentence, in place of `seconds` where a grader did not get through. The course's own grader is "course".
"""

from __future__ import annotations

from statistics import median

from course_lib.recorded import FOLDER, load_recorded

RECORD = "grading_benchmark"
COURSE = "course"


def benchmark_page() -> str:
    """Tables of the record with where it comes from; a sentence where there is no record."""
    if not (FOLDER / f"{RECORD}.json").is_file():
        return "No benchmark is recorded yet."
    record = load_recorded(RECORD)
    tables = [f"**{title}**\n\n{table}" for title, table in benchmark_tables(record["rounds"]).items()]
    facts = [f"| {name.capitalize()} | {_shown(value)} |" for name, value in record["provenance"].items()]
    return "\n\n".join([*tables, "\n".join(["| | |", "|---|---|", *facts])])


def benchmark_tables(rounds: list[dict]) -> dict[str, str]:
    """A table for each assignment: seconds a submission, and the ratio to the course in the same round."""
    tables = {}
    for assignment in dict.fromkeys(one["assignment"] for one in rounds):
        own = [one for one in rounds if one["assignment"] == assignment]
        course = {one["round"]: _each(one) for one in own if one["grader"] == COURSE and "seconds" in one}
        head = "| Grader | Seconds a submission | Times the course's | Peak memory | Submissions |"
        lines = [head, "|---|---|---|---|---|"]
        for grader in dict.fromkeys(one["grader"] for one in own):
            lines.append(_line(grader, [one for one in own if one["grader"] == grader], course))
        tables[assignment] = "\n".join(lines)
    return tables


def _line(grader: str, runs: list[dict], course: dict[int, float]) -> str:
    done = [one for one in runs if "seconds" in one]
    if not done:
        return f"| {grader} | failed: {runs[0]['failed']} | | | {runs[0]['submissions']} |"
    ratios = [_each(one) / course[one["round"]] for one in done if one["round"] in course]
    memory = [one["peak_mib"] for one in done if one.get("peak_mib")]
    cells = (
        grader,
        f"{median(map(_each, done)):.3g}",
        f"{median(ratios):.3g}" if ratios else "",
        f"{median(memory):.0f} MiB" if memory else "",
        ", ".join(sorted({str(one["submissions"]) for one in done})),
    )
    return f"| {' | '.join(cells)} |"


def _each(one: dict) -> float:
    return one["seconds"] / one["submissions"]


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    return " ".join(str(value).split())
