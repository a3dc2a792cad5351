"""The learner's side of checking: comparison, states, diagnosis, messages, pictures, sources, the notebook's calls."""

from __future__ import annotations

import os
import random
import re
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from course_lib.grading import (
    Case,
    CheckFailed,
    Exercise,
    Measure,
    Mutant,
    Tolerance,
    check,
    exercise,
    hint,
    load,
    source,
    transforms,
    values,
)
from course_lib.grading import notebook as front
from course_lib.grading.compare import compare, default_tolerance, equal
from course_lib.grading.examine import ERROR, NOT_ATTEMPTED, PASSED, STATES, WRONG, examine, judge
from course_lib.grading.picture import picture
from course_lib.grading.properties import find_emptiness, find_property
from course_lib.grading.report import make_report
from course_lib.grading.run import Outcome, run
from course_lib.model import ModelConfig, Transformer


def row_means(x):
    return x.mean(dim=-1)


def toy(**changes) -> Exercise:
    """Mean over the last axis of a [3, 4] tensor."""
    specification = dict(
        id="99.1",
        title="Row means",
        reference=row_means,
        difficulty=1,
        minutes=5,
        cases=lambda generator: [
            Case("a small one", dict(x=torch.rand(3, 4, generator=generator) + 0.1)),
            Case("a larger one", dict(x=torch.rand(5, 6, generator=generator) + 0.1)),
        ],
        mutants=[
            Mutant("sum", "You add up: take the `mean`.", lambda x: x.sum(dim=-1)),
            Mutant("columns", "You average over the rows.", lambda x: x.mean(dim=0)),
            Mutant("maximum", "You take the largest.", lambda x: x.max(dim=-1).values),
            Mutant("minimum", "You take the smallest.", lambda x: x.min(dim=-1).values),
        ],
        hints=("first", "second with `code`", "third"),
        next_step="Onwards.",
        axes=("row",),
    )
    return Exercise(**{**specification, **changes})


def verdict_of(answer, **changes):
    return examine(toy(**changes), answer)


def text_of(answer, **changes) -> str:
    return repr(make_report(verdict_of(answer, **changes)))


# --- comparison -------------------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0 + 1e-6])),
        (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64)),
        (torch.tensor([1.0], dtype=torch.float64), torch.tensor([1.0])),
        (torch.tensor([1.0]), torch.nn.Parameter(torch.tensor([1.0]))),
        (torch.tensor([NAN, INF, -INF]), torch.tensor([NAN, INF, -INF])),
        (torch.tensor([1, 2]), torch.tensor([1, 2], dtype=torch.int32)),
        (torch.tensor([True]), torch.tensor([True])),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 2j])),
        (torch.empty(0, 3), torch.empty(0, 3)),
        (torch.tensor(2.0), torch.tensor(2.0)),
        (0.5, 0.5),
        (0.5, torch.tensor(0.5)),
        (3.0, 3),
    ],
)
def test_equal_values_compare_equal(expected, got):
    assert compare(expected, got).equal and equal(expected, got)


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [
        (torch.zeros(2), torch.zeros(1), "shape [1]; wanted is [2]"),  # would broadcast
        (torch.zeros(2, 2), torch.zeros(2), "shape [2]; wanted is [2, 2]"),
        (torch.zeros(2, 3), torch.zeros(3, 2), "axes stand in the opposite order"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64), "dtype int64; wanted is float32"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float16), "dtype float16; wanted is float32"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.bool), "dtype bool"),
        (torch.zeros(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int64), "dtype int64; wanted is bool"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.complex64), "dtype complex64"),
        (torch.zeros(2), [0.0, 0.0], "a list of 2 (a float, a float); wanted is a tensor of shape [2], float32"),
        (torch.zeros(2), np.zeros(2), "a numpy ndarray of shape [2], float64"),
        (torch.zeros(()), 0.0, "is a float; wanted is a tensor"),
        (torch.zeros(2), None, "Did you forget `return`?"),
        (torch.zeros(2), torch.zeros(2).to_sparse(), "without ordinary storage"),
        (torch.zeros(2), torch.zeros(2, device="meta"), "without ordinary storage"),
        (0.5, "half", "is a str; wanted is a plain number"),
        (0.5, True, "is a bool; wanted is a plain number"),
        (0.5, torch.zeros(1), "wanted is a plain number"),
    ],
)
def test_a_mismatch_of_kind_is_named_and_no_numbers_are_compared(expected, got, words):
    comparison = compare(expected, got)
    assert not comparison.equal and not equal(expected, got)
    assert words in comparison.mismatch
    assert comparison.bad is None


def test_a_subclass_that_says_it_equals_everything_is_no_tensor():
    class Liar(torch.Tensor):
        def __eq__(self, other):
            return torch.ones(2, dtype=torch.bool)

    comparison = compare(torch.zeros(2), torch.ones(2).as_subclass(Liar))
    assert "Liar (a subclass of torch.Tensor)" in comparison.mismatch


