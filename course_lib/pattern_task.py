"""The four-template pattern task (argument 4): lines of two words, labelled by the kinds of both words together.

Words come from `lexicon.py`; how heads are scored on this data stands in `fuzzy.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from course_lib.config import check_counts
from course_lib.data import START, generator_for
from course_lib.lexicon import Lexicon

TEMPLATES = (("month", "animal"), ("month", "fruit"), ("color", "animal"), ("color", "fruit"))  # kinds 0, 1, 2, 3
LINE = 5  # tokens of a line of the pattern task: word, word, ":", label, end of line
COLON, LABEL = 2, 3  # places in the line


@dataclass(frozen=True, eq=False)
class PatternTask:
    """Prompts of labelled lines such as "January bird: 0", all of LINE tokens; made by `pattern_tasks`."""

    tokens: Int[Tensor, "b p"]  # start token, then the lines
    kinds: Int[Tensor, "b lines"]  # which of TEMPLATES
    labels: Int[Tensor, "b lines"]  # the digit that stands after ":"

    def __post_init__(self) -> None:
        wanted = (len(self.kinds), 1 + LINE * self.kinds.shape[-1])
        if self.tokens.shape != wanted or self.labels.shape != self.kinds.shape:
            shapes = [list(part.shape) for part in (self.tokens, self.kinds, self.labels)]
            raise ValueError(f"tokens, kinds and labels of {LINE} tokens a line do not fit one another, got {shapes}")

    @property
    def colons(self) -> Int[Tensor, " lines"]:
        """Position of the ":" of each line, the same in every row. The label stands one further."""
        return 1 + COLON + LINE * torch.arange(self.kinds.shape[1])

    @property
    def seen(self) -> Bool[Tensor, "b lines"]:
        """True where an earlier line of the row is of the same kind, so that the label can be read off the context."""
        return (self.kinds[:, :, None] == self.kinds[:, None, :]).tril(-1).any(dim=-1)


def pattern_tasks(
    lexicon: Lexicon,
    batch: int,
    lines: int,
    generator: torch.Generator,
    permute_labels: bool = False,
    language: str = "english",
) -> PatternTask:
    """Prompts of lines of the four kinds of TEMPLATES in random order, each followed by the label of its kind.

    Example: "<start> January bird : 0 \\n red apple : 3 \\n May apple : 1 \\n green cat : 2 \\n".
    Neither word of a line is enough to name its kind, so an earlier line that shares a word may be of the wrong kind.

    Args:
        lexicon: from `load_lexicon`.
        batch: number of prompts.
        lines: lines in a prompt, at least 2; kinds and words are drawn with replacement.
        generator: source of randomness; the same seed gives the same lines with and without `permute_labels`.
        permute_labels: False: the labels of the paper. A trained model can then know them by heart.
            True: each prompt hands out the four digits anew, and only its earlier lines tell which is which.
        language: of the words.

    Raises:
        ValueError: batch below 1, fewer than 2 lines, an unknown language, a lexicon without these categories.

    Source: Olsson et al. 2022, argument 4, pattern matching.
    """
    check_counts(batch=batch)
    check_counts(2, lines=lines)
    shape = (batch, lines)
    kinds = torch.randint(len(TEMPLATES), shape, generator=generator)
    digits = torch.rand(batch, len(TEMPLATES), generator=generator, dtype=torch.float32).argsort(dim=1)  # b kind
    labels = digits.gather(1, kinds) if permute_labels else kinds
    drawn = {}  # a word of every category for every line; the kind then picks two of them
    for category in sorted(set(sum(TEMPLATES, ()))):
        pool = lexicon.tokens(language, lexicon.concepts(category))
        drawn[category] = pool[torch.randint(len(pool), shape, generator=generator)]
    words = [torch.stack([drawn[template[place]] for template in TEMPLATES], dim=-1) for place in (0, 1)]
    words = [choice.gather(-1, kinds[..., None])[..., 0] for choice in words]
    colon, end = (torch.full(shape, lexicon.symbol(text)) for text in (":", "\n"))
    digit = lexicon.symbol("0") + labels
    text = torch.stack([*words, colon, digit, end], dim=-1).flatten(1)  # b p
    return PatternTask(torch.cat([torch.full((batch, 1), START), text], dim=1), kinds, labels)


@dataclass(frozen=True)
class PatternBatches:
    """Training data: prompts of `pattern_tasks`. A step gives tokens [batch, 1 + 5 * lines]; pure in seed and step."""

    lexicon: Lexicon
    batch: int = 32
    lines: int = 16
    permute_labels: bool = False
    language: str = "english"
    seed: int = 0

    def __post_init__(self) -> None:
        self(0)  # every argument is checked where the prompts are made

    def __call__(self, step: int) -> Int[Tensor, "b p"]:
        generator = generator_for(self.seed, step)
        return pattern_tasks(self.lexicon, self.batch, self.lines, generator, self.permute_labels, self.language).tokens
