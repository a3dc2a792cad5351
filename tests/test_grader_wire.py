"""Values go over the wire and come back the same; bytes that nobody encoded are refused, quickly."""

from __future__ import annotations

import pytest

from course_lib.grader.wire import decode, encode
from course_lib.grading import load, values
from course_lib.grading.examine import judge
from course_lib.grading.run import Outcome, run

EXERCISES = sorted(load.index(load.source_folder()))


@pytest.mark.parametrize("exercise_id", EXERCISES)
def test_inputs_and_results_of_every_exercise_survive(exercise_id):
    """The reference gets inputs that travelled, its result travels back, and the verdict is a pass."""
    exercise = load.find(exercise_id)
    for number, case in enumerate(exercise.draw(1), start=1):
        inputs = decode(encode(dict(case.inputs)))
        assert list(inputs) == list(case.inputs)
        outcomes = [run(exercise.reference, inputs, seed=seed) for seed in (1, 2)]
        came = [Outcome(decode(encode(one.value)), one.failure, one.mutated) for one in outcomes]
        assert values.describe(came[0].value) == values.describe(outcomes[0].value)
        assert judge(exercise, case, number, *came).passed
        for name, value in case.inputs.items():
            if values.is_tensor(value):
                assert values.same(inputs[name], value) and inputs[name].stride() == values.clone(value).stride()
