"""Time the course beside its peers, in one run: `python -m benchmarks.compare` (or `make bench`).

Every peer is a process of its own, and only one of them computes at any time. Peers take turns in every round, and
the turns rotate, so that a machine that warms up or slows down does not favour one of them.
The record is written when everything has been measured; a peer that fails stands in it with its message.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

from benchmarks.process import ROOT, PeerError, Process, worker_command
from benchmarks.specs import IN_FRESH_PROCESSES, PEERS, REFERENCE, Job, Plan, full_plan, gpu_plan, quick_plan
from benchmarks.summary import job_title, text_table
from benchmarks.worker import decoded
from tools.status import commit, processor

RECORD = ROOT / "course_lib" / "assets" / "runs" / "benchmarks.json"
FLOAT32_RECORD = RECORD.with_name("benchmarks_float32.json")  # of a CPU without fast bfloat16
GPU_RECORD = RECORD.with_name("benchmarks_gpu.json")
RATED_SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices whose product tells the rate of the machine
QUICK_RECORD = ROOT / "_build" / "benchmarks-quick.json"
SIZE_TIMINGS, SIZE_STEPS = 3, 4  # cost against size: timings of each size, training steps in one timing


class Workers:
    """The workers that stay for a whole run. Use it in a `with` statement, which ends them."""

    def __init__(self, threads: int, device: str):
        self.settings = {"threads": threads, "device": device}
        self.running: dict[str, Process] = {}
        self.loaded: dict[str, dict] = {}  # what each peer said of itself
        self.failed: dict[str, str] = {}  # peers that did not start, and why

    def start(self, peer: str) -> Process:
        """A new worker that has loaded its peer.

        Raises:
            PeerError: there is no such environment, or loading failed.
        """
        worker = Process(worker_command(peer), self.settings["threads"])
        try:
            self.loaded[peer] = worker.ask("load", **self.settings)
        except BaseException:
            worker.close()
            raise
        return worker

    def ask(self, peer: str, do: str, **arguments: object) -> dict:
        """Ask the worker that stays; one that has crashed is started again, one that never started is not."""
        if peer in self.failed:
            raise PeerError(self.failed[peer])
        if peer not in self.running:
            try:
                self.running[peer] = self.start(peer)
            except PeerError as error:
                self.failed[peer] = str(error)
                raise
        try:
            return self.running[peer].ask(do, **arguments)
        except PeerError:
            if self.running[peer].child.poll() is not None:
                self.running.pop(peer).close()
            raise

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self.running.values():
            worker.close()


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The same names, starting `by` places further on."""
    by %= max(1, len(names))
    return [*names[by:], *names[:by]]


def measure(job: Job, workers: Workers) -> dict:
    """One job by all its peers, ready for the record."""
    found = {peer: attempted(before_timing, job, peer, workers) for peer in job.peers}
    for turn in range(job.rounds):
        for peer in rotated([peer for peer in found if "failed" not in found[peer]], turn):
            answer = attempted(one_timing, job, peer, workers)
            if "failed" in answer:
                found[peer] = answer
            else:
                found[peer].setdefault("values", []).append(shortened(answer["value"]))
    compare_results(found)
    values = {name: value for name, value in job.to_dict().items() if name != "peers"}
    return values | {"peers": found}


def attempted(action: Callable[[Job, str, Workers], dict], job: Job, peer: str, workers: Workers) -> dict:
    """What the action gives, or `{"failed": message}`."""
    try:
        return action(job, peer, workers)
    except PeerError as error:
        return {"failed": str(error)}


def before_timing(job: Job, peer: str, workers: Workers) -> dict:
    """Warm up; the result of a task and the number of parameters, where there are any."""
    if job.task == "import_time":  # the first import also compiles and reads from disk
        one_timing(job, peer, workers)
    return workers.ask(peer, "prepare", job=job.to_dict()) if job.task not in IN_FRESH_PROCESSES else {}


def one_timing(job: Job, peer: str, workers: Workers) -> dict:
    """Seconds of a call; or of the imports, or bytes of the first steps, of a process that has done nothing else."""
    if job.task not in IN_FRESH_PROCESSES:
        return workers.ask(peer, "measure")
    with workers.start(peer) as worker:
        if job.task == "import_time":
            return {"value": workers.loaded[peer]["imports"]}
        return worker.ask("memory", job=replace(job, task="training_step").to_dict())


def compare_results(found: dict[str, dict]) -> None:
    """Put in place of each result how far it is from that of the course; one that is no such result has failed."""
    results = {peer: decoded(values.pop("result")) for peer, values in found.items() if "result" in values}
    for peer, result in results.items():
        if "failed" in found[peer] or REFERENCE not in results:
            continue
        try:
            found[peer]["difference"] = largest_difference(result, results[REFERENCE])
        except ValueError as error:
            found[peer] = {"failed": f"not the course's result: {error}"}


