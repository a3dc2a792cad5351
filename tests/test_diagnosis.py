"""Sentences for general mistakes: in tensors, in the parts of a tuple or model, and for answers right on some cases."""

from __future__ import annotations

import pytest
import torch

from course_lib.grading import Case, Exercise, Measure, Mutant, values
from course_lib.grading.cases import explain_cases
from course_lib.grading.diagnose import GENERAL, Diagnosis, add_cases
from course_lib.grading.evidence import make_evidence
from course_lib.grading.examine import WRONG, examine
from course_lib.grading.parts import explain_parts
from course_lib.grading.properties import find_emptiness
from course_lib.grading.transforms import find_logarithm, find_transform
from course_lib.model import ModelConfig, Transformer

NUMBERS = torch.tensor([[0.2, -0.5, 1.7, 2.4], [0.9, 1.4, -0.3, 0.1], [-2.1, 0.8, 0.6, 1.1]])
AXES = ("query_pos", "key_pos")


def explained(*pairs, axes=AXES):
    return find_transform(make_evidence(pairs, axes=axes))


# --- tensors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m[0], "An axis is missing: yours is only the first entry along query_pos"),
        (lambda m: m[:, -1], "only the last entry along key_pos"),
        (lambda m: m.mean(1), "the mean along key_pos"),
        (lambda m: m.sum(0), "the sum along query_pos"),
        (lambda m: m[:, None].expand(-1, 2, -1), "repeats the right numbers along one more axis, axis 1"),
        (lambda m: m.trunc(), "the fractions are cut off"),
        (lambda m: m.round(), "rounded to whole ones"),
        (lambda m: m.abs(), "absolute value"),
        (lambda m: m.relu(), "Negative numbers have become 0"),
        (lambda m: m * torch.tensor([[1.0], [1.0], [-1.0]]), "but 4 of 12 numbers have the wrong sign"),
        (lambda m: m * torch.tensor([[2.0], [3.0], [5.0]]), "Along query_pos, each slice is off by its own factor"),
        (lambda m: m + torch.tensor([1.0, 2.0, 3.0, 5.0]), "Along key_pos, each slice is off by an amount of its own"),
        (lambda m: m + torch.eye(4)[:3] * torch.tensor([1.0, 0, 0, 0]), "Only the first place along query_pos"),
        (lambda m: m.index_fill(1, torch.tensor([3]), 7.0), "Only the last place along key_pos"),
        (lambda m: m[:, [1, 0, 3, 2]], "another order along key_pos"),
        (lambda m: (100 * m).exp(), ""),
    ],
)
def test_general_transforms_are_named(change, words):
    found = explained((NUMBERS, change(NUMBERS)))
    assert words in found
    assert bool(words) == bool(found)


def test_a_logarithm_is_named_although_it_has_nan_in_it():
    evidence = make_evidence([(NUMBERS, NUMBERS.log())])
    assert "logarithm" in find_logarithm(evidence)
    assert find_logarithm(make_evidence([(-NUMBERS.abs(), (-NUMBERS.abs()).log())])) == ""  # all NaN proves nothing
    assert find_logarithm(make_evidence([(NUMBERS, NUMBERS * float("nan"))])) == ""


def test_exp_that_overflows_float32_is_named():
    assert "exp of what" in explained((100 * NUMBERS.abs(), (100 * NUMBERS.abs()).exp()))


def test_nan_is_named_where_minus_infinity_is_right():
    masked = NUMBERS.masked_fill(NUMBERS < 0, -torch.inf)
    assert "NaN in it" in find_emptiness(make_evidence([(masked, masked * 0)]))


def test_a_shift_is_named_when_some_cases_are_too_short_to_show_it():
    short = torch.tensor([[1.0, 2.0]])
    assert "too late along key_pos" in explained((NUMBERS, NUMBERS.roll(1, 1)), (short, short.roll(1, 1)))
    assert "too late" not in explained((NUMBERS, NUMBERS.roll(1, 1)), (short, short + torch.tensor([0.0, 1.0])))


