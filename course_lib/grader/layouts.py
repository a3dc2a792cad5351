"""Who handed in what, as the paths of nbgrader, Canvas, Moodle and Gradescope tell it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_CANVAS = re.compile(r"(?P<student>[^_/]+)(?:_LATE)?_\d+_\d+_(?P<file>.+)")
_MOODLE = re.compile(r"(?P<student>.+)_\d+_assignsubmission_[a-z]+(?:_.*)?")
_GRADESCOPE = re.compile(r"(?P<student>submission_\d+)")


def who(where: PurePosixPath) -> tuple[str, str]:
    """(student, assignment) of a path as the known layouts give it."""
    parts = where.parts
    if "submitted" in parts[:-2] and len(parts) - parts.index("submitted") >= 4:  # nbgrader
        start = parts.index("submitted")
        return parts[start + 1], parts[start + 2]
    for part in parts[:-1]:
        if export := _MOODLE.fullmatch(part) or _GRADESCOPE.fullmatch(part):
            return export["student"], ""
    if canvas := next((match for part in reversed(parts) if (match := _CANVAS.fullmatch(part))), None):
        return canvas["student"], ""
    return (parts[0] if len(parts) > 1 else where.stem), ""
