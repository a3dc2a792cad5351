"""Parts of charts that answer to a reader without a kernel: what is chosen with a control, a pointer or a key.

Every choice has a control below the chart, which the keyboard reaches; pointing at a mark is the shorter way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

from course_lib.plots import COLORS, LEGEND, STEP, WIDTH

Choice = int | float | str
Binding = alt.BindRange | alt.BindRadioSelect
PLOT, HALF = WIDTH - LEGEND, 130  # width and height of a panel
CHOSEN = COLORS[4]
POINT, CLICK = ("pointerover", "click"), ("click",)


def chosen(
    name: str, controls: Mapping[str, tuple[Binding, Choice]], marks: Sequence[str], events: Sequence[str] = POINT
) -> alt.Parameter:
    """A choice that several charts share, made with controls or by pointing at marks.

    Args:
        name: of the parameter, for expressions such as `name.step[0]`.
        controls: field of the data -> its control and its first value.
        marks: names of the charts whose marks can be pointed at; each mark's data must hold all fields.
        events: what counts as pointing.
    """
    return alt.selection_point(
        name=name,
        fields=list(controls),
        bind={field: binding for field, (binding, _) in controls.items()},
        value=[{field: first for field, (_, first) in controls.items()}],
        on=", ".join(f"@{mark}_marks:{event}" for mark in marks for event in events),
        clear=False,
    )


def menu(options: Sequence[Choice], name: str) -> alt.BindRadioSelect:
    """A menu of values, with blanks for underscores."""
    labels = [str(value).replace("_", " ") for value in options]
    return alt.binding_select(options=list(options), labels=labels, name=f"{name} ")


def option(name: str, options: Sequence[str], label: str) -> alt.Parameter:
    """A parameter with a menu, at first the first of its options."""
    return alt.param(name=name, value=options[0], bind=menu(options, label))


def moments(steps: Sequence[int], name: str, choice: alt.Parameter) -> tuple[alt.Chart, alt.Chart]:
    """A rule at the chosen step, and a transparent column a step, to point at; the second must lie on top.

    Args:
        steps: evenly spaced and rising.
        name: of the chart of columns, as `chosen` wants it.
        choice: a parameter with the field `step`.
    """
    half = (steps[1] - steps[0]) / 2
    rows = [{"step": step, "from": max(steps[0], step - half), "to": min(steps[-1], step + half)} for step in steps]
    data = alt.Chart(alt.InlineData(values=rows))
    rule = data.mark_rule(strokeWidth=1.5, strokeDash=[4, 3], color=CHOSEN).encode(x="step:Q")
    columns = targets(data, name).encode(x="from:Q", x2="to:Q", tooltip=["step:Q"])
    return rule.transform_filter(choice), columns


def targets(marks: alt.Chart, name: str) -> alt.Chart:
    """Transparent tiles to point at, which lie over the texts of the others; `chosen` knows them by this name."""
    return marks.properties(name=name).mark_rect(color="transparent", aria=False)


def frame(tiles: alt.Chart, choice: alt.Parameter) -> alt.Chart:
    """An outline around the chosen one of the tiles."""
    return tiles.mark_rect(fill=None, stroke=CHOSEN, strokeWidth=3).transform_filter(choice)


def step_axis(steps: Sequence[int]) -> alt.X:
    """An x axis of training steps that ends where they end."""
    scale = alt.Scale(domain=[steps[0], steps[-1]], nice=False)
    return alt.X("step:Q", title=STEP, scale=scale, axis=alt.Axis(labelFlush=20))


def subtitle(text: str) -> alt.TitleParams:
    """The title of one of several panels."""
    return alt.TitleParams(text, anchor="start", fontSize=12, fontWeight="normal")


def bare(**options: object) -> alt.Axis:
    """The axis of a mosaic: names without ticks or a line."""
    return alt.Axis(ticks=False, domain=False, **options)