def test_zeros_are_no_shift():
    assert "shift" not in explained((torch.tensor([0.0, 0.0, 1.0]), torch.zeros(3)), axes=("key_pos",))


def test_labels_and_their_logarithm_are_compared_as_floats():
    labels = torch.tensor([2, 3, 5, 7])
    assert "logarithm" in explained((labels, labels.float().log()), axes=("row",))
    assert explained((torch.tensor([2**40]), torch.tensor([2**40 + 1])), axes=("row",)) == ""


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [
        (torch.zeros(2, 3), torch.zeros(1, 2, 3), "One axis too many."),
        (torch.zeros(2, 3), torch.zeros(()), "2 axes too few."),
        (torch.zeros(2, 3, 4), torch.zeros(2, 4, 3), "Axes 1 and 2 stand in the opposite order."),
        (torch.zeros(2, 3), torch.zeros(4, 5), "wanted is [2, 3]."),
        (torch.zeros(2), [0.5, 0.5], "`torch.tensor` makes a tensor"),
        (torch.zeros(2), [torch.zeros(())] * 2, "`torch.stack` makes one tensor"),
        (torch.zeros(5), [torch.zeros(3), torch.zeros(2)], "`torch.cat` joins"),
        (torch.zeros(2, 3), [torch.zeros(3)] * 2, "`torch.stack` makes one tensor"),
        (0.5, torch.zeros(1, 1), "`.item()` takes the one number"),
        (0.5, [0.5], "`[0]` takes the one member"),
        (0.5, torch.zeros(3), "wanted is a plain number."),
        (0.5, None, "Did you forget `return`?"),
    ],
)
def test_a_wrong_kind_is_said_with_the_way_out(expected, got, words):
    assert values.mismatch(expected, got).endswith(words) or words in values.mismatch(expected, got)


# --- parts ------------------------------------------------------------------------------------------------------


TRANSPOSED = "Your result is transposed: axis 0 and axis 1 have changed places."
SIGN = "Every number has the wrong sign."
PAIR = (NUMBERS, NUMBERS + 1)


@pytest.mark.parametrize(
    ("got", "found"),
    [
        ((NUMBERS.T.contiguous(), NUMBERS + 1), {TRANSPOSED: "`W_Q`"}),
        ((-NUMBERS, -NUMBERS - 1), {SIGN: "every part of your result"}),
        ((-NUMBERS, 2 * NUMBERS + 2), {SIGN: "`W_Q`", "Every number is 2 times what is wanted.": "`W_K`"}),
        (PAIR, {}),
        ((-NUMBERS, torch.rand(3, 4)), {}),  # one of the two has no explanation
        ((-NUMBERS, "text"), {}),
        (-NUMBERS, {}),
    ],
)
def test_the_part_that_is_wrong_is_named(got, found):
    assert explain_parts([(PAIR, got)], ("W_Q", "W_K")) == found


def test_parts_without_a_name_are_counted():
    assert explain_parts([(PAIR, (NUMBERS, -NUMBERS - 1))]) == {SIGN: "`part 1`"}
    many, some = (NUMBERS,) * 7, (-NUMBERS,) * 6 + (NUMBERS,)
    assert explain_parts([(many, some)]) == {SIGN: "`part 0`, `part 1`, `part 2`, `part 3` and 2 more"}
    assert explain_parts([(NUMBERS, -NUMBERS)]) == {SIGN: "your result"}


def test_weights_of_a_model_are_named():
    config = ModelConfig(n_layers=1, n_heads=1, d_model=4, d_head=3, d_vocab=5, n_ctx=6)
    model, other = Transformer(config, seed=1), Transformer(config, seed=1)
    other.W_U.data.neg_()
    assert explain_parts([(model, other)]) == {SIGN: "`W_U`"}


