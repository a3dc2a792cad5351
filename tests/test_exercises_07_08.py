"""Chapters 7 and 8: the answers agree with the course library, and right answers written differently pass."""

from __future__ import annotations

import copy
import itertools
import math
from functools import cache, partial
from pathlib import Path

import pytest
import torch

from course_lib import ablation, positions, sweep
from course_lib.grading import load
from course_lib.grading.examine import PASSED, WRONG, examine
from course_lib.grading.report import make_report
from course_lib.grading.spec import Exercise
from course_lib.handbuilt import subspaces
from course_lib.icl import windowed_icl_score
from course_lib.model import keep

SOURCES = {"7": "07_smeared_keys.md", "8": "08_ablation.md"}


@cache
def source(chapter: str) -> dict[str, Exercise]:
    return load.load_source(Path(load.source_folder()) / SOURCES[chapter])


def find(exercise_id: str) -> Exercise:
    return source(exercise_id[0])[exercise_id]


def assert_passes(exercise_id, answer):
    for seed in range(3):
        verdict = examine(find(exercise_id), answer, seed)
        assert verdict.state == PASSED, make_report(verdict)


def diagnosed(exercise_id, answer):
    verdict = examine(find(exercise_id), answer)
    assert verdict.state == WRONG
    return verdict.diagnosis and verdict.diagnosis.name


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- chapter 7 --------------------------------------------------------------------------------------------------


def test_smear_agrees_with_the_course_library():
    k, alpha = torch.randn(2, 3, 6, 4, generator=generator()), torch.tensor([-2.0, 0.0, 1.5])
    assert torch.allclose(find("7.1").reference(k, alpha), positions.smear(k, alpha))


def test_smear_as_a_loop_passes():
    def loop(k, alpha):
        smeared = k.clone()
        for head, position in itertools.product(range(k.shape[1]), range(1, k.shape[2])):
            own = 1 / (1 + math.exp(-alpha[head].item()))
            smeared[:, head, position] = own * k[:, head, position] + (1 - own) * k[:, head, position - 1]
        return smeared

    assert_passes("7.1", loop)


def test_smear_in_place_is_a_running_mixture_that_changes_its_input():
    def in_place(k, alpha):
        own = alpha.sigmoid()[:, None]
        for position in range(1, k.shape[2]):
            k[:, :, position] = own * k[:, :, position] + (1 - own) * k[:, :, position - 1]
        return k

    assert diagnosed("7.1", in_place) == "running mixture"
    assert "changes its input `k`" in repr(make_report(examine(find("7.1"), in_place)))


def one_layer(d_vocab, n_ctx, own_share, sharpness=20.0, minus=2.0, basis=None):
    """The head of exercise 7.2 with another strength, and in another basis of its d_head coordinates."""
    blank = find("7.2").reference.__globals__["blank_model"]
    model, where = blank(d_vocab, n_ctx, own_share), subspaces(d_vocab, n_ctx)
    d_head = model.config.d_head
    turn = torch.eye(d_head) if basis is None else torch.linalg.qr(torch.randn(d_head, d_head, generator=basis)).Q
    head, tokens = model.blocks[0].attn, torch.eye(d_vocab)
    scale = math.sqrt(sharpness * math.sqrt(d_head))
    head.W_Q[0, where["token"]] = scale * turn[:d_vocab]
    head.W_K[0, where["token"]] = scale * turn[:d_vocab]
    head.W_V[0, where["token"]] = turn[:d_vocab]
    head.W_O[0, :, where["prediction"]] = turn[:d_vocab].T
    model.W_U[where["prediction"]] = tokens
    model.W_U[where["token"]] = -minus * tokens
    return model


@pytest.mark.parametrize(
    "options", [{}, {"sharpness": 10.0}, {"sharpness": 30.0}, {"minus": 1.0}, {"minus": 9.0}, {"basis": generator(1)}]
)
def test_other_right_weights_pass(options):
    assert examine(find("7.2"), lambda *inputs: one_layer(*inputs, **options)).state == PASSED


