"""A time limit for one call of a learner's function, in the notebook's own process and thread.

An exception is raised inside the call when its time is over. `except Exception` does not catch it. A bare `except:`
does; then it is raised again at the next line, and once more every `TICK`, until the call has ended.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import monotonic, thread_time
from types import CodeType, FrameType
from typing import Any

TICK = 0.05  # seconds from one interrupt to the next
_SHORTEST = 1e-6  # seconds; a timer set to 0 would never fire


class TooSlow(BaseException):
    """Raised in a frame of the learner's call when its time is over."""

    def __init__(self, limit: Limit, frame: FrameType) -> None:
        super().__init__()
        self._limit, self._frame = limit, frame

    def __del__(self) -> None:
        """Whoever swallowed this exception has dropped it now: a bare `except:` has ended."""
        self._limit.insist(self._frame)


class Limit:
    """Limits one call. Make a new one for the next call.

    Args of the constructor:
        seconds: how long it may take.
        spare: up to so many seconds in which the processor did something else are not counted.

    Attributes:
        expired: True when the call took longer than `seconds`.
        stack: where it stood then, as pairs of code and line number, the innermost first; empty when it had returned.
    """

    def __init__(self, seconds: float | int, spare: float = 0.0) -> None:
        self.seconds, self._spare = seconds, spare
        self._started = self._worked = 0.0
        self.expired = False
        self.stack: tuple[tuple[CodeType, int], ...] = ()
        self._caller: FrameType | None = None  # the frame that calls the learner's function, while it does
        self._due = False

    def call(self, function: Callable[..., Any], arguments: Iterable[Any]) -> Any:
        """What the function returns. After a call whose time ran out, `expired` is True, whatever came of it.

        In the main thread only: elsewhere nothing can interrupt a call, and there is no limit.
        A single long call into C is interrupted when it returns, not before.

        Raises:
            BaseException: what the function raises, and `TooSlow` when its time is over.
        """
        tracer = sys.gettrace()
        self._started, self._worked = monotonic(), thread_time()
        with self._clock() as limited:
            try:
                return self._call(function, arguments)
            finally:
                self.expired |= limited and self._is_over()
                if self.expired:
                    sys.settrace(tracer)

    def insist(self, frame: FrameType | None) -> None:
        """Raise `TooSlow` at the next line of this frame, or of those that called it, if the call still runs."""
        if self._caller is None:
            return
        while frame is not None and frame is not self._caller:
            frame.f_trace = self._trace
            frame = frame.f_back
        sys.settrace(self._trace)

    def _call(self, function: Callable[..., Any], arguments: Iterable[Any]) -> Any:
        self._caller = sys._getframe()
        try:
            return function(*arguments)
        finally:
            self._caller = None

    def _is_over(self) -> bool:
        took, worked = monotonic() - self._started, thread_time() - self._worked
        return took - min(self._spare, took - worked) > self.seconds

    def _is_inside(self, frame: FrameType | None) -> bool:
        """True while the learner's function, or something that it called, is running in this frame."""
        if self._caller is None or frame is self._caller:
            return False
        while frame is not None and frame is not self._caller:
            frame = frame.f_back
        return frame is not None

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line" and self._is_inside(frame):
            raise TooSlow(self, frame)
        return None if event == "call" else self._trace

    def _interrupt(self, _signal: int, frame: FrameType | None) -> None:
        if not self._is_inside(frame) or not (self.expired or self._is_over()):
            return
        if self.expired:
            self.insist(frame)  # it goes on although it was told to stop
        else:
            self.expired, self.stack = True, tuple(_lines(frame, self._caller))
        raise TooSlow(self, frame)

    def _clock(self) -> AbstractContextManager[bool]:
        """Within it, `_interrupt` is called when the time is over. Gives False where there can be no limit."""
        if threading.current_thread() is not threading.main_thread():
            return nullcontext(False)
        return self._alarm() if hasattr(signal, "setitimer") else self._watchdog()

    @contextmanager
    def _alarm(self) -> Iterator[bool]:
        """The system's timer; a handler and a timer that were set before are put back."""
        delay, interval = signal.setitimer(signal.ITIMER_REAL, 0)
        started, handler = monotonic(), signal.signal(signal.SIGALRM, self._interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, self.seconds, TICK)
            yield True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
            if delay:
                left = delay - (monotonic() - started)
                signal.setitimer(signal.ITIMER_REAL, max(left, _SHORTEST), interval)

    @contextmanager
    def _watchdog(self) -> Iterator[bool]:
        """For Windows: a thread that interrupts the main thread as Ctrl-C does."""
        done, lock = threading.Event(), threading.Lock()

        def watch() -> None:
            pause = self.seconds
            while not done.wait(pause):
                with lock:
                    if not done.is_set():
                        self._due = True
                        _thread.interrupt_main()
                pause = TICK

        before = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, self._unless_due(before))
        thread = threading.Thread(target=watch, daemon=True)
        try:
            thread.start()
            yield True
        finally:
            with lock:
                done.set()
            signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)

    def _unless_due(self, before: Any) -> Callable[[int, FrameType | None], None]:
        """A handler of Ctrl-C that knows the watchdog's interrupt from the learner's."""

        def handle(number: int, frame: FrameType | None) -> None:
            if self._due:
                self._due = False
                self._interrupt(number, frame)
            elif callable(before):
                before(number, frame)

        return handle


def _lines(frame: FrameType | None, end: FrameType | None) -> Iterator[tuple[CodeType, int]]:
    while frame is not None and frame is not end:
        yield frame.f_code, frame.f_lineno
        frame = frame.f_back
