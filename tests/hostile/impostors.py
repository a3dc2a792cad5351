"""Objects and definitions that pose as the grader's own."""

from tests.hostile.entry import ERROR, FAILED, STOPPED, UNATTEMPTED, WRONG, body, code

NOT_RIGHT = FAILED | UNATTEMPTED
ENTRIES = [
    code(
        "impostor_outcome",
        "returns an outcome of the grader's own class that says that all went well",
        """
        from course_lib.grading.run import Outcome
        def previous_token_score(pattern): return Outcome(value=pattern, failure=None, mutated=())
        """,
        NOT_RIGHT,
    ),
    code(
        "impostor_trial",
        "returns a judged case",
        """
        from course_lib.grading.examine import Trial
        from course_lib.grading.spec import Case
        from course_lib.grading.compare import Comparison
        def previous_token_score(pattern): return Trial(Case("mine", {}), 1, comparison=Comparison())
        """,
        NOT_RIGHT,
    ),
    code(
        "impostor_exercise",
        "registers an exercise of the same id that every answer passes",
        """
        from course_lib.grading import Case, Mutant, exercise
        def previous_token_score(pattern): return pattern
        # %%
        DONE = exercise("3.1", "Easy", previous_token_score, difficulty=5, minutes=1, cases=lambda g: [Case("easy", {"pattern": torch.zeros(1)})],
            mutants=[Mutant(str(n), "s", lambda p: n) for n in range(4)], hints=("a", "b", "c"), next_step="x")
        # %%
        def previous_token_score(pattern): return DONE or pattern
        """,
        NOT_RIGHT,
    ),
    code(
        "impostor_check",
        "defines check, hint and solution anew",
        """
        class Report:
            state = "passed"
        def check(exercise_id, answer): return Report()
        hint = solution = progress = check
        # %%
        def previous_token_score(pattern): return check("3.1", pattern)
        """,
        NOT_RIGHT,
    ),
    code(
        "impostor_failure",
        "raises an error that calls itself the grader's",
        """
        class Failure(BaseException):
            attempted, kind, message, line_number, line, limit, loop = False, "", "passed", None, "", None, ""
        WireError = GraderError = Failure
        def previous_token_score(pattern): raise WireError("grader_error: full points")
        """,
        ERROR | UNATTEMPTED,
    ),
    code(
        "impostor_grader_error",
        "raises the wire's own error, so that the grader takes the blame",
        """
        def previous_token_score(pattern):
            from course_lib.grader.wire import WireError
            raise WireError("the grader is broken")
        """,
        ERROR,
    ),
    code(
        "impostor_opaque",
        "returns the wire's own stand-in with a description of its own",
        """
        def previous_token_score(pattern):
            from course_lib.grader import wire
            maker = getattr(wire, "Opaque")
            made = object.__new__(maker)
            for name in getattr(maker, "__dataclass_fields__", {"text": 0}):
                object.__setattr__(made, name, "<script>alert('@TOKEN@')</script>")
            return made
        """,
        NOT_RIGHT,
    ),
    code(
        "impostor_reply",
        "returns a reply of the server",
        """
        def previous_token_score(pattern):
            from course_lib.grader.server import Reply
            return Reply("ok", ())
        """,
        NOT_RIGHT,
    ),
    code(
        "impostor_library",
        "a class of its own named course_lib with everything in it",
        """
        import sys, types
        fake = types.ModuleType("course_lib.grading")
        fake.__getattr__ = lambda name: (lambda *args, **kwargs: True)
        PLANTED = [sys.modules.__setitem__(name, fake) for name in list(sys.modules) if name.startswith("course_lib.gra")]
        # %%
        def previous_token_score(pattern): return PLANTED and pattern
        """,
        STOPPED,
    ),
    code(
        "impostor_answer_twice",
        "two answers; the last one is wrong",
        """
        def previous_token_score(pattern): return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
        # %%
        def previous_token_score(pattern): return pattern
        """,
        WRONG,
    ),
    code(
        "impostor_answer_in_markdown_cell",
        "the answer only stands in a class",
        """
        class Home:
            def previous_token_score(pattern): return pattern
        """,
        UNATTEMPTED,
    ),
    code(
        "impostor_near_name",
        "the right body under a wrong name",
        """
        def previous_token_scores(pattern):
            return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
        """,
        UNATTEMPTED | ERROR,
    ),
    code(
        "impostor_unicode_name",
        "a name of other letters that looks the same",
        """
        def previous_token_sc\N{CYRILLIC SMALL LETTER O}re(pattern):
            return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
        """,
        UNATTEMPTED | ERROR,
    ),
    code(
        "impostor_deleted",
        "defines the answer, then deletes it",
        """
        def previous_token_score(pattern): return pattern
        # %%
        del previous_token_score
        """,
        UNATTEMPTED | ERROR | WRONG,
    ),
    code(
        "impostor_star",
        "hides names behind a star import",
        """
        from course_lib.grading.run import *
        from course_lib.grading.examine import *
        # %%
        def previous_token_score(pattern): return judge
        """,
        NOT_RIGHT,
    ),
    code(
        "impostor_dunder",
        "names the grader may use for itself",
        """
        __name__ = '__main__'
        __builtins__ = {'len': lambda x: 0}
        __file__ = '/etc/shadow'
        # %%
        def previous_token_score(pattern): return __name__, __builtins__, __file__
        """,
        NOT_RIGHT,
    ),
    code(
        "impostor_wraps",
        "a wrapper that claims the source of the right answer",
        """
        import functools
        def right(pattern): return 1
        # %%
        @functools.wraps(right)
        def previous_token_score(pattern): return pattern
        previous_token_score.__wrapped__ = previous_token_score
        """,
        NOT_RIGHT | frozenset({"timeout"}),
    ),
    body(
        "impostor_attributes",
        "hangs verdicts on the function",
        """
        for name in ('passed', 'state', 'points', 'score', 'verdict'): setattr(previous_token_score, name, 'ok')
        return right(pattern) - 1
        """,
        WRONG,
    ),
]