def test_numbers_are_located():
    expected, got = torch.zeros(2, 3), torch.zeros(2, 3)
    got[0, 2], got[1, 1] = 0.5, -2.0
    comparison = compare(expected, got)
    assert (comparison.n_bad, comparison.first_bad, comparison.worst) == (2, (0, 2), (1, 1))
    assert not equal(expected, got)
    assert comparison.worst_error == pytest.approx(2.0)


@pytest.mark.parametrize(("expected", "got"), [(1.0, NAN), (NAN, 1.0), (INF, 1.0), (1.0, INF), (INF, -INF), (INF, NAN)])
def test_nan_and_infinity_must_stand_at_the_same_places(expected, got):
    comparison = compare(torch.tensor([0.0, expected]), torch.tensor([0.0, got]))
    assert comparison.first_bad == (1,)
    assert comparison.worst_error == INF


def test_tolerance_is_that_of_the_exercise_and_whole_numbers_are_exact():
    for one in (lambda *pair: compare(*pair).equal, equal):
        assert one(torch.tensor([1.0]), torch.tensor([1.05]), Tolerance(0.0, 0.1))
        assert not one(torch.tensor([100]), torch.tensor([101]), Tolerance(0.1, 5.0))
        assert not one(torch.tensor([2**60]), torch.tensor([2**60 + 1]))  # float64 cannot tell them apart
    assert default_tolerance(torch.bfloat16).rtol > default_tolerance(torch.float32).rtol


def test_a_tolerance_must_be_finite():
    with pytest.raises(ValueError, match=r"atol.*inf"):
        Tolerance(0.0, INF)


def test_tuples_and_models_are_compared_part_by_part():
    pair = (torch.zeros(2), torch.zeros(3))
    assert values.mismatch(pair, (torch.ones(2), torch.ones(3))) == ""
    assert "W_K has shape [2]; wanted is [3]" in values.mismatch(
        pair, (torch.ones(2), torch.ones(2)), parts=("W_Q", "W_K")
    )
    assert "tuple of 2 (W_Q, W_K)" in values.mismatch(pair, torch.zeros(2), parts=("W_Q", "W_K"))
    config = ModelConfig(n_layers=1, n_heads=1, d_model=4, d_head=2, d_vocab=3, n_ctx=5)
    model, other = Transformer(config), Transformer(replace(config, n_ctx=6))
    assert values.mismatch(model, Transformer(config, seed=1)) == ""
    assert "another configuration" in values.mismatch(model, other)
    assert "wanted is a Transformer" in values.mismatch(model, torch.zeros(2))
    broken = Transformer(config)
    broken.W_U = torch.nn.Parameter(torch.zeros(4, 4))
    assert "W_U of your model has shape [4, 4]; wanted is [4, 3]" in values.mismatch(model, broken)


def test_a_model_is_judged_in_a_class_of_ours():
    class Cheat(Transformer):
        def forward(self, tokens, tap=None):
            raise AssertionError("the learner's forward must not run")

    config = ModelConfig(n_layers=1, n_heads=1, d_model=4, d_head=2, d_vocab=3, n_ctx=5)
    rebuilt = values.trusted(Transformer(config), Cheat(config, seed=3))
    assert type(rebuilt) is Transformer
    assert torch.equal(rebuilt.W_U, Transformer(config, seed=3).W_U)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("tolerance", [None, Tolerance(0.0, 0.0), Tolerance(0.5, 0.1), Tolerance(0.0, 1.0)])
def test_the_quick_comparison_says_what_the_full_one_says(dtype, tolerance):
    draw = torch.Generator().manual_seed(0)
    special = torch.tensor([0.0, -0.0, 1.0, 1.00001, 1.3, 2.0, -1.0, NAN, torch.inf, -torch.inf, 1e30])
    if not dtype.is_floating_point:
        special = torch.tensor([0, 1, 2, 250])
    outcomes = set()
    for shape in [(), (1,), (2,), (2, 2), (0,)] * 40:
        sides = [special[torch.randint(len(special), shape, generator=draw)].to(dtype) for _ in range(2)]
        for pair in (sides, (sides[0], sides[0].clone())):
            outcomes.add(compare(*pair, tolerance).equal)
            assert equal(*pair, tolerance) == compare(*pair, tolerance).equal
    assert outcomes == {True, False}


def test_large_whole_numbers_are_compared_exactly():
    assert not equal(torch.tensor([2**53]), torch.tensor([2**53 + 1]))
    assert equal(torch.tensor([2**60 + 1]), torch.tensor([2**60 + 1]))


@pytest.mark.parametrize(
    "value",
    [torch.tensor([NAN, 1.0]), np.array([1.0]), [torch.ones(2)], (1, "a"), {"x": torch.ones(1)}, torch.nn.Linear(2, 2)],
    ids=lambda value: type(value).__name__,
)
def test_a_clone_is_the_same_and_independent(value):
    assert values.same(value, values.clone(value))


