"""Sequences to train and to measure on: synthetic ones with a known structure, and real text that every machine has.

Every batch is a pure function of `(seed, step)`, so a run that was killed goes on with the same batches.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from course_lib.storage import cache_folder, read_checked, write_checked

START = 0  # token 0 opens every sequence: a place to attend to when nothing matches
TOKENIZER_FILE = Path(__file__).parent / "assets" / "tokenizer.json"
VALIDATION_SHARE = 0.05

Batches = Callable[[int], Tensor]  # step -> tokens [batch, pos]


def generator_for(seed: int, step: int) -> torch.Generator:
    """A random generator that depends on seed and step alone."""
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def repeated_tokens(
    batch: int, length: int, repeats: int, d_vocab: int, generator: torch.Generator, start_token: int | None = START
) -> Int[Tensor, "b p"]:
    """Evaluation sequences: one random segment, repeated; the paper takes 25 tokens, 4 times.

    Example: `length=3, repeats=2` gives rows such as `[0, 7, 2, 5, 7, 2, 5]`.

    Args:
        batch: number of rows, each with a segment of its own.
        length: tokens in a segment, all different; at most `d_vocab - 1`.
        repeats: how often the segment stands in the row.
        d_vocab: tokens are drawn from 1 to `d_vocab - 1`; token 0 is kept for the start.
        generator: source of randomness.
        start_token: put before each row; None for no start token.

    Returns:
        tokens, [batch, 1 + length * repeats] (without the 1 if there is no start token).
    """
    for name, value in (("batch", batch), ("length", length), ("repeats", repeats)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if length > d_vocab - 1:
        raise ValueError(f"length {length} needs as many different tokens; d_vocab={d_vocab} has {d_vocab - 1}")
    order = torch.rand(batch, d_vocab - 1, generator=generator).argsort(dim=1)
    rows = (order[:, :length] + 1).repeat(1, repeats)
    if start_token is None:
        return rows
    return torch.cat([torch.full((batch, 1), start_token), rows], dim=1)


@dataclass(frozen=True)
class RepeatedSegments:
    """Synthetic training data: each row repeats a random segment, with a period that varies from row to row.

    Example: with `min_length=2, max_length=3` two rows may be `[0, 4, 9, 4, 9, 4, 9]` and `[0, 3, 3, 8, 3, 3, 8]`.
    A fixed period could be solved by position alone ("look 20 back"); a varying one needs the tokens.

    Calling it with a step gives tokens [batch, n_ctx]; tokens are drawn with replacement from 1..d_vocab-1.
    """

    batch: int = 32
    d_vocab: int = 257
    n_ctx: int = 81
    min_length: int = 20
    max_length: int = 29
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.min_length <= self.max_length < self.n_ctx:
            raise ValueError(
                f"need 1 <= min_length <= max_length < n_ctx, got {self.min_length}, {self.max_length}, {self.n_ctx}"
            )
        if self.d_vocab < 3 or self.batch < 1:
            raise ValueError(f"need d_vocab >= 3 and batch >= 1, got {self.d_vocab} and {self.batch}")

    def __call__(self, step: int) -> Int[Tensor, "b p"]:
        generator = generator_for(self.seed, step)
        segments = torch.randint(1, self.d_vocab, (self.batch, self.max_length), generator=generator)
        periods = torch.randint(self.min_length, self.max_length + 1, (self.batch, 1), generator=generator)
        tokens = segments.gather(1, torch.arange(self.n_ctx - 1) % periods)
        return torch.cat([torch.full((self.batch, 1), START), tokens], dim=1)


def python_source_files() -> list[Path]:
    """Real text without a download: the source of Python's standard library and of PyTorch, without their tests."""
    stdlib, torch_folder = Path(sysconfig.get_path("stdlib")), Path(find_spec("torch").origin).parent
    files = [
        path for root in (stdlib, torch_folder) for path in root.rglob("*.py") if _is_prose(path.relative_to(root))
    ]
    if len(files) < 100:
        raise ValueError(
            f"found only {len(files)} Python source files under {stdlib} and {torch_folder}; "
            "this Python was installed without its sources. Pass a list of text files of your own: load_corpus(files)."
        )
    return files


