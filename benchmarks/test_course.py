"""The course's own code over time: `make bench`, or `python -m pytest benchmarks` (not part of `make test`).

`make bench` keeps every run below `_build/benchmarks`; with `--benchmark-storage=_build/benchmarks
--benchmark-compare` pytest tells what has become slower since the last one.
"""

import pytest
import torch

from benchmarks.peers.course import Course
from benchmarks.process import Process, worker_command
from benchmarks.specs import LARGE, SMALL, Job
from course_lib.data import load_corpus

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["d_model 128", "d_model 256"])
PRECISIONS = pytest.mark.parametrize("precision", ["float32", "bfloat16"])
THREADS = torch.get_num_threads()


def timed(benchmark, job, device):
    """Rounds of one job; a training step is one step of many, so that setting up the optimiser counts little."""
    task = Course(job.size, device).task(job)
    task(job.repeats)  # warm
    benchmark.extra_info["calls in a round"] = job.repeats
    return benchmark.pedantic(task, args=(job.repeats,), rounds=job.rounds)


@SIZES
@PRECISIONS
def test_training_steps(benchmark, cpu, size, precision):
    steps = 8 if size is SMALL else 2
    loss = timed(benchmark, Job("training_step", size, precision, repeats=steps, rounds=5), cpu)
    assert loss.ndim == 0 and loss.isfinite()
    benchmark.extra_info["tokens a second"] = round(steps * size.tokens / benchmark.stats["median"])


@SIZES
def test_logits(benchmark, cpu, size):
    subject = Course(size, cpu)
    tokens = torch.randint(1, size.d_vocab, (size.batch, size.n_ctx), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = benchmark.pedantic(subject.logits, args=(tokens,), rounds=5, warmup_rounds=1)
    assert logits.shape == (size.batch, size.n_ctx, size.d_vocab)


@pytest.mark.parametrize("segment", [(25, 4), (255, 2)], ids=["8 x 101", "8 x 511"])
def test_scores_of_all_heads(benchmark, cpu, segment):
    scores = timed(benchmark, Job("head_scores", LARGE, rounds=5, segment=segment), cpu)
    assert scores.numel() and scores.isfinite().all()


def test_ablation_sweep(benchmark, cpu):
    losses = timed(benchmark, Job("ablation_sweep", LARGE, rounds=3), cpu)
    assert losses.numel() and losses.isfinite().all()


def test_corpus_from_the_cache(benchmark):
    load_corpus()  # makes the cache
    corpus = benchmark.pedantic(load_corpus, rounds=3)
    assert len(corpus.train_tokens) > len(corpus.validation_tokens)


def test_import(benchmark):
    """The timing is that of a whole interpreter; what the course adds to torch stands in the extra information."""
    over_torch = []

    def load():
        with Process(worker_command("course"), THREADS) as worker:
            over_torch.append(worker.ask("load", threads=THREADS, device="cpu")["imports"])

    benchmark.pedantic(load, rounds=3, warmup_rounds=1)
    assert min(over_torch) > 0
    benchmark.extra_info["seconds on top of torch"] = [round(seconds, 3) for seconds in over_torch[1:]]


@SIZES
def test_peak_memory_of_training(benchmark, size):
    """The timing is that of a whole process; the memory stands in the extra information."""
    job, peaks = Job("training_step", size), []

    def train():
        with Process(worker_command("course"), THREADS) as worker:
            worker.ask("load", threads=THREADS, device="cpu")
            peaks.append(worker.ask("memory", job=job.to_dict())["value"])

    benchmark.pedantic(train, rounds=2)
    assert min(peaks) > 0
    benchmark.extra_info["MiB"] = [round(peak / 2**20) for peak in peaks]
