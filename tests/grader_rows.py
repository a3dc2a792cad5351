"""Rows as the grader writes them, made up: a class of any size, and one whose every text attacks its reader."""

from __future__ import annotations

import hashlib
import random

EXERCISES = {
    "2.1": ("Loss of a uniform guess", 1, ["bits", "sum over the batch"]),
    "2.2": ("Loss from log-probabilities", 2, ["no shift", "mean of exp"]),
    "3.1": ("Previous-token pattern", 2, ["diagonal", "next token", "transposed"]),
    "3.10": ("Match a previous token", 3, ["offset"]),
}
SENTENCES = {id: {name: f"Sentence on `{name}`." for name in names} for id, (_, _, names) in EXERCISES.items()}
STATES = ["ok"] * 12 + ["wrong"] * 4 + ["unattempted"] * 2 + ["error", "timeout", "oom", "crashed"]
NAMES = [
    "Ada Lovelace",
    "Søren Kierkegård",
    "李小龙",
    "O'Brien, Pat",
    "Zoë van den Berg",
    "Mohammed الخوارزمي",
    "Ngô Bảo",
]
MESSAGES = {
    "ok": "Checked: 4 cases, seed 7.",
    "wrong": "Case: 2 of 4: three sequences, two heads (`pattern`: a tensor of shape [3, 2, 6, 6], float32); seed 7.\n"
    "Expected: a tensor of shape [2], float32\n"
    "Yours: a tensor of shape [2], float32. 2 of 2 entries are wrong. The first is head 0.",
    "error": "Case: 1 of 4: one sequence; seed 7.\nError: IndexError in line 3 of your code: `return pattern[7]`\n"
    "Message: index 7 is out of bounds for dimension 0 with size 1",
    "timeout": "Case: 1 of 4: one sequence; seed 7.\nToo slow: One call may take 5 s, and yours takes longer.",
    "oom": "Case: 1 of 4: one sequence; seed 7.\nEnded: The code asked for more memory than it may use.",
    "crashed": "Case: 1 of 4: one sequence; seed 7.\nEnded: The process ended before it had answered.",
    "unattempted": "Not attempted: the function is as it was given out.",
}


def entry(id, state="ok", mutant="", message=None, case=""):
    """An exercise within a row."""
    title, points, _ = EXERCISES[id]
    text = MESSAGES.get(state, "") if message is None else message
    earned = None if state == "grader_error" else points if state == "ok" else 0
    return {
        "id": id,
        "title": title,
        "state": state,
        "points": earned,
        "max_points": points,
        "mutant": mutant,
        "message": text,
        "case": case,
    }


def row(student="ada", entries=None, **changed):
    """A submission; what is not given follows from its exercises."""
    entries = [entry(id) for id in EXERCISES] if entries is None else entries
    states = {one["state"] for one in entries}
    made = {
        "submission": f"{student}/hw1/hw1.ipynb",
        "student": student,
        "assignment": "hw1",
        "sha256": hashlib.sha256(student.encode("utf-8", "replace")).hexdigest(),
        "state": _state(states),
        "score": None if "grader_error" in states else sum(one["points"] for one in entries),
        "max_score": sum(one["max_points"] for one in entries),
        "exercises": entries,
        "problems": [],
        "skipped": [],
        "similar": [],
        "isolation": ["limits", "landlock"],
        "seed": 7,
        "specification": "5f1e" * 8,
    } | changed
    return made | ({"score": None} if made["state"] == "grader_error" else {})


def _state(states):
    if "grader_error" in states:
        return "grader_error"
    return "partial" if "ok" in states and len(states) > 1 else min(states, default="unattempted")


def a_class(count, seed=0):
    """Rows of a class in which most things happen."""
    draw = random.Random(seed)
    return [_random_row(draw, f"{draw.choice(NAMES)} {number:04}") for number in range(count)]


def _random_row(draw, student):
    kind = draw.random()
    if kind < 0.02:
        return row(student, [], state="invalid_notebook", max_score=8, problems=["It is no JSON: line 1 column 1."])
    entries = []
    for id, (_, _, mutants) in EXERCISES.items():
        state = draw.choice(STATES)
        mutant = draw.choice([*mutants, ""]) if state == "wrong" else ""
        entries.append(entry(id, state, mutant, case="2 of 4: one row" if state == "wrong" else ""))
    if kind < 0.03:
        entries[0] = entry("2.1", "grader_error", message="The reference could not be computed.")
    skipped = ["!pip install torch"] if draw.random() < 0.1 else []
    return row(student, entries, skipped=skipped, similar=["3.1: equals the published solution"] if kind > 0.95 else [])


def hostile_row(text):
    """A row with one text in every field that a learner may have written."""
    entries = [entry("2.1", "wrong", text, text, text) | {"title": text}, entry("2.2", text) | {"id": text}]
    hostile = {"submission": text, "assignment": text, "sha256": text, "state": text, "specification": text}
    lists = {name: [text, text] for name in ("problems", "skipped", "similar", "isolation")}
    return row(text, entries, **hostile, **lists)
