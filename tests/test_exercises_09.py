"""Exercises 9: agreement with the course's own scores, and right answers that are written in another way."""

import pytest
import torch

from course_lib.fuzzy import (
    Translations,
    literal_copies,
    load_lexicon,
    pattern_targets,
    pattern_tasks,
    translated_sentences,
    translation_match,
)
from course_lib.grading import load
from course_lib.grading.examine import PASSED, WRONG, examine
from course_lib.grading.report import make_report
from course_lib.scores import prefix_matching_score

EXERCISES = load.load_source(load.source_folder() / "09_fuzzy_induction.md")
LEXICON = load_lexicon()


def patterns(batch, heads, positions, seed=0):
    scores = torch.randn(batch, heads, positions, positions, generator=torch.Generator().manual_seed(seed))
    return scores.masked_fill(torch.ones(positions, positions, dtype=torch.bool).triu(1), -torch.inf).softmax(dim=-1)


def sentences(**options) -> Translations:
    return translated_sentences(LEXICON, 3, 5, torch.Generator().manual_seed(1), shuffle=2, **options)


def even(positions):
    """A head that spreads its attention evenly over all that it can see."""
    return torch.ones(positions, positions).tril() / torch.arange(1, positions + 1)[:, None]


def loop_match(pattern, alignment):
    total, queries = torch.zeros(pattern.shape[1]), 0
    for b, row in enumerate(alignment.tolist()):
        for q, places in enumerate(row):
            found = [place for place in places if place != -1]
            queries += bool(found)
            for place in found:
                total += pattern[b, :, q, place + 1]
    return total / queries


def loop_share(pattern, kinds):
    for_same, for_other = [], []
    for b, row in enumerate(kinds.tolist()):
        for line in range(len(row)):
            to = [pattern[b, :, 3 + 5 * line, 1 + 5 * j : 6 + 5 * j].sum(dim=-1) for j in range(line)]
            same = [to[j] for j in range(line) if row[j] == row[line]]
            other = [to[j] for j in range(line) if row[j] != row[line]]
            if same and other:
                for_same.append(sum(same) / len(same))
                for_other.append(sum(other) / len(other))
    a, b = sum(for_same), sum(for_other)
    return a / (a + b)


def loop_likeness(pattern, tokens, similarity):
    earned, best = torch.zeros(pattern.shape[1]), 0.0
    for b, row in enumerate(tokens.tolist()):
        for q in range(1, len(row)):
            worth = [similarity[row[q], row[k - 1]] for k in range(1, q + 1)]
            best = best + max(worth)
            earned += sum(w * pattern[b, :, q, k] for k, w in enumerate(worth, start=1))
    return earned / best


@pytest.mark.parametrize(("exercise_id", "other"), [("9.1", loop_match), ("9.2", loop_share), ("9.3", loop_likeness)])
def test_a_loop_passes(exercise_id, other):
    verdict = examine(EXERCISES[exercise_id], other)
    assert verdict.state == PASSED, make_report(verdict)


def test_translation_match_agrees_with_the_course_library():
    data = sentences()
    pattern = patterns(3, 2, data.tokens.shape[1])
    ours = EXERCISES["9.1"].reference(pattern, data.alignment)
    torch.testing.assert_close(ours, translation_match(pattern, data.alignment))


def test_a_row_mean_without_guard_is_told_of_nan():
    def rows(pattern, alignment):
        weight = (alignment >= 0)[:, None]
        index = (alignment + 1)[:, None].expand(-1, pattern.shape[1], -1, -1)
        found = (pattern.gather(-1, index) * weight).sum(dim=(2, 3))
        return (found / (alignment >= 0).any(dim=-1).sum(dim=1)[:, None]).mean(dim=0)

    verdict = examine(EXERCISES["9.1"], rows)
    assert verdict.state == WRONG
    assert "NaN" in verdict.diagnosis.sentence


def test_an_even_head_has_no_preference():
    kinds = torch.randint(4, (3, 9), generator=torch.Generator().manual_seed(0))
    pattern = even(46).expand(3, 1, 46, 46)
    assert EXERCISES["9.2"].reference(pattern, kinds).item() == pytest.approx(0.5)


def test_the_share_is_made_of_the_librarys_targets():
    task = pattern_tasks(LEXICON, 1, 3, torch.Generator().manual_seed(0))
    kinds = torch.tensor([[1, 2, 1]])
    task = type(task)(task.tokens, kinds, kinds)
    pattern = patterns(1, 2, 16)
    same = (pattern * pattern_targets(task)[:, None])[0, :, 13].sum(dim=-1)
    other = pattern[0, :, 13, 6:11].sum(dim=-1)
    torch.testing.assert_close(EXERCISES["9.2"].reference(pattern, kinds), same / (same + other))


def test_likeness_is_prefix_matching_with_the_identity():
    tokens = literal_copies(sentences())
    pattern = patterns(3, 2, tokens.shape[1])
    ours = EXERCISES["9.3"].reference(pattern, tokens, torch.eye(LEXICON.d_vocab))
    torch.testing.assert_close(ours, prefix_matching_score(pattern, tokens))


def test_likeness_is_translation_match_with_a_lexicon():
    data = sentences(languages=("english", "german"))
    n = len(LEXICON)
    concept = torch.arange(1, LEXICON.d_vocab) - 1
    similarity = torch.zeros(LEXICON.d_vocab, LEXICON.d_vocab)
    words = concept[: 3 * n]
    similarity[1 : 1 + 3 * n, 1 : 1 + 3 * n] = (words[:, None] % n == words % n).float()
    pattern = patterns(3, 2, data.tokens.shape[1])
    ours = EXERCISES["9.3"].reference(pattern, data.tokens, similarity)
    torch.testing.assert_close(ours, translation_match(pattern, data.alignment))
