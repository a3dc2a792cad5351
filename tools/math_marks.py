"""Sphinx extension: a comma or full stop behind a formula stays on its line.

A browser may break a line after a formula, so on a phone the next line would begin with the comma.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

MARKS = re.compile(r"[.,;:!?)\]\u2019\u201d]+")
CLASS = "formula-and-mark"  # book.css forbids a break in it, once the formula is set


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform with Sphinx."""
    app.add_post_transform(KeepMarks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class KeepMarks(SphinxPostTransform):
    """Puts each formula and the marks that follow it into one span."""

    default_priority = 900

    def run(self, **kwargs: object) -> None:
        for formula in list(self.document.findall(nodes.math)):
            keep_marks(formula)


def keep_marks(formula: nodes.math) -> None:
    """Put a formula of a document and the marks that follow it, if any, into one span."""
    parent = formula.parent
    place = parent.index(formula)
    after = parent[place + 1] if place + 1 < len(parent) else None
    found = MARKS.match(after) if isinstance(after, nodes.Text) else None
    if found:
        rest = nodes.Text(after[found.end() :])
        parent[place : place + 2] = [nodes.inline("", "", formula, nodes.Text(found[0]), classes=[CLASS]), rest]
