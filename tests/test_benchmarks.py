"""The benchmark suite itself, on tiny models: what is asked, answered, summed up and written. No time is judged."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks import compare, specs
from benchmarks.charts import cost_chart, cost_table, ratio_chart
from benchmarks.graders.assignment import SMALL, large_ids, make_assignment
from benchmarks.process import PeerError, Process, worker_command
from benchmarks.specs import TINY, Job, Peer, full_plan, job_from_dict, quick_plan
from benchmarks.summary import (
    HEADERS,
    TITLES,
    by_title,
    markdown_table,
    quartiles,
    rows,
    share_rows,
    text_table,
    training_operations,
)
from benchmarks.worker import decoded, encoded
from course_lib.recorded import load_recorded

ROOT = Path(__file__).parent.parent
HERE = tuple(name for name, peer in specs.PEERS.items() if peer.environment is None)  # need no other environment
SEGMENT = (10, 3)


@pytest.fixture(scope="module")
def workers():
    with compare.Workers(threads=1, device="cpu") as those:
        yield those


def job(task, **options):
    return Job(task, TINY, rounds=2, peers=HERE, segment=SEGMENT if task.startswith("head_scores") else None, **options)


@pytest.mark.parametrize("task", ["forward", "head_scores", "ablation_sweep"])
def test_all_peers_here_compute_the_same(workers, task):
    found = compare.measure(job(task), workers)["peers"]
    assert set(found) == set(HERE)
    for peer, values in found.items():
        assert "failed" not in values, (peer, values)
        assert len(values["values"]) == 2 and min(values["values"]) > 0
        assert values["difference"] < 1e-5
        assert values["parameters"] >= found["course"]["parameters"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_step_is_the_same_for_all(workers, precision):
    """Three steps with other betas, decay, clipping or tokens would end elsewhere; GPT-2 also trains biases."""
    found = compare.measure(job("training_step", precision=precision), workers)["peers"]
    allowed = 1e-6 if precision == "float32" else 1e-3
    assert found["plain"]["difference"] < allowed
    assert found["transformers"]["difference"] < 2e-3
    start = replace(job("training_step"), peers=("course",)).to_dict()
    losses = [decoded(workers.ask("course", "prepare", job=start)["result"])[0] for _ in range(2)]
    assert losses[0] == losses[1]  # every job starts from the same weights


def test_the_course_scores_by_cache_as_it_scores(workers):
    results = [
        decoded(workers.ask("course", "prepare", job=job(task).to_dict())["result"])
        for task in ("head_scores", "head_scores_by_cache")
    ]
    assert results[0] == results[1] and len(results[0]) == TINY.n_layers * TINY.n_heads


def test_imports_and_memory_are_those_of_fresh_processes(workers):
    found = compare.measure(replace(job("import_time"), rounds=1, peers=("course",)), workers)["peers"]
    assert found["course"]["values"] == [pytest.approx(workers.loaded["course"]["imports"], rel=1e-5)]
    large = replace(TINY, d_vocab=20_000)  # logits of 20 MB, of which a training step needs a few
    found = compare.measure(Job("peak_memory", large, rounds=1, peers=("plain",)), workers)["peers"]
    logits = 4 * large.tokens * large.d_vocab
    assert logits < found["plain"]["values"][0] < 30 * logits


PEAK = """
from benchmarks.worker import forget_peak_resident, peak_resident
forget_peak_resident()
before = peak_resident()
block = bytearray(b"x" * 2**26)
assert 2**26 <= peak_resident() - before < 2**28
del block
forget_peak_resident()
assert peak_resident() - before < 2**26
"""


def test_the_peak_counts_from_where_it_was_forgotten():
    """In a fresh process: this one may hold freed memory, which a new block would use."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux can forget a peak")
    subprocess.run([sys.executable, "-c", PEAK], check=True, cwd=ROOT)


def test_cost_against_size(workers):
    one = compare.measure_size(Job("training_step", TINY, rounds=2), "course", workers)
    assert len(one["values"]) == 2 and one["bytes"] >= 0


def test_a_peer_without_an_environment_stops_nobody(workers, monkeypatch):
    monkeypatch.setitem(specs.PEERS, "absent", Peer("plain", ".venv-absent", (), ()))
    found = compare.measure(replace(job("forward"), peers=("absent", "course")), workers)["peers"]
    assert found["absent"] == {"failed": "there is no .venv-absent/bin/python; `make .venv-absent/ready` makes it"}
    assert len(found["course"]["values"]) == 2 and found["course"]["difference"] == 0