def largest_difference(result: Sequence[float], expected: Sequence[float]) -> float:
    """Largest absolute difference of two lists of numbers.

    Raises:
        ValueError: lists of different length, or a number that is not finite.
    """
    if len(result) != len(expected):
        raise ValueError(f"{len(result)} numbers, expected {len(expected)}")
    if not all(map(math.isfinite, [*result, *expected])):
        raise ValueError("NaN or infinity among the numbers")
    return shortened(max(abs(a - b) for a, b in zip(result, expected, strict=True)))


def measure_size(job: Job, peer: str, workers: Workers) -> dict:
    """Time and memory of a training step in a process of its own."""
    with workers.start(peer) as worker:
        memory = worker.ask("memory", job=job.to_dict())["value"]
        values = [shortened(worker.ask("measure")["value"]) for _ in range(job.rounds)]
    return {"values": values, "bytes": memory}


def shortened(value: float) -> float:
    """Six digits, which is more than any timing is good for."""
    return float(f"{value:.6g}")


def run(plan: Plan, threads: int, device: str) -> dict:
    """Measure everything; the whole record but its provenance.

    Raises:
        PeerError: the course itself does not start, and there would be nothing to compare with.
    """
    with Workers(threads, device) as workers:
        workers.running[REFERENCE] = workers.start(REFERENCE)
        machine = workers.ask(REFERENCE, "machine", side=RATED_SIDE[device])
        jobs = []
        for job in plan.jobs:
            if job.precision not in machine["rates"]:  # emulated, it takes a hundred times as long
                say(f"left out, since this machine has no {job.precision}: {job_title(job.to_dict())}")
                continue
            say(job_title(job.to_dict()))
            jobs.append(measure(job, workers))
        different = dict.fromkeys(size for sizes in plan.sizes.values() for size in sizes)
        for size in different:
            say(f"cost against size: {size}")
            job = Job("training_step", size, repeats=SIZE_STEPS, rounds=SIZE_TIMINGS)
            different[size] = attempted(measure_size, job, REFERENCE, workers)
        sizes = [
            {"varied": varied, "size": asdict(size)} | different[size]
            for varied, of_one in plan.sizes.items()
            for size in of_one
        ]
        versions = {name: workers.loaded[name]["versions"] for name in PEERS if name in workers.loaded}
    return {"versions": versions, "machine": machine, "jobs": jobs, "sizes": sizes}


def say(what: str) -> None:
    """Progress, for whoever waits."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr, flush=True)


def provenance(options: argparse.Namespace, load: float, seconds: float, versions: dict) -> dict:
    """Where and how the record was made; the load is the mean number of busy processes in the minute before."""
    return {
        "command": " ".join(["python -m benchmarks.compare", *options.given]),
        "date": date.today().isoformat(),
        "commit": commit(),
        "quick": options.quick,
        "hardware": f"{processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "device": options.device,
        "threads": options.threads,
        "load before": round(load, 2),
        "seconds": round(seconds),
        "versions": versions,
    }


def write_json(path: Path, value: object) -> None:
    """Write beside the file and rename, so that what was there stays until the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(json.dumps(value, separators=(",", ":")) + "\n", encoding="utf-8")
    os.replace(draft, path)


def read_options(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="try the machinery on a tiny model; the figures mean nothing"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of each peer (default 2)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, help=f"the record (default: in {RECORD.parent.relative_to(ROOT)})")
    options = parser.parse_args(arguments)
    if options.threads < 1:
        parser.error(f"--threads must be at least 1, got {options.threads}")
    options.given = arguments
    return options


def record_path(options: argparse.Namespace, rates: dict[str, float]) -> Path:
    """Where a record belongs: where the options say, or by what the machine can do, which `rates` tell."""
    if options.output or options.quick:
        return options.output or QUICK_RECORD
    if options.device == "cuda":
        return GPU_RECORD
    return RECORD if "bfloat16" in rates else FLOAT32_RECORD


def main(arguments: list[str]) -> int:
    """Measure, write the record, print the table; returns the exit status."""
    options, started, load = read_options(arguments), time.perf_counter(), os.getloadavg()[0]
    try:
        of_device = gpu_plan() if options.device == "cuda" else full_plan()
        record = run(quick_plan() if options.quick else of_device, options.threads, options.device)
    except PeerError as error:
        print(f"Nothing was measured: {REFERENCE}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. Nothing was written; earlier records are as they were.", file=sys.stderr)
        return 130
    versions = record.pop("versions")
    record = {"provenance": provenance(options, load, time.perf_counter() - started, versions)} | record
    path = record_path(options, record["machine"]["rates"])
    write_json(path, record)
    print(text_table(record))
    print(f"{path} is written.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
