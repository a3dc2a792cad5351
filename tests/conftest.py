"""In tests every shape annotation of course_lib is enforced (beartype); learners' runs do not pay for that."""

import os
import signal
import tempfile

import jaxtyping
import pytest
import torch

jaxtyping.install_import_hook("course_lib", "beartype.beartype")
os.environ.setdefault("COURSE_STATIC", "1")  # no progress bars in test output
os.environ["COURSE_PROGRESS"] = os.path.join(tempfile.gettempdir(), f"course-tests-{os.getpid()}", "progress.jsonl")

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background


@pytest.fixture
def unchecked():
    """Annotations off: how a learner's bad input meets the library's own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