def test_a_clone_of_a_model_has_hooks_of_its_own():
    model = Transformer(ModelConfig(n_layers=1, n_heads=1, d_model=4, d_head=2, d_vocab=3, n_ctx=5))
    model.shared = model.table = {}
    copy = values.clone(model)
    for one in copy.modules():
        one.register_forward_hook(lambda *_: None)
    assert not any(one._forward_hooks for one in model.modules())
    assert all(len(one._forward_hooks) == 1 for one in copy.modules())
    assert copy.shared is copy.table is not model.shared
    third = values.clone(copy)
    assert all(len(one._forward_hooks) == 1 for one in third.modules())


def test_changes_are_seen():
    before = torch.zeros(2)
    assert not values.same(before, torch.zeros(2, 1))
    assert not values.same(before, torch.zeros(2, dtype=torch.float64))
    assert not values.same({"a": before}, {"a": torch.ones(2)})
    assert not values.same([before], [before, before])
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert not values.same(first, second)


# --- states -----------------------------------------------------------------------------------------------------


def stub(x):
    """What an exercise notebook holds."""
    raise NotImplementedError("your code here")


def only_dots(x): ...


def only_pass(x):
    pass


def only_docstring(x):
    """Nothing yet."""


def given_lines_and_dots(x):
    """Lines that the notebook gives, then the place of the answer."""
    n_rows = len(x)
    ...
    n_rows += 1


def from_text(code):
    """A function without readable source."""
    namespace = {}
    exec(code, namespace)
    return namespace["f"]


STUBS = [stub, only_dots, only_pass, only_docstring, given_lines_and_dots, from_text("def f(x): ..."), None, ...]


@pytest.mark.parametrize("answer", STUBS)
def test_an_untouched_stub_is_not_attempted(answer):
    verdict = verdict_of(answer)
    assert verdict.state == NOT_ATTEMPTED
    assert 'hint("99.1")' in repr(make_report(verdict))


def test_work_that_is_not_returned_is_wrong():
    def forgotten(x):
        row_means(x)

    assert verdict_of(forgotten).state == WRONG
    assert "Did you forget `return`?" in text_of(forgotten)


def test_a_not_implemented_error_of_a_library_is_an_error():
    verdict = verdict_of(lambda x: torch.nn.Module()(x))  # raises NotImplementedError inside torch
    assert verdict.state == ERROR
    assert verdict.failing.failure.kind == "NotImplementedError"


def test_a_half_finished_answer_is_an_error_with_its_line():
    def half(x):
        if len(x) == 3:
            return row_means(x)
        raise NotImplementedError("later")

    verdict = verdict_of(half)
    assert verdict.state == ERROR
    assert "NotImplementedError" in repr(make_report(verdict))


def test_the_reference_passes():
    verdict = verdict_of(row_means)
    assert verdict.state == PASSED
    text = repr(make_report(verdict))
    assert "2 cases, seed 0" in text
    assert "Onwards." in text


def test_raising_shows_type_message_and_the_learners_line_and_no_traceback():
    def raising(x):
        return torch.stack([x, x.T])  # the line that is shown

    text = text_of(raising)
    assert verdict_of(raising).state == ERROR
    assert "RuntimeError in line" in text
    assert "return torch.stack([x, x.T])  # the line that is shown" in text
    assert "Traceback" not in text
    assert "course_lib" not in text


def test_the_deepest_line_of_the_learner_is_shown_when_a_library_raises():
    def inner(x):
        return torch.nn.functional.one_hot(x)  # one_hot wants integers

    text = text_of(lambda x: inner(x))
    assert "return torch.nn.functional.one_hot(x)" in text


def test_a_wrong_number_of_parameters_fails_before_the_learners_code():
    text = text_of(lambda: 1)
    assert "TypeError before your code ran" in text
    assert "takes 0 positional arguments" in text


@pytest.mark.parametrize(
    "leave", [lambda x: sys.exit(0), lambda x: sys.exit("bye"), lambda x: exec("raise SystemExit")]
)
def test_system_exit_is_an_error(leave):
    verdict = verdict_of(leave)
    assert verdict.state == ERROR
    assert "ends the program" in repr(make_report(verdict))


def test_keyboard_interrupt_passes_through():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verdict_of(interrupted)


def test_an_exception_without_readable_text_is_still_reported():
    class Odd(Exception):
        def __str__(self):
            raise ValueError

    def raising(x):
        raise Odd

    assert "cannot be read" in text_of(raising)


