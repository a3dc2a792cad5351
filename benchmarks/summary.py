"""From the raw times of a record to medians, quartiles and ratios to the course."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median, quantiles

from benchmarks.specs import REFERENCE, SCORED_ROWS

TITLES = {
    "training_step": "Training step",
    "forward": "Forward pass with loss",
    "head_scores": "Scores of all heads",
    "head_scores_by_cache": "Scores of all heads, from one cache",
    "ablation_sweep": "Ablation sweep",
    "import_time": "Import, on top of torch",
    "peak_memory": "Peak memory of a training step",
}
HEADERS = ("peer", "precision", "median", "quartiles", "ratio (quartiles)", "difference")


def job_title(job: dict) -> str:
    """What a job measures and at which size, such as "Training step, d_model 128, vocabulary 1024, 4 x 512 tokens"."""
    return ", ".join(filter(None, (TITLES[job["task"]], job_size(job))))


def job_size(job: dict) -> str:
    """The size of a job, such as "d_model 128, vocabulary 1024, 4 x 512 tokens"; an import has none."""
    size = job["size"]
    if job["task"] == "import_time":
        return ""
    rows, tokens = size["batch"], size["n_ctx"]
    if job["segment"]:
        length, repeats = job["segment"]
        rows, tokens = SCORED_ROWS, 1 + length * repeats
    return f"d_model {size['d_model']}, vocabulary {size['d_vocab']}, {rows} x {tokens} tokens"


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; a single value is all three.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("there are no values to summarise")
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, median(values), high


def rows(record: dict, tasks: Iterable[str] = tuple(TITLES)) -> list[dict]:
    """A row for each job and peer of the named tasks, in the order of the record.

    Columns: `task size title precision peer`; `low median high` in seconds, or bytes for memory; `ratio_low ratio
    ratio_high`, quartiles of the quotients "peer by course" of the same round; `difference` of the results from the
    course's, None where there are none; `failed`, a message or None. A ratio is None where the course failed or took 0.
    """
    wanted = set(tasks)
    return [_row(job, peer) for job in record["jobs"] if job["task"] in wanted for peer in job["peers"]]


def _row(job: dict, peer: str) -> dict:
    found, course = job["peers"][peer], job["peers"][REFERENCE]
    row = {"task": job["task"], "size": job_size(job), "title": job_title(job)}
    row |= {"precision": job["precision"], "peer": peer}
    row |= dict.fromkeys(("low", "median", "high", "ratio_low", "ratio", "ratio_high"))
    row |= {"difference": found.get("difference"), "failed": found.get("failed")}
    if row["failed"] is not None:
        return row
    row |= zip(("low", "median", "high"), quartiles(found["values"]), strict=True)
    if all(course.get("values", [0])):
        ratios = [theirs / ours for theirs, ours in zip(found["values"], course["values"], strict=True)]
        row |= zip(("ratio_low", "ratio", "ratio_high"), quartiles(ratios), strict=True)
    return row


def share_rows(record: dict) -> list[dict]:
    """How much of the machine's rate of matrix products a training step of the course uses, a row for each job.

    Columns: `size precision tokens_per_second rate` (of the machine, operations a second) and `share` of it, 0..1.
    """
    found = []
    for job in record["jobs"]:
        values = job["peers"].get(REFERENCE, {}).get("values")
        if job["task"] != "training_step" or not values:
            continue
        size, rate = job["size"], record["machine"]["rates"][job["precision"]]
        speed = size["batch"] * size["n_ctx"] / median(values)
        row = {"size": job_size(job), "precision": job["precision"], "tokens_per_second": speed, "rate": rate}
        found.append(row | {"share": speed * training_operations(size) / rate})
    return found


def training_operations(size: dict) -> float:
    """Additions and multiplications that a training step needs for each token, in matrix products alone.

    Forward, two for each weight of an attention-only model but the embeddings, and two for each number of queries and
    of values that a token compares or adds: half of the context on the mean. Backward, twice as many.
    """
    weights = size["n_layers"] * 4 * size["d_model"] ** 2 + size["d_model"] * size["d_vocab"]
    attention = size["n_layers"] * 2 * size["d_model"] * size["n_ctx"] / 2
    return 3 * 2 * (weights + attention)


def share_table(record: dict) -> str:
    """`share_rows` as a Markdown table."""
    lines = [("training step", "precision", "tokens a second", "share of the machine's rate"), ("---",) * 4]
    for row in share_rows(record):
        share = f"{row['share']:.0%} of {row['rate'] / 1e12:.2f} TFLOP/s"
        lines.append((row["size"], row["precision"], f"{row['tokens_per_second']:,.0f}", share))
    return markdown(lines)


def amounts(values: Sequence[float], task: str) -> list[str]:
    """Seconds, or bytes for memory, in the unit that suits the first of them, which alone is given its name."""
    if task == "peak_memory":
        scale, unit, digits = 2**-20, "MiB", ".0f"
    elif values[0] >= 1:
        scale, unit, digits = 1, "s", ".2f"
    else:
        scale, unit, digits = 1e3, "ms", ".0f" if values[0] >= 0.1 else ".2f"
    first, *others = (f"{value * scale:{digits}}" for value in values)
    return [f"{first} {unit}", *others]


def cells(row: dict) -> list[str]:
    """The texts of a row of the table, as in `HEADERS`."""
    precision = "" if row["task"] == "import_time" else row["precision"]
    if row["failed"] is not None:
        return [row["peer"], precision, "failed", row["failed"].replace("\n", " ").replace("|", "/"), "", ""]
    middle, low, high = amounts([row["median"], row["low"], row["high"]], row["task"])
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
    difference = "" if row["difference"] is None else f"{row['difference']:.0e}"
    return [row["peer"], precision, middle, f"{low} to {high}", ratio, difference]


def markdown_table(table_rows: Sequence[dict]) -> str:
    """Rows of one title as a Markdown table. Numbers stay on one line; a message of what failed need not."""
    lines = [HEADERS, ["---"] * len(HEADERS)]
    for row in table_rows:
        lines.append(cells(row) if row["failed"] is not None else [cell.replace(" ", "\u00a0") for cell in cells(row)])
    return markdown(lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def by_title(table_rows: Iterable[dict]) -> dict[str, list[dict]]:
    """Rows of the same title together."""
    found: dict[str, list[dict]] = {}
    for row in table_rows:
        found.setdefault(row["title"], []).append(row)
    return found


def text_table(record: dict) -> str:
    """All ratios of a record, for a terminal."""
    lines = []
    for title, of_title in by_title(rows(record)).items():
        table = [HEADERS, *map(cells, of_title)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines += ["", title]
        lines += ["  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    return "\n".join(lines)
