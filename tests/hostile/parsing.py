"""Code that is hard to read as Python. The grader reads it in its own process, so this must not break it."""

from tests.hostile.entry import ERROR, STOPPED, UNATTEMPTED, WRONG, Entry, as_bytes, code, raw

ANSWER = "def previous_token_score(pattern): return pattern"
NO_ANSWER = UNATTEMPTED | ERROR | WRONG | frozenset({"timeout", "oom", "crashed", "invalid_notebook"})
N = 20_000
NEEDS_X = "def previous_token_score(pattern): return x"


def cell(name: str, why: str, source: str, states: frozenset[str] = NO_ANSWER) -> Entry:
    """One cell of this source, before a cell with a wrong answer."""
    return raw(f"parse_{name}", why, as_bytes([source, ANSWER]), states, row=False)


def alone(name: str, why: str, source: str) -> Entry:
    """One cell of this source, which holds the answer."""
    return raw(f"parse_{name}", why, as_bytes([source]), NO_ANSWER, row=False)


def inside(name: str, why: str, expression: str) -> Entry:
    """An answer that returns this expression."""
    return alone(name, why, f"def previous_token_score(pattern):\n    return {expression}")


ENTRIES = [
    inside("minus", "a minus 100,000 times", "-" * 100_000 + "1"),
    inside("brackets", "brackets 10,000 deep", "(" * 10_000 + ")" * 10_000),
    inside("lists", "lists 150 deep", "[" * 150 + "]" * 150),
    inside("plus", "a sum of 100,000 ones", "+".join(["1"] * 100_000)),
    inside("attributes", "an attribute of an attribute, 50,000 times", "pattern" + ".T" * 50_000),
    inside("calls", "a call of a call, 50,000 times", "pattern" + "()" * 50_000),
    inside("subscripts", "an index of an index, 50,000 times", "pattern" + "[0]" * 50_000),
    inside("lambdas", "a lambda in a lambda, 5,000 times", "lambda: " * 5_000 + "0"),
    inside("nots", "not, 50,000 times", "not " * 50_000 + "1"),
    inside("ifs", "an if in an if, 5,000 times", "1 if 1 else " * 5_000 + "0"),
    inside("powers", "a power of a power", "**".join(["2"] * 5_000)),
    inside("compare", "a comparison of 50,000 parts", "<".join(["1"] * 50_000)),
    inside("awaits", "await, 5,000 times", "await " * 5_000 + "pattern"),
    inside("fstrings", "an f-string in an f-string", "f\"{f'{1}'}\"" * 5_000),
    inside("big_number", "a number of 10,000 digits", "9" * 10_000),
    inside("hex_short", "a hexadecimal number that Python refuses to write in decimals", "0x" + "f" * 5_000),
    inside("hex_number", "a hexadecimal number of a million digits", "0x" + "f" * 1_000_000),
    inside("float_number", "a float of a million digits", "1." + "3" * 1_000_000),
    inside("long_text", "a text of five million letters", "'" + "x" * 5_000_000 + "'"),
    inside("long_name", "a name of a million letters", "n" * 1_000_000),
    inside("dict", "an object of 100,000 keys", "{" + ",".join(f"{n}: {n}" for n in range(100_000)) + "}"),
    inside("arguments", "a call with 60,000 arguments", "max(" + ",".join(["1"] * 60_000) + ")"),
    inside("fold_power", "constants that the compiler may fold", "((((9 ** 99) ** 99) ** 99) ** 9)"),
    inside("fold_text", "texts that the compiler may fold", "(('x' * 4000) * 4000) * 4000"),
    inside(
        "walrus",
        "names that are bound in an expression",
        "[(right := lambda: 0, previous_token_score := 1) for _ in '1']",
    ),
    cell("nul", "a NUL in the source", "x = 1\x00\ny = 2"),
    cell("surrogate", "half a character in the source", "x = '\ud800'"),
    cell("form_feed", "form feeds and other blanks", "\x0c\x0b\u00a0x = 1"),
    cell("bom", "a mark in the middle", "\ufeffx = 1"),
    cell("tabs", "tabs and blanks mixed", "if True:\n\tx = 1\n        y = 2"),
    cell("carriage_returns", "line ends of three kinds", "x = 1\ry = 2\r\nz = 3\n\rw = 4"),
    cell("coding", "a declaration of an encoding", "# -*- coding: rot13 -*-\nk = 1"),
    cell("coding_unknown", "a declaration of an encoding that is none", "# -*- coding: no-such-codec -*-\nk = 1"),
    cell("blocks", "99 nested blocks", "".join(" " * n + "if 1:\n" for n in range(99)) + " " * 99 + "x = 1"),
    cell(
        "many_blocks", "5,000 nested blocks", "".join(" " * n + "if 1:\n" for n in range(1_500)) + " " * 1_500 + "x = 1"
    ),
    cell("functions", "20,000 functions", "\n".join(f"def f{n}(): return f{n + 1}()" for n in range(N))),
    cell(
        "chain",
        "an answer that needs 3,000 helpers, each the next",
        "\n".join(f"def g{n}(p): return g{n + 1}(p)" for n in range(3_000))
        + "\ng3000 = len\ndef previous_token_score(pattern): return g0(pattern)",
    ),
    cell(
        "loop_of_names",
        "helpers that need each other in a ring",
        "def a(p): return b(p)\ndef b(p): return a(p)\n" + ANSWER,
    ),
    cell("assignments", "100,000 assignments", "\n".join(f"x{n} = {n}" for n in range(100_000))),
    cell("check_hex", "a check of an exercise with a very long number", f"{ANSWER}\ncheck(0x{'f' * 5_000}, print)"),
    alone(
        "finally",
        "finally in finally, 18 times: each doubles the byte code",
        "def x(pattern):\n"
        + "".join(f"{' ' * n}try: pass\n{' ' * n}finally:\n" for n in range(1, 18))
        + " " * 18
        + "pass\n"
        + NEEDS_X,
    ),
    alone("rebound", "an answer that needs one name, bound 90,000 times", "x=1\n" * 90_000 + NEEDS_X),
    cell("targets", "an assignment to 20,000 names", " = ".join(f"x{n}" for n in range(N)) + " = 1"),
    cell("decorators", "20,000 decorators", "@print\n" * N + "def h(): pass"),
    cell("unfinished_text", "a text that does not end", "x = '''" + "y" * 100_000),
    cell("unfinished_bracket", "a bracket that does not end", "x = (" + "1," * 100_000),
    cell("dedent", "an indent that fits nothing", "    x = 1\n  y = 2"),
    cell("escape", "escapes that warn", r"x = '\d\w\s'; y = 1 is 1; z = (1)(2) if 0 else 3"),
    cell("named_escape", "a character by a name that is none", r"x = '\N{NO SUCH CHARACTER}'"),
    cell("global", "globals in odd places", "global x\nnonlocal_ = 1\nx = 1\ndel x"),
    cell("await_top", "await and async at the top", "await something()\nasync with x as y: pass"),
    cell("return_top", "return, yield, break at the top", "return 1\nyield 2\nbreak"),
    cell("future", "a future import in the middle", "x = 1\nfrom __future__ import braces"),
    cell(
        "future_annotations",
        "a future import that changes how annotations are read",
        "from __future__ import annotations\n" + ANSWER,
        WRONG | ERROR,
    ),
    cell("python_2", "Python 2", "print 'hello'\nexec 'x'\nraise E, 'x'"),
    cell("star", "star imports of everything", "from os import *\nfrom torch import *\nfrom builtins import *\n"),
    cell("magic_cell", "a cell magic over everything", "%%capture out\nx = 1\n%%bash\nrm -rf /"),
    cell(
        "magic_run",
        "magics that run, load and write files",
        "%run /etc/passwd\n%load @x\n%%writefile /tmp/x\n!touch /tmp/x\nx = !ls\n?print\nprint??\n%autoreload 2",
    ),
    cell(
        "magic_open",
        "a magic inside a block and in a text",
        "if True:\n    %time x = 1\n    !ls\ny = '''\n%not magic\n!not shell\n'''",
    ),
    cell("semicolons", "100,000 semicolons", "x=1;" * 100_000),
    cell("backslashes", "lines that go on for ever", "x = 1 + \\\n" * 50_000 + "1"),
    cell("comments", "five megabytes of comments", "# c\n" * 1_250_000),
    cell(
        "types",
        "type parameters of a later Python",
        "type X[T] = list[T]\ndef f[T](x: T) -> T: return x\nmatch 1:\n    case _: pass",
    ),
    code(
        "parse_match",
        "a match with 2,000 cases",
        "def previous_token_score(pattern):\n    match 1:\n"
        + "\n".join(f"        case {n}: pass" for n in range(2_000)),
        STOPPED | UNATTEMPTED,
    ),
]
