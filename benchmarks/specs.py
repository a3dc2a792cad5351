"""What is measured, and on whom. Imports no torch: the driver stays small and lets its workers have the machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

REFERENCE = "course"  # every ratio is to this peer


@dataclass(frozen=True)
class Peer:
    """A program that is measured, in an environment of its own."""

    module: str  # below benchmarks.peers
    environment: str | None  # folder of its virtual environment; None: that of the driver
    imports: tuple[str, ...]  # what its users import to train and to measure; timed on top of torch
    packages: tuple[str, ...]  # their versions go into the record


COURSE_IMPORTS = tuple(f"course_lib.{name}" for name in ("data", "model", "train", "evaluate", "sweep", "circuits"))

PEERS = {
    "course": Peer("course", None, COURSE_IMPORTS, ("torch", "induction-heads-course")),
    "plain": Peer("plain", None, (), ("torch",)),
    "transformers": Peer("gpt2", None, ("transformers.models.gpt2.modeling_gpt2",), ("torch", "transformers")),
    "transformer_lens 3.9": Peer(
        "hooked", ".venv-oracle", ("transformer_lens", "transformer_lens.head_detector"), ("torch", "transformer-lens")
    ),
    "transformer_lens 4": Peer(
        "bridge",
        ".venv-tl4",
        ("transformer_lens.model_bridge", "transformer_lens.head_detector"),
        ("torch", "transformer-lens"),
    ),
}
LENSES = ("course", "transformer_lens 3.9", "transformer_lens 4")


@dataclass(frozen=True)
class Size:
    """Shape of a model and of a batch. All peers have LayerNorm and learned positions in the residual stream."""

    d_model: int = 128
    d_vocab: int = 1024
    n_heads: int = 4
    n_layers: int = 2
    n_ctx: int = 512
    batch: int = 4

    @property
    def d_head(self) -> int:
        """Dimensions of a head; the heads of a layer together have d_model."""
        return self.d_model // self.n_heads

    @property
    def tokens(self) -> int:
        """How many tokens a batch predicts."""
        return self.batch * self.n_ctx


@dataclass(frozen=True)
class Job:
    """One measurement that all its peers make."""

    task: str
    size: Size
    precision: str = "float32"
    repeats: int = 1  # calls in one timing
    rounds: int = 7  # timings of each peer
    segment: tuple[int, int] | None = None  # head scores read rows of a random segment: (length, repeats)
    peers: tuple[str, ...] = tuple(PEERS)

    def to_dict(self) -> dict:
        """Plain values for a worker; `job_from_dict` is the inverse."""
        return asdict(self)


def job_from_dict(values: dict) -> Job:
    """A job from what `Job.to_dict` made, also after a trip through JSON."""
    segment = values["segment"] and tuple(values["segment"])
    return Job(**values | {"size": Size(**values["size"]), "segment": segment, "peers": tuple(values["peers"])})


@dataclass(frozen=True)
class Plan:
    """Everything that one command measures."""

    jobs: tuple[Job, ...]
    sizes: dict[str, tuple[Size, ...]] = field(default_factory=dict)  # cost against size: what varies -> the sizes


SMALL = Size()
LARGE = Size(d_model=256, d_vocab=4096, n_heads=8, batch=8)
WIDE = Size(d_model=256, d_vocab=4096, n_heads=8, batch=64)  # fills a GPU
TINY = Size(d_model=32, d_vocab=64, n_heads=2, n_ctx=128, batch=2)
SCORED_ROWS = 8  # sequences that head scores read

IN_ONE_PROCESS = ("training_step", "forward", "head_scores", "head_scores_by_cache", "ablation_sweep")
IN_FRESH_PROCESSES = ("import_time", "peak_memory")


def full_plan() -> Plan:
    """About 12 minutes on two quiet cores."""
    jobs = [
        Job(task, size, precision, repeats)
        for task, sizes in (("training_step", ((SMALL, 8), (LARGE, 2))), ("forward", ((SMALL, 4), (LARGE, 1))))
        for size, repeats in sizes
        for precision in ("float32", "bfloat16")
    ]
    for segment, repeats in (((25, 4), 10), ((255, 2), 2)):
        jobs += [
            Job("head_scores", LARGE, repeats=repeats, segment=segment),
            Job("head_scores_by_cache", LARGE, repeats=repeats, segment=segment, peers=LENSES),
        ]
    jobs += [
        Job("ablation_sweep", LARGE, rounds=3),
        Job("import_time", SMALL, rounds=5, peers=_that_import()),
        Job("peak_memory", SMALL, rounds=3),
        Job("peak_memory", LARGE, rounds=3),
    ]
    return Plan(
        tuple(jobs),
        {
            "n_layers": tuple(replace(SMALL, n_layers=n) for n in range(1, 7)),
            "n_ctx": tuple(replace(SMALL, n_ctx=n) for n in (128, 256, 512, 1024)),
            "d_vocab": tuple(replace(SMALL, d_vocab=n) for n in (256, 1024, 4096, 16384)),
        },
    )


def gpu_plan() -> Plan:
    """The same tasks where a GPU is given, and one size that fills it; many calls in a timing, since each is short."""
    jobs = [
        Job(task, size, precision, repeats, rounds=3)
        for task, of_sizes in (
            ("training_step", ((SMALL, 100), (LARGE, 60), (WIDE, 60))),
            ("forward", ((LARGE, 30), (WIDE, 10))),
        )
        for size, repeats in of_sizes
        for precision in ("float32", "bfloat16")
    ]
    jobs += [
        Job("head_scores", LARGE, repeats=3, rounds=3, segment=(25, 4)),
        Job("head_scores", LARGE, repeats=3, rounds=3, segment=(255, 2)),
        Job("ablation_sweep", LARGE, repeats=2, rounds=3),
        Job("peak_memory", WIDE, rounds=1, peers=tuple(PEERS)[:3]),  # the others take a minute to start
    ]
    return Plan(tuple(jobs))


def quick_plan() -> Plan:
    """Every task on a tiny model: a trial of the machinery, whose figures mean nothing."""
    jobs = [Job(task, TINY, precision, 2, 2) for task in IN_ONE_PROCESS[:2] for precision in ("float32", "bfloat16")]
    jobs += [
        Job("head_scores", TINY, repeats=2, rounds=2, segment=(25, 4)),
        Job("head_scores_by_cache", TINY, repeats=2, rounds=2, segment=(25, 4), peers=LENSES),
        Job("ablation_sweep", TINY, rounds=2),
        Job("import_time", TINY, rounds=1, peers=_that_import()),
        Job("peak_memory", SMALL, rounds=1),  # of a tiny model it is nothing
    ]
    sizes = {
        "n_layers": (TINY, replace(TINY, n_layers=3)),
        "n_ctx": (TINY, replace(TINY, n_ctx=256)),
        "d_vocab": (TINY, replace(TINY, d_vocab=256)),
    }
    return Plan(tuple(jobs), sizes)


def _that_import() -> tuple[str, ...]:
    return tuple(name for name, peer in PEERS.items() if peer.imports)
