"""One training by several processes, and many trainings by several workers, all of them real."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import pytest
import torch
from dask_cluster import SOON, dask_cluster
from distributed_runs import (
    DATA,
    RECIPE,
    Stop,
    add_one,
    fail_below_zero,
    make,
    measure,
    result,
    settings,
    stop_at,
    train_one,
)

from course_lib.data_parallel import Processes, join
from course_lib.many_runs import dask_workers, local_workers, run_all
from course_lib.train import TrainConfig, train

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "COURSE_STATIC": "1", "OMP_NUM_THREADS": "1"}
pytestmark = pytest.mark.timeout(2 * SOON)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def torchrun(*words):
    """Run a part of distributed_runs.py in two processes; the exit status, and what they said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = ROOT / "tests" / "distributed_runs.py"
    process = subprocess.Popen([*command, script, *words], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        said = process.communicate(timeout=SOON)[1]
    finally:
        process.terminate()  # if it still runs: it ends the two processes, as a kill would not
        process.wait()
    return process.returncode, said


def one_process(folder=None, data=DATA):
    model = make()
    return result(model, train(model, data, TrainConfig(**RECIPE), measure, folder))


def assert_same(one, two, tolerance=0.0):
    torch.testing.assert_close(one["weights"], two["weights"], atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(one["snapshots"], two["snapshots"], atol=tolerance, rtol=tolerance)
    assert [record.keys() for record in one["records"]] == [record.keys() for record in two["records"]]
    for mine, theirs in zip(one["records"], two["records"], strict=True):
        assert mine == pytest.approx(theirs, abs=tolerance, rel=tolerance)


def wait_for(condition):
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


# One training by several processes


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The files that two processes left; they go on with a run that one process has begun."""
    out = tmp_path_factory.mktemp("together")
    with pytest.raises(Stop):
        one_process(out / "begun-0", stop_at(18))
    status, said = torchrun("together", out)
    assert status == 0, said
    return out


def test_two_processes_train_what_one_does(together):
    """Also clipping, which acts at every step here, and rows that do not divide evenly."""
    assert_same(torch.load(together / "whole-0.pt"), one_process(), 1e-5)


def test_both_processes_have_the_same_weights_and_history(together):
    before = [torch.load(together / f"before-{rank}.pt") for rank in (0, 1)]  # before the last step, so not sent
    torch.testing.assert_close(*before, atol=0, rtol=0)
    assert_same(*[torch.load(together / f"whole-{rank}.pt") for rank in (0, 1)])


def test_only_the_first_process_measures_and_writes(together):
    assert (together / "measured-0").read_text() == "...."
    assert not (together / "measured-1").exists()
    assert len(list((together / "whole-0").iterdir())) == 2
    assert not list(together.glob("*-1"))  # neither folders nor measurements


def test_a_run_goes_on_with_another_number_of_processes(together):
    expected = one_process()
    for rank in (0, 1):
        resumed = torch.load(together / f"resumed-{rank}.pt")
        assert resumed.pop("first step") == 16
        assert_same(resumed, expected, 1e-5)
    assert_same(one_process(together / "left-0"), expected, 1e-5)
    names = [path.name for path in sorted((together / "left-0").iterdir())]
    assert names == ["step-000000028.checkpoint", "step-000000030.checkpoint"]


def test_what_goes_wrong_is_named(together):
    first, second = (json.loads((together / f"complaints-{rank}.json").read_text()) for rank in (0, 1))
    assert first["batch"] == second["batch"] == "a batch of 1 cannot be split over 2 processes; use fewer"
    assert "process 0 trains another run (train.lr: 0.1 there, 1.1 here); start all" in second["settings"]
    assert "process 0 of 2 got no answer" in first["settings"]  # the second has left
    assert "process 0 of 2 got no answer" in first["hang"] and "imed out" in first["cause"]


def test_a_killed_process_ends_the_run_and_the_same_command_goes_on(tmp_path):
    assert torchrun("killed", tmp_path)[0] != 0
    assert (tmp_path / "killed").exists()
    status, said = torchrun("killed", tmp_path)
    assert status == 0, said
    for rank in (0, 1):
        resumed = torch.load(tmp_path / f"killed-{rank}.pt")
        assert resumed.pop("first step") == 16
        assert_same(resumed, one_process(), 1e-5)


def test_every_row_is_read_once():
    rows = [Processes(rank, 3).rows(torch.arange(7)[:, None]).flatten().tolist() for rank in range(3)]
    assert rows == [[0, 3, 6], [1, 4], [2, 5]]
    with pytest.raises(ValueError, match="a batch of 2 cannot be split over 3 processes"):
        Processes(0, 3).rows(torch.zeros(2, 1))


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # some clusters set it for everything
    assert join(torch.device("cpu")) == Processes(0, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join(torch.device("cpu")) == Processes(0, 1)


# Many trainings by several workers


def log(folder):
    """Which process read which step of a run, as (process, step), in order."""
    text = (folder / "log").read_text() if (folder / "log").exists() else ""
    return [tuple(map(int, line.split())) for line in text.split("\n")[:-1]]


def assert_serial(results, folder):
    """The results of a series are those of one run after another in this process, bit for bit."""
    for seed, made in enumerate(results):
        assert_same(made, train_one(folder / f"serial-{seed}", seed))


def running(process):
    """False for a process that has ended, also if nobody has asked how."""
    status = Path(f"/proc/{process}/status")
    try:
        return "State:\tZ" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def held(folder):
    """True once a run waits at step 10; its newest checkpoint is that of step 8."""
    return bool(log(folder)) and log(folder)[-1][1] == 10


def assert_interrupt_stops(workers, folder):
    """Interrupt this process alone, not its workers: they end, and the series goes on when it is called again."""
    (folder / "hold").touch()
    runs = [(folder / f"{seed}", seed, folder / "hold") for seed in range(3)]
    first = runs[0][0]

    def interrupt():
        wait_for(lambda: held(first))
        os.kill(os.getpid(), signal.SIGINT)

    thread = Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt), workers as executor:
        thread.start()
        run_all(train_one, runs, executor)
    thread.join()
    wait_for(lambda: not running(log(first)[0][0]))
    assert [step for _, step in log(first)] == list(range(11))
    assert len([run for run in runs if run[0].exists()]) <= 2  # one was waiting for a worker
    assert_same(train_one(first, 0), train_one(folder / "serial", 0))
    assert log(first)[11] == (os.getpid(), 8)


def test_local_workers_make_the_runs_of_one_process(tmp_path):
    with local_workers(2) as executor:
        results = run_all(train_one, [(tmp_path / f"{seed}", seed) for seed in range(3)], executor)
    assert_serial(results, tmp_path)
    assert os.getpid() not in {process for seed in range(3) for process, _ in log(tmp_path / f"{seed}")}


def test_local_workers_share_the_threads_and_show_no_bars(monkeypatch):
    monkeypatch.setenv("COURSE_STATIC", "0")
    torch.set_num_threads(4)
    with local_workers(2) as executor:
        found = run_all(settings, [(number,) for number in range(4)], executor)
    assert {each[1:] for each in found} == {(2, "1")}
    with pytest.raises(ValueError, match="count must be at least 1, got 0"), local_workers(0):
        pass


def test_tensors_are_copied_to_workers_and_back():
    ours = torch.zeros(2)
    with local_workers(1) as executor:
        results = run_all(add_one, [(ours, 2000), (ours, 1)], executor)  # more than a process may have files open
    assert ours.tolist() == [0, 0]
    assert torch.cat(results[0]).tolist() == [1] * 2000 and results[1][0].item() == 1


def test_interrupted_local_workers_stop(tmp_path):
    assert_interrupt_stops(local_workers(2), tmp_path)


PARENT = """
import sys
from distributed_runs import train_one
from course_lib.many_runs import local_workers, run_all
if __name__ == "__main__":
    with local_workers(1) as executor:
        run_all(train_one, [(sys.argv[1], 0, __file__)], executor)
"""


def test_local_workers_end_with_a_parent_that_was_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py", tmp_path / "run"], env=ENVIRONMENT)
    wait_for(lambda: held(tmp_path / "run"))
    parent.kill()
    parent.wait()
    wait_for(lambda: not running(log(tmp_path / "run")[0][0]))


@pytest.mark.parametrize(("static", "bar"), [("0", True), ("1", False)])
def test_runs_that_fail_are_named_and_the_others_finish(tmp_path, monkeypatch, capsys, static, bar):
    monkeypatch.setenv("COURSE_STATIC", static)
    runs = [(tmp_path, number) for number in (-1, 4, -2, 9)]
    with ThreadPoolExecutor(1) as executor, pytest.raises(RuntimeError) as caught:
        run_all(fail_below_zero, runs, executor)
    first, *reasons = str(caught.value).split("\n")
    assert first == "2 of 4 runs failed:"
    assert reasons == [f"  {(tmp_path, n)}: ValueError('{n} is below zero')" for n in (-1, -2)]
    assert {path.name for path in tmp_path.iterdir()} == {"4", "9"}
    assert ("/4 [" in capsys.readouterr().err) == bar


def test_a_run_that_was_cancelled_is_named(tmp_path):
    class Cancelling(ThreadPoolExecutor):
        def submit(self, *job):
            future = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    with Cancelling() as executor, pytest.raises(RuntimeError, match=r"1 of 1 runs failed:\n  \(3,\): CancelledError"):
        run_all(abs, [(3,)], executor)


def test_under_torchrun_every_process_works_on_every_run(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with local_workers(2) as executor:  # never started
        found = run_all(lambda number: (number, os.getpid()), [(1,), (2,)], executor)
    assert found == [(1, os.getpid()), (2, os.getpid())]


# The same by a Dask cluster


@pytest.fixture
def cluster(tmp_path):
    with dask_cluster(tmp_path, ENVIRONMENT) as address:
        yield address


def test_a_cluster_makes_the_runs_of_one_process_also_when_a_worker_dies(cluster, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()
    runs = [(tmp_path / f"{seed}", seed, hold if seed == 0 else "") for seed in range(3)]

    def kill():
        wait_for(lambda: held(runs[0][0]))
        os.killpg(os.getpgid(log(runs[0][0])[0][0]), signal.SIGKILL)
        hold.unlink()

    thread = Thread(target=kill)
    with dask_workers(cluster) as executor:
        thread.start()
        results = run_all(train_one, runs, executor)
    thread.join()
    assert_serial(results, tmp_path)
    before, after = log(runs[0][0])[:11], log(runs[0][0])[11:]
    assert after[0][0] != before[0][0] and after[0][1] == 8  # another worker goes on from the checkpoint


def test_interrupted_runs_of_a_cluster_stop(cluster, tmp_path):
    assert_interrupt_stops(dask_workers(cluster), tmp_path)
