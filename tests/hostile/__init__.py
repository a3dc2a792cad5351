"""Submissions that try to cheat, hang, crash or spoil the grader; written here, read by `tests/test_hostile.py`.

Every module holds one family and gives a list of `Entry`. No entry may score a point, except the controls.
An attack that could gain points returns the right answer only when it worked, so a point proves a hole.
Run them inside the grader only: some of them signal every process that they may reach.
"""

from tests.hostile import (
    bombs,
    channels,
    controls,
    crashes,
    exits,
    floods,
    impostors,
    loops,
    malformed,
    names,
    network,
    parsing,
    patches,
    planted,
    protocol,
    readers_of_processes,
    reads,
    reports,
    signals,
    values_built,
    values_other,
    values_tensors,
    zips,
)
from tests.hostile.entry import Entry, Scene

MODULES = (
    bombs,
    channels,
    controls,
    crashes,
    exits,
    floods,
    impostors,
    loops,
    malformed,
    names,
    network,
    parsing,
    patches,
    planted,
    protocol,
    reads,
    readers_of_processes,
    reports,
    signals,
    values_built,
    values_other,
    values_tensors,
    zips,
)
CORPUS: tuple[Entry, ...] = tuple(entry for module in MODULES for entry in module.ENTRIES)

__all__ = ["CORPUS", "Entry", "Scene", "write_corpus"]


def write_corpus(scene: Scene, entries: tuple[Entry, ...] = CORPUS) -> dict[str, Entry]:
    """Write the submissions into `scene.submissions`; gives the entry of each file or folder name there."""
    scene.submissions.mkdir(parents=True, exist_ok=True)
    written: dict[str, Entry] = {}
    for entry in entries:
        entry.write(scene.submissions / entry.file, scene)
        written[entry.file] = entry
    if len(written) < len(entries):
        raise ValueError("two entries of the corpus have the same file name")
    return written
