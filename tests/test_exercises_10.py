"""Exercises 10: right answers that are written differently pass, and the answers agree with the library."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from course_lib.attribution import path_ablation
from course_lib.attribution import score_paths as library_paths
from course_lib.circuits import full_ov_circuit
from course_lib.circuits import full_qk_circuit as library_qk
from course_lib.composition import composed_qk_circuit
from course_lib.factored import diagonal_statistics
from course_lib.grading import load
from course_lib.grading.examine import PASSED, WRONG, examine
from course_lib.grading.report import make_report
from course_lib.model import ModelConfig, Transformer, keep
from course_lib.scores import eigenvalue_copying_score, prefix_matching_score

CONFIG = ModelConfig(n_layers=2, n_heads=3, d_model=12, d_head=4, d_vocab=17, n_ctx=9)


@cache
def exercises():
    return load.load_source(load.source_folder() / "10_reverse_engineering.md")


def answer(exercise_id):
    return exercises()[exercise_id].reference


@pytest.fixture
def model():
    return Transformer(CONFIG, seed=3).double().requires_grad_(False)


@pytest.fixture
def tokens():
    return torch.randint(CONFIG.d_vocab, (2, 9), generator=torch.Generator().manual_seed(0))


# --- second right answers ---------------------------------------------------------------------------------------


def ranks_one_token_at_a_time(W_E, W_V, W_O, W_U, rows_at_once):
    rows = [embedding @ W_V @ W_O @ W_U for embedding in W_E]
    return torch.tensor([int((row > row[token]).sum()) for token, row in enumerate(rows)])


def ranks_with_slices(W_E, W_V, W_O, W_U, rows_at_once):
    ranks = torch.zeros(len(W_E), dtype=torch.int32)
    for start in range(0, len(W_E), rows_at_once):
        stop = min(start + rows_at_once, len(W_E))
        logits = W_E[start:stop] @ (W_V @ W_O @ W_U)
        own = logits[torch.arange(stop - start), torch.arange(start, stop)]
        ranks[start:stop] = (logits > own[:, None]).sum(dim=1, dtype=torch.int32)
    return ranks


def qk_entry_by_entry(W_E, W_Q, W_K):
    rows = [[(query @ W_Q) @ (key @ W_K) / W_K.shape[1] ** 0.5 for key in W_E] for query in W_E]
    return torch.tensor(rows)


def qk_from_the_middle(W_E, W_Q, W_K):
    return torch.einsum("vd,de,fe,wf->vw", W_E, W_Q, W_K, W_E) * W_Q.shape[-1] ** -0.5


def eigenvalues_of_the_full_circuit(W_E, W_V, W_O, W_U):
    scores = []
    for value, output in zip(W_V, W_O, strict=True):
        eigenvalues = torch.linalg.eigvals(W_E @ value @ output @ W_U)
        scores.append(eigenvalues.real.sum() / eigenvalues.abs().sum())
    return torch.stack(scores)


def trace_over_sizes(W_E, W_V, W_O, W_U):
    small = torch.einsum("hed,dv,vc,hcf->hef", W_O, W_U, W_E, W_V)
    return small.diagonal(dim1=1, dim2=2).sum(dim=1) / torch.linalg.eig(small).eigenvalues.abs().sum(dim=1)


def paths_in_a_loop(embedding, result, positions, W_Q, W_K):
    terms = [embedding, *result.unbind(1), positions.repeat(len(embedding), 1, 1)]
    paths = torch.zeros(len(embedding), len(terms), len(terms), len(positions), len(positions))
    for s, query in enumerate(terms):
        for t, key in enumerate(terms):
            for i in range(len(positions)):
                for j in range(i + 1):
                    score = ((query[:, i] @ W_Q) * (key[:, j] @ W_K)).sum(dim=-1)
                    paths[:, s, t, i, j] = score / math.sqrt(W_K.shape[-1])
    return paths


def paths_by_einsum(embedding, result, positions, W_Q, W_K):
    batch = len(embedding)
    terms = torch.cat([embedding[None], result.transpose(0, 1), positions.expand(1, batch, -1, -1)])
    q, k = torch.einsum("tbpd,de->tbpe", terms, W_Q), torch.einsum("tbpd,de->tbpe", terms, W_K / W_K.shape[-1] ** 0.5)
    seen = torch.ones(len(positions), len(positions)).tril()
    return torch.einsum("sbqe,tbke,qk->bstqk", q, k, seen)


def term_as_one_product(W_E, W_Q, W_K, W_V, W_O):
    return W_E @ W_Q @ W_K.T @ W_O.T @ W_V.T @ W_E.T / math.sqrt(W_K.shape[-1])


def term_pair_by_pair(W_E, W_Q, W_K, W_V, W_O):
    scores = torch.zeros(len(W_E), len(W_E))
    for a, looks in enumerate(W_E):
        for b, before in enumerate(W_E):
            scores[a, b] = (looks @ W_Q) @ (before @ W_V @ W_O @ W_K) / math.sqrt(W_Q.shape[-1])
    return scores


def cut_in_the_scores(resid, written, positions, W_Q, W_K, into):
    """Subtract the lost paths from the scores, and mask by hand."""
    reads = resid + positions
    scores = (reads @ W_Q) @ (reads @ W_K).mT
    lost = (written @ W_Q) @ (reads @ W_K).mT if into == "Q" else (reads @ W_Q) @ (written @ W_K).mT
    weights = ((scores - lost) / math.sqrt(W_Q.shape[-1])).exp().tril()
    return weights / weights.sum(dim=-1, keepdim=True)


def effects_in_a_loop(paths, targets):
    found = []
    for b, q in targets.any(dim=-1).nonzero().tolist():
        wanted = [k for k in range(q + 1) if targets[b, q, k]]
        rest = [k for k in range(q + 1) if not targets[b, q, k]]
        found.append(paths[b, :, :, q, wanted].mean(dim=-1) - paths[b, :, :, q, rest].mean(dim=-1))
    return sum(found) / len(found)


def effects_with_nan(paths, targets):
    """Empty rows give NaN, which `nanmean` leaves out."""
    seen = torch.ones(targets.shape[-2:], dtype=torch.bool).tril()
    wanted, rest = (
        paths.masked_fill(~keys[:, None, None], torch.nan).nanmean(dim=-1) for keys in (targets, seen & ~targets)
    )
    return (wanted - rest).nanmean(dim=(0, -1))


@pytest.mark.parametrize(
    ("exercise_id", "another"),
    [
        ("10.1", ranks_one_token_at_a_time),
        ("10.1", ranks_with_slices),
        ("10.2", qk_entry_by_entry),
        ("10.2", qk_from_the_middle),
        ("10.3", eigenvalues_of_the_full_circuit),
        ("10.3", trace_over_sizes),
        ("10.4", paths_in_a_loop),
        ("10.4", paths_by_einsum),
        ("10.5", term_as_one_product),
        ("10.5", term_pair_by_pair),
        ("10.6", cut_in_the_scores),
        ("10.7", effects_in_a_loop),
        ("10.7", effects_with_nan),
    ],
)
def test_another_right_answer_passes(exercise_id, another):
    for seed in range(2):
        verdict = examine(exercises()[exercise_id], another, seed)
        assert verdict.state == PASSED, make_report(verdict)


# --- agreement with the library ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rows_at_once", [1, 5, 17, 100])
def test_ranks_agree_with_the_library(model, rows_at_once):
    attn = model.blocks[1].attn
    ranks = answer("10.1")(model.W_E, attn.W_V[2], attn.W_O[2], model.W_U, rows_at_once)
    assert torch.equal(ranks, diagonal_statistics(full_ov_circuit(model, 1, 2)).ranks)


def test_the_full_qk_circuit_agrees_with_the_library(model):
    attn = model.blocks[0].attn
    ours = answer("10.2")(model.W_E, attn.W_Q[1], attn.W_K[1])
    torch.testing.assert_close(ours, library_qk(model, 0, 1).dense() / math.sqrt(CONFIG.d_head))


def test_eigenvalues_agree_with_the_library(model):
    attn = model.blocks[1].attn
    weights = (model.W_E, attn.W_V, attn.W_O, model.W_U)
    torch.testing.assert_close(answer("10.3")(*weights), eigenvalue_copying_score(*weights))


def test_paths_agree_with_the_library_and_sum_to_the_scores(model, tokens):
    attn, kept = model.blocks[1].attn, keep(model, tokens, ["resid_pre", "result", "attn_scores"])
    ours = answer("10.4")(kept["resid_pre", 0], kept["result", 0], model.W_pos[:9], attn.W_Q[1], attn.W_K[1])
    theirs = library_paths(model, tokens, 1, 1)
    assert theirs.names == ("embedding", "0.0", "0.1", "0.2", "positions")
    for s, query in enumerate(theirs.names):
        for t, key in enumerate(theirs.names):
            torch.testing.assert_close(ours[:, s, t], theirs.path(query, key))
    torch.testing.assert_close(ours.sum(dim=(1, 2)), kept["attn_scores", 1][:, 1].tril())


def test_the_composed_term_agrees_with_the_library(model):
    earlier, later = (block.attn for block in model.blocks)
    ours = answer("10.5")(model.W_E, later.W_Q[0], later.W_K[0], earlier.W_V[2], earlier.W_O[2])
    torch.testing.assert_close(ours, composed_qk_circuit(model, (0, 2), (1, 0)).dense() / math.sqrt(CONFIG.d_head))


@pytest.mark.parametrize("into", ["Q", "K"])
def test_the_cut_agrees_with_the_library(model, tokens, into):
    attn, kept = model.blocks[1].attn, keep(model, tokens, ["resid_post", "result"])
    stream, written = kept["resid_post", 0], kept["result", 0][:, 2]
    ours = answer("10.6")(stream, written, model.W_pos[:9], attn.W_Q[1], attn.W_K[1], into)
    seen, cut = {}, path_ablation(model, (0, 2), (1, 1), into)

    def tap(name, layer, value):
        seen[name, layer] = cut(name, layer, value)
        return seen[name, layer]

    model.residual(tokens, tap)
    torch.testing.assert_close(ours, seen["pattern", 1][:, 1])


# --- what the prompts promise -----------------------------------------------------------------------------------


class LargestTensor(TorchDispatchMode):
    """Remembers the most entries that any result of a torch operation had."""

    entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.entries = max(self.entries, result.numel())
        return result


def test_the_answer_never_holds_more_rows_than_asked():
    W_E, W_V, W_O, W_U = torch.randn(200, 4), torch.randn(4, 2), torch.randn(2, 4), torch.randn(4, 200)
    with LargestTensor() as largest:
        answer("10.1")(W_E, W_V, W_O, W_U, 7)
    assert largest.entries == 7 * 200


def test_planted_heads_have_the_scores_that_the_prompts_say():
    copies = next(case for case in exercises()["10.1"].draw(1) if "one half" in case.description)
    assert answer("10.1")(*copies.inputs.values()).tolist() == [0] * 6 + [11] * 6
    known = next(case for case in exercises()["10.3"].draw(1) if "turns" in case.description)
    torch.testing.assert_close(answer("10.3")(*known.inputs.values()), torch.tensor([1.0, -1.0, 0.5]).double())
    circuit = next(case for case in exercises()["10.4"].draw(1) if "hand-built" in case.description)
    used = answer("10.4")(*circuit.inputs.values()).abs().sum(dim=(0, 3, 4))
    assert used[0, 1] > 0 and used.sum() == used[0, 1]  # query: the embedding, key: head 0.0


def test_a_wrong_cut_shows_prefix_matching():
    task = exercises()["10.6"]
    mutant = next(mutant for mutant in task.mutants if mutant.name == "nothing cut")
    verdict = examine(task, mutant.function)
    assert verdict.state == WRONG
    assert "with your pattern it is 1.00" in repr(make_report(verdict))


def test_the_reported_prefix_matching_is_the_librarys():
    """All cases have the layout that the sentence of 10.6 counts on: a start token and two copies of a segment."""
    task = exercises()["10.6"]
    measure = task.reference.__globals__["prefix_matching"]
    for case in task.draw(0):
        pattern = task.reference(*case.inputs.values())
        length = (pattern.shape[-1] - 1) // 2
        tokens = torch.cat([torch.zeros(1), torch.arange(1, length + 1), torch.arange(1, length + 1)]).long()
        theirs = prefix_matching_score(pattern[:, None], tokens.expand(len(pattern), -1))
        assert measure(pattern).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_effects_add_up_and_ignore_what_lifts_whole_rows():
    effects, case = answer("10.7"), exercises()["10.7"].draw(0)[0]
    paths, targets = case.inputs["paths"].double(), case.inputs["targets"]
    whole = effects(paths.sum(dim=(1, 2), keepdim=True), targets)
    torch.testing.assert_close(effects(paths, targets).sum(), whole.sum())
    lifted = (paths + torch.randn(2, 3, 3, 6, 1)).tril()
    torch.testing.assert_close(effects(lifted, targets), effects(paths, targets))
    stripe = exercises()["10.7"].draw(0)[1]
    found = effects(*stripe.inputs.values())
    torch.testing.assert_close(found[0], torch.tensor([0.0, 4.0]))
    assert found[1, 1].abs() < 1e-5
