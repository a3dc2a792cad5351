"""Exercise 0.1: other right ways to write it pass, and honest slips that are no mutant get a message worth having."""

from __future__ import annotations

from course_lib.grading.examine import ERROR, PASSED, WRONG, examine
from course_lib.grading.load import find
from course_lib.grading.report import make_report
from course_lib.scores import induction_targets


def without_a_loop(tokens):
    earlier = (tokens[:-1] == tokens[-1]).nonzero()
    return tokens[earlier[-1, 0] + 1] if len(earlier) else -1  # a tensor without axes is a number too


def with_a_dictionary(tokens):
    after = {}
    for token, follower in zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True):
        after[token] = follower
    return after.get(int(tokens[-1]), -1)


def test_other_right_answers_pass():
    for answer in (without_a_loop, with_a_dictionary):
        for seed in range(5):
            assert examine(find("0.1"), answer, seed).state == PASSED


def test_the_guess_is_an_induction_target_of_the_course():
    """The prefix-matching score counts attention to the same place, among others."""
    task = find("0.1")
    for case in task.draw(0):
        tokens = case.inputs["tokens"]
        places = induction_targets(tokens[None])[0, -1].nonzero().flatten()
        assert task.reference(tokens) == (tokens[places[-1]] if len(places) else -1)


def test_the_answer_that_the_text_asks_for_gets_the_reason():
    verdict = examine(find("0.1"), lambda tokens: tokens[-1].item())
    assert verdict.state == WRONG
    assert verdict.diagnosis.name == "always the last token"


def test_a_search_that_finds_the_last_token_itself_names_the_line():
    def runs_over(tokens):
        matches = (tokens == tokens[-1]).nonzero()
        return tokens[matches[-1, 0] + 1].item()

    verdict = examine(find("0.1"), runs_over)
    assert verdict.state == ERROR
    assert "out of bounds" in repr(make_report(verdict))