@pytest.mark.parametrize("sharpness", [50.0, 100.0, 1000.0])
def test_any_head_that_is_too_sharp_is_named(sharpness):
    assert diagnosed("7.2", lambda *inputs: one_layer(*inputs, sharpness=sharpness)) == "too sharp"
    chapter_7 = partial(one_layer, sharpness=sharpness, minus=1.0)
    assert diagnosed("7.2", lambda *inputs: chapter_7(*inputs)) == "too sharp"


def test_alpha_cannot_be_chosen_to_make_it_easy():
    def own_alpha(d_vocab, n_ctx, own_share):
        model = one_layer(d_vocab, n_ctx, own_share, minus=0.0)
        model.blocks[0].attn.alpha.fill_(-100.0)  # right for every sequence, with a share that was not asked for
        return model

    assert diagnosed("7.2", own_alpha) == "current token left in"


def test_the_shift_as_a_loop_passes():
    def loop(plain_tokens, plain_scores, smeared_tokens, smeared_scores, level):
        crossings = []
        for tokens, scores in ((plain_tokens, plain_scores), (smeared_tokens, smeared_scores)):
            tokens, scores, found = tokens.tolist(), scores.tolist(), float("inf")
            for i in range(len(scores)):
                if scores[i] >= level:
                    before = max(i - 1, 0)
                    rest = (scores[i] - level) / (scores[i] - scores[before]) if i else 0.0
                    found = tokens[i] - rest * (tokens[i] - tokens[before])
                    break
            crossings.append(torch.tensor(found))
        return crossings[0] / crossings[1]  # a tensor without axes may stand for a number

    assert_passes("7.3", loop)


def test_the_recorded_shift_has_the_sign_of_chapter_7():
    from course_lib.recorded import load_recorded

    runs = {}
    for run in load_recorded("series")["runs"]:
        tokens = torch.tensor([float(record["tokens"]) for record in run["records"]])
        runs[run["name"], run["seed"]] = tokens, torch.stack([r["prefix_matching"].max() for r in run["records"]])
    for seed in (0, 1):
        two = find("7.3").reference(*runs["2 layers", seed], *runs["2 layers, smeared keys", seed], 0.5)
        one = find("7.3").reference(*runs["1 layer", seed], *runs["1 layer, smeared keys", seed], 0.5)
        assert 1 < two < math.inf and one == math.inf


# --- chapter 8 --------------------------------------------------------------------------------------------------


@pytest.fixture
def model():
    return find("8.1").reference.__globals__["small_model"](seed=3, n_layers=3)


TOKENS = torch.randint(7, (4, 6), generator=generator())
HEADS = [[(0, 1)], [(1, 0), (1, 2)], [(2, 2), (0, 0)]]


@pytest.mark.parametrize("heads", HEADS)
def test_ablations_agree_with_the_course_library(model, heads):
    reference = torch.randint(7, (5, 8), generator=generator(1))
    zero = ablation.ablated_logits(model, TOKENS, heads)
    assert torch.allclose(find("8.1").reference(model, TOKENS, heads), zero, atol=1e-5)
    mean = ablation.ablated_logits(model, TOKENS, heads, "mean", reference)
    assert torch.allclose(find("8.2").reference(model, TOKENS, heads, reference), mean, atol=1e-5)
    preserved = ablation.ablated_logits(model, TOKENS, heads, "pattern_preserving")
    assert torch.allclose(find("8.3").reference(model, TOKENS, heads), preserved, atol=1e-5)


def test_zero_ablation_by_changed_weights_passes():
    def in_the_weights(model, tokens, heads):
        model = copy.deepcopy(model)
        for layer, head in heads:
            model.blocks[layer].attn.W_O[head] = 0.0
        return model(tokens)

    assert_passes("8.1", in_the_weights)


def test_changing_the_given_model_is_noticed():
    def in_the_given_model(model, tokens, heads):
        for layer, head in heads:
            model.blocks[layer].attn.W_O[head] = 0.0
        return model(tokens)

    assert "changes its input `model`" in repr(make_report(examine(find("8.1"), in_the_given_model)))


