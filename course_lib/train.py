"""One training loop: warm-up, measurements on the way, snapshots, and exact resume after a kill."""

from __future__ import annotations

import io
import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from course_lib.config import check_counts, check_positive, check_tokens
from course_lib.cuda_graph import GraphedStep
from course_lib.data import Batches
from course_lib.data_parallel import join
from course_lib.fast import linear_cross_entropy
from course_lib.model import Transformer
from course_lib.runtime import precision_dtype, reuse_freed_memory, static
from course_lib.storage import Checkpoints

Measure = Callable[[Transformer], dict[str, float | str | Tensor]]
Watch = Callable[[list[dict]], None]
_STATE = {"identity", "model", "optimizer", "counters", "losses", "records", "snapshots"}  # of a checkpoint
_broken_off: WeakKeyDictionary[Transformer, int] = WeakKeyDictionary()  # models in mid-training, and after which step


@dataclass(frozen=True)
class TrainConfig:
    """How to train. The defaults are the course's recipe for the synthetic data."""

    steps: int = 500
    lr: float = 3e-3
    mlp_lr_factor: float = 1.0  # the weights of MLPs learn at this share of `lr` (chapter 6 says why it matters)
    warmup_steps: int = 50  # the learning rate rises linearly over these steps, then stays
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    precision: str = "float32"  # or "bfloat16", or "auto": what the hardware is fast at
    measure_every: int = 25  # steps between two records in the history
    keep_snapshots: bool = False  # keep the weights at every record (a "training film")
    checkpoint_every: int = 200  # steps between two checkpoints, when a folder is given

    def __post_init__(self) -> None:
        check_counts(steps=self.steps, measure_every=self.measure_every, checkpoint_every=self.checkpoint_every)
        check_counts(0, warmup_steps=self.warmup_steps)
        check_positive(lr=self.lr, mlp_lr_factor=self.mlp_lr_factor, max_grad_norm=self.max_grad_norm)
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be 0 or more and finite, got {self.weight_decay}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers from 0 to below 1, got {self.betas}")


@dataclass
class History:
    """What a run recorded: a list of records, and snapshots of the weights by step.

    A record has `step`, `tokens` (seen so far), `seconds` (spent on training, without measuring), `train_loss`
    (nats, mean since the record before; at step 0 it is absent) and whatever `measure` returned.
    """

    records: list[dict] = field(default_factory=list)
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def column(self, name: str) -> list:
        """The values of one quantity, one a record that has it."""
        values = [record[name] for record in self.records if name in record]
        if not values:
            raise ValueError(f"the history has no {name!r}; it has {sorted(self.records[-1]) if self.records else []}")
        return values


def train(
    model: Transformer,
    batches: Batches,
    config: TrainConfig,
    measure: Measure | None = None,
    folder: Path | str | None = None,
    watch: Watch | None = None,
) -> History:
    """Train `model` in place on `batches(0), batches(1), ...` and return the history.

    A script that `torchrun` starts in several processes trains one model: each process reads its rows of every batch,
    and the first one measures and writes. All end with the same weights and history. They agree with those of one
    process up to rounding, not bit for bit; a run may go on with another number of processes than it began with.

    Args:
        model: trained where it is (CPU or GPU).
        batches: step -> tokens [batch, pos]; every token but the first is predicted. A folder knows it by its `repr`,
            a function by its name alone: for other data in a function of the same name choose another folder.
        measure: called on the model before the first step, every `measure_every` steps and after the last. What it
            returns is kept as it then is: numbers, strings and tensors, or lists of them.
        folder: where checkpoints go. A run that was killed goes on from the newest whole one and ends with
            bit-identical weights on the same machine. A finished run is loaded, not repeated. Where nothing can be
            written, training says so and goes on.
        watch: called with all records so far whenever there is a new one, to show them; see `widgets.live_chart`.

    Raises:
        ValueError: the folder belongs to a run of another configuration, seed or `batches`; it is empty, and the model
            comes from a run that was broken off; `measure` returns something else; more processes than rows in a batch.
        FloatingPointError: the loss is no longer a number.
        RuntimeError: another process of this training does not answer.
    """
    reuse_freed_memory()
    run = _Run(model, batches, config, measure or (lambda model: {}), Path(folder) if folder else None, watch)
    run.resume()
    quiet = static() or not run.first
    with tqdm(total=config.steps, initial=run.step, unit="step", disable=quiet, leave=False) as bar:
        while run.step < config.steps:
            run.advance()
            bar.update()
    _broken_off.pop(model, None)
    run.take_over()
    return run.history