def test_a_peer_that_crashes_is_started_again_for_the_next_job(workers):
    compare.measure(replace(job("forward"), peers=("course", "plain")), workers)  # both are running now
    workers.running["plain"].child.kill()
    workers.running["plain"].child.wait()
    found = compare.measure(replace(job("forward"), peers=("course", "plain")), workers)["peers"]
    assert "the process ended with status -9 at 'prepare'" in found["plain"]["failed"]
    found = compare.measure(replace(job("forward"), peers=("course", "plain")), workers)["peers"]
    assert "failed" not in found["plain"]


def test_a_task_that_fails_leaves_its_worker_alive(workers):
    compare.measure(replace(job("forward"), peers=("course",)), workers)
    child = workers.running["course"].child
    found = compare.measure(replace(job("forward"), precision="float32", task="nothing"), workers)["peers"]
    assert found["course"]["failed"] == "AttributeError: 'Course' object has no attribute 'nothing'"
    assert workers.running["course"].child is child and child.poll() is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what must be missing")
def test_cuda_without_a_gpu_is_refused_clearly(capsys):
    assert compare.main(["--quick", "--device", "cuda"]) == 1
    assert "torch sees no CUDA device here; use --device cpu" in capsys.readouterr().err


NOISY = """
import os, sys, time
from benchmarks.worker import private_stdout, serve

class Session:
    def shout(self, word):
        print(word)
        os.write(1, word.encode())
        os.system(f"echo {word}")
        return {"value": word}
    def complain(self):
        raise ValueError("no such thing")
    def sleep(self):
        time.sleep(60)
    def die(self):
        print("out of luck", file=sys.stderr, flush=True)
        os._exit(3)

serve(Session(), sys.stdin, private_stdout())
"""


def noisy(timeout=60.0):
    return Process([sys.executable, "-c", NOISY], threads=1, timeout=timeout)


def test_noise_on_stdout_does_not_reach_the_driver():
    with noisy() as worker:
        assert worker.ask("shout", word='{"value": 1}') == {"value": '{"value": 1}'}
        with pytest.raises(PeerError, match=r"^ValueError: no such thing$"):
            worker.ask("complain")
        assert worker.ask("shout", word="still here") == {"value": "still here"}


def test_a_dead_worker_tells_its_last_words():
    with noisy() as worker:
        for _ in range(2):  # also when asked again
            with pytest.raises(PeerError, match=r"status 3 at 'die'; its last words: out of luck"):
                worker.ask("die")


def test_a_silent_worker_is_not_waited_for():
    with noisy(timeout=1.0) as worker, pytest.raises(PeerError, match=r"no answer to 'sleep' within 1 s"):
        worker.ask("sleep")


def test_leaving_ends_the_process():
    with noisy() as worker:
        child = worker.child
    assert child.poll() is not None


def test_numbers_travel_exactly():
    values = [0.0, 1.5, -3.25e-8, 3.4028234663852886e38]
    assert list(decoded(encoded(values))) == torch.tensor(values).tolist()


@pytest.mark.parametrize("plan", [full_plan(), quick_plan()], ids=["full", "quick"])
def test_the_plans_hold_every_task_and_can_be_sent(plan):
    assert {one.task for one in plan.jobs} == set(TITLES)
    for one in plan.jobs:
        assert job_from_dict(json.loads(json.dumps(one.to_dict()))) == one
        assert one.peers[0] == "course" and set(one.peers) <= set(specs.PEERS)
        assert (one.segment is not None) == one.task.startswith("head_scores")
    for varied, sizes in plan.sizes.items():
        assert all(replace(a, **{varied: getattr(b, varied)}) == b != a for a, b in pairwise(sizes))


def test_who_begins_rotates():
    assert [compare.rotated("abc", turn) for turn in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]
    assert compare.rotated([], 2) == []


def test_a_result_that_is_another_quantity_has_failed():
    found = {
        peer: {"values": [1.0], "result": encoded(result)}
        for peer, result in (("course", [1.0, 2.0]), ("plain", [1.5, 2.0]), ("a", [1.0]), ("b", [1.0, float("nan")]))
    }
    compare.compare_results(found)
    assert found == {
        "course": {"values": [1.0], "difference": 0.0},
        "plain": {"values": [1.0], "difference": 0.5},
        "a": {"failed": "not the course's result: 1 numbers, expected 2"},
        "b": {"failed": "not the course's result: NaN or infinity among the numbers"},
    }


def test_quartiles_against_known_ones():
    assert quartiles([5.0, 1.0, 2.0, 4.0, 3.0]) == (2.0, 3.0, 4.0)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)
    with pytest.raises(ValueError, match="no values"):
        quartiles([])


