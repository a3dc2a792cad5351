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


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Tests of one file stay in one process, and all that ask for `visits` in one, so that each browser opens once."""
    for item in items:
        if item.get_closest_marker("book"):
            item.add_marker(pytest.mark.xdist_group("visits" if "visits" in item.fixturenames else item.path.stem))


@pytest.fixture
def unchecked():
    """Annotations off: how a learner's bad input meets the library's own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def visits():
    """A visit of every page of the built book, made once for all tests."""
    from book_reader import all_pages
    from book_visits import visit_all

    return visit_all(all_pages())
