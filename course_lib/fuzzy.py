"""Fuzzy induction (argument 4): how far a head copies by meaning or by kind, measured on attention patterns.

An induction head goes from [A] to what followed an earlier [A]. A fuzzy one does so when the earlier word only
means the same, or is only of the same kind. The lexicon and the generators can be imported from here too.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from course_lib.lexicon import LANGUAGES, Lexicon, load_lexicon
from course_lib.pattern_task import LABEL, LINE, TEMPLATES, PatternBatches, PatternTask, pattern_tasks
from course_lib.scores import check_attention
from course_lib.translation import TranslationBatches, Translations, translated_sentences

__all__ = [
    "LANGUAGES",
    "TEMPLATES",
    "Lexicon",
    "PatternBatches",
    "PatternTask",
    "TranslationBatches",
    "Translations",
    "literal_copies",
    "load_lexicon",
    "pattern_attention_share",
    "pattern_chance",
    "pattern_targets",
    "pattern_tasks",
    "translated_sentences",
    "translation_chance",
    "translation_match",
    "translation_targets",
]

PLACES = ("line", "label")


def translation_match(
    pattern: Float[Tensor, "*layers b h q k"], alignment: Int[Tensor, "b p earlier"]
) -> Float[Tensor, "*layers h"]:
    """Mean attention from a word to the word AFTER its translations in earlier parts. 0..1; 1 is a perfect fuzzy head.

    The attention is summed over the translations and averaged over the words that have one. It can be compared with
    `scores.prefix_matching_score` and agrees with it where the translations are literal copies. A high score says
    where a head looks, not what it writes; for comparison with chance see `translation_chance`.

    Args:
        pattern: attention, [..., batch, head, query_pos, key_pos].
        alignment: position of the translation of each position in each earlier part, -1 where there is none,
            [batch, pos, earlier]; `Translations.alignment`, or an alignment of your own of a real text.

    Returns:
        One score a head; leading axes (layers) are kept.

    Raises:
        ValueError: shapes that do not fit, attention outside 0..1, a translation that is not earlier, or none at all.

    Source: Olsson et al. 2022, argument 4, translation. As with prefix matching, the mechanism is offset +1: attention
        to the translation itself does not count.
    """
    return _attention_to(translation_targets(alignment), pattern)


def translation_targets(alignment: Int[Tensor, "b p earlier"]) -> Bool[Tensor, "b p p"]:
    """Where a fuzzy induction head should look: True at [b, q, k] when key k - 1 is a translation of query q.

    Raises:
        ValueError: another shape, a position below -1, a translation that does not stand before its query.
    """
    if alignment.ndim != 3 or alignment.numel() == 0:
        raise ValueError(
            f"alignment must have shape [batch, pos, earlier] and not be empty, got {list(alignment.shape)}"
        )
    pos = torch.arange(alignment.shape[1], device=alignment.device)
    if bool((alignment < -1).any()) or bool((alignment >= pos[:, None]).any()):
        raise ValueError("alignment must hold -1 or a position before that of the query")
    return (((alignment + 1)[..., None] == pos) & (alignment >= 0)[..., None]).any(dim=2)


def translation_chance(alignment: Int[Tensor, "b p earlier"]) -> float:
    """The `translation_match` of a head that attends to all it can see alike: mean of n / (q + 1), in 0..1.

    n is the number of translations of query q. Errors as in `translation_targets`, and when nothing has a translation.
    """
    return _chance(translation_targets(alignment))


def literal_copies(sentences: Translations) -> Int[Tensor, "b p"]:
    """The first part of each row, repeated as it stands instead of translated: tokens of the same shape.

    Score the same heads on them with `scores.prefix_matching_score(pattern, tokens)`, which agrees with
    `translation_match` wherever translations are literal copies.
    """
    n_parts = sentences.alignment.shape[-1] + 1
    length = (sentences.tokens.shape[1] - 1) // n_parts
    first = sentences.tokens[:, 1 : 1 + length]
    return torch.cat([sentences.tokens[:, :1], first.repeat(1, n_parts)], dim=1)


def pattern_attention_share(
    pattern: Float[Tensor, "*layers b h q k"], task: PatternTask, at: str = "line"
) -> Float[Tensor, "*layers h"]:
    """Share of the attention from ":" that goes to earlier lines of the same kind. 0..1; the paper's head: about 0.65.

    Averaged over every ":" that has such a line before it. The share is one of ALL attention: what rests on the start
    token or on the own line counts against the head, as in the paper, which states no exclusion. So a head that is
    idle half the time can reach 0.5 at most. High: it matches by kind. For comparison with chance see `pattern_chance`.

    Args:
        pattern: attention on `task.tokens`, [..., batch, head, query_pos, key_pos].
        task: the prompts, from `pattern_tasks`.
        at: "line": attention to any token of such a line (the paper speaks of lines);
            "label": only to its label, the token AFTER ":", which is what an induction head copies.

    Returns:
        One score a head; leading axes (layers) are kept.

    Raises:
        ValueError: shapes that do not fit, attention outside 0..1, another `at`, no kind that comes back.

    Source: Olsson et al. 2022, argument 4, pattern matching.
    """
    return _attention_to(pattern_targets(task, at), pattern)


def pattern_targets(task: PatternTask, at: str = "line") -> Bool[Tensor, "b p p"]:
    """True at [b, q, k] when q is a ":" and k lies in an earlier line of the same kind (`at` as in the share).

    Raises:
        ValueError: `at` is neither "line" nor "label".
    """
    if at not in PLACES:
        raise ValueError(f"at must be one of {PLACES}, got {at!r}")
    batch, pos = task.tokens.shape
    lines = task.kinds.shape[1]
    same = (task.kinds[:, :, None] == task.kinds[:, None, :]).tril(-1)  # b line line: the second is earlier
    keys = torch.zeros(lines, LINE, dtype=torch.bool)
    keys[:, slice(None) if at == "line" else LABEL] = True
    target = torch.zeros(batch, pos, pos, dtype=torch.bool)
    target[:, task.colons, 1:] = (same[..., None] & keys).flatten(2)
    return target


def pattern_chance(task: PatternTask, at: str = "line") -> float:
    """The `pattern_attention_share` of a head that attends to all it can see alike: mean of n / (q + 1), in 0..1.

    n is the number of target positions of query q, a ":". About 1/4 for long prompts and `at="line"`, and a fifth of
    that for "label". Errors as in `pattern_targets`, and when no kind comes back.
    """
    return _chance(pattern_targets(task, at))


def _attention_to(target: Tensor, pattern: Tensor) -> Tensor:
    """Attention on the targets, summed over keys, averaged over the queries that have any: [..., h]."""
    if pattern.ndim < 4 or pattern.numel() == 0 or (pattern.shape[-4], *pattern.shape[-2:]) != tuple(target.shape):
        wanted = f"[..., {target.shape[0]}, head, {target.shape[1]}, {target.shape[2]}]"
        raise ValueError(
            f"pattern must have shape {wanted} to fit the data and not be empty, got {list(pattern.shape)}"
        )
    check_attention(pattern)
    weight = target.to(pattern.device, pattern.dtype)
    return torch.einsum("...bhqk,bqk->...h", pattern, weight) / _queries(target)


def _chance(target: Tensor) -> float:
    visible = torch.arange(1, target.shape[1] + 1, device=target.device)  # keys that query q can see
    return float((target.sum(dim=-1) / visible).sum()) / _queries(target)


def _queries(target: Tensor) -> int:
    queries = int(target.any(dim=-1).sum())
    if queries == 0:
        raise ValueError(
            "no position has anything earlier to match: no translation, or no kind of line that comes back"
        )
    return queries