class _Run:
    """The state of one run: everything that a checkpoint must hold."""

    def __init__(
        self,
        model: Transformer,
        batches: Batches,
        config: TrainConfig,
        measure: Measure,
        folder: Path | None,
        watch: Watch | None,
    ):
        self.model, self.batches, self.config, self.measure, self.watch = model, batches, config, measure, watch
        self.saved = Checkpoints(folder) if folder else None
        self.device = next(model.parameters()).device
        self.processes = join(self.device)
        self.first = self.processes.rank == 0  # the process that measures and writes
        self.dtype = precision_dtype(config.precision, self.device)
        self.optimizer = torch.optim.AdamW(
            _groups(model, config),
            lr=config.lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
            capturable=self.device.type == "cuda",
        )
        graphed = self.device.type == "cuda" and self.processes.world == 1
        self.update = GraphedStep(self.plain_update) if graphed else self.plain_update
        self.step = self.tokens = 0
        self.share = 1.0  # of the batch, which this process reads
        self.seconds = 0.0
        self.losses: list[Tensor] = []  # since the last record; on the device, so that no step waits for it
        self.history = History()

    def advance(self) -> None:
        """One optimiser step, and what is due after it: a record, a snapshot, a checkpoint."""
        if self.step == 0:
            self.record()
        started = time.perf_counter()
        tokens = self.batches(self.step)
        rows = self.processes.rows(tokens)
        check_tokens(rows[:, :-1], self.model.config)  # here, since a recorded step does not look at values
        check_tokens(rows[:, -1:], self.model.config)  # which is predicted, and not read
        self.share = len(rows) / len(tokens)
        self.set_learning_rates()
        _broken_off[self.model] = self.step
        self.losses.append(self.update(rows))
        self.step += 1
        self.tokens += tokens[:, 1:].numel()
        self.seconds += time.perf_counter() - started
        last = self.step == self.config.steps
        if last or self.step % self.config.measure_every == 0:
            self.record()
        if self.saved and (last or self.step % self.config.checkpoint_every == 0):
            self.save()

    def plain_update(self, rows: Tensor) -> Tensor:
        """Loss, gradients, optimiser; returns the loss of the whole batch."""
        loss = next_token_loss(self.model, rows.to(self.device), self.dtype)
        self.optimizer.zero_grad()
        loss.backward()
        loss = self.processes.average(self.model, loss.detach(), self.share)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        return loss

    def set_learning_rates(self) -> None:
        """The rate of this step; on a GPU as a tensor, which a recorded step reads anew each time."""
        warm = min(1.0, (self.step + 1) / max(1, self.config.warmup_steps))
        for group in self.optimizer.param_groups:
            rate = self.config.lr * group["share"] * warm
            if self.device.type != "cuda":
                group["lr"] = rate
            elif isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = torch.tensor(rate, device=self.device)

    def record(self) -> None:
        """Append a record to the history; only the first process measures the model, without gradients."""
        record = {"step": self.step, "tokens": self.tokens, "seconds": self.seconds}
        if self.losses:
            record["train_loss"] = self.mean_loss()
            self.losses = []
        if not self.first:
            return
        with torch.no_grad():
            measured = {name: _kept(name, value) for name, value in self.measure(self.model).items()}
        if taken := record.keys() & measured.keys():
            raise ValueError(f"measure returns {', '.join(sorted(taken))}, which every record has already")
        self.history.records.append(record | measured)
        if self.config.keep_snapshots:
            weights = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
            self.history.snapshots[self.step] = weights
        if self.watch:
            self.watch(self.history.records)

    def mean_loss(self) -> float:
        """Mean training loss since the last record, in nats; not a number ends the run."""
        loss = float(torch.stack(self.losses).mean())
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the training loss is {loss} at step {self.step}; try a smaller lr than {self.config.lr}"
            )
        return loss

    def identity(self) -> dict[str, str]:
        """What makes a run this run: a checkpoint of another one is refused."""
        batches = getattr(self.batches, "__qualname__", None) or re.sub(r" at 0x[0-9a-f]+", "", repr(self.batches))
        settings = {f"train.{name}": str(value) for name, value in asdict(self.config).items()}
        settings |= {f"model.{name}": str(value) for name, value in self.model.config.to_dict().items()}
        return settings | {"model.seed": str(self.model.seed), "batches": batches}

    def save(self) -> None:
        """Write a checkpoint. A loss that is not a number is never saved."""
        if self.losses:
            self.mean_loss()
        if not self.first:
            return
        self.saved.write(self.step, self.packed())

    def packed(self) -> bytes:
        """The state as bytes."""
        state = {
            "identity": self.identity(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "counters": (self.step, self.tokens, self.seconds),
            "losses": self.losses,
            "records": self.history.records,
            "snapshots": self.history.snapshots,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        return buffer.getvalue()

    def resume(self) -> None:
        """Go on from the newest checkpoint that is whole; say at once where none can be written."""
        if self.saved and self.first:
            state = next(filter(None, map(self.unpacked, self.saved.whole())), None)
            if state is not None:
                self.load(state)
            elif self.model in _broken_off:
                raise ValueError(
                    f"this model comes from a run that was broken off after step {_broken_off[self.model]}, and "
                    f"{self.saved.folder} holds no checkpoint of it: build the model anew"
                )
            if self.step < self.config.steps:
                self.saved.try_out()
        self.take_over()

    def take_over(self) -> None:
        """In every process but the first: take over the state of the first."""
        if self.processes.world > 1:
            content = self.processes.from_first(self.packed() if self.first else None)
            if not self.first:
                self.load(self.unpacked(content))

    def unpacked(self, content: bytes) -> dict[str, Any] | None:
        """A packed state; None, and a sentence, where these bytes are something else."""
        try:
            state = torch.load(io.BytesIO(content), map_location=self.device, weights_only=True)
        except (MemoryError, torch.OutOfMemoryError):
            raise  # the checkpoint is good, and must not be written over by a run that begins again
        except Exception:  # it depends on the bytes which one
            state = None
        if isinstance(state, dict) and state.keys() == _STATE:
            return state
        tqdm.write(f"a checkpoint in {self.saved.folder} is not one of a training run; it is passed over")
        return None

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state, if it is one of this run."""
        theirs, ours = state["identity"], self.identity()
        different = [
            f"{key}: {theirs.get(key)} there, {ours.get(key)} here"
            for key in sorted(ours.keys() | theirs.keys())
            if theirs.get(key) != ours.get(key) and (self.first or key != "model.seed")  # the first one's weights count
        ]
        if different:
            whose, advice = f"{self.saved and self.saved.folder} holds", "choose another folder"
            if not self.first:
                whose, advice = "process 0 trains", "start all processes with the same settings"
            raise ValueError(f"{whose} another run ({'; '.join(different)}); {advice}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.tokens, self.seconds = state["counters"]
        self.losses = state["losses"]
        self.history = History(state["records"], state["snapshots"])


def _kept(name: str, value: Any) -> Any:
    """What a record keeps of a measured value, which a checkpoint must be able to hold.

    Raises:
        ValueError: a kind of value that no checkpoint holds.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, list | tuple):
        return type(value)(_kept(name, part) for part in value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise ValueError(f"measure returns {name!r} as {type(value).__name__}; wanted are numbers, strings and tensors")


def _groups(model: Transformer, config: TrainConfig) -> list[dict]:
    """The parameters as the optimiser takes them; those of MLPs apart where they learn at a rate of their own."""
    of_mlps = [weight for name, weight in model.named_parameters() if ".mlp." in name]
    others = [weight for name, weight in model.named_parameters() if ".mlp." not in name]
    groups = [{"params": others, "share": 1.0}, {"params": of_mlps, "share": config.mlp_lr_factor}]
    return [group for group in groups if group["params"]]


def next_token_loss(model: Transformer, tokens: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Mean cross-entropy in nats of every token but the first, [batch, pos] -> scalar.

    `dtype` is that of the matrix products; the loss itself is computed in float32.
    """
    with torch.autocast(tokens.device.type, dtype, enabled=dtype != torch.float32):
        x = model.final_norm(model.residual(tokens[:, :-1]))
        return linear_cross_entropy(x.flatten(0, 1), model.W_U, model.b_U, tokens[:, 1:].flatten())
