"""Settings of the suite: as many threads as the comparison with the peers has, and no progress bars."""

import os

import pytest
import torch

os.environ["COURSE_STATIC"] = "1"
torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "2")))

notes = {}  # test -> what it found besides times


@pytest.fixture
def cpu():
    return torch.device("cpu")


@pytest.fixture(autouse=True)
def noted(benchmark):
    """The table of pytest-benchmark has no column for extra information; it is printed below."""
    yield
    if benchmark.extra_info:
        notes[benchmark.name] = benchmark.extra_info


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("besides times")
    for name, values in notes.items():
        terminalreporter.write_line(f"{name:44}" + ", ".join(f"{key}: {value}" for key, value in values.items()))
