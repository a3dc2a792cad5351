"""Who handed in what, as the paths of nbgrader, Canvas, Moodle and Gradescope tell it.

A learner names what lies in the own folder or zip. So the outermost name that tells a person is the one that counts.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

# Canvas: lovelaceada_LATE_1234_56789_hw1.ipynb; Moodle: Ada Lovelace_1234_assignsubmission_file_/hw1.ipynb
# Their end is what the learner called the file. It may look like another platform's, so what is in front decides.
_EXPORTS = (
    re.compile(r"(?P<student>[^_/]+)(?:_LATE)?_(?P<number>\d+)_\d+_(?!assignsubmission_).*", re.DOTALL),
    re.compile(r"(?P<student>.+?)_(?P<number>\d+)_assignsubmission_[a-z]+(?:_.*)?", re.DOTALL),
    re.compile(r"(?P<student>submission_\d+)"),
)


def named(part: str) -> dict[str, str] | None:
    """The student, and where there is one the number, that a learning platform put into a file's or folder's name."""
    return next((found.groupdict() for export in _EXPORTS if (found := export.fullmatch(part))), None)


def who(*levels: PurePosixPath) -> tuple[str, str]:
    """(student, assignment) of a file as the known layouts give it.

    Args:
        levels: the path on disk, then for each zip the path in it; that of a zip is without its suffix. What stands in
            a zip counts only where nothing outside of it names a person.
    """
    for level in levels:
        if found := _person(level.parts, in_folder=level is not levels[-1]):
            return found
    path = PurePosixPath(*levels)
    if path.parts[:1] == ("submitted",) and len(path.parts) > 1:
        path = path.relative_to("submitted")
    return (path.parts[0] if len(path.parts) > 1 else path.stem), ""


def _person(parts: tuple[str, ...], in_folder: bool) -> tuple[str, str] | None:
    """(student, assignment) by the first part that tells them; `in_folder`: the last part stands for a folder."""
    for place, part in enumerate(parts):
        if part == "submitted" and len(parts) - place + in_folder >= 4:  # nbgrader
            return parts[place + 1], parts[place + 2]
        if export := named(part):
            return export["student"], ""
    return None
