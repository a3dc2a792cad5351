"""Trainings that test_distributed.py starts in other processes: as a script under torchrun, as a module in workers."""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from course_lib.data import RepeatedSegments
from course_lib.model import ModelConfig, Transformer
from course_lib.train import TrainConfig, next_token_loss, train

DATA = RepeatedSegments(batch=5, d_vocab=20, n_ctx=17, min_length=3, max_length=6)  # 5 rows: 3 and 2 for two processes
STEPS = 30
RECIPE = dict(steps=STEPS, warmup_steps=5, max_grad_norm=0.3, measure_every=10, checkpoint_every=4, keep_snapshots=True)


def make(seed=0):
    return Transformer(ModelConfig(n_layers=2, n_heads=2, d_model=16, d_head=8, d_vocab=20, n_ctx=17), seed)


def measure(model):
    return {"loss": next_token_loss(model, DATA(10**6)).item()}


def result(model, history):
    """What a run must end with, whoever made it."""
    records = [{name: value for name, value in record.items() if name != "seconds"} for record in history.records]
    return {"weights": model.state_dict(), "records": records, "snapshots": history.snapshots}


class Stop(Exception):
    """Ends a run where a test wants it."""


class Watched:
    """DATA, with something done before a step."""

    def __init__(self, before):
        self.before = before

    def __call__(self, step):
        self.before(step)
        return DATA(step)

    def __repr__(self):
        return repr(DATA)  # the same run for the checkpoints


def stop_at(wanted):
    def before(step):
        if step == wanted:
            raise Stop

    return Watched(before)


# Under torchrun


def together(out, rank):
    """Several trainings by two processes; leaves what they end with, and what they complain of, in files of each."""
    whole(out, rank)
    firsts = []
    resumed = make(seed=rank)
    history = train(resumed, Watched(firsts.append), TrainConfig(**RECIPE), measure, folder_of(out / "begun", rank))
    torch.save({"first step": firsts[0], **result(resumed, history)}, out / f"resumed-{rank}.pt")
    with suppress(Stop):
        train(make(), stop_at(18), TrainConfig(**RECIPE), measure, folder_of(out / "left", rank))
    (out / f"complaints-{rank}.json").write_text(json.dumps(complaints(out, rank)))


def whole(out, rank):
    """A run from its start to its end; other processes than the first begin with other weights and get its own."""
    model = make(seed=rank)

    def before(step):
        if step == STEPS - 1:
            torch.save(model.state_dict(), out / f"before-{rank}.pt")

    def measured(model):
        with open(out / f"measured-{rank}", "a") as file:
            file.write(".")
        return measure(model)

    history = train(model, Watched(before), TrainConfig(**RECIPE), measured, folder_of(out / "whole", rank))
    torch.save(result(model, history), out / f"whole-{rank}.pt")


def folder_of(folder, rank):
    """A folder of each process, as if on machines that share none."""
    return folder.with_name(f"{folder.name}-{rank}")


def complaints(out, rank):
    """What a batch that is too small, a process that hangs, and other settings in one process lead to."""
    found = {}
    try:
        train(make(), RepeatedSegments(batch=1), TrainConfig(steps=1))
    except ValueError as error:
        found["batch"] = str(error)

    def hang(step):
        while rank == 1 and step == 3 and not (out / "noticed").exists():
            time.sleep(0.1)

    dist.barrier()
    meet(out / "first", rank, seconds=5)
    try:
        train(make(), Watched(hang), TrainConfig(**RECIPE))
    except RuntimeError as error:
        found["hang"], found["cause"] = str(error), str(error.__cause__)
    (out / "noticed").touch()
    meet(out / "second", rank, seconds=60)
    try:
        train(make(), DATA, TrainConfig(**{**RECIPE, "lr": 0.1 + rank}))
    except (ValueError, RuntimeError) as error:
        found["settings"] = str(error)
    return found


def meet(file, rank, seconds):
    """A new process group with another timeout."""
    dist.destroy_process_group()
    timeout = timedelta(seconds=seconds)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2, timeout=timeout)


def killed(out, rank):
    """A run in which process 1 is killed the first time."""
    firsts = []

    def before(step):
        firsts.append(step)
        if rank == 1 and step == 18 and not (out / "killed").exists():
            (out / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    model = make()
    history = train(model, Watched(before), TrainConfig(**RECIPE), measure, out / "run")
    torch.save({"first step": firsts[0], **result(model, history)}, out / f"killed-{rank}.pt")


# In workers


@dataclass(frozen=True)
class Held(RepeatedSegments):
    """Like DATA; says in a file which process reads which step, and waits at step 10 while the file `hold` exists."""

    log: str = ""
    hold: str = field(default="", repr=False)  # the same run for the checkpoints

    def __call__(self, step):
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()} {step}\n")
        while step == 10 and os.path.exists(self.hold):
            time.sleep(0.02)
        return super().__call__(step)


def train_one(folder, seed, hold=""):
    """A run of a series."""
    torch.set_num_threads(1)
    Path(folder).mkdir(parents=True, exist_ok=True)
    data = Held(5, 20, 17, 3, 6, seed, f"{folder}/log", str(hold))
    model = make(seed)
    return result(model, train(model, data, TrainConfig(**RECIPE), measure, folder))


def fail_below_zero(folder, number):
    """Leaves a file, or fails."""
    if number < 0:
        raise ValueError(f"{number} is below zero")
    (folder / str(number)).touch()


def add_one(tensor, pieces):
    """Changes its argument, and returns it in pieces."""
    tensor += 1
    return [tensor[:1].clone() for _ in range(pieces)]


def settings(_):
    """What a worker is set to; slow enough that every worker gets one to do."""
    time.sleep(0.5)
    return os.getpid(), torch.get_num_threads(), os.environ["COURSE_STATIC"]


if __name__ == "__main__":
    {"together": together, "killed": killed}[sys.argv[1]](Path(sys.argv[2]), int(os.environ["RANK"]))
