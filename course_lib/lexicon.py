"""The trilingual lexicon: everyday words in English, French and German, and the word-level vocabulary made of them.

The words stand in `assets/lexicon.csv`, one concept a row, each in one category. Nouns have no article. Each language
keeps its own capitals: German nouns, English months and days. It was written for this course.
"""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from course_lib.config import check_integers

LEXICON_FILE = Path(__file__).parent / "assets" / "lexicon.csv"
LANGUAGES = ("english", "french", "german")
COLUMNS = (*LANGUAGES, "category")
SYMBOLS = (":", "\n", "0", "1", "2", "3")  # of the pattern task


@dataclass(frozen=True)
class Lexicon:
    """Concepts with their word in each language, and the token ids of these words. Made by `load_lexicon`.

    Token 0 opens a sequence; then come all English words, all French, all German, and the symbols of the pattern task.
    Each language has tokens of its own, also where two languages write a word alike ("orange"):
    so no translation is a literal copy.
    """

    words: tuple[tuple[str, ...], ...]  # one row a concept, in the order of LANGUAGES
    categories: tuple[str, ...]  # of each concept

    def __len__(self) -> int:
        """Number of concepts."""
        return len(self.words)

    @property
    def d_vocab(self) -> int:
        """Number of tokens, start token and symbols included."""
        return len(self.vocabulary)

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """What each token id stands for."""
        return ("<start>", *(word for column in zip(*self.words, strict=True) for word in column), *SYMBOLS)

    def column(self, language: str) -> int:
        """The place of a language in LANGUAGES.

        Raises:
            ValueError: a language that the lexicon does not have.
        """
        if language not in LANGUAGES:
            raise ValueError(f"language must be one of {LANGUAGES}, got {language!r}")
        return LANGUAGES.index(language)

    def tokens(self, language: str, concepts: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Token ids of these concepts (rows of the lexicon) in one language; the shape is kept.

        Raises:
            ValueError: an unknown language, a concept outside 0..len - 1.
        """
        column = self.column(language)
        check_integers("concepts", concepts, len(self))
        return 1 + column * len(self) + concepts

    def symbol(self, text: str) -> int:
        """Token id of one of SYMBOLS.

        Raises:
            ValueError: another text.
        """
        if text not in SYMBOLS:
            raise ValueError(f"text must be one of {SYMBOLS}, got {text!r}")
        return 1 + len(LANGUAGES) * len(self) + SYMBOLS.index(text)

    def concepts(self, *categories: str) -> Int[Tensor, " n"]:
        """The concepts (rows of the lexicon) of some categories, in the lexicon's order; of all when none is named.

        Raises:
            ValueError: a category that the lexicon does not have.
        """
        for category in categories:
            if category not in self.categories:
                raise ValueError(f"no category {category!r}; the lexicon has {sorted(set(self.categories))}")
        return torch.tensor([i for i, name in enumerate(self.categories) if not categories or name in categories])

    def decode(self, tokens: Sequence[int] | Int[Tensor, " p"]) -> list[str]:
        """The words of one row of tokens.

        Raises:
            ValueError: a token outside the vocabulary.
        """
        ids = tokens.tolist() if isinstance(tokens, Tensor) else list(tokens)
        if not all(0 <= i < self.d_vocab for i in ids):
            raise ValueError(f"tokens must lie in 0..{self.d_vocab - 1}, got {ids}")
        return [self.vocabulary[i] for i in ids]


def load_lexicon(path: Path | str = LEXICON_FILE) -> Lexicon:
    """Read and check a lexicon: a UTF-8 CSV file with the columns english, french, german, category.

    Args:
        path: the file; by default the course's own. Words in it must be single words, for tokens are words.

    Raises:
        ValueError: with file and line: no such file, another encoding, other columns, an empty field,
            a word that stands twice in one language (capitals aside), a space in a word, no words at all.
    """
    if not Path(path).is_file():
        raise ValueError(f"no lexicon at {path}; load_lexicon() reads the course's own")
    words, categories, seen = [], [], {}
    for line, fields in _rows(Path(path)):
        problem = _problem(fields, seen)
        if problem:
            raise ValueError(f"{path}, line {line}: {problem}")
        seen |= {(language, word.casefold()): line for language, word in zip(LANGUAGES, fields, strict=False)}
        words.append(tuple(fields[:-1]))
        categories.append(fields[-1])
    if not words:
        raise ValueError(f"{path}, line 2: a lexicon needs at least one row of words below its header, got none")
    return Lexicon(tuple(words), tuple(categories))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every row below the header, which is checked; blank lines are skipped."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: not UTF-8; save the file with that encoding") from None
    reader = csv.reader(unicodedata.normalize("NFC", text).splitlines())  # one code point an accented letter
    header = next(reader, [])
    if header != list(COLUMNS):
        raise ValueError(
            f"{path}, line 1: the columns must be {','.join(COLUMNS)}, got {','.join(header) or 'nothing'}"
        )
    yield from ((reader.line_num, fields) for fields in reader if fields)


def _problem(fields: list[str], seen: dict[tuple[str, str], int]) -> str | None:
    """What is wrong with one row, or None."""
    if len(fields) != len(COLUMNS):
        return f"want {len(COLUMNS)} fields ({','.join(COLUMNS)}), got {len(fields)}"
    for column, text in zip(COLUMNS, fields, strict=True):
        if not text or any(letter.isspace() for letter in text):
            return f"{column} must be one word without spaces, got {text!r}"
        if (column, text.casefold()) in seen:
            return f"the {column} word {text!r} stands already in line {seen[column, text.casefold()]}"
    return None
