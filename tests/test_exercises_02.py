"""Exercises 2.1 to 2.3: they agree with the course's own functions, and other right ways to write them pass."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import permutations

import pytest
import torch
import torch.nn.functional as F

from course_lib.grading.examine import PASSED, WRONG, examine
from course_lib.grading.load import find
from course_lib.grading.report import make_report
from course_lib.scores import per_token_loss


def random_text(batch, positions, d_vocab):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, positions, d_vocab, generator=generator)
    return logits, torch.randint(d_vocab, (batch, positions), generator=generator)


# --- the course's own functions, and the numbers of the notes ---------------------------------------------------


def test_without_padding_the_curve_is_the_mean_of_the_librarys_losses():
    logits, tokens = random_text(4, 6, 9)
    curve = find("2.1").reference(logits, tokens, torch.full((4,), 6))
    torch.testing.assert_close(curve, per_token_loss(logits, tokens).mean(dim=0))


def test_with_padding_each_row_counts_as_far_as_it_goes():
    logits, tokens = random_text(3, 5, 9)
    lengths = [5, 2, 4]
    rows = [per_token_loss(logits[r : r + 1, :n], tokens[r : r + 1, :n])[0] for r, n in enumerate(lengths)]
    curve = find("2.1").reference(logits, tokens, torch.tensor(lengths))
    expected = [torch.stack([row[i] for row in rows if len(row) > i]).mean() for i in range(4)]
    torch.testing.assert_close(curve, torch.stack(expected))


def test_entropy_is_that_of_torch_and_of_the_notes():
    counts = torch.tensor([[3, 1, 1, 0], [2, 2, 1, 0], [4, 4, 4, 4], [0, 0, 7, 0]])
    entropy = find("2.2").reference(counts)
    torch.testing.assert_close(
        entropy, torch.distributions.Categorical(probs=counts.float()).entropy(), atol=1e-5, rtol=0
    )
    assert entropy[:2].tolist() == pytest.approx([0.9503, 1.0549], abs=1e-4)
    assert (entropy[:2] / math.log(2)).tolist() == pytest.approx([1.3710, 1.5219], abs=1e-4)
    assert entropy[2:].tolist() == pytest.approx([math.log(4), 0.0])


@pytest.mark.parametrize(("low", "high", "n_tokens"), [(1, 3, 4), (2, 4, 5), (3, 3, 4)])
def test_the_copier_has_the_lowest_loss_that_counting_all_texts_allows(low, high, n_tokens):
    """Probabilities of the next token, counted over every segment of every length, are what nobody can improve on."""
    follows, texts = defaultdict(Counter), {}
    for length in range(low, high + 1):
        texts[length] = [segment * 2 for segment in permutations(range(n_tokens), length)]
        for text in texts[length]:
            for i in range(2 * length):
                follows[text[:i]][text[i]] += 1 / len(texts[length])
    for length in texts:
        counted = torch.zeros(2 * length)
        for text in texts[length]:
            for i in range(2 * length):
                if i > length:  # a text may end here or be the beginning of none other: nothing is uncertain
                    assert len(follows[text[:i]]) == 1
                seen = follows[text[:i]]
                counted[i] -= math.log(seen[text[i]] / seen.total()) / len(texts[length])
        torch.testing.assert_close(find("2.3").reference(length, low, high, n_tokens), counted, rtol=1e-4, atol=1e-5)


# --- other right answers ----------------------------------------------------------------------------------------


def curve_by_loop(logits, tokens, lengths):
    means = []
    for token in range(1, tokens.shape[1]):
        rows = [row for row in range(len(tokens)) if token < lengths[row]]
        losses = [F.cross_entropy(logits[row, token - 1], tokens[row, token]) for row in rows]
        means.append(sum(losses) / len(losses))
    return torch.stack(means)


def curve_by_logsumexp(logits, tokens, lengths):
    right = logits[:, :-1].gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
    losses = logits[:, :-1].logsumexp(dim=-1) - right
    losses = losses.masked_fill(torch.arange(1, tokens.shape[1]) >= lengths[:, None], torch.nan)
    return losses.nanmean(dim=0)


def entropy_of_what_came(counts):
    rows = counts.flatten(0, -2) if counts.ndim > 1 else counts[None]
    found = []
    for row in rows:
        p = row[row > 0] / row.sum()
        found.append((p * (1 / p).log()).sum())
    return torch.stack(found).reshape(counts.shape[:-1])


def entropy_with_a_small_number(counts):
    p = counts / counts.sum(dim=-1, keepdim=True)
    return -(p * (p + 1e-12).log()).sum(dim=-1)


def copier_without_a_loop(length, low, high, n_tokens):
    places = torch.arange(2 * length)
    ends = torch.where(places >= low, 1 / (high + 1 - places).clamp(min=1), 0.0)
    fresh = -((1 - ends) / (n_tokens - places)).log()
    return torch.where(places < length, fresh, torch.where(places == length, -ends.log(), 0.0))


def copier_by_counting_lengths(length, low, high, n_tokens):
    losses = []
    for i in range(2 * length):
        lengths = [n for n in range(low, high + 1) if n >= i]
        if i > length:
            p = 1.0
        elif i == length:
            p = lengths.count(i) / len(lengths)
        else:
            p = sum(n > i for n in lengths) / len(lengths) / (n_tokens - i)
        losses.append(-math.log(p))
    return torch.tensor(losses)


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("2.1", curve_by_loop),
        ("2.1", curve_by_logsumexp),
        ("2.2", entropy_of_what_came),
        ("2.2", entropy_with_a_small_number),
        ("2.3", copier_without_a_loop),
        ("2.3", copier_by_counting_lengths),
    ],
)
def test_other_right_answers_pass(exercise_id, answer):
    for seed in range(5):
        verdict = examine(find(exercise_id), answer, seed)
        assert verdict.state == PASSED, make_report(verdict)


def test_the_notes_own_conversion_is_named():
    """Bits, and then divided by ln 2, as the notes say one should."""

    def as_in_the_notes(counts):
        p = counts / counts.sum(dim=-1, keepdim=True)
        bits = torch.where(p > 0, -p * p.log2(), 0.0).sum(dim=-1)
        return bits / math.log(2)

    verdict = examine(find("2.2"), as_in_the_notes)
    assert verdict.state == WRONG
    assert verdict.diagnosis.name == "divided the wrong way"