def built(**changes) -> Exercise:
    """Two factors, judged by their product: many pairs are right."""
    return Exercise(
        id="99.2",
        title="Factors",
        reference=lambda n: (torch.arange(1.0, n + 1), torch.arange(2.0, n + 2)),
        difficulty=1,
        minutes=5,
        cases=lambda generator: [Case(f"{n} numbers", dict(n=n)) for n in (3, 4, 6)],
        mutants=[
            Mutant(str(k), "A sentence.", lambda n, k=k: (torch.ones(n), k * torch.ones(n))) for k in (3, 4, 5, 6)
        ],
        hints=("a", "b", "c"),
        next_step="Onwards.",
        measure=Measure("product", lambda result, inputs: torch.outer(*result)),
        returns=("left", "right"),
        axes=("row", "column"),
        **changes,
    )


def test_a_built_thing_is_compared_with_the_courses_own_only_for_more_than_a_factor():
    def answer(change):
        return lambda n: change(*(torch.arange(k, n + k) for k in (1.0, 2.0)))

    verdict = examine(built(), answer(lambda left, right: (left.flip(0), right)))
    assert verdict.state == WRONG
    assert "Compare `left` with the course's own answer. Your values run backwards" in verdict.diagnosis.sentence
    verdict = examine(built(), answer(lambda left, right: (3 * left, right)))
    assert verdict.diagnosis.sentence == "Every number is 3 times what is wanted."


# --- cases ------------------------------------------------------------------------------------------------------


def judged(inputs, passed):
    return [(Case(str(number), given), right) for number, (given, right) in enumerate(zip(inputs, passed, strict=True))]


def test_the_one_thing_that_tells_the_cases_apart_is_said():
    inputs = [dict(x=torch.zeros(batch, n, n)) for batch, n in ((1, 4), (3, 4), (1, 6), (2, 5))]
    assert explain_cases(judged(inputs, [True, False, True, False])) == (
        "Right on cases 1 and 3 of 4, not on 2 and 4. Right where axis 0 of `x` is 1, not where it is 2 or more."
    )
    numbers = [dict(n=5), dict(n=2), dict(n=9), dict(n=7)]
    found = explain_cases(judged(numbers, [True, True, False, False]))
    assert "Right where `n` is 5 or less, not where it is 7 or more." in found
    ones = [dict(n=5), dict(n=1), dict(n=9)]
    assert "Right where `n` is 5 or more, not where it is 1." in explain_cases(judged(ones, [True, False, True]))


def test_one_case_that_differs_by_chance_is_no_reason():
    numbers = [dict(n=5), dict(n=2), dict(n=9)]
    assert explain_cases(judged(numbers, [True, False, True])) == "Right on cases 1 and 3 of 3, not on 2."
    fractions = [dict(x=0.5), dict(x=2.5), dict(x=9.5), dict(x=1.5)]
    assert "Right where" not in explain_cases(judged(fractions, [True, False, False, True]))


def test_the_first_cases_alone_hint_at_a_fixed_size():
    inputs = [dict(x=torch.zeros(*shape)) for shape in ((1, 4), (3, 5), (2, 6))]
    found = explain_cases(judged(inputs, [True, False, False]))
    assert found.startswith("Right on case 1 of 3, not on 2 and 3. Is a size or a number of the first written into")
    assert explain_cases(judged(inputs, [False, False, True])) == "Right on case 3 of 3, not on 1 and 2."
    same = [dict(x=torch.zeros(2, 3))] * 3
    assert explain_cases(judged(same, [True, False, False])) == "Right on case 1 of 3, not on 2 and 3."
    assert explain_cases(judged(same, [True] * 3)) == explain_cases(judged(same, [False] * 3)) == ""


def test_cases_are_said_where_nothing_better_is_known():
    some = judged([dict(n=1), dict(n=2)], [True, False])
    zero = find_emptiness(make_evidence([(torch.ones(3), torch.zeros(3))]))
    assert add_cases(Diagnosis("sum", "You add up."), some) == Diagnosis("sum", "You add up.")
    assert add_cases(Diagnosis(GENERAL, "Transposed."), some).sentence == "Transposed."
    assert add_cases(Diagnosis(GENERAL, zero), some).sentence.startswith("Right on case 1 of 2, not on 2.")
    assert zero in add_cases(Diagnosis(GENERAL, zero), some).sentence
    assert add_cases(None, some).name == GENERAL
    assert add_cases(None, judged([dict(n=1)], [False])) is None