def test_long_messages_are_cut_and_control_codes_removed():
    def raising(x):
        raise ValueError("\x1b[31m" + "a" * 10_000)

    message = verdict_of(raising).failing.failure.message
    assert len(message) == 500
    assert "\x1b" not in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda result: result.tolist(), "a list of 3"),
        (lambda result: result.numpy(), "a numpy ndarray of shape [3], float32"),
        (lambda result: float(result.sum()), "is a float; wanted is a tensor of shape [3], float32"),
        (lambda result: None, "Did you forget `return`?"),
        (lambda result: result.long(), "dtype int64; wanted is float32"),
        (lambda result: result.half(), "dtype float16"),
        (lambda result: result[None], "shape [1, 3]; wanted is [3]"),
        (lambda result: result * NAN, "NaN in it"),
        (lambda result: iter(result), "wanted is a tensor"),
        (lambda result: {"a": result}, "is a dict"),
        (lambda result: Transformer, "is a type"),
    ],
)
def test_results_of_a_wrong_kind_are_wrong_and_named(change, words):
    def answer(x):
        return change(row_means(x))

    assert verdict_of(answer).state == WRONG
    assert words in text_of(answer)


def test_no_number_came_where_a_number_is_wanted():
    numbers = dict(reference=lambda x: float(x.mean()), axes=())
    assert verdict_of(lambda x: x.mean(), **numbers).state == PASSED
    text = text_of(lambda x: float(x.mean()) + 1, **numbers)
    assert re.search(r"Yours +a float. Expected 0\.\d+, yours 1\.\d+", text)


def test_a_call_instead_of_a_function_is_explained():
    verdict = verdict_of(torch.zeros(3))
    assert verdict.state == WRONG
    assert '`check("99.1", row_means)`' in verdict.misuse
    assert "a tensor of shape [3]" in repr(make_report(verdict))


def test_changing_the_input_is_named_even_when_the_result_is_right():
    def changing(x):
        result = row_means(x)
        x.zero_()
        return result

    verdict = verdict_of(changing)
    assert verdict.state == WRONG
    assert "changes its input `x`" in repr(make_report(verdict))


def test_inputs_are_fresh_for_every_call():
    seen = []

    def remembering(x):
        seen.append(x)
        return row_means(x)

    verdict_of(remembering)
    assert len(seen) == 4
    assert len({x.data_ptr() for x in seen}) == 4


@pytest.mark.parametrize(
    "noise",
    [lambda: torch.rand(()), lambda: random.random(), lambda: float(np.random.rand())],
    ids=["torch", "random", "numpy"],
)
def test_an_answer_that_depends_on_chance_is_named(noise):
    text = text_of(lambda x: row_means(x) + noise())
    assert "Called twice with the same input, your function gives different results" in text


def test_an_answer_that_counts_its_calls_is_named():
    calls = []

    def counting(x):
        calls.append(x)
        return row_means(x) * (1 + len(calls) % 2)

    assert "gives different results" in text_of(counting)


def test_a_result_that_the_learner_overwrites_later_is_kept_as_it_was():
    buffer = torch.zeros(3)
    outcome = run(lambda x: buffer.copy_(x), dict(x=torch.ones(3)))
    buffer.zero_()
    assert torch.equal(outcome.value, torch.ones(3))


def test_global_state_is_put_back(unchecked):
    def careless(x):
        torch.manual_seed(1), random.seed(1), np.random.seed(1)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        return row_means(x)

    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    wanted = (torch.rand(3), random.random(), np.random.rand())
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    assert verdict_of(careless).state == PASSED
    assert torch.equal(torch.rand(3), wanted[0])
    assert (random.random(), np.random.rand()) == wanted[1:]
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() is torch.float32
    assert torch.zeros(1).device.type == "cpu"


def test_the_notebooks_own_defaults_do_not_reach_the_check():
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(False)
    try:
        assert verdict_of(lambda x: row_means(x) + torch.zeros(len(x))).state == PASSED
        assert torch.get_default_device().type == "meta"
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_grad_enabled(True)


def test_global_state_is_put_back_after_an_error():
    def careless(x):
        torch.set_grad_enabled(False)
        raise ValueError

    verdict_of(careless)
    assert torch.is_grad_enabled()


def test_prints_go_through_once_a_case(capsys):
    def chatty(x):
        print("shape", list(x.shape))
        return row_means(x)

    verdict_of(chatty)
    assert capsys.readouterr().out.splitlines() == ["shape [3, 4]", "shape [5, 6]"]


def test_judging_needs_no_function_of_the_learner():
    task = toy()
    case = task.draw(0)[0]
    right, wrong = Outcome(value=row_means(case.inputs["x"])), Outcome(value=torch.zeros(3))
    assert judge(task, case, 1, right, right).passed
    assert not judge(task, case, 1, wrong, wrong).passed


def test_the_first_failing_case_is_the_one_shown():
    text = text_of(lambda x: row_means(x) + 0.25 * (len(x) == 5))
    assert "2 of 2: a larger one (`x`: a tensor of shape [5, 6], float32); seed 0" in text
    assert "5 of 5 entries are wrong. The first is row 0" in text