def record_of(course, plain):
    """A record of one job with these results."""
    peers = {"course": course, "plain": plain}
    values = Job("training_step", TINY).to_dict() | {"peers": peers}
    return {"jobs": [values]}


def test_a_ratio_is_the_median_of_the_rounds_quotients():
    """Here the quotient of the medians, 2 / 2, would be another number."""
    record = record_of({"values": [1.0, 2.0, 3.0]}, {"values": [2.0, 12.0, 0.3], "difference": 0.25})
    course, plain = rows(record)
    assert (course["ratio_low"], course["ratio"], course["ratio_high"]) == (1, 1, 1)
    assert plain["ratio"] == 2 and plain["median"] == 2 and plain["ratio_high"] == 4
    assert (plain["difference"], course["difference"]) == (0.25, None)
    assert rows(record, ["forward"]) == []


def test_without_the_course_there_is_no_ratio():
    for course in ({"failed": "x"}, {"values": [0.0, 1.0]}):
        assert rows(record_of(course, {"values": [1.0, 2.0]}))[1]["ratio"] is None


def test_tables_have_a_cell_for_each_header_also_where_a_peer_failed():
    record = record_of({"values": [0.002]}, {"failed": "a | b\nc"})
    ((title, found),) = by_title(rows(record)).items()
    lines = markdown_table(found).splitlines()
    assert title == "Training step, d_model 32, vocabulary 64, 2 x 128 tokens"
    assert len(lines) == 4 and {line.count("|") for line in lines} == {len(HEADERS) + 1}
    assert "2.00\u00a0ms" in lines[2] and "a / b c" in lines[3]
    assert title in text_table(record) and "a / b c" in text_table(record)


def test_units_suit_the_numbers():
    texts = {}
    for value in (0.0021, 0.21, 2.1):
        (row,) = (row for row in rows(record_of({"values": [value]}, {"failed": ""})) if row["peer"] == "course")
        texts[value] = markdown_table([row]).splitlines()[2].replace("\u00a0", " ").split(" | ")[2:4]
    assert texts == {
        0.0021: ["2.10 ms", "2.10 to 2.10"],
        0.21: ["210 ms", "210 to 210"],
        2.1: ["2.10 s", "2.10 to 2.10"],
    }


def test_what_was_there_stays_until_the_new_record_is_whole(tmp_path, monkeypatch, capsys):
    path = tmp_path / "record.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        compare.write_json(path, {"not JSON": object()})
    monkeypatch.setattr(compare, "run", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    assert compare.main(["--quick", "--output", str(path)]) == 130
    assert "earlier records are as they were" in capsys.readouterr().err
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    compare.write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1} and list(tmp_path.iterdir()) == [path]


def test_options_are_checked(capsys):
    with pytest.raises(SystemExit):
        compare.read_options(["--threads", "0"])
    assert "--threads must be at least 1, got 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "rates", "record"),
    [
        ([], {"float32": 1.0, "bfloat16": 2.0}, compare.RECORD),
        ([], {"float32": 1.0}, compare.FLOAT32_RECORD),
        (["--device", "cuda"], {"float32": 1.0, "bfloat16": 2.0}, compare.GPU_RECORD),
        (["--quick"], {"float32": 1.0}, compare.QUICK_RECORD),
        (["--quick", "--output", "here.json"], {"float32": 1.0}, Path("here.json")),
    ],
)
def test_every_kind_of_machine_has_a_record_of_its_own(words, rates, record):
    assert compare.record_path(compare.read_options(words), rates) == record


def test_the_course_runs_where_the_driver_does():
    assert worker_command("course")[0] == sys.executable


@pytest.mark.parametrize(
    ("name", "rated"), [("benchmarks", ["float32", "bfloat16"]), ("benchmarks_float32", ["float32"])]
)
def test_the_record_is_complete_and_says_where_it_comes_from(name, rated):
    record = load_recorded(name)
    assert list(record["machine"]["rates"]) == rated
    wanted = {"command", "date", "commit", "hardware", "device", "threads", "versions", "quick"}
    assert wanted <= set(record["provenance"])
    assert {one["task"] for one in record["jobs"]} == set(TITLES)
    for one in record["jobs"]:
        for values in one["peers"].values():
            assert "failed" in values or len(values["values"]) == one["rounds"]
    assert {one["varied"] for one in record["sizes"]} == set(full_plan().sizes)


