"""Every chart of the course in words and as a table, for readers who do not see it.

Importing `course_lib.plots` makes Altair draw all charts this way: `describe` gives a chart a text, which the browser
reads out in its place, and below it stands a closed box with the numbers.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from html import escape

import altair as alt
from IPython.display import HTML, display

from course_lib.chart_data import PARTS, Table, View, tables, title_text, views
from course_lib.runtime import static

NAME = "course"
KEY = "tables of the course"  # of the value of a parameter: unlike `usermeta` it survives when charts are combined
MARKS = {"rect": "tiles", "line": "lines", "bar": "bars", "point": "points", "circle": "points", "tick": "ticks"}
MARKS |= {"area": "areas", "text": "texts", "square": "squares"}
BOX = 'class="course-table" style="margin: 0.5em 0; font-size: 0.9em"'
SCROLLS = 'tabindex="0" role="region" style="overflow-x: auto; max-width: 100%"'


def with_alternatives(chart: alt.TopLevelMixin, description: str, *found: Table) -> alt.TopLevelMixin:
    """The chart with a text and with tables of its own, in place of those that are made from its specification."""
    stored = [{"caption": t.caption, "columns": list(t.columns), "rows": list(t.rows), "note": t.note} for t in found]
    return chart.properties(description=description).add_params(alt.param(value={KEY: stored}))


def describe(spec: dict) -> str:
    """A chart in a few sentences: its title, what is drawn, the axes, and the controls."""
    if spec.get("description"):
        return spec["description"]
    parts = [part["description"] for name in PARTS for part in spec.get(name, ()) if "description" in part]
    drawn = parts or list(dict.fromkeys(filter(None, map(_panel, views(spec)))))
    sentences = [title_text(spec), *drawn[:4]]
    if len(drawn) > 4:
        sentences.append(f"And {len(drawn) - 4} more parts")
    if controls := list(dict.fromkeys(_controls(spec))):
        sentences.append(f"Below it, controls for {', '.join(controls)}")
    return " ".join(f"{sentence.rstrip('.')}." for sentence in sentences if sentence)


def _panel(view: View) -> str:
    if view.mark not in MARKS:
        return ""
    said = []
    for channel, words in (("x", "across"), ("y", "upwards"), ("color", "by colour"), ("facet", "in each plot")):
        definition = view.encoding.get(channel)
        if isinstance(definition, dict) and "field" in definition and definition.get("axis", True) is not None:
            said.append(f"{title_text(definition) or str(definition['field']).replace('_', ' ')} {words}")
    return f"{MARKS[view.mark].capitalize()}: {', '.join(said)}" if said else ""


def _controls(spec: dict) -> list[str]:
    found = []
    for param in spec.get("params", ()):
        bind = param.get("bind")
        for binding in [bind] if isinstance(bind, dict) and "input" in bind else (bind or {}).values():
            found.append(binding.get("name", "").strip())
    return found


def tables_of(spec: dict) -> list[Table]:
    """The tables that a chart was given, or else those made from its data."""
    given = [table for param in spec.get("params", ()) if _holds_tables(param) for table in param["value"][KEY]]
    return [Table(**table) for table in given] or tables(spec)


def _holds_tables(param: dict) -> bool:
    return isinstance(param.get("value"), dict) and KEY in param["value"]


def tables_html(found: Sequence[Table], title: str) -> str:
    """Tables in a closed box that the keyboard opens; "" if there are none."""
    if not found:
        return ""
    name = escape(title or found[0].caption or "chart", quote=True)
    inside = "".join(map(_table_html, found))
    return (
        "<noscript><p>The chart needs JavaScript. Its numbers are in the table.</p></noscript>"
        f'<details {BOX}><summary>Data table</summary><div {SCROLLS} aria-label="Data: {name}">{inside}</div></details>'
    )


def _table_html(table: Table) -> str:
    caption = ". ".join(filter(None, [table.caption, table.note]))
    head = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in table.columns)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(told(value))}</td>' for value in row)}</tr>" for row in table.rows)
    caption = f'<caption style="caption-side: top">{escape(caption)}</caption>' if caption else ""
    return f'<table class="dataframe">{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def told(value: object) -> str:
    """A value as a table shows it: four significant digits, nothing where there is nothing."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def course_renderer(draw: Callable[..., dict]) -> Callable[..., dict]:
    """A renderer of Altair that lets `draw` draw the chart, with its text, and adds the tables.

    They stand in HTML below the chart, or, where `draw` gives something else, in an output of their own before it.
    A chart of which neither can be made is drawn without them and with a warning; in the book that is an error.
    """

    def render(spec: dict, **options: object) -> dict:
        try:
            found, said = tables_of(spec), {"description": describe(spec)}
        except Exception as error:  # a learner's own chart may be of any kind
            if static():
                raise
            warnings.warn(f"this chart is drawn without a text and a table of its own: {error!r}", stacklevel=1)
            found, said = [], {}
        drawn = spec | said
        if "params" in spec:
            drawn["params"] = [param for param in spec["params"] if not _holds_tables(param)]
        bundle, box = draw(drawn, **options), tables_html(found, title_text(spec))
        if isinstance(bundle, dict) and "text/html" in bundle:
            return bundle | {"text/html": bundle["text/html"] + box}
        if box:
            display(HTML(box))
        return bundle

    return render


def in_jupyterlab() -> bool:
    """Whether JupyterLab or Notebook 7 shows this notebook, and draws the installed Altair's charts by itself.

    They bring Vega-Lite 5 along. The HTML that Altair writes for all other places asks a foreign host for it.
    Colab has the same kind of server, and a front end of its own.
    """
    served = "JPY_SESSION_NAME" in os.environ and "google.colab" not in sys.modules
    return served and alt.SCHEMA_VERSION.startswith("v5.") and not static()


def for_jupyterlab(spec: dict, **_options: object) -> dict:
    """The chart as JupyterLab takes it; it draws it as SVG, whose text is read out."""
    drawn = spec | {"usermeta": {"embedOptions": {"renderer": "svg"}}}
    return {"application/vnd.vegalite.v5+json": drawn, "text/plain": spec.get("description", "a chart")}


def enable() -> None:
    """Let Altair draw with texts and tables, whichever way it drew before; in JupyterLab without a network."""
    if alt.renderers.active != NAME:
        own = in_jupyterlab() and alt.renderers.active == "default"
        alt.renderers.register(NAME, course_renderer(for_jupyterlab if own else alt.renderers.get()))
        alt.renderers.enable(NAME)