def test_the_report_keeps_the_failing_inputs():
    report = make_report(verdict_of(lambda x: x.sum(dim=-1)))
    assert torch.equal(row_means(report.inputs["x"]), row_means(toy().draw(0)[0].inputs["x"]))


# --- diagnosis --------------------------------------------------------------------------------------------------


def test_a_mutant_is_named_by_its_outputs():
    verdict = verdict_of(lambda x: sum(x[:, column] for column in range(x.shape[1])))
    assert verdict.diagnosis.name == "sum"
    assert "You add up: take the `mean`." in repr(make_report(verdict))


def test_a_mutant_of_another_shape_is_named():
    assert verdict_of(lambda x: x.mean(dim=0)).diagnosis.name == "columns"


def test_a_mutant_that_fits_one_failing_case_only_is_not_named():
    verdict = verdict_of(lambda x: x.sum(dim=-1) if len(x) == 3 else x.max(dim=-1).values)
    assert verdict.diagnosis is None
    assert "Try the case by hand" in repr(make_report(verdict))


def test_a_mutant_that_raises_is_passed_over():
    mutants = [Mutant("broken", "Never.", lambda x: 1 / 0), *toy().mutants]
    assert verdict_of(lambda x: x.sum(dim=-1), mutants=mutants).diagnosis.name == "sum"


def evidence(expected, got, axes=()):
    pairs = [(expected.double(), got.double())]
    return transforms.Evidence(pairs, lambda a, b: a.shape == b.shape and compare(a, b).equal, axes)


MATRIX = torch.tensor([[0.2, 0.5, 1.7], [0.9, 1.4, 0.3], [2.1, 0.8, 0.6]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.T, "transposed: query_pos and key_pos"),
        (lambda m: m.roll(1, 1), "one place too late along key_pos"),
        (lambda m: m.roll(-1, 0), "one place too early along query_pos"),
        (lambda m: m.flip(0), "backwards along query_pos"),
        (lambda m: -m, "wrong sign"),
        (lambda m: 1 - m, "one minus"),
        (lambda m: m.exp(), "exp of what is wanted"),
        (lambda m: m.log(), "logarithm"),
        (lambda m: m**2, "square of"),
        (lambda m: m**0.5, "square root"),
        (lambda m: 1 / m, "one divided by"),
        (lambda m: 3 * m, "3 times what is wanted"),
        (lambda m: m / torch.tensor(2.0).log(), "bits instead of nats"),
        (lambda m: m + 0.25, "the same amount, +0.25"),
        (lambda m: m[None], "an axis of size 1 too many"),
        (lambda m: m[[1, 0, 2]], "another order along query_pos"),
        (lambda m: m.masked_fill(torch.eye(3, dtype=torch.bool), 0.0), "Only the main diagonal"),
    ],
)
def test_general_transforms_are_named(change, words):
    assert words in transforms.find_transform(evidence(MATRIX, change(MATRIX), ("query_pos", "key_pos")))


def test_a_missing_axis_is_named():
    assert "is missing" in transforms.find_transform(evidence(MATRIX[None], MATRIX))


def test_no_transform_is_made_up():
    assert transforms.find_transform(evidence(MATRIX, torch.rand(3, 3))) == ""
    assert transforms.find_transform(evidence(torch.tensor(2.0), torch.tensor(3.0))) == ""


def test_a_factor_that_differs_from_case_to_case_is_named():
    found = named_in_two_cases(lambda m: 3 * m, lambda m: 5 * m)
    assert "one factor, which differs from case to case (3, 5)" in found


def named_in_two_cases(*changes):
    cases = [MATRIX.double(), MATRIX.double() + 1.3]
    pairs = [(case, change(case)) for case, change in zip(cases, changes, strict=True)]
    return transforms.find_transform(transforms.Evidence(pairs, lambda a, b: compare(a, b).equal))


def test_a_sum_instead_of_a_mean_is_named_by_its_counts():
    counts = torch.tensor([[1.0, 2.0, 7.0], [4.0, 4.0, 9.0], [2.0, 1.0, 30.0]])
    sums, means = (lambda m: m * 5, lambda m: m * counts), (lambda m: m / 5, lambda m: m / counts)
    assert "a sum where a mean is wanted, over so many (2, 4, 5, 7, ...)?" in named_in_two_cases(*sums)
    assert "a mean where a sum is wanted, over so many (2, 4, 5, 7, ...)?" in named_in_two_cases(*means)
    gaps = counts.masked_fill(counts == 30.0, 0.0)
    assert "a mean where" not in named_in_two_cases(lambda m: m / 5, lambda m: m * gaps)


def test_counts_are_made_up_neither_of_noise_nor_of_whole_numbers():
    one, other = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    assert "over so many" not in named_in_two_cases(lambda m: one * m, lambda m: m + 5 * other)
    whole = [(torch.tensor([2.0, 3.0, 4.0]), torch.tensor([4.0, 9.0, 4.0]))]
    assert transforms.find_transform(transforms.Evidence(whole, lambda a, b: compare(a, b).equal)) == ""


