"""Sentences in several languages, one after another, with the place of every word's translations (argument 4).

Words come from `lexicon.py`; how heads are scored on this data stands in `fuzzy.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from course_lib.config import check_counts, check_integers, check_whole
from course_lib.data import START, generator_for
from course_lib.lexicon import LANGUAGES, Lexicon


@dataclass(frozen=True, eq=False)
class Translations:
    """One sentence a row, written in several languages one after another; made by `translated_sentences`."""

    tokens: Int[Tensor, "b p"]  # start token, then the parts, one a language
    concepts: Int[Tensor, "b p"]  # row of the lexicon; -1 at the start token
    parts: Int[Tensor, "b p"]  # 0 for the first language; -1 at the start token
    alignment: Int[Tensor, "b p earlier"]  # position of the translation in part 0, 1, ...; -1 from the own part on

    @property
    def following(self) -> Int[Tensor, "b p earlier"]:
        """Position of the word AFTER each translation, where a fuzzy induction head looks; -1 where there is none."""
        return torch.where(self.alignment < 0, -1, self.alignment + 1)


def translated_sentences(
    lexicon: Lexicon,
    batch: int,
    length: int,
    generator: torch.Generator,
    languages: Sequence[str] = LANGUAGES,
    shuffle: int = 3,
    concepts: Int[Tensor, " n"] | None = None,
) -> Translations:
    """Random words in the first language, then their translations in the others, in a locally changed order.

    Example: `length=4, shuffle=2` may give "<start> dog sing red July chien rouge chanter juillet Hund ...".
    Real translations change the order too: the head's diagonal of attention meanders instead of being straight.

    Args:
        lexicon: from `load_lexicon`.
        batch: number of rows, each with words of its own.
        length: words in a part, all different.
        generator: source of randomness. The words are drawn first, so the same seed gives the same words
            with any `languages` and `shuffle`.
        languages: one a part; a language named twice gives literal copies.
        shuffle: a word of a later part stands less than this many places from its place in the first part;
            0 or 1 keep the order. At most half of `length`.
        concepts: rows of the lexicon to draw from, such as `lexicon.concepts("animal")`; None for all.

    Returns:
        Translations with tokens [batch, 1 + length * number of languages].

    Raises:
        ValueError: batch below 1, fewer than 2 languages or an unknown one, length or shuffle out of range,
            concepts that do not exist, stand twice or are fewer than `length`.

    Source: Olsson et al. 2022, argument 4, translation; there with real sentences.
    """
    columns, pool = _check_sentences(lexicon, batch, (length, length), languages, shuffle, concepts)
    drawn, lengths = _draw(pool, batch, length, generator), torch.full((batch,), length)
    return _write(lexicon, drawn, lengths, columns.repeat(batch, 1), shuffle, 1 + length * len(columns), generator)


@dataclass(frozen=True, eq=False)
class TranslationBatches:
    """Training data: as `translated_sentences`, with a length and an order of the languages that vary from row to row.

    A fixed length could be solved by position alone ("look 20 back"). With a fixed order of the languages, no word of
    the first one would ever be a query. Rows are cut at `n_ctx` tokens. Calling it with a step gives tokens
    [batch, n_ctx], a pure function of seed and step.

    `concepts` restricts the words. Words that never occur in training mean nothing to a word-level model, so holding
    them out tests nothing. What can be tested is a pair: train some concepts in English-French and French-German rows
    only (two of these objects, called in turn), and test them in English-German ones.
    """

    lexicon: Lexicon
    batch: int = 32
    n_ctx: int = 55
    min_length: int = 18
    max_length: int = 24
    languages: Sequence[str] = LANGUAGES
    shuffle: int = 3
    seed: int = 0
    concepts: Int[Tensor, " n"] | None = None

    def __post_init__(self) -> None:
        lengths = (self.min_length, self.max_length)
        _check_sentences(self.lexicon, self.batch, lengths, self.languages, self.shuffle, self.concepts)
        check_whole("n_ctx", self.n_ctx)
        low, high = 2 + self.max_length, 1 + len(self.languages) * self.min_length  # above: no language left to write
        if not low <= self.n_ctx <= high:
            raise ValueError(
                f"n_ctx must lie in 2 + max_length..1 + languages * min_length, {low}..{high}, got {self.n_ctx}"
            )

    def __call__(self, step: int) -> Int[Tensor, "b p"]:
        generator = generator_for(self.seed, step)
        pool = self.lexicon.concepts() if self.concepts is None else self.concepts
        drawn = _draw(pool, self.batch, self.max_length, generator)
        lengths = torch.randint(self.min_length, self.max_length + 1, (self.batch,), generator=generator)
        columns = torch.tensor([self.lexicon.column(language) for language in self.languages])
        columns = columns[_uniform((self.batch, len(columns)), generator).argsort(dim=1)]  # b part
        return _write(self.lexicon, drawn, lengths, columns, self.shuffle, self.n_ctx, generator).tokens


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers in 0..1, the same whatever PyTorch's default dtype is."""
    return torch.rand(shape, generator=generator, dtype=torch.float32)


