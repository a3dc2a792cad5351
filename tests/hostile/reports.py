"""Texts that would act when a teacher opens the report, the table or the terminal."""

import json

from tests.hostile.entry import ERROR, STOPPED, UNATTEMPTED, WRONG, Entry, as_bytes, body, code, raw

TEXTS = {
    "script": "<script>alert('@TOKEN@')</script>",
    "image": "<img src=x onerror=\"fetch('http://127.0.0.1:@TCP@/@TOKEN@')\">",
    "closing": "</pre></code></td></tr></table></div></style></script><h1>PASSED @TOKEN@</h1>",
    "attribute": "\" autofocus onfocus='alert(1)' x=\"@TOKEN@",
    "link": "[click](javascript:alert('@TOKEN@')) <a href='javascript:alert(1)'>click</a> @TOKEN@",
    "formula": '=HYPERLINK("http://127.0.0.1:@TCP@/"&A1,"@TOKEN@")',
    "formula_plus": "+cmd|' /C calc'!A0 @TOKEN@",
    "formula_minus": "-2+3+cmd|' /C calc'!A0 @TOKEN@",
    "formula_at": "@SUM(1+1)*cmd|' /C calc'!A0 @TOKEN@",
    "formula_tab": "\t=1+1 @TOKEN@",
    "formula_newline": "\r\n=1+1,100,100 @TOKEN@",
    "ansi": "\x1b[2J\x1b[1;32mPASSED\x1b[0m\x1b]0;@TOKEN@\x07",
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x9b31m @TOKEN@",
    "right_to_left": "\u202egnorw\u202c \u2066@TOKEN@\u2069 \u200b\ufeff",
    "zalgo": "p" + "\u0301" * 400 + " @TOKEN@",
    "json": '"}, {"score": 100, "state": "ok"} \n{"submission": "x", "score": 9} @TOKEN@',
    "xml": "]]></failure></testcase><testcase name='@TOKEN@'/><!-- &xxe; \x0b \ufffe",
    "entities": "&lt;script&gt;&#x3c;script&#x3e;&amp;lt; @TOKEN@",
    "format": "%s %n %(x)s {} {0.__class__.__init__.__globals__} ${PATH} $(id) `id` @TOKEN@",
    "template": "{{ 7 * 7 }} {% for x in y %} {{ config }} @TOKEN@",
    "surrogate": "\ud800\udfff @TOKEN@",
    "separators": "line\u2028line\u2029line\x85line @TOKEN@",
    "nul": "before\x00after @TOKEN@",
    "latex": "$\\def\\x{\\x\\x}\\x$ \\(\\href{javascript:alert(1)}{x}\\) @TOKEN@",
    "long_word": "W" * 499 + "@TOKEN@",
}


def message(name: str, text: str) -> Entry:
    """An error with this text."""
    return body(f"report_error_{name}", f"an error text: {name}", f"raise ValueError({text!r})", ERROR)


def type_name(name: str, text: str) -> Entry:
    """An error whose type has this name."""
    source = f"def previous_token_score(pattern): raise type({text.replace(chr(0), '')!r}, (Exception,), {{}})('x')"
    return code(f"report_type_{name}", f"a type of error named: {name}", source, ERROR)


ENTRIES = [
    *[message(*pair) for pair in TEXTS.items()],
    *[
        type_name(name, TEXTS[name])
        for name in ("script", "ansi", "formula", "right_to_left", "xml", "formula_newline")
    ],
    code(
        "report_line",
        "the line of the error holds a script",
        """
        def previous_token_score(pattern):
            '<script>alert(1)</script>@TOKEN@'; raise ValueError('=1+1')  # </code><script>alert('@TOKEN@')</script>
        """,
        ERROR,
    ),
    code(
        "report_type_of_result",
        "a result of a type named after a script",
        "def previous_token_score(pattern): return type('<script>alert(1)</script>@TOKEN@', (), {})()",
        WRONG | ERROR,
    ),
    code(
        "report_text_result",
        "a result that is a script",
        "def previous_token_score(pattern): return '<script>alert(1)</script>@TOKEN@'",
        WRONG,
    ),
    code(
        "report_dtype",
        "a numpy array whose type has a script for a name",
        """
        import numpy
        def previous_token_score(pattern): return numpy.zeros(2, dtype=[('<script>alert(1)</script>', 'f4')])
        """,
        WRONG | ERROR,
    ),
    code(
        "report_names",
        "a misspelt name made of a script",
        "def previous_token_score(pattern): return vars()['<script>alert(1)</script>@TOKEN@']",
        ERROR,
    ),
    code(
        "report_magic",
        "magics and shell lines with scripts",
        """
        %%html
        <script>alert('@TOKEN@')</script>
        # %%
        !echo '<script>alert(1)</script>=1+1' @TOKEN@
        %load_ext =cmd
        # %%
        def previous_token_score(pattern): raise ValueError('no')
        """,
        ERROR,
    ),
    code(
        "report_syntax",
        "a syntax error whose line holds a script",
        "def previous_token_score(pattern): <script>alert('@TOKEN@')</script>",
        UNATTEMPTED | ERROR,
    ),
    code(
        "report_syntax_ansi",
        "a syntax error whose line holds control codes",
        "def previous_token_score(pattern): \x1b[2J\x1b[31m ===",
        UNATTEMPTED | ERROR,
    ),
    code(
        "report_variables",
        "ten thousand printed lines that look like rows",
        """
        def previous_token_score(pattern):
            for n in range(10_000): print('{"submission": "x", "score": 100}')
            return 0
        """,
        WRONG | STOPPED,
    ),
    raw(
        "report_outputs",
        "stored outputs that say PASSED and run scripts",
        lambda scene: json.dumps(
            {
                "cells": [
                    {
                        "cell_type": "code",
                        "metadata": {"<script>": "alert(1)"},
                        "execution_count": 1,
                        "source": "def previous_token_score(pattern): return 0",
                        "outputs": [
                            {
                                "output_type": "display_data",
                                "metadata": {},
                                "data": {"text/html": "<script>alert(1)</script>PASSED"},
                            }
                        ],
                    }
                ],
                "metadata": {"course": {"points": 100, "state": "passed"}},
                "nbformat": 4,
                "nbformat_minor": 5,
            }
        ).encode(),
        WRONG,
        row=False,
    ),
    raw(
        "report_metadata",
        "metadata that name another student and points",
        as_bytes(
            ["def previous_token_score(pattern): return 0"],
            student="=cmd|'/C calc'!A0",
            score=100,
            authors=[{"name": "<script>"}],
        ),
        WRONG,
        row=False,
    ),
]
