"""Right answers among the hostile ones: a grader that fails everybody would pass every other test."""

from tests.hostile.entry import OK, body, code

ENTRIES = [
    body("control_plain", "the right answer", "return right(pattern)", OK, scores=True),
    body("control_copy", "the same file, handed in by another", "return right(pattern)", OK, scores=True),
    body(
        "control_noisy",
        "the right answer, with words on both streams",
        """
        import sys, warnings
        print("on the way"); print("to stderr", file=sys.stderr); warnings.warn("careful")
        return right(pattern)
        """,
        OK,
        scores=True,
    ),
    body(
        "control_grad",
        "a right result that still knows its gradient",
        "return right(pattern.requires_grad_())",
        OK,
        scores=True,
    ),
    body("control_double", "right in float64", "return right(pattern.double())", OK, scores=True),
    body(
        "control_view",
        "a right result that is a view with strides",
        "return right(pattern).repeat_interleave(2)[::2]",
        OK,
        scores=True,
    ),
    body(
        "control_parameter",
        "a right result as a parameter",
        "return torch.nn.Parameter(right(pattern))",
        OK,
        scores=True,
    ),
    body(
        "control_last",
        "right, last of all in the alphabet: the run has survived",
        "return right(pattern)",
        OK,
        scores=True,
        file="zzz_last.ipynb",
    ),
    body(
        "control_first",
        "right, first of all in the alphabet",
        "return right(pattern)",
        OK,
        scores=True,
        file="0_first.ipynb",
    ),
    code(
        "control_fullwidth",
        "right, under a name in wide letters, which Python reads as the same name",
        "def \N{FULLWIDTH LATIN SMALL LETTER P}revious_token_score(pattern):\n"
        "    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))",
        OK,
        scores=True,
    ),
    code(
        "control_lambda",
        "right, as a lambda in an assignment, with a decorator and a default",
        """
        import functools
        # %%
        mean_of = functools.partial(torch.mean, dim=(0, -1))
        previous_token_score = lambda pattern, offset=-1: mean_of(torch.diagonal(pattern, offset, -2, -1))
        """,
        OK,
        scores=True,
    ),
]