def _draw(pool: Tensor, batch: int, length: int, generator: torch.Generator) -> Int[Tensor, "b length"]:
    """Different concepts in each row."""
    return pool[_uniform((batch, len(pool)), generator).argsort(dim=1)[:, :length]]


def _write(
    lexicon: Lexicon,
    drawn: Tensor,
    lengths: Tensor,
    columns: Tensor,
    shuffle: int,
    n_ctx: int,
    generator: torch.Generator,
) -> Translations:
    """Write the first `lengths` [b] of the concepts `drawn` [b longest] in every language `columns` [b part]."""
    (batch, longest), n_parts = drawn.shape, columns.shape[1]
    place = torch.arange(longest).expand(batch, n_parts, longest)
    late = _uniform((batch, n_parts, longest), generator) * shuffle  # places by which a word may come later
    late[:, 0] = 0
    beyond = place >= lengths[:, None, None]
    order = (place + late).masked_fill(beyond, torch.inf).argsort(dim=-1, stable=True)  # b part slot: which word
    slot = order.argsort(dim=-1)  # b part word: in which slot
    at, row = torch.arange(n_ctx - 1), torch.arange(batch)[:, None]
    part = at // lengths[:, None]  # b p, without the start token
    word = order[row, part, at % lengths[:, None]]
    concepts = drawn[row, word]
    tokens = 1 + columns[row, part] * len(lexicon) + concepts
    earlier = torch.arange(n_parts - 1)
    position = 1 + earlier * lengths[:, None, None] + slot[row[..., None], earlier, word[..., None]]  # b p earlier
    alignment = torch.where(earlier < part[..., None], position, -1)
    opened = [F.pad(rows, (1, 0), value=value) for rows, value in ((tokens, START), (concepts, -1), (part, -1))]
    return Translations(*opened, F.pad(alignment, (0, 0, 1, 0), value=-1))


def _check_sentences(
    lexicon: Lexicon,
    batch: int,
    lengths: tuple[int, int],
    languages: Sequence[str],
    shuffle: int,
    concepts: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Columns of the languages and concepts to draw from, once all arguments fit together."""
    if isinstance(languages, str) or len(languages) < 2:
        raise ValueError(f"languages must be at least 2 of {LANGUAGES}, got {languages!r}")
    columns = torch.tensor([lexicon.column(language) for language in languages])
    pool = lexicon.concepts() if concepts is None else concepts
    check_integers("concepts", pool, len(lexicon))
    if pool.ndim != 1 or len(pool.unique()) != len(pool):
        raise ValueError(f"concepts must be different, [n], got {pool.tolist()}")
    check_counts(batch=batch)
    for name, value in (("length", lengths[0]), ("length", lengths[1]), ("shuffle", shuffle)):
        check_whole(name, value)
    if not 2 <= lengths[0] <= lengths[1] <= len(pool):
        raise ValueError(f"need lengths from 2 to the number of concepts, {len(pool)}, got {lengths[0]}..{lengths[1]}")
    if not 0 <= 2 * shuffle <= lengths[0]:  # beyond it the word after a translation could be the query itself
        raise ValueError(f"shuffle must lie in 0..{lengths[0] // 2}, half of the length, got {shuffle}")
    return columns, pool
