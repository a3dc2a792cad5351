"""Sequences to train and to measure on: synthetic ones with a known structure, and real text, the same everywhere.

Every batch is a pure function of `(seed, step)`, so a run that was killed goes on with the same batches.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from course_lib.config import check_counts

START = 0  # token 0 opens every sequence: a place to attend to when nothing matches
ASSETS = Path(__file__).parent / "assets"
TOKENIZER_FILE = ASSETS / "tokenizer.json"
CORPUS_FILE = (
    ASSETS / "corpus" / "tokens.xz"
)  # written by tools/make_corpus.py; what it holds says corpus.json beside it
VALIDATION_SHARE = 0.05
N_BYTES = 256  # tokens 1..256

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
    check_counts(batch=batch, length=length, repeats=repeats, d_vocab=d_vocab)
    if length > d_vocab - 1:
        raise ValueError(f"length {length} needs as many different tokens; d_vocab={d_vocab} has {d_vocab - 1}")
    order = torch.rand(batch, d_vocab - 1, generator=generator, dtype=torch.float32).argsort(dim=1)
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
        check_counts(batch=self.batch, n_ctx=self.n_ctx, min_length=self.min_length, max_length=self.max_length)
        check_counts(3, d_vocab=self.d_vocab)
        if not self.min_length <= self.max_length < self.n_ctx:
            raise ValueError(
                f"need min_length <= max_length < n_ctx, got {self.min_length}, {self.max_length}, {self.n_ctx}"
            )

    def __call__(self, step: int) -> Int[Tensor, "b p"]:
        generator = generator_for(self.seed, step)
        segments = torch.randint(1, self.d_vocab, (self.batch, self.max_length), generator=generator)
        periods = torch.randint(self.min_length, self.max_length + 1, (self.batch, 1), generator=generator)
        tokens = segments.gather(1, torch.arange(self.n_ctx - 1) % periods)
        return torch.cat([torch.full((self.batch, 1), START), tokens], dim=1)


@dataclass(frozen=True)
class Corpus:
    """A tokenised text, split by file into training and validation. Made by `load_corpus` and `corpus_from`."""

    train_tokens: np.ndarray  # uint16, files one after another, each opened by the start token
    validation_tokens: np.ndarray
    d_vocab: int
    n_files: int
    n_bytes: int
    hash: str  # of all texts and the tokenizer

    def batches(self, batch: int, n_ctx: int, seed: int = 0) -> CorpusBatches:
        """Training batches, `step -> tokens [batch, n_ctx + 1]`: start token, then a random stretch of text."""
        return CorpusBatches(self.train_tokens, batch, n_ctx, seed)

    def validation(self, examples: int, n_ctx: int) -> Int[Tensor, "b p"]:
        """A fixed set of validation sequences, [examples, n_ctx + 1], the same at every call."""
        return CorpusBatches(self.validation_tokens, examples, n_ctx, seed=0)(0)

    def with_vocabulary(self, d_vocab: int) -> Corpus:
        """The same text in the first `d_vocab` tokens: a later token is taken apart into those that it was merged from.

        Byte-pair encoding merges in the order in which it learned to, so a tokenizer that stopped learning at `d_vocab`
        would give these tokens. Half of the vocabulary makes the course's text a quarter longer.

        Raises:
            ValueError: `d_vocab` below the 257 of start token and bytes, or above that of this corpus.
        """
        check_counts(N_BYTES + 1, d_vocab=d_vocab)
        if d_vocab > self.d_vocab:
            raise ValueError(f"d_vocab must be at most the {self.d_vocab} of this corpus, got {d_vocab}")
        train, validation = (_taken_apart(tokens, d_vocab) for tokens in (self.train_tokens, self.validation_tokens))
        digest = hashlib.sha256(f"{self.hash}/{d_vocab}".encode()).hexdigest()
        return Corpus(train, validation, d_vocab, self.n_files, self.n_bytes, digest)

    def __repr__(self) -> str:
        tokens = len(self.train_tokens) + len(self.validation_tokens)
        return (
            f"Corpus({self.n_files:,} files, {self.n_bytes / 1e6:.1f} MB, hash {self.hash[:12]},\n"
            f"       {tokens / 1e6:.2f}M tokens, {len(self.validation_tokens) / 1e6:.2f}M of them for validation)"
        )


@dataclass(frozen=True)
class CorpusBatches:
    """Random stretches of a token stream; a pure function of seed and step.

    Every stretch is equally likely but the one that ends with the stream: its last token is never drawn. To draw it
    would change all batches, and with them every recorded run.
    """

    tokens: np.ndarray
    batch: int
    n_ctx: int
    seed: int

    def __post_init__(self) -> None:
        check_counts(batch=self.batch, n_ctx=self.n_ctx)
        if self.n_ctx >= len(self.tokens):
            raise ValueError(f"n_ctx must be less than the {len(self.tokens):,} tokens of the text, got {self.n_ctx}")

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


def load_corpus() -> Corpus:
    """The text of the course: the source of Python 3.11's standard library and of PyTorch 2.13, without their tests.

    It is shipped as tokens, so that every machine trains on the same text; reading them takes about half a second.

    Raises:
        ValueError: the file of the tokens is missing or damaged.
    """
    try:
        about = json.loads(CORPUS_FILE.with_name("corpus.json").read_text())
        tokens = np.frombuffer(lzma.decompress(CORPUS_FILE.read_bytes()), dtype="<u2")
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(
            f"the text in {CORPUS_FILE.parent} cannot be read ({error}); install the course again"
        ) from None
    train, validation = np.split(tokens, [about["train_tokens"]])
    return Corpus(train, validation, about["d_vocab"], about["files"], about["bytes"], about["hash"])


def corpus_from(files: Iterable[Path]) -> Corpus:
    """A corpus of your own: read, tokenise and split text files; 20 s for 50 MB on two cores.

    Raises:
        ValueError: one path instead of several, a file that does not exist, or fewer than 2 different files.
    """
    if isinstance(files, str | Path):
        raise ValueError(f"files must be several paths, got one: {str(files)!r}")
    texts = sorted({hashlib.sha256(text).hexdigest(): text for text in map(_read, files)}.items())
    if len(texts) < 2:
        raise ValueError(f"a corpus needs at least 2 different files, got {len(texts)}")
    tokenizer = load_tokenizer()
    digest = hashlib.sha256("".join(name for name, _ in texts).encode() + tokenizer.to_str().encode()).hexdigest()
    n_bytes = sum(len(text) for _, text in texts)
    return Corpus(*_tokenise(texts, tokenizer), tokenizer.get_vocab_size(), len(texts), n_bytes, digest)


def _taken_apart(tokens: np.ndarray, d_vocab: int) -> np.ndarray:
    """Token ids of which none is `d_vocab` or above; pair by pair, until no merge from there on is left."""
    model = json.loads(TOKENIZER_FILE.read_text(encoding="utf-8"))["model"]
    ids, nothing = model["vocab"], np.iinfo(np.uint16).max
    first = np.arange(len(ids), dtype=np.uint16)
    second = np.full(len(ids), nothing, dtype=np.uint16)
    for merged, pair in enumerate(model["merges"], start=N_BYTES + 1):
        if merged >= d_vocab:
            first[merged], second[merged] = (ids[part] for part in pair)
    while tokens.max(initial=0) >= d_vocab:
        pairs = np.stack([first[tokens], second[tokens]], axis=1).ravel()
        tokens = pairs[pairs != nothing]
    return tokens


def _read(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ValueError(f"no file at {path}; load_corpus() gives the text of the course") from None


def _tokenise(texts: list[tuple[str, bytes]], tokenizer) -> list[np.ndarray]:
    """Tokens of both splits. A file's split follows from its own hash, so that copies stay together."""
    encoded = tokenizer.encode_batch_fast([text.decode("utf-8", errors="replace") for _, text in texts])
    parts: dict[str, list] = {"train": [], "validation": []}
    for (name, _), encoding in zip(texts, encoded, strict=True):
        part = "validation" if int(name[:8], 16) < VALIDATION_SHARE * 2**32 else "train"
        parts[part].append(np.array([START, *encoding.ids], dtype=np.uint16))
    return [np.concatenate(arrays or [np.zeros(0, dtype=np.uint16)]) for arrays in parts.values()]
