"""Files that are no notebooks, or broken ones."""

import json
import os
import zlib
from collections.abc import Callable

from tests.hostile.entry import INVALID, UNATTEMPTED, Entry, Scene, as_bytes, notebook, raw

ANSWER = "def previous_token_score(pattern): return pattern"
EMPTY = UNATTEMPTED | INVALID  # an odd notebook may be read as one without answers, or refused
READ = EMPTY | frozenset({"ok", "partial", "wrong", "error"})
LONG_LINE = int(os.environ.get("HOSTILE_MEGABYTES", "2")) << 20


def changed(name: str, why: str, change: Callable[[dict], object], states: frozenset[str] = INVALID) -> Entry:
    """A notebook of one answer, changed; `change` may give another object to write instead."""

    def make(scene: Scene) -> bytes:
        made = notebook([ANSWER])
        return json.dumps(change(made) or made).encode()

    return raw(f"malformed_{name}", why, make, states)


def cell(name: str, why: str, states: frozenset[str] = READ, **fields: object) -> Entry:
    """A notebook whose one cell has these fields."""

    def change(made: dict) -> None:
        made["cells"][0] |= fields

    return changed(f"cell_{name}", why, change, states)


GOOD = as_bytes([ANSWER])
ENTRIES = [
    raw("malformed_empty", "an empty file", b""),
    raw("malformed_space", "only blanks", b" \n\t \r\n"),
    raw("malformed_truncated", "half a notebook", GOOD[: len(GOOD) // 2]),
    raw("malformed_last_brace", "a notebook without its last brace", GOOD[:-1]),
    raw("malformed_twice", "two notebooks in one file", GOOD + GOOD),
    raw("malformed_trailing", "a notebook and a tail", GOOD + b"\0\0\0garbage"),
    raw("malformed_python", "a Python file", ANSWER.encode(), READ),
    raw("malformed_html", "a page of a browser", b"<!doctype html><html><body>Sign in to continue</body></html>"),
    raw("malformed_script_markers", "a broken script of 200,000 cells", b"(\n" + b"#%%\nx\n" * 200_000),
    raw("malformed_script_lines", "a script of two million lines", b"x\n" * 2_000_000),
    raw("malformed_script_paragraphs", "a broken script of 90,000 paragraphs", b"(\n\n" + b"x\n\n" * 90_000),
    raw("malformed_binary", "random bytes", zlib.compress(bytes(range(256)) * 9)),
    raw("malformed_pickle", "a pickle that runs a command", b"cposix\nsystem\n(S'touch /tmp/pickled'\ntR."),
    raw("malformed_nul", "nothing but NUL", bytes(4096)),
    raw("malformed_utf16", "UTF-16 with a mark", GOOD.decode().encode("utf-16"), READ),
    raw("malformed_utf32", "UTF-32", GOOD.decode().encode("utf-32"), READ),
    raw("malformed_bom", "UTF-8 with a mark", b"\xef\xbb\xbf" + GOOD, READ),
    raw(
        "malformed_latin",
        "Latin-1",
        json.dumps(notebook(["# déjà vu\n" + ANSWER]), ensure_ascii=False).encode("latin-1"),
        READ,
    ),
    raw("malformed_bad_utf8", "bytes that are no UTF-8", GOOD.replace(b"pattern", b"\xff\xfe\xc0\x80"), READ),
    raw("malformed_ebcdic", "EBCDIC", GOOD.decode().encode("cp500")),
    raw("malformed_nest_list", "a nest of 200,000 lists", b"[" * 200_000),
    raw("malformed_nest_closed", "a nest of 100,000 lists that ends well", b"[" * 100_000 + b"]" * 100_000),
    raw("malformed_nest_dict", "a nest of 100,000 objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    raw(
        "malformed_nest_source",
        "a deep nest where the source stands",
        b'{"nbformat":4,"nbformat_minor":5,"metadata":{},"cells":[{"cell_type":"code","metadata":{},"outputs":[],"source":'
        + b"[" * 50_000
        + b"]" * 50_000
        + b"}]}",
    ),
    raw(
        "malformed_nest_metadata",
        "a nest of 900 levels in the metadata",
        b'{"nbformat":4,"nbformat_minor":5,"cells":[],"metadata":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
        EMPTY,
    ),
    raw("malformed_huge_number", "a number of a million digits", b'{"nbformat": ' + b"9" * 1_000_000 + b"}"),
    raw(
        "malformed_nan",
        "NaN and infinity as versions",
        b'{"nbformat": NaN, "nbformat_minor": Infinity, "metadata": {}, "cells": -Infinity}',
    ),
    raw("malformed_list", "a list", b"[]"),
    raw("malformed_null", "null", b"null"),
    raw("malformed_number", "a number", b"4"),
    raw("malformed_text", "a text", b'"notebook"'),
    raw("malformed_true", "true", b"true"),
    raw("malformed_object", "an empty object", b"{}", EMPTY),
    raw("malformed_duplicate_keys", "cells twice", GOOD[:-1] + b', "cells": []}', READ),
    raw(
        "malformed_long_line",
        "one line of blanks, 100 MB with HOSTILE_MEGABYTES=100",
        lambda scene: b" " * LONG_LINE + b"{",
        INVALID,
    ),
    raw(
        "malformed_long_text", "one text of many megabytes", lambda scene: b'{"x": "' + b"x" * LONG_LINE + b'"}', EMPTY
    ),
    raw(
        "malformed_many_cells",
        "a list of 300,000 zeros as cells",
        b'{"nbformat":4,"nbformat_minor":5,"metadata":{},"cells":[' + b"0," * 300_000 + b"0]}",
        EMPTY,
    ),
    raw(
        "malformed_surrogates",
        "half characters in keys and texts",
        GOOD.replace(b"cell-0", b"\\ud800").replace(b"display_name", b"\\udfff"),
        READ,
    ),
    changed("no_cells", "no cells", lambda made: made.pop("cells") and made, EMPTY),
    changed("no_metadata", "no metadata", lambda made: {"cells": made["cells"], "nbformat": 4}, READ),
    changed("cells_dict", "cells as an object", lambda made: made | {"cells": {"0": made["cells"][0]}}, EMPTY),
    changed("cells_text", "cells as a text", lambda made: made | {"cells": "code"}, EMPTY),
    changed("cells_null", "cells is null", lambda made: made | {"cells": None}, EMPTY),
    changed(
        "cells_mixed",
        "cells of every type",
        lambda made: made | {"cells": [None, 1, "x", [], {}, made["cells"][0], True]},
        READ,
    ),
    changed(
        "version_3",
        "a notebook of version 3",
        lambda made: {
            "nbformat": 3,
            "nbformat_minor": 0,
            "metadata": {},
            "worksheets": [{"cells": [{"cell_type": "code", "language": "python", "input": ANSWER, "outputs": []}]}],
        },
        READ,
    ),
    changed("version_99", "a notebook of version 99", lambda made: made | {"nbformat": 99}, READ),
    changed(
        "version_text", "a version that is a text", lambda made: made | {"nbformat": "four", "nbformat_minor": []}, READ
    ),
    changed("metadata_list", "metadata that are a list", lambda made: made | {"metadata": [1, 2]}, READ),
    changed(
        "kernel_r",
        "a notebook of another language",
        lambda made: made | {"metadata": {"kernelspec": {"name": "ir", "language": "R"}}},
        READ,
    ),
    cell("source_null", "source is null", EMPTY, source=None),
    cell("source_number", "source is a number", EMPTY, source=42),
    cell("source_dict", "source is an object", EMPTY, source={"text": ANSWER}),
    cell(
        "source_mixed",
        "source is a list of all sorts",
        source=["def previous_token_score(pattern):\n", None, 3, ["x"], {"y": 1}],
    ),
    cell("source_letters", "source is a list of single letters", source=list(ANSWER)),
    cell(
        "source_lines",
        "source is a list of lines without their ends",
        source=["def previous_token_score(pattern):", "    return pattern"],
    ),
    cell("type_unknown", "a cell of an unknown type", cell_type="quantum"),
    cell("type_missing", "a cell whose type is null", cell_type=None),
    cell("type_list", "a cell whose type is a list", cell_type=["code"]),
    cell("tags_text", "tags that are a text", metadata={"tags": "answer"}),
    cell("tags_nested", "tags that are objects", metadata={"tags": [{"x": 1}, None, ["answer"]]}),
    cell("id_huge", "an id of a megabyte", id="i" * 1_000_000),
    cell("id_object", "an id that is an object", id={"a": 1}),
    cell("outputs_text", "outputs that are a text", outputs="all passed"),
    cell("metadata_null", "metadata of the cell are null", metadata=None),
]