def test_mean_ablation_as_a_loop_passes():
    def loop(model, tokens, heads, reference):
        sums, count = {}, reference.numel()
        for sequence in reference:
            kept = keep(model, sequence[None], ["result"])
            for layer, head in heads:
                sums[layer, head] = sums.get((layer, head), 0) + kept["result", layer][0, head].sum(dim=0)

        def tap(name, layer, value):
            parts = list(value.unbind(dim=1)) if name == "result" else []
            for head in range(len(parts)):
                if (layer, head) in sums:
                    parts[head] = (sums[layer, head] / count).expand_as(parts[head])
            return torch.stack(parts, dim=1) if parts else value

        return model(tokens, tap=tap)

    assert_passes("8.2", loop)


def test_pattern_preserving_ablation_as_a_sum_over_paths_passes():
    def paths(model, tokens, heads):
        kept = keep(model, tokens, ["pattern"])
        total = model.W_E[tokens]
        for layer, block in enumerate(model.blocks):  # what has gone through earlier heads goes on through these
            added = torch.zeros_like(total)
            for head in set(range(model.config.n_heads)) - {h for at, h in heads if at == layer}:
                moved = kept["pattern", layer][:, head] @ total
                added += moved @ (block.attn.W_V[head] @ block.attn.W_O[head])
            total = total + added
        return total @ model.W_U

    assert_passes("8.3", paths)


def test_shares_agree_with_the_course_library(model):
    early, late = (1, 2), (4, 5)
    score = partial(windowed_icl_score, early=early, late=late)
    losses = sweep.ablation_sweep(model, TOKENS, lambda losses: losses)
    shares = find("8.4").reference(losses.base, losses.ablated, early, late)
    rows = sweep.icl_attribution(model, TOKENS, measure=score)
    changes = torch.tensor([row["change"] for row in rows])
    assert torch.allclose(shares.flatten(), changes / -score(losses.base), atol=1e-4)
    for row, share in zip(rows, shares.flatten().tolist(), strict=True):
        assert math.isnan(row["share"]) or row["share"] == pytest.approx(share, abs=1e-4)


def test_shares_as_a_loop_pass():
    def loop(whole, ablated, early, late):
        def score(losses):
            def window(first, last):
                values = [row[n - 1] for row in losses.tolist() for n in range(first, last + 1)]
                return sum(values) / len(values)

            return window(*late) - window(*early)

        base = score(whole)
        return torch.tensor([[1 - score(losses) / base for losses in layer] for layer in ablated])

    assert_passes("8.4", loop)


def test_the_before_and_after_score_agrees_with_the_course_library():
    before, after, whole, *heads = torch.rand(7, 3, 5, generator=generator())
    ablated = torch.stack(heads).view(2, 2, 3, 5)
    vector = sweep.before_and_after_vector(before, after)
    scores = find("8.5").reference(before, after, whole, ablated)
    for layer, head in itertools.product(range(2), range(2)):
        expected = sweep.before_and_after_score(vector, ablated[layer, head], whole)
        assert scores[layer, head].item() == pytest.approx(expected, rel=1e-4)


def test_the_before_and_after_score_by_einsum_passes():
    def flat(before, after, whole, ablated):
        vector = torch.nn.functional.normalize((after - before).flatten(), dim=0)
        return torch.einsum("lht,t->lh", ablated.flatten(2) - whole.flatten(), vector)

    assert_passes("8.5", flat)


def test_the_excess_as_a_loop_over_sets_passes():
    def loop(removed, losses):
        loss_of = {frozenset(row.nonzero().flatten().tolist()): loss for row, loss in zip(removed, losses, strict=True)}
        whole = loss_of[frozenset()]
        found = []
        for row in removed:
            members = frozenset(row.nonzero().flatten().tolist())
            singles = sum(loss_of[frozenset([head])] - whole for head in members)
            found.append(loss_of[members] - whole - singles)
        return torch.stack(found)

    assert_passes("8.6", loop)


def test_the_planted_team_has_the_largest_excess():
    removed = torch.tensor(list(itertools.product([False, True], repeat=4)))
    twins = removed[:, [1, 3]].all(dim=1)
    losses = 2 + removed.float() @ torch.tensor([0.9, 0.1, 0.4, 0.2]) + 0.7 * twins
    excess = find("8.6").reference(removed, losses)
    assert torch.allclose(excess, 0.7 * twins, atol=1e-5)