@pytest.mark.parametrize("name", ["benchmarks", "benchmarks_float32"])
def test_the_sweep_of_the_record_agrees_with_transformer_lens(name):
    found = [one["peers"] for one in load_recorded(name)["jobs"] if one["task"] == "ablation_sweep"]
    assert found and all(peers["transformer_lens 3.9"]["difference"] <= 1e-5 for peers in found)


def test_what_the_page_says_of_the_gpu_is_what_its_record_says():
    of_gpu = load_recorded("benchmarks_gpu")
    plain = {
        (row["task"], row["size"], row["precision"]): row["ratio"] for row in rows(of_gpu) if row["peer"] == "plain"
    }
    steps = [ratio for (task, *_), ratio in plain.items() if task == "training_step"]
    others = [ratio for (task, *_), ratio in plain.items() if task in ("forward", "head_scores", "ablation_sweep")]
    assert min(steps[:2]) > 1.5  # the small model, in both precisions
    assert max(others) < 1 and max(steps[-2:]) < 1.05  # the largest
    assert {row["precision"] for row in share_rows(of_gpu)} == set(of_gpu["machine"]["rates"])
    assert all(0 < row["share"] < 1 for row in share_rows(of_gpu))


def test_operations_of_a_step_are_counted_as_by_hand():
    size = {"n_layers": 1, "d_model": 2, "d_vocab": 5, "n_ctx": 4}
    assert training_operations(size) == 3 * 2 * (4 * 2 * 2 + 2 * 5 + 2 * 2 * 4 / 2)


def test_charts_draw_every_peer_that_has_a_ratio():
    found = rows(load_recorded("benchmarks"), ["training_step"])
    chart = ratio_chart(found, "what to see").to_dict()
    assert chart["title"] == "what to see"
    assert len(chart["vconcat"]) == len(by_title(found))
    drawn = {row["peer"] for values in chart["datasets"].values() for row in values if "peer" in row}
    assert drawn == {row["peer"] for row in found if row["ratio"] is not None} - {"course"}
    with pytest.raises(ValueError, match="no peer has a ratio"):
        ratio_chart([row for row in found if row["peer"] == "course"], "nothing")


def test_cost_charts():
    sizes = load_recorded("benchmarks")["sizes"]
    table = cost_table([*sizes, {"varied": "n_ctx", "size": sizes[0]["size"], "failed": "x"}])
    assert len(table) == len(sizes)
    size, times = sizes[0]["size"], sorted(sizes[0]["values"])
    assert table["tokens"][0] == pytest.approx(size["batch"] * size["n_ctx"] / times[len(times) // 2])
    panels = cost_chart(sizes, "MiB", "memory").to_dict()["hconcat"]
    assert [panel["encoding"]["x"]["title"] for panel in panels] == [
        "layers",
        "context (tokens)",
        "vocabulary (tokens)",
    ]
    with pytest.raises(ValueError, match=r"cost must be one of \['tokens', 'MiB'\], got 'GB'"):
        cost_chart(sizes, "GB", "")


def test_the_page_is_in_the_book_and_offers_no_notebook_on_colab():
    header = yaml.safe_load((ROOT / "speed.md").read_text().split("---")[1])
    assert header["file_format"] == "mystnb" and "kernelspec" not in header
    assert "file: speed.md" in (ROOT / "_toc.yml").read_text()


def test_the_locks_of_both_versions_of_transformer_lens_agree_elsewhere():
    locks = []
    for name in ("oracle", "tl4"):
        lines = (ROOT / f"requirements-{name}.txt").read_text().splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[^=+]+", line) for line in pins)
        locks.append(dict(line.split("==") for line in pins))
    oracle, newer = locks
    assert {name for name in oracle.keys() & newer.keys() if oracle[name] != newer[name]} == {"transformer-lens"}
    assert newer["torch"] == "2.13.0" and newer["transformer-lens"].startswith("4.")


def test_right_answers_pass_the_checks_that_the_other_graders_run(tmp_path):
    """Results with NaN among them: `assert_close` takes NaN for a difference unless it is told."""
    assignment = make_assignment(large_ids(), tmp_path)
    names = {"__name__": "__main__"}
    exec(assignment.setup, names)
    for answer in assignment.answers:
        exec(answer.right, names)
        exec(answer.check, names)


def test_spoilt_answers_fail_the_checks_that_the_other_graders_run(tmp_path):
    assignment = make_assignment(SMALL, tmp_path)
    names = {"__name__": "__main__"}
    exec(assignment.setup, names)
    for answer in assignment.answers:
        exec(answer.wrong, names)
        with pytest.raises(AssertionError):
            exec(answer.check, names)