def test_general_sentences_reach_the_learner():
    assert "Every number is 0.5 times" in text_of(lambda x: row_means(x) / 2)
    assert "Every number of yours is 0" in text_of(lambda x: torch.zeros(len(x)))


CAUSAL = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.1, 0.2, 0.7]])


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (torch.full((3, 3), 1 / 3), "not causal"),
        (CAUSAL.flip(0, 1) * 2, "wrong triangle"),
        (CAUSAL / CAUSAL.sum(dim=0), "columns sum to 1"),
        (CAUSAL * torch.tensor([[2.0], [1.0], [0.3]]), "yours sum to between 0.3 and 2"),
        (torch.tensor([[1.0, 0.0, 0.0], [0.45, 0.55, 0.0], [0.3, 0.3, 0.4]]), "too flat"),
    ],
)
def test_missing_properties_are_named(got, words):
    assert words in find_property(evidence(CAUSAL, got))


def test_properties_hold_for_the_right_answer():
    assert find_property(evidence(CAUSAL, CAUSAL)) == ""
    assert find_emptiness(evidence(CAUSAL, CAUSAL)) == ""


# --- measures ---------------------------------------------------------------------------------------------------


def built(**changes) -> Exercise:
    """A pair of vectors that is judged by its outer product on held-out numbers."""
    measure = Measure(
        "product",
        lambda result, inputs: torch.outer(result[0], result[1]) * inputs["factor"],
        summary=lambda expected, got: f"{int((expected != got).sum())} differ",
    )
    return toy(
        reference=lambda n: (torch.arange(1.0, n + 1), torch.ones(n)),
        cases=lambda generator: [Case("three", dict(n=3), dict(factor=torch.tensor(2.0)))],
        mutants=[
            Mutant("ones", "All ones.", lambda n: (torch.ones(n), torch.ones(n))),
            Mutant("twice", "Twice.", lambda n: (2 * torch.arange(1.0, n + 1), torch.ones(n))),
            Mutant("swapped", "Swapped.", lambda n: (torch.ones(n), torch.arange(1.0, n + 1))),
            Mutant("zeros", "All zeros.", lambda n: (torch.zeros(n), torch.zeros(n))),
        ],
        measure=measure,
        axes=("left", "right"),
        returns=("left", "right"),
        **changes,
    )


def test_a_built_thing_is_judged_by_what_it_does():
    assert examine(built(), lambda n: (10 * torch.arange(1.0, n + 1), torch.full((n,), 0.1))).state == PASSED
    verdict = examine(built(), lambda n: (torch.full((n,), 0.5), torch.full((n,), 2.0)))
    assert verdict.diagnosis.name == "ones"
    text = repr(make_report(verdict))
    assert "product: a tensor of shape [3, 3]" in text
    assert "6 differ" in text
    assert make_report(verdict).inputs["factor"] == 2.0


def test_a_part_of_a_wrong_shape_is_named():
    text = repr(make_report(examine(built(), lambda n: (torch.ones(n), torch.ones(n, 1)))))
    assert "right has shape [3, 1]; wanted is [3]" in text


def test_a_measure_that_cannot_use_the_result_is_no_crash():
    def fails(result, inputs):
        if result[0][0] > 1:
            raise RuntimeError("no good")
        return result[0]

    task = replace(built(), measure=Measure("product", fails))
    verdict = examine(task, lambda n: (2 * torch.ones(n), torch.ones(n)))
    assert verdict.state == WRONG
    assert "could not use your result. RuntimeError: no good" in repr(make_report(verdict))


def test_a_fingerprint_tells_mutants_apart_and_decides_nothing():
    coarse = Measure("sum", lambda result, inputs: result[0].sum(), fingerprint=lambda result, inputs: result[0])
    task = replace(built(), measure=coarse)
    assert examine(task, lambda n: (torch.tensor([6.0, 0.0, 0.0]), torch.ones(n))).state == PASSED
    assert examine(task, lambda n: (torch.ones(n), torch.ones(n))).diagnosis.name == "ones"


# --- reports and pictures ---------------------------------------------------------------------------------------

NASTY = "<script>alert('x')</script>&\"`"


def test_html_is_escaped():
    def raising(x):
        raise ValueError(NASTY)

    html = make_report(verdict_of(raising))._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    nasty_case = dict(cases=lambda generator: [Case(NASTY, {NASTY: torch.ones(2, 3)})], title=NASTY, axes=(NASTY,))
    for answer in (row_means, lambda x: x.sum(dim=-1), lambda x: NASTY):
        assert "<script" not in make_report(verdict_of(answer, **nasty_case))._repr_html_()


def well_formed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<all>{html}</all>")


