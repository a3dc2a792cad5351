"""What a message may hold, and what is said of one that holds something else."""

from __future__ import annotations

from dataclasses import dataclass

MAX_HEADER = 4 << 20  # bytes
KEYS = (str, int, bool, float, type(None))  # types of the keys of a dictionary
MAX_DIGITS = 4096  # of a whole number, in base 16


class WireError(ValueError):
    """Bytes that are no value."""


@dataclass(frozen=True)
class Limits:
    """What a message may hold.

    Attributes:
        max_bytes: of the whole message.
        max_depth: of containers in containers.
        max_items: values, those in containers included.
        max_text: characters of one text; longer ones are cut.
    """

    max_bytes: int = 64 << 20
    max_depth: int = 8
    max_items: int = 4096
    max_text: int = 500


DEFAULT = Limits()


def plain_text(text: str, limits: Limits = DEFAULT) -> str:
    """A text without control codes, cut."""
    if len(text) > limits.max_text:
        text = text[: limits.max_text - 3] + "..."
    if text.isprintable():
        return text
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")