def _is_prose(relative: Path) -> bool:
    skip = {"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "__pycache__"}
    return not skip & set(relative.parts)


@dataclass(frozen=True)
class Corpus:
    """A tokenised text, split by file into training and validation. Made by `load_corpus`."""

    train_tokens: np.ndarray  # uint16, files one after another, each opened by the start token
    validation_tokens: np.ndarray
    d_vocab: int
    n_files: int
    n_bytes: int
    hash: str  # of names, texts and tokenizer: differs between Python and PyTorch versions

    def batches(self, batch: int, n_ctx: int, seed: int = 0) -> CorpusBatches:
        """Training batches, `step -> tokens [batch, n_ctx + 1]`: start token, then a random stretch of text."""
        return CorpusBatches(self.train_tokens, batch, n_ctx, seed)

    def validation(self, examples: int, n_ctx: int) -> Int[Tensor, "b p"]:
        """A fixed set of validation sequences, [examples, n_ctx + 1], the same at every call."""
        return CorpusBatches(self.validation_tokens, examples, n_ctx, seed=0)(0)

    def __repr__(self) -> str:
        tokens = len(self.train_tokens) + len(self.validation_tokens)
        return (
            f"Corpus({self.n_files:,} files, {self.n_bytes / 1e6:.1f} MB, hash {self.hash[:12]},\n"
            f"       {tokens / 1e6:.2f}M tokens, {len(self.validation_tokens) / 1e6:.2f}M of them for validation)"
        )


@dataclass(frozen=True)
class CorpusBatches:
    """Random stretches of a token stream; a pure function of seed and step."""

    tokens: np.ndarray
    batch: int
    n_ctx: int
    seed: int

    def __post_init__(self) -> None:
        if self.batch < 1 or not 1 <= self.n_ctx < len(self.tokens):
            raise ValueError(
                f"need batch >= 1 and 1 <= n_ctx < tokens, got {self.batch}, {self.n_ctx}, {len(self.tokens):,}"
            )

    def __repr__(self) -> str:
        """Names the text by its content: a checkpoint is known by it, and numpy's versions print arrays differently."""
        content = f"{len(self.tokens)} tokens, sha256 {hashlib.sha256(self.tokens).hexdigest()[:16]}"
        return f"CorpusBatches({content}, batch={self.batch}, n_ctx={self.n_ctx}, seed={self.seed})"

    def __call__(self, step: int) -> Int[Tensor, "b p"]:
        starts = torch.randint(len(self.tokens) - self.n_ctx, (self.batch, 1), generator=generator_for(self.seed, step))
        stretch = self.tokens[(starts + torch.arange(self.n_ctx)).numpy()].astype(np.int64)
        return torch.cat([torch.full((self.batch, 1), START), torch.from_numpy(stretch)], dim=1)


def load_tokenizer(path: Path = TOKENIZER_FILE):
    """The course's byte-level BPE tokenizer (`tokenizers.Tokenizer`, 1,024 tokens, token 0 starts a sequence)."""
    from tokenizers import Tokenizer

    if not Path(path).is_file():
        raise ValueError(f"no tokenizer at {path}; make one with `python -m tools.make_tokenizer`")
    return Tokenizer.from_file(str(path))


def load_corpus(files: Iterable[Path] | None = None) -> Corpus:
    """Read, tokenise and split text files; some seconds the first time, then from a cache.

    Args:
        files: text files; by default the Python sources that every machine with PyTorch has.

    Raises:
        ValueError: a file that does not exist, or fewer than 2 files with text in them.
    """
    texts = sorted(
        {
            hashlib.sha256(text).hexdigest(): text
            for text in map(_read, python_source_files() if files is None else files)
        }.items()
    )
    if len(texts) < 2:
        raise ValueError(f"a corpus needs at least 2 different files with text in them, got {len(texts)}")
    tokenizer = load_tokenizer()
    digest = hashlib.sha256("".join(name for name, _ in texts).encode() + tokenizer.to_str().encode()).hexdigest()
    train, validation = _tokens_from_cache(digest) or _tokenise(texts, tokenizer, digest)
    n_bytes = sum(len(text) for _, text in texts)
    return Corpus(train, validation, tokenizer.get_vocab_size(), len(texts), n_bytes, digest)


def _read(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ValueError(
            f"no corpus file at {path}; check the path, or call load_corpus() for the built-in text"
        ) from None


def _tokens_from_cache(digest: str) -> list[np.ndarray] | None:
    parts = [read_checked(cache_folder() / f"{digest}.{part}") for part in ("train", "validation")]
    return None if None in parts else [np.frombuffer(part, dtype=np.uint16) for part in parts]


def _tokenise(texts: list[tuple[str, bytes]], tokenizer, digest: str) -> list[np.ndarray]:
    """Tokens of both splits. A file's split follows from its own hash, so that copies stay together."""
    encoded = tokenizer.encode_batch_fast([text.decode("utf-8", errors="replace") for _, text in texts])
    parts: dict[str, list] = {"train": [], "validation": []}
    for (name, _), encoding in zip(texts, encoded, strict=True):
        part = "validation" if int(name[:8], 16) < VALIDATION_SHARE * 2**32 else "train"
        parts[part].append(np.array([START, *encoding.ids], dtype=np.uint16))
    tokens = [np.concatenate(arrays or [np.zeros(0, dtype=np.uint16)]) for arrays in parts.values()]
    for part, array in zip(parts, tokens, strict=True):
        write_checked(cache_folder() / f"{digest}.{part}", array.tobytes())
    return tokens
