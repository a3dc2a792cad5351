"""Values as bytes, and bytes as values: how inputs reach an untrusted process and results come back from it.

A message is a magic word, the length of a header, the header (JSON), and the raw numbers of all tensors in order.
Each value of the header is a list: its kind, and that kind's own fields. Nothing else is read, nothing is executed.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from course_lib.grader.wire_limits import DEFAULT, MAX_HEADER, Limits, WireError, plain_text
from course_lib.grader.wire_reader import Reader
from course_lib.grader.wire_writer import Writer

__all__ = ["Limits", "WireError", "decode", "encode", "names_of", "plain_text"]

MAGIC = b"IHG1"
_START = len(MAGIC) + 4


def encode(value: Any) -> bytes:
    """The value as bytes. What is not known here, or larger than `Limits()` allows, becomes an `Opaque`."""
    writer = Writer(DEFAULT)
    header = json.dumps(writer.node(value, 0), allow_nan=False, separators=(",", ":")).encode()
    return b"".join((MAGIC, len(header).to_bytes(4, "big"), header, *writer.chunks))


def decode(data: bytes, limits: Limits = DEFAULT) -> Any:
    """The value that the bytes stand for, made of new tensors and of the course's own classes.

    Raises:
        WireError: the bytes are no such value, or one beyond the limits.
    """
    if len(data) > limits.max_bytes or data[: len(MAGIC)] != MAGIC or len(data) < _START:
        raise WireError("not a message, or too long a one")
    end = _START + int.from_bytes(data[len(MAGIC) : _START], "big")
    if end > min(len(data), _START + MAX_HEADER):
        raise WireError("a header that is cut off or too long")
    try:
        node = json.loads(data[_START:end].decode(), parse_constant=_refuse)
        reader = Reader(memoryview(data)[end:], limits)
        value = reader.value(node, 0)
    except WireError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError, RuntimeError) as error:
        raise WireError(f"a header that cannot be read: {type(error).__name__}") from error
    if reader.left:
        raise WireError("more bytes than the header speaks of")
    return value


@lru_cache(maxsize=1024)
def names_of(data: bytes) -> tuple[str, ...]:
    """The keys of an encoded dictionary of our own; its values are not read."""
    end = _START + int.from_bytes(data[len(MAGIC) : _START], "big")
    return tuple(key[1] for key, _ in json.loads(data[_START:end])[1])


def _refuse(name: str) -> None:
    raise WireError(f"{name} is no number of a header")
