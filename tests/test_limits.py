"""What a check does with calls that do not end and with functions that print without end."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
import time

import pytest
import torch
from test_grading import row_means, toy, well_formed

from course_lib.grading.examine import PASSED, TOO_SLOW, WRONG, Verdict, examine
from course_lib.grading.limit import Limit, TooSlow
from course_lib.grading.output import MAX_CHARACTERS, MAX_LINES
from course_lib.grading.report import make_report
from course_lib.grading.run import run

SECONDS = 0.3
PATIENT = 60


def verdict_of(answer, **changes) -> Verdict:
    return examine(toy(**{"seconds": SECONDS, **changes}), answer)


# --- calls that take too long -----------------------------------------------------------------------------------


def endless(x):
    while True:
        x = x + 1


def place_by_place(x):
    for _ in range(10**9):
        x = x + 1


def in_a_comprehension(x):
    return sum([number for number in range(10**9)])


def in_a_function_it_calls(x):
    for _ in range(3):
        endless(x)


def asleep(x):
    time.sleep(2)
    return row_means(x)


def catches_exceptions(x):
    while True:
        try:
            time.sleep(0.3)
        except Exception:
            continue


def catches_everything(x):
    while True:
        try:
            time.sleep(0.3)
        except:  # noqa: E722
            continue


def catches_everything_around_itself(x):
    while True:
        try:
            try:
                catches_everything(x)
            except:  # noqa: E722
                continue
        except BaseException as error:
            str(error)


def keeps_what_it_catches(x, kept=[]):  # noqa: B006
    while True:
        try:
            time.sleep(0.1)
        except BaseException as error:
            kept.append(error)


def turns_it_into_another_error(x):
    try:
        endless(x)
    except BaseException as error:
        raise ValueError("mine") from error


def gives_up_and_returns(x):
    try:
        time.sleep(2)
    except BaseException:
        return row_means(x)


ENDLESS = [
    endless,
    place_by_place,
    in_a_comprehension,
    in_a_function_it_calls,
    asleep,
    catches_exceptions,
    catches_everything,
    catches_everything_around_itself,
    keeps_what_it_catches,
    turns_it_into_another_error,
    gives_up_and_returns,
]


@pytest.fixture(params=["timer of the system", "thread"])
def clock(request, monkeypatch):
    """Both ways to interrupt; the second is for Windows, and works here too."""
    if request.param == "thread":
        monkeypatch.setattr(Limit, "_clock", Limit._watchdog)


@pytest.mark.parametrize(("spare", "is_over"), [(0.0, True), (30.0, False), (0.05, True)])
def test_time_in_which_the_processor_does_something_else_counts_as_far_as_it_is_told(spare, is_over, clock):
    limit = Limit(0.1, spare)
    with contextlib.suppress(TooSlow):
        limit.call(time.sleep, [0.25])
    assert limit.expired == is_over


def test_a_call_that_works_gets_no_spare_time():
    limit = Limit(0.1, spare=30.0)
    with pytest.raises(TooSlow):
        limit.call(endless, [0])


@pytest.mark.timeout(20)
@pytest.mark.parametrize("answer", ENDLESS, ids=lambda answer: answer.__name__)
def test_a_call_that_takes_too_long_is_stopped(answer, clock):
    started = time.monotonic()
    verdict = verdict_of(answer)
    assert verdict.state == TOO_SLOW
    assert len(verdict.trials) == 1  # the other case is not tried
    assert time.monotonic() - started < 5
    well_formed(make_report(verdict)._repr_html_())


@pytest.mark.timeout(20)
def test_handlers_timers_and_tracers_are_put_back(clock):
    def wake(number, frame):
        woken.append(number)

    woken, before = [], signal.signal(signal.SIGALRM, wake)
    ctrl_c, tracer_before = signal.getsignal(signal.SIGINT), sys.gettrace()
    try:
        sys.settrace(tracer := lambda frame, event, argument: None)
        signal.setitimer(signal.ITIMER_REAL, 30, 7)
        verdict_of(catches_everything)
        verdict_of(row_means, seconds=PATIENT)
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 20 < left < 30 and interval == pytest.approx(7)
        assert signal.getsignal(signal.SIGALRM) is wake
        assert signal.getsignal(signal.SIGINT) is ctrl_c
        assert sys.gettrace() is tracer
        signal.setitimer(signal.ITIMER_REAL, 0.05)  # of another program: over while the learner's code runs
        assert verdict_of(lambda x: (time.sleep(0.1), row_means(x))[1], seconds=PATIENT).state == PASSED
        time.sleep(0.05)
        assert woken
    finally:
        sys.settrace(tracer_before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_cleaning_up_is_not_interrupted():
    def careful(x):
        try:
            with torch.no_grad():
                endless(x)
        finally:
            for step in range(3):
                cleaned.append(step)

    cleaned = []
    assert verdict_of(careful).state == TOO_SLOW
    assert cleaned == [0, 1, 2]
    assert torch.is_grad_enabled()


@pytest.mark.timeout(20)
def test_ctrl_c_still_passes_through(clock):
    def interrupted(x):
        _thread.interrupt_main()
        time.sleep(0.01)
        endless(x)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyboardInterrupt):
        verdict_of(interrupted, seconds=PATIENT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)) == before


def test_in_another_thread_there_is_no_limit():
    found = []
    thread = threading.Thread(
        target=lambda: found.append(run(lambda x: (time.sleep(0.2), x)[1], dict(x=1), seconds=0.05))
    )
    thread.start()
    thread.join()
    assert found[0].value == 1 and found[0].failure is None


def test_a_call_into_c_that_ends_too_late_is_too_slow_too():
    outcome = run(sorted, dict(x=_Sleepy()), seconds=0.05)
    assert outcome.failure.limit == 0.05


class _Sleepy:
    def __iter__(self):
        time.sleep(0.1)
        return iter([2, 1])

    def __eq__(self, other):
        return True


def test_a_call_within_the_limit_is_not_touched():
    assert verdict_of(row_means, seconds=PATIENT).state == PASSED
    assert run(row_means, dict(x=torch.ones(2, 2)), seconds=60).failure is None


def test_a_wrong_case_before_a_slow_one_is_what_is_shown():
    verdict = verdict_of(lambda x: x.sum(dim=-1) if len(x) == 3 else endless(x))
    assert verdict.state == WRONG
    assert verdict.diagnosis.name == "sum"


def test_the_report_says_which_case_the_limit_the_time_needed_the_line_and_what_to_do():
    verdict = verdict_of(lambda x: row_means(x) if len(x) == 3 else place_by_place(x))
    text = repr(make_report(verdict))
    assert text.startswith("… Exercise 99.1, Row means: too slow")
    assert "2 of 2: a larger one" in text
    assert "One call may take 0.3 s, and yours takes longer. The course's own answer takes 0." in text
    assert " ms on this case and this machine" in text
    first, lines = place_by_place.__code__.co_firstlineno, {1: "for _ in range(10**9):", 2: "x = x + 1"}
    assert any(f"in line {first + n}: `{code}`" in text for n, code in lines.items())
    assert "one tensor operation on the whole axis" in text
    assert "Traceback" not in text
    assert torch.equal(make_report(verdict).inputs["x"], toy().draw(0)[1].inputs["x"])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (endless, "never ends"),
        (in_a_function_it_calls, "never ends"),
        (in_a_comprehension, "one tensor operation"),
        (asleep, "time its parts"),
    ],
)
def test_the_next_step_fits_the_loop(answer, words):
    assert words in repr(make_report(verdict_of(answer)))


def test_code_without_readable_source_is_stopped_too():
    namespace = {}
    exec("def f(x):\n    while True:\n        pass", namespace)
    assert "time its parts" in repr(make_report(verdict_of(namespace["f"])))


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_limit_must_be_a_finite_number_above_zero(seconds):
    with pytest.raises(ValueError, match="seconds must be"):
        toy(seconds=seconds)


# --- functions that print a lot ---------------------------------------------------------------------------------


def test_the_first_lines_are_shown_and_the_others_counted(capsys):
    def chatty(x):
        for row in range(1000):
            print("row", row)
        return row_means(x)

    assert verdict_of(chatty, seconds=PATIENT).state == PASSED
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["row 0", "row 1"]
    assert lines[MAX_LINES - 1] == f"row {MAX_LINES - 1}"
    assert lines[MAX_LINES:] == ["", f"... {2000 - MAX_LINES:,} more lines of output, not shown."]


def test_one_long_line_is_cut(capsys):
    def long(x):
        print("a" * 10_000, end="")
        print("b", file=sys.stderr)
        return row_means(x)

    verdict_of(long, seconds=PATIENT)
    shown = capsys.readouterr()
    more = 20_000 - MAX_CHARACTERS
    assert shown.out == "a" * MAX_CHARACTERS + f"\n... {more:,} more characters of output, not shown.\n"
    assert shown.err == "b\nb\n"


def test_output_that_fits_is_shown_as_it_is(capsys):
    def chatty(x):
        print("\n".join("abc"), flush=True)
        sys.stdout.writelines(["d", "\n"])
        return row_means(x)

    verdict_of(chatty, seconds=PATIENT)
    assert capsys.readouterr().out == "a\nb\nc\nd\n" * 2
    assert sys.stdout.write("") == 0


def test_output_without_end_is_stopped_and_stays_short(capsys):
    def shouting(x):
        while True:
            print("still here")

    assert verdict_of(shouting).state == TOO_SLOW
    assert len(capsys.readouterr().out) < 1000
