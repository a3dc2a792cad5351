"""A guard against work that explodes: the processor time of a block, which another process cannot make longer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """The block takes no more than so many SECONDS of this thread. No speed is tested: give a multiple of the usual."""
    started = time.thread_time()
    yield
    took = time.thread_time() - started
    assert took < seconds, f"{took:.2f} s of the processor, {seconds} s are allowed"
