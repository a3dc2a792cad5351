"""Frames on a stream socket: a length, then so many bytes, read with a deadline and a cap."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from time import monotonic

from course_lib.grader.wire_limits import WireError

_LENGTH = 4
_LEAST, _MOST = 1 << 16, 1 << 20  # bytes to ask for at a time


class TimeIsUp(Exception):
    """The deadline passed before a whole frame had come."""


def framed(payload: bytes) -> bytes:
    """The payload as a frame."""
    return len(payload).to_bytes(_LENGTH, "big") + payload


def send_frame(stream: socket.socket, payload: bytes) -> None:
    """Send one frame."""
    stream.sendall(framed(payload))


def frames_of(data: bytes) -> Iterator[bytes]:
    """The frames of a file of our own."""
    start = 0
    while start < len(data):
        end = start + _LENGTH + int.from_bytes(data[start : start + _LENGTH], "big")
        yield data[start + _LENGTH : end]
        start = end


class Frames:
    """The frames that come on a stream; what comes with one and is not of it is kept for the next.

    Args of the constructor:
        stream: what to read from.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream, self._kept = stream, bytearray()
        # urgent bytes come in their order too; else the kernel leaves them out or not, as the moment has it
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)

    def next(self, max_bytes: int, deadline: float | None = None) -> bytes | None:
        """The next frame; None where the other side has closed the stream between two frames.

        Args:
            max_bytes: a longer frame is not read.
            deadline: by `time.monotonic`; None waits for ever.

        Raises:
            WireError: too long a frame, or one that breaks off.
            TimeIsUp: the deadline passed first.
        """
        head = self._take(_LENGTH, deadline)
        if not head:
            return None
        length = int.from_bytes(head, "big")
        if len(head) < _LENGTH or length > max_bytes:
            raise WireError("a frame that is cut off or too long")
        payload = self._take(length, deadline)
        if len(payload) < length:
            raise WireError("a frame that is cut off")
        return payload

    def _take(self, n_bytes: int, deadline: float | None) -> bytes:
        """So many bytes, or fewer where the stream ends."""
        while len(self._kept) < n_bytes and (part := self._receive(n_bytes - len(self._kept), deadline)):
            self._kept += part
        taken = bytes(self._kept[:n_bytes])
        del self._kept[:n_bytes]
        return taken

    def _receive(self, missing: int, deadline: float | None) -> bytes:
        left = None if deadline is None else deadline - monotonic()
        if left is not None and left <= 0:
            raise TimeIsUp
        self._stream.settimeout(left)
        try:
            return self._stream.recv(min(max(missing, _LEAST), _MOST))
        except TimeoutError:
            raise TimeIsUp from None
        except ConnectionError:
            return b""