@pytest.mark.parametrize(
    "answer", [row_means, stub, lambda x: x.sum(dim=-1), lambda x: x, lambda x: 1 / 0, torch.zeros(2)], ids=range(6)
)
def test_html_is_well_formed_and_says_what_the_text_says(answer):
    report = make_report(verdict_of(answer))
    html = "".join(well_formed(report._repr_html_()).itertext())
    for label, sentence in report.points:
        assert f"{label}:" in html
        assert sentence.replace("`", "") in html


def test_the_order_is_case_expected_yours_why_picture_next():
    report = make_report(verdict_of(lambda x: x.sum(dim=-1)))
    assert [label for label, _ in report.points] == ["Case", "Expected", "Yours", "Why", "Next"]
    html = report._repr_html_()
    assert html.index("Why:") < html.index("<svg") < html.index("Next:")


def test_a_report_needs_no_script_and_nothing_from_outside():
    html = make_report(verdict_of(lambda x: x.sum(dim=-1)))._repr_html_()
    without_namespace = html.replace('xmlns="http://www.w3.org/2000/svg"', "")
    for forbidden in ("http", "<script", "<style", "<link", "@import", "url("):
        assert forbidden not in without_namespace


def titles(html: str) -> list[str]:
    return re.findall(r'font-size="12">([^<]*)<', html)


def test_a_picture_shows_expected_yours_and_difference_with_text():
    bad = torch.zeros(3, 3, dtype=torch.bool)
    bad[1, 2] = True
    html = picture(MATRIX, MATRIX + bad, bad, ("query_pos", "key_pos"))
    well_formed(html)
    assert titles(html) == ["expected", "yours", "yours - expected"]
    assert "Rows: query_pos, columns: key_pos" in html
    assert html.count('stroke="#000"') == 2  # the wrong cell, in yours and in the difference
    assert 'aria-label="yours: heat map of 3 rows and 3 columns"' in html
    assert ">0.30<" in html and ">1.30<" in html
    assert "currentColor" in html


@pytest.mark.parametrize("shape", [(2,), (1, 1, 2), (2, 3, 4), (2, 2, 3, 4), (40, 50), (1, 300)])
def test_every_shape_has_a_picture_of_bounded_size(shape):
    bad = torch.zeros(shape, dtype=torch.bool)
    bad.view(-1)[-1] = True
    html = picture(torch.zeros(shape), bad.float(), bad)
    well_formed(html)
    assert html.count('stroke="#000"') == 2  # the wrong cell lies within what is drawn
    assert len(html) < 400_000
    assert all(int(width) <= 205 for width in re.findall(r'<svg [^>]*width="(\d+)"', html))


def test_pictures_of_odd_numbers_and_kinds():
    assert ">NaN<" in picture(torch.zeros(2, 2), torch.full((2, 2), NAN))
    assert ">inf<" in picture(torch.zeros(2, 2), torch.full((2, 2), INF))
    assert picture(torch.tensor(1.0), torch.tensor(2.0)) == ""
    assert picture(torch.zeros(2, 0), torch.zeros(2, 0)) == ""
    assert titles(picture(torch.tensor([1, 2]), torch.tensor([1, 3]))) == ["expected", "yours"]
    assert titles(picture(torch.zeros(2, 3), torch.zeros(3))) == ["expected", "yours"]


# --- specifications and their sources ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(id="3a"), "3a"),
        (dict(difficulty=6), "difficulty"),
        (dict(minutes=0), "minutes"),
        (dict(hints=("one",)), "hints must be 3 texts, got 1"),
        (dict(mutants=()), "at least 4"),
    ],
)
def test_an_incomplete_exercise_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        toy(**change)


def test_an_exercise_without_cases_is_refused():
    with pytest.raises(ValueError, match="at least one Case"):
        verdict_of(row_means, cases=lambda generator: [])


