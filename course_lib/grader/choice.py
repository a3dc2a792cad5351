"""Which exercises count, as an instructor writes it: "3" for a chapter, "4.2" for one exercise."""

from __future__ import annotations

from course_lib.grader.states import ids_in_order
from course_lib.grading.load import index, source_folder


def exercise_ids(wanted: str = "") -> tuple[str, ...]:
    """The ids that "3,4.2" names, in the order of the course; all of them for an empty text.

    Raises:
        ValueError: a part that names no chapter with exercises and no exercise; nothing but commas.
    """
    known = ids_in_order(list(index(source_folder())))
    parts = [part.strip() for part in wanted.split(",") if part.strip()]
    chapters = list(dict.fromkeys(one.partition(".")[0] for one in known))
    chosen = []
    for part in parts or ([wanted] if wanted else []):
        chapter, dot, number = part.partition(".")
        plain = (chapter.lstrip("0") or chapter[:1]) + dot + number
        found = [one for one in known if plain in (one, one.partition(".")[0])]
        if not found:
            raise ValueError(
                f"--exercises must be chapters ({', '.join(chapters)}) or exercises such as {known[0]}, "
                f"with commas between them; got {part}"
            )
        chosen += found
    return tuple(ids_in_order(chosen)) if parts else tuple(known)