def test_cases_depend_on_the_seed_alone():
    first, again, other = (toy().draw(seed)[0].inputs["x"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


SOURCE = """---
kernelspec: {}
---
# Title
```{code-cell} ipython3
import math
from course_lib.grading import Case, Mutant, check, exercise
FACTOR, NAMES = 2.0, ["a"]
raise_me = 1 / 0
```
````md
```{code-cell} ipython3
not a cell, but shown
```
````
```{code-cell} ipython3
%matplotlib inline
```
```{code-cell} ipython3
def helper(x):
    return x * FACTOR
check("98.1", double)
```
```{code-cell} ipython3
:tags: [answer]
def double(x):
    ### BEGIN SOLUTION
    return helper(x)
    ### END SOLUTION
```
```{code-cell} ipython3
---
tags: [spec, "hide-input"]
---
exercise("98.1", "Double", double, difficulty=1, minutes=1,
    cases=lambda generator: [Case("one", dict(x=__import__("torch").rand(4, generator=generator)))],
    mutants=[Mutant(str(n), str(n), lambda x, n=n: x * n) for n in (3, 4, 5, 6)], hints=("a", "b", "c"), next_step="n")
```
```{code-cell} ipython3
:tags: [solution-only]
raise ValueError
```
"""


@pytest.fixture
def sources(tmp_path, monkeypatch):
    (tmp_path / "98_toy.md").write_text(SOURCE)
    monkeypatch.setattr(load, "source_folder", lambda: tmp_path)
    monkeypatch.setattr(load, "_in_this_notebook", {})
    return tmp_path


def test_cells_of_a_source_are_read_with_their_tags_and_lines():
    cells = source.code_cells(SOURCE)
    assert [set(cell.tags) for cell in cells] == [
        set(),
        set(),
        set(),
        {"answer"},
        {"spec", "hide-input"},
        {"solution-only"},
    ]
    assert SOURCE.splitlines()[cells[3].line - 1] == "def double(x):"


def test_only_what_defines_an_exercise_runs(sources):
    assert list(load.load_source(sources / "98_toy.md")) == ["98.1"]


def test_the_learners_function_of_the_same_name_is_not_the_reference(sources):
    def double(x):
        return x * 3

    assert check("98.1", double).state == WRONG
    assert check("98.1", lambda x: x + x).state == PASSED


def test_loading_does_not_fill_the_notebooks_register(sources):
    check("98.1", stub)
    assert load._in_this_notebook == {}


def test_an_exercise_registered_in_the_notebook_comes_first(sources):
    task = toy()
    exercise(
        "98.1",
        "Mine",
        row_means,
        difficulty=1,
        minutes=1,
        cases=task.cases,
        mutants=task.mutants,
        hints=task.hints,
        next_step="",
    )
    assert check("98.1", row_means).state == PASSED


@pytest.mark.parametrize("unknown", ["98.2", 98.1, None, ["98.1"]])
def test_an_unknown_exercise_names_the_known_ones(sources, unknown):
    with pytest.raises(ValueError, match=re.escape(f"must be one of 98.1; got {unknown!r}")):
        check(unknown, row_means)


def test_one_id_in_two_sources_is_refused(sources):
    (sources / "99_copy.md").write_text(SOURCE)
    with pytest.raises(ValueError, match=r"98.1 is defined in 98_toy.md and in 99_copy.md"):
        load.index(sources)


def test_a_broken_answer_cell_is_not_passed_over(tmp_path):
    path = tmp_path / "97_broken.md"
    path.write_text("```{code-cell} ipython3\n:tags: [answer]\ndef f(:\n```\n")
    with pytest.raises(SyntaxError):
        source.run_definitions(path)


def test_without_any_source_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "source_folder", lambda: tmp_path)
    monkeypatch.setattr(load, "_in_this_notebook", {})
    with pytest.raises(ValueError, match="none found"):
        check("1.1", row_means)


# --- the notebook's calls ---------------------------------------------------------------------------------------


def test_strict_mode_turns_an_unwanted_state_into_an_exception(sources, monkeypatch):
    monkeypatch.setenv("COURSE_STRICT", "passed")
    assert check("98.1", lambda x: 2 * x).state == PASSED
    with pytest.raises(CheckFailed, match="98.1, Double: not attempted"):
        check("98.1", stub)
    monkeypatch.setenv("COURSE_STRICT", "not_attempted")
    assert check("98.1", stub).state == NOT_ATTEMPTED
    with pytest.raises(CheckFailed, match="wanted state: not attempted"):
        check("98.1", lambda x: 2 * x)
    monkeypatch.setenv("COURSE_STRICT", "sometimes")
    with pytest.raises(ValueError, match="COURSE_STRICT must be one of passed, not_attempted, got 'sometimes'"):
        check("98.1", stub)


def test_hints_come_one_by_one_and_the_last_stays(sources, monkeypatch):
    monkeypatch.setattr(front, "_hints_given", {})
    shown = [hint("98.1") for _ in range(4)]
    assert [one.text for one in shown] == ["a", "b", "c", "c"]
    assert "hint 3 of 3 (the last one)" in repr(shown[-1])
    assert "hint 1 of 3" in shown[0]._repr_html_()
    with pytest.raises(ValueError, match="must be one of"):
        hint("0.0")


def test_reports_are_shown_by_ipython_as_html_and_as_text(sources):
    from IPython.core.interactiveshell import InteractiveShell

    report = check("98.1", lambda x: 3 * x)
    data, _ = InteractiveShell.instance().display_formatter.format(report)
    assert data["text/html"] == report._repr_html_()
    assert data["text/plain"] == repr(report)
    assert data["text/plain"].startswith("✗ Exercise 98.1, Double: wrong")
    assert report.state in STATES


def test_nothing_is_left_behind(sources):
    before = (dict(os.environ), torch.get_num_threads())
    check("98.1", lambda x: 2 * x)
    assert (dict(os.environ), torch.get_num_threads()) == before
